"""A pose graph on the host."""

import dataclasses
from typing import Any, NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from ._lie import Doubles

_ABSENT: Any = None  # `__post_init__` puts arrays in its place


class FileLine(NamedTuple):
    """A line of a file and what is the matter with it."""

    number: int
    text: str
    reason: str

    def __str__(self) -> str:
        return f"line {self.number}: {self.reason}: {self.text!r}"


@dataclasses.dataclass(frozen=True)
class Report:
    """What reading a file found besides the graph; `str(report)` is a few lines of text.

    - `lines`: how many the file has.
    - `unknown_tags`: how often each tag occurs that was skipped because it is not known.
    - `malformed`: the lines that were skipped (only if asked to).
    - `duplicates`: ids of vertices given twice, with the same pose.
    - `missing`: ids that edges name but no vertex line gives; initialised through the edges.
    - `unnormalised`: how many quaternions were off unit length by more than 1e-5.
    - `indefinite`: the edges whose information matrix was kept or replaced though it is not
        positive semidefinite (only if asked to).
    - `components`: into how many parts the graph falls.
    """

    lines: int = 0
    unknown_tags: dict[str, int] = dataclasses.field(default_factory=dict)
    malformed: tuple[FileLine, ...] = ()
    duplicates: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    unnormalised: int = 0
    indefinite: tuple[FileLine, ...] = ()
    components: int = 1

    def __str__(self) -> str:
        said = [f"{self.lines} lines"]
        if self.unknown_tags:
            tags = ", ".join(f"{tag} ({n})" for tag, n in self.unknown_tags.items())
            said.append(f"skipped, tag not known: {tags}")
        if self.malformed:
            said.append(
                f"{len(self.malformed)} malformed lines skipped; first: {self.malformed[0]}"
            )
        if self.duplicates:
            said.append(f"vertices given twice: {_some(self.duplicates)}")
        if self.missing:
            said.append(f"vertices named by edges only, initialised: {_some(self.missing)}")
        if self.unnormalised:
            said.append(f"{self.unnormalised} quaternions were brought to unit length")
        if self.indefinite:
            said.append(
                f"{len(self.indefinite)} information matrices are not positive semidefinite in "
                f"the file; first: {self.indefinite[0]}"
            )
        if self.components > 1:
            said.append(f"the graph falls into {self.components} parts; one pose of each is held")
        return "\n".join(said)


