"""Layers of the attentive neural process: affine maps, normalisation, dropout, chunks of points."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.precision import matmul

T = TypeVar("T")


class Affine(eqx.Module):
    """`y = x W' + b` over the last axis of `x`, so that points need no `vmap`.

    Initialised Xavier-uniform, `W ~ U(-a, a)` with `a = gain sqrt(6 / (fan_in + fan_out))`, and
    `b ~ U(-1 / sqrt(fan_in), 1 / sqrt(fan_in))`.
    """

    weight: Float[Array, "out in"]
    bias: Float[Array, " out"] | None

    def __init__(
        self,
        in_size: int,
        out_size: int,
        *,
        key: PRNGKeyArray,
        dtype: Any,
        relu: bool = False,
        use_bias: bool = True,
    ):
        weight_key, bias_key = jax.random.split(key)
        bound = (math.sqrt(2) if relu else 1.0) * math.sqrt(6 / (in_size + out_size))
        self.weight = jax.random.uniform(
            weight_key, (out_size, in_size), dtype, minval=-bound, maxval=bound
        )
        bound = 1 / math.sqrt(in_size)
        self.bias = (
            jax.random.uniform(bias_key, (out_size,), dtype, minval=-bound, maxval=bound)
            if use_bias
            else None
        )

    def __call__(self, x: Float[Array, "*points in"]) -> Float[Array, "*points out"]:
        y = apply_weight(self.weight, x)
        return y if self.bias is None else add_row(y, self.bias)


class Normalise(eqx.Module):
    """Layer normalisation over the last axis with a learned scale and shift (epsilon 1e-5)."""

    weight: Float[Array, " width"]
    bias: Float[Array, " width"]

    def __init__(self, width: int, *, dtype: Any):
        self.weight = jnp.ones(width, dtype)
        self.bias = jnp.zeros(width, dtype)

    def __call__(self, x: Float[Array, "points width"]) -> Float[Array, "points width"]:
        centred = x - jnp.mean(x, axis=-1, keepdims=True)
        scale = lax.rsqrt(jnp.mean(centred * centred, axis=-1, keepdims=True) + 1e-5)
        return add_row(centred * scale * self.weight[None], self.bias)


def apply_weight(weight: Float[Array, "out in"], x: Float[Array, "*points in"]) -> Array:
    """`x W'`, as one matrix product whatever the leading axes."""
    return matmul(x, weight.T)


def add_row(x: Float[Array, "*points width"], row: Float[Array, " width"]) -> Array:
    """`x + row`, the same row at each point."""
    return x + jnp.broadcast_to(row, x.shape)


def dropout(x: Array, rate: float, key: PRNGKeyArray | None) -> Array:
    """Sets entries to 0 with probability `rate` and scales the others up; no key, no dropout.

    The probability is rounded to a multiple of 2^-16, and the scale is that of the rounded one, so
    that the expectation is exact: two masks then come out of each 32 random bits, of which an
    attentive neural process needs a hundred million in a training step.
    """
    threshold = round(rate * 2**16)
    if key is None or threshold == 0:
        return x
    bits = jax.random.bits(key, ((x.size + 1) // 2,), jnp.uint32)
    halves = lax.bitcast_convert_type(bits, jnp.uint16).reshape(-1)[: x.size].reshape(x.shape)
    keep = halves >= jnp.asarray(threshold, jnp.uint16)
    return jnp.where(keep, x * (2**16 / (2**16 - threshold)), 0)


def keys_or_none(key: PRNGKeyArray | None, number: int) -> list[Any]:
    """`number` keys, or as many `None` where there is nothing to split."""
    return [None] * number if key is None else list(jax.random.split(key, number))


def in_chunks(
    function: Callable[[Array, PRNGKeyArray | None], T],
    points: Float[Array, "points d"],
    size: int,
    key: PRNGKeyArray | None,
) -> T:
    """`function(points, key)`, at most `size` points at a time, each chunk with its own key.

    The function must treat points independently and put them first in each of its results.
    """
    count = points.shape[0]
    if count <= size:
        return function(points, key)
    whole = count // size
    keys = None if key is None else jax.random.split(key, whole + 1)
    first = None if keys is None else keys[:whole]
    head = points[: whole * size].reshape(whole, size, -1)
    result = lax.map(lambda chunk: function(*chunk), (head, first))
    result = jax.tree.map(lambda a: a.reshape(whole * size, *a.shape[2:]), result)
    if whole * size == count:
        return result
    tail = function(points[whole * size :], None if keys is None else keys[-1])
    return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), result, tail)
