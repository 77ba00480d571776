"""Bundle adjustment problems from files: BAL's text, libmv's binary tracks."""

import bz2
import os
from pathlib import Path
from typing import Any

import numpy as np

from . import _lie
from ._bundle import Bundle
from ._g2o_lines import show
from ._lie import Doubles


def read_bal(path: str | os.PathLike[str]) -> Bundle:
    """A problem of *Bundle Adjustment in the Large*: free focal length and distortion per camera.

    ```
    cameras points observations
    camera point x y                (one line per observation, pixels)
    9 numbers per camera:           Rodrigues vector, translation, f, k1, k2
    3 numbers per point
    ```

    **Arguments:**

    - `path`: the file; one that ends in `.bz2` is decompressed.

    **Returns:** a [`jaxsci.solvers.slam.Bundle`][] with `intrinsics` of shape (C, 3).

    **Raises:** `ValueError` naming the line that is at fault, its number and text; `OSError` if
    the file cannot be opened or decompressed.

    Reference: Agarwal, Snavely, Seitz, Szeliski, *Bundle Adjustment in the Large*, ECCV 2010.
    """
    name = Path(path).name
    with open(path, "rb") as file:
        data = file.read()
    if name.endswith(".bz2"):
        data = bz2.decompress(data)
    lines = data.split(b"\n")
    c, p, o = (int(x) for x in _numbers(name, lines, 0, 3, whole=3))
    if min(c, p, o) < 1 or len(lines) < 1 + o:
        raise ValueError(
            f"{name}: line 1: expected as many cameras, points and observations as the file has, "
            f"got {show(lines[0].strip())!r} and {len(lines)} lines"
        )
    seen = np.array([_numbers(name, lines, k, 4, whole=2) for k in range(1, o + 1)])
    index = seen[:, :2].astype(np.int64)
    outside = ((index < 0) | (index >= np.array([c, p]))).any(axis=1)
    if outside.any():
        line = 1 + int(outside.argmax())
        raise ValueError(
            f"{name}: line {line + 1}: expected a camera below {c} and a point below {p}: "
            f"{show(lines[line].strip())!r}"
        )
    rest: list[Any] = []
    for number in range(o + 1, len(lines)):
        if lines[number].strip():
            rest.extend(_numbers(name, lines, number, None))
    if len(rest) != 9 * c + 3 * p:
        raise ValueError(
            f"{name}: expected {9 * c + 3 * p} numbers after the observations, 9 per camera and 3 "
            f"per point, got {len(rest)}"
        )
    cameras = np.array(rest[: 9 * c]).reshape(c, 9)
    return Bundle(
        cameras=_lie_from_rodrigues(cameras[:, :3], cameras[:, 3:6]),
        intrinsics=cameras[:, 6:],
        points=np.array(rest[9 * c :]).reshape(p, 3),
        camera_index=index[:, 0],
        point_index=index[:, 1],
        pixels=seen[:, 2:],
    )


def write_bal(path: str | os.PathLike[str], bundle: Bundle) -> None:
    """Write a bundle of BAL cameras so that [`jaxsci.solvers.slam.read_bal`][] gives it back.

    **Raises:** `ValueError` if the intrinsics are shared: the format has none such.
    """
    if bundle.intrinsics.ndim != 2:
        raise ValueError(
            "`write_bal(path, bundle)`: expected intrinsics (C, 3), got (8,); the format has a "
            "focal length and two distortions for each camera"
        )
    turn = _lie.log(bundle.cameras)[:, 3:]
    cameras = np.concatenate([turn, bundle.cameras[:, 4:], bundle.intrinsics], axis=1)
    with open(path, "w", encoding="ascii", newline="\n") as file:
        file.write(f"{len(cameras)} {len(bundle.points)} {len(bundle.pixels)}\n")
        rows = zip(bundle.camera_index, bundle.point_index, bundle.pixels.tolist(), strict=True)
        file.writelines(f"{i} {k} {x!r} {y!r}\n" for i, k, (x, y) in rows)
        numbers = [*cameras.ravel().tolist(), *bundle.points.ravel().tolist()]
        file.writelines(f"{x!r}\n" for x in numbers)


