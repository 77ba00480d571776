"""Odometry and chordal initialisation against exact graphs and SciPy's sparse least squares."""

import dataclasses

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.linalg import lsqr
from scipy.spatial.transform import Rotation

from jaxsci.solvers.nonlinear import minimise
from jaxsci.solvers.slam import (
    PoseGraph,
    absolute_trajectory_error,
    chordal,
    from_values,
    graph_cost,
    manhattan,
    odometry,
    read_g2o,
    sphere,
    to_problem,
    to_values,
)


def lost(graph):
    """The graph with every pose but the first forgotten."""
    poses = np.tile(np.eye(graph.poses.shape[1])[0], (len(graph.poses), 1))
    poses[0] = graph.poses[0]
    return graph.with_poses(poses)


def least_squares(blocks, edges, right, held, first):
    """`min |J x - right|` with `x = first` where held, by SciPy's LSQR on the other columns."""
    back, ahead = blocks
    e, r, d = back.shape
    row = np.broadcast_to((np.arange(e)[:, None] * r + np.arange(r))[:, :, None], (e, r, d))
    entries = []
    for block, end in ((back, edges[:, 0]), (ahead, edges[:, 1])):
        col = np.broadcast_to((end[:, None] * d + np.arange(d))[:, None, :], (e, r, d))
        entries.append((block.ravel(), row.ravel(), col.ravel()))
    data, rows, cols = (np.concatenate(parts) for parts in zip(*entries, strict=True))
    matrix = coo_array((data, (rows, cols)), shape=(e * r, len(held) * d)).tocsc()
    free = np.flatnonzero(~np.repeat(held, d))
    x = np.where(np.repeat(held, d), first.ravel(), 0.0)
    x[free] = lsqr(matrix[:, free], right.ravel() - matrix @ x, atol=1e-14, btol=1e-14)[0]
    return x.reshape(-1, d)


@pytest.mark.parametrize("graph", [manhattan(150, seed=3), sphere(5, 6, seed=3)], ids=["2", "3"])
def test_odometry_composes_the_steps(graph):
    poses = odometry(lost(graph)).poses
    dim = graph.dim
    # By hand, with SciPy's rotations, along the chain of consecutive poses.
    at, turn = np.zeros(3), Rotation.identity()
    for k in range(len(poses)):
        if k > 0:
            z = graph.measurements[k - 1]
            q = [0, 0, np.arctan2(z[1], z[0])] if dim == 2 else None
            step = Rotation.from_rotvec(q) if dim == 2 else Rotation.from_quat(z[[1, 2, 3, 0]])
            at = at + turn.apply(np.append(z[2:], 0.0) if dim == 2 else z[4:])
            turn = turn * step
        elif dim == 3:
            at, turn = poses[0, 4:], Rotation.from_quat(poses[0, [1, 2, 3, 0]])
        else:
            at = np.append(poses[0, 2:], 0.0)
            turn = Rotation.from_rotvec([0, 0, np.arctan2(poses[0, 1], poses[0, 0])])
        np.testing.assert_allclose(poses[k, -dim:], at[:dim], atol=1e-12)


@pytest.mark.parametrize("dim", [2, 3])
def test_chordal_is_exact_without_noise(dim, x64):
    quiet = {"translation_noise": 0.0, "rotation_noise": 0.0, "seed": 0}
    graph = lost(manhattan(120, **quiet) if dim == 2 else sphere(5, 6, **quiet))
    found, report = chordal(graph, rtol=1e-12)
    assert report.messages == ("", "")
    assert graph_cost(found) < 1e-16


