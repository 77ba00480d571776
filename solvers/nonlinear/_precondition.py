"""A preconditioner that is factored inside the loop: once, or again when it has grown stale."""

from typing import Any, Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array

from jaxsci.errors import is_concrete, lookup
from jaxsci.precision import Policy
from jaxsci.solvers.preconditioners import Plannable, TwoLevelPlan
from jaxsci.solvers.sparse import (
    BlockJacobian,
    GramPattern,
    block_scaling,
    gram_pattern,
    small_matmul,
)

from ._problem import Problem, Values

Refresh = Literal["never", "auto", "always"]


class Preconditioner(eqx.Module):
    """A preconditioner whose symbolic phase is done, for problems of one structure.

    Made by [`jaxsci.solvers.nonlinear.plan_preconditioner`][].
    """

    pattern: GramPattern
    plan: Any

    def factor(
        self,
        problem: Problem,
        values: Values,
        jacobian: BlockJacobian,
        damping: Array,
        policy: Policy,
        scales: tuple[Array, ...] | None = None,
    ) -> lx.AbstractLinearOperator:
        """`M ~ (C^-1 J'J C^-T + damping)^-1`, in columns whose diagonal blocks are 1.

        It serves as it is where the iteration has come to, though `C` is another there. Carried to
        the new scaling, as `T' M T` with `T = C_0^-1 C`, it would bring the old diagonal blocks
        back: at the start of city10000 that took a factor made at zero residuals 2287 steps of
        conjugate gradients where this takes 141.

        `scales`: `C` of each variable group, if it is known.
        """
        if scales is None:
            held = tuple(problem.fixed.get(name) for name in problem.variables)
            scales = block_scaling(jacobian, held)
        gram = jacobian.scale_columns(scales).gram(self.pattern)
        if not isinstance(self.plan, TwoLevelPlan):
            return self.plan.factor(gram, policy=policy, damping=damping)
        ((name, group),) = problem.variables.items()
        x, near = values[name], values[name][self.plan.middle[self.plan.cluster]]
        rigid = jax.vmap(group.manifold.rigid)(x, near)
        # In the columns of `J C`, where `C'SC = 1`: the inverse of `C` is `C'S`.
        (scale,), (square,) = scales, jacobian.gram_diagonal()
        steps = small_matmul(square, rigid.astype(square.dtype), square.dtype)
        modes = small_matmul(scale.swapaxes(1, 2), steps, square.dtype)
        return self.plan.factor(gram, modes=modes, scaled=True, policy=policy, damping=damping)


def plan_preconditioner(problem: Problem, settings: Plannable) -> Preconditioner:
    """The symbolic phase of a preconditioner for a problem, on the host.

    [`jaxsci.solvers.nonlinear.minimise`][] does this itself if it is given settings; do it once
    where several problems have the same factors between the same variables.

    **Arguments:**

    - `problem`: with one group of variables.
    - `settings`: e.g. `IncompleteCholesky()` of [`jaxsci.solvers.preconditioners`][].

    **Raises:** `ValueError` for several groups of variables, or inside `jit`, where the indices are
    not known.
    """
    i, j = _pairs(problem)
    count, dim = problem.sizes[0]
    pattern = gram_pattern(i, j, count)
    plan = settings.plan(np.asarray(pattern.rows), np.asarray(pattern.cols), count, dim)
    return Preconditioner(jax.tree.map(jnp.asarray, pattern), plan)


def _pairs(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """The two variables of each pair of slots, in the order of `slot_pairs`."""
    if len(problem.variables) != 1:
        raise ValueError(
            "`plan_preconditioner(problem=...)`: expected one group of variables, got "
            f"{', '.join(problem.variables)}; leave `preconditioner` out (block scaling is block "
            "Jacobi), or use `linear='dense'`"
        )
    if not is_concrete([group.indices for group in problem.factors]):
        raise ValueError(
            "`plan_preconditioner(problem=...)`: the indices are traced; plan outside `jit` and "
            "hand the plan to `minimise(preconditioner=...)`"
        )
    first, second = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for group in problem.factors:
        indices = np.asarray(group.indices)
        for b in range(indices.shape[1]):
            for a in range(b):
                first.append(indices[:, a])
                second.append(indices[:, b])
    return np.concatenate(first), np.concatenate(second)


class Stale(NamedTuple):
    """A factor, and what it was worth when it was made.

    - `steps`: of the first solve with it (-1 before); `last`: of the latest.
    - `cost`: when it was made.
    """

    factor: lx.AbstractLinearOperator
    steps: Array
    last: Array
    cost: Array
    made: Array


def needs_refresh(stale: Stale, cost: Array, refresh: Refresh) -> Array:
    """Whether to factor again: never, always, or when it has stopped paying."""
    lookup("refresh", refresh, {"never": None, "auto": None, "always": None})
    if refresh == "never":
        return ~stale.made
    if refresh == "always":
        return jnp.asarray(True)
    # A factor of the start (or of zero residuals) need not fit where the iteration has come to.
    doubled = (stale.steps >= 0) & (stale.last > 2 * stale.steps)
    return ~stale.made | doubled | (cost < 0.1 * stale.cost)
