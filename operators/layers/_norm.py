"""Normalisations of a single sample: of each channel, or of all channels together."""

from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from jaxsci.errors import lookup
from jaxsci.operators.spectral import per_channel

Norm: TypeAlias = Literal["instance", "group"]
"""A normalisation, by name."""


class InstanceNorm(eqx.Module):
    """`(x - mean) / sqrt(variance + epsilon)` of each channel over the points; no parameters.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.layers import InstanceNorm
        >>> InstanceNorm()(jnp.array([[1.0, 3.0], [0.0, 0.0]])).round(3)
        Array([[-1.,  1.],
               [ 0.,  0.]], dtype=float32)
    """

    epsilon: float = eqx.field(static=True, default=1e-5)

    def __call__(self, x: Float[Array, "channels *points"]) -> Array:
        """`x` of shape `(channels, ...)`, in its dtype; sums are in float32 at least."""
        return _standardised(x, tuple(range(1, x.ndim)), self.epsilon)


class GroupNorm(eqx.Module):
    """The same over channels and points together, then `w[c] y[c] + b[c]`.

    **Arguments:** `channels`: how many; weights start at 1, biases at 0.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.layers import GroupNorm
        >>> GroupNorm(2)(jnp.array([[1.0, 3.0], [1.0, 3.0]])).round(3)
        Array([[-1.,  1.],
               [-1.,  1.]], dtype=float32)
    """

    weight: Float[Array, " channels"]
    bias: Float[Array, " channels"]
    epsilon: float = eqx.field(static=True)

    def __init__(self, channels: int, *, epsilon: float = 1e-5, dtype: Any = jnp.float32):
        self.weight, self.bias = jnp.ones(channels, dtype), jnp.zeros(channels, dtype)
        self.epsilon = epsilon

    def __call__(self, x: Float[Array, "channels *points"]) -> Array:
        """`x` of shape `(channels, ...)`, in its dtype; sums are in float32 at least."""
        y = _standardised(x, tuple(range(x.ndim)), self.epsilon)
        return per_channel(self.weight, x) * y + per_channel(self.bias, x)


def make_norm(name: str, channels: int, *, dtype: Any = jnp.float32) -> InstanceNorm | GroupNorm:
    """A normalisation by name: `"instance"` or `"group"`. **Raises:** `ValueError` for another.

    !!! example
        >>> from jaxsci.operators.layers import make_norm
        >>> make_norm("group", 4).weight.shape
        (4,)
    """
    lookup("norm", name, dict.fromkeys(("instance", "group")))
    return InstanceNorm() if name == "instance" else GroupNorm(channels, dtype=dtype)


def _standardised(x: Array, axes: tuple[int, ...], epsilon: float) -> Array:
    wide = x.astype(jnp.float32) if jnp.finfo(x.dtype).bits < 32 else x
    centred = wide - jnp.mean(wide, axes, keepdims=True)
    variance = jnp.mean(centred * centred, axes, keepdims=True)
    return (centred * lax.rsqrt(variance + epsilon)).astype(x.dtype)
