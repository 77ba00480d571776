"""The projection on an inequality against independent optimisers, and its stated properties."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize as so
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.conservation import (
    INEQUALITY_RESULTS,
    LinearConstraint,
    Monotone,
    Nonnegative,
    TotalVariation,
    condition,
    project_inequality,
    project_inequality_with_certificate,
)
from jaxsci.gaussians import Gaussian

N = 7
WEIGHTS = np.array([0.5, 1.0, 1.5, 1.0, 0.5, 2.0, 0.75])
SETS = {
    "nonnegative": Nonnegative(),
    "decreasing": Monotone(),
    "increasing": Monotone(decreasing=False, nonnegative=False),
    "total-variation": TotalVariation(1.0),
}
# Compiling takes seconds for each set, dtype and kind of equality, so not every pair is in every
# test; the two that are solved in different ways always are.
QUICK = ["nonnegative", "decreasing", "total-variation"]


def solve(mean, cov, inequality, equality, dense=True):
    gaussian = Gaussian.dense(mean, cov) if dense else Gaussian.diagonal(mean, cov)
    return project_inequality_with_certificate(gaussian, inequality, equality=equality)


def problem(seed, rank=N, dtype=np.float64):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(N, rank)) * 10.0 ** rng.uniform(-1, 1, size=(N, 1))
    mean = rng.normal(size=N) + 0.3
    return jnp.asarray(mean, dtype), jnp.asarray(factor @ factor.T, dtype)


def typed(inequality, dtype):
    if isinstance(inequality, TotalVariation):
        return TotalVariation(jnp.asarray(inequality.bound, dtype))
    return inequality


def total(mean, dtype=np.float64, value=None):
    weights = jnp.asarray(WEIGHTS, dtype)
    b = jnp.asarray(3.0 if value is None else value, dtype)
    return LinearConstraint(weights, b)


def scipy_rows(name):
    """`A v + B t >= c` for the sets of this file, with `t` bounding the differences."""
    eye, steps = np.eye(N), np.diff(np.eye(N), axis=0)
    none = np.zeros((N, 0))
    match name:
        case "nonnegative":
            return eye, none, np.zeros(N)
        case "decreasing":
            return np.vstack([-steps, eye[-1:]]), none, np.zeros(N)
        case "increasing":
            return steps, none[1:], np.zeros(N - 1)
        case _:
            A = np.vstack([-steps, steps, np.zeros((1, N))])
            B = np.vstack([np.eye(N - 1), np.eye(N - 1), -np.ones((1, N - 1))])
            return A, B, np.append(np.zeros(2 * N - 2), -1.0)


def oracle(name, mean, cov, equality):
    """SLSQP over the covariance's factor, from a feasible constant field."""
    values, vectors = np.linalg.eigh(cov)
    L = vectors * np.sqrt(np.maximum(values, 0))
    A, B, c = scipy_rows(name)
    p = B.shape[1]
    limits = [
        {
            "type": "ineq",
            "fun": lambda x: A @ (mean + L @ x[:N]) + B @ x[N:] - c,
            "jac": lambda x: np.hstack([A @ L, B]),
        }
    ]
    if equality:
        limits.append(
            {
                "type": "eq",
                "fun": lambda x: [WEIGHTS @ (mean + L @ x[:N]) - 3.0],
                "jac": lambda x: np.append(WEIGHTS @ L, np.zeros(p))[None],
            }
        )
    found = so.minimize(
        lambda x: 0.5 * x[:N] @ x[:N],
        np.append(np.linalg.lstsq(L, 1.0 - mean, rcond=None)[0], np.zeros(p)),
        jac=lambda x: np.append(x[:N], np.zeros(p)),
        constraints=limits,
        method="SLSQP",
        options={"ftol": 1e-15, "maxiter": 500},
    )
    return mean + L @ found.x[:N], np.linalg.norm(found.x[:N])


@pytest.mark.slow_but(4)
@pytest.mark.parametrize("equality", [False, True], ids=["alone", "equality"])
@pytest.mark.parametrize("name", SETS)
def test_matches_a_general_optimiser(name, equality, x64):
    for seed in range(3):
        mean, cov = problem(seed)
        updated, certificate = solve(
            mean, cov, typed(SETS[name], np.float64), total(mean) if equality else None
        )
        expected, distance = oracle(name, np.asarray(mean), np.asarray(cov), equality)
        assert INEQUALITY_RESULTS[certificate.result] == ""
        assert float(certificate.optimality) < 1e-10
        # SLSQP stops at about 1e-7 of its objective; ours is never farther than its answer.
        np.testing.assert_allclose(float(certificate.distance), distance, rtol=2e-6)
        assert float(certificate.distance) <= distance * (1 + 1e-9)
        np.testing.assert_allclose(updated.mean, expected, atol=1e-4)