def test_chordal_solves_both_problems(x64):
    graph = lost(sphere(5, 6, rotation_noise=0.1, seed=4))
    # Weights that differ from edge to edge, and translations known better along one axis.
    rng = np.random.default_rng(0)
    weight = rng.uniform(0.5, 2, size=(len(graph.edges), 6))
    information = np.einsum("ei,ij->eij", weight, np.eye(6))
    graph = dataclasses.replace(graph, information=information)
    found, report = chordal(graph, rtol=1e-11)
    assert max(report.steps) < 500

    held = np.arange(len(graph.poses)) == 0
    z = Rotation.from_quat(graph.measurements[:, [1, 2, 3, 0]]).as_matrix()
    first = np.tile(
        Rotation.from_quat(graph.poses[0, [1, 2, 3, 0]]).as_matrix()[None], (len(held), 1, 1)
    )
    scale = np.sqrt(weight[:, 3:].mean(axis=1))[:, None, None]
    ahead = scale * np.broadcast_to(np.eye(3), z.shape)
    back = -scale * z.transpose(0, 2, 1)
    nothing = np.zeros(len(graph.edges) * 3)
    rows = [least_squares((back, ahead), graph.edges, nothing, held, first[:, k]) for k in range(3)]
    u, _, vt = np.linalg.svd(np.stack(rows, axis=1))
    assert (np.linalg.det(u @ vt) > 0).all()
    turned = Rotation.from_matrix(u @ vt)
    off = turned.inv() * Rotation.from_quat(found.poses[:, [1, 2, 3, 0]])
    assert off.magnitude().max() < 1e-8

    w = np.sqrt(weight[:, :3])[:, :, None] * turned.as_matrix()[graph.edges[:, 0]].transpose(
        0, 2, 1
    )
    right = np.sqrt(weight[:, :3]) * graph.measurements[:, 4:]
    places = least_squares((-w, w), graph.edges, right, held, graph.poses[:, 4:])
    np.testing.assert_allclose(found.poses[:, 4:], places, atol=1e-7)


def test_chordal_in_float32_finds_the_map_again():
    graph = sphere(8, 10, rotation_noise=0.1, seed=5)
    found, report = chordal(lost(graph))
    assert report.messages == ("", "")
    assert graph_cost(found) < 0.02 * graph_cost(graph)
    odometry_error = absolute_trajectory_error(graph.poses, graph.truth).rmse
    assert absolute_trajectory_error(found.poses, graph.truth).rmse < 0.3 * odometry_error
    np.testing.assert_array_equal(found.poses[0], graph.poses[0])


def test_parts_and_landmarks():
    eye = np.eye(3)
    step = np.array([0.0, 1.0, 2.0, 0.0])  # ahead by two, then left by a right angle
    graph = PoseGraph(
        np.tile([1.0, 0, 0, 0], (5, 1)) + np.array([[0, 0, k, 0] for k in (0, 9, 9, 7, 9)]),
        np.array([[0, 1], [1, 2], [3, 4]]),
        np.tile(step, (3, 1)),
        np.tile(eye, (3, 1, 1)),
        landmarks=np.zeros((2, 2)),
        landmark_edges=np.array([[1, 0], [2, 0], [4, 1]]),
        landmark_measurements=np.array([[1.0, 1.0], [1.0, 1.0], [0.0, 3.0]]),
        landmark_information=np.tile(np.eye(2), (3, 1, 1)),
    )
    assert graph.anchors.tolist() == [True, False, False, True, False]
    for found in (odometry(graph), chordal(graph)[0]):
        np.testing.assert_allclose(found.poses[:3, 2:], [[0, 0], [2, 0], [2, 2]], atol=0.3)
        np.testing.assert_allclose(found.poses[3:, 2:], [[7, 0], [9, 0]], atol=1e-6)
        np.testing.assert_allclose(found.landmarks, [[1, 1], [6, 0]], atol=0.3)
    # Landmark 0 is seen from two poses that agree on it: all residuals can vanish.
    assert graph_cost(chordal(graph)[0]) < 1e-8


def test_what_cannot_be_initialised():
    graph = manhattan(10, seed=0)
    bad = dataclasses.replace(graph, information=-graph.information)
    with pytest.raises(ValueError, match="not positive semidefinite"):
        chordal(bad)
    with pytest.raises(ValueError, match="did you mean 'uniform'"):
        chordal(graph, weights="unifrom")
    still = dataclasses.replace(graph, fixed=np.ones(len(graph.poses), bool))
    np.testing.assert_allclose(chordal(still)[0].poses, graph.poses, atol=1e-15)


@pytest.mark.data
@pytest.mark.slow
def test_torus_from_its_measurements_alone(data_dir, x64):
    graph = read_g2o(data_dir / "pose_graphs" / "torus3D.g2o")
    found, report = chordal(graph)
    assert report.messages == ("", "")
    # The reference start made a last Gauss-Newton step, which here does not lower the cost.
    reference = np.load(data_dir / "pose_graphs" / "chordal_torus3D.npy")[:, [6, 3, 4, 5, 0, 1, 2]]
    assert graph_cost(found) < graph_cost(graph.with_poses(reference))
    error = absolute_trajectory_error(found.poses, reference)
    assert error.rmse < 0.1 and error.rotation_rmse < 0.05
    # From the file's own start every solver ends at 29950 instead.
    solution = minimise(to_problem(found), to_values(found), rtol=1e-12)
    best = from_values(found, solution.to_numpy())
    assert graph_cost(best) == pytest.approx(12117.63688, rel=1e-9)
