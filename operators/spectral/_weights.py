"""The weights of a spectral layer: a channel matrix for each retained mode, dense or factorised."""

import abc
import math
from collections.abc import Sequence
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray
from scipy.optimize import brentq

Factorization: TypeAlias = Literal["tucker", "cp", "tt"]
"""A factorisation of the weights, by name."""


class AbstractSpectralWeight(eqx.Module):
    """One matrix `(out, in)` for each retained mode.

    Complex numbers are kept as pairs of reals, in an axis `parts` of length 2 (1 for real ones):
    every optimiser then does what is meant, and 16-bit dtypes exist. The order of the dimensions
    in which a factorised one is a tensor is `(in, out, *modes)`.
    """

    @property
    @abc.abstractmethod
    def tensor(self) -> Float[Array, "*modes parts out in"]:
        """All of it, in the layout in which it is applied."""

    @property
    def dense(self) -> Array:
        """All of it as one array of shape `(in, out, *modes)`, complex where it has two parts."""
        tensor = jnp.moveaxis(self.tensor, (-1, -2, -3), (0, 1, 2))
        return as_complex(jnp.moveaxis(tensor, 2, 0))


class DenseWeight(AbstractSpectralWeight):
    """A free matrix for each mode."""

    array: Float[Array, "*modes parts out in"]

    @property
    def tensor(self) -> Float[Array, "*modes parts out in"]:
        """The array itself."""
        return self.array


class TuckerWeight(AbstractSpectralWeight):
    """`W = core x_1 factor_1 x_2 factor_2 ..`: a matrix `(dimension, rank)` for each dimension."""

    core: Float[Array, "parts *ranks"]
    factors: tuple[Float[Array, "parts dimension rank"], ...]

    @property
    def tensor(self) -> Float[Array, "*modes parts out in"]:
        """The product of the core and all factors."""
        whole = as_complex(self.core)
        for factor in self.factors:  # the first axis is replaced, the new one goes to the end
            whole = _dot(whole, as_complex(factor), 0, 1)
        return _layout(whole, self.core)


class CPWeight(AbstractSpectralWeight):
    """`W = sum_r weights_r factor_1[:, r] o factor_2[:, r] o ..`: `rank` outer products."""

    weights: Float[Array, "parts rank"]
    factors: tuple[Float[Array, "parts dimension rank"], ...]

    @property
    def tensor(self) -> Float[Array, "*modes parts out in"]:
        """The sum of the outer products."""
        first, second, *rest = (as_complex(factor) for factor in self.factors)
        modes = as_complex(self.weights)[None]
        for factor in rest:
            modes = (modes[:, None] * factor[None]).reshape(-1, modes.shape[-1])
        channels = (first[:, None] * second[None]).reshape(-1, modes.shape[-1])
        shape = [factor.shape[1] for factor in self.factors]
        return _layout(_dot(channels, modes, 1, 1).reshape(shape), self.weights)


class TTWeight(AbstractSpectralWeight):
    """`W[i, j, ..] = G_1[:, i, :] G_2[:, j, :] ..`, a train of matrices; `1 x 1` in the end."""

    factors: tuple[Float[Array, "parts rank dimension next"], ...]

    @property
    def tensor(self) -> Float[Array, "*modes parts out in"]:
        """The product of the matrices of the train."""
        first, *rest = (as_complex(factor) for factor in self.factors)
        whole = first[0]
        for factor in rest:
            whole = _dot(whole, factor, whole.ndim - 1, 0)
        return _layout(whole[..., 0], self.factors[0])


