"""Cholesky factors of many small matrices at once, column by column instead of by LAPACK."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

# Beyond this size so many columns are no longer a small program.
_UNROLLED = 16


def inverse_cholesky(blocks: Float[Array, "*batch d d"]) -> Float[Array, "*batch d d"]:
    """`X = L^-1` for the Cholesky factor `L L' = S` of each block: `X S X' = I`.

    As operations on all blocks together, up to a size of 16; larger blocks go to LAPACK. Two such
    calls in one program can wait for each other for ever where jaxlib 0.10 has as few threads as
    that: each asks for help from the pool of threads that both occupy.

    **Arguments:**

    - `blocks`: symmetric; only the lower triangles count.

    **Returns:** lower triangular; NaN or infinite somewhere in each block that is not positive
    definite.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.sparse import inverse_cholesky
        >>> inverse_cholesky(jnp.array([[[4.0, 2.0], [2.0, 2.0]]]))
        Array([[[ 0.5,  0. ],
                [-0.5,  1. ]]], dtype=float32)
    """
    d = blocks.shape[-1]
    if d > _UNROLLED:
        root = jax.lax.linalg.cholesky(blocks, symmetrize_input=False)
        identity = jnp.broadcast_to(jnp.eye(d, dtype=blocks.dtype), blocks.shape)
        return jax.lax.linalg.triangular_solve(root, identity, left_side=True, lower=True)
    left, columns = blocks, []
    for _ in range(d):
        column = left[..., 0] / jnp.sqrt(left[..., :1, 0])
        below = column[..., 1:]
        left = left[..., 1:, 1:] - below[..., :, None] * below[..., None, :]
        columns.append(column)
    rows = []
    for k in range(d):
        row = jnp.zeros_like(blocks[..., 0, :]).at[..., k].set(1)
        for j in range(k):
            row = row - columns[j][..., k - j, None] * rows[j]
        rows.append(row / columns[k][..., :1])
    return jnp.stack(rows, -2)
