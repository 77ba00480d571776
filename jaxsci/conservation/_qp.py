"""A primal-dual interior point for small dense monotone complementarity problems.

A convex quadratic program is solved through its dual, where the covariance enters only by
products: with `v = mean + cov rows' multipliers`, nothing ever needs an inverse, or a factor, of
a covariance that may be singular.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxsci.precision import largest, matmul

Solve = Callable[[Array, Array], tuple[Array, Array]]


class AbstractComplementarity(eqx.Module):
    """Find `z >= 0` and free `x` with `s(z, x) >= 0`, `s z = 0` and `e(z, x) = 0`.

    `s` and `e` are affine and together monotone, which is what the optimality conditions of a
    convex quadratic program are. Multipliers that say the same in the constraints' own terms are
    an array or a tuple of arrays, and so is a working set, a guess of what binds.
    """

    gram: eqx.AbstractVar[Float[Array, "rows rows"]]

    @abc.abstractmethod
    def sizes(self) -> tuple[int, int]:
        """Lengths of `z` and of `x`."""

    @property
    @abc.abstractmethod
    def dtype(self) -> jnp.dtype:
        """Of every array in it."""

    @abc.abstractmethod
    def residual(self, z: Array, x: Array) -> tuple[Array, Array]:
        """`s(z, x)` and `e(z, x)`."""

    @abc.abstractmethod
    def factor(self, d: Array) -> Solve:
        """Solver of `(ds + d dz, de) = right`, a linear system in `(dz, dx)`."""

    @abc.abstractmethod
    def multipliers(self, z: Array, x: Array) -> Any:
        """The multipliers that `(z, x)` stands for."""

    @abc.abstractmethod
    def natural_residual(self, multipliers: Any) -> Float[Array, ""]:
        """Zero exactly at a solution; of the size of the error elsewhere."""

    @abc.abstractmethod
    def working(self, multipliers: Any) -> Any:
        """What binds, judged from multipliers near the solution."""

    @abc.abstractmethod
    def solve_working(self, working: Any) -> Any:
        """Multipliers for which exactly `working` binds; differentiable in the problem."""

    @abc.abstractmethod
    def response(self, working: Any, residual: Array) -> Array:
        """Row multipliers that take away an equality residual and leave what binds as it is."""

    @abc.abstractmethod
    def row_multipliers(self, multipliers: Any) -> Array:
        """One multiplier for each row of the inequality and of the equality."""

    @abc.abstractmethod
    def contradicts(self, multipliers: Any) -> Bool[Array, ""]:
        """Whether the multipliers prove that no point meets the constraints."""


class Iterate(eqx.Module):
    """Where the interior point stands after `steps` steps."""

    z: Float[Array, " pairs"]
    s: Float[Array, " pairs"]
    x: Float[Array, " free"]
    steps: Int[Array, ""]
    stop: Bool[Array, ""]


def factor_shifted(matrix: Float[Array, "m m"], shift: Float[Array, " m"]):
    """Solver of `(matrix + diag(shift)) x = right` for a positive *semi*-definite matrix.

    Cholesky after scaling to a unit diagonal, with a shift at rounding level, raised until the
    factor exists, and refinement, which takes the shift back where the system is consistent. A
    row of zeros gets `x = 0`.
    """
    eps = float(jnp.finfo(matrix.dtype).eps)
    m = matrix.shape[0]
    full = matrix + jnp.diag(shift)
    diagonal = jnp.diagonal(full)
    # Both branches of `where` must be finite for gradients.
    there = diagonal > jnp.finfo(matrix.dtype).tiny
    scale = jnp.where(there, lax.rsqrt(jnp.where(there, diagonal, 1.0)), 0.0)
    scaled = full * scale[:, None] * scale[None, :]

    def attempt(jitter):
        return jnp.linalg.cholesky(scaled.at[jnp.arange(m), jnp.arange(m)].set(1.0 + jitter))

    def failed(state):
        jitter, chol = state
        return ~jnp.all(jnp.isfinite(chol)) & (jitter < 1e-2)

    def raise_jitter(state):
        jitter = state[0] * 30.0
        return jitter, attempt(jitter)

    first = jnp.asarray(4.0 * eps * max(m, 4) ** 0.5, matrix.dtype)
    _, chol = lax.while_loop(failed, raise_jitter, (first, attempt(first)))

    def once(right):
        return scale * jsl.cho_solve((chol, True), scale * right)

    def solve(right):
        x = once(right)
        for _ in range(2):
            x = x + once(right - matmul(full, x))
        return x

    return solve


def solve_masked(
    matrix: Float[Array, "m m"], right: Float[Array, " m"], mask: Bool[Array, " m"]
) -> Float[Array, " m"]:
    """`x` with `(matrix x - right)_i = 0` where `mask`, `x_i = 0` elsewhere; differentiable."""
    m = mask.astype(matrix.dtype)
    kept = matrix * m[:, None] * m[None, :]

    def matvec(x):
        return matmul(kept, x) + (1.0 - m) * x

    def solve(_, r):
        return factor_shifted(lax.stop_gradient(kept), 1.0 - m)(r)

    return lax.custom_linear_solve(matvec, m * right, solve, symmetric=True)


def _step_length(value: Array, change: Array) -> Array:
    """The largest step in [0, 1] that keeps `value + step change` nonnegative."""
    shrinks = change < 0
    ratio = jnp.where(shrinks, -value / jnp.where(shrinks, change, -1.0), 1.0)
    return jnp.minimum(1.0, jnp.min(ratio, initial=1.0))


def interior_point(problem: AbstractComplementarity, *, max_steps: int) -> Iterate:
    """Mehrotra's predictor-corrector method from an infeasible start.

    **Arguments:**

    - `problem`: scaled so that its numbers are standard deviations.
    - `max_steps`: at most so many steps (static). 10 to 25 are usual.

    **Returns:** the last `Iterate` whose numbers are finite.

    !!! cite "Reference"
        Mehrotra, *On the implementation of a primal-dual interior point method*, SIAM J. Optim.
        2 (1992). Differs in that: 1. one step length serves both sides, as a quadratic objective
        ties them; 2. the equations are reduced to the multipliers alone.
    """
    pairs, free = problem.sizes()
    dtype = problem.dtype
    eps = float(jnp.finfo(dtype).eps)
    tolerance = eps**0.6
    one, x0 = jnp.ones(pairs, dtype), jnp.zeros(free, dtype)

    def errors(z, s, x):
        want, e = problem.residual(z, x)
        return largest(jnp.concatenate([want - s, e])), jnp.max(jnp.minimum(s, z), initial=0.0)

    def body(state: Iterate) -> Iterate:
        z, s, x = state.z, state.s, state.x
        want, e = problem.residual(z, x)
        solve = problem.factor(s / z)

        def direction(product):
            # z ds + s dz = -product, and the residuals vanish to first order.
            dz, dx = solve(-(want - s) - product / z, -e)
            return dz, -(product + s * dz) / z, dx

        gap = jnp.mean(s * z)
        dz, ds, _ = direction(s * z)
        length = jnp.minimum(_step_length(z, dz), _step_length(s, ds))
        after = jnp.mean((s + length * ds) * (z + length * dz))
        centre = (after / gap) ** 3
        dz, ds, dx = direction(s * z + ds * dz - centre * gap)
        length = 0.99 * jnp.minimum(_step_length(z, dz), _step_length(s, ds))
        length = jnp.where(length > 0.9, jnp.minimum(1.0, length / 0.99 * 0.999), length)
        z_new, s_new, x_new = z + length * dz, s + length * ds, x + length * dx
        residual, overlap = errors(z_new, s_new, x_new)
        positive = jnp.all(z_new > 0) & jnp.all(s_new > 0)
        good = jnp.isfinite(residual) & jnp.all(jnp.isfinite(z_new)) & positive
        # Far below rounding the equations only lose accuracy, and what binds is plain.
        gap = jnp.mean(s_new * z_new)
        near = (gap <= eps) & (residual <= eps**0.5) | (gap <= eps**1.5)
        done = near | (residual <= tolerance) & (overlap <= tolerance)
        proof = problem.contradicts(problem.multipliers(z_new, x_new))
        stop = ~good | done | (length < 1e-8) | proof
        keep = lambda new, old: jnp.where(good, new, old)  # noqa: E731
        return Iterate(
            z=keep(z_new, z),
            s=keep(s_new, s),
            x=keep(x_new, x),
            steps=state.steps + 1,
            stop=stop,
        )

    # The mean itself may be the answer: then nothing is to be done, and nothing is.
    nothing = problem.natural_residual(problem.multipliers(0.0 * one, x0)) == 0
    # Slacks as the mean has them where it is inside by more than a standard deviation.
    s0, _ = problem.residual(0.0 * one, x0)
    first = Iterate(
        z=jnp.where(nothing, 0.0, one),
        s=jnp.maximum(s0, one),
        x=x0,
        steps=jnp.zeros((), int),
        stop=nothing,
    )
    return lax.while_loop(lambda i: ~i.stop & (i.steps < max_steps), body, first)
