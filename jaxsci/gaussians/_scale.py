"""A covariance times a number, in the structure that it has."""

import functools as ft

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ._conditioned import Conditioned
from ._kronecker import Kronecker
from ._low_rank import LowRank
from ._pushforward import Pushforward


@ft.singledispatch
def scale(operator: lx.AbstractLinearOperator, factor: Float[Array, ""]) -> object:
    """`factor operator`; made dense for an operator of an unknown kind."""
    return lx.MatrixLinearOperator(factor * operator.as_matrix(), lx.positive_semidefinite_tag)


@scale.register
def _(operator: lx.TaggedLinearOperator, factor: Array) -> object:
    return scale(operator.operator, factor)


@scale.register
def _(operator: lx.DiagonalLinearOperator, factor: Array) -> object:
    return lx.DiagonalLinearOperator(factor * operator.diagonal)


@scale.register
def _(operator: LowRank, factor: Array) -> object:
    return LowRank(factor * operator.diag, jnp.sqrt(factor) * operator.factor)


@scale.register
def _(operator: Kronecker, factor: Array) -> object:
    first, *others = operator.factors
    return Kronecker(factor * first, *others)


@scale.register
def _(operator: Conditioned, factor: Array) -> object:
    # f (P - P G' S^-1 G P) is what the same observation leaves of f P if its noise is f R: then S
    # becomes f S, and the gain stays. Exact rows stay exact.
    whiten, null = operator.whiten, operator.null
    observed = jnp.sum(1 - null) if null.ndim == 1 else len(null) - jnp.trace(null)
    parts = (
        scale(operator.prior, factor),
        None if operator.noise is None else factor * operator.noise,
        whiten / jnp.sqrt(factor),
        operator.log_det + observed * jnp.log(factor),
    )
    return eqx.tree_at(
        lambda op: (op.prior, op.noise, op.whiten, op.log_det),
        operator,
        parts,
        is_leaf=lambda leaf: leaf is None,
    )


@scale.register
def _(operator: Pushforward, factor: Array) -> object:
    return eqx.tree_at(lambda op: op.prior, operator, scale(operator.prior, factor))
