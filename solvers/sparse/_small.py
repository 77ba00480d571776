"""Products and Cholesky factors of many small matrices at once, in array operations."""

import jax.numpy as jnp
from jax import lax
from jax.typing import DTypeLike
from jaxtyping import Array, Inexact

from jaxsci.precision import matmul

# Up to this size column by column, each an operation of its own; larger ones in blocks of a width
# whose program is small.
_UNROLLED = 9
_WIDTH = 8
# Sums of products of up to so many terms are written out.
_TERMS = 16


def small_matmul(
    a: Inexact[Array, "*batch r k"], b: Inexact[Array, "*batch k e"], dtype: DTypeLike
) -> Inexact[Array, "*batch r e"]:
    """Products of many small matrices, in full precision of `dtype`.

    The sum over `k` is written out, so that the compiler makes one loop of it, together with what
    the matrices are gathered from and widened from: on a CPU two to fourteen times as fast as a
    batched product, or a reduction over an axis so short. More than 16 terms are left to a product.

    **Arguments:**

    - `a`, `b`: of any dtypes up to `dtype`, to which they are widened as they are read.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.sparse import small_matmul
        >>> a = jnp.array([[[1.0, 2.0], [3.0, 4.0]]], jnp.float16)
        >>> small_matmul(a, a, jnp.float32)
        Array([[[ 7., 10.],
                [15., 22.]]], dtype=float32)
    """
    a, b = a.astype(dtype), b.astype(dtype)
    if not 0 < a.shape[-1] <= _TERMS:
        return matmul(a, b)
    terms = [a[..., k, None] * b[..., None, k, :] for k in range(a.shape[-1])]
    return sum(terms[1:], terms[0])


def small_matvec(
    a: Inexact[Array, "*batch r k"], x: Inexact[Array, "*batch k"], dtype: DTypeLike
) -> Inexact[Array, "*batch r"]:
    """The same for vectors."""
    return small_matmul(a, x[..., None], dtype)[..., 0]


def inverse_cholesky(blocks: Inexact[Array, "*batch d d"]) -> Inexact[Array, "*batch d d"]:
    """`X = L^-1` for the Cholesky factor `L L' = S` of each block: `X S X' = I`.

    As operations on all blocks together, with no call to a library: where jaxlib 0.10 has two
    threads, two factorisations by LAPACK in one program can wait for each other for ever, each for
    help from the pool of threads that both occupy. For hundreds of rows at most: what is above the
    diagonal is computed too.

    **Arguments:**

    - `blocks`: symmetric, or Hermitian; only the lower triangles count.

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
    return _by_columns(blocks) if d <= _UNROLLED else _by_blocks(blocks)


def _by_columns(blocks: Array) -> Array:
    d = blocks.shape[-1]
    left, columns = blocks, []
    for _ in range(d):
        # The square root of the real part: a complex one of a negative pivot would be finite.
        column = left[..., 0] / jnp.sqrt(jnp.real(left[..., :1, 0])).astype(left.dtype)
        below = column[..., 1:]
        left = left[..., 1:, 1:] - below[..., :, None] * jnp.conj(below)[..., None, :]
        columns.append(column)
    rows = []
    for k in range(d):
        row = jnp.zeros_like(blocks[..., 0, :]).at[..., k].set(1)
        for j in range(k):
            row = row - columns[j][..., k - j, None] * rows[j]
        rows.append(row / columns[k][..., :1])
    return jnp.stack(rows, -2)


def _by_blocks(blocks: Array) -> Array:
    """The same by block columns, whose diagonal blocks are inverted column by column."""
    d, w = blocks.shape[-1], _WIDTH
    size = -(-d // w) * w
    start = jnp.zeros((*blocks.shape[:-2], size, size), blocks.dtype)
    i = jnp.arange(size)
    eye = start.at[..., i, i].set(1)
    # Padded with the identity, whose factor stands beside that of the block.
    left = eye.at[..., :d, :d].set(blocks)

    def step(
        carry: tuple[Array, Array, Array], at: Array
    ) -> tuple[tuple[Array, Array, Array], None]:
        left, L, X = carry
        panel = lax.dynamic_slice_in_dim(left, at, w, axis=-1)
        X_k = _by_columns(lax.dynamic_slice_in_dim(panel, at, w, axis=-2))
        below = lax.broadcasted_iota(at.dtype, panel.shape, panel.ndim - 2) >= at + w
        panel = jnp.where(below, matmul(panel, _adjoint(X_k)), 0)
        known = lax.dynamic_slice_in_dim(L, at, w, axis=-2)
        row = matmul(X_k, lax.dynamic_slice_in_dim(eye, at, w, axis=-2) - matmul(known, X))
        left = left - matmul(panel, _adjoint(panel))
        L = lax.dynamic_update_slice_in_dim(L, panel, at, axis=-1)
        return (left, L, lax.dynamic_update_slice_in_dim(X, row, at, axis=-2)), None

    (_, _, X), _ = lax.scan(step, (left, start, start), jnp.arange(0, size, w))
    return X[..., :d, :d]


def _adjoint(A: Array) -> Array:
    return jnp.conj(jnp.swapaxes(A, -1, -2))
