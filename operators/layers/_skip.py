"""Connections past a layer."""

from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.errors import lookup
from jaxsci.operators.spectral import per_channel
from jaxsci.precision import Policy

from ._pointwise import Pointwise

Skip: TypeAlias = Literal["linear", "soft-gating", "identity"]
"""A skip connection, by name."""


class SoftGating(eqx.Module):
    """`y[c] = w[c] x[c] + b[c]`: each channel times a number of its own.

    **Arguments:**

    - `channels`: how many; weights start at 1, a bias at 0.
    - `use_bias`, `dtype`: whether there is a bias; the dtype of the parameters.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.layers import SoftGating
        >>> SoftGating(3)(jnp.ones((3, 8, 8))).shape
        (3, 8, 8)
    """

    weight: Float[Array, " channels"]
    bias: Float[Array, " channels"] | None

    def __init__(self, channels: int, *, use_bias: bool = False, dtype: Any = jnp.float32):
        self.weight = jnp.ones(channels, dtype)
        self.bias = jnp.zeros(channels, dtype) if use_bias else None

    def __call__(self, x: Array) -> Array:
        """`x` of shape `(channels, ...)`, in its dtype."""
        y = per_channel(self.weight, x) * x
        return y if self.bias is None else y + per_channel(self.bias, x)


class Identity(eqx.Module):
    """`y = x`."""

    def __call__(self, x: Array) -> Array:
        """`x` itself."""
        return x


def make_skip(
    name: str,
    channels: int,
    *,
    policy: Policy | None = None,
    dtype: Any = jnp.float32,
    key: PRNGKeyArray,
) -> Pointwise | SoftGating | Identity:
    """A skip connection by name.

    - `"linear"`: a matrix at each point ([`jaxsci.operators.layers.Pointwise`][]), no bias.
    - `"soft-gating"`: a number for each channel ([`jaxsci.operators.layers.SoftGating`][]).
    - `"identity"`: what comes in.

    **Raises:** `ValueError` for another name.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.layers import make_skip
        >>> make_skip("soft-gating", 4, key=jax.random.key(0)).weight.shape
        (4,)
    """
    lookup("skip", name, dict.fromkeys(("linear", "soft-gating", "identity")))
    dtype = dtype if policy is None else policy.dtype("params")
    if name == "identity":
        return Identity()
    if name == "soft-gating":
        return SoftGating(channels, dtype=dtype)
    return Pointwise(channels, channels, use_bias=False, policy=policy, dtype=dtype, key=key)
