"""Many functions of a family, made once and kept on disk."""

import dataclasses
import hashlib
import json
import os
import warnings
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from tqdm import tqdm

from ._abstract import AbstractFamily, Sample, check_count
from ._cache import read_chunk, read_manifest, sweep, user_folder, write_chunk, write_manifest

# To be raised when the functions that the same settings and seed give are no longer the same.
FORMAT = 1
CHUNK = 50


def make_dataset(
    family: AbstractFamily,
    functions: int,
    *,
    seed: int = 0,
    folder: str | os.PathLike[str] | None = None,
    progress: bool = True,
) -> Sample:
    """The first `functions` functions of a family, stacked: read from disk, or made and kept there.

    Function `i` is `family.draw` of `jax.random.fold_in(jax.random.key(seed), i)`: more functions
    leave the first ones as they are. They are made and written in chunks of 50, each of which is
    whole or not there; a call that was killed, or that asks for more, makes only what is missing,
    and gives the same numbers (on one kind of device) as one that was not.

    **Arguments:**

    - `family`: its settings, the seed, the dtype and the version of the format name the folder.
    - `functions`: how many; training and test functions are usually parts of one dataset.
    - `folder`: where datasets are kept; by default the environment variable `JAXSCI_CACHE`, or
        `jaxsci` in the user's cache folder (`~/.cache` or `XDG_CACHE_HOME` on Linux,
        `~/Library/Caches` on macOS, `%LOCALAPPDATA%` on Windows).
    - `progress`: show a bar while functions are made.

    **Returns:** a [`jaxsci.equations.families.Sample`][] with a leading axis of `functions`.

    **Warns:** `UserWarning` if a chunk on disk is not what was written (its SHA-256 differs); it is
    made again.

    **Raises:** `TypeError` for what is no family, `ValueError` for an impossible number or if the
    folder belongs to something else, `OSError` if it cannot be written, `FloatingPointError` if a
    function has values that are not finite (a solver's settings are not stable).

    !!! example
        >>> import tempfile
        >>> from jaxsci.equations.families import StokesSecond, make_dataset
        >>> family = StokesSecond(points=32, steps=4)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     data = make_dataset(family, 60, folder=folder, progress=False)
        >>> data.outputs.shape
        (60, 1, 4, 32)
    """
    if not isinstance(family, AbstractFamily):
        raise TypeError(
            "`make_dataset(family=...)`: expected a family such as `StokesSecond()`, got "
            f"{family!r}"
        )
    check_count("make_dataset", "functions", functions, 1)
    check_count("make_dataset", "seed", seed, 0)
    described = describe(family, seed)
    place = dataset_folder(family, seed=seed, folder=folder)
    place.mkdir(parents=True, exist_ok=True)
    sums = read_manifest(place, described)
    names = [f"chunk-{i:05d}.npz" for i in range(-(-functions // CHUNK))]
    chunks = {}
    for name in names:
        if name in sums and (found := read_chunk(place / name, sums[name])) is not None:
            chunks[name] = found
        elif name in sums:
            warnings.warn(
                f"{place / name} is damaged or gone (its SHA-256 is not that of the manifest); "
                "it is made again",
                UserWarning,
                stacklevel=2,
            )
    sweep(place)
    missing = [i for i, name in enumerate(names) if name not in chunks]
    bar = tqdm(missing, desc=family.name, unit="chunk", disable=not progress or not missing)
    for i in bar:
        made = _chunk(family, jax.random.key(seed), jnp.arange(CHUNK * i, CHUNK * (i + 1)))
        arrays = _arrays(made)
        for part, array in arrays.items():
            if not np.isfinite(array).all():
                raise FloatingPointError(
                    f"`make_dataset({family!r})`: {part} of functions {CHUNK * i} to "
                    f"{CHUNK * (i + 1) - 1} has values that are not finite"
                )
        sums[names[i]] = write_chunk(place / names[i], arrays)
        # Another process may have written some meanwhile: the same bytes, so the same sums.
        sums = read_manifest(place, described) | sums
        write_manifest(place, described, sums)
        chunks[names[i]] = arrays
    return _sample({n: _joined([chunks[c][n] for c in names], functions) for n in chunks[names[0]]})


def dataset_folder(
    family: AbstractFamily, *, seed: int = 0, folder: str | os.PathLike[str] | None = None
) -> Path:
    """Where [`jaxsci.equations.families.make_dataset`][] keeps the functions of a family."""
    described = json.dumps(describe(family, seed), sort_keys=True)
    digest = hashlib.sha256(described.encode()).hexdigest()[:16]
    base = user_folder() if folder is None else Path(folder).expanduser()
    return base / "families" / f"{family.name}-{digest}"


def describe(family: AbstractFamily, seed: int) -> dict[str, Any]:
    """What decides the numbers of a dataset, as JSON has it."""
    settings = {f.name: getattr(family, f.name) for f in dataclasses.fields(family)}
    described = {
        "format": FORMAT,
        "family": family.name,
        "settings": settings,
        "seed": seed,
        "dtype": jnp.result_type(float).name,
    }
    return json.loads(json.dumps(described))


@eqx.filter_jit
def _chunk(family: AbstractFamily, key: Array, indices: Array) -> Sample:
    return jax.vmap(lambda i: family.draw(jax.random.fold_in(key, i)))(indices)


def _arrays(sample: Sample) -> dict[str, np.ndarray]:
    arrays = {n: getattr(sample, n) for n in ("inputs", "outputs", "parameters")}
    arrays |= {f"values-{axis}-{side}": v for (axis, side), v in sample.values.items()}
    return {name: np.asarray(array) for name, array in arrays.items()}


def _joined(parts: list[np.ndarray], functions: int) -> np.ndarray:
    if len(parts) == 1:
        return parts[0][:functions]
    joined = np.empty((functions, *parts[0].shape[1:]), parts[0].dtype)
    for i, part in enumerate(parts):
        rest = joined[CHUNK * i : CHUNK * (i + 1)]
        rest[...] = part[: len(rest)]
    return joined


def _sample(arrays: dict[str, np.ndarray]) -> Sample:
    values = {}
    for name in arrays:
        if name.startswith("values-"):
            _, axis, side = name.split("-")
            values[axis, side] = jnp.asarray(arrays[name])
    return Sample(
        jnp.asarray(arrays["inputs"]),
        jnp.asarray(arrays["outputs"]),
        values,
        jnp.asarray(arrays["parameters"]),
    )
