"""Conjugate gradients on the normal equations of a linear least-squares problem."""

from typing import Literal, get_args

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int

from jaxsci.precision import Policy, all_finite

from ._iteration import Normal, Outcome, Stopping, conjugate_gradients
from ._products import flat_product, lowered, natural_policy
from ._results import CGNR_RESULTS

Form = Literal["recurrence", "cgls"]


class CGNRSolution(eqx.Module):
    """What [`jaxsci.solvers.linear.cgnr`][] returns.

    - `value`: the minimiser, shape `(n,)`, in the Krylov dtype of the policy.
    - `steps`: how many steps were made.
    - `history`: the norm of the gradient after 0, 1, ... steps, NaN beyond the last; empty if it
        was not recorded.
    - `result`: a member of [`jaxsci.solvers.linear.CGNR_RESULTS`][]; unless it is `successful`,
        `value` is the last iterate that was finite.
    """

    value: Float[Array, " n"]
    steps: Int[Array, ""]
    history: Float[Array, " steps"]
    result: CGNR_RESULTS


def cgnr(
    J: lx.AbstractLinearOperator,
    residual: Float[Array, " m"] | None = None,
    *,
    gradient: Float[Array, " n"] | None = None,
    preconditioner: lx.AbstractLinearOperator | None = None,
    damping: Float[Array, " *n"] | float = 0.0,
    policy: Policy | None = None,
    rtol: Float[Array, ""] | float = 1e-6,
    atol: Float[Array, ""] | float = 0.0,
    energy_atol: Float[Array, ""] | float = 0.0,
    max_steps: int | None = None,
    y0: Float[Array, " n"] | None = None,
    stopping: Stopping = "gradient",
    form: Form = "recurrence",
    record: bool = True,
) -> CGNRSolution:
    """Minimises `|J x - residual|^2 + damping |x|^2` by conjugate gradients, without `J'J`.

    Each step has the dtype that the policy gives it: `gradient` for `s_0 = J' residual`, `matrix`
    for the stored `J` and `product` for the sums of its products, `krylov` for vectors and their
    dots. With 16-bit products the answer is that of a slightly different matrix `J'J`, but of the
    right gradient: it is zero where it should be, so that an outer iteration, Gauss-Newton or
    [`jaxsci.solvers.linear.refine`][], converges to the solution of the full-precision problem.
    Three things are needed for that:

    1. the gradient is computed once, from `J` as it was given, and then carried by recurrence,
       `s <- s - alpha (J' q + damping p)` with `q = J p`, never recomputed from the narrow `J`;
    2. the columns of `J` are scaled beforehand, see [`jaxsci.solvers.sparse.block_scaling`][];
    3. only the matrix is narrow: vectors have the bits of `product`. Were they rounded as well, CG
       would take a tenth more steps in float16, and Gauss-Newton gain one digit by each in
       bfloat16, instead of four.

    **Arguments:**

    - `J`: any lineax operator, `m` by `n`.
    - `residual`: shape `(m,)`; the right-hand side. It may be left out for a `gradient`.
    - `gradient`: `J' residual`, shape `(n,)`, if it is known better than `J` can give it, e.g. in
        float64 while `J` is in float32.
    - `preconditioner`: an operator close to `(J'J + damping)^-1`, positive definite.
    - `damping`: a number, or one per column; not negative.
    - `policy`: by default everything has the dtype of `J`.
    - `rtol`, `atol`: the tolerance; `atol` is for the norm of the gradient.
    - `energy_atol`: for `"energy"`: also stop when the last 8 steps gained at most this much of it.
    - `max_steps`: `10 n` by default; give it if the history is recorded, as it has its length.
    - `y0`: where to start; zero by default.
    - `stopping`: `"gradient"`: at `|s| <= rtol |J' residual| + atol`; `"energy"`: when the last 8
        steps gained at most `rtol^2` of the energy `|x - y0|^2_(J'J + damping)` that was gained in
        all, an estimate of the error in the energy norm that does not depend on how `J` is scaled
        and that is reached in float32; `"preconditioned"`: at `s'Ms <= rtol^2 s_0'Ms_0`, which is
        that error itself where the preconditioner `M` is nearly the inverse.
    - `form`: `"recurrence"`, or `"cgls"`, the textbook form that recomputes `s` from the residual
        in each step: the better one if all dtypes are equal and `J` is ill conditioned, but with
        narrow products it converges to a wrong point.
    - `record`: whether to keep the history.

    **Returns:** a [`jaxsci.solvers.linear.CGNRSolution`][]; nothing is raised on values, and no
    host callback is made.

    **Raises:** `ValueError` for shapes, names or numbers of steps that make no sense; `TypeError`
    if the policy asks to store an operator in fewer bits that cannot be cast.

    !!! example
        >>> import jax.numpy as jnp
        >>> import lineax as lx
        >>> from jaxsci.solvers.linear import cgnr
        >>> J = lx.MatrixLinearOperator(jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
        >>> solution = cgnr(J, jnp.array([1.0, 2.0, 2.0]), max_steps=10)
        >>> solution.value.round(3), int(solution.steps)
        (Array([1., 1.], dtype=float32), 2)

    Reference: Hestenes and Stiefel, *Methods of conjugate gradients for solving linear systems*,
    1952; Strakos and Tichy, *On error estimation in the conjugate gradient method*, 2002, for the
    energy norm.
    """
    _check(J, residual, gradient, preconditioner, damping, max_steps, y0, stopping, form)
    policy = natural_policy(J) if policy is None else policy
    dtype = policy.dtype("gradient")
    # The gradient is what the answer hangs on: never from the matrix cast down for its products.
    if gradient is None:
        s = flat_product(J.transpose(), dtype)(jnp.asarray(residual).astype(dtype))
    else:
        s = gradient.astype(dtype)
    return solve_normal(
        J,
        s,
        residual=residual,
        preconditioner=preconditioner,
        damping=damping,
        policy=policy,
        rtol=rtol,
        atol=atol,
        energy_atol=energy_atol,
        max_steps=max_steps,
        y0=y0,
        stopping=stopping,
        form=form,
        record=record,
    )


