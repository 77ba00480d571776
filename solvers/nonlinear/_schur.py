"""Bundle adjustment's linear problem: conjugate gradients in which the points are eliminated."""

import dataclasses

import equinox as eqx
import numpy as np
from jaxtyping import Array

from jaxsci.errors import is_concrete
from jaxsci.precision import Policy
from jaxsci.solvers.preconditioners import (
    BlockJacobi,
    CompletePlan,
    DenseCholesky,
    Plannable,
    SchurComplement,
    SchurCoupling,
    SchurFactor,
    SchurJacobi,
    SchurPlan,
)
from jaxsci.solvers.sparse import BlockJacobian, small_matmul

from ._linear import AbstractLinear, Iterative
from ._method import Stopping
from ._problem import Problem

# Up to so many numbers, a dense matrix of both groups, and a dense factor of what is left of one,
# take less time than the steps of conjugate gradients with diagonal blocks.
_DENSE = 2**20


class Schur(AbstractLinear):
    """Conjugate gradients in which one group of variables is eliminated.

    For problems of two variable groups, of which the second (in the order of their names:
    `"cameras"`, `"points"`) is only ever tied to the first. It is eliminated exactly, so that the
    steps of conjugate gradients are those of the reduced system in the first.

    **Arguments:**

    - `rtol`, `max_steps`, `stopping`: as of [`jaxsci.solvers.nonlinear.Iterative`][]; by default
        `"preconditioned"` where `reduced` is a complete factor, dense or sparse.
    - `reduced`: the preconditioner of the reduced system.
        - `DenseCholesky()`: a few steps solve it. For windows: one program serves all of the same
          sizes, and batches of them.
        - `CompleteCholesky()`: the same for long trajectories; a program for each structure.
        - `BlockJacobi()`: its diagonal blocks, for scenes in which many cameras see the same
          points ([`jaxsci.solvers.preconditioners.SchurJacobi`][]); hundreds of steps.
        - any other: see [`jaxsci.solvers.preconditioners.SchurComplement`][].
        - `None` (default): dense where dense matrices of the first group by itself and by the
          second have at most 2^20 numbers each, e.g. 100 frames and 500 points, else
          `BlockJacobi()`.

        Derivatives of the minimum use a complete factor, too.
    - `plan`: the symbolic phase, if it is done already: `planned(problem).plan`; `reduced` is a
        part of it. Needed where the indices are traced, unless it is dense.

    **Raises:** `TypeError` if `reduced` is not the settings of a preconditioner.

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

    def __check_init__(self):
        known = self.reduced is None or isinstance(self.reduced, Plannable)
        if isinstance(self.reduced, type) or not known:
            raise TypeError(
                "`Schur(reduced=...)`: expected settings of a preconditioner, e.g. "
                "`DenseCholesky()` of `jaxsci.solvers.preconditioners`, or None, got "
                f"{self.reduced!r}"
            )

    def planned(self, problem: Problem) -> "Schur":
        """The same, its symbolic phase done.

        **Raises:** `ValueError` if the problem is not of this kind, or, unless the factor is dense,
        if its indices are traced.
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
        (count, dim), (points, width) = problem.sizes
        reduced = self.reduced
        if reduced is None:
            columns = count * dim
            small = columns * max(columns, points * width) <= _DENSE
            reduced = DenseCholesky() if small else BlockJacobi()
        indices = ties[0].indices
        if is_concrete(indices):
            indices = np.asarray(indices)
        elif not isinstance(reduced, DenseCholesky):
            raise ValueError(
                "`Schur`: the indices are traced; plan outside `jit` and `vmap`, "
                "`Schur().planned(problem)`, and hand that to `minimise(linear=...)`, or use "
                "`Schur(reduced=DenseCholesky())`"
            )
        a, b = (indices[:, ties[0].variables.index(name)] for name in (first, second))
        if isinstance(reduced, BlockJacobi):
            plan = SchurJacobi().plan(a, b, count, points)
        else:
            plan = SchurComplement(reduced).plan(a, b, count, points, dim)
        return dataclasses.replace(self, reduced=None, plan=plan)

    def solve(self, jacobian, residual, damping, policy, stopping, preconditioner):
        factor = self._factor(jacobian, damping, policy)
        chosen = "preconditioned" if self.stopping is None and self._complete else self.stopping
        inner = Iterative(self.rtol, self.max_steps, chosen)
        return inner.solve(jacobian, residual, damping, policy, stopping, factor)

    def inverse(self, jacobian, damping):
        return self._factor(jacobian, damping, None) if self._complete else None

    @property
    def _complete(self) -> bool:
        """Whether the factor is that of the whole matrix."""
        coupling = None if self.plan is None else self.plan.coupling
        if isinstance(coupling, SchurCoupling):
            return isinstance(coupling.plan, CompletePlan)
        return coupling is not None

    def _factor(
        self, jacobian: BlockJacobian, damping: Array | float, policy: Policy | None
    ) -> SchurFactor:
        if self.plan is None:
            raise ValueError("`Schur.solve`: the symbolic phase is missing; call `planned` first")
        first, second = jacobian.gram_diagonal()
        cross = _cross(jacobian)
        return self.plan.factor((first, second), cross, policy=policy, damping=damping)


def _cross(jacobian: BlockJacobian):
    """`J_first' J_second` of each factor that ties the two groups."""
    for group in jacobian.groups:
        if sorted(group.variables) == [0, 1]:
            a, b = (group.blocks[group.variables.index(v)] for v in (0, 1))
            return small_matmul(a.swapaxes(1, 2), b, b.dtype)
    raise ValueError("`Schur.solve`: no group of rows ties the two groups of variables")
