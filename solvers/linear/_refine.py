"""Iterative refinement: solves in low precision, residuals in high precision, and evidence."""

from collections.abc import Callable
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, Int

from jaxsci.precision import all_finite, compensated_dot, two_sum

from ._results import REFINE_RESULTS


class RefineCertificate(eqx.Module):
    """Evidence on a refined solution; every field is an array, so it works inside `jit`.

    - `error`: `|b - A x| / |b|` for a square operator, `|A'(b - A x)| / |A' b|` for any other, as
        computed in the outer precision from the solution that is returned.
    - `history`: the same after 0, 1, ... rounds, NaN beyond the last.
    - `rounds`: how many corrections were made.
    - `contraction`: by what the last correction that helped multiplied the error; near 1 the
        inner solver is too inaccurate.
    - `result`: a member of [`jaxsci.solvers.linear.REFINE_RESULTS`][].
    """

    error: Float[Array, ""]
    history: Float[Array, " rounds"]
    rounds: Int[Array, ""]
    contraction: Float[Array, ""]
    result: REFINE_RESULTS


class Refined(eqx.Module):
    """What [`jaxsci.solvers.linear.refine`][] returns.

    - `value`: the solution, rounded to the dtype of the operator.
    - `low`: what the rounding left, so that `value + low` is known to twice the precision if the
        residual was compensated; zero otherwise.
    - `certificate`: a [`jaxsci.solvers.linear.RefineCertificate`][].
    """

    value: Float[Array, " n"]
    low: Float[Array, " n"]
    certificate: RefineCertificate


class _State(NamedTuple):
    high: Array
    low: Array
    driving: Array
    error: Array
    contraction: Array
    history: Array
    rounds: Array
    improving: Bool[Array, ""]


