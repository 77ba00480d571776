"""Pose graphs: real ones against the cost that GTSAM reaches, small ones against scipy."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.solvers.nonlinear import SE2, SE3, Dense, Problem, Variables, between, minimise
from jaxsci.solvers.slam import graph_cost, read_g2o

pytestmark = pytest.mark.data


def _problem(graph):
    motion = SE2() if graph.dim == 2 else SE3()
    count = len(graph.poses)
    edges = between(motion, "pose", graph.edges, graph.measurements, graph.information)
    fixed = {"pose": np.arange(count) == 0}
    return Problem({"pose": Variables(motion, count)}, [edges], fixed)


def _optimised(graph, **settings):
    solution = minimise(_problem(graph), {"pose": jnp.asarray(graph.poses)}, **settings)
    return graph_cost(dataclasses.replace(graph, poses=solution.to_numpy()["pose"]))


def test_tiny_grid_reaches_the_cost_of_gtsam(data_dir, x64):
    graph = read_g2o(data_dir / "pose_graphs" / "tinyGrid3D.g2o")
    assert abs(_optimised(graph, linear=Dense()) / 9.31390943354337 - 1) < 1e-9
