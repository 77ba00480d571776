"""Rows that share no point: what makes conditioning on many of them cost O(n)."""

import abc

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Shaped

from ._register import register_rectangular


class DisjointRows(lx.AbstractLinearOperator):
    """`(G u)_j = sum of w_i u_i over the points i of group j`, each point in one group at most.

    Rows never overlap, so that `G D G'` is diagonal for a diagonal `D`, and storage is O(n) for any
    number of them. Maps a flat field, shape `(n,)`, to the sums, shape `(k,)`.
    """

    @property
    @abc.abstractmethod
    def rows(self) -> int:
        """The number of sums, `k`."""

    @property
    @abc.abstractmethod
    def flat_weights(self) -> Float[Array, " n"]:
        """The weight of every point in its row; 0 for a point in none."""

    @abc.abstractmethod
    def group(self, field: Float[Array, " n"]) -> Float[Array, "k p"]:
        """A flat field by rows: the points of each, in an order of their own."""

    @abc.abstractmethod
    def spread(self, values: Shaped[Array, " k"]) -> Shaped[Array, " n"]:
        """Gives every point the value of its row."""

    @abc.abstractmethod
    def reweighted(self, weights: Float[Array, " n"]) -> "DisjointRows":
        """The same groups with other weights."""

    def squared_mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        """`sum of w_i^2 u_i`: the variance of each sum, for the variances `u`."""
        return sum_products(self.group(self.flat_weights**2), self.group(vector))

    def abs_mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        """`sum of |w_i u_i|`."""
        weights, fields = self.group(self.flat_weights), self.group(vector)
        return sum_products(jnp.abs(weights), jnp.abs(fields))

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        return sum_products(self.group(self.flat_weights), self.group(vector))

    def as_matrix(self) -> Float[Array, "k n"]:
        rows = jnp.arange(self.rows)
        owner = self.spread(rows)
        return jnp.where(owner[None, :] == rows[:, None], self.flat_weights[None, :], 0)

    def transpose(self) -> lx.AbstractLinearOperator:
        return _Transposed(self)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.rows,), self.flat_weights.dtype)

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        register_rectangular(cls)


def sum_products(a: Float[Array, "k p"], b: Float[Array, "k p"]) -> Float[Array, " k"]:
    # As a product of matrices: many times faster than a sum where rows are few and long.
    return jnp.einsum("kp,kp->k", a, b, precision=jax.lax.Precision.HIGHEST)


class _Transposed(lx.AbstractLinearOperator):
    operator: DisjointRows

    def mv(self, vector: Float[Array, " k"]) -> Float[Array, " n"]:
        return self.operator.flat_weights * self.operator.spread(vector)

    def as_matrix(self) -> Float[Array, "n k"]:
        return self.operator.as_matrix().T

    def transpose(self) -> DisjointRows:
        return self.operator

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return self.operator.out_structure()

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return self.operator.in_structure()


register_rectangular(_Transposed)
