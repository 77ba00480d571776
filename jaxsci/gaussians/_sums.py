"""Weighted sums over some axes of a field: the operator behind integral constraints."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Shaped

from ._disjoint import DisjointRows


class WeightedSums(DisjointRows):
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

    @property
    def flat_weights(self) -> Float[Array, " n"]:
        return self.weights.ravel()

    def group(self, field: Array) -> Array:
        return field.reshape(self.shape).transpose(*self.kept, *self.over).reshape(self.rows, -1)

    def spread(self, values: Shaped[Array, " k"]) -> Shaped[Array, " n"]:
        keep = [n if i in self.kept else 1 for i, n in enumerate(self.shape)]
        return jnp.broadcast_to(values.reshape(keep), self.shape).ravel()

    def reweighted(self, weights: Float[Array, " n"]) -> "WeightedSums":
        return WeightedSums(weights.reshape(self.shape), self.over)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((math.prod(self.shape),), self.weights.dtype)
