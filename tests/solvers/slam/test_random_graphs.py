"""Random graphs, connected or not, some without any weight: the status says what happened."""

import dataclasses

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaxsci.solvers.nonlinear import MINIMISE_RESULTS, LevenbergMarquardt, minimise
from jaxsci.solvers.slam import (
    PoseGraph,
    chordal,
    from_values,
    graph_cost,
    graph_residual,
    to_problem,
    to_values,
)

POSES, EDGES, MARKS, SEEN = 7, 9, 3, 5
ENDS = st.lists(
    st.tuples(st.integers(0, POSES - 1), st.integers(1, POSES - 1)), min_size=EDGES, max_size=EDGES
)
SIGHTINGS = st.lists(
    st.tuples(st.integers(0, POSES - 1), st.integers(0, MARKS - 1)), min_size=SEEN, max_size=SEEN
)


@st.composite
def graphs(draw):
    """Graphs of one structure class, so that they share what is compiled."""
    rng = np.random.default_rng(draw(st.integers(0, 10**6)))
    ends = [(i, (i + step) % POSES) for i, step in draw(ENDS)]
    angle, place = rng.uniform(-3, 3, (POSES, 1)), rng.normal(size=(POSES, 2))
    turn, move = rng.uniform(-1, 1, (EDGES, 1)), rng.normal(size=(EDGES, 2))
    roots = rng.normal(size=(EDGES, 3, 3))
    scale = 10.0 ** draw(st.lists(st.integers(-3, 3), min_size=EDGES, max_size=EDGES).map(np.array))
    silent = np.array(draw(st.lists(st.booleans(), min_size=EDGES, max_size=EDGES)))
    scale = np.where(silent & draw(st.booleans()), 0.0, scale)
    outlier = np.where(np.arange(EDGES) == draw(st.integers(0, EDGES)), 1e4, 1.0)[:, None]
    return PoseGraph(
        np.concatenate([np.cos(angle), np.sin(angle), place], axis=1),
        np.array(ends),
        np.concatenate([np.cos(turn), np.sin(turn), outlier * move], axis=1),
        scale[:, None, None] * (np.einsum("eij,ekj->eik", roots, roots) + np.eye(3)),
        landmarks=rng.normal(size=(MARKS, 2)),
        landmark_edges=np.array(draw(SIGHTINGS)),
        landmark_measurements=rng.normal(size=(SEEN, 2)),
        landmark_information=np.tile(np.eye(2), (SEEN, 1, 1)),
    )


def _rounding(graph):
    """Of the cost: what float32 loses of residuals between places as far away as an outlier."""
    places, reach = graph.poses[:, 2:], lambda x: np.linalg.norm(x, axis=-1)
    i, j = graph.edges.T
    k, mark = graph.landmark_edges.T
    far = reach(places[i]) + reach(places[j]) + reach(graph.measurements[:, 2:])
    far_marks = reach(places[k]) + reach(graph.landmarks[mark])
    far_marks = far_marks + reach(graph.landmark_measurements)
    total = 0.0
    for r, o, size in zip(
        graph_residual(graph),
        (graph.information, graph.landmark_information),
        (far, far_marks),
        strict=True,
    ):
        # A difference, a turn, another difference and a turn: half a rounding for each product
        # and sum of them.
        lost = 6 * np.finfo(np.float32).eps * size
        # `r'Or / 2` moves by at most |Or| per unit of `r`, and by its curvature.
        moved = np.abs(np.einsum("eij,ej->ei", o, r)).sum(1) * lost
        total += np.sum(moved + np.abs(o).sum((1, 2)) * lost**2 / 2)
    return total


@given(graphs())
def test_the_status_is_right(graph):
    solution = minimise(
        to_problem(graph),
        to_values(graph),
        method=LevenbergMarquardt(),
        linear="dense",
        rtol=1e-5,
        throw=False,
    )
    found = from_values(graph, solution.to_numpy())
    # Never worse than the start, never NaN, whatever the status.
    start = graph_cost(graph)
    assert graph_cost(found) <= start * (1 + 1e-5) + 1e-6
    assert np.isfinite(found.poses).all() and np.isfinite(found.landmarks).all()
    allowed = 1e-5 * graph_cost(found) + 1e-6 + _rounding(found)
    assert abs(float(solution.cost) - graph_cost(found)) <= allowed
    np.testing.assert_allclose(found.poses[graph.anchors], graph.poses[graph.anchors], atol=1e-6)
    if solution.result == MINIMISE_RESULTS.successful:
        # No single pose can be moved to gain anything to speak of.
        rng = np.random.default_rng(0)
        for _ in range(10):
            k = rng.integers(POSES)
            if graph.anchors[k]:
                continue
            poses = found.poses.copy()
            poses[k, 2:] += 1e-3 * rng.normal(size=2)
            moved = graph_cost(dataclasses.replace(found, poses=poses))
            assert moved >= graph_cost(found) * (1 - 1e-3) - 1e-3


@given(graphs())
def test_chordal_is_finite(graph):
    found, report = chordal(graph)
    assert np.isfinite(found.poses).all() and np.isfinite(found.landmarks).all()
    np.testing.assert_allclose(np.linalg.norm(found.poses[:, :2], axis=1), 1, atol=1e-6)
    np.testing.assert_array_equal(found.poses[graph.anchors], graph.poses[graph.anchors])
    assert all(isinstance(message, str) for message in report.messages)
