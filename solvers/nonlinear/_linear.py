"""How the linear least-squares problem of each iteration is solved."""

import abc
import functools
from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lineax as lx
from jaxtyping import Array

from jaxsci.precision import Policy, all_finite
from jaxsci.solvers.linear import CGNR_RESULTS, SparseCholesky, cgnr
from jaxsci.solvers.sparse import BlockJacobian

from ._method import Stopping
from ._precondition import Plannable, Preconditioner, plan_preconditioner
from ._problem import Problem
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

    def inverse(
        self, jacobian: BlockJacobian, damping: Array | float
    ) -> lx.AbstractLinearOperator | None:
        """`(J'J + damping)^-1` of scaled columns, if there is a factor to be had.

        Held columns, which are zero, stay as they are.
        """
        return None


class Iterative(AbstractLinear):
    """Conjugate gradients on the normal equations ([`jaxsci.solvers.linear.cgnr`][]).

    **Arguments:**

    - `rtol`: how far each system is solved; Gauss-Newton corrects what is left.
    - `max_steps`: of conjugate gradients, per system.
    - `stopping`: `"energy"`, `"gradient"` or `"preconditioned"`, the norm that `rtol` is of; by
        default `"preconditioned"` with a complete factor, else the method's.
    - `negligible`: by energy, a system counts as solved, too, when the last 8 steps gained at most
        this part of `|r|^2`: far less than what the minimiser goes on for.
    - `polish`: how many steps follow whose products have all bits of the gradient, if the policy
        stores the Jacobian in fewer. A direction along which `J` is nearly zero is far from zero
        for a rounded `J`: without these steps it is hardly moved in, and seems to be at rest.
    """

    rtol: float = 1e-2
    max_steps: int = eqx.field(static=True, default=1000)
    stopping: Stopping | None = eqx.field(static=True, default=None)
    negligible: float = 1e-12
    polish: int = eqx.field(static=True, default=2)

    def solve(self, jacobian, residual, damping, policy, stopping, preconditioner):
        gradient = jacobian.transpose_mv(residual)
        out = cgnr(
            jacobian,
            -residual,
            preconditioner=preconditioner,
            damping=damping,
            policy=policy,
            rtol=self.rtol,
            atol=rounding_of(gradient),
            energy_atol=self.negligible * jnp.vdot(residual, residual),
            max_steps=self.max_steps,
            stopping=stopping if self.stopping is None else self.stopping,
            record=False,
        )
        value, steps = out.value, out.steps
        if self.polish and policy.dtype("matrix").itemsize < gradient.dtype.itemsize:
            value, more = polished(jacobian, residual, damping, value, preconditioner, self.polish)
            steps = steps + more
        result = MINIMISE_RESULTS.linear_breakdown
        for theirs, ours in (
            (CGNR_RESULTS.successful, MINIMISE_RESULTS.successful),
            (CGNR_RESULTS.max_steps_reached, MINIMISE_RESULTS.linear_max_steps_reached),
            (CGNR_RESULTS.no_curvature, MINIMISE_RESULTS.singular),
        ):
            result = MINIMISE_RESULTS.where(out.result == theirs, ours, result)
        return Step(value, steps, result)


def polished(
    jacobian: BlockJacobian,
    residual: Array,
    damping: Array,
    value: Array,
    inverse: lx.AbstractLinearOperator | None,
    steps: int,
) -> tuple[Array, Array]:
    """A rough solution after a few steps of CG with all bits of `J`, and how many they were."""
    dtype = jacobian.dtype
    gradient, value = jacobian.transpose_mv(residual), value.astype(dtype)
    # The best multiple first: where rounding has spoiled all of it, none.
    image = jacobian.mv(value)
    curvature = jnp.vdot(image, image) + damping * jnp.vdot(value, value)
    along = -jnp.vdot(gradient, value) / jnp.where(curvature > 0, curvature, 1)
    out = cgnr(
        jacobian,
        -residual,
        preconditioner=inverse,
        damping=damping,
        rtol=0.0,
        atol=rounding_of(gradient),
        max_steps=steps,
        y0=jnp.where(jnp.isfinite(along), along, 0) * value,
        record=False,
    )
    return out.value, out.steps


def rounding_of(gradient: Array) -> Array:
    """The size of a gradient below which there is rounding alone.

    To go on would follow it into directions that nothing determines.
    """
    return 32 * jnp.finfo(gradient.dtype).eps * jnp.sqrt(jnp.vdot(gradient, gradient))


