"""Initialisation along a tree of edges."""

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, connected_components, minimum_spanning_tree

from . import _lie
from ._graph import PoseGraph
from ._lie import Doubles


def odometry(
    graph: PoseGraph,
    *,
    known: np.ndarray | None = None,
    known_landmarks: np.ndarray | None = None,
) -> PoseGraph:
    """The graph with poses composed along a tree of its edges: `X_j = X_i Z`.

    The tree takes an edge between neighbours in the order of ids, which odometry gives, before
    any other; it starts from the poses that are held, or the first one of a part without any.
    A landmark is put where the first pose that saw it measured it.

    **Arguments:**

    - `graph`: its edges are used, and the poses that stay.
    - `known`: (N,) poses to keep as they are; `graph.anchors` by default.
    - `known_landmarks`: (L,) landmarks to keep; none by default.

    **Returns:** the graph with other poses and landmarks.

    !!! example
        >>> import numpy as np
        >>> from jaxsci.solvers.slam import PoseGraph, odometry
        >>> ahead = np.tile([1.0, 0, 2.0, 0], (2, 1))
        >>> start = np.tile([1.0, 0, 0, 0], (3, 1))
        >>> weight = np.tile(np.eye(3), (2, 1, 1))
        >>> graph = PoseGraph(start, np.array([[0, 1], [1, 2]]), ahead, weight)
        >>> odometry(graph).poses[:, 2]
        array([0., 2., 4.])
    """
    known = graph.anchors if known is None else np.asarray(known, bool)
    seen = np.zeros(len(graph.landmarks), bool)
    seen = seen if known_landmarks is None else np.asarray(known_landmarks, bool)
    parent, step = _tree(graph, known)
    poses = _lie.normalise(_compose_along(graph.poses, parent, step))
    landmarks = graph.landmarks.copy()
    pose, mark = graph.landmark_edges.T
    marks, first = np.unique(mark, return_index=True)
    placed = _lie.act(poses[pose[first]], graph.landmark_measurements[first])
    landmarks[marks] = np.where(seen[marks][:, None], landmarks[marks], placed)
    return graph.with_poses(poses, landmarks)


def _tree(graph: PoseGraph, known: np.ndarray) -> tuple[np.ndarray, Doubles]:
    """Each pose's parent, itself for a root, and the step from the parent to it."""
    n = len(graph.poses)
    i, j = graph.edges.T
    # An extra vertex n joins all that is known, so that one tree covers every part.
    part = _parts(graph)
    roots = known.copy()
    first = np.unique(part, return_index=True)[1]
    roots[first[~np.isin(part[first], part[known])]] = True
    root = np.flatnonzero(roots)
    low, high = np.minimum(i, j), np.maximum(i, j)
    length = np.where(high - low == 1, 2.0, 3.0)
    low, high = np.concatenate([low, root]), np.concatenate([high, np.full(len(root), n)])
    length = np.concatenate([length, np.ones(len(root))])
    # Of several edges between two poses, the first counts.
    _, chosen = np.unique(low * (n + 1) + high, return_index=True)
    weights = coo_array((length[chosen], (low[chosen], high[chosen])), shape=(n + 1, n + 1))
    tree = minimum_spanning_tree(weights.tocsr())
    parent = breadth_first_order(tree, n, directed=False)[1][:n]
    parent = np.where(parent == n, np.arange(n), parent)

    step = np.tile(_lie.identity(graph.dim), (n, 1))
    child = np.flatnonzero(parent != np.arange(n))
    key = np.minimum(child, parent[child]) * (n + 1) + np.maximum(child, parent[child])
    keys = np.minimum(i, j) * (n + 1) + np.maximum(i, j)
    names, first = np.unique(keys, return_index=True)
    edge = first[np.searchsorted(names, key)]
    measured = graph.measurements[edge]
    forward = (graph.edges[edge, 1] == child)[:, None]
    step[child] = np.where(forward, measured, _lie.inverse(measured))
    return parent, step


def _parts(graph: PoseGraph) -> np.ndarray:
    """Parts joined by edges between poses; a landmark seen from two does not place one of them."""
    n = len(graph.poses)
    i, j = graph.edges.T
    return connected_components(coo_array((np.ones(len(i)), (i, j)), shape=(n, n)), directed=False)[
        1
    ]


def _compose_along(poses: Doubles, parent: np.ndarray, step: Doubles) -> Doubles:
    """Roots keep their pose, all others are composed, in log2(depth) passes of doubling."""
    reach = step
    while not np.array_equal(parent, parent[parent]):
        reach = _lie.compose(reach[parent], reach)
        parent = parent[parent]
    composed = _lie.compose(poses[parent], reach)
    is_root = parent == np.arange(len(poses))
    return np.where(is_root[:, None], poses, composed)
