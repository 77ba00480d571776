"""The same in a folder of orbax, for arrays that are divided among devices."""

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from ._files import read_file, write_file
from ._leaves import dressed, without_keys

ABOUT = "about.jaxsci"
_FOLDERS = "arrays", "arrays-next"


def write_orbax(path: Path, kind: str, header: Mapping[str, Any], arrays: Sequence[Any]) -> None:
    """`path/about.jaxsci` with the description, and the arrays in the folder that it names.

    An older checkpoint stays whole until the new description takes its place, in one step.
    """
    where, before = f"save_checkpoint({str(path)!r})", None
    if (path / ABOUT).exists():
        before = arrays_of(read_file(path / ABOUT, kind, where)[0])
    folder = _FOLDERS[before == _FOLDERS[0]]
    with _orbax().StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute() / folder, _named(without_keys(list(arrays))), force=True)
    write_file(path / ABOUT, kind, {**header, "arrays": folder}, [])
    if before is not None and jax.process_index() == 0:
        shutil.rmtree(path / before, ignore_errors=True)


def arrays_of(header: Mapping[str, Any]) -> str:
    """The folder of the arrays; the first files of this kind did not say."""
    return header.get("arrays", _FOLDERS[0])


def read_orbax(folder: Path, like: Sequence[Any]) -> list[Any]:
    """The arrays, each on the devices of its counterpart."""
    plain = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
        for leaf in without_keys(list(like))
    ]
    with _orbax().StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(folder.absolute(), _named(plain))
    arrays = [found[name] for name in _named(plain)]

    return [dressed(new, old) for new, old in zip(arrays, like, strict=True)]


def _named(arrays: Sequence[Any]) -> dict[str, Any]:
    return {f"{i:05d}": array for i, array in enumerate(arrays)}


def _orbax() -> Any:
    try:
        import orbax.checkpoint
    except ImportError as error:
        raise ImportError(
            "this needs orbax, which is not installed: pip install 'jaxsci[orbax]'"
        ) from error
    return orbax.checkpoint
