"""The covariance of a field some of whose points are made of the others."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int

from ._conditioned import Conditioned, separates
from ._disjoint import DisjointRows
from ._low_rank import LowRank
from ._register import register_covariance
from ._selected import SparseRows


class Pushforward(lx.AbstractLinearOperator):
    """`E P E'` for a covariance `P` and the map `E` that makes some points of the others.

    `(E u)_i` is 0 at points that are fixed, `(rows u)_j` at the dependent point `i = at[j]`, and
    `u_i` at all others, the free ones. What is on a face with a condition is such a point: a
    prescribed value is fixed, and a derivative makes the point on the face of those inside.

    **Arguments:**

    - `prior`: `P`, `(n, n)`.
    - `free`: 1 at the free points and 0 at the rest, shape `(n,)`.
    - `at`: the flat indices of the dependent points, shape `(k,)`.
    - `rows`: what makes them, with weight on free points only.
    - `whole`: whether no row is cut by one that the prior was conditioned on; variances cost less.

    The density of a Gaussian with this covariance is that of its free points (made dense where the
    prior's are not independent); it is `-inf`
    where the other points are not as these make them.
    """

    prior: lx.AbstractLinearOperator
    free: Float[Array, " n"]
    at: Int[Array, " k"]
    rows: SparseRows
    whole: bool = eqx.field(static=True, default=False)

    def map(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """`E u`."""
        return (self.free * vector).at[self.at].set(self.rows.mv(vector))

    def pull(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """`E' u`."""
        return self.free * vector + self.rows.T.mv(vector[self.at])

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.map(self.prior.mv(self.pull(vector)))

    def as_matrix(self) -> Float[Array, "n n"]:
        half = jax.vmap(self.map)(self.prior.as_matrix())
        return jax.vmap(self.map)(half.T)

    def transpose(self) -> "Pushforward":
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return self.prior.in_structure()

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return self.prior.out_structure()


register_covariance(Pushforward)


@lx.diagonal.register(Pushforward)
def _(operator: Pushforward) -> Array:
    variance = operator.free * lx.diagonal(operator.prior)
    return variance.at[operator.at].set(
        _row_variances(operator.rows, operator.prior, operator.whole)
    )


def _row_variances(
    rows: SparseRows, cov: lx.AbstractLinearOperator, whole: bool
) -> Float[Array, " k"]:
    """The diagonal of `rows cov rows'`."""
    if isinstance(cov, lx.DiagonalLinearOperator):
        return rows.squared_mv(cov.diagonal)
    if isinstance(cov, LowRank):
        parts = jax.vmap(rows.mv, in_axes=1, out_axes=1)(cov.factor)
        return rows.squared_mv(cov.diag) + jnp.sum(parts**2, axis=1)
    if isinstance(cov, Conditioned):
        whiten = cov.whiten
        if whole and isinstance(cov.rows, DisjointRows) and separates(cov.prior, cov.rows):
            precision = whiten**2 if whiten.ndim == 1 else jnp.sum(whiten**2, axis=0)
            part = rows.mv(cov.prior.mv(cov.rows.flat_weights))
            lost = part**2 * cov.rows.spread(precision)[rows.indices[:, 0]]
        else:
            # One column of the gain at a time: all of them together are as large as n k.
            whiten = jnp.diag(whiten) if whiten.ndim == 1 else whiten
            parts = jax.lax.map(lambda w: rows.mv(cov.prior.mv(cov.rows.T.mv(w))), whiten)
            lost = jnp.sum(parts**2, axis=0)
        return jnp.maximum(_row_variances(rows, cov.prior, whole) - lost, 0)

    def variance(j: Array) -> Array:
        row = rows.T.mv(jax.nn.one_hot(j, rows.out_size(), dtype=rows.weights.dtype))
        return row @ cov.mv(row)

    return jnp.maximum(jax.lax.map(variance, jnp.arange(rows.out_size())), 0)


def alone(operator: lx.AbstractLinearOperator, free: Array) -> lx.AbstractLinearOperator | None:
    """The covariance of the free points, with variance 1 at the others, in its structure.

    `None` where there is none: only independent points can be taken out of a conditioned covariance
    whose rows do not see them.
    """
    if isinstance(operator, Conditioned):
        prior = alone(operator.prior, free)
        return None if prior is None else eqx.tree_at(lambda cov: cov.prior, operator, prior)
    if isinstance(operator, lx.DiagonalLinearOperator):
        return lx.DiagonalLinearOperator(jnp.where(free > 0, operator.diagonal, 1))
    return None


def reachable(operator: Pushforward, d: Array, scale: Array) -> Array:
    """Whether `d` is a vector that the map can make, to rounding of numbers of the given size."""
    eps = jnp.finfo(d.dtype).eps
    off = jnp.abs(d - operator.map(d))
    reach = scale.at[operator.at].add(operator.rows.abs_mv(scale))
    return jnp.all(off <= 16 * eps * reach)