class Dense(AbstractLinear):
    """A dense Cholesky factorisation of `J'J + damping`, for a few thousand columns."""

    def solve(self, jacobian, residual, damping, policy, stopping, preconditioner):
        factor = gram_cholesky(jacobian, damping)
        gradient = jacobian.transpose_mv(residual)
        return checked(jsl.cho_solve((factor, True), -gradient), factor)

    def inverse(self, jacobian, damping):
        factor = gram_cholesky(jacobian, damping)
        like = jax.ShapeDtypeStruct(factor.shape[:1], factor.dtype)
        solve = functools.partial(jsl.cho_solve, (factor, True))
        return lx.FunctionLinearOperator(solve, like, lx.positive_semidefinite_tag)


def gram_cholesky(jacobian: BlockJacobian, damping: Array | float) -> Array:
    """The lower Cholesky factor of `J'J + damping`, dense."""
    gram = jacobian.gram_matrix()
    # A column that is held is zero: it gets a one, and stays where it is.
    size = jnp.diagonal(gram)
    return jnp.linalg.cholesky(gram + jnp.diag(jnp.where(size > 0, damping, 1)))


def checked(value: Array, factor: Array) -> Step:
    """A direct solution; zero, and called singular, if a pivot was lost to rounding."""
    pivots = jnp.diagonal(factor)
    least = jnp.min(jnp.where(jnp.isnan(pivots), -1, pivots))
    rounding = len(pivots) * jnp.finfo(factor.dtype).eps
    sound = (least * least > rounding) & all_finite(value)
    result = MINIMISE_RESULTS.where(sound, MINIMISE_RESULTS.successful, MINIMISE_RESULTS.singular)
    return Step(jnp.where(sound, value, 0), jnp.zeros((), jnp.int32), result)


class Direct(AbstractLinear):
    """A sparse Cholesky factorisation of `J'J + damping`, for problems of one variable group.

    **Arguments:**

    - `settings`: whose `plan(rows, cols, N, d)` is the symbolic phase, e.g.
        [`jaxsci.solvers.linear.SparseCholesky`][] (default).
    - `plan`: that phase, if it is done already ([`jaxsci.solvers.nonlinear.plan_preconditioner`][]
        with the same settings).

    In float32 two steps of CG follow, with the factor as the preconditioner: the factor is of
    `J'J`, whose condition is that of `J` squared.
    """

    settings: Plannable | None = None
    plan: Preconditioner | None = None

    def planned(self, problem: Problem) -> "Direct":
        """The same, its symbolic phase done."""
        if self.plan is not None:
            return self
        settings = SparseCholesky() if self.settings is None else self.settings
        return Direct(None, plan_preconditioner(problem, settings))

    def solve(self, jacobian, residual, damping, policy, stopping, preconditioner):
        gradient = jacobian.transpose_mv(residual)
        inverse = self.inverse(jacobian, damping)
        value, steps = inverse.mv(-gradient), jnp.zeros((), jnp.int32)
        rounding = len(value) * jnp.finfo(value.dtype).eps
        if value.dtype != jnp.float64:
            value, steps = polished(jacobian, residual, damping, value, inverse, 2)
            # The weakest directions of a sound problem are below this bound in float32.
            rounding = 0.0
        # The curvature along the step, of a matrix with unit diagonal: a lost pivot shows there.
        along, length = -jnp.vdot(gradient, value), jnp.vdot(value, value)
        sound = all_finite(value) & ((along > rounding * length) | (along == 0))
        R = MINIMISE_RESULTS
        result = R.where(sound, R.successful, R.singular)
        return Step(jnp.where(sound, value, 0), steps, result)

    def inverse(self, jacobian, damping):
        if self.plan is None:
            raise ValueError("`Direct.solve`: the symbolic phase is missing; call `planned` first")
        H = jacobian.gram(self.plan.pattern)
        eye = jnp.eye(H.diagonal.shape[-1], dtype=H.diagonal.dtype)[None]
        # What is held, or touched by nothing, is zero: it gets a one, and stays where it is.
        H = eqx.tree_at(
            lambda H: H.diagonal, H, jnp.where((eye > 0) & (H.diagonal == 0), 1, H.diagonal)
        )
        return self.plan.plan.factor(H, damping=damping)