def make_weight(
    channels: tuple[int, int],
    modes: Sequence[int],
    parts: int,
    factorization: Factorization | None,
    rank: float | int | Sequence[int],
    *,
    key: PRNGKeyArray,
    dtype: Any,
) -> AbstractSpectralWeight:
    """Random weights of standard deviation `sqrt(2 / (in + out))`, whatever the factorisation."""
    shape, std = (*channels, *modes), math.sqrt(2 / sum(channels))
    count = len(shape)

    def normal(key: PRNGKeyArray, shape: Sequence[int], std: float) -> Array:
        # Drawn as a vector: arrays of five or six axes take XLA seconds to compile, for the same
        # numbers. A complex number of variance s^2 has parts of variance s^2 / 2.
        drawn = jax.random.normal(key, (parts * math.prod(shape),), dtype)
        return drawn.reshape(parts, *shape) * (std / math.sqrt(parts))

    if factorization is None:
        return DenseWeight(_layout_of_parts(normal(key, shape, std)))
    ranks = ranks_of(shape, factorization, rank)
    keys = jax.random.split(key, count + 1)
    match factorization:
        case "tucker":
            # Entries are sums of prod(ranks) products of one number of the core and each factor.
            each = (std / math.sqrt(math.prod(ranks))) ** (1 / (count + 1))
            core = normal(keys[-1], ranks, each)
            sizes = zip(keys, shape, ranks, strict=False)
            return TuckerWeight(core, tuple(normal(k, (n, r), each) for k, n, r in sizes))
        case "cp":
            each = (std / math.sqrt(ranks[0])) ** (1 / count)
            one = jnp.zeros((parts, ranks[0]), dtype).at[0].set(1)
            factors = (normal(k, (n, ranks[0]), each) for k, n in zip(keys, shape, strict=False))
            return CPWeight(one, tuple(factors))
        case _:
            each = (std / math.sqrt(math.prod(ranks))) ** (1 / count)
            ends = (1, *ranks, 1)
            sizes = zip(keys, ends, shape, ends[1:], strict=False)
            return TTWeight(tuple(normal(k, (a, n, b), each) for k, a, n, b in sizes))


def ranks_of(
    shape: Sequence[int], factorization: Factorization, rank: float | int | Sequence[int]
) -> tuple[int, ...]:
    """Ranks from numbers, or from the fraction of a dense tensor's parameters to have.

    Tucker has one for each dimension, CP one, and TT one between each dimension and the next.
    """
    count = {"tucker": len(shape), "cp": 1, "tt": len(shape) - 1}[factorization]
    if isinstance(rank, Sequence):
        ranks = tuple(int(r) for r in rank)
        if len(ranks) != count or min(ranks) < 1:
            raise ValueError(
                f"`SpectralConv(rank=...)`: expected {count} ranks, each at least 1, for "
                f"{factorization!r} of {tuple(shape)}, got {tuple(rank)}"
            )
        return ranks
    if rank <= 0:
        raise ValueError(f"`SpectralConv(rank=...)`: expected a number above 0, got {rank}")
    if isinstance(rank, int | np.integer):
        return (int(rank),) * count
    wanted, n = float(rank) * math.prod(shape), shape
    match factorization:
        case "tucker":
            share = _root(lambda c: math.prod(n) * c ** len(n) + c * sum(d * d for d in n), wanted)
            return tuple(max(1, round(d * share)) for d in n)
        case "cp":
            return (max(1, round(wanted / sum(n))),)
        case _:
            bond = _root(lambda r: r * (n[0] + n[-1]) + r * r * sum(n[1:-1]), wanted)
            return (max(1, round(bond)),) * count


def _root(parameters: Any, wanted: float) -> float:
    high = 1.0
    while parameters(high) < wanted:
        high *= 2
    return float(brentq(lambda c: parameters(c) - wanted, 0.0, high))  # pyright: ignore


def as_complex(parts: Float[Array, "parts *shape"]) -> Array:
    """The complex numbers whose real and imaginary parts are `parts[0]`, `parts[1]`."""
    if jnp.finfo(parts.dtype).bits < 32:
        parts = parts.astype(jnp.float32)
    return parts[0] if parts.shape[0] == 1 else lax.complex(parts[0], parts[1])


def as_parts(array: Array, parts: int, dtype: Any) -> Float[Array, "parts *shape"]:
    """The inverse of `as_complex`."""
    both = [array.real, array.imag] if parts == 2 else [array.real]
    return jnp.stack(both).astype(dtype)


def _layout(whole: Array, like: Array) -> Array:
    """`(in, out, *modes)`, complex, as it is applied."""
    return _layout_of_parts(as_parts(whole, like.shape[0], like.dtype))


def _layout_of_parts(parts: Array) -> Array:
    """`(parts, in, out, *modes)` as `(*modes, parts, out, in)`."""
    return jnp.moveaxis(parts, (0, 1, 2), (-3, -1, -2))


def _dot(a: Array, b: Array, axis_a: int, axis_b: int) -> Array:
    dimensions = (((axis_a,), (axis_b,)), ((), ()))
    return lax.dot_general(a, b, dimensions, precision=lax.Precision.HIGHEST)