def test_diagonal_decreasing_is_weighted_isotonic_regression(x64):
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=N), 10.0 ** rng.uniform(-2, 2, size=N)
    inequality = Monotone(nonnegative=False)
    updated, certificate = solve(jnp.asarray(mean), jnp.asarray(variance), inequality, None, False)
    expected = so.isotonic_regression(mean, weights=1 / variance, increasing=False).x
    np.testing.assert_allclose(updated.mean, expected, atol=1e-13)
    flat = np.diff(expected) == 0
    np.testing.assert_array_equal(certificate.active, flat)
    np.testing.assert_array_equal(np.diff(updated.mean) == 0, flat)


def test_nonnegative_with_a_total_is_a_simplex_projection(x64):
    mean = np.array([0.9, -0.3, 0.4, 0.2, -1.0, 0.1, 0.6])
    equality = LinearConstraint(jnp.ones(N), jnp.asarray(1.0))
    updated, _ = solve(jnp.asarray(mean), jnp.ones(N), Nonnegative(), equality, False)
    level = so.brentq(lambda c: np.maximum(mean - c, 0).sum() - 1, -2, 2, xtol=1e-15)
    np.testing.assert_allclose(updated.mean, np.maximum(mean - level, 0), atol=1e-14)


@pytest.mark.parametrize("name", ["nonnegative", "decreasing"])
def test_matches_bounded_least_squares(name, x64):
    """The same quadratic through its cone generators, by an active-set least squares."""
    mean, cov = problem(5)
    generators = np.eye(N) if name == "nonnegative" else np.triu(np.ones((N, N)))
    root = np.linalg.cholesky(np.linalg.inv(cov)).T
    found = so.nnls(root @ generators, root @ np.asarray(mean))[0]
    updated, _ = solve(mean, cov, SETS[name], None)
    np.testing.assert_allclose(updated.mean, generators @ found, atol=1e-9)


@pytest.mark.slow
@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 10_000),
    name=st.sampled_from(QUICK),
    rank=st.sampled_from([2, 4, N]),
)
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_properties(dtype, seed, name, rank):
    with jax.enable_x64(dtype == np.float64):
        # Rank-deficient covariances reach a feasible field if a feasible mean says so.
        mean, cov = problem(seed, rank, dtype)
        rng = np.random.default_rng(seed)
        anchor = {
            "nonnegative": rng.uniform(0, 1, N),
            "decreasing": np.sort(rng.uniform(0, 1, N))[::-1],
            "increasing": np.sort(rng.uniform(-1, 1, N)),
            "total-variation": np.full(N, rng.normal()) + np.append(0.4, np.zeros(N - 1)),
        }[name]
        away = np.asarray(cov) @ rng.normal(size=N) / np.sqrt(np.trace(cov))
        mean = jnp.asarray(anchor + away, dtype)
        b = jnp.asarray(WEIGHTS @ anchor, dtype)
        inequality = typed(SETS[name], dtype)
        constraint = total(mean, dtype, b)
        updated, certificate = solve(mean, cov, inequality, constraint)
        eps, v = np.finfo(dtype).eps, np.asarray(updated.mean, np.float64)
        assert INEQUALITY_RESULTS[certificate.result] == ""
        slack = np.asarray(inequality.slack(updated.mean))
        if name == "total-variation":
            assert slack.min() >= -4 * N * eps
        else:
            assert slack.min() >= 0 and float(certificate.violation) == 0
        residual = abs(np.sum(WEIGHTS * v) - float(b))
        assert residual <= 4 * eps * np.sum(np.abs(WEIGHTS * v))
        # The optimality conditions, in standard deviations.
        assert float(certificate.optimality) <= 8 * eps**0.5
        again, second = solve(updated.mean, cov, inequality, constraint)
        np.testing.assert_allclose(again.mean, v, atol=200 * eps * (1 + np.abs(v).max()))


