"""Maps of the channels at each point: affine ones, and networks of them."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.operators.spectral import mix_channels, per_channel
from jaxsci.precision import Policy

from ._complex import separately


def gelu(x: Array) -> Array:
    """`x Phi(x)` with the normal distribution function itself, not an approximation.

    Of complex numbers, real and imaginary parts separately.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.layers import gelu
        >>> gelu(jnp.array([-1.0, 0.0, 1.0])).round(4)
        Array([-0.1587,  0.    ,  0.8413], dtype=float32)
    """
    # erf, not erfc: its absolute error is what counts here, and it is the cheaper of the two.
    return separately(lambda x: 0.5 * x * (1 + lax.erf(x * 0.7071067811865476)), x)


class Pointwise(eqx.Module):
    """`y[o, j] = sum_c W[o, c] x[c, j] + b[o]`: a convolution with a kernel of one point.

    Of real numbers; complex ones go through [`jaxsci.operators.layers.ComplexValued`][].

    **Arguments:**

    - `in_channels`, `out_channels`: numbers of channels.
    - `use_bias`: whether there is a bias.
    - `policy`, `dtype`, `key`: as in [`jaxsci.operators.spectral.SpectralConv`][]. Weights and
        biases are `U(-a, a)`, `a = 1 / sqrt(in_channels)`.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.layers import Pointwise
        >>> Pointwise(3, 5, key=jax.random.key(0))(jnp.ones((3, 8, 8))).shape
        (5, 8, 8)
    """

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None
    policy: Policy | None = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        use_bias: bool = True,
        policy: Policy | None = None,
        dtype: Any = jnp.float32,
        key: PRNGKeyArray,
    ):
        dtype = dtype if policy is None else policy.dtype("params")
        bound, (a, b) = in_channels**-0.5, jax.random.split(key)
        limits = {"minval": -bound, "maxval": bound}
        self.weight = jax.random.uniform(a, (out_channels, in_channels), dtype, **limits)
        self.bias = jax.random.uniform(b, (out_channels,), dtype, **limits) if use_bias else None
        self.policy = policy

    @property
    def in_channels(self) -> int:
        """How many channels go in."""
        return self.weight.shape[-1]

    @property
    def out_channels(self) -> int:
        """How many channels come out."""
        return self.weight.shape[-2]

    def __call__(self, x: Array) -> Array:
        """`x` of shape `(in_channels, ...)` to `(out_channels, ...)`."""
        if x.ndim < 1 or x.shape[0] != self.in_channels:
            raise ValueError(
                f"`Pointwise(...)(x)`: expected shape ({self.in_channels}, ...), got {x.shape}"
            )
        if self.policy is None:
            compute = output = x.dtype
        else:
            compute, output = self.policy.dtype("compute"), self.policy.dtype("output")
        y = mix_channels(self.weight, x, compute=compute, output=output)
        return y if self.bias is None else y + per_channel(self.bias, y)


class ChannelMLP(eqx.Module):
    """A small network at each point: affine maps with an activation between them.

    **Arguments:**

    - `sizes`: numbers of channels, of input, hidden layers and output.
    - `activation`: exact GELU by default.
    - `policy`, `dtype`, `key`: as in [`jaxsci.operators.layers.Pointwise`][].

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.layers import ChannelMLP
        >>> ChannelMLP((3, 16, 5), key=jax.random.key(0))(jnp.ones((3, 8, 8))).shape
        (5, 8, 8)
    """

    layers: tuple[Pointwise, ...]
    activation: Callable[[Array], Array]

    def __init__(
        self,
        sizes: Sequence[int],
        *,
        activation: Callable[[Array], Array] = gelu,
        policy: Policy | None = None,
        dtype: Any = jnp.float32,
        key: PRNGKeyArray,
    ):
        if len(sizes) < 2 or min(sizes) < 1:
            raise ValueError(
                f"`ChannelMLP(sizes=...)`: expected two sizes or more, each at least 1, got "
                f"{tuple(sizes)}"
            )
        keys = jax.random.split(key, len(sizes) - 1)
        self.layers = tuple(
            Pointwise(*pair, policy=policy, dtype=dtype, key=k)
            for pair, k in zip(zip(sizes[:-1], sizes[1:], strict=True), keys, strict=True)
        )
        self.activation = activation

    def __call__(self, x: Array) -> Array:
        """`x` of shape `(sizes[0], ...)` to `(sizes[-1], ...)`."""
        for layer in self.layers[:-1]:
            x = self.activation(layer(x))
        return self.layers[-1](x)
