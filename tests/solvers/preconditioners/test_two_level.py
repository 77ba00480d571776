"""Two levels against the dense formula, and as what they are for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.precision import Policy
from jaxsci.solvers.nonlinear import (
    SE2,
    SE3,
    Euclidean,
    LieGroup,
    minimise,
    plan_preconditioner,
)
from jaxsci.solvers.preconditioners import BlockJacobi, TwoLevel
from jaxsci.solvers.preconditioners._clusters import clusters
from jaxsci.solvers.slam import (
    from_values,
    graph_cost,
    manhattan,
    read_g2o,
    sphere,
    to_problem,
    to_values,
)
from jaxsci.solvers.sparse import BlockSymmetric

N, D, K = 12, 2, 3
ROWS, COLS = np.array([(i, j) for i in range(N) for j in range(i) if i - j == 1 or i - j == 5]).T
PLAN = TwoLevel(K).plan(ROWS, COLS, N, D)


def matrix(dtype, smallest=0.1):
    """A definite matrix of this pattern whose least eigenvalue is known."""
    rng = np.random.default_rng(0)
    lower = 0.3 * rng.standard_normal((len(ROWS), D, D))
    places = jnp.asarray(ROWS), jnp.asarray(COLS)
    H = BlockSymmetric(jnp.zeros((N, D, D)), jnp.asarray(lower), *places)
    shift = smallest - np.linalg.eigvalsh(np.asarray(H.as_matrix())).min()
    diagonal = jnp.asarray(np.tile(shift * np.eye(D), (N, 1, 1)))
    return eqx.tree_at(lambda H: H.diagonal, H, diagonal).astype(dtype)


def dense(H, modes, damping):
    """`D^-1 + P (P'HP)^-1 P'`, by numpy."""
    full = np.asarray(H.as_matrix(), np.float64) + damping * np.eye(N * D)
    blocks = full.reshape(N, D, N, D)
    M, P = np.zeros((N, D, N, D)), np.zeros((N, D, K, modes.shape[2]))
    for i in range(N):
        M[i, :, i] = np.linalg.inv(blocks[i, :, i])
        P[i, :, int(PLAN.cluster[i])] = modes[i]
    P = P.reshape(N * D, -1)
    return M.reshape(N * D, N * D) + P @ np.linalg.solve(P.T @ full @ P, P.T)


@pytest.mark.parametrize(
    ("policy", "tolerance"),
    [("double", 1e-12), ("double,precondition=f32", 1e-5), ("double,precondition=f16", 1e-2)],
)
@pytest.mark.parametrize("k", [None, 1, 3])
def test_is_the_dense_formula(x64, policy, tolerance, k):
    H = matrix(jnp.float64)
    modes = None if k is None else np.random.default_rng(1).standard_normal((N, D, k))
    M = eqx.filter_jit(PLAN.factor)(
        H, modes=None if k is None else jnp.asarray(modes), policy=Policy.parse(policy),
        damping=0.05,
    )  # fmt: skip
    alike = np.tile(np.eye(D), (N, 1, 1))
    exact = dense(H, alike if k is None else modes, 0.05)
    assert np.abs(M.as_matrix() - exact).max() < tolerance * np.abs(exact).max()
    assert M.mv(jnp.ones(N * D)).dtype == jnp.float64
    assert M.sound


def test_unit_blocks_need_no_block_jacobi(x64):
    H = matrix(jnp.float64)
    size = H.diagonal[0, 0, 0]
    H = BlockSymmetric(H.diagonal / size, H.lower / size, H.rows, H.cols)
    one, other = (
        PLAN.factor(H, scaled=scaled, damping=0.05).as_matrix() for scaled in (True, False)
    )
    np.testing.assert_allclose(one, other, rtol=1e-13)


@pytest.mark.parametrize("which", ["a cluster", "one of each"])
def test_held_variables_keep_what_they_are_given(which):
    H = matrix(jnp.float32)
    held = np.asarray(PLAN.cluster) == 1
    if which == "one of each":
        held = np.isin(np.arange(N), np.asarray(PLAN.middle))
    touched = held[ROWS] | held[COLS]
    H = BlockSymmetric(
        jnp.where(held[:, None, None], 0, H.diagonal),
        jnp.where(touched[:, None, None], 0, H.lower),
        H.rows,
        H.cols,
    )
    M = PLAN.factor(H)
    v = jnp.arange(1, N * D + 1, dtype=jnp.float32).reshape(N, D)
    out = M.mv(v.ravel()).reshape(N, D)
    assert M.sound
    np.testing.assert_array_equal(out[held], v[held])
    assert np.isfinite(out).all()


@pytest.mark.parametrize("within", [False, True])
@pytest.mark.parametrize("policy", [None, "single,precondition=f16"])
def test_without_a_coarse_level_it_is_block_jacobi(policy, within):
    policy = None if policy is None else Policy.parse(policy)
    H = matrix(jnp.float32)
    same = np.asarray(PLAN.cluster)[ROWS] == np.asarray(PLAN.cluster)[COLS]
    at = int(np.argmax(same if within else ~same))
    H = eqx.tree_at(lambda H: H.lower, H, H.lower.at[at].set(jnp.nan))
    M, J = PLAN.factor(H, policy=policy), BlockJacobi().plan().factor(H, policy=policy)
    v = jnp.arange(N * D, dtype=jnp.float32)
    assert not M.sound
    np.testing.assert_array_equal(M.mv(v), J.mv(v))


@pytest.mark.parametrize("size", [1e-10, 1e10])
def test_sixteen_bits_hold_any_size(x64, size):
    H, policy = matrix(jnp.float64), Policy.parse("double,precondition=f16")
    sized = BlockSymmetric(size * H.diagonal, size * H.lower, H.rows, H.cols)
    exact = PLAN.factor(H).as_matrix()
    error = np.abs(size * PLAN.factor(sized, policy=policy).as_matrix() - exact).max()
    assert error < 1e-2 * np.abs(exact).max()


def test_parts_that_nothing_holds_are_left_to_conjugate_gradients(x64):
    """Two chains, neither tied down: their common motions are rounding, not weak directions."""
    rows = np.delete(np.arange(1, 2 * N), N - 1)
    weights = np.random.default_rng(0).uniform(0.3, 3, len(rows))
    for dtype in (jnp.float32, jnp.float64):
        diagonal = np.zeros(2 * N)
        np.add.at(diagonal, rows, weights)
        np.add.at(diagonal, rows - 1, weights)
        H = BlockSymmetric(
            jnp.asarray(diagonal, dtype)[:, None, None],
            -jnp.asarray(weights, dtype)[:, None, None],
            jnp.asarray(rows),
            jnp.asarray(rows - 1),
        )
        M = TwoLevel(2).plan(rows, rows - 1, 2 * N, 1).factor(H)
        assert M.sound
        assert np.linalg.norm(np.asarray(M.as_matrix()), 2) < 10


def test_singular_matrices_have_a_coarse_level(x64):
    """A closed chain of differences: what is alike everywhere costs nothing."""
    rows, cols = np.append(np.arange(1, N), N - 1), np.append(np.arange(N - 1), 0)
    places = jnp.asarray(rows), jnp.asarray(cols)
    for dtype in (jnp.float32, jnp.float64):
        ones = jnp.ones((N, 1, 1), dtype)
        H = BlockSymmetric(2 * ones, -ones, *places)
        M = TwoLevel(4).plan(rows, cols, N, 1).factor(H)
        assert M.sound
        assert np.linalg.eigvalsh(np.asarray(M.as_matrix(), np.float64)).min() > 0


def test_under_vmap():
    H = matrix(jnp.float32)
    diagonals = jnp.stack([H.diagonal, 2 * H.diagonal])
    v = jnp.ones(N * D)

    def solve(diagonal):
        return PLAN.factor(eqx.tree_at(lambda H: H.diagonal, H, diagonal)).mv(v)

    both = jax.jit(jax.vmap(solve))(diagonals)
    for one, diagonal in zip(both, diagonals, strict=True):
        np.testing.assert_allclose(one, solve(diagonal), rtol=1e-5, atol=1e-6)


@settings(max_examples=60, deadline=None)
@given(
    count=st.integers(1, 60),
    wanted=st.integers(1, 70),
    pairs=st.lists(st.tuples(st.integers(0, 59), st.integers(0, 59)), max_size=120),
)
def test_every_vertex_has_a_cluster(count, wanted, pairs):
    kept = {(max(p), min(p)) for p in pairs if max(p) < count and p[0] != p[1]}
    rows, cols = np.array(sorted(kept), np.int64).reshape(-1, 2).T
    wanted = min(wanted, count)
    label, middle = clusters(rows, cols, count, wanted)
    assert label.shape == (count,)
    np.testing.assert_array_equal(label[middle], np.arange(wanted))
    np.testing.assert_array_equal(np.unique(label), np.arange(wanted))
    # Where all hangs together, so does each cluster.
    graph = np.eye(count, dtype=bool)
    graph[rows, cols] = graph[cols, rows] = True
    if (np.linalg.matrix_power(graph.astype(float), count) > 0).all():
        for k in np.unique(label):
            inside = graph[np.ix_(label == k, label == k)].astype(float)
            assert (np.linalg.matrix_power(inside, len(inside)) > 0).all()


def test_clusters_of_a_long_chain_are_of_like_size():
    rows = np.arange(1, 1000)
    sizes = np.bincount(clusters(rows, rows - 1, 1000, 20)[0])
    assert len(sizes) == 20
    assert sizes.max() <= 4 * sizes.mean()


@pytest.mark.parametrize(
    "manifold", [SE2(), SE3(), Euclidean(3), LieGroup(jaxlie.SO3)], ids=["SE2", "SE3", "R3", "SO3"]
)
def test_moved_together_nothing_between_them_changes(x64, manifold):
    """`local(x, y)` along `rigid`, against the first and the second point moved alike."""
    rng = np.random.default_rng(0)
    start = _identity(manifold)
    x, y, near = (
        manifold.retract(start, jnp.asarray(rng.normal(size=manifold.dim))) for _ in range(3)
    )
    np.testing.assert_allclose(manifold.rigid(near, near), np.eye(manifold.dim), atol=1e-12)

    def between(xi):
        moved = [manifold.retract(p, manifold.rigid(p, near) @ xi) for p in (x, y)]
        return manifold.local(*moved)

    slope = jax.jacfwd(between)(jnp.zeros(manifold.dim))
    np.testing.assert_allclose(slope, 0, atol=1e-12)
    alone = jax.jacfwd(lambda xi: manifold.local(manifold.retract(x, xi), y))
    assert np.abs(alone(jnp.zeros(manifold.dim))).max() > 0.1


def _identity(manifold):
    if isinstance(manifold, Euclidean):
        return jnp.zeros(manifold.dim)
    if isinstance(manifold, LieGroup):
        return manifold.group.identity().parameters()
    return manifold.identity(jnp.float64)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("policy", ["double", "pose_graph,residual=f64,update=f64"])
def test_minimum_of_a_pose_graph_in_fewer_steps(x64, policy):
    graph = sphere(10, 16, seed=0)
    problem, values = to_problem(graph), to_values(graph)
    alone = minimise(problem, values, policy=policy)
    found = minimise(problem, values, policy=policy, preconditioner=TwoLevel())
    assert abs(found.cost / alone.cost - 1) < 1e-9
    assert int(found.linear_steps) <= 0.5 * int(alone.linear_steps)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("policy", ["single,residual=f64,update=f64", "double"])
def test_far_from_the_origin_it_takes_no_more_steps(x64, policy):
    """In metres from the equator, as maps have them."""
    graph = manhattan(400, seed=0)
    moved = graph.with_poses(graph.poses + np.array([0, 0, 5e6, 5e6]))
    here, there = (
        minimise(to_problem(g), to_values(g), preconditioner=TwoLevel(), policy=policy)
        for g in (graph, moved)
    )
    assert int(there.linear_steps) <= 1.3 * int(here.linear_steps)


@pytest.mark.slow
def test_derivatives_of_a_minimum(x64):
    """The same with two levels as with blocks: a preconditioner has no say in what is solved."""
    graph = sphere(4, 8, seed=0)
    problem, values = to_problem(graph), to_values(graph)
    plan = plan_preconditioner(problem, TwoLevel())

    def moved(measurement, preconditioner):
        changed = eqx.tree_at(lambda p: p.factors[0].measurement, problem, measurement)
        # Far enough that both are at the same point: derivatives differ as the points do.
        found = minimise(changed, values, preconditioner=preconditioner, rtol=1e-15)
        return jnp.sum(jnp.sin(found.values["poses"]))

    at = problem.factors[0].measurement
    one, other = (jax.grad(moved)(at, made) for made in (plan, None))
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-7 * np.abs(other).max())


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "cost", "steps"), [("sphere2500", 675.7009629, 300), ("city10000", 255.9937253, 450)]
)
def test_real_graphs(name, cost, steps, data_dir, x64):
    """Costs are GTSAM's; block Jacobi takes 2744 and 6590 steps."""
    graph = read_g2o(data_dir / "pose_graphs" / f"{name}.g2o")
    found = minimise(
        to_problem(graph), to_values(graph), preconditioner=TwoLevel(),
        policy="single,residual=f64,update=f64",
    )  # fmt: skip
    assert abs(graph_cost(from_values(graph, found.to_numpy())) / cost - 1) < 1e-7
    assert found.linear_steps <= steps


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"`TwoLevel\(clusters=...\)`: expected at least 1, got 0"):
        TwoLevel(0)
    with pytest.raises(ValueError, match="expected blocks of shapes"):
        one = jnp.array([1]), jnp.array([0])
        PLAN.factor(BlockSymmetric(jnp.ones((N + 1, D, D)), jnp.ones((1, D, D)), *one))
    with pytest.raises(ValueError, match=r"`TwoLevelPlan.factor\(modes=...\)`: expected shape"):
        PLAN.factor(matrix(jnp.float32), modes=jnp.ones((N, D + 1, 2)))
