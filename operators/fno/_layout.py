"""The names and shapes that neuraloperator gives the parameters of an FNO."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import numpy as np

from jaxsci.operators.layers import SoftGating
from jaxsci.operators.spectral import SpectralConv

from ._fno import FNO


class Entry(NamedTuple):
    """One array of ours: the reference's name and shape of it, and how to change between them."""

    name: str
    shape: tuple[int, ...]
    complex: bool
    ours: Callable[[np.ndarray], np.ndarray]
    theirs: Callable[[np.ndarray], np.ndarray]


def entries(model: FNO) -> list[Entry]:
    """One for each array of the model, in the order of `jax.tree.leaves`; shapes are enough."""
    # Of dropout there is a rate, which is no array.
    arrays = eqx.filter(model, lambda leaf: isinstance(leaf, jax.Array | jax.ShapeDtypeStruct))
    found = []
    for path, leaf in jax.tree_util.tree_flatten_with_path(arrays)[0]:
        keys = [key.idx if hasattr(key, "idx") else key.name for key in path]
        found.append(_entry(model, keys, tuple(leaf.shape)))
    return found


def _entry(model: FNO, keys: list[Any], shape: tuple[int, ...]) -> Entry:
    dimensions = len(model.bases)
    if keys[0] != "blocks":  # lifting, projection
        return _mlp(keys[0], keys[1:], shape)
    _, block, part, *rest = keys
    owner = getattr(model.blocks[block], part)
    match part:
        case "conv" if isinstance(owner, SpectralConv):
            return _spectral(f"fno_blocks.convs.{block}", rest, shape, dimensions)
        case "mlp":
            return _mlp(f"fno_blocks.channel_mlp.{block}", rest, shape)
        case "norms":
            which, *rest = rest
            middle, rest = _parts(rest)
            return _real(f"fno_blocks.norm.{2 * block + which}{middle}.{rest[0]}", shape, shape)
        case "skip" | "mlp_skip":
            middle, rest = _parts(rest)
            owner = getattr(owner, middle[1:]) if middle else owner
            prefix = "fno_skips" if part == "skip" else "channel_mlp_skips"
            name = f"fno_blocks.{prefix}.{block}{middle}"
            if isinstance(owner, SoftGating):
                return _real(f"{name}.{rest[0]}", shape, (1, *shape, *[1] * dimensions))
            return _real(f"{name}.conv.{rest[0]}", shape, (*shape, 1))
    raise ValueError(
        f"neuraloperator has no name for `model.{part}` of block {block}, a {type(owner).__name__}"
    )


def _mlp(prefix: str, rest: list[Any], shape: tuple[int, ...]) -> Entry:
    middle, (_, index, name) = _parts(rest)  # "layers", which, "weight" or "bias"
    theirs = (*shape, 1) if name == "weight" else shape
    return _real(f"{prefix}{middle}.fcs.{index}.{name}", shape, theirs)


def _parts(rest: list[Any]) -> tuple[str, list[Any]]:
    """`.fr` or `.fi` where there is a map for each part of complex numbers."""
    return (f".{rest[0]}", rest[1:]) if rest[0] in ("fr", "fi") else ("", rest)


def _real(name: str, shape: tuple[int, ...], theirs: tuple[int, ...]) -> Entry:
    return Entry(name, theirs, False, lambda a: a.reshape(shape), lambda a: a.reshape(theirs))


def _spectral(prefix: str, rest: list[Any], shape: tuple[int, ...], dimensions: int) -> Entry:
    match rest:
        case ["bias"]:
            return _real(f"{prefix}.bias", shape, (*shape, *[1] * dimensions))
        case ["weight", "array"]:
            # Ours is (*modes, parts, out, in), theirs complex and (in, out, *modes).
            *modes, parts, o, i = shape

            def ours(a: np.ndarray) -> np.ndarray:
                return np.stack([np.real(a), np.imag(a)][:parts]).transpose(
                    *range(3, 3 + len(modes)), 0, 2, 1
                )

            def theirs(a: np.ndarray) -> np.ndarray:
                a = np.moveaxis(a, (-1, -2, -3), (0, 1, 2))
                return a[:, :, 0] + 1j * a[:, :, 1]

            return Entry(f"{prefix}.weight.tensor", (i, o, *modes), True, ours, theirs)
        case ["weight", "factors", index]:
            name = f"{prefix}.weight.factors.factor_{index}"
        case _:
            name = f"{prefix}.weight.{rest[-1]}"
    return Entry(
        name,
        shape[1:],
        True,
        lambda a: np.stack([np.real(a), np.imag(a)]),
        lambda a: a[0] + 1j * a[1],
    )
