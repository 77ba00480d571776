"""One run at a time in a folder."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows: no advisory locks, so two runs in one folder go unnoticed there
    fcntl = None


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
