"""Shock positions against a plain loop, a closed form and a bivariate probability."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy import stats

from jaxsci.gaussians import Gaussian
from jaxsci.metrics import shock_distribution, shock_position, shock_summary


@pytest.fixture(params=("float32", "float64"))
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield request.param


def by_hand(field, x, subcell):
    for i, value in enumerate(field):
        if value <= 0:
            if subcell and i > 0:
                return np.interp(0, [value, field[i - 1]], [x[i], x[i - 1]])
            return x[i]
    return np.nan


@pytest.mark.parametrize("subcell", (False, True))
@settings(max_examples=60, deadline=None)
@given(
    fields=st.lists(st.lists(st.integers(-2, 8), min_size=6, max_size=6), min_size=1, max_size=4)
)
def test_against_a_loop(subcell, fields):
    fields = np.asarray(fields, np.float32)
    x = np.asarray([0, 0.1, 0.3, 0.4, 0.8, 1.0], np.float32)
    expected = [by_hand(field, x, subcell) for field in fields]
    np.testing.assert_allclose(shock_position(fields, x, subcell=subcell), expected, atol=1e-6)


@pytest.mark.parametrize("subcell", (False, True))
def test_no_crossing_is_nan_and_a_fallen_start_is_the_boundary(subcell, dtype):
    x = jnp.asarray([0.5, 1.0, 1.5], dtype)
    fields = jnp.asarray([[1, 1, 1], [0, 1, 1], [1, 1, 0]], dtype)
    value = jax.jit(lambda d: shock_position(d, x, subcell=subcell))(fields)
    assert value.dtype == dtype
    np.testing.assert_array_equal(value, [np.nan, 0.5, 1.5])


def test_subcell_finds_the_zero_of_a_line(dtype):
    x = jnp.linspace(0.0, 1.0, 11, dtype=dtype)
    value = shock_position(0.437 - x, x, subcell=True)
    np.testing.assert_allclose(value, 0.437, atol=1e-6)
    np.testing.assert_allclose(shock_position(0.437 - x, x), 0.5, atol=1e-6)
    half = shock_position(0.437 - x, x, threshold=0.2, subcell=True)
    np.testing.assert_allclose(half, 0.237, atol=1e-6)


def test_subcell_position_is_differentiable(x64):
    x = jnp.linspace(0.0, 1.0, 11)
    check_grads(lambda u: shock_position(u, x, subcell=True), (0.437 - x,), 1, eps=1e-6)
    level = jax.grad(lambda c: shock_position(c - x, x, subcell=True))(jnp.asarray(0.437))
    np.testing.assert_allclose(level, 1.0, rtol=1e-12)
    flat = jax.grad(lambda c: shock_position(jnp.full(11, c), x, subcell=True))(jnp.asarray(1.0))
    assert np.isfinite(flat)  # no shock: no division by a drop of zero


def test_draws_are_made_with_the_covariance():
    """Two points that move as one cross together; drawn on their own they would not.

    With u_0 = u_1 = 1/2 + z the shock is at x_0 with probability Phi(-1/2), else there is none;
    independent points would put a fifth of all shocks at x_1.
    """
    x = jnp.asarray([0.25, 0.75])
    gaussian = Gaussian.low_rank(jnp.full(2, 0.5), jnp.zeros(2), jnp.ones((2, 1)))
    draws = 20_000
    positions = shock_distribution(gaussian, x, key=jax.random.key(0), draws=draws)
    share = stats.norm.cdf(-0.5)
    error = np.sqrt(share * (1 - share) / draws)
    assert positions.shape == (draws,)
    assert not np.any(positions == 0.75)
    np.testing.assert_allclose(np.mean(positions == 0.25), share, atol=4 * error)
    np.testing.assert_allclose(shock_summary(positions).none, 1 - share, atol=4 * error)


def test_the_standard_deviation_is_not_used_for_the_variance():
    """At variance 0.01 a point one unit up is ten deviations away: no shock, ever."""
    gaussian = Gaussian.diagonal(jnp.ones(5), jnp.full(5, 0.01))
    x = jnp.linspace(0.0, 1.0, 5)
    positions = shock_distribution(gaussian, x, key=jax.random.key(1), draws=500)
    assert np.isnan(positions).all()


def test_distribution_transforms(dtype):
    x = jnp.linspace(0.0, 1.0, 21, dtype=dtype)
    means = jnp.stack([0.4 - x, 0.6 - x])
    keys = jax.random.split(jax.random.key(2), 2)

    def positions(mean, key):
        gaussian = Gaussian.diagonal(mean, jnp.full_like(mean, 1e-4))
        return shock_distribution(gaussian, x, key=key, draws=50, subcell=True)

    both = jax.jit(jax.vmap(positions))(means, keys)
    assert both.shape == (2, 50) and both.dtype == dtype
    np.testing.assert_allclose(both[0], positions(means[0], keys[0]), rtol=1e-5)
    np.testing.assert_allclose(np.mean(both, axis=1), [0.4, 0.6], atol=0.02)


def test_summary_against_numpy(dtype):
    rng = np.random.default_rng(3)
    positions = rng.uniform(0.1, 0.5, 40)
    positions[::8] = np.nan
    found = positions[~np.isnan(positions)]
    summary = jax.jit(shock_summary)(jnp.asarray(positions, dtype), 0.3)
    expected = (
        found.mean(),
        found.std(ddof=1),
        5 / 40,
        np.sqrt(np.mean((found - 0.3) ** 2)),
    )
    np.testing.assert_allclose(summary, expected, rtol=1e-5)
    batch = jax.vmap(shock_summary)(jnp.asarray([positions, positions], dtype))
    np.testing.assert_allclose(batch.mean, [found.mean()] * 2, rtol=1e-5)
    assert np.isnan(batch.error).all()


def test_summary_without_shocks():
    summary = shock_summary(jnp.full(4, jnp.nan), 0.3)
    assert float(summary.none) == 1
    assert np.isnan([summary.mean, summary.sd, summary.error]).all()
    one = shock_summary(jnp.asarray([0.5, jnp.nan]), 0.3)
    assert np.isnan(one.sd) and float(one.mean) == 0.5
    assert np.isnan(shock_summary(jnp.asarray([0.5, 0.6]), jnp.nan).error)


X = np.linspace(0, 1, 3, dtype=np.float32)
BAD = {
    "shape": (lambda: shock_position(np.ones((2, 4), np.float32), X), r"\(2, 4\) and \(3,\)"),
    "order": (lambda: shock_position(X, X[::-1]), "expected increasing coordinates"),
    "nan": (
        lambda: shock_position(np.float32([1, np.nan, 0]), X),
        r"draws=.*expected finite numbers, got nan at index \(1,\)",
    ),
    "draws": (
        lambda: shock_distribution(Gaussian.diagonal(X, X), X, key=jax.random.key(0), draws=0),
        "expected at least 1, got 0",
    ),
    "points": (
        lambda: shock_distribution(Gaussian.diagonal(X, X), X[:2], key=jax.random.key(0), draws=3),
        r"\(3, 3\) and \(2,\)",
    ),
    "batch": (lambda: shock_summary(np.ones((2, 2), np.float32)), "shape .draws,."),
    "none": (lambda: shock_summary(np.ones(0, np.float32)), "at least one draw"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    call, message = BAD[case]
    with pytest.raises(ValueError, match=message):
        call()


def test_summary_has_finite_slopes_where_nothing_is_wrong():
    slopes = jax.grad(lambda p: shock_summary(p, 0.2).error)(jnp.array([0.2, 0.2]))
    np.testing.assert_array_equal(slopes, 0.0)
