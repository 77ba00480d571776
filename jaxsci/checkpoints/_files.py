"""One file: a line that names its kind, a checksum, a line of JSON, arrays. Old or new, whole.

Layout: a line that names the kind of file, a line with the SHA-256 of all that follows, a line of
JSON, then array leaves as `equinox.tree_serialise_leaves` writes them.
"""

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import equinox as eqx
from jaxtyping import PyTree

from ._leaves import without_keys


def write_file(path: Path, kind: str, about: Mapping[str, Any], arrays: PyTree) -> None:
    """Writes a file of a kind, atomically; `about` is JSON.

    !!! example
        >>> import tempfile, jax.numpy as jnp
        >>> from pathlib import Path
        >>> from jaxsci.checkpoints import read_file, write_file
        >>> path = Path(tempfile.mkdtemp()) / "numbers"
        >>> write_file(path, "numbers 1", {"unit": "m"}, jnp.arange(3))
        >>> read_file(path, "numbers 1", "example(path=...)")[0]
        {'unit': 'm'}
    """
    body = io.BytesIO()
    body.write(json.dumps(about).encode() + b"\n")
    eqx.tree_serialise_leaves(body, without_keys(arrays))
    content = body.getvalue()
    digest = hashlib.sha256(content).hexdigest().encode()
    write_atomically(path, b"\n".join([kind.encode(), digest, content]))


def read_file(path: Path, kind: str, where: str) -> tuple[dict[str, Any], io.BytesIO]:
    """The JSON and the arrays, as a stream, of what [`jaxsci.checkpoints.write_file`][] wrote.

    **Raises:** `ValueError`, which starts with `where`, for a file of another kind or one that is
    damaged.
    """
    started, _, rest = path.read_bytes().partition(b"\n")
    if started != kind.encode():
        raise ValueError(
            f"`{where}`: expected {str(path)!r} to be a checkpoint ({kind!r}), got a file that "
            f"starts with {started[:40]!r}; choose another"
        )
    checksum, _, content = rest.partition(b"\n")
    if hashlib.sha256(content).hexdigest().encode() != checksum:
        raise ValueError(
            f"`{where}`: {str(path)!r} is damaged (its checksum does not agree); "
            "restore it from a copy, or delete it to start over"
        )
    about, _, leaves = content.partition(b"\n")
    return json.loads(about), io.BytesIO(leaves)


def write_atomically(path: Path, content: bytes, *, durable: bool = True) -> None:
    """Replace the file at `path` by `content`; a kill leaves the old file or the new one, whole.

    The bytes go to a neighbouring file, reach the disk, and then take over the name. Without
    `durable` they may reach the disk later, and a crash of the whole machine may lose the file.
    """
    part = path.with_name(path.name + ".part")
    with open(part, "wb") as file:
        file.write(content)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    os.replace(part, path)
    if durable:
        _sync_folder(path.parent)


def _sync_folder(folder: Path) -> None:
    """Bring a rename in `folder` to the disk (a crash of the machine, not only of the process)."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
