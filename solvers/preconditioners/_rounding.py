"""Vectors in the narrow dtype of a preconditioner, without overflow or underflow."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.solvers.sparse import small_matvec


def is_narrow(stored: str, wide: str) -> bool:
    """Whether rounding to `stored` loses bits of `wide`."""
    return jnp.finfo(stored).bits < jnp.finfo(wide).bits


def rounded(x: Array, stored: str) -> Array:
    """`x` rounded to the dtype `stored`, but kept in its own.

    A product of two numbers that were rounded so, summed in the wide dtype, is what a tensor core
    computes. Not a pair of casts, which the compiler may legally drop.
    """
    if not is_narrow(stored, x.dtype.name):
        return x
    info = jnp.finfo(stored)
    return jax.lax.reduce_precision(x, exponent_bits=info.nexp, mantissa_bits=info.nmant)


def unit(x: Array) -> tuple[Array, Float[Array, ""]]:
    """`x` divided by a power of two to a largest entry in [1/2, 1), and that power of two."""
    _, exponent = jnp.frexp(jnp.max(jnp.abs(x), initial=0))
    return jnp.ldexp(x, -exponent), jnp.ldexp(jnp.ones((), x.dtype), exponent)


def stored_blocks(
    blocks: Float[Array, "N d d"], stored: str, vectors: str
) -> tuple[Array, Float[Array, " N"] | None]:
    """Blocks in the dtype `stored`, and what they must be multiplied with.

    Where that dtype is narrower than that of the vectors each block is scaled to a largest entry in
    [1/2, 1), so that it neither overflows nor underflows.
    """
    if not is_narrow(stored, vectors):
        return blocks.astype(stored), None
    _, exponent = jnp.frexp(jnp.max(jnp.abs(blocks), axis=(1, 2), initial=0))
    scaled = jnp.ldexp(blocks, -exponent[:, None, None])
    return scaled.astype(stored), jnp.ldexp(jnp.ones_like(exponent, vectors), exponent)


def block_product(
    blocks: Float[Array, "N d e"],
    vector: Float[Array, "N e"],
    scale: Float[Array, " N"] | None = None,
) -> Float[Array, "N d"]:
    """Each block times its piece of the vector (and its scale), summed in the vector's dtype."""
    result = small_matvec(blocks, vector, vector.dtype)
    return result if scale is None else result * scale[:, None]
