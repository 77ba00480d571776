"""Hyper-parameters: the optimum against scipy, the draws against quadrature, pooled moments."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
import scipy.optimize

from jaxsci.surrogates import (
    GaussianProcess,
    PooledGaussianProcess,
    Task,
    fit_gaussian_process,
    sample_gaussian_process,
    stationary_kernel,
)

pytest.importorskip("tinygp", reason="the extra `gp` is not installed")


def make_task(nc=15, nt=4, seed=1, dtype=None):
    rng = np.random.default_rng(seed)
    x, t = rng.uniform(size=(nc, 1)), rng.uniform(size=(nt, 1))
    y = np.sin(6 * x[:, 0]) + 0.1 * rng.standard_normal(nc)
    return Task(*(jnp.asarray(a, dtype or jnp.result_type(float)) for a in (x, y, t)))


def make_start(lengthscale=0.5, amplitude=1.0, noise=0.1, **options):
    kernel = stationary_kernel("squared-exponential", lengthscale, amplitude=amplitude)
    return GaussianProcess(kernel, noise=noise, **options)


def negative_log_likelihood(log_parameters, task):
    """In numpy float64: lengthscale, amplitude and noise by their logarithms."""
    scale, amplitude, noise = np.exp(log_parameters)
    x, y = np.asarray(task.context_points[:, 0]), np.asarray(task.context_values)
    cov = amplitude * np.exp(-((x[:, None] - x[None, :]) ** 2) / (2 * scale**2))
    cov = cov + noise * np.eye(len(x))
    log_det = np.linalg.slogdet(cov)[1]
    return (y @ np.linalg.solve(cov, y) + log_det + len(x) * np.log(2 * np.pi)) / 2


def fitted_values(surrogate):
    """lengthscale, amplitude, noise"""
    amplitude, scale = jax.tree.leaves(surrogate.kernel)[:2]
    return np.array([float(scale), float(amplitude), float(surrogate.noise)])


def test_order_of_leaves():
    surrogate = make_start(0.25, 3.0, 0.5)
    np.testing.assert_allclose(fitted_values(surrogate), [0.25, 3.0, 0.5])


def test_optimum_is_that_of_a_derivative_free_search(x64):
    task = make_task()
    fit = fit_gaussian_process(make_start(), task)
    simplex = scipy.optimize.minimize(
        negative_log_likelihood,
        np.log([0.5, 1.0, 0.1]),
        args=(task,),
        method="Nelder-Mead",
        options={"xatol": 1e-8, "fatol": 1e-10, "maxiter": 2000},
    )
    assert bool(fit.converged)
    np.testing.assert_allclose(fit.log_likelihood, -simplex.fun, rtol=1e-8)
    np.testing.assert_allclose(fitted_values(fit.surrogate), np.exp(simplex.x), rtol=1e-3)
    first = -negative_log_likelihood(np.log([0.5, 1.0, 0.1]), task)
    np.testing.assert_allclose(fit.initial_log_likelihood, first, rtol=1e-10)
    assert float(fit.gradient_norm) < 1e-4


def test_float32_reaches_nearly_the_same_optimum():
    single = fit_gaussian_process(make_start(), make_task())
    assert single.log_likelihood.dtype == jnp.float32
    with jax.enable_x64(True):
        double = fit_gaussian_process(make_start(), make_task(dtype=jnp.float64))
    np.testing.assert_allclose(single.log_likelihood, double.log_likelihood, rtol=0, atol=2e-2)
    assert bool(single.converged)


def test_fit_of_a_part_holds_the_rest(x64):
    fit = fit_gaussian_process(make_start(), make_task(), trainable=lambda gp: gp.noise)
    scale, amplitude, noise = fitted_values(fit.surrogate)
    assert (scale, amplitude) == (0.5, 1.0)
    assert noise != 0.1 and float(fit.log_likelihood) > float(fit.initial_log_likelihood)


def test_a_noise_of_zero_is_held_and_a_mean_is_free(x64):
    kernel = stationary_kernel("exponential", 0.5)
    start = GaussianProcess(kernel, noise=0.0, mean=0.0)
    task = make_task()
    shifted = Task(task.context_points, task.context_values + 3.0, task.target_points)
    fit = fit_gaussian_process(start, shifted)
    assert float(fit.surrogate.noise) == 0.0
    assert abs(float(fit.surrogate.mean) - 3.0) < 1.0


@pytest.mark.slow
def test_batch_of_tasks_shares_and_vmap_does_not(x64):
    tasks = [make_task(seed=1), make_task(seed=2)]
    batch = jax.tree.map(lambda *a: jnp.stack(a), *tasks)
    shared = fit_gaussian_process(make_start(), batch)
    total = sum(float(shared.surrogate.log_marginal_likelihood(t)) for t in tasks)
    np.testing.assert_allclose(shared.log_likelihood, total, rtol=1e-10)
    own = eqx.filter_vmap(lambda t: fit_gaussian_process(make_start(), t))(batch)
    for i, task in enumerate(tasks):
        alone = fit_gaussian_process(make_start(), task)
        np.testing.assert_allclose(own.log_likelihood[i], alone.log_likelihood, rtol=1e-6)
    assert float(own.log_likelihood.sum()) >= total


@pytest.mark.slow
def test_draws_have_the_posterior_that_quadrature_finds(x64):
    """One free hyper-parameter: its posterior mean and deviation by a sum over a fine mesh."""
    task, spread = make_task(), 0.7
    drawn = sample_gaussian_process(
        make_start(),
        task,
        key=jr.key(0),
        draws=300,
        warmup=150,
        spread=spread,
        trainable=lambda gp: gp.noise,
    )
    mesh = np.linspace(np.log(0.1) - 5, np.log(0.1) + 4, 400)
    prior = -((mesh - np.log(0.1)) ** 2) / (2 * spread**2)
    fixed = np.log([0.5, 1.0])
    log_density = prior - [negative_log_likelihood([*fixed, z], task) for z in mesh]
    weights = np.exp(log_density - log_density.max())
    weights /= weights.sum()
    mean = weights @ mesh
    deviation = np.sqrt(weights @ (mesh - mean) ** 2)
    z = np.log(np.asarray(drawn.values)).ravel()
    error = deviation / np.sqrt(float(drawn.effective_samples[0]))
    assert drawn.names == (".noise",)
    assert abs(z.mean() - mean) < 4 * error
    assert abs(z.std() / deviation - 1) < 0.25
    assert drawn.r_hat[0] < 1.05 and int(drawn.divergences) == 0

    pooled = drawn.surrogate(task)
    assert pooled.mean.dtype == jnp.float64 and pooled.size == 4


def test_pooled_prediction_has_the_moments_of_the_mixture(x64):
    task = make_task()
    parts = [make_start(0.3, 1.0, 0.1), make_start(0.6, 2.0, 0.05), make_start(0.9, 0.5, 0.2)]
    draws = jax.tree.map(lambda *a: jnp.stack(a), *parts)
    pooled = PooledGaussianProcess(draws)(task)
    each = [part(task) for part in parts]
    means = np.array([g.mean for g in each])
    second = np.mean([np.asarray(g.cov.as_matrix()) + np.outer(g.mean, g.mean) for g in each], 0)
    np.testing.assert_allclose(pooled.mean, means.mean(0), rtol=0, atol=1e-13)
    expected = second - np.outer(means.mean(0), means.mean(0))
    np.testing.assert_allclose(pooled.cov.as_matrix(), expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_two_chains_in_float32():
    drawn = sample_gaussian_process(
        make_start(), make_task(), key=jr.key(1), draws=4, warmup=6, chains=2
    )
    assert drawn.values.shape == (2, 4, 3) and drawn.values.dtype == jnp.float32
    assert len(drawn.names) == 3 and drawn.r_hat.shape == (3,)
    prediction = eqx.filter_jit(drawn.surrogate)(make_task())
    assert bool(jnp.all(prediction.marginal_var > 0))


def test_bad_input():
    task, start = make_task(), make_start()
    empty = Task(task.context_points[:0], task.context_values[:0], task.target_points)
    with pytest.raises(ValueError, match="expected at least one value"):
        fit_gaussian_process(start, empty)
    with pytest.raises(ValueError, match="at least one floating hyper-parameter"):
        fit_gaussian_process(GaussianProcess(lambda a, b: a @ b.T), task)
    with pytest.raises(ValueError, match="known hyper-parameters, got traced"):
        eqx.filter_jit(lambda s: fit_gaussian_process(s, task))(start)
    negative = GaussianProcess(lambda a, b: -jnp.ones((len(a), len(b))), noise=1e-3)
    with pytest.raises(ValueError, match="a start with a finite likelihood"):
        fit_gaussian_process(negative, task)
    with pytest.raises(ValueError, match=r"draws=...\)`: expected at least 4, got 0"):
        sample_gaussian_process(start, task, key=jr.key(0), draws=0)
    with pytest.raises(ValueError, match="spread.*positive number, got -1"):
        sample_gaussian_process(start, task, key=jr.key(0), spread=-1.0)
