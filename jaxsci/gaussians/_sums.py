"""Weighted sums over some axes of a field: the operator behind integral constraints."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from ._register import register_rectangular


class WeightedSums(lx.AbstractLinearOperator):
    """`(G u)_j = sum of w_i u_i over the points i of group j`, each point in one group.

    The groups are what is left when some axes of the field are summed over: with the time axis
    kept, one integral per time. Storage is O(n) for any number of rows, and rows never overlap,
    so that `G D G'` is diagonal for a diagonal `D`.

    **Arguments:**

    - `weights`: shape of the field, one weight per point.
    - `over`: the axes (indices) that are summed over.

    The operator maps a flat field, shape `(n,)`, to the sums, shape `(k,)`, both in C order.
    """

    weights: Float[Array, "*field"]
    over: tuple[int, ...] = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)

    def __init__(self, weights: Float[Array, "*field"], over: tuple[int, ...] | None = None):
        self.weights = jnp.asarray(weights)
        self.shape = self.weights.shape
        axes = range(len(self.shape)) if over is None else over
        self.over = tuple(sorted(int(axis) for axis in axes))
        if not self.over or not set(self.over) <= set(range(len(self.shape))):
            raise ValueError(
                f"`WeightedSums(over=...)`: expected axes of a field of shape {self.shape}, "
                f"got {over}"
            )

    @property
    def kept(self) -> tuple[int, ...]:
        """The axes that index the rows."""
        return tuple(i for i in range(len(self.shape)) if i not in self.over)

    @property
    def rows(self) -> int:
        """The number of sums."""
        return math.prod(self.shape[i] for i in self.kept)

    def group(self, field: Array) -> Array:
        """A flat field as a `(rows, points per row)` array."""
        return field.reshape(self.shape).transpose(*self.kept, *self.over).reshape(self.rows, -1)

    def spread(self, values: Float[Array, " k"]) -> Float[Array, " n"]:
        """Gives every point the value of its row."""
        keep = [n if i in self.kept else 1 for i, n in enumerate(self.shape)]
        return jnp.broadcast_to(values.reshape(keep), self.shape).ravel()

    def squared_mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        """`sum of w_i^2 u_i`: the variance of each sum, for the variances `u`."""
        return _sum_products(self.group(self.weights.ravel() ** 2), self.group(vector))

    def abs_mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        """`sum of |w_i u_i|`."""
        weights, fields = self.group(self.weights.ravel()), self.group(vector)
        return _sum_products(jnp.abs(weights), jnp.abs(fields))

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        return _sum_products(self.group(self.weights.ravel()), self.group(vector))

    def as_matrix(self) -> Float[Array, "k n"]:
        rows = jnp.arange(self.rows)
        owner = self.spread(rows)
        return jnp.where(owner[None, :] == rows[:, None], self.weights.ravel()[None, :], 0)

    def transpose(self) -> lx.AbstractLinearOperator:
        return _Transposed(self)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((math.prod(self.shape),), self.weights.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.rows,), self.weights.dtype)


def _sum_products(a: Float[Array, "k p"], b: Float[Array, "k p"]) -> Float[Array, " k"]:
    # As a product of matrices: many times faster than a sum where rows are few and long.
    return jnp.einsum("kp,kp->k", a, b, precision=jax.lax.Precision.HIGHEST)


class _Transposed(lx.AbstractLinearOperator):
    operator: WeightedSums

    def mv(self, vector: Float[Array, " k"]) -> Float[Array, " n"]:
        return self.operator.weights.ravel() * self.operator.spread(vector)

    def as_matrix(self) -> Float[Array, "n k"]:
        return self.operator.as_matrix().T

    def transpose(self) -> WeightedSums:
        return self.operator

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return self.operator.out_structure()

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return self.operator.in_structure()


register_rectangular(WeightedSums)
register_rectangular(_Transposed)
