"""What must hold of every update: conservation to rounding, and the algebra of conditioning."""

import hypothesis.strategies as st
import jax
import numpy as np
import pytest
from hypothesis import given, settings

from jaxsci.conservation import (
    RESULTS,
    LinearConstraint,
    condition,
    condition_with_certificate,
    stack,
)
from jaxsci.gaussians import Gaussian, WeightedSums


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


@jax.jit
def _sums(mean, variance, weights, b):
    prior = Gaussian.diagonal(mean, variance)
    posterior, certificate = condition_with_certificate(
        prior, LinearConstraint(WeightedSums(weights), b)
    )
    return posterior.mean, posterior.marginal_var, certificate


def _conserves(dtype, n, scale, spread, shift, seed, cancel):
    rng = np.random.default_rng(seed)
    truth = scale * (rng.normal(size=n) if cancel else rng.uniform(0.5, 1, n))
    mean = (truth + shift * scale * rng.normal(size=n)).astype(dtype)
    variance = (scale**2 * 10.0 ** rng.uniform(-spread, 0, n)).astype(dtype)
    weights = rng.uniform(0.5, 1.5, n).astype(dtype) / dtype.type(n)
    # A total of zero by exact cancellation is the hardest that there is.
    b = dtype.type(0.0 if cancel else weights.astype(float) @ truth)
    got, left, certificate = _sums(mean, variance, weights, b)
    w, got = np.asarray(weights, np.longdouble), np.asarray(got, np.longdouble)
    bound = 4 * np.finfo(dtype).eps * np.sum(np.abs(w * got))
    assert abs(w @ got - b) <= bound
    assert bool(certificate.result == RESULTS.successful)
    assert np.all(np.abs(certificate.residual_after) <= certificate.rounding)
    np.testing.assert_allclose(certificate.rounding, bound, rtol=1e-3)
    assert np.all(np.asarray(left) >= 0) and np.all(np.asarray(left) <= variance)


SETTINGS = {
    "n": st.sampled_from([2, 50, 3000]),
    "scale": st.sampled_from([1e-6, 1e-3, 1.0, 1e3, 1e6]),
    "spread": st.floats(0, 4),
    "shift": st.sampled_from([0.0, 1e-3, 1.0, 100.0]),
    "seed": st.integers(0, 2**30),
    "cancel": st.booleans(),
}


@settings(max_examples=60)
@given(**SETTINGS)
def test_conservation_to_rounding_in_float32(**case):
    _conserves(np.dtype(np.float32), **case)


@settings(max_examples=30)
@given(**SETTINGS)
def test_conservation_to_rounding_in_float64(**case):
    with jax.enable_x64(True):
        _conserves(np.dtype(np.float64), **case)


@pytest.mark.parametrize("n", [100_000, 1_000_000])
@pytest.mark.parametrize("cancel", [False, True])
def test_conservation_of_large_fields(n, cancel):
    _conserves(np.dtype(np.float32), n, 1.0, 2.0, 0.1, 0, cancel)


N = 40
RNG = np.random.default_rng(0)
MEAN, VARIANCE = RNG.normal(size=N), 0.2 + RNG.uniform(size=N)
FACTOR = RNG.normal(size=(N, 3))
ROWS, OTHER = RNG.normal(size=(2, N)), RNG.uniform(size=(1, N))
PRIORS = {
    "diagonal": lambda dtype: Gaussian.diagonal(MEAN.astype(dtype), VARIANCE.astype(dtype)),
    "low rank": lambda dtype: Gaussian.low_rank(
        MEAN.astype(dtype), VARIANCE.astype(dtype), FACTOR.astype(dtype)
    ),
}


