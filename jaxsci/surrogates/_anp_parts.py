"""The two encoders and the decoder of the attentive neural process."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.precision import matmul

from ._anp_layers import Affine, add_row, apply_weight, keys_or_none
from ._attention import Attention


class Latent(eqx.Module):
    """A diagonal Gaussian over the latent variable of an attentive neural process.

    `z ~ N(mean, diag(exp(log_variance)))`, both of shape `(width,)`. The name says *variance*
    because that is what is exponentiated; published code calls the same numbers log sigma.
    """

    mean: Float[Array, " width"]
    log_variance: Float[Array, " width"]

    def sample(self, key: PRNGKeyArray) -> Float[Array, " width"]:
        """One draw, `mean + exp(log_variance / 2) eps`, differentiable in both."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_variance / 2) * noise

    def kl(self, other: "Latent") -> Float[Array, ""]:
        """The Kullback-Leibler divergence `KL(self || other)` in nats, from the closed form."""
        difference = self.log_variance - other.log_variance
        scaled = (self.mean - other.mean) ** 2 * jnp.exp(-other.log_variance)
        # expm1(d) - d does not cancel where the two nearly agree, as exp(d) - 1 - d would.
        return jnp.sum(jnp.expm1(difference) - difference + scaled) / 2


class LatentEncoder(eqx.Module):
    """Points and values to a distribution over the latent variable."""

    input_projection: Affine
    self_attentions: tuple[Attention, ...]
    penultimate: Affine
    mean: Affine
    log_variance: Affine

    def __init__(
        self, coordinates: int, width: int, heads: int, depth: int, *, key: PRNGKeyArray, dtype: Any
    ):
        p, a, h, m, s = jax.random.split(key, 5)
        self.input_projection = Affine(coordinates + 1, width, key=p, dtype=dtype)
        self.self_attentions = attentions(width, heads, depth, key=a, dtype=dtype)
        self.penultimate = Affine(width, width, key=h, dtype=dtype, relu=True)
        self.mean = Affine(width, width, key=m, dtype=dtype)
        self.log_variance = Affine(width, width, key=s, dtype=dtype)

    def __call__(
        self, points: Array, values: Array, rate: float, *, key: PRNGKeyArray | None
    ) -> Latent:
        hidden = self.input_projection(with_values(points, values))
        keys = keys_or_none(key, len(self.self_attentions))
        for layer, layer_key in zip(self.self_attentions, keys, strict=True):
            hidden = layer.to_self(hidden, rate, key=layer_key)
        pooled = jax.nn.relu(self.penultimate(jnp.mean(hidden, axis=0)))
        return Latent(self.mean(pooled), self.log_variance(pooled))


class DeterministicEncoder(eqx.Module):
    """Contexts to a representation at each target, by self- and then cross-attention."""

    self_attentions: tuple[Attention, ...]
    cross_attentions: tuple[Attention, ...]
    input_projection: Affine
    context_projection: Affine
    target_projection: Affine

    def __init__(
        self, coordinates: int, width: int, heads: int, depth: int, *, key: PRNGKeyArray, dtype: Any
    ):
        p, a, x, c, t = jax.random.split(key, 5)
        self.self_attentions = attentions(width, heads, depth, key=a, dtype=dtype)
        self.cross_attentions = attentions(width, heads, depth, key=x, dtype=dtype)
        self.input_projection = Affine(coordinates + 1, width, key=p, dtype=dtype)
        self.context_projection = Affine(coordinates, width, key=c, dtype=dtype)
        self.target_projection = Affine(coordinates, width, key=t, dtype=dtype)

    def contexts(
        self, points: Array, values: Array, rate: float, *, key: PRNGKeyArray | None
    ) -> tuple[tuple[Array, Array], ...]:
        """Projected keys and values for each cross-attention; independent of the targets."""
        hidden = self.input_projection(with_values(points, values))
        keys = keys_or_none(key, len(self.self_attentions))
        for layer, layer_key in zip(self.self_attentions, keys, strict=True):
            hidden = layer.to_self(hidden, rate, key=layer_key)
        at = self.context_projection(points)
        return tuple(layer.project(at, hidden) for layer in self.cross_attentions)

    def targets(
        self,
        points: Float[Array, "target d"],
        contexts: tuple[tuple[Array, Array], ...],
        rate: float,
        *,
        key: PRNGKeyArray | None,
    ) -> Float[Array, "target width"]:
        """The representation at each target, from what [`contexts`] returned."""
        hidden = self.target_projection(points)
        keys = keys_or_none(key, len(contexts))
        for layer, pair, layer_key in zip(self.cross_attentions, contexts, keys, strict=True):
            hidden = layer.to_others(hidden, pair, rate, key=layer_key)
        return hidden


class Decoder(eqx.Module):
    """Representation, latent variable and coordinates of a target to its mean and deviation."""

    target_projection: Affine
    hidden: tuple[Affine, ...]
    output: Affine

    def __init__(self, coordinates: int, width: int, depth: int, *, key: PRNGKeyArray, dtype: Any):
        t, o, *keys = jax.random.split(key, depth + 2)
        wide = 3 * width
        self.target_projection = Affine(coordinates, width, key=t, dtype=dtype)
        self.hidden = tuple(Affine(wide, wide, key=k, dtype=dtype, relu=True) for k in keys)
        self.output = Affine(wide, 2, key=o, dtype=dtype)

    def __call__(
        self,
        points: Float[Array, "target d"],
        representation: Float[Array, "target width"],
        z: Float[Array, " width"],
    ) -> Float[Array, "target 2"]:
        first, *others = self.hidden
        # [q, z, p(x)] W' is q W_q' + z W_z' + p(x) W_p'. The second term is one row for all
        # targets and the third is affine in a few coordinates, so that two thirds of the widest
        # product need not be formed for each target.
        w_q, w_z, w_p = jnp.split(first.weight, 3, axis=1)
        projection, offset = self.target_projection.weight, self.target_projection.bias
        row = apply_weight(w_z, z)
        if first.bias is not None and offset is not None:  # always, but the types cannot say it
            row = row + apply_weight(w_p, offset) + first.bias
        x = apply_weight(w_q, representation) + apply_weight(matmul(w_p, projection), points)
        x = jax.nn.relu(add_row(x, row))
        for layer in others:
            x = jax.nn.relu(layer(x))
        return self.output(x)


def attentions(
    width: int, heads: int, depth: int, *, key: PRNGKeyArray, dtype: Any
) -> tuple[Attention, ...]:
    """`depth` attention layers with keys of their own."""
    keys = jax.random.split(key, depth)
    return tuple(Attention(width, heads, key=k, dtype=dtype) for k in keys)


def with_values(points: Float[Array, "n d"], values: Float[Array, " n"]) -> Array:
    """`[t, x, u]` for each observation."""
    return jnp.concatenate([points, values[:, None]], axis=-1)
