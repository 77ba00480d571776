"""Files that are either the old one or the new one, whenever the process dies."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no advisory locks, so two runs in one folder go unnoticed there
    fcntl = None


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


@contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold `folder` for this run alone; a process that ends or is killed lets go of it.

    **Raises:** `RuntimeError` if another run holds the folder.
    """
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise RuntimeError(
                f"`fit(checkpoint={str(folder)!r})`: another run is writing to this folder; "
                "wait for it or give this run a folder of its own"
            ) from None
        yield
    finally:
        os.close(handle)
