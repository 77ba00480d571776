"""Pose graphs from g2o's text format."""

import dataclasses
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import numpy as np

from jaxsci.errors import lookup

from . import _lie
from ._g2o_items import Content, Items, read_items
from ._g2o_lines import Scan, file_line, scan
from ._graph import FileLine, PoseGraph, Report
from ._information import indefinite, isotropic
from ._lie import Doubles
from ._odometry import odometry

_MALFORMED = {"raise": None, "skip": None}
_INDEFINITE = {"raise": None, "isotropic": None, "keep": None}
_SHOWN = 10


class G2OError(ValueError):
    """A g2o file that cannot be read as it is; `lines` holds every line at fault."""

    def __init__(self, path: str, lines: Iterable[FileLine], advice: str):
        self.lines = tuple(sorted(lines))
        shown = "".join(f"\n  {line}" for line in self.lines[:_SHOWN])
        left = len(self.lines) - _SHOWN
        super().__init__(f"{path}: {advice}{shown}" + (f"\n  and {left} more" * (left > 0)))


def read_g2o(
    path: str | os.PathLike[str],
    *,
    malformed: Literal["raise", "skip"] = "raise",
    information: Literal["raise", "isotropic", "keep"] = "raise",
) -> PoseGraph:
    """A pose graph from a g2o file, in the plane or in space.

    ```
    VERTEX_SE2 id x y theta                 VERTEX_SE3:QUAT id x y z qx qy qz qw
    EDGE_SE2 i j x y theta I11 .. I33       EDGE_SE3:QUAT i j x y z qx qy qz qw I11 .. I66
    VERTEX_XY id x y                        VERTEX_TRACKXYZ id x y z
    EDGE_SE2_XY i l x y I11 I12 I22         EDGE_SE3_TRACKXYZ i l p x y z I11 .. I33
    FIX id ...                              PARAMS_SE3OFFSET p x y z qx qy qz qw
    ```

    Information matrices are upper triangles by rows, ordered translation, then rotation. Poses
    come sorted by id. A sensor's offset `p` is folded into what it measured. Vertices that edges
    name and no line gives are initialised along the edges ([`jaxsci.solvers.slam.odometry`][]).

    **Arguments:**

    - `path`: the file.
    - `malformed`: `"skip"` leaves malformed lines out and lists them in `graph.report`.
    - `information`: what becomes of an information matrix with a negative eigenvalue (below
        -1e-5 with the diagonal scaled to 1; a singular one is printed with as much), which has no
        square root. `"isotropic"` puts `diag(a I, b I)` in its place, `a` and `b` the means of
        its diagonal over translation and rotation; `"keep"` leaves it (a cost can be computed,
        but no solver will take it). Both list the edges in `graph.report`.

    **Returns:** the graph; `print(graph.report)` says what was found.

    **Raises:** [`jaxsci.solvers.slam.G2OError`][], a `ValueError`, naming every line at fault by
    number and text; `OSError` if the file cannot be opened.

    Reference: Kuemmerle, Grisetti, Strasdat, Konolige, Burgard, *g2o: A general framework for
    graph optimization*, ICRA 2011.
    """
    lookup("choice for malformed lines", malformed, _MALFORMED)
    lookup("choice for indefinite information", information, _INDEFINITE)
    with open(path, "rb") as file:
        found = scan(file)
    name = Path(path).name
    content = read_items(found, _dimension(found, path))
    lines = sorted(found.malformed + _texts(path, content.bad))
    if lines and malformed == "raise":
        advice = f"{len(lines)} malformed lines; correct them, or pass malformed='skip'"
        raise G2OError(name, lines, advice)
    flawed: list[FileLine] = []
    edges = _with_roots(content.edges, content.dim, information, path, flawed)
    seen = _with_roots(content.landmark_edges, content.dim, information, path, flawed)
    if flawed and information == "raise":
        advice = (
            f"{len(flawed)} information matrices are not positive semidefinite; correct them, or "
            "pass information='isotropic' to replace them"
        )
        raise G2OError(name, flawed, advice)
    content = dataclasses.replace(content, edges=edges, landmark_edges=seen)
    graph, missing = _graph(content, found.held.ids.ravel(), name)
    report = Report(
        lines=found.lines,
        unknown_tags=found.unknown,
        malformed=tuple(lines),
        duplicates=content.duplicates,
        missing=missing,
        unnormalised=content.poses.unnormalised + content.edges.unnormalised,
        indefinite=tuple(sorted(flawed)),
        components=int(graph.components.max()) + 1,
    )
    return dataclasses.replace(graph, report=report)


