"""Arrays on disk in checked chunks: a folder is whole, or it says what is missing."""

import hashlib
import io
import json
import os
import sys
import time
import uuid
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "manifest.json"


def user_folder() -> Path:
    """`JAXSCI_CACHE` where it is set, else `jaxsci` in the platform's folder for caches."""
    if given := os.environ.get("JAXSCI_CACHE"):
        return Path(given).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "jaxsci"


def read_manifest(folder: Path, settings: dict[str, Any]) -> dict[str, str]:
    """The SHA-256 of each chunk of the folder, by file name; none if nothing was written yet.

    **Raises:** `ValueError` if the folder holds something else.
    """
    path = folder / MANIFEST
    if not path.exists():
        return {}
    try:
        content = json.loads(path.read_text())
        found, sums = content["settings"], dict(content["sha256"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"`make_dataset(...)`: {path} is not readable ({error}); delete the folder"
        ) from None
    if found != settings:
        raise ValueError(
            f"`make_dataset(...)`: {path} belongs to other settings, {found}; delete the folder"
        )
    return sums


def write_manifest(folder: Path, settings: dict[str, Any], sums: dict[str, str]) -> None:
    """Replaces the manifest."""
    content = {"settings": settings, "sha256": dict(sorted(sums.items()))}
    replace(folder / MANIFEST, json.dumps(content, indent=1).encode())


def write_chunk(path: Path, arrays: dict[str, np.ndarray]) -> str:
    """Writes a NumPy archive and returns its SHA-256; the same arrays give the same bytes.

    An array that is the same all along an axis but the first is written once along it.
    """
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, array in arrays.items():
            # A fixed date, so that two processes that write the same chunk write the same file.
            with archive.open(zipfile.ZipInfo(f"{name}.npy"), "w", force_zip64=True) as member:
                np.lib.format.write_array(member, _once(array), allow_pickle=False)
            shape = np.asarray(array.shape)
            with archive.open(zipfile.ZipInfo(f"shape/{name}.npy"), "w") as member:
                np.lib.format.write_array(member, shape, allow_pickle=False)
    content = buffer.getvalue()
    replace(path, content)
    return hashlib.sha256(content).hexdigest()


def read_chunk(path: Path, checksum: str) -> dict[str, np.ndarray] | None:
    """The arrays of a chunk; `None` if the file is not what was written."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(content).hexdigest() != checksum:
        return None
    with np.load(io.BytesIO(content), allow_pickle=False) as archive:
        names = [name for name in archive.files if not name.startswith("shape/")]
        return {
            name: np.broadcast_to(archive[name], tuple(archive[f"shape/{name}"])) for name in names
        }


def replace(path: Path, content: bytes) -> None:
    """Writes a file that is the old one or the new one, whole, whenever the process dies."""
    part = path.with_name(f"{path.name}.{uuid.uuid4().hex}.part")
    try:
        with open(part, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def sweep(folder: Path, *, older: float = 3600.0) -> None:
    """Removes what processes that were killed while writing have left, `older` seconds ago."""
    for part in folder.glob("*.part"):
        try:
            if time.time() - part.stat().st_mtime > older:
                part.unlink()
        except FileNotFoundError:  # another process swept, or its file is complete
            continue


def _once(array: np.ndarray) -> np.ndarray:
    for axis in range(1, array.ndim):
        first = array.take([0], axis)
        if array.shape[axis] > 1 and np.array_equal(
            array, np.broadcast_to(first, array.shape), equal_nan=True
        ):
            array = first
    return np.ascontiguousarray(array)
