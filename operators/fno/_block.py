"""One layer of a Fourier neural operator, with all that goes around the spectral convolution."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxsci.operators.layers import separately


class FNOBlock(eqx.Module):
    """A spectral layer and a channel MLP, each with a skip connection.

    ```
    y = norm(conv(x)) + skip(x)              then the activation, but after the last one
    z = mlp(y) + mlp_skip(x)                 then a second norm and the activation, likewise
    ```

    With `preactivation`, activation and norm come before the layer instead, and the skips see
    what they return.

    - `conv`, `skip`, `mlp`, `mlp_skip`: any maps of `(channels, N1, .., Nd)` to the same shape. A
        skip that is `None` is nothing added; without an `mlp`, the first line is all.
    - `norms`: one for the layer and one for the channel MLP, or none.
    - `activation`: of real numbers, at each point; of complex ones, of both parts.
    - `last`: whether it is the last block, which ends without an activation.
    - `stabilizer`: whether `conv` sees `tanh(x)`, which bounds what a 16-bit sum may have to hold.
    - `dropout`: of whole channels of what the block returns, where it is called with a key: the
        mask is the same at all points, so that it is one of functions and not of a grid.
    """

    conv: Callable[[Array], Array]
    skip: Callable[[Array], Array] | None
    mlp: Callable[[Array], Array] | None
    mlp_skip: Callable[[Array], Array] | None
    norms: tuple[Callable[[Array], Array], ...]
    activation: Callable[[Array], Array]
    last: bool = eqx.field(static=True)
    stabilizer: bool = eqx.field(static=True)
    preactivation: bool = eqx.field(static=True)
    dropout: eqx.nn.Dropout | None = None

    def __call__(self, x: Array, *, key: PRNGKeyArray | None = None) -> Array:
        """`x` of shape `(channels, N1, .., Nd)` to the same shape; without a key, no dropout."""
        y = self._undropped(x)
        if self.dropout is None or key is None:
            return y
        kept = jnp.ones((y.shape[0], *[1] * (y.ndim - 1)), y.real.dtype)
        return y * self.dropout(kept, key=key).astype(y.dtype)

    def _undropped(self, x: Array) -> Array:
        if self.preactivation:
            return self._preactivated(x)
        y = _plus(self._norm(0, self.conv(self._stabilised(x))), self.skip, x)
        if not self.last:
            y = self._activated(y)
        if self.mlp is None:
            return y
        z = self._norm(1, _plus(self.mlp(y), self.mlp_skip, x))
        return z if self.last else self._activated(z)

    def _preactivated(self, x: Array) -> Array:
        x = self._norm(0, self._activated(x))
        y = _plus(self.conv(self._stabilised(x)), self.skip, x)
        if self.mlp is None:
            return y
        if not self.last:
            y = self._activated(y)
        return _plus(self.mlp(self._norm(1, y)), self.mlp_skip, x)

    def _norm(self, which: int, x: Array) -> Array:
        return self.norms[which](x) if self.norms else x

    def _activated(self, x: Array) -> Array:
        return separately(self.activation, x)

    def _stabilised(self, x: Array) -> Array:
        return separately(jnp.tanh, x) if self.stabilizer else x


def _plus(y: Array, skip: Callable[[Array], Array] | None, x: Array) -> Array:
    return y if skip is None else y + skip(x)