@pytest.mark.parametrize(
    ("name", "dtype"), [(n, np.float64) for n in SETS] + [("total-variation", np.float32)]
)
def test_a_field_that_obeys_is_returned_bit_for_bit(name, dtype):
    with jax.enable_x64(dtype == np.float64):
        mean = jnp.asarray(np.linspace(0.1, 0.9, N), dtype)
        mean = mean[::-1] if name == "decreasing" else mean
        updated, certificate = solve(mean, problem(0, N, dtype)[1], typed(SETS[name], dtype), None)
        np.testing.assert_array_equal(updated.mean, mean)
        assert int(certificate.steps) == 0


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("made", ["conditioned", "dense"])
def test_an_exactly_conditioned_covariance_keeps_its_constraint(made, dtype):
    with jax.enable_x64(dtype == np.float64):
        eps = np.finfo(dtype).eps
        for seed in range(4):
            mean, cov = problem(seed, N, dtype)
            equality = total(mean, dtype)
            given = conditioned = condition(Gaussian.dense(mean, cov), equality)
            if made == "dense":
                matrix = conditioned.cov.as_matrix()
                given = Gaussian.dense(conditioned.mean, (matrix + matrix.T) / 2)
            alone = project_inequality(given, Nonnegative())
            both = project_inequality(given, Nonnegative(), equality=equality)
            direct = project_inequality(Gaussian.dense(mean, cov), Nonnegative(), equality=equality)
            # The standard deviations of the points are up to 30.
            near = 1e5 * eps
            np.testing.assert_allclose(alone.mean, direct.mean, atol=near)
            np.testing.assert_allclose(both.mean, direct.mean, atol=near)
            kept = np.asarray(both.mean, np.float64) * WEIGHTS
            assert abs(kept.sum() - 3.0) <= 4 * eps * np.abs(kept).sum()
            assert (np.asarray(both.mean) >= 0).all()
            assert abs(float(equality.residual(alone.mean)[0])) < near
            np.testing.assert_array_equal(alone.cov.as_matrix(), given.cov.as_matrix())


def test_points_of_variance_zero_stay(x64):
    mean = jnp.asarray([0.5, -0.25, 0.0, 0.75, 0.125, 0.3, 0.2])
    variance = jnp.asarray([0.0, 1.0, 0.0, 0.0, 1.0, 4.0, 0.0])
    equality = LinearConstraint(jnp.ones(N), jnp.sum(mean))
    updated, _ = solve(mean, variance, Nonnegative(), equality, False)
    np.testing.assert_array_equal(updated.mean[variance == 0], mean[variance == 0])
    assert float(updated.mean[1]) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", ["nonnegative", "decreasing"])
def test_a_total_of_zero_leaves_only_zero(name, dtype):
    """Feasible, but without an interior: what mass 0 at the initial time means."""
    with jax.enable_x64(dtype == np.float64):
        for seed in range(8):
            mean, cov = problem(seed, N, dtype)
            updated, certificate = solve(mean, cov, SETS[name], total(mean, dtype, 0.0))
            assert INEQUALITY_RESULTS[certificate.result] == ""
            np.testing.assert_array_equal(updated.mean, np.zeros(N))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_slightly_negative_total_is_refused(dtype):
    """The other side of the edge that a total of zero is on."""
    with jax.enable_x64(dtype == np.float64):
        for seed in range(8):
            mean, cov = problem(seed, N, dtype)
            equality = total(mean, dtype, -100 * np.sqrt(np.finfo(dtype).eps))
            updated, certificate = solve(mean, cov, Nonnegative(), equality)
            assert INEQUALITY_RESULTS[certificate.result] != ""
            assert np.isnan(updated.mean).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    "case", ["negative total", "fixed point", "fixed field varies", "variation and two values"]
)
def test_what_cannot_be_is_said(case, dtype):
    with jax.enable_x64(dtype == np.float64):
        mean, cov = problem(4, N, dtype)
        inequality, equality = Nonnegative(), None
        if case == "negative total":
            equality = total(mean, dtype, -1.0)
        elif case == "fixed point":
            mean, cov = mean.at[2].set(-1), cov.at[2].set(0).at[:, 2].set(0)
        elif case == "fixed field varies":
            inequality, cov = TotalVariation(jnp.asarray(0.5, dtype)), jnp.zeros_like(cov)
        else:
            inequality = TotalVariation(jnp.asarray(0.5, dtype))
            equality = LinearConstraint(jnp.eye(N, dtype=dtype)[:2], jnp.asarray([0.0, 2.0], dtype))
        updated, certificate = solve(mean, cov, inequality, equality)
        assert "No field that the covariance can reach" in INEQUALITY_RESULTS[certificate.result]
        assert np.isnan(updated.mean).all()
        with pytest.raises(ValueError, match="No field that the covariance can reach"):
            project_inequality(Gaussian.dense(mean, cov), inequality, equality=equality)


def test_one_bad_member_of_a_large_batch_is_not_certified():
    """The maximum of a large array passes NaN over on a CPU; here a covariance is indefinite."""
    mean, cov = problem(3, dtype=np.float32)
    bad = jnp.eye(N).at[:2, :2].set(jnp.array([[1.0, 2.0], [2.0, 1.0]]))
    means = jnp.tile(mean, (600, 1)).at[5].set(-1.0).at[6, 0].set(jnp.nan)
    covs = jnp.tile(cov, (600, 1, 1)).at[5].set(bad)
    updated, certificate = jax.jit(jax.vmap(lambda m, c: solve(m, c, Nonnegative(), None)))(
        means, covs
    )
    failed = np.isnan(updated.mean).any(axis=1)
    np.testing.assert_array_equal(np.flatnonzero(failed), [5, 6])
    np.testing.assert_array_equal(certificate.result != INEQUALITY_RESULTS.successful, failed)
    np.testing.assert_array_equal(certificate.violation, np.where(failed, np.nan, 0))


