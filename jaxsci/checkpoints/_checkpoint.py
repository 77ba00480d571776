"""A model in one file: its arrays, what it is, and which version saved it."""

import importlib.metadata
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import equinox as eqx
import jax

from ._describe import describe, flattened, rebuild
from ._files import read_file, write_file
from ._leaves import differences, restore
from ._orbax import ABOUT, arrays_of, read_orbax, write_orbax

_KIND = "jaxsci model 1"
_SHOWN = 4


def save_checkpoint(
    path: str | os.PathLike[str],
    model: Any,
    *,
    args: Sequence[Any] | None = None,
    about: Mapping[str, Any] | None = None,
    format: Literal["equinox", "orbax"] = "equinox",
) -> None:
    """Saves a model as one file, from which [`jaxsci.checkpoints.load_checkpoint`][] builds it.

    The file has, besides the arrays, what the model is, as JSON: the classes of its modules by
    their import paths with all settings, boundary conditions among them, and functions by theirs;
    the versions that saved it; a checksum. It replaces an older one whole or not at all.

    **Arguments:**

    - `path`: the file; with `"orbax"`, a folder.
    - `model`: any pytree, such as an Equinox module or a surrogate.
    - `args`: of one call of the model, of which shapes and dtypes are kept: for an export.
    - `about`: what else to keep, as JSON: the experiment, its scores.
    - `format`: `"orbax"` writes the arrays with orbax (`pip install 'jaxsci[orbax]'`), for models
        that are divided among devices.

    **Raises:** `TypeError` if `about` is no JSON; `ImportError` without orbax.

    !!! example
        >>> import jax, tempfile
        >>> from pathlib import Path
        >>> from jaxsci.checkpoints import load_checkpoint, save_checkpoint
        >>> from jaxsci.operators.fno import FNO
        >>> path = Path(tempfile.mkdtemp()) / "model.jaxsci"
        >>> save_checkpoint(path, FNO(1, 1, 6, width=8, layers=2, key=jax.random.key(0)))
        >>> load_checkpoint(path).blocks[0].conv.modes
        (6,)
        >>> load_checkpoint(path, like=FNO(1, 1, 8, width=8, layers=2, key=jax.random.key(0)))
        Traceback (most recent call last):
        ...
        ValueError: ... .blocks[0].conv.weight.array was float32[4,2,8,8], is float32[5,2,8,8]; ...
    """
    try:
        about = json.loads(json.dumps(dict(about or {})))
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"`save_checkpoint(about=...)`: expected a mapping that JSON can hold, got {about!r} "
            f"({error})"
        ) from None
    header = {
        "versions": {name: importlib.metadata.version(name) for name in ("jaxsci", "jax")},
        "model": describe(model),
        "args": None if args is None else describe(jax.tree.map(_like, tuple(args))),
        "about": about,
    }
    arrays = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    if format == "orbax":
        write_orbax(Path(path), _KIND, header, arrays)
    elif format == "equinox":
        write_file(Path(path), _KIND, header, arrays)
    else:
        raise ValueError(
            f"`save_checkpoint(format=...)`: expected 'equinox' or 'orbax', got {format!r}"
        )


def load_checkpoint(
    path: str | os.PathLike[str], like: Any = None, *, trusted: Sequence[str] = ()
) -> Any:
    """The model that [`jaxsci.checkpoints.save_checkpoint`][] saved.

    **Arguments:**

    - `path`: the file, or the folder of orbax.
    - `like`: a model that must be the same but for the numbers in its arrays: settings, shapes and
        dtypes are compared, and the numbers of laws and conditions (the fields that a class names
        in `identifying`), but not functions without a name. The result has its structure and its
        devices. Without it the model is built from what the file says.
    - `trusted`: packages besides this one, Equinox and JAX whose classes and functions the file may
        name: what it names is imported and run.

    **Raises:** `ValueError` for a file of another kind or a damaged one; where the file and `like`
    differ, with what differs; without `like`, for what a file cannot describe (a `lambda`), for
    packages that are not trusted, and fields that the installed version does not have.
    """
    where = f"load_checkpoint({os.fspath(path)!r})"
    header, stored = _read(Path(path), where)
    versions = header["versions"].get("jaxsci"), importlib.metadata.version("jaxsci")
    also = "" if versions[0] == versions[1] else f" (saved by jaxsci {versions[0]})"
    if like is None:
        try:
            like = rebuild(header["model"], where, tuple(trusted))
        except ValueError as error:
            raise ValueError(f"{error}{also}") from None
        arrays, rest = eqx.partition(like, _is_placeholder)
    else:
        saved, current = flattened(header["model"]), flattened(describe(like))
        found = differences(saved, current)
        if found:
            more = f" (and {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
            raise ValueError(
                f"`{where}`: the file is of another model than `like`: "
                f"{'; '.join(found[:_SHOWN])}{more}; build `like` in the same way, or leave it out"
                f"{also}"
            )
        arrays, rest = eqx.partition(like, eqx.is_array)
    leaves, structure = jax.tree.flatten(arrays)
    restored = (
        restore(stored, leaves) if not isinstance(stored, Path) else read_orbax(stored, leaves)
    )
    return eqx.combine(jax.tree.unflatten(structure, restored), rest)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a checkpoint says of itself, without its arrays.

    **Returns:** `versions`; `settings`, of the model by path; `args`, the
    `jax.ShapeDtypeStruct`s of one call, or `None`; `about`, what the one who saved it added.

    **Raises:** `ValueError` for a file of another kind or a damaged one.
    """
    where = f"read_checkpoint({os.fspath(path)!r})"
    header, _ = _read(Path(path), where)
    args = None if header["args"] is None else rebuild(header["args"], where)
    return {
        "versions": header["versions"],
        "settings": flattened(header["model"]),
        "args": args,
        "about": header["about"],
    }


def _read(path: Path, where: str) -> tuple[dict[str, Any], Any]:
    if not path.exists():
        raise ValueError(f"`{where}`: there is no such file")
    if path.is_dir():
        if not (path / ABOUT).exists():
            raise ValueError(
                f"`{where}`: expected a file, or a folder with {ABOUT}, got a folder without it"
            )
        header, _ = read_file(path / ABOUT, _KIND, where)
        return header, path / arrays_of(header)
    return read_file(path, _KIND, where)


def _like(leaf: Any) -> Any:
    return jax.ShapeDtypeStruct(jax.numpy.shape(leaf), jax.dtypes.result_type(leaf))


def _is_placeholder(leaf: Any) -> bool:
    return isinstance(leaf, jax.ShapeDtypeStruct) or eqx.is_array(leaf)
