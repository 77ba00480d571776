"""Pose graphs to g2o's text format."""

import os
from collections.abc import Iterator

import numpy as np

from ._graph import PoseGraph
from ._lie import Doubles


def write_g2o(path: str | os.PathLike[str], graph: PoseGraph) -> None:
    """Write a graph so that [`jaxsci.solvers.slam.read_g2o`][] gives it back.

    Every number is written with the digits that determine it; in the plane an angle is written,
    so that `(cos, sin)` comes back to rounding. `truth` and `report` are not written.

    **Arguments:**

    - `path`: the file; overwritten if it exists.
    - `graph`: in the plane or in space.

    **Raises:** `OSError` if the file cannot be written.
    """
    with open(path, "w", encoding="ascii", newline="\n") as file:
        for line in _lines(graph):
            file.write(line)


def _lines(graph: PoseGraph) -> Iterator[str]:
    plane = graph.dim == 2
    vertex, edge = ("VERTEX_SE2", "EDGE_SE2") if plane else ("VERTEX_SE3:QUAT", "EDGE_SE3:QUAT")
    ids, marks = graph.ids, graph.landmark_ids
    yield from _rows(vertex, ids[:, None], _printed(graph.poses))
    yield from (f"FIX {i}\n" for i in ids[graph.fixed])
    point = "VERTEX_XY" if plane else "VERTEX_TRACKXYZ"
    yield from _rows(point, marks[:, None], graph.landmarks)
    yield from _rows(edge, ids[graph.edges], _printed(graph.measurements), graph.information)
    if len(graph.landmark_edges) == 0:
        return
    pose, mark = graph.landmark_edges.T
    ends = [ids[pose], marks[mark]]
    if not plane:
        yield "PARAMS_SE3OFFSET 0 0 0 0 0 0 0 1\n"
        ends.append(np.zeros_like(ends[0]))
    seen = "EDGE_SE2_XY" if plane else "EDGE_SE3_TRACKXYZ"
    yield from _rows(
        seen, np.stack(ends, axis=1), graph.landmark_measurements, graph.landmark_information
    )


def _printed(poses: Doubles) -> Doubles:
    if poses.shape[1] == 7:
        return poses[:, [4, 5, 6, 1, 2, 3, 0]]
    angle = np.arctan2(poses[:, 1], poses[:, 0])
    return np.concatenate([poses[:, 2:], angle[:, None]], axis=1)


def _rows(
    tag: str, ids: np.ndarray, numbers: Doubles, information: Doubles | None = None
) -> Iterator[str]:
    ends = [" ".join(map(str, row)) for row in ids.tolist()]
    if information is None:
        for names, values in zip(ends, numbers.tolist(), strict=True):
            yield f"{tag} {names} {_digits(values)}\n"
        return
    row, column = np.triu_indices(information.shape[-1])
    upper = np.ascontiguousarray(information[:, row, column])
    known: dict[bytes, str] = {}  # most graphs repeat few matrices
    for names, values, matrix in zip(ends, numbers.tolist(), upper, strict=True):
        key = matrix.tobytes()
        text = known.get(key)
        if text is None:
            text = _digits(matrix.tolist())
            if len(known) < 1000:
                known[key] = text
        yield f"{tag} {names} {_digits(values)} {text}\n"


def _digits(values: list[float]) -> str:
    return " ".join(map(repr, values))