def _dimension(found: Scan, path: str | os.PathLike[str]) -> int:
    first: dict[int, int] = {}
    for rows in found.rows.values():
        if len(rows.lines):
            line = int(rows.lines[0])
            first[rows.dim] = min(line, first.get(rows.dim, line))
    if len(first) == 2:
        lines = _texts(path, {first[2]: "of the plane", first[3]: "of space"})
        raise G2OError(Path(path).name, lines, "mixes poses of the plane and of space")
    return next(iter(first), 3)


def _texts(path: str | os.PathLike[str], reasons: dict[int, str]) -> list[FileLine]:
    """The lines of the given numbers; read again, since a text of each is not kept."""
    if not reasons:
        return []
    with open(path, "rb") as file:
        return [file_line(n, line, reasons[n]) for n, line in enumerate(file, 1) if n in reasons]


def _with_roots(
    items: Items, dim: int, choice: str, path: str | os.PathLike[str], flawed: list[FileLine]
) -> Items:
    """The items, each information matrix replaced that has no root, if that was asked for."""
    bad, lowest = indefinite(items.information)
    if not bad.any():
        return items
    reasons = {}
    for row in np.flatnonzero(bad):
        i, j = items.ids[row]
        reasons[int(items.lines[row])] = f"edge {i} {j} has an eigenvalue {lowest[row]:.3g}"
    flawed.extend(_texts(path, reasons))
    if choice != "isotropic":
        return items
    replaced = items.information.copy()
    replaced[bad], hopeless = isotropic(items.information[bad], dim)
    if hopeless.any():
        advice = "information matrices with a negative mean diagonal leave no scale to keep"
        lines = items.lines[bad][hopeless].tolist()
        raise G2OError(Path(path).name, _texts(path, {n: reasons[n] for n in lines}), advice)
    return dataclasses.replace(items, information=replaced)


def _graph(content: Content, held: np.ndarray, name: str) -> tuple[PoseGraph, tuple[int, ...]]:
    edges, seen, dim = content.edges, content.landmark_edges, content.dim
    given, marked = content.poses.ids[:, 0], content.points.ids[:, 0]
    ids = np.unique(np.concatenate([given, edges.ids.ravel(), seen.ids[:, 0]]))
    mark_ids = np.union1d(marked, seen.ids[:, 1])
    if len(ids) == 0:
        raise G2OError(name, [], "holds no pose; is it a g2o file?")
    graph = PoseGraph(
        poses=_place(content.poses, ids, _lie.identity(dim)),
        edges=np.searchsorted(ids, edges.ids),
        measurements=edges.values,
        information=edges.information,
        ids=ids,
        fixed=np.isin(ids, held),
        landmarks=_place(content.points, mark_ids, np.zeros(dim)),
        landmark_ids=mark_ids,
        landmark_edges=np.stack(
            [np.searchsorted(ids, seen.ids[:, 0]), np.searchsorted(mark_ids, seen.ids[:, 1])],
            axis=1,
        ),
        landmark_measurements=seen.values,
        landmark_information=seen.information,
    )
    known, known_marks = np.isin(ids, given), np.isin(mark_ids, marked)
    if not (known.all() and known_marks.all()):
        graph = odometry(graph, known=known, known_landmarks=known_marks)
    return graph, (*ids[~known].tolist(), *mark_ids[~known_marks].tolist())


def _place(items: Items, ids: np.ndarray, default: Doubles) -> Doubles:
    placed = np.tile(default, (len(ids), 1))
    placed[np.searchsorted(ids, items.ids[:, 0])] = items.values
    return placed
