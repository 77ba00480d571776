"""Files that are either the old one or the new one, whenever the process dies."""

import os
from pathlib import Path


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