@dataclasses.dataclass(frozen=True, eq=False)
class PoseGraph:
    """Poses, what was measured between them, and how precisely; float64 numpy on the host.

    Edge `k` from `i` to `j` measures `Z_k ~ X_i^-1 X_j` with information matrix `Omega_k`,
    ordered translation, then rotation. A landmark edge measures a point in the frame of a pose.
    N poses, E edges, L landmarks, K landmark edges; `dim` is 2 or 3, the tangent has 3 or 6
    entries. Poses are jaxlie's parameters: `(cos, sin, x, y)` or `(qw, qx, qy, qz, x, y, z)`.

    **Arguments:**

    - `poses`: (N, 4) or (N, 7); its width decides `dim`.
    - `edges`: (E, 2) positions in `poses`, not ids.
    - `measurements`: (E, 4) or (E, 7).
    - `information`: (E, 3, 3) or (E, 6, 6).
    - `ids`: (N,) names of the poses; `0, 1, ...` by default.
    - `fixed`: (N,) poses that the file says to hold; none by default (see `anchors`).
    - `landmarks`: (L, dim); `landmark_ids`: (L,).
    - `landmark_edges`: (K, 2) positions in `poses` and in `landmarks`;
        `landmark_measurements`: (K, dim); `landmark_information`: (K, dim, dim).
    - `truth`: the true poses if they are known (synthetic graphs), as `poses`.
    - `report`: what the reader found.

    **Raises:** `ValueError` if shapes do not fit, an index is out of range, or a number is not
    finite.

    !!! example
        >>> import numpy as np
        >>> from jaxsci.solvers.slam import PoseGraph, graph_cost
        >>> poses = np.array([[1.0, 0, 0, 0], [1.0, 0, 1.0, 0]])
        >>> ahead, weight = np.array([[1.0, 0, 1.1, 0]]), np.diag([100.0, 100, 400])
        >>> graph = PoseGraph(poses, np.array([[0, 1]]), ahead, weight[None])
        >>> graph.dim, graph_cost(graph)
        (2, 0.50)
    """

    poses: Doubles
    edges: np.ndarray = _ABSENT
    measurements: Doubles = _ABSENT
    information: Doubles = _ABSENT
    ids: np.ndarray = _ABSENT
    fixed: np.ndarray = _ABSENT
    landmarks: Doubles = _ABSENT
    landmark_ids: np.ndarray = _ABSENT
    landmark_edges: np.ndarray = _ABSENT
    landmark_measurements: Doubles = _ABSENT
    landmark_information: Doubles = _ABSENT
    truth: Doubles | None = None
    report: Report = Report()

    def __post_init__(self):
        poses = _array("poses", self.poses, float, (None, None))
        n, width = poses.shape
        if width not in (4, 7):
            raise ValueError(
                "`PoseGraph(poses=...)`: expected (N, 4), (cos, sin, x, y), or (N, 7), "
                f"(qw, qx, qy, qz, x, y, z), got {poses.shape}"
            )
        if n == 0:
            raise ValueError("`PoseGraph(poses=...)`: expected at least one pose, got none")
        dim, tangent = (2, 3) if width == 4 else (3, 6)
        edges = _array("edges", self.edges, int, (None, 2), empty=(0, 2))
        e = len(edges)
        landmarks = _array("landmarks", self.landmarks, float, (None, dim), empty=(0, dim))
        seen = _array("landmark_edges", self.landmark_edges, int, (None, 2), empty=(0, 2))
        k = len(seen)
        values = {
            "poses": poses,
            "edges": edges,
            "measurements": _array(
                "measurements", self.measurements, float, (e, width), empty=(0, width)
            ),
            "information": _array(
                "information",
                self.information,
                float,
                (e, tangent, tangent),
                empty=(0, tangent, tangent),
            ),
            "ids": _array("ids", np.arange(n) if self.ids is None else self.ids, int, (n,)),
            "fixed": _array(
                "fixed", np.zeros(n, bool) if self.fixed is None else self.fixed, bool, (n,)
            ),
            "landmarks": landmarks,
            "landmark_ids": _array(
                "landmark_ids",
                n + np.arange(len(landmarks)) if self.landmark_ids is None else self.landmark_ids,
                int,
                (len(landmarks),),
            ),
            "landmark_edges": seen,
            "landmark_measurements": _array(
                "landmark_measurements", self.landmark_measurements, float, (k, dim), empty=(0, dim)
            ),
            "landmark_information": _array(
                "landmark_information",
                self.landmark_information,
                float,
                (k, dim, dim),
                empty=(0, dim, dim),
            ),
        }
        if self.truth is not None:
            values["truth"] = _array("truth", self.truth, float, (n, width))
        _require_in_range("edges", edges, n)
        _require_in_range("landmark_edges[:, 0]", seen[:, 0], n)
        _require_in_range("landmark_edges[:, 1]", seen[:, 1], len(landmarks))
        for name, value in values.items():
            object.__setattr__(self, name, value)

    @property
    def dim(self) -> int:
        """2 in the plane, 3 in space."""
        return 2 if self.poses.shape[1] == 4 else 3

    @property
    def components(self) -> np.ndarray:
        """(N,) which connected part of the graph each pose is in, counted from 0."""
        n, m = len(self.poses), len(self.landmarks)
        ends = np.concatenate([self.edges, self.landmark_edges + np.array([0, n])])
        joined = coo_array((np.ones(len(ends)), (ends[:, 0], ends[:, 1])), shape=(n + m, n + m))
        return connected_components(joined, directed=False)[1][:n]

    @property
    def anchors(self) -> np.ndarray:
        """(N,) the poses to hold: those that the file fixes, and the first of each other part."""
        part = self.components
        held = self.fixed.copy()
        first = np.unique(part, return_index=True)[1]
        free = ~np.isin(part[first], part[self.fixed])
        held[first[free]] = True
        return held

    def with_poses(self, poses: Doubles, landmarks: Doubles | None = None) -> "PoseGraph":
        """The same graph with other poses (and landmarks)."""
        landmarks = self.landmarks if landmarks is None else landmarks
        return dataclasses.replace(self, poses=poses, landmarks=landmarks)


def _array(name, value, kind, shape, empty=None):
    if empty is not None and (value is None or np.size(value) == 0):
        value = np.zeros(empty)
    array = np.asarray(value)
    if kind is float:
        array = array.astype(np.float64)
    elif array.dtype.kind not in {int: "iu", bool: "b"}[kind] and array.size:
        raise ValueError(f"`PoseGraph({name}=...)`: expected {kind.__name__}, got {array.dtype}")
    else:
        array = array.astype(np.int64 if kind is int else bool)
    fits = array.ndim == len(shape) and all(
        want is None or got == want for got, want in zip(array.shape, shape, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"`PoseGraph({name}=...)`: expected shape ({wanted}), got {array.shape}")
    if kind is float and not np.isfinite(array).all():
        first = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(
            f"`PoseGraph({name}=...)`: expected finite numbers, got {array[first]} at {first}"
        )
    return array


def _require_in_range(name, index, size):
    bad = (index < 0) | (index >= size)
    if bad.any():
        raise ValueError(
            f"`PoseGraph({name}=...)`: expected positions from 0 to {size - 1}, got "
            f"{int(index[bad][0])}; these are positions, not ids"
        )


def _some(ids: tuple[int, ...]) -> str:
    shown = ", ".join(str(i) for i in ids[:10])
    return shown + (f" and {len(ids) - 10} more" if len(ids) > 10 else "")
