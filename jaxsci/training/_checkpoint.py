"""The checkpoint: one file that holds a whole run, and the comparison of two runs' settings.

Layout: a line that names the format, a line with the SHA-256 of all that follows, a line of JSON
(settings, progress, history), then the array leaves of (best model, last model, optimiser state)
as `equinox.tree_serialise_leaves` writes them. The best model comes first so that it can be read
without knowing the optimiser.
"""

import hashlib
import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from jaxsci.checkpoints import write_atomically

NAME = "checkpoint.eqx"
_FORMAT = b"jaxsci training checkpoint 1"


def save(
    folder: Path,
    about: Mapping[str, Any],
    best: PyTree | None,
    params: PyTree,
    opt_state: PyTree,
) -> None:
    """Write the checkpoint of a run; `about` is JSON, the rest are pytrees of arrays."""
    body = io.BytesIO()
    body.write(json.dumps({**about, "has_best": best is not None}).encode() + b"\n")
    eqx.tree_serialise_leaves(body, _without_keys((best, params, opt_state)))
    content = body.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    write_atomically(folder / NAME, b"\n".join([_FORMAT, digest, content]))


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
    about, leaves = _open(path, "fit(checkpoint=...)")
    found = differences(about["settings"], settings)
    if found:
        more = f" (and {len(found) - 4} more differences)" if len(found) > 4 else ""
        raise ValueError(
            f"`fit(checkpoint={str(folder)!r})`: the checkpoint there is of another run: "
            f"{'; '.join(found[:4])}{more}; repeat those settings to resume it, or choose "
            "another folder"
        )
    like = (params if about["has_best"] else None, params, opt_state)
    return about, *_restore(leaves, like)


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
    about, leaves = _open(path, "load_model(folder=...)")
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
    return eqx.combine(_restore(leaves, params), rest)


def signature(tree: PyTree) -> dict[str, str]:
    """The path, dtype and shape of each leaf, e.g. `{".layers[0].bias": "float32[3]"}`."""
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def digest(tree: PyTree) -> str:
    """A short hash of the bytes of all array leaves."""
    hashed = hashlib.blake2b(digest_size=16)
    for leaf in jax.tree.leaves(_without_keys(eqx.filter(tree, eqx.is_array))):
        hashed.update(np.ascontiguousarray(leaf).view(np.uint8).tobytes())
    return hashed.hexdigest()


def differences(saved: Any, current: Any, name: str = "") -> list[str]:
    """One clause for each setting in which two runs differ."""
    if isinstance(saved, Mapping) and isinstance(current, Mapping):
        found = []
        for key in [*saved, *(key for key in current if key not in saved)]:
            # leaf paths start with "." or "[" themselves
            inner = f"{name}{'' if not name or key[:1] in '.[' else '.'}{key}"
            found += differences(saved.get(key), current.get(key), inner)
        return found
    return [] if saved == current else [f"{name} was {_say(saved)}, is {_say(current)}"]


def _say(value: Any) -> str:
    return "absent" if value is None else str(value)


def _open(path: Path, where: str) -> tuple[dict[str, Any], io.BytesIO]:
    """The JSON part and the leaves of a checkpoint whose checksum agrees."""
    kind, _, rest = path.read_bytes().partition(b"\n")
    if kind != _FORMAT:
        raise ValueError(
            f"`{where}`: expected {str(path)!r} to be a checkpoint ({_FORMAT.decode()!r}), "
            f"got a file that starts with {kind[:40]!r}; choose another folder"
        )
    checksum, _, content = rest.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise ValueError(
            f"`{where}`: {str(path)!r} is damaged (its checksum does not agree); "
            "restore it from a copy, or delete it to start over"
        )
    about, _, leaves = content.partition(b"\n")
    return json.loads(about), io.BytesIO(leaves)


def _restore(leaves: io.BytesIO, like: PyTree) -> PyTree:
    """The arrays in `leaves`, each where its counterpart in `like` lives."""
    plain = eqx.tree_deserialise_leaves(leaves, _without_keys(like))

    def dress(new, old):
        if _is_key(old):
            return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old))
        return jax.device_put(new, old.sharding) if isinstance(old, jax.Array) else new

    return jax.tree.map(dress, plain, like)


def _is_key(leaf: Any) -> bool:
    return eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _without_keys(tree: PyTree) -> PyTree:
    """`tree` with random keys replaced by their data, which files and hashes understand."""
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)
