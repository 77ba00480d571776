"""Multi-head attention with a residual, as the attentive neural process uses it."""

import functools
import math
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ._anp_layers import Affine, Normalise, apply_weight, dropout, keys_or_none

# As `jaxsci.precision.matmul`: GPUs and TPUs would round float32 factors to 11 or 8 bits.
_einsum = functools.partial(jnp.einsum, precision=jax.lax.Precision.HIGHEST)


class Attention(eqx.Module):
    """One attention layer over points.

    ```
    P_h = dropout(softmax(Q_h K_h' / sqrt(width / heads)))         one per head h
    out = normalise(q + dropout([q, P_1 V_1, P_2 V_2, ...] W' + b))
    ```

    where `Q, K, V` are bias-free projections of queries `q`, keys and values, and the residual is
    the query before its projection. Complexity O(nq nk width) time, O(heads nq nk) memory.
    """

    key: Affine
    value: Affine
    query: Affine
    output: Affine
    normalise: Normalise
    heads: int = eqx.field(static=True)

    def __init__(self, width: int, heads: int, *, key: PRNGKeyArray, dtype: Any):
        k, v, q, o = jax.random.split(key, 4)
        self.key = Affine(width, width, key=k, dtype=dtype, use_bias=False)
        self.value = Affine(width, width, key=v, dtype=dtype, use_bias=False)
        self.query = Affine(width, width, key=q, dtype=dtype, use_bias=False)
        self.output = Affine(2 * width, width, key=o, dtype=dtype)
        self.normalise = Normalise(width, dtype=dtype)
        self.heads = heads

    def to_self(
        self, x: Float[Array, "points width"], rate: float, *, key: PRNGKeyArray | None
    ) -> Float[Array, "points width"]:
        """Attention of points to each other."""
        # The three projections of the same points in one matrix product.
        weights = jnp.concatenate([self.query.weight, self.key.weight, self.value.weight])
        q, k, v = jnp.split(apply_weight(weights, x), 3, axis=-1)
        return self._attend(x, q, k, v, rate, key)

    def project(
        self, keys: Float[Array, "context width"], values: Float[Array, "context width"]
    ) -> tuple[Array, Array]:
        """Projected keys and values, which do not depend on the queries."""
        return self.key(keys), self.value(values)

    def to_others(
        self,
        queries: Float[Array, "target width"],
        projected: tuple[Array, Array],
        rate: float,
        *,
        key: PRNGKeyArray | None,
    ) -> Float[Array, "target width"]:
        """Attention of queries to what [`project`] made of keys and values."""
        return self._attend(queries, self.query(queries), *projected, rate, key)

    def _attend(
        self, x: Array, q: Array, k: Array, v: Array, rate: float, key: PRNGKeyArray | None
    ) -> Array:
        probability_key, output_key = keys_or_none(key, 2)
        width = x.shape[-1]
        q = q * (1 / math.sqrt(width // self.heads))
        q, k, v = (a.reshape(a.shape[0], self.heads, -1) for a in (q, k, v))
        probabilities = jax.nn.softmax(_einsum("qhd,khd->hqk", q, k), axis=-1)
        probabilities = dropout(probabilities, rate, probability_key)
        attended = _einsum("hqk,khd->qhd", probabilities, v).reshape(x.shape)
        joined = self.output(jnp.concatenate([x, attended], axis=-1))
        return self.normalise(x + dropout(joined, rate, output_key))
