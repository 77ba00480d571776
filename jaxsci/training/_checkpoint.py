"""The checkpoint: one file that holds a whole run, and the comparison of two runs' settings.

As [`jaxsci.checkpoints.write_file`][] has it: settings, progress and history as JSON, then the
array leaves of (best model, last model, optimiser state). The best model comes first so that it
can be read without knowing the optimiser.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import PyTree

from jaxsci.checkpoints import (
    differences,
    read_file,
    restore,
    signature,
    without_keys,
    write_file,
)

NAME = "checkpoint.eqx"
_KIND = "jaxsci training checkpoint 1"


def save(
    folder: Path,
    about: Mapping[str, Any],
    best: PyTree | None,
    params: PyTree,
    opt_state: PyTree,
) -> None:
    """Write the checkpoint of a run; `about` is JSON, the rest are pytrees of arrays."""
    about = {**about, "has_best": best is not None}
    write_file(folder / NAME, _KIND, about, (best, params, opt_state))


def load(folder: Path, settings: Mapping[str, Any], params: PyTree, opt_state: PyTree):
    """Read what `save` wrote: `(about, best, params, opt_state)`, or None if there is nothing.

    **Arguments:**

    - `settings`: this run's; must equal `about["settings"]` of the checkpoint.
    - `params`, `opt_state`: structure, shapes, dtypes and devices to restore into.

    **Raises:** `ValueError` if the file is damaged, or made with other settings.
    """
    path = folder / NAME
    if not path.exists():
        return None
    about, leaves = read_file(path, _KIND, "fit(checkpoint=...)")
    found = differences(about["settings"], settings)
    if found:
        more = f" (and {len(found) - 4} more differences)" if len(found) > 4 else ""
        raise ValueError(
            f"`fit(checkpoint={str(folder)!r})`: the checkpoint there is of another run: "
            f"{'; '.join(found[:4])}{more}; repeat those settings to resume it, or choose "
            "another folder"
        )
    like = (params if about["has_best"] else None, params, opt_state)
    return about, *restore(leaves, like)


def load_model(folder: str | Path, like: PyTree) -> PyTree:
    """The best model of a run, finished or not, from the folder given to `fit(checkpoint=...)`.

    It is the model at the smallest validation loss so far; where there is no validation (or none
    yet), the model at the last checkpoint.

    **Arguments:**

    - `folder`: the run's folder.
    - `like`: a model of the same structure, shapes and dtypes, such as the one that was passed to
        `fit`; what training does not change is taken from it.

    **Returns:** a model with the structure of `like`.

    **Raises:** `ValueError` if there is no checkpoint, if it is damaged, or if `like` has another
    structure.
    """
    path = Path(folder) / NAME
    if not path.exists():
        raise ValueError(f"`load_model(folder={str(folder)!r})`: expected {NAME} there, got none")
    about, leaves = read_file(path, _KIND, "load_model(folder=...)")
    saved = about["settings"]["model"]
    named = jax.tree_util.tree_flatten_with_path(like)[0]
    trained = [jax.tree_util.keystr(key) in saved for key, _ in named]
    params, rest = eqx.partition(like, jax.tree.unflatten(jax.tree.structure(like), trained))
    found = differences({"model": saved}, {"model": signature(params)})
    if found:
        raise ValueError(
            f"`load_model(like=...)`: expected the model that was trained in {str(folder)!r}, "
            f"but {'; '.join(found[:4])}; build `like` with the same sizes and dtypes"
        )
    return eqx.combine(restore(leaves, params), rest)


def digest(tree: PyTree) -> str:
    """A short hash of the bytes of all array leaves."""
    hashed = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(without_keys(eqx.filter(tree, eqx.is_array))):
        hashed.update(np.ascontiguousarray(leaf).view(np.uint8).tobytes())
    return hashed.hexdigest()
