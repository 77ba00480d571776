"""Point and block Jacobi, for one or several variable groups."""

from typing import TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.precision import Policy

from ._base import AbstractPreconditioner, dtypes
from ._blocks import BlockMatrix, regular_diagonal, safe_inverse_root
from ._rounding import block_product, stored_blocks

DiagonalBlocks: TypeAlias = BlockMatrix | tuple[Float[Array, "N d d"], ...]


class BlockJacobi(eqx.Module):
    """The inverses of the diagonal blocks, `M = blockdiag(H)^-1`: one pass over memory, no loop.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.preconditioners import BlockJacobi
        >>> blocks = jnp.array([[[4.0, 0.0], [0.0, 16.0]]])
        >>> BlockJacobi().plan().factor((blocks,)).mv(jnp.array([1.0, 1.0]))
        Array([0.25  , 0.0625], dtype=float32)
    """

    def plan(
        self,
        rows: np.ndarray | None = None,
        cols: np.ndarray | None = None,
        N: int | None = None,
        d: int | None = None,
    ) -> "JacobiPlan":
        """Nothing to do: the arguments are those of every other preconditioner."""
        return JacobiPlan(point=False)


class PointJacobi(eqx.Module):
    """The inverse of the diagonal, `M = diag(H)^-1`: for what is not made of blocks.

    On a matrix that is scaled to unit diagonal blocks it does nothing.
    """

    def plan(
        self,
        rows: np.ndarray | None = None,
        cols: np.ndarray | None = None,
        N: int | None = None,
        d: int | None = None,
    ) -> "JacobiPlan":
        """Nothing to do: the arguments are those of every other preconditioner."""
        return JacobiPlan(point=True)


class JacobiPlan(eqx.Module):
    """What point and block Jacobi know before the numbers: nothing but which of them they are."""

    point: bool = eqx.field(static=True)

    def factor(
        self,
        H: DiagonalBlocks,
        *,
        policy: Policy | None = None,
        damping: Float[Array, ""] | float = 0.0,
    ) -> "JacobiFactor":
        """The inverse blocks of `H + damping`, inside `jit`.

        A block that is not positive definite is replaced by its diagonal; a variable whose block is
        zero (held) keeps what it is given.

        **Arguments:** `H`: a block symmetric matrix, or, for several variable groups one after the
        other, a tuple of diagonal blocks `(N, d, d)` each.
        """
        groups = H if isinstance(H, tuple) else (H.diagonal,)
        compute, wide, stored = dtypes(policy, jnp.result_type(*(group.dtype for group in groups)))
        roots = []
        for group in groups:
            blocks = regular_diagonal(group.astype(compute), damping)
            if self.point:
                identity = jnp.eye(blocks.shape[1], dtype=blocks.dtype)[None]
                blocks = blocks * identity
            roots.append(safe_inverse_root(blocks))
        placed = [stored_blocks(X, stored, wide) for X in roots]
        roots, scales = [blocks for blocks, _ in placed], [scale for _, scale in placed]
        size = sum(X.shape[0] * X.shape[1] for X in roots)
        return JacobiFactor(blocks=tuple(roots), scales=tuple(scales), size=size, dtype=wide)


class JacobiFactor(AbstractPreconditioner):
    """`M = X'X` with a block diagonal `X` per variable group."""

    blocks: tuple[Float[Array, "N d d"], ...]
    scales: tuple[Float[Array, " N"] | None, ...]
    size: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        x, results, start = vector.astype(self.dtype), [], 0
        for blocks, scale in zip(self.blocks, self.scales, strict=True):
            count, dim = blocks.shape[:2]
            piece = x[start : start + count * dim].reshape(count, dim)
            start += count * dim
            piece = block_product(blocks, piece, scale)
            piece = block_product(blocks.swapaxes(1, 2), piece, scale)
            results.append(piece.ravel())
        return jnp.concatenate(results)