@pytest.mark.slow_but(4)
@pytest.mark.parametrize("prior", ["diagonal", pytest.param("low rank", marks=pytest.mark.slow)])
@pytest.mark.parametrize("R1", [None, 0.1], ids=["exact", "noisy"])
@pytest.mark.parametrize("R2", [None, 0.3], ids=["then exact", "then noisy"])
def test_twice_is_the_stack_in_any_order(prior, R1, R2, dtype):
    @jax.jit
    def updates(gaussian, G1, b1, G2, b2):
        first, second = LinearConstraint(G1, b1, R1), LinearConstraint(G2, b2, R2)
        made = (
            condition(condition(gaussian, first), second),
            condition(condition(gaussian, second), first),
            condition(gaussian, stack(first, second)),
        )
        return [(g.mean, g.cov.as_matrix(), g.marginal_var) for g in made]

    b1, b2 = np.array([1.0, -1.0], dtype), np.array([0.5], dtype)
    forth, back, both = updates(
        PRIORS[prior](dtype), ROWS.astype(dtype), b1, OTHER.astype(dtype), b2
    )
    tolerance = 2e-5 if dtype == np.float32 else 1e-13
    for got in (forth, back):
        for a, b in zip(got, both, strict=True):
            np.testing.assert_allclose(a, b, atol=tolerance, rtol=tolerance)
    for G, b, R in ((ROWS, b1, R1), (OTHER, b2, R2)):
        if R is None:  # what is exact stays exact, whatever follows
            size = np.abs(G) @ np.abs(both[0])
            for mean, *_ in (forth, back, both):
                assert np.all(
                    np.abs(G @ np.asarray(mean, float) - b) <= 40 * np.finfo(dtype).eps * size
                )


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("n", [N, 100_000])
def test_an_exact_constraint_again_changes_nothing(n, dtype):
    rng = np.random.default_rng(1)
    mean, variance, row = (a.astype(dtype) for a in rng.uniform(0.5, 1.5, (3, n)))

    @jax.jit
    def twice(mean, variance, row):
        total = LinearConstraint(WeightedSums(row / n), 1.0)
        once = condition(Gaussian.diagonal(mean, variance), total)
        again = condition(once, total)
        # The same row, summed in another order: only rounding tells the two apart.
        third = condition(again, LinearConstraint(row[None, :] / n, 1.0))
        return once.mean, again.mean, third.mean, once.marginal_var, third.marginal_var

    once, again, third, before, after = twice(mean, variance, row)
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(again, once, rtol=8 * eps, atol=8 * eps)
    np.testing.assert_allclose(third, once, rtol=8 * eps, atol=8 * eps)
    np.testing.assert_allclose(after, before, rtol=64 * eps, atol=8 * eps)


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("noise", [(0.0, 0.2, 0.1), np.diag([0.0, 0.2, 0.1])], ids=["R", "matrix"])
def test_exact_rows_among_noisy_ones_may_be_repeated(noise, dtype):
    rows = np.concatenate([ROWS, OTHER]).astype(dtype)
    mixed = LinearConstraint(rows, np.ones(3, dtype), np.asarray(noise, dtype))

    @jax.jit
    def updates(gaussian):
        once = condition(gaussian, mixed)
        again = condition(once, mixed)
        return once.mean, again.mean, again.cov.as_matrix(), again.log_prob(again.mean)

    once, again, cov, log_prob = updates(PRIORS["diagonal"](dtype))
    assert np.isfinite(again).all() and np.isfinite(log_prob)
    assert abs(rows[0].astype(float) @ np.asarray(again, float) - 1) < 100 * np.finfo(dtype).eps
    # Noisy rows seen twice are rows seen with half the noise.
    half = LinearConstraint(rows, np.ones(3, dtype), np.asarray(noise, dtype) / 2)
    expected = condition(PRIORS["diagonal"](dtype), half)
    tolerance = 2e-5 if dtype == np.float32 else 1e-12
    np.testing.assert_allclose(again, expected.mean, atol=tolerance)
    np.testing.assert_allclose(cov, expected.cov.as_matrix(), atol=tolerance)


def test_what_holds_already_leaves_the_mean_alone(dtype):
    row = OTHER.astype(dtype)
    prior = PRIORS["low rank"](dtype)
    b = (OTHER.astype(dtype).astype(float) @ np.asarray(prior.mean, float)).astype(dtype)
    posterior = condition(prior, LinearConstraint(row, b))
    eps = np.finfo(dtype).eps
    np.testing.assert_allclose(posterior.mean, prior.mean, atol=8 * eps)
    # The variance of G u is 0, up to the rounding of the products that show it.
    variance = float((row @ posterior.cov.as_matrix() @ row.T)[0, 0])
    first = float((row @ prior.cov.as_matrix() @ row.T)[0, 0])
    assert abs(variance) <= 200 * eps * first
    assert np.all(posterior.marginal_var <= prior.marginal_var * (1 + 4 * eps))


@pytest.mark.parametrize("k", [3, pytest.param(30, marks=pytest.mark.slow)])
def test_consistent_redundant_rows_are_accepted(k, dtype):
    # Each group's total, and the total of all: k + 1 rows of rank k, far from holding before.
    rng = np.random.default_rng(2)
    groups = np.kron(np.eye(k), np.ones((1, 4))) / 4
    rows = np.concatenate([groups, groups.sum(0, keepdims=True)]).astype(dtype)
    b = np.full(k + 1, 3.0, dtype)
    b[-1] = 3 * k
    mean = rng.normal(size=4 * k).astype(dtype)
    variance = (0.2 + rng.uniform(size=4 * k)).astype(dtype)
    posterior = condition(Gaussian.diagonal(mean, variance), LinearConstraint(rows, b))
    error = np.abs(rows.astype(float) @ np.asarray(posterior.mean, float) - b)
    size = np.abs(rows) @ np.abs(np.asarray(posterior.mean))
    assert np.all(error <= 8 * np.finfo(dtype).eps * size)
    only = condition(Gaussian.diagonal(mean, variance), LinearConstraint(rows[:-1], b[:-1]))
    np.testing.assert_allclose(posterior.mean, only.mean, atol=300 * np.finfo(dtype).eps)
    b[-1] += 0.1
    with pytest.raises(ValueError, match="contradict each other"):
        condition(Gaussian.diagonal(mean, variance), LinearConstraint(rows, b))
