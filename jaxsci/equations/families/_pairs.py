"""Phases and exponents that are large and must be right: numbers as `high + low`, two floats each.

`cos(55.3)` of a rounded 55.3 is off by thirty roundings of 1; a pair carries the rest along.
"""

from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsci.precision import two_product, two_sum


class Pair(NamedTuple):
    """An unevaluated sum `high + low`, `low` being at most half a unit in the last place."""

    high: Array
    low: Array


def pair(exact: np.ndarray | float, dtype: Any) -> Pair:
    """The float64 numbers `exact`, as pairs of floats of the dtype."""
    exact = np.asarray(exact, np.float64)
    high = exact.astype(dtype)
    return Pair(jnp.asarray(high), jnp.asarray((exact - high.astype(np.float64)).astype(dtype)))


def lone(a: Array) -> Pair:
    """An array that is exact as it is."""
    return Pair(a, jnp.zeros_like(a))


def plus(a: Pair, b: Pair) -> Pair:
    """`a + b`."""
    high, low = two_sum(a.high, b.high)
    return Pair(*two_sum(high, low + (a.low + b.low)))


def minus(a: Pair, b: Pair) -> Pair:
    """`a - b`."""
    return plus(a, Pair(-b.high, -b.low))


def times(a: Pair, b: Pair) -> Pair:
    """`a * b`."""
    high, low = two_product(a.high, b.high)
    return Pair(*two_sum(high, low + (a.high * b.low + a.low * b.high)))


def cosine(a: Pair) -> Array:
    """`cos(a)` to a rounding, whatever the size of `a`."""
    return jnp.cos(a.high) - a.low * jnp.sin(a.high)


def sine(a: Pair) -> Array:
    """`sin(a)` to a rounding, whatever the size of `a`."""
    return jnp.sin(a.high) + a.low * jnp.cos(a.high)


def cosine_pi(a: Pair) -> Array:
    """`cos(pi a)`; whole turns are taken off exactly before the rounding of pi."""
    return jnp.cos(jnp.pi * _within_a_turn(a))


def sine_pi(a: Pair) -> Array:
    """`sin(pi a)`."""
    return jnp.sin(jnp.pi * _within_a_turn(a))


def _within_a_turn(a: Pair) -> Array:
    return (a.high - 2 * jnp.round(a.high / 2)) + a.low
