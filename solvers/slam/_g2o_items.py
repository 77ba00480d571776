"""The second pass over a g2o file: numbers to poses and measurements, still with line numbers."""

import dataclasses
from typing import Any

import numpy as np

from . import _lie
from ._g2o_lines import Rows, Scan
from ._information import symmetric
from ._lie import Doubles


@dataclasses.dataclass(frozen=True)
class Items:
    """Vertices or edges: line numbers (n,), ids (n, k), values (n, m), information (n, t, t)."""

    lines: np.ndarray
    ids: np.ndarray
    values: Doubles
    information: Doubles
    unnormalised: int = 0

    def keep(self, mask: np.ndarray) -> "Items":
        """The items at which the mask holds."""
        return dataclasses.replace(
            self,
            lines=self.lines[mask],
            ids=self.ids[mask],
            values=self.values[mask],
            information=self.information[mask],
        )


@dataclasses.dataclass(frozen=True)
class Content:
    """A file's vertices and edges, and the reason of each line left out, by line number."""

    dim: int
    poses: Items
    points: Items
    edges: Items
    landmark_edges: Items
    bad: dict[int, str]
    duplicates: tuple[int, ...]


def read_items(found: Scan, dim: int) -> Content:
    """Poses, points and edges of the tags of one dimension, each line checked against the rest."""
    bad: dict[int, str] = {}
    plane = dim == 2
    poses = _items(found.rows[b"VERTEX_SE2" if plane else b"VERTEX_SE3:QUAT"], dim, 0, bad)
    points = _items(found.rows[b"VERTEX_XY" if plane else b"VERTEX_TRACKXYZ"], dim, 0, bad)
    edges = _items(found.rows[b"EDGE_SE2" if plane else b"EDGE_SE3:QUAT"], dim, 3 * dim - 3, bad)
    seen = _items(found.rows[b"EDGE_SE2_XY" if plane else b"EDGE_SE3_TRACKXYZ"], dim, dim, bad)
    if not plane:
        offsets = _items(found.rows[b"PARAMS_SE3OFFSET"], dim, 0, bad)
        seen = _fold_offsets(seen, offsets, bad)

    poses, again = _unique(poses, "pose", bad)
    points, again_points = _unique(points, "landmark", bad)
    clash = np.isin(points.ids[:, 0], poses.ids[:, 0])
    points = _drop(points, clash, "the id is that of a pose", bad)

    edges = _drop(edges, edges.ids[:, 0] == edges.ids[:, 1], "an edge from a vertex to itself", bad)
    is_point = np.isin(edges.ids, points.ids[:, 0]).any(axis=1)
    edges = _drop(edges, is_point, "an edge between poses names a landmark", bad)
    known_poses = np.union1d(poses.ids[:, 0], edges.ids.ravel())
    is_pose = np.isin(seen.ids[:, 1], known_poses) | np.isin(seen.ids[:, 0], points.ids[:, 0])
    is_pose |= np.isin(seen.ids[:, 1], seen.ids[:, 0])
    seen = _drop(seen, is_pose, "a landmark edge goes from a pose to a landmark", bad)
    known_poses = np.union1d(known_poses, seen.ids[:, 0])
    for line in found.held.lines[~np.isin(found.held.ids[:, 0], known_poses)]:
        bad[int(line)] = "FIX of a vertex that is not a pose of the file"
    return Content(dim, poses, points, edges, seen, bad, (*again, *again_points))


def _items(rows: Rows, dim: int, tangent: int, bad: dict[int, str]) -> Items:
    finite = np.isfinite(rows.numbers).all(axis=1)
    for line in rows.lines[~finite]:
        bad[int(line)] = "a number is not finite"
    lines, ids, numbers = rows.lines[finite], rows.ids[finite], rows.numbers[finite]
    width = numbers.shape[1] - tangent * (tangent + 1) // 2
    values, upper = numbers[:, :width], numbers[:, width:]
    empty, off = np.zeros(len(lines), bool), 0
    if width == 3 and dim == 2:
        angle = values[:, 2]
        values = np.stack([np.cos(angle), np.sin(angle), values[:, 0], values[:, 1]], axis=1)
    elif width == 7:
        quaternion = values[:, [6, 3, 4, 5]]
        empty = ~quaternion.any(axis=1)
        off = _off_unit(quaternion)
        values = _lie.normalise(np.concatenate([quaternion, values[:, :3]], axis=1))
    items = Items(lines, ids, values, symmetric(upper, tangent), off)
    return _drop(items, empty, "the quaternion is zero", bad)


def _off_unit(quaternion: Doubles) -> int:
    with np.errstate(over="ignore"):
        return int((np.abs(np.linalg.norm(quaternion, axis=1) - 1) > 1e-5).sum())


def _drop(items: Items, where: Any, reason: str, bad: dict[int, str]) -> Items:
    if not where.any():
        return items
    for line in items.lines[where]:
        bad[int(line)] = reason
    return items.keep(~where)


def _unique(items: Items, kind: str, bad: dict[int, str]) -> tuple[Items, list[int]]:
    """Each id once; a second line that says the same is dropped, one that differs is malformed."""
    names, first, group = np.unique(items.ids[:, 0], return_index=True, return_inverse=True)
    if len(names) == len(items.lines):
        return items.keep(first), []
    again = np.ones(len(items.lines), bool)
    again[first] = False
    differs = again & (items.values != items.values[first[group]]).any(axis=1)
    for row in np.flatnonzero(differs):
        line = int(items.lines[first[group[row]]])
        bad[int(items.lines[row])] = f"the {kind} was given differently on line {line}"
    repeated = np.unique(items.ids[again & ~differs, 0])
    return items.keep(first), repeated.tolist()


def _fold_offsets(seen: Items, offsets: Items, bad: dict[int, str]) -> Items:
    """Measurements in the sensor's frame as measurements in the pose's frame.

    With `z' = R z + t` and `Omega' = R Omega R'` the cost is the same for every state.
    """
    offsets, _ = _unique(offsets, "sensor offset", bad)
    names = offsets.ids[:, 0]
    used = seen.ids[:, 2]
    unknown = ~np.isin(used, names)
    if len(names) == 0:  # many files leave the offset out, and mean none
        return dataclasses.replace(seen, ids=seen.ids[:, :2])
    seen = _drop(seen, unknown, "no PARAMS_SE3OFFSET of this id", bad)
    offset = offsets.values[np.searchsorted(names, seen.ids[:, 2])]
    turn = _lie.matrix(offset)
    information = turn @ seen.information @ turn.transpose(0, 2, 1)
    return dataclasses.replace(
        seen,
        ids=seen.ids[:, :2],
        values=_lie.act(offset, seen.values),
        information=information,
    )
