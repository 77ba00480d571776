"""Synthetic graphs: exact without noise, of the right size with it, the same for the same seed."""

import numpy as np
import pytest

from jaxsci.solvers.slam import (
    absolute_trajectory_error,
    graph_cost,
    grid,
    manhattan,
    sphere,
    torus,
)

GENERATORS = [
    (sphere, {"rings": 6, "per_ring": 8}, 48, 47 + 40),
    (torus, {"rings": 6, "per_ring": 8}, 48, 47 + 40 + 8),
    (grid, {"shape": (3, 4, 5)}, 60, 2 * 4 * 5 + 3 * 3 * 5 + 3 * 4 * 4),
    (manhattan, {"steps": 400}, 401, None),
]


@pytest.mark.parametrize(("generate", "sizes", "poses", "edges"), GENERATORS)
def test_generated_graphs(generate, sizes, poses, edges):
    graph = generate(seed=1, **sizes)
    assert len(graph.poses) == poses and graph.components.max() == 0
    assert edges is None or len(graph.edges) == edges
    assert len(np.unique(np.sort(graph.edges, axis=1), axis=0)) == len(graph.edges)
    np.testing.assert_array_equal(graph.poses, generate(seed=1, **sizes).poses)
    assert (graph.measurements[0] != generate(seed=2, **sizes).measurements[0]).any()
    # Residuals at the truth are the noise: half a chi-square of so many degrees of freedom.
    freedom = graph.information.shape[0] * graph.information.shape[1]
    cost = graph_cost(graph.with_poses(graph.truth))
    assert abs(cost - freedom / 2) < 4 * np.sqrt(freedom / 2)
    exact = generate(seed=1, translation_noise=0.0, rotation_noise=0.0, **sizes)
    assert graph_cost(exact) < 1e-20
    assert absolute_trajectory_error(exact.poses, exact.truth).rmse < 1e-11
    # Steps of the robot are of one size, and edges join neighbours.
    length = np.linalg.norm(exact.measurements[: poses - 1, -exact.dim :], axis=1)
    assert length.max() < 4 * length.mean()


def test_a_robot_stays_in_the_city():
    graph = manhattan(2000, block=3, blocks=2, closures=1.0, seed=0)
    place = np.asarray(graph.truth)[:, 2:]
    assert place.min() == 0 and place.max() == 6
    pairs = graph.edges[2000:]
    assert (place[pairs[:, 0]] == place[pairs[:, 1]]).all() and len(pairs) > 1000


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: sphere(1, 10, seed=0), r"`sphere\(rings=...\)`: expected at least 2, got 1"),
        (lambda: torus(3, 2, seed=0), r"`torus\(per_ring=...\)`"),
        (lambda: grid((1, 0, 1), seed=0), r"`grid\(shape\[1\]=...\)`"),
        (lambda: manhattan(closures=2.0, seed=0), "expected from 0 to 1, got 2.0"),
        (lambda: sphere(rotation_noise=-1.0, seed=0), "expected at least 0, got 0.05 and -1.0"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call()
