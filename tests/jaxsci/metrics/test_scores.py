"""Scores against scipy, quadrature, closed forms and Monte Carlo."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy import integrate, stats

from jaxsci.grids import Grid
from jaxsci.metrics import (
    conservation_error,
    crps,
    crps_from_samples,
    gaussian_log_likelihood,
    mean_and_standard_error,
    mean_squared_error,
    pool_moments,
    relative_l2,
    summarise,
)

DTYPES = ("float32", "float64")
SCORES = {
    "ll": gaussian_log_likelihood,
    "crps": crps,
    "mse": lambda mean, var, truth: mean_squared_error(mean, truth),
}


@pytest.fixture(params=DTYPES)
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def made(n, dtype, seed=0):
    rng = np.random.default_rng(seed)
    mean, truth = rng.normal(size=n), rng.normal(size=n)
    var = rng.uniform(0.05, 2.0, size=n)
    return tuple(jnp.asarray(a, dtype) for a in (mean, var, truth))


def tolerance(dtype):
    return {"float32": 2e-6, "float64": 1e-13}[dtype]


def crps_by_quadrature(mean, std, truth):
    def below(y):
        return stats.norm.cdf(y, mean, std) ** 2

    def above(y):
        return stats.norm.sf(y, mean, std) ** 2

    low, high = min(mean, truth) - 12 * std, max(mean, truth) + 12 * std
    settings = dict(epsabs=1e-13, limit=400, points=[mean])
    return (
        integrate.quad(below, low, truth, **settings)[0]
        + integrate.quad(above, truth, high, **settings)[0]
    )


def oracle(name, mean, var, truth):
    mean, var, truth = (np.asarray(a, np.float64) for a in (mean, var, truth))
    if name == "ll":
        return stats.norm.logpdf(truth, mean, np.sqrt(var)).mean()
    if name == "mse":
        return np.square(mean - truth).mean()
    return np.mean(
        [crps_by_quadrature(*args) for args in zip(mean, np.sqrt(var), truth, strict=True)]
    )


@pytest.mark.parametrize("name", SCORES)
def test_against_scipy(name, dtype):
    arrays = made(12, dtype)
    value = SCORES[name](*arrays)
    assert value.dtype == dtype and value.shape == ()
    np.testing.assert_allclose(value, oracle(name, *arrays), rtol=tolerance(dtype))
    np.testing.assert_allclose(jax.jit(SCORES[name])(*arrays), value, rtol=tolerance(dtype))


@pytest.mark.parametrize("name", SCORES)
def test_vmap_is_a_loop(name, dtype):
    batch = [made(7, dtype, seed) for seed in range(4)]
    stacked = [jnp.stack(arrays) for arrays in zip(*batch, strict=True)]
    loop = [SCORES[name](*arrays) for arrays in batch]
    np.testing.assert_allclose(jax.vmap(SCORES[name])(*stacked), loop, rtol=tolerance(dtype))


@pytest.mark.parametrize("name", SCORES)
def test_gradients(name, x64):
    arrays = made(5, "float64")
    check_grads(SCORES[name], arrays, order=1, modes=("fwd", "rev"), eps=1e-6)


@settings(max_examples=40, deadline=None)
@given(
    shift=st.floats(-50, 50, width=32),
    scale=st.floats(0.125, 8, width=32),
    seed=st.integers(0, 100),
)
def test_crps_moves_and_scales_with_the_data(shift, scale, seed):
    mean, var, truth = made(6, "float32", seed)
    base = crps(mean, var, truth)
    moved = crps(mean * scale + shift, var * scale**2, truth * scale + shift)
    np.testing.assert_allclose(moved, scale * base, rtol=2e-5, atol=2e-5)


def test_no_variance(dtype):
    mean, var, truth = jnp.asarray([[1, 2], [0, 0], [1, 5]], dtype)
    assert float(crps(mean, var, truth)) == 1.5
    grad = jax.grad(crps)(mean + 0.5, var, truth)
    np.testing.assert_allclose(grad, [0.5, -0.5])
    floored = gaussian_log_likelihood(mean, var, mean, min_var=1e-8)
    np.testing.assert_allclose(floored, stats.norm.logpdf(0, 0, 1e-4), rtol=1e-6)


def test_sample_crps_is_fair(x64):
    """Its expectation over ensembles of any size is the CRPS of their distribution."""
    draws = 0.3 + 1.2 * jax.random.normal(jax.random.key(0), (20_000, 5, 1), jnp.float64)
    truth = jnp.full(1, 0.9, jnp.float64)
    values = jax.vmap(crps_from_samples, (0, None))(draws, truth)
    mean, error = mean_and_standard_error(values)
    exact = crps_by_quadrature(0.3, 1.2, 0.9)
    assert abs(float(mean) - exact) < 4 * float(error)
    assert float(error) < 0.005


def test_sample_crps_against_the_double_sum(dtype):
    rng = np.random.default_rng(1)
    samples, truth = rng.normal(size=(9, 4)), rng.normal(size=4)
    pairs = np.abs(samples[:, None] - samples[None]).sum((0, 1)) / (2 * 9 * 8)
    expected = (np.abs(samples - truth).mean(0) - pairs).mean()
    value = jax.jit(crps_from_samples)(jnp.asarray(samples, dtype), jnp.asarray(truth, dtype))
    np.testing.assert_allclose(value, expected, rtol=10 * tolerance(dtype))
    if dtype == "float64":
        check_grads(crps_from_samples, (samples, truth), 1, eps=1e-7)


def test_conservation_error_of_the_spec(dtype):
    """Length of the domain x trapezoid mean - b, on the uniform 201-point grid."""
    grid = Grid.uniform(x=(-1.0, 1.0, 201))
    field = np.exp(np.linspace(-1, 1, 201))
    inner = (field[1:] + field[:-1]).mean() / 2
    value = conservation_error(jnp.asarray(field, dtype), grid.weights(), 2.3)
    np.testing.assert_allclose(value, 2 * inner - 2.3, atol={"float32": 3e-7}.get(dtype, 1e-14))
    assert float(conservation_error(jnp.zeros(201, dtype), grid.weights(), 0.5)) == -0.5


def test_conservation_error_is_signed_and_adds_no_rounding_of_its_own():
    rng = np.random.default_rng(2)
    field, weights = rng.normal(size=(2, 100_001)).astype(np.float32)
    exact = float(np.dot(field.astype(np.float64), weights.astype(np.float64)))
    b = np.float32(exact)
    value = float(conservation_error(field, weights, b))
    np.testing.assert_allclose(value, exact - float(b), rtol=1e-3)


def test_conservation_error_transforms(x64):
    rng = np.random.default_rng(3)
    fields, weights, b = rng.normal(size=(3, 2, 4)), rng.normal(size=(2, 4)), rng.normal(size=3)
    value = jax.jit(jax.vmap(conservation_error, (0, None, 0)))(fields, weights, b)
    np.testing.assert_allclose(value, (fields * weights).sum((1, 2)) - b, rtol=1e-12)
    check_grads(conservation_error, (fields[0], weights, b[0]), 1, eps=1e-6)


def test_half_precision_is_measured_in_float32():
    value = conservation_error(jnp.ones(4, jnp.bfloat16), jnp.full(4, 0.25), 0.999)
    assert value.dtype == jnp.float32
    np.testing.assert_allclose(value, 1e-3, rtol=1e-3)


def test_pooled_moments_are_those_of_the_mixture(x64):
    rng = np.random.default_rng(4)
    means, sds = rng.normal(size=(3, 2)), rng.uniform(0.1, 1, size=(3, 2))
    mean, var = pool_moments(means, sds**2)
    for i in range(2):
        y = np.linspace(-12, 12, 20_001)
        density = stats.norm.pdf(y[:, None], means[:, i], sds[:, i]).mean(1)
        first = integrate.trapezoid(y * density, y)
        second = integrate.trapezoid((y - first) ** 2 * density, y)
        np.testing.assert_allclose([mean[i], var[i]], [first, second], rtol=1e-9)
    assert float(pool_moments(jnp.ones((2, 1)), jnp.zeros((2, 1)))[1][0]) == pytest.approx(1e-8)


def test_mean_and_standard_error_against_scipy(dtype):
    values = np.random.default_rng(5).normal(size=(50, 3))
    mean, error = mean_and_standard_error(jnp.asarray(values, dtype))
    np.testing.assert_allclose(mean, values.mean(0), atol=1e-6)
    np.testing.assert_allclose(error, stats.sem(values, axis=0), rtol=1e-5)


def test_summary_is_the_metrics_and_batches():
    grid = Grid.uniform(x=(0.0, 1.0, 21))
    batch = [jnp.stack(a) for a in zip(*(made(21, "float32", s) for s in range(3)), strict=True)]
    b = jnp.asarray([0.1, 0.2, 0.3])
    rows = jax.jit(jax.vmap(summarise, (0, 0, 0, None, 0)))(*batch, grid.weights(), b)
    assert set(rows) == {
        *("CE", "LL", "MSE", "CRPS", "coverage_50", "coverage_90", "coverage_95", "width_95")
    }
    one = summarise(*(a[1] for a in batch), grid.weights(), b[1])
    for name, values in rows.items():
        assert values.shape == (3,)
        np.testing.assert_allclose(values[1], one[name], rtol=1e-5)
    table = jax.tree.map(mean_and_standard_error, rows)
    np.testing.assert_allclose(table["MSE"][0], np.mean(rows["MSE"]), rtol=1e-6)


def test_scores_of_levels_are_named_by_percent():
    ones = jnp.ones(3)
    row = summarise(ones, ones, ones, ones, 3.0, levels=(0.683, 0.9))
    assert {"coverage_68.3", "coverage_90"} <= set(row)


@pytest.mark.data
def test_golden_profiles_against_numpy(data_dir):
    """The published network at t = 0.5: our row equals plain float64 numpy on the same arrays."""
    with np.load(data_dir / "probconserv" / "1b_pme_golden_anp.npz") as golden:
        mean, std, truth = (golden[k][:, 100] for k in ("anp_mean", "anp_std", "true"))
        mass = golden["mass"][:, 100]
    weights = Grid.uniform(x=(0.0, 1.0, 201)).weights()
    rows = jax.vmap(summarise, (0, 0, 0, None, 0))(mean, std**2, truth, weights, mass)
    mean, std, truth = (a.astype(np.float64) for a in (mean, std, truth))
    np.testing.assert_allclose(
        rows["CE"], integrate.trapezoid(mean, dx=1 / 200, axis=1) - mass, atol=2e-7
    )
    np.testing.assert_allclose(
        rows["LL"], stats.norm.logpdf(truth, mean, std).mean(1), rtol=2e-6, atol=1e-5
    )
    np.testing.assert_allclose(rows["MSE"], np.square(mean - truth).mean(1), rtol=1e-5)
    # Each function lies within the spread of the 50 that the measured table was made from.
    table = json.loads((data_dir / "probconserv" / "1b_pme_measured_metrics.json").read_text())
    for i, m in enumerate(("1", "3", "6")):
        measured = table["1b_anp_zmean"]["metrics"][m]["anp"]
        for name in ("CE", "LL", "MSE"):
            centre, error = measured[name]
            assert abs(float(rows[name][i]) - centre) < 4 * error * np.sqrt(50), (m, name)


ONES = np.ones(3, np.float32)
BAD = {
    "shape": (lambda: crps(ONES, ONES[:2], ONES), ValueError, r"`crps\(var=...\)`: expected shape"),
    "truth": (lambda: mean_squared_error(ONES, ONES[:2]), ValueError, r"truth=.*\(3,\).*\(2,\)"),
    "variance": (
        lambda: gaussian_log_likelihood(ONES, -ONES, ONES),
        ValueError,
        r"expected variances >= 0, got -1.0 at index \(0,\)",
    ),
    "integers": (
        lambda: conservation_error(np.ones(3, int), ONES, 1.0),
        TypeError,
        "expected floating-point numbers, got dtype int",
    ),
    "weights": (
        lambda: conservation_error(ONES, ONES[:2], 1.0),
        ValueError,
        r"as many weights as `mean` has values \(3\), got 2",
    ),
    "b": (lambda: conservation_error(ONES, ONES, ONES), ValueError, r"b=.*expected a scalar"),
    "empty": (lambda: mean_squared_error(ONES[:0], ONES[:0]), ValueError, "at least one value"),
    "one draw": (
        lambda: crps_from_samples(ONES[None], ONES),
        ValueError,
        "expected at least two draws",
    ),
    "draws": (lambda: crps_from_samples(ONES, ONES), ValueError, r"samples\[0\]"),
    "one function": (
        lambda: mean_and_standard_error(ONES[:1]),
        ValueError,
        "expected at least two functions",
    ),
    "no samples": (
        lambda: pool_moments(np.float32(1), np.float32(1)),
        ValueError,
        "expected samples along a first axis",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call()


def test_relative_l2_against_numpy_and_its_slope_at_0():
    u, truth = np.random.default_rng(0).normal(size=(2, 3, 7)).astype(np.float32)
    expected = np.linalg.norm(u - truth) / np.linalg.norm(truth)
    np.testing.assert_allclose(relative_l2(jnp.asarray(u), jnp.asarray(truth)), expected, rtol=1e-6)
    slope = jax.grad(relative_l2)(jnp.asarray(truth), jnp.asarray(truth))
    np.testing.assert_array_equal(slope, 0.0)
