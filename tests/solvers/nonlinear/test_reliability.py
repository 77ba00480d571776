"""Problems without a good answer end with the right sentence, and never with NaN in a success."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.solvers.nonlinear import (
    MINIMISE_RESULTS,
    SE2,
    Euclidean,
    Factors,
    GaussNewton,
    Huber,
    Iterative,
    LevenbergMarquardt,
    Problem,
    Variables,
    between,
    minimise,
)

R = MINIMISE_RESULTS
N, F = 5, 8


def _difference(x, y, z):
    return y - x - z


def _graph(edges, z, weights, held=(), kernel=None):
    factors = Factors(_difference, ("x", "x"), edges, z[:, None], weights, kernel)
    mask = np.isin(np.arange(N), held)
    return Problem({"x": Variables(Euclidean(1), N)}, [factors], {"x": mask})


CHAIN = np.array([(0, 1), (1, 2), (2, 3), (3, 4), (0, 2), (1, 3), (2, 4), (0, 4)])
PARTS = np.array([(0, 1), (1, 2), (0, 2), (0, 1), (3, 4), (3, 4), (3, 4), (4, 3)])
Z = np.random.default_rng(0).normal(size=F).astype(np.float32)
ONE, START = np.ones(F, np.float32), {"x": np.zeros((N, 1), np.float32)}
WEIGHTLESS = np.where((CHAIN == 4).any(1), 0, ONE).astype(np.float32)


@pytest.mark.slow_but(7)
@pytest.mark.parametrize(
    "edges, weights, held, method, linear, result",
    [
        (CHAIN, ONE, [0], GaussNewton(), "dense", R.successful),
        (CHAIN, ONE, [], GaussNewton(), "dense", R.singular),
        (CHAIN, ONE, [], LevenbergMarquardt(), "cgnr", R.successful),
        (CHAIN, ONE, [], LevenbergMarquardt(), "dense", R.successful),
        (PARTS, ONE, [0], GaussNewton(), "dense", R.singular),
        (PARTS, ONE, [0], LevenbergMarquardt(), "cgnr", R.successful),
        (CHAIN, ONE, [], GaussNewton(), "cholesky", R.singular),
        (PARTS, ONE, [0, 3], GaussNewton(), "cholesky", R.successful),
        (PARTS, ONE, [0, 3], GaussNewton(), "dense", R.successful),
        (CHAIN, WEIGHTLESS, [0], GaussNewton(), "dense", R.successful),
        (CHAIN, 0 * ONE, [0], LevenbergMarquardt(), "dense", R.successful),
        (CHAIN, np.where(ONE > 0, np.nan, 0), [0], GaussNewton(), "dense", R.non_finite_start),
        (CHAIN, 1e30 * ONE, [0], GaussNewton(), "dense", R.non_finite_start),
        (CHAIN, ONE, [0, 1, 2, 3, 4], GaussNewton(), "dense", R.successful),
    ],
)
def test_graphs_that_are_loose_apart_weightless_or_overweight(
    edges, weights, held, method, linear, result
):
    problem = _graph(edges, Z, np.asarray(weights, np.float32), held)
    solution = minimise(problem, START, method=method, linear=linear, throw=False)
    assert R[solution.result] == R[result]
    x = np.asarray(solution.values["x"])[:, 0]
    assert np.isfinite(x).all()
    if result == R.successful:
        w = np.asarray(weights, float)
        step = np.zeros((F, N))
        step[np.arange(F), edges[:, 1]] += 1
        step[np.arange(F), edges[:, 0]] -= 1
        free = np.setdiff1d(np.arange(N), held)
        rows = w[:, None] * step
        best = np.linalg.lstsq(rows[:, free], w * Z, rcond=None)[0]
        least = 0.5 * np.sum((rows[:, free] @ best - w * Z) ** 2)
        assert float(solution.cost) == pytest.approx(least, rel=1e-5, abs=1e-9)
    # What no factor weighs, and what is held, stays.
    assert (x[np.asarray(held, int)] == 0).all()
    assert weights is not WEIGHTLESS or x[4] == 0


def test_a_huge_outlier_is_survived_and_with_a_kernel_ignored():
    z = Z.copy()
    z[5] = 1e8
    for kernel in (None, Huber(1.0)):
        solution = minimise(
            _graph(CHAIN, z, ONE, [0], kernel),
            START,
            linear="dense",
            throw=False,
            method=LevenbergMarquardt(),
        )
        assert np.isfinite(np.asarray(solution.values["x"])).all()
        assert R[solution.result] == ""
    assert np.abs(np.asarray(solution.values["x"])).max() < 20


def _log(x, z):
    return jnp.log(x) - z


def _bent(x, z):
    return jnp.arctan(x) + 0 * z


def _uphill(x, z):
    return x - z


def _scalar(residual, jacobian=None):
    one = np.zeros((1, 1), np.float32)
    factors = Factors(residual, "x", np.zeros((1, 1), int), one, jacobian=jacobian)
    return Problem({"x": Variables(Euclidean(1), 1)}, [factors])


@pytest.mark.parametrize(
    "problem, start, method, more, result",
    [
        (_scalar(_log), 5.0, GaussNewton(), {}, R.non_finite_step),
        (_scalar(_log), 5.0, LevenbergMarquardt(), {}, R.successful),
        (_scalar(_log), -1.0, LevenbergMarquardt(), {}, R.non_finite_start),
        (_scalar(_bent), 1.5, GaussNewton(), {"max_steps": 4}, R.diverged),
        (_scalar(_bent), 1.5, LevenbergMarquardt(), {}, R.successful),
        (_scalar(_log), 1e-6, LevenbergMarquardt(), {"max_steps": 2}, R.max_steps_reached),
        (
            _scalar(_uphill, lambda x, z: (-jnp.ones((1, 1)),)),
            1.0,
            LevenbergMarquardt(),
            {},
            R.stalled,
        ),
    ],
)
def test_each_way_to_end_has_its_sentence(problem, start, method, more, result):
    x0 = {"x": np.full((1, 1), start, np.float32)}
    solution = minimise(problem, x0, method=method, linear="dense", throw=False, **more)
    assert R[solution.result] == R[result]
    assert np.isfinite(np.asarray(solution.values["x"])).all()
    if result not in (R.successful,):
        with pytest.raises(RuntimeError, match=R[result][:30]):
            minimise(problem, x0, method=method, linear="dense", **more)


def test_a_linear_solver_that_is_stopped_early_is_not_called_a_success():
    problem = _graph(CHAIN, Z, ONE, [0])
    solution = minimise(problem, START, linear=Iterative(max_steps=1), max_steps=3, throw=False)
    assert solution.result in (R.linear_max_steps_reached, R.max_steps_reached)


MOTION = SE2()


@settings(max_examples=30)
@given(
    st.lists(st.integers(0, N - 1), min_size=2 * F, max_size=2 * F),
    st.lists(st.sampled_from([0.0, 1e-3, 1.0, 1e3]), min_size=F, max_size=F),
    st.lists(st.sampled_from([0.0, 1.0, -2.0, 1e4]), min_size=3 * F, max_size=3 * F),
    st.lists(st.booleans(), min_size=N, max_size=N),
)
def test_random_graphs_never_hold_nan_in_a_success(flat, weights, steps, held):
    edges = np.array(flat, np.int32).reshape(F, 2)
    z = jax.vmap(MOTION.exp)(jnp.asarray(np.reshape(steps, (F, 3)), jnp.float32))
    information = np.array(weights, np.float32)[:, None, None] * np.eye(3, dtype=np.float32)
    problem = Problem(
        {"poses": Variables(MOTION, N)},
        [between(MOTION, "poses", edges, z, information)],
        {"poses": np.array(held)},
    )
    start = np.tile(np.array([1, 0, 0, 0], np.float32), (N, 1))
    solution = minimise(
        problem, {"poses": start}, method=LevenbergMarquardt(), linear="dense", throw=False
    )
    assert np.isfinite(np.asarray(solution.values["poses"])).all()
    assert np.isfinite(float(solution.cost))
    assert float(solution.cost) <= float(solution.history.cost[0]) * (1 + 1e-6)
    assert R[solution.result] not in (R[R.non_finite_start], R[R.non_finite_step], R[R.diverged])


@pytest.mark.parametrize("method", [LevenbergMarquardt(initial=1e-12), GaussNewton()])
def test_a_failed_factorisation_is_damped_or_said(method):
    """The Jacobian has rank 1 at the start: only damping finds a step."""

    def pair(a, b, _):
        return jnp.concatenate([a + b - 2, (a - b) ** 2])

    problem = Problem(
        {"x": Variables(Euclidean(1), 2)}, [Factors(pair, ("x", "x"), np.array([[0, 1]]))]
    )
    x0 = {"x": jnp.zeros((2, 1))}
    solution = minimise(problem, x0, method=method, linear="cholesky", throw=False)
    if isinstance(method, GaussNewton):
        assert solution.result == MINIMISE_RESULTS.singular
        np.testing.assert_array_equal(solution.values["x"], x0["x"])
    else:
        assert solution.result == MINIMISE_RESULTS.successful
        # The cost is quartic in a - b: it, not a - b, falls to rounding.
        assert solution.cost < 1e-12
        np.testing.assert_allclose(solution.values["x"].sum(), 2.0, rtol=1e-6)
