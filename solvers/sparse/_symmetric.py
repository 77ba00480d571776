"""A block-sparse symmetric matrix, as a lineax operator."""

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float, Int

from ._register import register_positive, register_rectangular
from ._small import small_matvec


class BlockSymmetric(lx.AbstractLinearOperator):
    """A symmetric positive semidefinite matrix of `N x N` blocks `(d, d)`, most of them zero.

    **Arguments:**

    - `diagonal`: the diagonal blocks, shape `(N, d, d)`.
    - `lower`: the blocks below the diagonal, shape `(E, d, d)`; those above are their transposes.
    - `rows`, `cols`: where each of these is, shape `(E,)`, `rows > cols`, sorted by row and then
        by column, each place once ([`jaxsci.solvers.sparse.gram_pattern`][] makes such).

    **Raises:** `ValueError` if shapes do not fit together.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.sparse import BlockSymmetric
        >>> H = BlockSymmetric(
        ...     2 * jnp.ones((2, 1, 1)), -jnp.ones((1, 1, 1)), jnp.array([1]), jnp.array([0])
        ... )
        >>> H.as_matrix()
        Array([[ 2., -1.],
               [-1.,  2.]], dtype=float32)
    """

    diagonal: Float[Array, "N d d"]
    lower: Float[Array, "E d d"]
    rows: Int[Array, " E"]
    cols: Int[Array, " E"]

    def __check_init__(self):
        d, edges = self.diagonal.shape[-1], self.lower.shape[0]
        if self.diagonal.ndim != 3 or self.diagonal.shape[1] != d:
            raise ValueError(
                "`BlockSymmetric(diagonal=...)`: expected shape (N, d, d), got "
                f"{self.diagonal.shape}"
            )
        if self.lower.shape != (edges, d, d) or self.lower.dtype != self.diagonal.dtype:
            raise ValueError(
                f"`BlockSymmetric(lower=...)`: expected {self.diagonal.dtype} of shape "
                f"(E, {d}, {d}), got {self.lower.dtype} of shape {self.lower.shape}"
            )
        for name, index in (("rows", self.rows), ("cols", self.cols)):
            if index.shape != (edges,) or not jnp.issubdtype(index.dtype, jnp.integer):
                raise ValueError(
                    f"`BlockSymmetric({name}=...)`: expected integers of shape ({edges},), got "
                    f"{index.dtype} of shape {index.shape}"
                )

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        count, d = self.diagonal.shape[:2]
        x, dtype = vector.reshape(count, d), self.diagonal.dtype
        total = small_matvec(self.diagonal, x, dtype)
        below = small_matvec(self.lower, x[self.cols], dtype)
        above = small_matvec(self.lower.swapaxes(1, 2), x[self.rows], dtype)
        total = total + jax.ops.segment_sum(below, self.rows, count, indices_are_sorted=True)
        return (total + jax.ops.segment_sum(above, self.cols, count)).reshape(-1)

    def shifted(self, damping: Float[Array, ""] | float) -> "BlockSymmetric":
        """This matrix plus `damping` times the identity."""
        shift = jnp.asarray(damping).astype(self.diagonal.dtype)
        eye = jnp.eye(self.diagonal.shape[-1], dtype=self.diagonal.dtype)
        diagonal = self.diagonal + (shift * eye)[None]
        return BlockSymmetric(diagonal, self.lower, self.rows, self.cols)

    def astype(self, dtype) -> "BlockSymmetric":
        """This matrix in another dtype."""
        dtype = jnp.dtype(dtype)
        return BlockSymmetric(
            self.diagonal.astype(dtype), self.lower.astype(dtype), self.rows, self.cols
        )

    def as_matrix(self) -> Float[Array, "n n"]:
        count, d = self.diagonal.shape[:2]
        grid = jnp.zeros((count, d, count, d), self.diagonal.dtype)
        numbers = jnp.arange(count)
        grid = grid.at[numbers, :, numbers].set(self.diagonal)
        grid = grid.at[self.rows, :, self.cols].add(self.lower)
        grid = grid.at[self.cols, :, self.rows].add(self.lower.swapaxes(1, 2))
        return grid.reshape(count * d, count * d)

    def transpose(self) -> "BlockSymmetric":
        return self

    def in_structure(self):
        count, d = self.diagonal.shape[:2]
        return jax.ShapeDtypeStruct((count * d,), self.diagonal.dtype)

    def out_structure(self):
        return self.in_structure()


class BlockDiagonal(lx.AbstractLinearOperator):
    """A matrix of square blocks on the diagonal, `(N, d, d)` for each variable group.

    **Arguments:**

    - `blocks`: one array per variable group, all of one dtype; not symmetric in general.
    """

    blocks: tuple[Float[Array, "N d d"], ...]

    def __check_init__(self):
        for block in self.blocks:
            if block.ndim != 3 or block.shape[1] != block.shape[2]:
                raise ValueError(
                    f"`BlockDiagonal(blocks=...)`: expected shapes (N, d, d), got {block.shape}"
                )
            if block.dtype != self.blocks[0].dtype:
                raise ValueError(
                    f"`BlockDiagonal(blocks=...)`: expected one dtype, got {self.blocks[0].dtype} "
                    f"and {block.dtype}"
                )

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        out, start = [], 0
        for block in self.blocks:
            count, d = block.shape[:2]
            part = vector[start : start + count * d].reshape(count, d)
            out.append(small_matvec(block, part, block.dtype).reshape(-1))
            start += count * d
        return jnp.concatenate(out)

    def as_matrix(self) -> Float[Array, "n n"]:
        parts = [part for block in self.blocks for part in block]
        return jax.scipy.linalg.block_diag(*parts)

    def transpose(self) -> "BlockDiagonal":
        return BlockDiagonal(tuple(block.swapaxes(1, 2) for block in self.blocks))

    def in_structure(self):
        size = sum(block.shape[0] * block.shape[1] for block in self.blocks)
        return jax.ShapeDtypeStruct((size,), self.blocks[0].dtype)

    def out_structure(self):
        return self.in_structure()


register_positive(BlockSymmetric)
register_rectangular(BlockDiagonal)


def _block_symmetric_diagonal(operator: BlockSymmetric) -> Array:
    return jnp.diagonal(operator.diagonal, axis1=1, axis2=2).reshape(-1)


lx.diagonal.register(BlockSymmetric, _block_symmetric_diagonal)
