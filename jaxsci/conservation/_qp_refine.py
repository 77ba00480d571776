"""What is known once an interior point has come near: what binds, and whether anything can."""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool

from ._qp import AbstractComplementarity


def proves_empty(variance: Array, amount: Array, size: Array, noise: Array) -> Bool[Array, ""]:
    """Farkas: a combination of constraints that cannot vary, and that the mean violates.

    A point that meets the constraints is at least `amount / sqrt(variance)` standard deviations
    from the mean: none does if that is absurdly far, and the variance within its `noise`.
    """
    eps = float(jnp.finfo(variance.dtype).eps)
    far = amount * eps**0.375 > jnp.sqrt(jnp.maximum(variance, 0.0))
    return far & (variance <= 32.0 * eps * noise) & (amount > eps**0.5 * size)


def refine(problem: AbstractComplementarity, multipliers: Any, *, rounds: int = 12):
    """From multipliers near the solution to it: guess what binds, solve for that, repeat.

    The guess is that of a primal-dual active set method; near the solution it settles in a round
    or two, at the accuracy of one linear solve rather than of the interior point.

    **Returns:** the working set whose solution has the least natural residual, that solution, and
    the residual; the multipliers given and what binds by them, if none is better.
    """

    def error_of(found):
        error = problem.natural_residual(found)
        return jnp.where(jnp.isfinite(error), error, jnp.inf)

    def body(state):
        working, best, count, _ = state
        found = problem.solve_working(working)
        error = error_of(found)
        best = _where(error < best[2], (working, found, error), best)
        following = problem.working(found)
        same = [
            jnp.all(a == b)
            for a, b in zip(*map(jax.tree.leaves, (working, following)), strict=True)
        ]
        return following, best, count + 1, jnp.all(jnp.stack(same))

    def going(state):
        return ~state[3] & (state[2] < rounds)

    working = problem.working(multipliers)
    best = (working, multipliers, error_of(multipliers))
    start = (working, best, jnp.zeros((), int), jnp.asarray(False))
    return lax.while_loop(going, body, start)[1]


def _where(condition: Array, yes: Any, no: Any) -> Any:
    return jax.tree.map(lambda a, b: jnp.where(condition, a, b), yes, no)
