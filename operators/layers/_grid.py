"""What depends on where a point is: coordinates as channels, and padding of the domain."""

import math
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxsci.operators.spectral import AbstractSpectralBasis, Fourier


def append_coordinates(x: Array, bases: Sequence[AbstractSpectralBasis] | None = None) -> Array:
    """`x` of shape `(channels, N1, .., Nd)` with `d` channels more: the coordinates of its points.

    In the order of the axes, in [0, 1], as each basis has its points: `j / N` for Fourier, the
    default.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.layers import append_coordinates
        >>> append_coordinates(jnp.zeros((1, 4)))
        Array([[0.  , 0.  , 0.  , 0.  ],
               [0.  , 0.25, 0.5 , 0.75]], dtype=float32)
    """
    axes = x.ndim - 1
    bases = (Fourier(),) * axes if bases is None else bases
    if len(bases) != axes:
        raise ValueError(
            f"`append_coordinates(bases=...)`: expected one for each of {axes} axes, got "
            f"{len(bases)}"
        )
    channels = [x]
    for axis, (basis, points) in enumerate(zip(bases, x.shape[1:], strict=True)):
        row = jnp.asarray(_coordinates(basis, points))
        row = row.astype(jnp.finfo(x.dtype).dtype).astype(x.dtype)
        channels.append(lax.broadcast_in_dim(row, (1, *x.shape[1:]), (1 + axis,)))
    return jnp.concatenate(channels)


def _coordinates(basis: AbstractSpectralBasis, points: Any) -> Any:
    return basis.coordinates(points) if isinstance(points, int) else basis.coordinates(points, jnp)


def padding_of(fractions: Sequence[float], points: Sequence[Any]) -> tuple[int, ...]:
    """How many points each side of each axis gets: `round(fraction N)`, halves to even.

    !!! example
        >>> from jaxsci.operators.layers import padding_of
        >>> padding_of((0.1, 0.25), (32, 40))
        (3, 10)
    """
    if len(fractions) != len(points):
        raise ValueError(
            f"`padding_of(fractions=...)`: expected one for each of {len(points)} axes, got "
            f"{len(fractions)}"
        )
    for fraction in fractions:
        if not (math.isfinite(fraction) and fraction >= 0):
            raise ValueError(f"`padding_of(fractions=...)`: expected at least 0, got {fraction}")
    return tuple(_rounded(f, n) if f else 0 for f, n in zip(fractions, points, strict=True))


def _rounded(fraction: float, points: Any) -> Any:
    """`round(fraction N)`, also of a symbol of `jax.export`, of which a float is no factor."""
    if isinstance(points, int):
        return round(fraction * points)
    ratio = Fraction(fraction).limit_denominator(1000)
    sizes = np.arange(1, 10_001)
    if (np.rint(fraction * sizes) != _rounded_ratio(ratio, sizes)).any():
        raise ValueError(
            f"`padding_of(fractions=...)`: expected a fraction whose multiples are rounded as "
            f"those of {ratio}, for a number of points that is a symbol, got {fraction}; take a "
            "ratio of small numbers, such as 1/8"
        )
    return _rounded_ratio(ratio, points)


def _rounded_ratio(ratio: Fraction, points: Any) -> Any:
    """`round(p N / q)`, halves to even, by products and whole quotients."""
    p, q = ratio.numerator, ratio.denominator
    # N p = 2 q pairs + rest: two more are counted from 3/2 q of the rest on, one above 1/2 q.
    pairs, rest = p * points // (2 * q), p * points % (2 * q)
    one, two = ((2 * rest + 4 * q - least) // (4 * q) for least in (q + 1, 3 * q))
    return 2 * pairs + one + two


def pad(x: Array, width: Sequence[int]) -> Array:
    """Zeros on both sides of each axis but the first.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.layers import crop, pad
        >>> pad(jnp.ones((1, 2)), (1,)), crop(pad(jnp.ones((1, 2)), (1,)), (1,))
        (Array([[0., 1., 1., 0.]], dtype=float32), Array([[1., 1.]], dtype=float32))
    """
    return jnp.pad(x, [(0, 0), *((n, n) for n in width)]) if any(width) else x


def crop(x: Array, width: Sequence[int]) -> Array:
    """The inverse of [`jaxsci.operators.layers.pad`][]."""
    inner = (slice(n, size - n) for n, size in zip(width, x.shape[1:], strict=True))
    return x[(slice(None), *inner)] if any(width) else x
