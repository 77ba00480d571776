"""Graduated non-convexity: from a problem without outliers' minima to the one that was asked."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from ._implicit import constant
from ._kernel import AbstractKernel
from ._linearise import whitened_squares
from ._loop import Prepared, run
from ._minimise import conclude, prepare, with_derivatives
from ._problem import Problem, Values
from ._results import Solution


def graduated(
    problem: Problem,
    x0: Mapping[str, Any],
    *,
    stages: int = 10,
    throw: bool = True,
    **settings: Any,
) -> Solution:
    """Minimises with kernels that are wide at first, where the cost is nearly convex.

    Stage `k = 0 .. stages - 1` minimises, from where the one before ended, with every kernel's
    width multiplied by `factor^(1 - k / (stages - 1))`. The first `factor` puts the largest
    residual at the start well inside its kernel, `factor^2 = max(1, 2 max_f s_f / width^2)`, so
    that no factor is taken for an outlier because the start is bad. The last stage is the problem
    itself. All stages share one compiled loop.

    **Arguments:**

    - `problem`, `x0`: as of [`jaxsci.solvers.nonlinear.minimise`][]; some factors have a kernel.
    - `stages`: how many; at least 2.
    - `settings`: as of [`jaxsci.solvers.nonlinear.minimise`][].

    **Returns:** the last stage's solution; its `steps` and `linear_steps` are the sums over all.

    **Raises:** `ValueError` if no factor has a kernel; and as
    [`jaxsci.solvers.nonlinear.minimise`][].

    Reference: Yang, Antonante, Tzoumas, Carlone, *Graduated non-convexity for robust spatial
    perception*, 2020. Differs from the paper in: 1. a fixed number of stages; 2. each is minimised
    to the tolerance, not by one step of weights; 3. any kernel with a width.
    """
    if stages < 2:
        raise ValueError(f"`graduated(stages=...)`: expected at least 2, got {stages}")
    if all(group.kernel is None for group in problem.factors):
        raise ValueError(
            "`graduated(problem=...)`: expected a factor group with a kernel, e.g. "
            "`GemanMcClure(2.0)`; without one use `minimise`"
        )
    prepared = prepare("graduated", problem, x0, **settings)
    return conclude("graduated", _graduated(prepared, stages), throw)


@eqx.filter_jit
def _graduated(prepared: Prepared, stages: int) -> Solution:
    return with_derivatives(_stages(constant(prepared), stages), prepared)


def _stages(prepared: Prepared, stages: int) -> Solution:
    problem, x0 = prepared.problem, prepared.values
    dtype = jnp.result_type(*x0.values())
    largest = jnp.ones((), dtype)
    for group, squares in zip(problem.factors, whitened_squares(problem, x0, dtype), strict=True):
        if group.kernel is not None:
            width = group.kernel.width.astype(dtype)
            largest = jnp.maximum(largest, 2 * jnp.max(squares) / (width * width))
    largest = jnp.where(jnp.isfinite(largest), jnp.sqrt(largest), 1)

    def stage(values: Values, exponent: Array):
        solution = run(prepared.replaced(_widened(problem, largest**exponent), values))
        return _as_start(solution, values), solution

    _, every = jax.lax.scan(stage, x0, jnp.linspace(1, 0, stages, dtype=dtype))
    last = jax.tree.map(lambda x: x[-1], every)
    totals = every.steps.sum(), every.linear_steps.sum()
    return eqx.tree_at(lambda s: (s.steps, s.linear_steps), last, totals)


def _as_start(solution: Solution, like: Values) -> Values:
    """The values in the dtype of a start."""
    low = solution.low
    out = {}
    for name, x in solution.values.items():
        wide = x.astype(like[name].dtype)
        out[name] = wide if low is None else wide + low[name].astype(wide.dtype)
    return out


def _widened(problem: Problem, factor: Array) -> Problem:
    def widen(kernel: AbstractKernel | None) -> AbstractKernel | None:
        if kernel is None:
            return None
        return eqx.tree_at(lambda k: k.width, kernel, kernel.width * factor)

    factor = factor.astype(jnp.result_type(float))
    wide = [widen(group.kernel) for group in problem.factors]
    return eqx.tree_at(
        lambda p: [g.kernel for g in p.factors], problem, wide, is_leaf=lambda x: x is None
    )