def refine(
    A: lx.AbstractLinearOperator,
    b: Float[Array, " m"],
    inner: Callable[[Array], Array] | lx.AbstractLinearOperator,
    *,
    rtol: float | None = None,
    max_rounds: int = 20,
) -> Refined:
    """Solves `A x = b`, or least squares, to the precision of `A` by means of a rougher solver.

    `x <- x + inner(b - A x)` if `A` is square, `x <- x + inner(A'(b - A x))` if not, until the
    error is at most `rtol` or a round no longer halves it; the best `x` is kept. What the inner
    solver is given is computed in the dtype of `A`: float64, with a solver in float32 or with
    16-bit products inside. Where 64-bit types are off and `A` is a float32
    `lineax.MatrixLinearOperator`, the residual is compensated, and `x` is carried as two float32
    numbers, which is as good.

    **Arguments:**

    - `A`: the operator in full precision, for flat vectors.
    - `b`: shape `(m,)`, in the dtype of `A`.
    - `inner`: close to `A^-1` if `A` is square, else to `(A'A)^-1`, as a preconditioner, a direct
        factor, or [`jaxsci.solvers.linear.cgnr`][] with its argument `gradient`; a function or an
        operator, of any dtype. It gets a vector scaled to a largest entry of 1, cast to the
        `in_structure` of an operator, or to float32 for a function.
    - `rtol`: 64 eps of the outer precision by default.
    - `max_rounds`: at most so many corrections after the first solve.

    **Returns:** a [`jaxsci.solvers.linear.Refined`][].

    **Raises:** `ValueError` if shapes do not fit; `TypeError` if the dtype of `b` is not that of
    `A`.

    !!! example
        >>> import jax
        >>> import jax.numpy as jnp
        >>> import lineax as lx
        >>> from jaxsci.solvers.linear import refine
        >>> A = jnp.array([[4.0, 1.0], [1.0, 3.0]])
        >>> rough = jnp.linalg.inv(A.astype(jnp.bfloat16).astype(jnp.float32))
        >>> refined = refine(lx.MatrixLinearOperator(A), jnp.array([1.0, 2.0]), lambda r: rough @ r)
        >>> bool(refined.certificate.error < 1e-12)
        True

    Reference: Wilkinson, *Rounding errors in algebraic processes*, 1963; Carson and Higham,
    *Accelerating the solution of linear systems by iterative refinement in three precisions*, 2018.
    """
    structure = A.out_structure()
    if b.shape != (A.out_size(),):
        raise ValueError(f"`refine(b=...)`: expected shape ({A.out_size()},), got {b.shape}")
    if b.dtype != structure.dtype:
        raise TypeError(
            f"`refine(A, b)`: expected one dtype, got {structure.dtype} and {b.dtype}; both are "
            "of the outer precision"
        )
    compensated = b.dtype == jnp.float32 and isinstance(A, lx.MatrixLinearOperator)
    square = A.in_size() == A.out_size()
    eps = float(jnp.finfo(b.dtype).eps)
    tolerance = 64 * (eps**2 if compensated else eps) if rtol is None else rtol
    solve = _scaled(inner, b.dtype)

    def driving(high: Array, low: Array) -> Array:
        """The vector that must vanish."""
        if compensated:
            return _compensated(A, b, high, low, square)
        r = b - A.mv(high)
        return r if square else A.T.mv(r)

    zero = jnp.zeros((A.in_size(),), b.dtype)
    first = driving(zero, zero)
    reference = jnp.linalg.norm(first)
    reference = jnp.where(reference > 0, reference, 1)

    def correct(state: _State) -> _State:
        correction = solve(state.driving).astype(b.dtype)
        high, rest = two_sum(state.high, correction)
        high, low = two_sum(high, state.low + rest) if compensated else (high, zero)
        vanishing = driving(high, low)
        error = jnp.linalg.norm(vanishing) / reference
        better = error < state.error
        rounds = state.rounds + 1
        return _State(
            high=jnp.where(better, high, state.high),
            low=jnp.where(better, low, state.low),
            driving=jnp.where(better, vanishing, state.driving),
            error=jnp.where(better, error, state.error),
            contraction=jnp.where(better, error / state.error, state.contraction),
            history=state.history.at[rounds].set(error),
            rounds=rounds,
            improving=error < 0.5 * state.error,
        )

    def going_on(state: _State) -> Array:
        return (state.error > tolerance) & state.improving & (state.rounds <= max_rounds)

    one = jnp.ones((), b.dtype)
    error = jnp.linalg.norm(first) / reference
    history = jnp.full((max_rounds + 2,), jnp.nan, b.dtype).at[0].set(error)
    start = _State(zero, zero, first, error, one, history, jnp.zeros((), jnp.int32), error > 0)
    last = jax.lax.while_loop(going_on, correct, start)
    finite = jnp.isfinite(reference) & all_finite(b)
    reached = last.error <= tolerance
    result = REFINE_RESULTS.where(
        last.improving, REFINE_RESULTS.max_rounds_reached, REFINE_RESULTS.stagnated
    )
    result = REFINE_RESULTS.where(last.error >= 1, REFINE_RESULTS.inner_failed, result)
    result = REFINE_RESULTS.where(reached, REFINE_RESULTS.successful, result)
    result = REFINE_RESULTS.where(finite, result, REFINE_RESULTS.non_finite_input)
    certificate = RefineCertificate(last.error, last.history, last.rounds, last.contraction, result)
    return Refined(last.high, last.low, certificate)


def _scaled(inner, outer: jnp.dtype) -> Callable[[Array], Array]:
    """The inner solver, given a residual of largest entry 1: no underflow as it shrinks."""
    operator = isinstance(inner, lx.AbstractLinearOperator)
    dtype = inner.in_structure().dtype if operator else jnp.float32
    apply = inner.mv if operator else inner

    def solve(residual: Array) -> Array:
        largest = jnp.max(jnp.abs(residual), initial=0)
        scale = jnp.where(largest > 0, largest, 1)
        return apply((residual / scale).astype(dtype)).astype(outer) * scale

    return solve


def _compensated(A, b: Array, high: Array, low: Array, square: bool) -> Array:
    """As in twice float32: the residual `b - A (high + low)`, or `A'` times it."""
    matrix = A.as_matrix()
    dots = jax.vmap(compensated_dot, in_axes=(0, None, 0))
    both, point = jnp.concatenate([matrix, matrix], axis=1), jnp.concatenate([high, low])
    r = -dots(both, point, -b)
    if square:
        return r
    # What rounding to float32 left of the residual matters to the gradient, where r cancels.
    wide = jnp.concatenate([both, jnp.eye(len(b), dtype=b.dtype)], axis=1)
    rest = -dots(wide, jnp.concatenate([point, r]), -b)
    twice = jnp.concatenate([matrix.T, matrix.T], axis=1)
    return dots(twice, jnp.concatenate([r, rest]), jnp.zeros_like(high))
