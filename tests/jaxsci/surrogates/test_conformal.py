"""Split conformal scaling: its guarantee by simulation, its quantile by hand, what stays exact."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import stats

from jaxsci.conservation import condition, integral
from jaxsci.gaussians import Conditioned, Gaussian
from jaxsci.grids import Grid
from jaxsci.metrics import interval_coverage
from jaxsci.surrogates import DeepEnsemble, Recalibrated, conformal_factor


def draw(rng, functions, points=8):
    """Errors with heavy tails, alike within a function: nothing that a Gaussian would expect."""
    size = rng.gamma(1.0, 1.0, (functions, 1)) + 0.1
    return size * (rng.standard_t(3, (functions, 1)) + 0.3 * rng.normal(size=(functions, points)))


@pytest.mark.parametrize("cover", ["points", "fields"])
@pytest.mark.parametrize(("level", "functions"), [(0.5, 9), (0.9, 30), (0.95, 19)])
def test_the_guarantee_holds_for_dependent_heavy_tailed_errors(cover, level, functions):
    """Of 4000 calibrations, each with one new function, the mean coverage is at least `level`."""
    rng, trials, points = np.random.default_rng(0), 4000, 8
    errors = draw(rng, trials * (functions + 1), points).reshape(trials, functions + 1, points)
    std = rng.uniform(0.2, 0.6, errors.shape)
    zero = jnp.zeros((functions, points))
    arrays = [jnp.asarray(a[:, :functions], jnp.float32) for a in (std**2, errors)]
    factors = jax.jit(
        jax.vmap(lambda v, e: conformal_factor(zero, v, e, level=level, cover=cover))
    )(*arrays)
    z = stats.norm.ppf((1 + level) / 2)
    half = z * np.sqrt(np.asarray(factors, np.float64))[:, None] * std[:, -1]
    inside = np.abs(errors[:, -1]) <= half
    covered = inside.all(1) if cover == "fields" else inside.mean(1)
    error = covered.std() / np.sqrt(trials)
    assert covered.mean() >= level - 4 * error
    # And it is not had by intervals that are far too wide: one function more, and one point.
    most = level + (1 + (cover == "points") / points) / (functions + 1)
    assert covered.mean() <= most + 4 * error
    half = z * std[:, -1]
    inside = np.abs(errors[:, -1]) <= half
    assert (inside.all(1) if cover == "fields" else inside.mean(1)).mean() < level - 0.05


def test_the_quantile_by_hand(x64):
    rng = np.random.default_rng(1)
    truth, std = rng.normal(size=(20, 3)), rng.uniform(0.5, 2, (20, 3))
    zero = np.zeros((20, 3))
    scores = np.abs(truth) / std
    for level in (0.5, 0.9, 0.95):
        z = stats.norm.ppf((1 + level) / 2)
        factor = conformal_factor(zero, std**2, truth, level=level)
        candidates = np.sort(scores.ravel())
        shares = np.array([(scores <= q).mean(1).sum() for q in candidates])
        q = candidates[np.argmax(shares >= level * 21 - 1e-9)]
        np.testing.assert_allclose(factor, (q / z) ** 2, rtol=1e-12)
        k = int(np.ceil(level * 21 - 1e-9))
        factor = conformal_factor(zero, std**2, truth, level=level, cover="fields")
        np.testing.assert_allclose(factor, (np.sort(scores.max(1))[k - 1] / z) ** 2, rtol=1e-12)


def test_on_the_functions_it_was_made_from_it_covers_at_least_its_level(x64):
    rng = np.random.default_rng(2)
    truth, var = jnp.asarray(draw(rng, 40)), jnp.full((40, 8), 0.01)
    zero = jnp.zeros((40, 8))
    assert interval_coverage(zero, var, truth, 0.9) < 0.3
    factor = conformal_factor(zero, var, truth, level=0.9)
    assert interval_coverage(zero, factor * (1 + 1e-12) * var, truth, 0.9) >= 0.9


@pytest.mark.parametrize("wide", [False, True])
def test_what_is_exact_stays_exact(wide):
    with jax.enable_x64(wide):
        dtype = np.float64 if wide else np.float32
        rng = np.random.default_rng(3)
        shifts = jnp.asarray(rng.normal(size=(5, 8)), dtype)
        ensemble = DeepEnsemble([lambda x, s=s: x + s for s in shifts], variance_floor=0.1)
        grid = Grid.uniform(x=(0.0, 1.0, 8)).astype(dtype)
        mass = integral(grid, np.asarray(0.5, dtype))

        def conserving(inputs):
            return condition(ensemble(inputs), mass)

        inputs = jnp.asarray(rng.normal(size=8), dtype)
        before = conserving(inputs)
        after = eqx.filter_jit(Recalibrated(conserving, 9.0))(inputs)
        np.testing.assert_allclose(after.mean, before.mean, rtol=0, atol=1e-6)
        assert isinstance(after.cov, Conditioned) and after.mean.dtype == dtype
        np.testing.assert_allclose(after.marginal_std, 3 * before.marginal_std, rtol=1e-4)
        g = np.asarray(grid.weights(), np.float64)
        eps = np.finfo(dtype).eps
        mean, draws = (
            np.asarray(a, np.float64) for a in (after.mean, after.sample(jax.random.key(0), (50,)))
        )
        assert abs(g @ mean - 0.5) <= 4 * eps * (g @ np.abs(mean))
        assert np.abs(draws @ g - 0.5).max() <= 16 * eps * (np.abs(draws) @ g).max()
        matrix = np.asarray(after.cov.as_matrix(), np.float64)
        assert abs(g @ matrix @ g) <= 16 * eps * (g @ np.abs(matrix) @ g)
        # The other order: first scaled, then conditioned.
        other = condition(Recalibrated(ensemble, 9.0)(inputs), mass)
        np.testing.assert_allclose(other.mean, after.mean, rtol=0, atol=1e-5)
        np.testing.assert_allclose(other.marginal_var, after.marginal_var, rtol=1e-4)


def test_points_that_are_known_count_as_covered():
    rng = np.random.default_rng(4)
    truth = jnp.asarray(rng.normal(size=(30, 8)), jnp.float32)
    var = jnp.ones((30, 8)).at[:, 0].set(0.0)
    mean = jnp.zeros((30, 8)).at[:, 0].set(truth[:, 0] * (1 + 1e-7))
    known = conformal_factor(mean, var, truth, level=0.9)
    scores = np.sort(np.r_[np.zeros(30), np.abs(truth[:, 1:]).ravel()])
    needed = int(np.ceil(0.9 * 31 * 8 - 1e-6))
    z = stats.norm.ppf(0.95)
    np.testing.assert_allclose(known, (scores[needed - 1] / z) ** 2, rtol=1e-5)
    wrong = mean.at[:, 0].add(0.1)  # one point in eight is wrong and sure: 90 % cannot be covered
    with pytest.raises(ValueError, match="factor of inf: too many points have no variance"):
        conformal_factor(wrong, var, truth, level=0.9)
    assert jnp.isinf(jax.jit(lambda m: conformal_factor(m, var, truth, level=0.9))(wrong))
    assert conformal_factor(wrong, var, truth, level=0.5) > 0


def test_gradient_and_keys(x64):
    rng = np.random.default_rng(5)
    truth, std = jnp.asarray(rng.normal(size=(20, 3))), jnp.asarray(rng.uniform(0.5, 2, (20, 3)))
    check_grads(
        lambda m, v: conformal_factor(m, v, truth, level=0.9),
        (jnp.zeros((20, 3)), std**2),
        order=1,
        eps=1e-6,
        atol=1e-6,
        rtol=1e-6,
    )

    def noisy(inputs, *, key=None):
        shift = 0.0 if key is None else jax.random.normal(key, inputs.shape)
        return Gaussian.diagonal(inputs + shift, jnp.ones_like(inputs))

    model = Recalibrated(noisy, 4.0)
    assert float(jnp.abs(model(jnp.zeros(3), key=jax.random.key(0)).mean).max()) > 0.01
    batch = jax.vmap(lambda x: model(x).marginal_std)(jnp.zeros((2, 3)))
    np.testing.assert_array_equal(batch, 2.0)


def test_a_field_with_nan_counts_as_infinitely_far_off():
    """Under `jit`; the maximum of a large array passes NaN over on a CPU."""
    truth = jnp.asarray(draw(np.random.default_rng(3), 30, 400), jnp.float32)
    zero, one = jnp.zeros(truth.shape), jnp.ones(truth.shape)
    fields = jax.jit(lambda t: conformal_factor(zero, one, t, level=0.9, cover="fields"))
    bad = truth.at[0, 7].set(jnp.nan).at[1].set(jnp.nan)
    assert float(fields(bad)) == float(fields(truth.at[:2].set(1e6)))


def test_bad_input():
    ones = jnp.ones((30, 4))
    with pytest.raises(ValueError, match=r"level=.*0.95, not 95\), got 95"):
        conformal_factor(ones, ones, ones, level=95)
    with pytest.raises(ValueError, match="unknown cover 'point'; did you mean 'points'"):
        conformal_factor(ones, ones, ones, cover="point")
    with pytest.raises(
        ValueError, match="expected at least 19 functions to calibrate with, got 18"
    ):
        conformal_factor(ones[:18], ones[:18], ones[:18])
    with pytest.raises(ValueError, match=r"one shape.*got \(30, 4\), \(30, 3\)"):
        conformal_factor(ones, ones[:, :3], ones)
    with pytest.raises(ValueError, match="numbers >= 0, got -1"):
        conformal_factor(ones, -ones, ones)
    with pytest.raises(ValueError, match="truths=.*finite"):
        conformal_factor(ones, ones, jnp.nan * ones)
    with pytest.raises(ValueError, match="factor of 0.0"):
        conformal_factor(ones, ones, ones)
    with pytest.raises(ValueError, match=r"factor=.*a scalar, got shape \(2,\)"):
        Recalibrated(lambda x: x, jnp.ones(2))
