"""Derivatives of a minimum with respect to what the problem is made of."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array

from jaxsci.precision import Policy, all_finite
from jaxsci.solvers.sparse import BlockDiagonal, BlockJacobian, block_scaling

from ._linear import AbstractLinear
from ._linearise import linearise_at, terms_at
from ._manifold import retract
from ._precondition import Preconditioner
from ._problem import Problem, Values


class Minimum(NamedTuple):
    """The values at a minimum and the cost there."""

    values: Values
    cost: Array


@eqx.filter_custom_jvp
def attach(
    minimum: Minimum,
    problem: Problem,
    preconditioner: Preconditioner | None,
    linear: AbstractLinear,
) -> Minimum:
    """The minimum as it is, with the derivatives that the implicit function theorem gives it.

    With `G(d, theta)` the gradient of `F(x* (+) d; theta)` along `d`, zero at `d = 0`,

    ```
    dx* = x* (+) d,   H d = -(dG/dtheta) dtheta,   H = dG/dd,   dF* = (dF/dtheta) dtheta
    ```

    `H` is the full second derivative, applied by forward over reverse mode, not `J'J`: the two
    differ where residuals are not zero. One linear solve by conjugate gradients, in either mode;
    where the minimisation factors `J'J`, that is their preconditioner: it is nearly `H`.
    """
    return minimum


@attach.def_jvp
def _attach_jvp(primals, tangents):
    minimum, problem, preconditioner, linear = primals
    t_minimum, t_problem, *_ = tangents
    if jax.tree.leaves(t_minimum):
        raise ValueError(
            "`minimise(problem=...)`: a residual reads a value that a derivative is taken by, but "
            "that the problem does not hold; hand it to `Factors(measurement=...)`, or make the "
            "residual an `equinox.Module` with it as a field"
        )
    # For derivatives of the derivatives.
    out = attach(minimum, problem, preconditioner, linear)
    theta, rest = _split_like(problem, t_problem)
    dtype = minimum.cost.dtype
    values = {name: x.astype(dtype) for name, x in out.values.items()}

    def cost(delta: Array, theta: Any) -> Array:
        made = eqx.combine(theta, rest)
        return jnp.sum(terms_at(made, _moved(made, values, delta), None, dtype))

    zero = jnp.zeros((problem.dim,), dtype)
    t_cost = jax.jvp(lambda t: cost(zero, t), (theta,), (t_problem,))[1]
    force = jax.jvp(lambda t: jax.grad(cost)(zero, t), (theta,), (t_problem,))[1]
    delta = -_inverse_hessian(
        problem, values, lambda d: cost(d, theta), force, preconditioner, linear
    )
    t_values = jax.jvp(lambda d: _moved(problem, values, d), (zero,), (delta,))[1]
    t_values = {name: t.astype(out.values[name].dtype) for name, t in t_values.items()}
    return out, Minimum(t_values, t_cost.astype(out.cost.dtype))


def _split_like(problem: Problem, tangent: Problem) -> tuple[Problem, Problem]:
    """What of the problem has a tangent, and what has none."""
    moving = jax.tree.map(lambda t: t is not None, tangent, is_leaf=lambda t: t is None)
    return eqx.partition(problem, moving)


def _moved(problem: Problem, values: Values, delta: Array) -> Values:
    """The points reached by one flat step."""
    out, start = {}, 0
    for (name, group), (count, dim) in zip(problem.variables.items(), problem.sizes, strict=True):
        part = delta[start : start + count * dim].reshape(count, dim)
        out[name] = retract(group.manifold, values[name], part)
        start += count * dim
    return out


def _inverse_hessian(
    problem: Problem,
    values: Values,
    cost,
    force: Array,
    preconditioner: Preconditioner | None,
    linear: AbstractLinear,
) -> Array:
    """`H^-1 force` in the columns that are not held."""
    jacobian, held = frozen_jacobian(problem, values, force.dtype)
    scales = BlockDiagonal(block_scaling(jacobian, held))
    gradient = jax.grad(cost)

    def product(y: Array) -> Array:
        curved = jax.jvp(gradient, (jnp.zeros_like(y),), (scales.mv(y),))[1]
        return scales.transpose().mv(curved)

    tolerance = float(jnp.finfo(force.dtype).eps) ** 0.75
    if preconditioner is not None:
        policy = _uniform(force.dtype)
        none = jnp.zeros((), force.dtype)
        # What is near the inverse has no derivative of its own: the solution does not depend on it.
        problem, values = constant(problem), constant(values)
        near = preconditioner.factor(problem, values, jacobian, none, policy)
    else:
        near = _sound(linear.inverse(jacobian.scale_columns(scales.blocks), 0.0))
    options = {} if near is None else {"preconditioner": near}
    right = scales.transpose().mv(force)
    operator = lx.FunctionLinearOperator(
        product, jax.eval_shape(lambda: right), lx.positive_semidefinite_tag
    )
    # Not stabilised: a residual computed anew stays at its rounding, often above the tolerance, and
    # lineax raises in reverse mode where a solve reaches its cap.
    solver = lx.CG(tolerance, tolerance * 1e-3, stabilise_every=None, max_steps=10 * problem.dim)
    solved = lx.linear_solve(operator, right, solver, options=options, throw=False)
    return scales.mv(solved.value)


def _sound(inverse: lx.AbstractLinearOperator | None) -> lx.AbstractLinearOperator | None:
    """The inverse, or the identity where it is one of rounding: the minimum is not unique."""
    if inverse is None:
        return None
    like = inverse.in_structure()
    probe = jnp.sin(1 + jnp.arange(like.size, dtype=like.dtype))
    found = inverse.mv(probe)
    # Along `found`, the matrix is the quotient of these two.
    along, length = jnp.vdot(probe, found), jnp.vdot(found, found)
    sound = all_finite(found) & (along > like.size * jnp.finfo(like.dtype).eps * length)
    return lx.FunctionLinearOperator(
        lambda y: jnp.where(sound, inverse.mv(y), y), like, lx.positive_semidefinite_tag
    )


def constant(tree: Any) -> Any:
    """The same without derivatives."""
    return jax.tree.map(lambda x: jax.lax.stop_gradient(x) if eqx.is_inexact_array(x) else x, tree)


def frozen_jacobian(
    problem: Problem, values: Values, dtype: Any
) -> tuple[BlockJacobian, tuple[Array | None, ...]]:
    """The Jacobian as a constant, and which variables are held."""
    jacobian = linearise_at(problem, values, None, dtype).jacobian
    held = tuple(problem.fixed.get(name) for name in problem.variables)
    return constant(jacobian), held


def _uniform(dtype: Any) -> Policy:
    return Policy.parse("double") if dtype == jnp.float64 else Policy()
