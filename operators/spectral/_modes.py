"""More modes, or fewer, for layers that exist."""

from collections.abc import Sequence
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsci.errors import is_concrete

from ._conv import SpectralConv
from ._weights import DenseWeight, TTWeight

T = TypeVar("T")


def with_modes(tree: T, modes: int | Sequence[int]) -> T:
    """The same layers with other numbers of modes: wavenumbers that stay keep their weights.

    New wavenumbers have weight 0, so that more modes leave the function as it is: training may
    start with few modes, which are quick and smooth, and get more as it goes on.

    **Arguments:**

    - `tree`: any pytree with [`jaxsci.operators.spectral.SpectralConv`][] in it: a layer, a whole
        model, or the state of an optimiser, of which the moments are then continued by 0.
    - `modes`: one number for all axes, or one for each.

    **Raises:** `ValueError` for numbers below 1, or not one for each axis.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.spectral import SpectralConv, with_modes
        >>> layer = SpectralConv(1, 1, 4, key=jax.random.key(0))
        >>> more, x = with_modes(layer, 8), jnp.arange(16.0)[None]
        >>> more.modes, bool(jnp.allclose(more(x), layer(x)))
        ((8,), True)
    """
    return jax.tree.map(
        lambda node: _changed(node, modes) if isinstance(node, SpectralConv) else node,
        tree,
        is_leaf=lambda node: isinstance(node, SpectralConv),
    )


def _changed(layer: SpectralConv, modes: int | Sequence[int]) -> SpectralConv:
    count = len(layer.modes)
    new = (modes,) * count if isinstance(modes, int | np.integer) else tuple(modes)
    if len(new) != count or min(new) < 1:
        raise ValueError(
            f"`with_modes(modes=...)`: expected a number of at least 1 for each of {count} axes, "
            f"got {modes}"
        )
    sources = []  # of each new coefficient, the old one, or -1
    for axis, (basis, n) in enumerate(zip(layer.bases, new, strict=True)):
        old = list(layer.wavenumbers[axis])
        kept = basis.wavenumbers(n, axis == layer.half_axis)
        sources.append(np.array([old.index(k) if k in old else -1 for k in kept]))

    def moved(array: Any, mode: int, axis: int) -> Any:
        """The entries of one axis of modes, where they now belong."""
        if array is None:  # left out of the state of an optimiser
            return None
        # numpy has nothing to compile where the numbers are known.
        xp = np if is_concrete(array) else jnp
        source = sources[mode]
        shape = [1] * array.ndim
        shape[axis] = -1
        there = xp.asarray(source >= 0, array.dtype).reshape(shape)
        return jnp.asarray(xp.take(xp.asarray(array), np.maximum(source, 0), axis=axis) * there)

    weight: Any = layer.weight
    if isinstance(weight, DenseWeight):
        array: Array | None = weight.array
        for axis in range(count):
            array = moved(array, axis, axis)
        weight = eqx.tree_at(lambda w: w.array, weight, array, is_leaf=lambda x: x is None)
    else:
        dimension = 2 if isinstance(weight, TTWeight) else 1
        factors = [
            factor if i < 2 else moved(factor, i - 2, dimension)
            for i, factor in enumerate(weight.factors)
        ]
        weight = eqx.tree_at(
            lambda w: w.factors, weight, tuple(factors), is_leaf=lambda x: x is None
        )
    changed = eqx.tree_at(lambda layer: layer.weight, layer, weight)
    # Equinox's own update of a field that is static.
    object.__setattr__(changed, "modes", tuple(int(n) for n in new))
    return changed
