"""Reading and writing the published layout of the attentive neural process's weights."""

import os
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._anp import AttentiveNeuralProcess

# Fields of our modules that the published layout calls by another name.
_FIELDS = {
    "key": "encoder_key",
    "value": "encoder_value",
    "query": "encoder_query",
    "normalise": "layer_norm",
    "penultimate": "penultimate_layer",
    "mean": "mu",
    "log_variance": "log_sigma",
    "hidden": "linears",
}
_NOT_LINEAR = ("layer_norm",)


def load_anp_weights(
    source: str | os.PathLike[str] | Mapping[str, Any],
    *,
    like: AttentiveNeuralProcess | None = None,
    inference: bool = True,
) -> AttentiveNeuralProcess:
    """An attentive neural process with the weights of a file in the published layout.

    The layout is that of a state dict: 66 arrays named as `decoder.linears.0.linear_layer.weight`,
    where the `weight` of an affine map has shape `(out, in)`.

    **Arguments:**

    - `source`: path of an `.npz` file, or a mapping from names to arrays.
    - `like`: a model of the same sizes, whose settings and dtype are kept; by default the
        published sizes (width 128, 4 heads, two coordinates) and the dtype of the arrays.
    - `inference`: of the model returned; by default dropout is off.

    **Raises:** `ValueError` that names every array that is missing, unexpected, of another shape,
    or not finite; `TypeError` if one is not real floating.

    !!! example
        >>> import jax
        >>> from jaxsci.surrogates import anp_weights, load_anp_weights, AttentiveNeuralProcess
        >>> model = AttentiveNeuralProcess(key=jax.random.key(0))
        >>> weights = anp_weights(model)
        >>> len(weights), weights["decoder.final_projection.linear_layer.weight"].shape
        (66, (2, 384))
        >>> copy = load_anp_weights(weights)
    """
    if isinstance(source, Mapping):
        arrays, origin = {str(k): np.asarray(v) for k, v in source.items()}, "source"
    else:
        with np.load(source, allow_pickle=False) as file:
            arrays, origin = {k: file[k] for k in file.files}, os.fspath(source)
    dtype = None if like is None else like.dtype
    published = eqx.filter_eval_shape(AttentiveNeuralProcess, key=jax.random.key(0))
    names, leaves, rebuild = _named(published if like is None else like)
    _check(arrays, dict(zip(names, leaves, strict=True)), origin)
    loaded = [jnp.asarray(arrays[name], dtype) for name in names]
    model = rebuild(loaded)
    return eqx.tree_at(lambda m: m.inference, model, inference)


def anp_weights(model: AttentiveNeuralProcess) -> dict[str, Array]:
    """The weights of a model under their published names; what `load_anp_weights` reads."""
    names, leaves, _ = _named(model)
    return dict(zip(names, leaves, strict=True))


def save_anp_weights(path: str | os.PathLike[str], model: AttentiveNeuralProcess) -> None:
    """Writes the weights in the published layout, as an `.npz` file at exactly `path`.

    An existing file is replaced. Read it back with [`jaxsci.surrogates.load_anp_weights`][].
    """
    arrays = {name: np.asarray(array) for name, array in anp_weights(model).items()}
    with open(path, "wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def _named(model: AttentiveNeuralProcess) -> Any:
    """Published names and arrays of a model, and how to make a model of other arrays."""
    arrays, rest = eqx.partition(model, lambda leaf: not isinstance(leaf, bool))
    paths, structure = jax.tree_util.tree_flatten_with_path(arrays)
    names = [_name(path) for path, _ in paths]

    def rebuild(leaves: list[Array]) -> AttentiveNeuralProcess:
        return eqx.combine(jax.tree.unflatten(structure, leaves), rest)

    return names, [leaf for _, leaf in paths], rebuild


def _name(path: tuple[Any, ...]) -> str:
    parts = [
        str(entry.idx) if isinstance(entry, jax.tree_util.SequenceKey) else entry.name
        for entry in path
    ]
    *modules, array = (_FIELDS.get(part, part) for part in parts)
    if modules[-1] == "output":
        modules[-1] = "final_projection" if modules[0] == "decoder" else "final_linear"
    if modules[-1] not in _NOT_LINEAR:
        modules.append("linear_layer")
    return ".".join([*modules, array])


def _check(arrays: dict[str, np.ndarray], expected: dict[str, Any], origin: str) -> None:
    where = f"`load_anp_weights({origin!r})`" if origin != "source" else "`load_anp_weights`"
    problems = [f"missing array {name!r}" for name in expected if name not in arrays]
    problems += [f"unexpected array {name!r}" for name in arrays if name not in expected]
    for name, leaf in expected.items():
        if name not in arrays:
            continue
        array = arrays[name]
        if array.shape != tuple(leaf.shape):
            problems.append(f"{name!r} has shape {array.shape}, expected {tuple(leaf.shape)}")
        elif not np.issubdtype(array.dtype, np.floating):
            raise TypeError(f"{where}: {name!r} is {array.dtype}, expected real floats")
        elif not np.isfinite(array).all():
            index = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
            problems.append(f"{name!r} is {array[index]} at index {index}")
    if problems:
        count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
        raise ValueError(
            f"{where}: {count}: {'; '.join(problems)}. For other sizes than width 128, 4 heads and "
            "2 coordinates pass `like=AttentiveNeuralProcess(...)`"
        )
