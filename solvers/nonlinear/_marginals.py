"""How sure a minimum is: covariances of some of its variables."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.errors import is_concrete, lookup
from jaxsci.solvers.sparse import BlockDiagonal, block_scaling

from ._implicit import frozen_jacobian
from ._linear import gram_cholesky
from ._problem import Problem, Values, check_values


def marginal_covariance(
    problem: Problem,
    values: Mapping[str, Any],
    name: str,
    indices: Any,
    *,
    linear: str = "dense",
    rtol: float | None = None,
) -> Float[Array, "k d k d"]:
    """The joint covariance of the steps of some variables at a minimum, the others free.

    `Cov = S' (J'J)^-1 S`, with `S` the columns of the chosen variables: what the measurements
    leave uncertain, to first order, if the weights are inverse covariances.

    **Arguments:**

    - `problem`, `values`: where to linearise, usually a solution.
    - `name`, `indices`: the variable group, and which `k` of its variables.
    - `linear`: `"dense"`, a Cholesky factorisation for up to a few thousand columns in all; or
        `"cg"`, conjugate gradients for each of the `k d` columns.
    - `rtol`: of conjugate gradients; by default close to rounding.

    **Returns:** `cov[a, :, b, :]` between variables `a` and `b` of the chosen ones, along steps; 0
    for a held variable. Inside `jit`, NaN if the minimum is not unique.

    **Raises:** `ValueError` for names and indices that do not exist, and outside `jit` if the
    minimum is not unique.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.nonlinear import (
        ...     Euclidean, Factors, Problem, Variables, marginal_covariance)
        >>> seen = Factors(lambda x, z: x - z, "x", jnp.zeros((4, 1), int), jnp.zeros((4, 1)))
        >>> problem = Problem({"x": Variables(Euclidean(1), 1)}, [seen])
        >>> float(marginal_covariance(problem, {"x": jnp.zeros((1, 1))}, "x", [0])[0, 0, 0, 0])
        0.25
    """
    values = check_values("marginal_covariance", problem, values)
    count = lookup("variable group", name, problem.variables).count
    lookup("linear solver", linear, {"dense": None, "cg": None})
    indices = jnp.atleast_1d(jnp.asarray(indices, jnp.int32))
    if is_concrete(indices):
        known = np.asarray(indices)
        if known.ndim != 1 or not ((known >= 0) & (known < count)).all():
            raise ValueError(
                f"`marginal_covariance(indices=...)`: expected a list of numbers from 0 to "
                f"{count - 1}, got {known.tolist()}"
            )
    cov = _covariance(problem, values, name, indices, linear, rtol)
    if is_concrete(cov) and not np.isfinite(np.asarray(cov)).all():
        raise ValueError(
            "`marginal_covariance(problem, values)`: J'J is singular, so that some variables are "
            "not determined; hold one, add a prior, or remove variables that no factor touches"
        )
    return cov


@eqx.filter_jit
def _covariance(
    problem: Problem,
    values: Values,
    name: str,
    indices: Int[Array, " k"],
    linear: str,
    rtol: float | None,
) -> Array:
    dtype = jnp.result_type(*values.values())
    jacobian, held = frozen_jacobian(problem, values, dtype)
    scales = BlockDiagonal(block_scaling(jacobian, held))
    scaled = jacobian.scale_columns(scales.blocks)
    eps = float(jnp.finfo(dtype).eps)
    place = list(problem.variables).index(name)
    start = sum(n * d for n, d in problem.sizes[:place])
    d, k = problem.sizes[place][1], len(indices)
    columns = start + indices[:, None] * d + jnp.arange(d, dtype=jnp.int32)[None, :]
    chosen = jnp.zeros((k * d, problem.dim), dtype)
    chosen = chosen.at[jnp.arange(k * d), columns.reshape(-1)].set(1)
    right = jax.vmap(scales.transpose().mv)(chosen)
    if linear == "dense":
        factor = gram_cholesky(scaled, 0.0)
        sound = jnp.min(jnp.diagonal(factor)) ** 2 > problem.dim * eps
        solved = jsl.cho_solve((factor, True), right.T).T
        free = _untouched(problem, jacobian.gram_diagonal(), held)
        solved = jnp.where(sound & ~free, solved, jnp.nan)
    else:
        operator = lx.FunctionLinearOperator(
            lambda y: scaled.transpose_mv(scaled.mv(y)),
            jax.eval_shape(lambda: right[0]),
            lx.positive_semidefinite_tag,
        )
        tolerance = 10 * eps if rtol is None else rtol
        solver = lx.CG(tolerance, tolerance * 1e-3, max_steps=10 * problem.dim)

        def solve(b):
            return lx.linear_solve(operator, b, solver, throw=False).value

        solved = jax.lax.map(solve, right)
    cov = jax.vmap(scales.mv)(solved)[:, columns.reshape(-1)]
    return ((cov + cov.T) / 2).reshape(k, d, k, d)


def _untouched(problem: Problem, diagonal: tuple[Array, ...], held: tuple) -> Array:
    """Whether some variable that is not held has a direction that no factor sees."""
    free = jnp.asarray(False)
    for blocks, mask in zip(diagonal, held, strict=True):
        blind = (jnp.diagonal(blocks, axis1=1, axis2=2) <= 0).any(1)
        free = free | (blind if mask is None else blind & ~mask).any()
    return free
