"""The absolute trajectory error against the motion that was put in."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.spatial.transform import Rotation

from jaxsci.solvers.slam import absolute_trajectory_error, manhattan, sphere


def moved(poses, rotation, translation, scale=1.0):
    turned = (rotation * Rotation.from_quat(poses[:, [1, 2, 3, 0]])).as_quat()[:, [3, 0, 1, 2]]
    return np.concatenate([turned, scale * rotation.apply(poses[:, 4:]) + translation], axis=1)


def test_a_motion_is_found_and_undone():
    truth = np.asarray(sphere(4, 5, seed=0).truth)
    turn, shift = Rotation.from_rotvec([0.3, -2.0, 1.0]), np.array([1.0, -2.0, 3.0])
    error = absolute_trajectory_error(moved(truth, turn, shift, 2.0), truth, scale=True)
    assert error.rmse < 1e-13 and error.rotation_rmse < 1e-14
    assert error.scale == pytest.approx(0.5)
    found = Rotation.from_quat(error.alignment[[1, 2, 3, 0]])
    assert (found * turn).magnitude() < 1e-13
    # With the size held, what is left is the size.
    left = absolute_trajectory_error(moved(truth, turn, shift, 2.0), truth)
    spread = np.sqrt(np.mean(np.sum((truth[:, 4:] - truth[:, 4:].mean(axis=0)) ** 2, axis=1)))
    assert left.rmse == pytest.approx(spread, rel=1e-12)


def test_the_alignment_is_the_best_one():
    graph = manhattan(60, seed=0)
    error = absolute_trajectory_error(graph.poses, graph.truth)
    p, q = graph.poses[:, 2:], np.asarray(graph.truth)[:, 2:]

    def off(motion):
        c, s = np.cos(motion[2]), np.sin(motion[2])
        return np.mean(np.sum((p @ np.array([[c, s], [-s, c]]) + motion[:2] - q) ** 2, axis=1))

    best = minimize(off, np.zeros(3), tol=1e-14)
    assert error.rmse == pytest.approx(np.sqrt(best.fun), rel=1e-8)
    unaligned = absolute_trajectory_error(graph.poses, graph.truth, align=False)
    assert unaligned.rmse == pytest.approx(np.sqrt(off(np.zeros(3))), rel=1e-12)
    assert unaligned.largest == unaligned.distances.max() >= unaligned.mean


def test_a_mirror_image_is_not_aligned_by_a_reflection():
    truth = np.asarray(sphere(4, 5, seed=0).truth)
    mirrored = truth * np.array([1, 1, 1, 1, 1, 1, -1.0]) + np.array([0, 0, 0, 0, 0, 0, 1.0])
    error = absolute_trajectory_error(mirrored, truth)
    assert error.rmse > 1.0
    assert np.linalg.norm(error.alignment[:4]) == pytest.approx(1)


def test_a_single_pose_and_a_line():
    truth = np.array([[1.0, 0, 0, 0]])
    assert absolute_trajectory_error(truth + [0, 0, 1, 1], truth).rmse < 1e-15
    line = np.array([[1.0, 0, 0, 0, k, 0, 0] for k in range(4)])
    assert absolute_trajectory_error(line, line, scale=True).rmse < 1e-14


@pytest.mark.parametrize(
    ("estimate", "truth", "match"),
    [
        (np.ones((3, 4)), np.ones((2, 4)), "the same of each"),
        (np.ones((3, 3)), np.ones((3, 3)), r"expected poses \(N, 4\)"),
        (np.full((1, 4), np.nan), np.ones((1, 4)), "finite"),
    ],
)
def test_bad_input(estimate, truth, match):
    with pytest.raises(ValueError, match=match):
        absolute_trajectory_error(estimate, truth)
