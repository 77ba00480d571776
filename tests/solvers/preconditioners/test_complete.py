"""Complete factors in few bits, against dense inverses and as what they are for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.linear import cgnr
from jaxsci.solvers.nonlinear import (
    LevenbergMarquardt,
    linearise,
    minimise,
    plan_preconditioner,
)
from jaxsci.solvers.preconditioners import (
    PRECONDITIONER_RESULTS,
    CompleteCholesky,
    DenseCholesky,
)
from jaxsci.solvers.slam import (
    from_values,
    graph_cost,
    odometry,
    read_g2o,
    sphere,
    to_problem,
    to_values,
)
from jaxsci.solvers.sparse import BlockSymmetric, block_scaling

N, D = 12, 2
ROWS, COLS = np.array([(i, j) for i in range(N) for j in range(i) if i - j == 1 or i - j == 5]).T
SETTINGS = [CompleteCholesky(leaf=2), DenseCholesky()]
PLANS = [settings.plan(ROWS, COLS, N, D) for settings in SETTINGS]
both = pytest.mark.parametrize("plan", PLANS, ids=["sparse", "dense"])


def matrix(dtype, smallest=0.1):
    """A definite matrix of this pattern whose least eigenvalue is known."""
    rng = np.random.default_rng(0)
    lower = 0.3 * rng.standard_normal((len(ROWS), D, D))
    places = jnp.asarray(ROWS), jnp.asarray(COLS)
    H = BlockSymmetric(jnp.zeros((N, D, D)), jnp.asarray(lower), *places)
    shift = smallest - np.linalg.eigvalsh(np.asarray(H.as_matrix())).min()
    diagonal = jnp.asarray(np.tile(shift * np.eye(D), (N, 1, 1)))
    return eqx.tree_at(lambda H: H.diagonal, H, diagonal).astype(dtype)


@eqx.filter_jit
def factored(plan, H, policy=None, damping=0.0):
    return plan.factor(H, policy=policy, damping=damping)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [("double", 1e-12), ("double,precondition=f32", 1e-5), ("double,precondition=f16", 2e-2)],
)
@both
def test_inverse_to_the_rounding_of_its_storage(x64, plan, policy, tolerance):
    H = matrix(jnp.float64)
    M = factored(plan, H, Policy.parse(policy), 0.05)
    exact = np.linalg.inv(np.asarray(H.as_matrix()) + 0.05 * np.eye(N * D))
    v = jnp.asarray(np.random.default_rng(1).standard_normal(N * D))
    error = np.linalg.norm(M.mv(v) - exact @ v) / np.linalg.norm(exact @ v)
    assert error < tolerance
    assert M.mv(v).dtype == jnp.float64
    assert M.result == PRECONDITIONER_RESULTS.successful
    # No gradient is too small for the dtype of the factor.
    np.testing.assert_allclose(M.mv(1e-30 * v), 1e-30 * M.mv(v), rtol=1e-3, atol=1e-33)


@both
def test_a_lost_pivot_is_shifted_and_said(x64, plan):
    """Least eigenvalue -1e-3: no factor of `H` itself."""
    M = factored(plan, matrix(jnp.float64, smallest=-1e-3), Policy.parse("double,precondition=f32"))
    assert M.result == PRECONDITIONER_RESULTS.shifted
    assert 0 < M.shift < 0.1
    assert np.linalg.eigvalsh(np.asarray(M.as_matrix())).min() > 0


@both
def test_after_a_breakdown_couplings_are_left_out(plan):
    """The sparse factor is the identity, the dense one the inverse of the diagonal."""
    H = matrix(jnp.float32)
    M = factored(plan, eqx.tree_at(lambda H: H.lower, H, H.lower.at[0].set(jnp.nan)))
    assert M.result == PRECONDITIONER_RESULTS.breakdown
    v = jnp.arange(N * D, dtype=jnp.float32)
    diagonal = jnp.diagonal(H.diagonal, axis1=1, axis2=2).ravel()
    expected = v if plan is PLANS[0] else v / diagonal
    np.testing.assert_allclose(M.mv(v), expected, rtol=1e-6)
    worse = factored(plan, eqx.tree_at(lambda H: H.diagonal, H, H.diagonal.at[0].set(jnp.nan)))
    assert worse.result == PRECONDITIONER_RESULTS.breakdown
    assert jnp.isfinite(worse.mv(v)).all()


@pytest.mark.slow_but(1)
@both
def test_under_vmap(plan):
    H = matrix(jnp.float32)
    diagonals = jnp.stack([H.diagonal, 2 * H.diagonal])
    v = jnp.ones(N * D)

    def solve(diagonal):
        return plan.factor(eqx.tree_at(lambda H: H.diagonal, H, diagonal)).mv(v)

    found = jax.jit(jax.vmap(solve))(diagonals)
    for one, diagonal in zip(found, diagonals, strict=True):
        np.testing.assert_allclose(one, solve(diagonal), rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize("settings", SETTINGS)
def test_one_step_does_what_many_did(x64, settings):
    """A float32 factor leaves a float64 solve to 1e-10 a few steps."""
    graph = sphere(6, 12, seed=0)
    problem, values = to_problem(graph), to_values(graph)
    plan = plan_preconditioner(problem, settings)
    policy = Policy.parse("double,precondition=f32")

    @eqx.filter_jit
    def steps(problem, values, plan):
        J, residual = linearise(problem, values)
        held = (jnp.arange(problem.sizes[0][0]) == 0,)
        J = J.scale_columns(block_scaling(J, held))
        M = plan.plan.factor(J.gram(plan.pattern), policy=policy)
        return cgnr(J, -residual, preconditioner=M, policy=policy, rtol=1e-10, max_steps=100)

    solution = steps(problem, values, plan)
    assert solution.steps <= 4


def test_bad_settings_are_named():
    with pytest.raises(ValueError, match=r"`CompleteCholesky\(leaf=...\)`: expected at least 1"):
        CompleteCholesky(leaf=0)
    with pytest.raises(ValueError, match="DenseCholesky"):
        DenseCholesky().plan(np.array([0]), np.array([1]), 3, 1)


@both
def test_bad_input_is_named(plan):
    with pytest.raises(ValueError, match="expected blocks of shapes"):
        one = jnp.array([1]), jnp.array([0])
        plan.factor(BlockSymmetric(jnp.ones((N + 1, D, D)), jnp.ones((1, D, D)), *one))


@pytest.mark.slow
@pytest.mark.parametrize(
    "policy",
    [pytest.param("double", marks=pytest.mark.slow), "single,residual=f64,update=f64"],
)
def test_minimum_of_a_pose_graph(x64, policy):
    graph = sphere(5, 8, seed=0)
    problem, values = to_problem(graph), to_values(graph)
    exact = minimise(problem, values, linear="dense")
    solution = minimise(problem, values, preconditioner=CompleteCholesky(), policy=policy)
    assert abs(solution.cost / exact.cost - 1) < 1e-9
    assert solution.linear_steps <= 6 * solution.steps


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("policy", ["double", "single,residual=f64,update=f64"])
def test_manhattan_from_odometry(x64, data_dir, policy):
    """Eigenvalues of the information from 20 to 4e8: no float32 factor exists without a shift."""
    graph = odometry(read_g2o(data_dir / "pose_graphs" / "manhattan.g2o"))
    solution = minimise(
        to_problem(graph), to_values(graph), preconditioner=CompleteCholesky(), policy=policy,
        method=LevenbergMarquardt(),
    )  # fmt: skip
    cost = graph_cost(from_values(graph, solution.to_numpy()))
    assert abs(cost / 1774.520535 - 1) < 1e-6
