"""Bundle adjustment's linear problem: conjugate gradients in which the points are eliminated."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np

from jaxsci.errors import is_concrete
from jaxsci.solvers.preconditioners import CompletePlan, SchurComplement, SchurJacobi, SchurPlan
from jaxsci.solvers.sparse import BlockJacobian

from ._linear import AbstractLinear, Iterative
from ._method import Stopping
from ._precondition import Plannable
from ._problem import Problem


class Schur(AbstractLinear):
    """Conjugate gradients in which one group of variables is eliminated.

    For problems of two variable groups, of which the second (in the order of their names:
    `"cameras"`, `"points"`) is only ever tied to the first. It is eliminated exactly, so that the
    steps of conjugate gradients are those of the reduced system in the first, preconditioned by its
    diagonal blocks ([`jaxsci.solvers.preconditioners.SchurJacobi`][]) or by what is `reduced`.

    **Arguments:**

    - `rtol`, `max_steps`, `stopping`: as of [`jaxsci.solvers.nonlinear.Iterative`][].
    - `reduced`: a preconditioner of all blocks of the reduced system, e.g. `CompleteCholesky()`: a
        few steps for each system, for windows of many variables that are tied to each other
        ([`jaxsci.solvers.preconditioners.SchurComplement`][]).
    - `plan`: the symbolic phase, if it is done already: `planned(problem).plan`. Needed inside
        `jit` and `vmap`.

    !!! example
        >>> from jaxsci.solvers.nonlinear import LevenbergMarquardt, Schur, minimise
        >>> from jaxsci.solvers.slam import bundle_to_problem, bundle_to_values, sliding_window
        >>> window = sliding_window(4, 12, seed=0)
        >>> problem, start = bundle_to_problem(window), bundle_to_values(window)
        >>> found = minimise(
        ...     problem, start, method=LevenbergMarquardt(), linear=Schur(), rtol=1e-6)
        >>> bool(found.cost < 10)
        True
    """

    rtol: float = 1e-2
    max_steps: int = eqx.field(static=True, default=1000)
    stopping: Stopping | None = eqx.field(static=True, default=None)
    reduced: Plannable | None = None
    plan: SchurPlan | None = None

    def planned(self, problem: Problem) -> "Schur":
        """The same, its symbolic phase done.

        **Raises:** `ValueError` if the problem is not of this kind, or inside `jit`.
        """
        if self.plan is not None:
            return self
        if len(problem.variables) != 2:
            raise ValueError(
                "`Schur`: expected two groups of variables, such as cameras and points, got "
                f"{', '.join(problem.variables)}; use `linear='cgnr'`"
            )
        first, second = problem.variables
        ties = [g for g in problem.factors if second in g.variables and len(g.variables) > 1]
        if len(ties) != 1 or sorted(ties[0].variables) != [first, second]:
            raise ValueError(
                f"`Schur`: expected one group of factors that ties {first!r} to {second!r}, one "
                f"variable each, got {len(ties)} with {second!r} and others; use `linear='cgnr'`"
            )
        indices = ties[0].indices
        if not is_concrete(indices):
            raise ValueError(
                "`Schur`: the indices are traced; plan outside `jit` and `vmap`, "
                "`Schur().planned(problem)`, and hand that to `minimise(linear=...)`"
            )
        a, b = (np.asarray(indices)[:, ties[0].variables.index(name)] for name in (first, second))
        (count, dim), (points, _) = problem.sizes
        stopping = self.stopping
        if self.reduced is None:
            plan = SchurJacobi().plan(a, b, count, points)
        else:
            plan = SchurComplement(self.reduced).plan(a, b, count, points, dim)
            if stopping is None and isinstance(getattr(plan.coupling, "plan", None), CompletePlan):
                stopping = "preconditioned"
        return Schur(self.rtol, self.max_steps, stopping, plan=plan)

    def solve(self, jacobian, residual, damping, policy, stopping, preconditioner):
        if self.plan is None:
            raise ValueError("`Schur.solve`: the symbolic phase is missing; call `planned` first")
        first, second = jacobian.gram_diagonal()
        factor = self.plan.factor((first, second), _cross(jacobian), policy=policy, damping=damping)
        inner = Iterative(self.rtol, self.max_steps, self.stopping)
        return inner.solve(jacobian, residual, damping, policy, stopping, factor)


def _cross(jacobian: BlockJacobian):
    """`J_first' J_second` of each factor that ties the two groups."""
    for group in jacobian.groups:
        if sorted(group.variables) == [0, 1]:
            a, b = (group.blocks[group.variables.index(v)] for v in (0, 1))
            return jnp.einsum("frc,frp->fcp", a, b, precision="highest")
    raise ValueError("`Schur.solve`: no group of rows ties the two groups of variables")
