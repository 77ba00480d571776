"""Rows over a few points of a field each, and rows over one part of it."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float, Int, Shaped

from ._disjoint import DisjointRows, sum_products
from ._register import register_rectangular


class SparseRows(lx.AbstractLinearOperator):
    """`(G u)_j = sum_m w_jm u[i_jm]`, such as stencils.

    **Arguments:**

    - `indices`: flat indices into the field, shape `(k, p)`; an entry that is not needed has
        weight 0.
    - `weights`: shape `(k, p)`.
    - `size`: of the field, `n`.

    **Raises:** `ValueError` if the shapes differ.
    """

    indices: Int[Array, "k p"]
    weights: Float[Array, "k p"]
    size: int = eqx.field(static=True)

    def __init__(
        self, indices: Int[np.ndarray, "k p"] | Array, weights: Float[Array, "k p"], size: int
    ):
        if indices.shape != weights.shape or indices.ndim != 2:
            raise ValueError(
                "`SparseRows(indices, weights)`: expected two arrays (k, p), got "
                f"{indices.shape} and {weights.shape}"
            )
        self.indices, self.weights, self.size = jnp.asarray(indices), weights, size

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        return sum_products(self.weights, vector[self.indices])

    def squared_mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        """`sum_m w_jm^2 u[i_jm]`; for rows that hold no point twice."""
        return sum_products(self.weights**2, vector[self.indices])

    def abs_mv(self, vector: Float[Array, " n"]) -> Float[Array, " k"]:
        """`sum_m |w_jm u[i_jm]|`."""
        return sum_products(jnp.abs(self.weights), jnp.abs(vector)[self.indices])

    def as_matrix(self) -> Float[Array, "k n"]:
        k = self.indices.shape[0]
        rows = jnp.arange(k)[:, None]
        zeros = jnp.zeros((k, self.size), self.weights.dtype)
        return zeros.at[rows, self.indices].add(self.weights)

    def transpose(self) -> "_SparseColumns":
        return _SparseColumns(self)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.size,), self.weights.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.indices.shape[:1], self.weights.dtype)


class _SparseColumns(lx.AbstractLinearOperator):
    operator: SparseRows

    def mv(self, vector: Float[Array, " k"]) -> Float[Array, " n"]:
        rows = self.operator
        zeros = jnp.zeros((rows.size,), rows.weights.dtype)
        return zeros.at[rows.indices].add(rows.weights * vector[:, None])

    def as_matrix(self) -> Float[Array, "n k"]:
        return self.operator.as_matrix().T

    def transpose(self) -> SparseRows:
        return self.operator

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return self.operator.out_structure()

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return self.operator.in_structure()


register_rectangular(SparseRows)
register_rectangular(_SparseColumns)


class SeparateRows(DisjointRows):
    """[`jaxsci.gaussians.SparseRows`][] of which no two hold the same point.

    That they do is not checked: conditioning on rows that overlap would be wrong.
    """

    sparse: SparseRows

    @property
    def rows(self) -> int:
        return self.sparse.out_size()

    @property
    def flat_weights(self) -> Float[Array, " n"]:
        zeros = jnp.zeros((self.sparse.size,), self.sparse.weights.dtype)
        return zeros.at[self.sparse.indices].set(self.sparse.weights)

    def group(self, field: Float[Array, " n"]) -> Float[Array, "k p"]:
        return field[self.sparse.indices]

    def spread(self, values: Shaped[Array, " k"]) -> Shaped[Array, " n"]:
        zeros = jnp.zeros((self.sparse.size,), values.dtype)
        return zeros.at[self.sparse.indices].set(values[:, None])

    def reweighted(self, weights: Float[Array, " n"]) -> "SeparateRows":
        rows = self.sparse
        return SeparateRows(SparseRows(rows.indices, weights[rows.indices], rows.size))

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return self.sparse.in_structure()


class PartRows(DisjointRows):
    """Rows over one of several equal parts of a field, e.g. one of its channels.

    **Arguments:**

    - `operator`: the rows, over the `m` points of one part.
    - `part`: which, counted from 0.
    - `parts`: how many there are, so that the field has `parts * m` points.
    """

    operator: DisjointRows
    part: int = eqx.field(static=True)
    parts: int = eqx.field(static=True)

    @property
    def rows(self) -> int:
        return self.operator.rows

    @property
    def flat_weights(self) -> Float[Array, " n"]:
        return self._embed(self.operator.flat_weights)

    def group(self, field: Float[Array, " n"]) -> Float[Array, "k p"]:
        return self.operator.group(self._part(field))

    def spread(self, values: Shaped[Array, " k"]) -> Shaped[Array, " n"]:
        return self._embed(self.operator.spread(values))

    def reweighted(self, weights: Float[Array, " n"]) -> "PartRows":
        return PartRows(self.operator.reweighted(self._part(weights)), self.part, self.parts)

    def in_structure(self) -> jax.ShapeDtypeStruct:
        structure = self.operator.in_structure()
        return jax.ShapeDtypeStruct((self.parts * structure.shape[0],), structure.dtype)

    def _part(self, field: Array) -> Array:
        return field.reshape(self.parts, -1)[self.part]

    def _embed(self, part: Array) -> Array:
        zeros = jnp.zeros((self.parts, *part.shape), part.dtype)
        return zeros.at[self.part].set(part).ravel()


class EnclosingRows(DisjointRows):
    """Rows none of which cuts a row that the covariance was conditioned on before.

    As integrals over space, at each time, do not cut the stencils at the walls. A covariance of
    independent points conditioned on such rows has nothing between two of them, so that all that
    conditioning needs of it costs one product. That it is so is for the caller to know.

    **Arguments:** `inner`: the rows.
    """

    inner: DisjointRows

    @property
    def rows(self) -> int:
        return self.inner.rows

    @property
    def flat_weights(self) -> Float[Array, " n"]:
        return self.inner.flat_weights

    def group(self, field: Float[Array, " n"]) -> Float[Array, "k p"]:
        return self.inner.group(field)

    def spread(self, values: Shaped[Array, " k"]) -> Shaped[Array, " n"]:
        return self.inner.spread(values)

    def reweighted(self, weights: Float[Array, " n"]) -> "EnclosingRows":
        return EnclosingRows(self.inner.reweighted(weights))

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return self.inner.in_structure()
