"""The same in a folder of orbax, for arrays that are divided among devices."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from ._files import write_file
from ._leaves import dressed, without_keys

ABOUT, _ARRAYS = "about.jaxsci", "arrays"


def write_orbax(path: Path, header: Mapping[str, Any], arrays: Sequence[Any]) -> None:
    """`path/about.jaxsci` with the description, `path/arrays` with the arrays."""
    with _orbax().StandardCheckpointer() as checkpointer:
        checkpointer.save(path.absolute() / _ARRAYS, _named(without_keys(list(arrays))), force=True)
    write_file(path / ABOUT, "jaxsci model 1", header, [])


def read_orbax(path: Path, like: Sequence[Any]) -> list[Any]:
    """The arrays, each on the devices of its counterpart."""
    plain = [
        jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
        for leaf in without_keys(list(like))
    ]
    with _orbax().StandardCheckpointer() as checkpointer:
        found = checkpointer.restore(path.absolute() / _ARRAYS, _named(plain))
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
