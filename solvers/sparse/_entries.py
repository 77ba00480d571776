"""A sparse matrix by its entries, as a lineax operator."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
from jax.experimental.sparse import BCOO
from jaxtyping import Array, Float, Int

from jaxsci.precision import Policy

from ._register import register_rectangular
from ._symmetric import BlockSymmetric


class SparseEntries(lx.AbstractLinearOperator):
    """A sparse `m x n` matrix given by its entries, for flat vectors; entries may repeat, and add.

    Products gather, multiply and sum by segments; the transpose has the rows and columns swapped.

    **Arguments:**

    - `values`: shape `(k,)`.
    - `rows`, `cols`: where each entry is, integers of shape `(k,)`.
    - `shape`: `(m, n)`.
    - `accumulate`: the dtype of vectors and of sums, if wider than the values; see
        [`jaxsci.solvers.sparse.BlockJacobian`][].

    **Raises:** `ValueError` if the three arrays do not have one length.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.sparse import SparseEntries
        >>> A = SparseEntries(
        ...     jnp.array([2.0, 3.0]), jnp.array([0, 1]), jnp.array([1, 0]), (2, 2)
        ... )
        >>> A.mv(jnp.array([1.0, 10.0]))
        Array([20.,  3.], dtype=float32)
    """

    values: Float[Array, " k"]
    rows: Int[Array, " k"]
    cols: Int[Array, " k"]
    shape: tuple[int, int] = eqx.field(static=True)
    accumulate: str | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        shapes = {self.values.shape, self.rows.shape, self.cols.shape}
        if len(shapes) != 1 or self.values.ndim != 1:
            raise ValueError(
                "`SparseEntries(values, rows, cols)`: expected three arrays of one shape (k,), got "
                f"{self.values.shape}, {self.rows.shape} and {self.cols.shape}"
            )

    @property
    def dtype(self) -> jnp.dtype:
        """The dtype of vectors."""
        return self.values.dtype if self.accumulate is None else jnp.dtype(self.accumulate)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " m"]:
        products = self.values.astype(self.dtype) * vector[self.cols]
        return jax.ops.segment_sum(products, self.rows, self.shape[0])

    def under(self, policy: Policy) -> "SparseEntries":
        """This matrix with its values stored in `policy.matrix`, summed in `policy.product`."""
        stored, wide = policy.dtype("matrix"), policy.dtype("product")
        accumulate = None if stored == wide else wide.name
        values = self.values.astype(stored)
        return SparseEntries(values, self.rows, self.cols, self.shape, accumulate)

    def as_matrix(self) -> Float[Array, "m n"]:
        empty = jnp.zeros(self.shape, self.dtype)
        return empty.at[self.rows, self.cols].add(self.values.astype(self.dtype))

    def transpose(self) -> "SparseEntries":
        swapped = (self.shape[1], self.shape[0])
        return SparseEntries(self.values, self.cols, self.rows, swapped, self.accumulate)

    def in_structure(self):
        return jax.ShapeDtypeStruct((self.shape[1],), self.dtype)

    def out_structure(self):
        return jax.ShapeDtypeStruct((self.shape[0],), self.dtype)


register_rectangular(SparseEntries)


def _diagonal(operator: SparseEntries) -> Array:
    on = jnp.where(operator.rows == operator.cols, operator.values.astype(operator.dtype), 0)
    return jax.ops.segment_sum(on, operator.rows, min(operator.shape))


lx.diagonal.register(SparseEntries, _diagonal)


def from_scipy(matrix: Any, dtype: Any = None) -> SparseEntries:
    """A scipy sparse matrix (or array) as a lineax operator.

    For a symmetric positive definite one say so to lineax: `lineax.TaggedLinearOperator(
    from_scipy(matrix), lineax.positive_semidefinite_tag)`.

    **Arguments:**

    - `matrix`: any scipy sparse format.
    - `dtype`: that of the matrix by default, as far as JAX has it.

    **Raises:** `TypeError` for anything else.
    """
    if not sp.issparse(matrix):
        raise TypeError(
            f"`from_scipy(matrix=...)`: expected a scipy sparse matrix, got "
            f"{type(matrix).__name__}; for a dense one use `lineax.MatrixLinearOperator`"
        )
    m, n = np.shape(matrix)
    csr = sp.csr_matrix(matrix)
    csr.sum_duplicates()
    coo = csr.tocoo()
    # Checked here, as JAX would cast to float32 with a warning of its own where x64 is off.
    wanted = jnp.result_type(float) if coo.data.dtype == np.float64 else coo.data.dtype
    values = jnp.asarray(coo.data.astype(jnp.dtype(wanted if dtype is None else dtype)))
    rows, cols = (jnp.asarray(index.astype(np.int32)) for index in (coo.row, coo.col))
    return SparseEntries(values, rows, cols, (int(m), int(n)))


def from_bcoo(matrix: BCOO) -> SparseEntries:
    """A two-dimensional `BCOO` matrix without batch or dense dimensions as a lineax operator.

    **Raises:** `ValueError` for one with other dimensions.
    """
    if matrix.ndim != 2 or matrix.n_batch or matrix.n_dense:
        raise ValueError(
            "`from_bcoo(matrix=...)`: expected two sparse dimensions and no others, got "
            f"{matrix.n_sparse} sparse, {matrix.n_batch} batch and {matrix.n_dense} dense"
        )
    rows, cols = matrix.indices[:, 0], matrix.indices[:, 1]
    return SparseEntries(matrix.data, rows, cols, (matrix.shape[0], matrix.shape[1]))


def symmetric_from_scipy(matrix: Any, d: int = 1, dtype: Any = None) -> BlockSymmetric:
    """A symmetric scipy sparse matrix as blocks `(d, d)`, what preconditioners and direct methods
    need; only its lower half is read.

    **Raises:** `TypeError` for anything but a scipy sparse matrix; `ValueError` if it is not
    square, or not a multiple of `d`.
    """
    if not sp.issparse(matrix):
        raise TypeError(
            "`symmetric_from_scipy(matrix=...)`: expected a scipy sparse matrix, got "
            f"{type(matrix).__name__}"
        )
    size = matrix.shape[0]
    if matrix.shape != (size, size) or size % d:
        raise ValueError(
            f"`symmetric_from_scipy(matrix=..., d={d})`: expected a square matrix with a multiple "
            f"of {d} rows, got shape {matrix.shape}"
        )
    blocks = sp.bsr_matrix(sp.csr_matrix(matrix), blocksize=(d, d))
    blocks.sum_duplicates()
    blocks.sort_indices()
    rows = np.repeat(np.arange(size // d), np.diff(blocks.indptr))
    cols, data = blocks.indices, blocks.data
    wanted = jnp.dtype(jnp.result_type(float) if dtype is None else dtype)
    diagonal = np.zeros((size // d, d, d), wanted)
    diagonal[rows[rows == cols]] = data[rows == cols]
    below = rows > cols
    return BlockSymmetric(
        jnp.asarray(diagonal),
        jnp.asarray(data[below].astype(wanted)),
        jnp.asarray(rows[below].astype(np.int32)),
        jnp.asarray(cols[below].astype(np.int32)),
    )
