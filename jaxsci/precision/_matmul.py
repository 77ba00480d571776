"""Matrix products that are as precise as their dtype says."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


def matmul(a: Array, b: Array) -> Array:
    """`a @ b` without the reduced-precision passes that GPUs and TPUs take by default.

    The default precision of a float32 product is TF32 or bfloat16 there, with errors of 1e-3;
    conservation to rounding needs all 24 bits.
    """
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)
