"""A pose graph as a nonlinear problem: its cost, its Jacobian, its minimum."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.solvers.nonlinear import linearise, minimise
from jaxsci.solvers.slam import (
    PoseGraph,
    absolute_trajectory_error,
    from_values,
    graph_cost,
    sphere,
    to_problem,
    to_values,
)


def with_landmarks(dim, seed=0):
    """A short trajectory and points that several poses see, with noise."""
    rng = np.random.default_rng(seed)
    n, width, tangent = 6, (4, 7)[dim - 2], (3, 6)[dim - 2]
    poses = rng.normal(size=(n, width))
    poses[:, :-dim] /= np.linalg.norm(poses[:, :-dim], axis=1, keepdims=True)
    roots = rng.normal(size=(n - 1 + 8, tangent, tangent))
    measured = rng.normal(size=(n - 1, width))
    measured[:, :-dim] /= np.linalg.norm(measured[:, :-dim], axis=1, keepdims=True)
    information = np.einsum("eij,ekj->eik", roots, roots)
    return PoseGraph(
        poses,
        np.stack([np.arange(n - 1), np.arange(1, n)], axis=1),
        measured,
        information[: n - 1],
        landmarks=rng.normal(size=(4, dim)),
        landmark_edges=np.stack([np.arange(8) % n, np.arange(8) % 3], axis=1),
        landmark_measurements=rng.normal(size=(8, dim)),
        landmark_information=information[n - 1 :, :dim, :dim],
    )


@eqx.filter_jit
def all_at_once(problem, values):
    """The weighted residual, and the sightings' Jacobians: as given, and by forward mode."""
    sighting, motion = problem.factors[-1], problem.variables["poses"].manifold

    def stepped(delta, pose, mark, z):
        k = motion.dim
        return sighting.residual(motion.retract(pose, delta[:k]), mark + delta[k:], z)

    pose, mark = (values[name][sighting.indices[:, k]] for k, name in enumerate(sighting.variables))
    steps = jnp.zeros((sighting.count, motion.dim + mark.shape[1]), mark.dtype)
    forward = jax.vmap(jax.jacfwd(stepped))(steps, pose, mark, sighting.measurement)
    given = jax.vmap(sighting.jacobian)(pose, mark, sighting.measurement)
    return linearise(problem, values)[1], jnp.concatenate(given, axis=2), forward


@pytest.mark.parametrize("dim", [2, 3])
def test_cost_and_jacobian(dim, x64):
    graph = with_landmarks(dim)
    problem, values = to_problem(graph), to_values(graph)
    # A landmark that nobody sees is held, as is the first pose.
    assert problem.fixed["landmarks"].tolist() == [False, False, False, True]
    assert problem.fixed["poses"].tolist() == [True] + [False] * 5
    residual, given, forward = all_at_once(problem, values)
    assert float(residual @ residual) / 2 == pytest.approx(graph_cost(graph), rel=1e-12)
    np.testing.assert_allclose(given, forward, atol=1e-12)


def test_the_minimum_is_nearer_to_the_truth(x64):
    graph = sphere(5, 6, seed=2)
    solution = minimise(to_problem(graph), to_values(graph))
    found = from_values(graph, solution.values)
    assert graph_cost(found) == pytest.approx(float(solution.cost), rel=1e-10)
    assert graph_cost(found) < graph_cost(graph.with_poses(graph.truth))
    before = absolute_trajectory_error(graph.poses, graph.truth).rmse
    assert absolute_trajectory_error(found.poses, graph.truth).rmse < 0.7 * before


def test_without_edges_there_is_no_problem():
    graph = PoseGraph(np.array([[1.0, 0, 0, 0]]))
    with pytest.raises(ValueError, match="at least one edge"):
        to_problem(graph)
