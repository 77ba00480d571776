"""The covariance of some of the points, in the structure of the whole."""

import functools as ft

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Int

from jaxsci.precision import matmul

from ._conditioned import Conditioned
from ._kronecker import Kronecker
from ._low_rank import LowRank


@ft.singledispatch
def restrict(operator: lx.AbstractLinearOperator, indices: Int[Array, " m"]) -> object:
    """The covariance of `u[indices]`; made dense, O(m n), for an operator of an unknown kind."""
    (n,) = operator.in_structure().shape
    unit = jax.nn.one_hot(indices, n, dtype=operator.in_structure().dtype)
    return _dense(jax.vmap(operator.mv)(unit)[:, indices])


def _dense(matrix: Array) -> lx.MatrixLinearOperator:
    return lx.MatrixLinearOperator((matrix + matrix.T) / 2, lx.positive_semidefinite_tag)


@restrict.register
def _(operator: lx.TaggedLinearOperator, indices: Array) -> object:
    return restrict(operator.operator, indices)


@restrict.register
def _(operator: lx.DiagonalLinearOperator, indices: Array) -> object:
    return lx.DiagonalLinearOperator(operator.diagonal[indices])


@restrict.register
def _(operator: lx.MatrixLinearOperator, indices: Array) -> object:
    return _dense(operator.matrix[indices[:, None], indices[None, :]])


@restrict.register
def _(operator: LowRank, indices: Array) -> object:
    return LowRank(operator.diag[indices], operator.factor[indices])


@restrict.register
def _(operator: Kronecker, indices: Array) -> object:
    at = jnp.unravel_index(indices, operator.sizes)
    blocks = [f[i[:, None], i[None, :]] for f, i in zip(operator.factors, at, strict=True)]
    return _dense(ft.reduce(jnp.multiply, blocks))


@restrict.register
def _(operator: Conditioned, indices: Array) -> object:
    prior = operator.prior
    if not isinstance(prior, lx.DiagonalLinearOperator):
        factor = operator.root_gain()[indices]
        block = restrict(prior, indices).as_matrix()  # pyright: ignore[reportAttributeAccessIssue]
        return _dense(block - matmul(factor, factor.T))
    # Points are independent before the observation: those left out act on it as further noise,
    # R + G_out D_out G_out', a sum of positive terms. S, and with it `whiten`, stay as they are.
    matrix = operator.rows.as_matrix()
    (k, n), variance = matrix.shape, prior.diagonal
    left_out = jnp.where(jnp.zeros(n, bool).at[indices].set(True), 0, variance)
    noise = matmul(matrix * left_out[None, :], matrix.T)
    if operator.noise is not None:
        own = operator.noise if operator.noise.ndim == 2 else jnp.diag(operator.noise)
        noise = noise + own
    return Conditioned(
        prior=lx.DiagonalLinearOperator(variance[indices]),
        rows=lx.MatrixLinearOperator(matrix[:, indices]),
        noise=jnp.diagonal(noise) if k == 1 else noise,
        whiten=operator.whiten,
        null=operator.null,
        log_det=operator.log_det,
    )


def checked_indices(indices: object, n: int) -> Array:
    """Flat indices from integers or a boolean mask; `ValueError` names the first bad one."""
    array = np.asarray(indices)
    if array.dtype == bool:
        if array.shape != (n,):
            raise ValueError(
                f"`marginal(indices)`: expected a mask of shape ({n},), got {array.shape}"
            )
        array = np.flatnonzero(array)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise ValueError(
            "`marginal(indices)`: expected a 1-D array of integers or a mask, got "
            f"{array.dtype} of shape {array.shape}"
        )
    array = np.where(array < 0, array + n, array)
    outside = (array < 0) | (array >= n)
    if outside.any():
        raise ValueError(
            f"`marginal(indices)`: expected indices into {n} points, got "
            f"{int(np.asarray(indices)[outside][0])}"
        )
    if len(np.unique(array)) < len(array):
        raise ValueError("`marginal(indices)`: expected different indices, got a repeated one")
    return jnp.asarray(array)
