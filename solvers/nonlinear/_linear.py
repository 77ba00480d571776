"""How the linear least-squares problem of each iteration is solved."""

import abc
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lineax as lx
from jaxtyping import Array

from jaxsci.precision import Policy, matmul
from jaxsci.solvers.linear import CGNR_RESULTS, cgnr
from jaxsci.solvers.sparse import BlockJacobian

from ._method import Stopping
from ._results import MINIMISE_RESULTS


class Step(NamedTuple):
    """The solution of the scaled system, its CG count, and what went wrong (if not successful)."""

    value: Array
    steps: Array
    result: MINIMISE_RESULTS


class AbstractLinear(eqx.Module):
    """Minimises `|J y + r|^2 + damping |y|^2` for a `J` whose diagonal Gram blocks are 1 (or 0)."""

    @abc.abstractmethod
    def solve(
        self,
        jacobian: BlockJacobian,
        residual: Array,
        damping: Array,
        policy: Policy,
        stopping: Stopping,
        preconditioner: lx.AbstractLinearOperator | None,
    ) -> Step:
        """The step in scaled columns; finite whatever happens."""


class Iterative(AbstractLinear):
    """Conjugate gradients on the normal equations ([`jaxsci.solvers.linear.cgnr`][]).

    **Arguments:**

    - `rtol`: how far each system is solved; Gauss-Newton corrects what is left.
    - `max_steps`: of conjugate gradients, per system.
    - `stopping`: `"energy"` or `"gradient"`, the norm that `rtol` is of; by default the method's.
    """

    rtol: float = 1e-2
    max_steps: int = eqx.field(static=True, default=1000)
    stopping: Stopping | None = eqx.field(static=True, default=None)

    def solve(self, jacobian, residual, damping, policy, stopping, preconditioner):
        out = cgnr(
            jacobian,
            -residual,
            preconditioner=preconditioner,
            damping=damping,
            policy=policy,
            rtol=self.rtol,
            max_steps=self.max_steps,
            stopping=stopping if self.stopping is None else self.stopping,
            record=False,
        )
        result = MINIMISE_RESULTS.linear_breakdown
        for theirs, ours in (
            (CGNR_RESULTS.successful, MINIMISE_RESULTS.successful),
            (CGNR_RESULTS.max_steps_reached, MINIMISE_RESULTS.linear_max_steps_reached),
            (CGNR_RESULTS.no_curvature, MINIMISE_RESULTS.singular),
        ):
            result = MINIMISE_RESULTS.where(out.result == theirs, ours, result)
        return Step(out.value, out.steps, result)


class Dense(AbstractLinear):
    """A dense Cholesky factorisation of `J'J + damping`, for a few thousand columns."""

    def solve(self, jacobian, residual, damping, policy, stopping, preconditioner):
        J = jacobian.as_matrix()
        gram = matmul(J.T, J)
        # A column that is held is zero: it gets a one, and stays where it is.
        size = jnp.diagonal(gram)
        gram = gram + jnp.diag(jnp.where(size > 0, damping, 1))
        factor = jnp.linalg.cholesky(gram)
        value = jsl.cho_solve((factor, True), -matmul(J.T, residual))
        return checked(value, factor)


def checked(value: Array, factor: Array) -> Step:
    """A direct solution; zero, and called singular, if a pivot was lost to rounding."""
    pivots = jnp.diagonal(factor)
    least = jnp.min(jnp.where(jnp.isnan(pivots), -1, pivots))
    rounding = len(pivots) * jnp.finfo(factor.dtype).eps
    sound = (least * least > rounding) & jnp.isfinite(value).all()
    result = MINIMISE_RESULTS.where(sound, MINIMISE_RESULTS.successful, MINIMISE_RESULTS.singular)
    return Step(jnp.where(sound, value, 0), jnp.zeros((), jnp.int32), result)