def solve_normal(
    J: lx.AbstractLinearOperator,
    right: Float[Array, " n"],
    *,
    residual: Float[Array, " m"] | None,
    preconditioner: lx.AbstractLinearOperator | None,
    damping: Array | float,
    policy: Policy,
    rtol: Array | float,
    atol: Array | float,
    energy_atol: Array | float,
    max_steps: int | None,
    y0: Array | None,
    stopping: Stopping,
    form: Form,
    record: bool,
) -> CGNRSolution:
    """`(J'J + damping)^-1 right`; `residual` is needed for the CGLS form only."""
    krylov = policy.dtype("krylov")
    n = J.in_size()
    low = lowered(J, policy)
    damping = jnp.asarray(damping).astype(krylov)
    forward, adjoint = flat_product(low, krylov), flat_product(low.transpose(), krylov)
    apply = (lambda s: s) if preconditioner is None else flat_product(preconditioner, krylov)
    right_finite = all_finite(right if residual is None else residual)
    reference = jnp.linalg.norm(right).astype(krylov)
    remaining = None if residual is None else residual.astype(krylov)
    if y0 is None:
        start, s = jnp.zeros((n,), krylov), right.astype(krylov)
    else:
        # In full precision, as the right-hand side: a biased start is a biased answer.
        start = y0.astype(krylov)
        fitted = flat_product(J, right.dtype)(start)
        s = right - flat_product(J.transpose(), right.dtype)(fitted)
        s = s.astype(krylov) - damping * start
        right_finite = right_finite & all_finite(y0)
        if residual is not None:
            remaining = (residual.astype(right.dtype) - fitted).astype(krylov)
    target = jnp.asarray(rtol).astype(krylov) * reference + jnp.asarray(atol).astype(krylov)
    if stopping != "gradient":
        # A gradient at rounding ends the loop: what follows is noise, along a null space if any.
        target = jnp.asarray(jnp.finfo(krylov).eps, krylov) * reference
        target = target + jnp.asarray(atol).astype(krylov)
    outcome: Outcome = conjugate_gradients(
        Normal(forward, adjoint, apply, damping),
        s,
        start,
        target=target,
        rtol=rtol,
        energy_atol=energy_atol,
        max_steps=10 * n if max_steps is None else max_steps,
        stopping=stopping,
        record=record,
        residual=remaining if form == "cgls" else None,
    )
    result = CGNR_RESULTS.where(right_finite, outcome.result, CGNR_RESULTS.non_finite_input)
    return CGNRSolution(outcome.value, outcome.steps, outcome.history, result)


def _check(J, residual, gradient, preconditioner, damping, max_steps, y0, stopping, form) -> None:
    if not isinstance(J, lx.AbstractLinearOperator):
        raise TypeError(
            f"`cgnr(J=...)`: expected a lineax operator, got {type(J).__name__}; wrap an array as "
            "`lineax.MatrixLinearOperator(array)`"
        )
    m, n = J.out_size(), J.in_size()
    if residual is None and (gradient is None or form == "cgls"):
        needed = "a residual" if form == "cgls" else "a residual or a gradient"
        raise ValueError(f"`cgnr(residual=None)`: expected {needed}, got none")
    for name, vector, size in (("residual", residual, m), ("gradient", gradient, n), ("y0", y0, n)):
        if vector is not None and vector.shape != (size,):
            raise ValueError(
                f"`cgnr({name}=...)`: expected shape ({size},) for a matrix of {m} by {n}, got "
                f"{vector.shape}"
            )
    if preconditioner is not None and (preconditioner.in_size(), preconditioner.out_size()) != (
        n,
        n,
    ):
        raise ValueError(
            f"`cgnr(preconditioner=...)`: expected {n} by {n}, as J'J, got "
            f"{preconditioner.out_size()} by {preconditioner.in_size()}"
        )
    if jnp.shape(damping) not in ((), (n,)):
        raise ValueError(
            f"`cgnr(damping=...)`: expected a number or shape ({n},), got {jnp.shape(damping)}"
        )
    if isinstance(damping, (int, float)) and damping < 0:
        raise ValueError(f"`cgnr(damping=...)`: expected at least 0, got {damping}")
    if max_steps is not None and max_steps < 0:
        raise ValueError(f"`cgnr(max_steps=...)`: expected at least 0, got {max_steps}")
    if stopping not in get_args(Stopping):
        known = ", ".join(map(repr, get_args(Stopping)))
        raise ValueError(f"`cgnr(stopping=...)`: expected one of {known}, got {stopping!r}")
    if form not in ("recurrence", "cgls"):
        raise ValueError(f"`cgnr(form=...)`: expected 'recurrence' or 'cgls', got {form!r}")
