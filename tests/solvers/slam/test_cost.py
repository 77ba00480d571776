"""Motions and costs on the host against SciPy's matrix exponential and logarithm."""

import numpy as np
import pytest
from scipy.linalg import expm, logm

from jaxsci.solvers.slam import PoseGraph, graph_cost, graph_residual


def hat(tangent):
    """The matrix of the Lie algebra, translation first."""
    if len(tangent) == 3:
        x, y, w = tangent
        return np.array([[0, -w, x], [w, 0, y], [0, 0, 0]])
    x, y, z, a, b, c = tangent
    return np.array([[0, -c, b, x], [c, 0, -a, y], [-b, a, 0, z], [0, 0, 0, 0]])


def vee(matrix):
    if len(matrix) == 3:
        return np.array([matrix[0, 2], matrix[1, 2], matrix[1, 0]])
    return np.array([*matrix[:3, 3], matrix[2, 1], matrix[0, 2], matrix[1, 0]])


def homogeneous(pose):
    """The matrix of a pose, by the definition of its parameters."""
    if len(pose) == 4:
        c, s, x, y = pose
        return np.array([[c, -s, x], [s, c, y], [0, 0, 1]])
    w, v = pose[0], pose[1:4]
    cross = hat(np.array([0, 0, 0, *v]))[:3, :3]
    out = np.eye(4)
    out[:3, :3] += 2 * w * cross + 2 * cross @ cross
    out[:3, 3] = pose[4:]
    return out


def parameters(matrix):
    """The pose of a matrix whose rotation is not by half a turn."""
    if len(matrix) == 3:
        return np.array([matrix[0, 0], matrix[1, 0], *matrix[:2, 2]])
    w = np.sqrt(1 + np.trace(matrix[:3, :3])) / 2
    v = vee(matrix - matrix.T)[3:] / (4 * w)
    return np.array([w, *v, *matrix[:3, 3]])


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-5, 1e-3, 0.5, 3.0, 3.1415])
@pytest.mark.parametrize("dim", [2, 3])
def test_residual_is_the_logarithm(dim, angle):
    rng = np.random.default_rng(int(1e6 * angle) + dim)
    size = 3 if dim == 2 else 6
    axis = rng.normal(size=1 if dim == 2 else 3)
    tangent = np.concatenate([rng.normal(size=dim), angle * axis / np.linalg.norm(axis)])
    first, measured = (expm(hat(rng.normal(scale=0.7, size=size))) for _ in range(2))
    second = first @ measured @ expm(hat(tangent))
    poses = np.stack([parameters(first), parameters(second)])
    root = rng.normal(size=(size, size))
    graph = PoseGraph(poses, np.array([[0, 1]]), parameters(measured)[None], (root.T @ root)[None])
    assert graph_residual(graph)[0][0] == pytest.approx(tangent, abs=1e-10)
    assert graph_cost(graph) == pytest.approx(np.sum((root @ tangent) ** 2) / 2, rel=1e-9)
    if 0.1 < angle < 3.1:  # SciPy's logarithm too, from the poses as they were given
        i, j = (homogeneous(pose) for pose in graph.poses)
        off = np.linalg.solve(homogeneous(graph.measurements[0]), np.linalg.solve(i, j))
        assert graph_residual(graph)[0][0] == pytest.approx(vee(logm(off).real), abs=1e-9)
        # g2o's own residual: translation and angle, or translation and the quaternion's vector.
        turn = tangent[dim:] if dim == 2 else axis / np.linalg.norm(axis) * np.sin(angle / 2)
        given = np.concatenate([off[:dim, dim], turn])
        assert graph_residual(graph, "g2o")[0][0] == pytest.approx(given, abs=1e-10)


def test_the_sign_of_a_quaternion_does_not_matter():
    rng = np.random.default_rng(0)
    matrices = [expm(hat(rng.normal(size=6))) for _ in range(3)]
    poses = np.stack([parameters(m) for m in matrices])
    edges, eye = np.array([[0, 1], [1, 2]]), np.tile(np.eye(6), (2, 1, 1))
    graph = PoseGraph(poses, edges, poses[:2], eye)
    turned = poses * np.array([-1, -1, -1, -1, 1, 1, 1])
    for form in ("log", "g2o"):
        again = PoseGraph(turned, edges, poses[:2], eye)
        assert graph_cost(again, form) == pytest.approx(graph_cost(graph, form), rel=1e-13)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"poses": np.ones((2, 5))}, r"expected \(N, 4\)"),
        ({"poses": np.ones((0, 4))}, "at least one pose"),
        ({"poses": [[1.0, 0, np.nan, 0]]}, r"got nan at \(0, 2\)"),
        ({"edges": [[0, 2]]}, "positions from 0 to 1, got 2; these are positions, not ids"),
        ({"edges": [[0.0, 1.0]]}, "expected int, got float64"),
        ({"measurements": np.ones((2, 4))}, r"expected shape \(1, 4\), got \(2, 4\)"),
        ({"information": np.ones((1, 6, 6))}, r"expected shape \(1, 3, 3\)"),
        ({"landmark_edges": [[0, 0]]}, "landmark_measurements"),
        ({"fixed": np.ones(3, bool)}, r"`PoseGraph\(fixed=...\)`"),
    ],
)
def test_bad_input(change, match):
    given = {
        "poses": np.tile([1.0, 0, 0, 0], (2, 1)),
        "edges": np.array([[0, 1]]),
        "measurements": [[1.0, 0, 0, 0]],
        "information": [np.eye(3)],
    }
    with pytest.raises(ValueError, match=match):
        PoseGraph(**(given | change))


def test_an_unknown_form():
    graph = PoseGraph(np.array([[1.0, 0, 0, 0]]))
    assert graph_cost(graph) == 0.0
    with pytest.raises(ValueError, match="unknown form 'lgo'"):
        graph_cost(graph, "lgo")
