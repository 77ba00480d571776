"""Every method and linear solver on a small graph of poses, against scipy in float64."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize

from jaxsci.precision import Policy
from jaxsci.solvers.nonlinear import (
    MINIMISE_RESULTS,
    SE2,
    DogLeg,
    Euclidean,
    Factors,
    Iterative,
    LevenbergMarquardt,
    Problem,
    Variables,
    between,
    cost,
    linearise,
    minimise,
)
from jaxsci.solvers.preconditioners import CompleteCholesky, IncompleteCholesky
from jaxsci.solvers.slam import manhattan, to_problem, to_values

N = 8
MOTION = SE2()


def _compose(a, b):
    c, s = a[..., 0], a[..., 1]
    rotation = [c * b[..., 0] - s * b[..., 1], s * b[..., 0] + c * b[..., 1]]
    shift = [c * b[..., 2] - s * b[..., 3] + a[..., 2], s * b[..., 2] + c * b[..., 3] + a[..., 3]]
    return np.stack(rotation + shift, -1)


def _inverse(a):
    c, s, x, y = np.moveaxis(a, -1, 0)
    return np.stack([c, -s, -(c * x + s * y), s * x - c * y], -1)


def _pose(x, y, angle):
    return np.stack([np.cos(angle), np.sin(angle), x, y], -1)


def _world(seed=0, far=0.0):
    """A loop of poses, noisy measurements along it and across, and a bad start."""
    rng = np.random.default_rng(seed)
    angle = np.linspace(0, 2 * np.pi, N, endpoint=False)
    truth = _pose(far + 3 * np.cos(angle), far + 3 * np.sin(angle), angle + np.pi / 2)
    edges = np.array([(k, (k + 1) % N) for k in range(N)] + [(0, 3), (2, 6), (1, 5), (4, 7)])
    noise = 0.1 * rng.normal(size=(len(edges), 3))
    z = _compose(_inverse(truth[edges[:, 0]]), truth[edges[:, 1]])
    z = _compose(z, _pose(*noise.T))
    root = rng.normal(size=(len(edges), 3, 3))
    information = root @ root.transpose(0, 2, 1) + 3 * np.eye(3)
    start = _compose(truth, _pose(*(0.3 * rng.normal(size=(3, N)))))
    start[0] = truth[0]
    return edges, z, information, start


def _made(edges, z, information, start, kernel=None):
    fixed = {"poses": np.arange(N) == 0}
    factors = between(MOTION, "poses", edges, z, information, kernel)
    return Problem({"poses": Variables(MOTION, N)}, [factors], fixed), {"poses": start}


def _log(d):
    angle = np.arctan2(d[..., 1], d[..., 0])
    g = np.where(angle == 0, 1, angle / 2 / np.tan(np.where(angle == 0, 1, angle / 2)))
    x, y = d[..., 2], d[..., 3]
    return np.stack([g * x + angle / 2 * y, g * y - angle / 2 * x, angle], -1)


def _scipy(edges, z, information, start):
    """The least cost, by a solver and with residuals of its own."""
    root = np.linalg.cholesky(information).transpose(0, 2, 1)

    def residual(flat):
        poses = _pose(*np.concatenate([[first], flat.reshape(-1, 3)]).T)
        i, j = poses[edges[:, 0]], poses[edges[:, 1]]
        return np.einsum("fij,fj->fi", root, _log(_compose(_inverse(_compose(i, z)), j))).ravel()

    c, s, x, y = start.T
    at = np.stack([x, y, np.arctan2(s, c)], -1)
    first = at[0]
    return scipy.optimize.least_squares(residual, at[1:].ravel(), xtol=1e-15, ftol=1e-15).cost


WORLD = _world()
BEST = _scipy(*WORLD)
RUNS = {
    "Gauss-Newton, dense": {"linear": "dense"},
    "Gauss-Newton, CG": {},
    "Levenberg-Marquardt": {"method": LevenbergMarquardt(), "linear": "dense"},
    "dog leg": {"method": DogLeg(radius=1.0), "linear": "dense"},
    "Cholesky": {"linear": "cholesky"},
    "factored, fresh": {"preconditioner": IncompleteCholesky(), "refresh": "always"},
    "factored once": {"preconditioner": IncompleteCholesky(), "refresh": "never"},
    # Of a radius so small that it has to grow, and overshoots.
    "factored, dog leg": {
        "method": DogLeg(radius=1e-2),
        "preconditioner": IncompleteCholesky(),
        "refresh": "always",
    },
}


@pytest.mark.slow_but(3)
@pytest.mark.parametrize("name", RUNS)
def test_every_method_finds_the_cost_that_scipy_finds(name, x64):
    problem, x0 = _made(*WORLD)
    solution = minimise(problem, x0, **RUNS[name])
    assert abs(float(solution.cost) / BEST - 1) < 1e-10
    assert MINIMISE_RESULTS[solution.result] == ""
    assert float(solution.cost) == pytest.approx(float(cost(problem, solution.values)), rel=1e-12)
    costs = np.asarray(solution.history.cost)
    steps = int(solution.steps)
    assert np.isfinite(costs[: steps + 1]).all() and np.isnan(costs[steps + 1 :]).all()
    used = np.asarray(solution.history.linear_steps)
    assert (used[:steps] >= 0).all() and (used[steps:] == -1).all()
    assert used[:steps].sum() == int(solution.linear_steps)
    # The held pose has not moved at all.
    assert (np.asarray(solution.values["poses"][0]) == WORLD[3][0]).all()


@pytest.mark.slow
def test_float32_pairs_are_as_good_as_float64_far_from_the_origin():
    world = _world(far=1000.0)
    problem, x0 = _made(*world)
    paired = minimise(problem, x0)
    assert paired.values["poses"].dtype == jnp.float32 and paired.low is not None
    plain = minimise(problem, x0, compensated=False, throw=False)
    best = _scipy(*world)
    with jax.enable_x64(True):
        exact, _ = _made(*world)
        gaps = []
        for solution in (paired, plain):
            # On the manifold: a rotation 2e-8 too long would change the cost by as much.
            poses = solution.to_numpy()["poses"]
            poses[:, :2] /= np.hypot(poses[:, 0], poses[:, 1])[:, None]
            gaps.append(abs(float(cost(exact, {"poses": poses})) / best - 1))
    # Half a millionth of 1000 is 6e-5: that is what plain float32 cannot resolve.
    assert gaps[0] < 1e-9 and gaps[1] > 1e-8


def test_mixed_policies_meet_the_float64_cost(x64):
    problem, x0 = _made(*WORLD)
    for policy in ("single,update=f64", Policy(residual="float64", update="float64")):
        solution = minimise(problem, x0, policy=policy)
        assert solution.values["poses"].dtype == jnp.float64
        assert abs(float(cost(problem, solution.values)) / BEST - 1) < 1e-9


def _product(a, b, slopes):
    return slopes[:1] * b - slopes[1:] * a


def _pull(x, weight):
    return weight * (x - 1)


@pytest.mark.slow
def test_rounded_products_do_not_hide_a_weak_direction(x64):
    # x_k+1 = c_k x_k leaves one direction, held by a weak pull on the first alone. In half
    # precision the c_k are others, and the direction looks a thousand times as stiff.
    n, weak = 60, 1e-3
    slopes = 1 + 0.1 * np.random.default_rng(0).random((n - 1, 2))
    pairs = np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)
    problem = Problem(
        {"x": Variables(Euclidean(1), n)},
        [
            Factors(_product, ("x", "x"), pairs, slopes),
            Factors(_pull, ("x",), np.array([[0]]), np.full((1, 1), weak)),
            Factors(_pull, ("x",), np.array([[n - 1]]), np.full((1, 1), weak)),
        ],
    )
    rows = np.zeros((n + 1, n))
    for k, (up, down) in enumerate(slopes):
        rows[k, k + 1], rows[k, k] = up, -down
    rows[n - 1, 0] = rows[n, n - 1] = weak
    right = np.r_[np.zeros(n - 1), weak, weak]
    best = np.linalg.lstsq(rows, right)[0]
    policy = "bundle_adjustment,residual=f64,update=f64"
    solution = minimise(
        problem,
        {"x": np.zeros((n, 1))},
        linear=Iterative(max_steps=100),
        preconditioner=CompleteCholesky(),
        policy=policy,
        throw=False,
    )
    # Without the steps that follow it is 0.03.
    assert np.abs(solution.to_numpy()["x"][:, 0] - best).max() < 1e-6


TRACED = []


def _counted(xi, xj, z):
    TRACED.append(1)
    return MOTION.log(MOTION.between(z, MOTION.between(xi, xj)))


def _by_hand(edges, z, information, start):
    """As `_made`, with a residual that counts its traces, and Jacobians by forward mode."""
    problem, x0 = _made(edges, z, information, start)
    given = problem.factors[0]
    factors = Factors(_counted, ("poses", "poses"), edges, z, given.sqrt_information)
    return Problem(problem.variables, [factors], problem.fixed), x0


def test_a_second_problem_of_the_same_structure_is_not_compiled_again():
    found = []
    for seed in (0, 1, 2):
        edges, *rest = _world(seed)
        # Other numbers, other edges, other weights: the same shapes.
        edges = (edges + seed) % N if seed else edges
        problem, x0 = _by_hand(edges, *rest)
        found.append(minimise(problem, x0, linear="dense", throw=False))
        traced = len(TRACED)
        if seed == 0:
            first = traced
    assert first > 0 and len(TRACED) == first
    assert float(found[0].cost) == pytest.approx(BEST, rel=1e-5)


@pytest.mark.slow
def test_jacobians_by_forward_mode_are_the_analytic_ones_and_those_of_differences(x64):
    problem, x0 = _made(*WORLD)
    analytic, residual = linearise(problem, x0)
    other, same = linearise(_by_hand(*WORLD)[0], x0)
    J = np.asarray(analytic.as_matrix())
    np.testing.assert_allclose(J, other.as_matrix(), atol=1e-12)
    np.testing.assert_allclose(residual, same, atol=1e-12)
    step = 1e-6
    for column in (0, 4, 3 * N - 1):
        delta = np.zeros((N, 3))
        delta.flat[column] = step
        moved = [
            linearise(problem, {"poses": jax.vmap(MOTION.retract)(x0["poses"], sign * delta)})[1]
            for sign in (1, -1)
        ]
        np.testing.assert_allclose(J[:, column], (moved[0] - moved[1]) / (2 * step), atol=1e-8)


def test_inside_jit_and_vmap():
    worlds = [_world(seed) for seed in (0, 1)]
    made = [_made(WORLD[0], *world[1:]) for world in worlds]
    problems, starts = jax.tree.map(lambda *x: jnp.stack(x), *made)

    @eqx.filter_jit
    @eqx.filter_vmap
    def both(problem, x0):
        return minimise(problem, x0, linear="dense", throw=False)

    batch = both(problems, starts)
    for k, (problem, x0) in enumerate(made):
        single = minimise(problem, x0, linear="dense")
        assert float(batch.cost[k]) == pytest.approx(float(single.cost), rel=1e-5)
        assert int(batch.steps[k]) == int(single.steps)
    assert (batch.result == MINIMISE_RESULTS.successful).all()


@pytest.mark.parametrize(
    "change, match",
    [
        ({"linear": "dens"}, "did you mean 'dense'"),
        (
            {"linear": 3},
            r"`minimise\(linear=...\)`: expected cgnr, dense, chol.* got 3",
        ),
        ({"method": "lm"}, r"expected a method, e.g. `LevenbergMarquardt\(\)`, got 'lm'"),
        ({"max_steps": 0}, r"`minimise\(max_steps=...\)`: expected at least 1, got 0"),
        ({"policy": "singel"}, "did you mean 'single'"),
        ({"policy": "double"}, "needs 64-bit types"),
        ({"x0": {"pose": np.zeros((N, 4))}}, "expected the groups poses, got pose"),
        ({"x0": {"poses": np.zeros((N, 7))}}, r"expected shape \(8, 4\), got \(8, 7\)"),
        ({"x0": {"poses": np.zeros((N, 4), int)}}, "expected floats, got int"),
    ],
)
def test_bad_input_is_named(change, match):
    problem, x0 = _made(*WORLD)
    given = {"x0": x0} | change
    with pytest.raises((ValueError, TypeError), match=match):
        minimise(problem, **given)


@pytest.mark.slow
def test_reported_iterations_are_those_of_the_whole_loop(x64):
    problem, x0 = _made(*WORLD)
    settings = {"method": LevenbergMarquardt(), "preconditioner": IncompleteCholesky()}
    whole = minimise(problem, x0, **settings)
    seen = []
    stepped = minimise(problem, x0, report=seen.append, **settings)
    # Several programs, whose sums may be in another order.
    np.testing.assert_allclose(stepped.cost, whole.cost, rtol=1e-13)
    np.testing.assert_allclose(stepped.values["poses"], whole.values["poses"], atol=1e-9)
    assert stepped.result == MINIMISE_RESULTS.successful
    steps = int(stepped.steps)
    assert [iteration.step for iteration in seen] == list(range(steps + 1))
    for name in ("cost", "damping", "linear_steps"):
        told = [getattr(iteration, name) for iteration in seen]
        known = np.asarray(getattr(stepped.history, name))[: steps + 1]
        np.testing.assert_array_equal(told, np.maximum(known, 0))
    assert all(a.seconds < b.seconds for a, b in zip(seen, seen[1:], strict=False))
    with pytest.raises(ValueError, match=r"`minimise\(report=...\)`: numbers can be reported outs"):
        jax.jit(lambda x: minimise(problem, x, report=seen.append).cost)({"poses": WORLD[3]})
    stopped = minimise(problem, x0, max_steps=1, report=seen.append, throw=False)
    assert stopped.result == MINIMISE_RESULTS.max_steps_reached and int(stopped.steps) == 1


def test_reported_iterations_are_compiled_once():
    seen = []
    for seed in (0, 1):
        edges, *rest = _world(seed)
        problem, x0 = _by_hand(edges, *rest)
        minimise(problem, x0, linear="dense", report=seen.append, throw=False)
        if seed == 0:
            first = len(TRACED)
    assert seen and len(TRACED) == first


def test_half_precision_residuals_are_never_called_a_success():
    """Their rounding is the size of what is to be found; the halves would end at any cost."""
    problem, x0 = _made(*WORLD)
    solution = minimise(problem, x0, policy="naive_half", throw=False)
    assert solution.result == MINIMISE_RESULTS.unresolved
    with pytest.raises(RuntimeError, match="dtype so narrow that their rounding hides"):
        minimise(problem, x0, policy="naive_half")


@pytest.mark.slow
@pytest.mark.parametrize("method", [None, LevenbergMarquardt()])
def test_a_factor_in_float32_solves_what_it_cannot_hold(method):
    # The weakest directions of a long drive are below the rounding of J'J.
    graph = manhattan(200, seed=0)
    solution = minimise(to_problem(graph), to_values(graph), method=method, linear="cholesky")
    with jax.enable_x64(True):
        best = minimise(to_problem(graph), to_values(graph), linear="cholesky")
        poses = jnp.asarray(solution.to_numpy()["poses"])
        reached = float(cost(to_problem(graph), {"poses": poses}))
    assert int(solution.steps) < 20
    assert abs(reached / float(best.cost) - 1) < 1e-6
