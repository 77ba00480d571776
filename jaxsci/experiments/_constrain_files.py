"""Reading arrays from, and writing them to, npz and HDF5 files."""

import difflib
import os
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ._constrain_names import KNOWN

_HDF5 = (".h5", ".hdf5")
EXTENSIONS = (".npz", *_HDF5)


def read_arrays(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    """The known arrays of a file, and the names of everything in it.

    Nothing is unpickled: an array of Python objects is an error, not code to run.

    **Raises:** `OSError` if there is no such file or it may not be read; `ValueError` for an
    unknown extension, a file that is damaged or of another kind, or an array that does not hold
    real numbers; `ImportError` for HDF5 without h5py.
    """
    check_extension(path)
    if not path.is_file():
        raise FileNotFoundError(_no_such_file(path))
    arrays, names = (_read_hdf5 if path.suffix.lower() in _HDF5 else _read_npz)(path)
    for name, array in arrays.items():
        if array.dtype.kind not in "fiu":
            raise ValueError(f"{path}: `{name}`: expected real numbers, got {array.dtype}")
    return arrays, names


def write_arrays(path: Path, arrays: Mapping[str, np.ndarray], settings: str) -> None:
    """Write all arrays, and the settings as text; the file appears whole or not at all.

    In an npz file the settings are an array `settings`, in HDF5 an attribute of the root.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        if path.suffix.lower() in _HDF5:
            with _h5py().File(part, "w") as file:
                for name, array in arrays.items():
                    file.create_dataset(name, data=array)
                file.attrs["settings"] = settings
        else:
            with open(part, "wb") as file:
                np.savez(file, allow_pickle=False, settings=np.array(settings), **dict(arrays))
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def check_extension(path: Path) -> None:
    """**Raises:** `ValueError` for a file name that says neither npz nor HDF5."""
    if path.suffix.lower() not in EXTENSIONS:
        raise ValueError(
            f"{path}: unknown extension {path.suffix!r}; expected one of {', '.join(EXTENSIONS)}"
        )


def check_free(path: Path, overwrite: bool, option: str) -> None:
    """**Raises:** `OSError` if writing to `path` would fail, or replace a file unasked."""
    if path.is_dir():
        raise IsADirectoryError(f"{option} {path}: is a folder, expected a file name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{option} {path}: there is no folder {path.parent}")
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path}: exists already; use --overwrite, or another {option}")


_BROKEN = (ValueError, EOFError, zipfile.BadZipFile, zlib.error, NotImplementedError)


def _read_npz(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    with open(path, "rb") as file:  # ours to close: numpy leaves a damaged file open
        try:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array; write it with `numpy.savez`")
        except _BROKEN as error:
            why = "" if "pickle" in str(error) else f": {error}"
            raise ValueError(f"{path}: not a readable npz file{why}") from error
        names = list(archive.files)
        return {name: _member(path, archive, name) for name in names if name in KNOWN}, names


def _member(path: Path, archive: Any, name: str) -> np.ndarray:
    try:
        return archive[name]
    except _BROKEN as error:
        if "Object arrays" in str(error):
            raise ValueError(
                f"{path}: `{name}`: expected real numbers, got Python objects; save it as an "
                "array of floats (are its rows of different lengths?)"
            ) from error
        raise ValueError(f"{path}: `{name}` is damaged: {error}") from error


def _read_hdf5(path: Path) -> tuple[dict[str, np.ndarray], list[str]]:
    h5py = _h5py()
    try:
        file = h5py.File(path, "r")
    except OSError as error:
        raise ValueError(f"{path}: not a readable HDF5 file: {error}") from error
    with file:
        names: list[str] = []
        file.visititems(lambda name, item: _note(names, name, item, h5py))
        arrays = {}
        for name in names:
            if name not in KNOWN:
                continue
            dataset = file[name]
            if dataset.dtype.kind == "O":
                raise ValueError(f"{path}: `{name}`: expected real numbers, got Python objects")
            try:
                arrays[name] = np.asarray(dataset[()])
            except OSError as error:
                raise ValueError(f"{path}: `{name}` is damaged: {error}") from error
    return arrays, names


def _note(names: list[str], name: str, item: Any, h5py: Any) -> None:
    if isinstance(item, h5py.Dataset):
        names.append(name)


def _h5py() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ImportError(
            "HDF5 files need h5py; install it with: pip install 'jaxsci[hdf5]'"
        ) from error
    return h5py


def _no_such_file(path: Path) -> str:
    text = f"{path}: no such file"
    if path.is_dir():
        return f"{path}: is a folder, expected a file"
    if path.parent.is_dir():
        there = [p.name for p in path.parent.iterdir() if p.suffix.lower() in EXTENSIONS]
        close = difflib.get_close_matches(path.name, there, n=2)
        if close:
            text += f"; did you mean {' or '.join(str(path.with_name(c)) for c in close)}?"
    return text
