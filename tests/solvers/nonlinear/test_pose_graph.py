"""Real pose graphs in float64 against the costs that GTSAM 4.3 reaches."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.solvers.nonlinear import (
    SE2,
    SE3,
    Dense,
    LevenbergMarquardt,
    Problem,
    Variables,
    between,
    minimise,
)
from jaxsci.solvers.preconditioners import CompleteCholesky, IncompleteCholesky
from jaxsci.solvers.slam import graph_cost, read_g2o

pytestmark = pytest.mark.data


def _gap(data_dir, name, cost, **settings):
    graph = read_g2o(data_dir / "pose_graphs" / f"{name}.g2o")
    motion = SE2() if graph.dim == 2 else SE3()
    count = len(graph.poses)
    edges = between(motion, "poses", graph.edges, graph.measurements, graph.information)
    fixed = {"poses": np.arange(count) == 0}
    problem = Problem({"poses": Variables(motion, count)}, [edges], fixed)
    solution = minimise(problem, {"poses": jnp.asarray(graph.poses)}, **settings)
    return graph_cost(dataclasses.replace(graph, poses=solution.to_numpy()["poses"])) / cost - 1


def test_tiny_grid(data_dir, x64):
    assert abs(_gap(data_dir, "tinyGrid3D", 9.31390943354337, linear=Dense())) < 1e-9


@pytest.mark.slow
@pytest.mark.parametrize("policy", ["double", "single", "single,update=f64"])
def test_intel_with_a_static_factor(data_dir, policy, x64):
    gap = _gap(
        data_dir, "intel", 22.50211654452, policy=policy, preconditioner=IncompleteCholesky()
    )
    assert abs(gap) < 1e-7


@pytest.mark.slow
def test_intel_with_half_precision_products(data_dir, x64):
    gap = _gap(
        data_dir,
        "intel",
        22.50211654452,
        policy="bundle_adjustment,residual=f64,update=f64",
        preconditioner=CompleteCholesky(),
    )
    assert abs(gap) < 1e-7


@pytest.mark.slow
def test_manhattan_from_odometry_by_a_direct_solver(data_dir, x64):
    gap = _gap(data_dir, "manhattan", 1774.520535, method=LevenbergMarquardt(), linear="cholesky")
    assert abs(gap) < 1e-6