def read_libmv(path: str | os.PathLike[str]) -> Bundle:
    """Camera tracks in libmv's binary format: one camera with fixed intrinsics, many frames.

    Byte 0 is `v` for little-endian and `V` for big-endian, byte 1 `P` for pixels. Then float32
    `f, cx, cy, k1, k2, k3, p1, p2`; the number of cameras, each an image number, a rotation by
    columns and a translation; the number of points, each a track number and a position; the
    number of markers, each an image, a track, x and y.

    **Arguments:**

    - `path`: the file.

    **Returns:** a [`jaxsci.solvers.slam.Bundle`][] with `intrinsics` of shape (8,), cameras sorted
    by image, points by track. `skipped` counts the markers of absent cameras or points.

    **Raises:** `ValueError` naming what the file does not hold; `OSError` if it cannot be opened.
    """
    name = Path(path).name
    with open(path, "rb") as file:
        data = file.read()
    order = {b"v": "<", b"V": ">"}.get(data[:1])
    if order is None or data[1:2] != b"P":
        raise ValueError(
            f"{name}: expected a libmv problem in pixels, which starts with 'vP' or 'VP', got "
            f"{show(data[:2])!r}"
        )
    whole, real = np.dtype(f"{order}i4"), np.dtype(f"{order}f4")
    layouts = {
        "cameras": [("id", whole), ("turn", real, 9), ("move", real, 3)],
        "points": [("id", whole), ("at", real, 3)],
        "markers": [("image", whole), ("track", whole), ("at", real, 2)],
    }
    if len(data) < 34:
        raise ValueError(f"{name}: ends within the intrinsics")
    intrinsics = np.frombuffer(data, real, 8, 2)
    at, found = 34, {}
    for kind, layout in layouts.items():
        dtype = np.dtype(layout)
        if len(data) < at + 4:
            raise ValueError(f"{name}: ends before the number of {kind}, at byte {at}")
        count = int(np.frombuffer(data, whole, 1, at)[0])
        if count < 0 or at + 4 + count * dtype.itemsize > len(data):
            raise ValueError(
                f"{name}: byte {at}: {count} {kind} need {count * dtype.itemsize} bytes, got "
                f"{len(data) - at - 4}"
            )
        found[kind] = np.frombuffer(data, dtype, count, at + 4)
        at += 4 + count * dtype.itemsize
    if at != len(data):
        raise ValueError(f"{name}: expected the end of the file at byte {at}, got {len(data)}")
    return _from_tracks(name, intrinsics, found["cameras"], found["points"], found["markers"])


def _from_tracks(
    name: str, intrinsics: np.ndarray, cameras: np.ndarray, points: np.ndarray, markers: np.ndarray
) -> Bundle:
    for kind, rows in (("camera", cameras), ("point", points)):
        if len(np.unique(rows["id"])) != len(rows):
            raise ValueError(f"{name}: a {kind} is given twice")
    for kind, array in (
        ("intrinsics", intrinsics),
        ("a camera", cameras["turn"]),
        ("a camera", cameras["move"]),
        ("a point", points["at"]),
        ("a marker", markers["at"]),
    ):
        if not np.isfinite(array).all():
            raise ValueError(f"{name}: {kind} holds a number that is not finite")
    cameras, points = np.sort(cameras, order="id"), np.sort(points, order="id")
    turn = cameras["turn"].astype(np.float64).reshape(-1, 3, 3).transpose(0, 2, 1)
    off = np.abs(turn @ turn.transpose(0, 2, 1) - np.eye(3)).max(initial=0)
    if off > 1e-3 or (np.linalg.det(turn) < 0).any():
        raise ValueError(f"{name}: a camera's matrix is not a rotation")
    known = np.isin(markers["image"], cameras["id"]) & np.isin(markers["track"], points["id"])
    used = markers[known]
    return Bundle(
        cameras=_lie.from_matrix(turn, cameras["move"].astype(np.float64)),
        intrinsics=intrinsics.astype(np.float64),
        points=points["at"].astype(np.float64),
        camera_index=np.searchsorted(cameras["id"], used["image"]),
        point_index=np.searchsorted(points["id"], used["track"]),
        pixels=used["at"].astype(np.float64),
        camera_ids=cameras["id"],
        point_ids=points["id"],
        skipped=int((~known).sum()),
    )


def _lie_from_rodrigues(omega: Doubles, translation: Doubles) -> Doubles:
    turned = _lie.exp(np.concatenate([np.zeros_like(omega), omega], axis=1))
    return np.concatenate([turned[:, :4], translation], axis=1)


def _numbers(
    name: str, lines: list[bytes], at: int, count: int | None, whole: int = 0
) -> list[Any]:
    """The numbers of a line, the first `whole` of which must be whole."""
    tokens = lines[at].split()
    try:
        if count is not None and len(tokens) != count:
            raise ValueError
        values = [int(t) if k < whole else float(t) for k, t in enumerate(tokens)]
        if b"_" in lines[at] or not np.isfinite(values).all():
            raise ValueError
    except (ValueError, OverflowError, TypeError):
        wanted = "finite numbers" if count is None else f"{count} finite numbers"
        if whole:
            wanted += f", the first {whole} whole"
        text = show(lines[at].strip()[:121])
        raise ValueError(f"{name}: line {at + 1}: expected {wanted}: {text!r}") from None
    return values
