"""The deep operator network: a function's values at sensors, evaluated anywhere."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.operators.layers import ChannelMLP, gelu
from jaxsci.operators.spectral import mix_channels, per_channel
from jaxsci.precision import Policy, contract


class DeepONet(eqx.Module):
    """`y[o](x) = sum_k branch[o, k](u) trunk[k](x) + bias[o]`.

    The branch net sees the input function at fixed sensors, the trunk net a point; the result can
    be had at any points. The input grid is fixed, unlike that of
    [`jaxsci.operators.fno.FNO`][], and the output is smooth in `x`: its derivatives are those of
    the trunk net, exactly, as `jax.jvp` with respect to the points gives them.

    **Arguments:**

    - `sensors`: how many numbers the input is: points times channels, and parameters.
    - `dimensions`: of a point.
    - `out_channels`: how many functions come out.
    - `width`, `depth`: of both nets: channels and number of hidden layers.
    - `terms`: of the sum, for each output channel.
    - `activation`: of both nets; smooth, if derivatives are to be.
    - `policy`, `dtype`, `key`: as in [`jaxsci.operators.spectral.SpectralConv`][].

    **Raises:** `ValueError` for sizes below 1, and when called: another number of sensors or
    coordinates.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.deeponet import DeepONet
        >>> model = DeepONet(sensors=50, dimensions=2, width=32, key=jax.random.key(0))
        >>> model(jnp.ones((1, 50)), jnp.zeros((16, 16, 2))).shape
        (1, 16, 16)

    Reference: Lu et al., *Learning nonlinear operators via DeepONet*, Nature Machine Intelligence
    3 (2021): the unstacked network, with a bias.
    """

    branch: ChannelMLP
    trunk: ChannelMLP
    bias: Float[Array, " out"]
    sensors: int = eqx.field(static=True)
    dimensions: int = eqx.field(static=True)
    policy: Policy | None = eqx.field(static=True)

    def __init__(
        self,
        sensors: int,
        dimensions: int,
        out_channels: int = 1,
        *,
        width: int = 128,
        depth: int = 3,
        terms: int = 128,
        activation: Callable[[Array], Array] = gelu,
        policy: Policy | None = None,
        dtype: Any = jnp.float32,
        key: PRNGKeyArray,
    ):
        sizes = {"sensors": sensors, "dimensions": dimensions, "out_channels": out_channels}
        for name, size in (sizes | {"width": width, "depth": depth, "terms": terms}).items():
            if size < 1:
                raise ValueError(f"`DeepONet({name}=...)`: expected at least 1, got {size}")
        a, b = jax.random.split(key)
        settings = {"activation": activation, "policy": policy, "dtype": dtype}
        hidden = (width,) * depth
        self.branch = ChannelMLP((sensors, *hidden, out_channels * terms), key=a, **settings)
        self.trunk = ChannelMLP((dimensions, *hidden, terms), key=b, **settings)
        self.bias = jnp.zeros(out_channels, dtype if policy is None else policy.dtype("params"))
        self.sensors, self.dimensions, self.policy = sensors, dimensions, policy

    def __call__(self, u: Array, points: Float[Array, "*shape dimensions"]) -> Array:
        """The output functions at the points: shape `(out_channels, *shape)`.

        - `u`: the input at the sensors, `sensors` numbers in any shape.
        - `points`: their coordinates, of any shape before the last axis.
        """
        if u.size != self.sensors:
            raise ValueError(
                f"`DeepONet(sensors={self.sensors})(u, points)`: expected {self.sensors} numbers, "
                f"got shape {u.shape}"
            )
        if points.ndim < 1 or points.shape[-1] != self.dimensions:
            raise ValueError(
                f"`DeepONet(dimensions={self.dimensions})(u, points)`: expected points of shape "
                f"(..., {self.dimensions}), got {points.shape}"
            )
        coefficients = self.branch(u.reshape(-1)).reshape(len(self.bias), -1)
        functions = self.trunk(jnp.moveaxis(points, -1, 0).astype(coefficients.dtype))
        # In the published network the trunk ends with an activation, the branch does not.
        functions = self.trunk.activation(functions)
        if self.policy is None:
            y = mix_channels(coefficients, functions)
        else:
            compute, output = self.policy.dtype("compute"), self.policy.dtype("output")
            y = contract(coefficients, functions, ([1], [0]), compute=compute, output=output)
        return y + per_channel(self.bias, y)
