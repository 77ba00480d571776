"""Conversions of what users pass, and powers and roots that are safe to differentiate."""

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.errors import is_concrete, require_finite


def real(*values: ArrayLike) -> list[Array]:
    """`values` as floating arrays of one dtype; integers and Python numbers adapt to the others."""
    arrays = [jnp.asarray(v) for v in values]
    floating = [a for a in arrays if jnp.issubdtype(a.dtype, jnp.floating)]
    dtype = jnp.result_type(*floating) if floating else jnp.result_type(float)
    return [a.astype(dtype) for a in arrays]


def parameter(
    where: str, name: str, value: ArrayLike, low: float, high: float = np.inf
) -> Float[Array, ""]:
    """`value` as a floating scalar array strictly between `low` and `high`.

    **Raises:** `ValueError` if it is not a scalar, not finite, or outside the interval.
    """
    (array,) = real(value)
    if array.ndim != 0:
        raise ValueError(
            f"`{where}({name}=...)`: expected a scalar, got shape {array.shape}; for many "
            f"parameters use `jax.vmap({where})({name})`"
        )
    require_finite(where, name, array)
    if is_concrete(array) and not low < float(array) < high:
        interval = f"greater than {low:g}" if high == np.inf else f"between {low:g} and {high:g}"
        raise ValueError(f"`{where}({name}=...)`: expected a number {interval}, got {float(array)}")
    return array


def positive_power(base: Array, exponent: Array) -> Array:
    """`max(base, 0) ** exponent`, with derivative 0 (never NaN) where `base <= 0`."""
    positive = base > 0
    # Double where: the power is taken of a harmless number wherever its result is not used, since
    # the derivative of 0 ** p is infinite for p < 1 and log(0) enters the derivative in p.
    safe = jnp.where(positive, base, jnp.ones_like(base))
    return jnp.where(positive, safe**exponent, jnp.zeros_like(base))


def positive_sqrt(value: Array) -> Array:
    """`sqrt(max(value, 0))`, with derivative 0 (never infinite) where `value <= 0`."""
    positive = value > 0
    safe = jnp.where(positive, value, jnp.ones_like(value))  # double where: as above
    return jnp.where(positive, jnp.sqrt(safe), jnp.zeros_like(value))


def inside_or_nan(position: Array, bounds: tuple[float, float]) -> Array:
    """`position`, or NaN once it has passed the upper end of `bounds`."""
    return jnp.where(position <= bounds[1], position, jnp.full_like(position, jnp.nan))
