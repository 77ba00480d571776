"""Zero-mean draws from a structured covariance, each at the structure's cost."""

import functools as ft

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import lineax as lx
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.precision import matmul, safe_sqrt

from ._conditioned import Conditioned
from ._kronecker import Kronecker, kronecker_mv
from ._low_rank import LowRank
from ._pushforward import Pushforward


@ft.singledispatch
def draw(operator: lx.AbstractLinearOperator, key: PRNGKeyArray) -> Float[Array, " n"]:
    """One draw of `N(0, operator)`; an operator of an unknown kind is made dense."""
    return matmul(square_root(operator.as_matrix()), _normal(key, operator))


def _normal(key: PRNGKeyArray, operator: lx.AbstractLinearOperator) -> Array:
    structure = operator.in_structure()
    return jr.normal(key, structure.shape, structure.dtype)


def square_root(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    """`A` with `A A' = matrix`: Cholesky, or by eigenvalues where the matrix is singular."""

    def by_eigenvalues(m):
        values, vectors = jnp.linalg.eigh(m)
        return vectors * safe_sqrt(values)[None, :]

    lower = jnp.linalg.cholesky(matrix)
    singular = jnp.isnan(lower).any()
    return jax.lax.cond(singular, by_eigenvalues, lambda _: lower, matrix)


@draw.register
def _(operator: lx.DiagonalLinearOperator, key: PRNGKeyArray) -> Array:
    return safe_sqrt(operator.diagonal) * _normal(key, operator)


@draw.register
def _(operator: LowRank, key: PRNGKeyArray) -> Array:
    key, rank_key = jr.split(key)
    coefficients = jr.normal(rank_key, operator.factor.shape[1:], operator.factor.dtype)
    return safe_sqrt(operator.diag) * _normal(key, operator) + matmul(operator.factor, coefficients)


@draw.register
def _(operator: Kronecker, key: PRNGKeyArray) -> Array:
    roots = tuple(square_root(factor) for factor in operator.factors)
    return kronecker_mv(roots, _normal(key, operator))


@draw.register
def _(operator: lx.TaggedLinearOperator, key: PRNGKeyArray) -> Array:
    return draw(operator.operator, key)


@draw.register
def _(operator: Conditioned, key: PRNGKeyArray) -> Array:
    # Matheron's rule: a prior draw, moved by the gain of its own residual. With no noise the
    # residual G u is removed exactly, which drawing from a factor of P - F F' would not do.
    key, noise_key = jr.split(key)
    before = draw(operator.prior, key)
    residual = operator.rows.mv(before)
    if operator.noise is not None:
        standard = jr.normal(noise_key, residual.shape, residual.dtype)
        if operator.noise.ndim == 1:
            residual = residual + safe_sqrt(operator.noise) * standard
        else:
            residual = residual + matmul(square_root(operator.noise), standard)
    after = before - operator.gain_mv(residual)
    if operator.noise is None:  # a second pass takes the first one's rounding away
        after = after - operator.gain_mv(operator.rows.mv(after))
    return after


@draw.register
def _(operator: Pushforward, key: PRNGKeyArray) -> Array:
    return operator.map(draw(operator.prior, key))


# Compiled as a whole, for callers that are not.
@eqx.filter_jit
def draws(
    operator: lx.AbstractLinearOperator, key: PRNGKeyArray, shape: tuple[int, ...]
) -> Float[Array, "*shape n"]:
    """As many independent draws as `shape` asks for."""
    if not shape:
        return draw(operator, key)
    keys = jr.split(key, shape)
    one = draw
    for _ in shape:
        one = eqx.filter_vmap(one, in_axes=(None, 0))
    return one(operator, keys)
