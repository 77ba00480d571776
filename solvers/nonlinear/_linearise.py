"""Residuals of a problem and their derivatives along steps of its variables."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, PyTree

from jaxsci.solvers.sparse import BlockJacobian, BlockRows, small_matmul, small_matvec

from ._manifold import norm2, split
from ._problem import AnyFactors, Problem, Values, check_values
from ._sparse_residual import SparseResidual


class Linearisation(NamedTuple):
    """What a step is computed from.

    - `jacobian`: of the whitened residuals, each row of blocks times the root of its kernel weight.
    - `residual`: flat, weighted alike; the gradient of the cost is `J' residual`.
    - `terms`: `1/2 rho(|W r|^2)` of each factor, flat; their sum is the cost.
    """

    jacobian: BlockJacobian
    residual: Array
    terms: Array


def linearise(problem: Problem, values: Mapping[str, Any]) -> tuple[BlockJacobian, Array]:
    """The Jacobian of the weighted residuals along steps of the variables, and the residuals.

    With `r = W f(x)` per factor and `w = rho'(|r|^2)` (1 without a kernel),

    ```
    F(x (+) d) ~ 1/2 |J d + residual|^2 + const,    residual = sqrt(w) r,   J = sqrt(w) dr/dd
    ```

    **Arguments:**

    - `problem`: with factor groups of `F` factors and `r` rows each.
    - `values`: `(N, ambient)` per variable group.

    **Returns:** the operator, of shape (all rows, `problem.dim`), in the dtype of the values;
    and the residuals, flat. Columns of fixed variables are there: hold them by scaling.

    **Raises:** `ValueError` if the values do not fit the problem.
    """
    values = check_values("linearise", problem, values)
    result = linearise_at(problem, values, None, jnp.result_type(*values.values()))
    return result.jacobian, result.residual


def cost(problem: Problem, values: Mapping[str, Any]) -> Array:
    """`F(x) = 1/2 sum_f rho(|W_f r_f(x)|^2)`, a scalar, in the dtype of the values.

    **Arguments**, **Raises:** as [`jaxsci.solvers.nonlinear.linearise`][].
    """
    values = check_values("cost", problem, values)
    dtype = jnp.result_type(*values.values())
    return jnp.sum(terms_at(problem, values, None, dtype))


def terms_at(problem: Problem, values: Values, low: Values | None, dtype: Any) -> Array:
    """`1/2 rho(|W r|^2)` of each factor, flat."""
    squares = whitened_squares(problem, values, dtype, low)
    parts = [_kerneled(group, s) for group, s in zip(problem.factors, squares, strict=True)]
    return jnp.concatenate(parts)


def whitened_squares(
    problem: Problem, values: Values, dtype: Any, low: Values | None = None
) -> list[Array]:
    """`|W r|^2` of each factor, one array per group."""
    return [
        norm2(_whiten(group, _residuals(group, values, low, dtype))) for group in problem.factors
    ]


def linearise_at(problem: Problem, values: Values, low: Values | None, dtype: Any) -> Linearisation:
    """As [`jaxsci.solvers.nonlinear.linearise`][], at `values + low`, computed in `dtype`."""
    rows, residuals, terms = [], [], []
    for group in problem.factors:
        whitened = _whiten(group, _residuals(group, values, low, dtype))
        blocks = [_whiten(group, block) for block in _blocks(problem, group, values, dtype)]
        terms.append(_kerneled(group, norm2(whitened)))
        if group.kernel is not None:
            root = jnp.sqrt(jax.vmap(group.kernel.weight)(norm2(whitened)))
            whitened = root[:, None] * whitened
            blocks = [root[:, None, None] * block for block in blocks]
        residuals.append(whitened.reshape(-1))
        rows.append(_rows(problem, group, blocks))
    jacobian = BlockJacobian(tuple(rows), problem.sizes)
    return Linearisation(jacobian, jnp.concatenate(residuals), jnp.concatenate(terms))


def jacobian_at_zero(problem: Problem, values: Values, dtype: Any) -> BlockJacobian:
    """The Jacobian where every residual vanishes; at `values` for groups that do not know it."""
    rows = []
    for group in problem.factors:
        if group.jacobian_at_zero is None:
            blocks = _blocks(problem, group, values, dtype)
        else:
            measurement = _cast(group.measurement, dtype)
            blocks = jax.vmap(group.jacobian_at_zero, axis_size=group.count)(measurement)
        rows.append(_rows(problem, group, [_whiten(group, block) for block in blocks]))
    return BlockJacobian(tuple(rows), problem.sizes)


def knows_zero(problem: Problem) -> bool:
    """Whether every group can be linearised where its residual vanishes."""
    return all(group.jacobian_at_zero is not None for group in problem.factors)


def _rows(problem: Problem, group: AnyFactors, blocks: Sequence[Array]) -> BlockRows:
    names = list(problem.variables)
    return BlockRows(
        tuple(blocks),
        tuple(group.indices[:, slot] for slot in range(len(group.variables))),
        tuple(names.index(name) for name in group.variables),
    )


def _points(group: AnyFactors, values: Values, dtype: Any) -> list[Array]:
    """The points that each factor touches, one array per slot; all points for a sparse residual."""
    if isinstance(group, SparseResidual):
        return [values[group.variables[0]].astype(dtype)]
    columns = enumerate(group.variables)
    return [values[name].astype(dtype)[group.indices[:, slot]] for slot, name in columns]


def _cast(tree: PyTree, dtype: Any) -> PyTree:
    floats = jnp.floating
    return jax.tree.map(lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, floats) else x, tree)


def _residuals(group: AnyFactors, values: Values, low: Values | None, dtype: Any) -> Array:
    """`(F, r)`; what the dtype cannot hold of the points and measurements enters to first order."""

    residual: Callable[..., Array] = group.residual

    def every(points, measurement):
        if isinstance(group, SparseResidual):
            return group.rows(points[0], measurement)
        each = jax.vmap(lambda p, z: residual(*p, z), axis_size=group.count)
        return each(points, measurement)

    at = _points(group, values, dtype), _cast(group.measurement, dtype)
    if low is None:
        return every(*at)
    left = _points(group, low, dtype), jax.tree.map(_lost(dtype), group.measurement)
    r, more = jax.jvp(every, at, left)
    return r + more


def _lost(dtype: Any) -> Callable[[Array], Any]:
    """What casting a measurement to `dtype` loses, as a tangent."""

    def lost(x: Array):
        if not jnp.issubdtype(x.dtype, jnp.floating):
            return np.zeros(x.shape, jax.dtypes.float0)
        return split(x, dtype)[1]

    return lost


def _blocks(problem: Problem, group: AnyFactors, values: Values, dtype: Any) -> Sequence[Array]:
    """The derivatives `(F, r, dim)` along steps of each slot, not yet whitened."""
    points, measurement = _points(group, values, dtype), _cast(group.measurement, dtype)
    if isinstance(group, SparseResidual):
        manifold = problem.variables[group.variables[0]].manifold
        return group.blocks(manifold, points[0], measurement)
    if group.jacobian is not None:
        given = group.jacobian
        return jax.vmap(lambda p, z: tuple(given(*p, z)), axis_size=group.count)(
            points, measurement
        )
    manifolds = [problem.variables[name].manifold for name in group.variables]

    def one(points, measurement):
        def stepped(deltas):
            steps = zip(manifolds, points, deltas, strict=True)
            return group.residual(*(m.retract(x, d) for m, x, d in steps), measurement)

        return jax.jacfwd(stepped)([jnp.zeros((m.dim,), dtype) for m in manifolds])

    return jax.vmap(one, axis_size=group.count)(points, measurement)


def _whiten(group: AnyFactors, array: Array) -> Array:
    """`W` times residuals `(F, r)` or blocks `(F, r, d)`."""
    root = group.sqrt_information
    if root is None:
        return array
    root = root.astype(array.dtype)
    if root.ndim == 3:
        if array.ndim == 2:
            return small_matvec(root, array, array.dtype)
        return small_matmul(root, array, array.dtype)
    return root.reshape(root.shape + (1,) * (array.ndim - root.ndim)) * array


def _kerneled(group: AnyFactors, s: Array) -> Array:
    return (s if group.kernel is None else jax.vmap(group.kernel.rho)(s)) / 2
