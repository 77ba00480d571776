"""Coverage, widths and calibration curves against scipy and by simulation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats

from jaxsci.metrics import (
    calibration_curve,
    calibration_error,
    interval_coverage,
    interval_width,
    n_merci,
)

LEVELS = (0.5, 0.9, 0.95)


@pytest.fixture(params=("float32", "float64"))
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def made(n, dtype, seed=0, spread=1.0):
    """A truth that is drawn from the prediction, with `spread` times its standard deviation."""
    rng = np.random.default_rng(seed)
    mean, std = rng.normal(size=n), rng.uniform(0.1, 2.0, size=n)
    truth = mean + spread * std * rng.normal(size=n)
    return tuple(jnp.asarray(a, dtype) for a in (mean, std**2, truth))


@pytest.mark.parametrize("level", LEVELS)
def test_coverage_against_scipy(level, dtype):
    mean, var, truth = made(500, dtype)
    low, high = stats.norm.interval(level, np.asarray(mean), np.sqrt(np.asarray(var)))
    expected = np.mean((np.asarray(truth) >= low) & (np.asarray(truth) <= high))
    for function in (interval_coverage, jax.jit(interval_coverage)):
        value = function(mean, var, truth, level)
        assert value.dtype == dtype
        np.testing.assert_allclose(value, expected, atol=2.1e-3)  # a point on the edge may differ


@pytest.mark.parametrize("level", LEVELS)
def test_width_against_scipy(level, dtype):
    _, var, _ = made(50, dtype)
    low, high = stats.norm.interval(level, 0, np.sqrt(np.asarray(var, np.float64)))
    np.testing.assert_allclose(interval_width(var, level), (high - low).mean(), rtol=1e-5)
    if dtype == "float64":
        check_grads(interval_width, (var, level), 1, eps=1e-6)


def test_a_calibrated_prediction_lies_on_the_diagonal():
    n = 40_000
    nominal, observed = calibration_curve(*made(n, "float32"))
    assert nominal.shape == observed.shape == (19,)
    assert np.all(np.abs(nominal - observed) < 4 * np.sqrt(0.25 / n))
    assert float(calibration_error(nominal, observed)) < 0.01


@pytest.mark.parametrize("spread", (0.5, 2.0))
def test_a_wrong_spread_is_seen_with_the_right_size(spread):
    """Truths `spread` times too wide are covered with probability 2 Phi(z / spread) - 1."""
    nominal, observed = calibration_curve(*made(40_000, "float32", spread=spread))
    z = stats.norm.ppf((1 + np.asarray(nominal)) / 2)
    np.testing.assert_allclose(observed, 2 * stats.norm.cdf(z / spread) - 1, atol=0.011)


def test_curve_is_the_coverages(dtype):
    arrays = made(64, dtype)
    nominal, observed = jax.jit(calibration_curve)(*arrays, jnp.asarray(LEVELS, dtype))
    assert observed.dtype == dtype
    np.testing.assert_allclose(observed, [interval_coverage(*arrays, q) for q in LEVELS])
    assert np.all(np.diff(observed) >= 0)
    batch = jax.vmap(calibration_curve)(*(jnp.stack([a, a]) for a in arrays))[1]
    np.testing.assert_array_equal(batch[0], batch[1])
    np.testing.assert_array_equal(batch[0], calibration_curve(*arrays)[1])


def test_fields_of_any_shape(dtype):
    mean, var, truth = (a.reshape(8, 8) for a in made(64, dtype))
    flat = calibration_curve(mean.ravel(), var.ravel(), truth.ravel())[1]
    np.testing.assert_array_equal(calibration_curve(mean, var, truth)[1], flat)


def test_calibration_error_is_a_root_mean_square(dtype):
    value = calibration_error(jnp.asarray([0.5, 0.9], dtype), jnp.asarray([0.2, 0.5], dtype))
    np.testing.assert_allclose(value, np.sqrt((0.09 + 0.16) / 2), rtol=1e-6)


def test_zero_variance_covers_only_the_exact_truth():
    zero = jnp.zeros(2)
    assert float(interval_coverage(zero, zero, jnp.array([0.0, 1e-6]))) == 0.5


ONES = np.ones(3, np.float32)
BAD = {
    "percent": (lambda: interval_coverage(ONES, ONES, ONES, 95), r"\(0.95, not 95\), got 95"),
    "one": (lambda: interval_width(ONES, 1.0), "between 0 and 1"),
    "levels": (lambda: calibration_curve(ONES, ONES, ONES, 0.5), "expected a 1-D array"),
    "variance": (lambda: interval_width(-ONES), "expected variances >= 0"),
    "shape": (lambda: interval_coverage(ONES, ONES, ONES[:1]), "`jax.vmap` for a batch"),
    "curve": (lambda: calibration_error(ONES, ONES[:2]), "observed=.*expected shape"),
    "none": (lambda: calibration_error(ONES[:0], ONES[:0]), "at least one value"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_an_unknown_truth_is_not_a_miss():
    got = interval_coverage(jnp.zeros(2), jnp.ones(2), jnp.array([0.0, jnp.nan]))
    assert np.isnan(got)


def by_hand(errors, stds, level):
    """n-MeRCI in numpy, float64."""
    errors, stds = np.asarray(errors, np.float64).ravel(), np.asarray(stds, np.float64).ravel()
    scaled = np.quantile(errors / stds, level) * stds
    return (scaled.mean() - errors.mean()) / (errors.max() - errors.mean())


def test_n_merci_against_numpy_and_its_bounds(x64):
    rng = np.random.default_rng(3)
    errors, stds = np.abs(rng.normal(size=(5, 40))), rng.uniform(0.1, 2.0, (5, 40))
    errors = jnp.asarray(errors)
    for level in (0.5, 0.95):
        found = jax.jit(n_merci)(errors, jnp.asarray(stds), level)
        np.testing.assert_allclose(found, by_hand(errors, stds, level), rtol=1e-13)
    # All that can be known: 0, whatever the unit. A constant: what the quantile of errors says.
    np.testing.assert_allclose(n_merci(errors, 7.0 * errors), 0.0, atol=1e-14)
    constant = n_merci(errors, jnp.full_like(errors, 3.0))
    np.testing.assert_allclose(constant, by_hand(errors, np.ones((5, 40)), 0.95), rtol=1e-13)
    # Uncertainty that is large where the error is small is worse than a constant.
    assert n_merci(errors, 1 / (errors + 0.1)) > 2 * constant
    assert n_merci(errors, errors + 0.3) < constant


def test_n_merci_in_batches_gradients_and_at_exact_points(x64):
    rng = np.random.default_rng(4)
    errors, stds = (jnp.asarray(rng.uniform(0.1, 1.0, (3, 20))) for _ in range(2))
    batch = jax.vmap(n_merci)(errors, stds)
    np.testing.assert_allclose(batch[1], n_merci(errors[1], stds[1]), rtol=1e-13)
    check_grads(jax.jit(n_merci), (errors[0], stds[0]), order=1, atol=1e-6, rtol=1e-6, eps=1e-6)
    known = n_merci(errors[0].at[3].set(0.0), stds[0].at[3].set(0.0))
    assert jnp.isfinite(known)
    single = n_merci(errors[0].astype(jnp.float32), stds[0].astype(jnp.float32))
    assert single.dtype == jnp.float32
    np.testing.assert_allclose(single, n_merci(errors[0], stds[0]), rtol=1e-4)


def test_n_merci_refuses():
    ones = jnp.ones(3)
    with pytest.raises(ValueError, match=r"n_merci\(errors=.*numbers >= 0, got -1"):
        n_merci(-ones, ones)
    with pytest.raises(ValueError, match=r"n_merci\(stds=.*expected shape \(3,\)"):
        n_merci(ones, jnp.ones(4))
    with pytest.raises(ValueError, match="level=.*between 0 and 1"):
        n_merci(ones, ones, 95)
    with pytest.raises(ValueError, match="at least one value"):
        n_merci(jnp.ones(0), jnp.ones(0))