def test_too_few_steps_are_reported(x64):
    mean, cov = problem(2)
    _, certificate = project_inequality_with_certificate(
        Gaussian.dense(mean, cov), TotalVariation(jnp.asarray(0.1)), max_steps=0
    )
    assert "did not converge" in INEQUALITY_RESULTS[certificate.result] or (
        float(certificate.optimality) < 1e-7
    )


@pytest.mark.slow
def test_vmap_equals_one_by_one():
    rows = [problem(s, N, np.float32) for s in range(4)]
    mean, cov = (jnp.stack(x) for x in zip(*rows, strict=True))
    equality = total(None, np.float32)
    batched, certificate = jax.vmap(solve, in_axes=(0, 0, None, None))(
        mean, cov, Monotone(), equality
    )
    for i, row in enumerate(rows):
        alone, _ = solve(*row, Monotone(), equality)
        np.testing.assert_allclose(batched.mean[i], alone.mean, atol=2e-5)
    assert certificate.violation.shape == (4,)


@pytest.mark.parametrize(
    "name",
    ["nonnegative"]
    + [pytest.param(name, marks=pytest.mark.slow) for name in ("total-variation", "decreasing")],
)
def test_derivatives_against_finite_differences(name, x64):
    mean, cov = problem(6)
    root = jnp.linalg.cholesky(cov)
    probe = jnp.asarray(np.random.default_rng(1).normal(size=N))

    def loss(mean, root, b, bound):
        inequality = TotalVariation(bound) if name == "total-variation" else SETS[name]
        equality = LinearConstraint(jnp.asarray(WEIGHTS), b)
        return jnp.vdot(probe, solve(mean, root @ root.T, inequality, equality)[0].mean)

    args = (mean, root, jnp.asarray(3.0), jnp.asarray(1.0))
    gradients = jax.jit(jax.grad(loss, argnums=(0, 1, 2, 3)))(*args)
    rng = np.random.default_rng(2)
    step = 1e-5
    for i, (value, gradient) in enumerate(zip(args, gradients, strict=True)):
        direction = jnp.asarray(rng.normal(size=value.shape))

        def moved(h, i=i, value=value, direction=direction):
            return float(loss(*args[:i], value + h * direction, *args[i + 1 :]))

        difference = (moved(step) - moved(-step)) / (2 * step)
        slope = float(jnp.sum(gradient * direction))
        np.testing.assert_allclose(slope, difference, rtol=1e-5, atol=1e-7)
    _, forward = jax.jvp(lambda b: loss(mean, root, b, args[3]), (args[2],), (jnp.ones(()),))
    np.testing.assert_allclose(forward, gradients[2], rtol=1e-9)


def test_bad_input():
    gaussian = Gaussian.diagonal(jnp.zeros(3), jnp.ones(3))
    with pytest.raises(TypeError, match="expected Nonnegative"):
        project_inequality(gaussian, "nonnegative")  # pyright: ignore
    with pytest.raises(ValueError, match="expected an exact constraint"):
        noisy = LinearConstraint(jnp.ones(3), 1.0, 0.1)
        project_inequality(gaussian, Nonnegative(), equality=noisy)
    with pytest.raises(ValueError, match="rows over 3 points"):
        project_inequality(gaussian, Nonnegative(), equality=LinearConstraint(jnp.ones(4), 1.0))
    with pytest.raises(TypeError, match="float32 or float64"):
        half = Gaussian.diagonal(jnp.zeros(3, jnp.float16), jnp.ones(3, jnp.float16))
        project_inequality(half, Nonnegative())
    with pytest.raises(ValueError, match="at least 2 points"):
        project_inequality(Gaussian.diagonal(jnp.zeros(1), jnp.ones(1)), Monotone())
    with pytest.raises(ValueError, match="nonnegative number, got -1"):
        TotalVariation(-1.0)
    with pytest.raises(ValueError, match="expected a scalar"):
        TotalVariation(jnp.ones(2))
    with pytest.raises(ValueError, match="finite"):
        TotalVariation(float("nan"))
    with pytest.raises(ValueError, match="not finite"):
        bad = Gaussian(jnp.array([0.0, jnp.nan, 0.0]), gaussian.cov)
        project_inequality(bad, Nonnegative())
