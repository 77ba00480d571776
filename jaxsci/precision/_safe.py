"""Functions whose derivative is finite where the plain one's is not."""

import jax.numpy as jnp
from jaxtyping import Array, Float


def safe_sqrt(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """The square root, with derivative 0 (not infinity) at 0; 0 for negative rounding errors.

    !!! example
        >>> import jax
        >>> from jaxsci.precision import safe_sqrt
        >>> float(safe_sqrt(jax.numpy.array(9.0))), float(jax.grad(safe_sqrt)(0.0))
        (3.0, 0.0)
    """
    positive = x > 0
    # The inner `where` keeps the derivative off the numbers that the outer one leaves out.
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1)), 0)
