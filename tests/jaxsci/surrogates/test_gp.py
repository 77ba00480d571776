"""The Gaussian process against dense float64 formulas, tinygp itself and exact conservation."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsci.conservation import condition, integral
from jaxsci.gaussians import Kronecker
from jaxsci.grids import Grid
from jaxsci.surrogates import GaussianProcess, SeparableKernel, Task, stationary_kernel

tinygp = pytest.importorskip("tinygp", reason="the extra `gp` is not installed")


def make_task(d=2, nc=12, nt=7, seed=0, dtype=None):
    rng = np.random.default_rng(seed)
    x, t = rng.uniform(size=(nc, d)), rng.uniform(size=(nt, d))
    y = np.sin(3 * x.sum(axis=1)) + 0.1 * rng.standard_normal(nc)
    return Task(*(jnp.asarray(a, dtype or jnp.result_type(float)) for a in (x, y, t)))


def matern52(a, b, scales, amplitude):
    r = np.sqrt((((a[:, None, :] - b[None, :, :]) / scales) ** 2).sum(-1))
    s = np.sqrt(5.0) * r
    return amplitude * (1 + s + s**2 / 3) * np.exp(-s)


def dense_posterior(task, scales, amplitude, noise, mean):
    """The textbook formulas in numpy float64."""
    x, y, t = (
        np.asarray(a, np.float64)
        for a in (task.context_points, task.context_values, task.target_points)
    )
    a = matern52(x, x, scales, amplitude) + noise * np.eye(len(x))
    across = matern52(t, x, scales, amplitude)
    solved = np.linalg.solve(a, np.column_stack([y - mean, across.T]))
    return mean + across @ solved[:, 0], matern52(t, t, scales, amplitude) - across @ solved[:, 1:]


SETTINGS = {
    1: (np.array([0.4]), 1.7, 0.02, 0.3),
    2: (np.array([0.5, 0.8]), 1.7, 0.02, 0.3),
    3: (np.array([0.5, 0.8, 1.1]), 0.6, 0.05, -0.2),
}


@eqx.filter_jit
def predict(surrogate, task):
    """Compiled as a whole, which takes less time than op by op."""
    return surrogate(task)


def make_surrogate(d, noise=None):
    scales, amplitude, own_noise, mean = SETTINGS[d]
    kernel = stationary_kernel("matern52", scales, amplitude=amplitude)
    return GaussianProcess(kernel, noise=own_noise if noise is None else noise, mean=mean)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_dense_formula_float64(d, x64):
    task = make_task(d)
    prediction = predict(make_surrogate(d), task)
    mean, cov = dense_posterior(task, *SETTINGS[d])
    assert prediction.mean.dtype == jnp.float64
    np.testing.assert_allclose(prediction.mean, mean, rtol=0, atol=1e-12)
    np.testing.assert_allclose(prediction.cov.as_matrix(), cov, rtol=0, atol=1e-12)


@pytest.mark.parametrize("d", [1, 2, 3])
def test_dense_formula_float32(d):
    task = make_task(d)
    prediction = predict(make_surrogate(d), task)
    mean, cov = dense_posterior(task, *SETTINGS[d])
    assert prediction.mean.dtype == jnp.float32
    np.testing.assert_allclose(prediction.mean, mean, rtol=0, atol=2e-4)
    np.testing.assert_allclose(prediction.cov.as_matrix(), cov, rtol=0, atol=2e-4)


def test_inputs_decide_the_dtype(x64):
    prediction = predict(make_surrogate(2), make_task(dtype=jnp.float32))
    assert prediction.mean.dtype == prediction.marginal_var.dtype == jnp.float32


@pytest.mark.slow
def test_tinygp_condition(x64):
    task = make_task()
    surrogate = make_surrogate(2)
    peer = tinygp.GaussianProcess(
        surrogate.kernel, task.context_points, diag=surrogate.noise, mean=float(surrogate.mean)
    )
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        log_prob, posterior = peer.condition(
            task.context_values, task.target_points, diag=jnp.zeros(())
        )
    prediction = predict(surrogate, task)
    np.testing.assert_allclose(prediction.mean, posterior.loc, rtol=0, atol=1e-12)
    np.testing.assert_allclose(prediction.cov.as_matrix(), posterior.covariance, rtol=0, atol=1e-12)
    np.testing.assert_allclose(surrogate.log_marginal_likelihood(task), log_prob, rtol=1e-11)


@pytest.mark.parametrize(
    "name", ["exponential", "matern32", "squared-exponential", "rational-quadratic"]
)
def test_every_kernel_runs_strictly_in_both_precisions(name):
    surrogate = GaussianProcess(stationary_kernel(name, 0.6), noise=0.05)
    single = predict(surrogate, make_task())
    with jax.enable_x64(True):
        double = predict(surrogate, make_task(dtype=jnp.float64))
    np.testing.assert_allclose(single.mean, double.mean, rtol=0, atol=2e-4)


@pytest.mark.slow
def test_noise_per_context_and_callable_mean(x64):
    task = make_task()
    noise = jnp.linspace(0.01, 0.2, 12)
    kernel = stationary_kernel("matern52", SETTINGS[2][0])
    prediction = GaussianProcess(kernel, noise=noise, mean=lambda p: p[0] - 2.0 * p[1])(task)
    x, y, t = (np.asarray(a) for a in jax.tree.leaves(task))
    mean = dense_posterior(
        Task(x, y - x @ [1.0, -2.0], t), SETTINGS[2][0], 1.0, np.asarray(noise), 0.0
    )[0]
    np.testing.assert_allclose(prediction.mean, mean + t @ [1.0, -2.0], rtol=0, atol=1e-12)


def test_no_contexts_give_the_prior():
    task = make_task()
    empty = Task(task.context_points[:0], task.context_values[:0], task.target_points)
    surrogate = make_surrogate(2)
    prediction = predict(surrogate, empty)
    prior = eqx.filter_jit(surrogate.prior)(task.target_points)
    np.testing.assert_allclose(prediction.mean, prior.mean)
    np.testing.assert_allclose(prediction.cov.as_matrix(), prior.cov.as_matrix(), atol=1e-6)


def test_vmap_over_tasks_is_the_loop():
    surrogate = make_surrogate(2)
    tasks = [make_task(seed=s) for s in range(3)]
    batch = jax.tree.map(lambda *a: jnp.stack(a), *tasks)
    means = jax.jit(jax.vmap(lambda t: surrogate(t).mean))(batch)
    np.testing.assert_allclose(
        means, [predict(surrogate, t).mean for t in tasks], rtol=0, atol=2e-5
    )


def test_gradients_against_differences(x64):
    task = make_task(nc=6, nt=3)
    arrays, rest = eqx.partition(make_surrogate(2), eqx.is_inexact_array)

    @jax.jit
    def score(arrays, values):
        surrogate = eqx.combine(arrays, rest)
        changed = Task(task.context_points, values, task.target_points)
        prediction = surrogate(changed)
        spread = jnp.sum(jnp.log(prediction.marginal_var)) + prediction.log_prob(jnp.ones(3))
        return jnp.sum(prediction.mean) + spread + surrogate.log_marginal_likelihood(changed)

    check_grads(score, (arrays, task.context_values), order=1, atol=1e-5, rtol=1e-5, eps=1e-5)


def test_separable_prior_is_the_dense_one(x64):
    kernels = tinygp.kernels
    kernel = SeparableKernel(2.0 * kernels.Matern52(0.4), kernels.ExpSquared(0.3))
    grid = Grid.uniform(t=(0.0, 1.0, 4), x=(0.0, 1.0, 6))
    surrogate = GaussianProcess(kernel, mean=0.5)
    prior = eqx.filter_jit(surrogate.prior)(grid)
    dense = eqx.filter_jit(surrogate.prior)(grid.points())
    assert isinstance(prior.cov, Kronecker)
    np.testing.assert_allclose(prior.mean, 0.5)
    np.testing.assert_allclose(prior.cov.as_matrix(), dense.cov.as_matrix(), rtol=0, atol=1e-13)


def test_separable_prior_conserves_without_a_dense_matrix():
    kernels = tinygp.kernels
    kernel = SeparableKernel(kernels.Matern52(0.4), kernels.Matern32(0.3))
    grid = Grid.uniform(t=(0.0, 1.0, 5), x=(0.0, 1.0, 21))
    mass = jnp.linspace(0.5, 1.0, 5)
    constraint = integral(grid, mass, over="x")
    prior = eqx.filter_jit(GaussianProcess(kernel).prior)(grid)
    conserved = condition(prior, constraint)
    np.testing.assert_allclose(constraint.residual(conserved.mean), 0.0, atol=2e-6)


def exact_rows(grid):
    """Trapezoid weights of each time slice, written out."""
    t, x = grid.shape
    weights = np.full(x, 1.0 / (x - 1))
    weights[[0, -1]] /= 2
    return np.kron(np.eye(t), weights)


@pytest.mark.parametrize("noise", [None, 1e-3])
def test_conditioning_on_the_integral_is_observing_it(noise, x64):
    """`condition(posterior, integral)` is the GP that saw contexts and integrals together."""
    grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 1.0, 9))
    contexts = make_task(nc=10)
    surrogate = make_surrogate(2)
    task = Task(contexts.context_points, contexts.context_values, grid.points())
    mass = jnp.array([0.2, 0.5, 0.9])
    constraint = integral(grid, mass, over="x", noise=noise)
    ours = eqx.filter_jit(lambda s, t: condition(s(t), constraint))(surrogate, task)

    # The analytic process: observations are L u, with L a selection for the contexts and a
    # quadrature for the masses; everything follows from cov(L u, L u) and cov(u, L u).
    scales, amplitude, variance, mean = SETTINGS[2]
    x, t = np.asarray(task.context_points), np.asarray(grid.points())
    rows = exact_rows(grid)
    k_tt, k_tx = matern52(t, t, scales, amplitude), matern52(t, x, scales, amplitude)
    joint = np.block(
        [
            [matern52(x, x, scales, amplitude) + variance * np.eye(10), k_tx.T @ rows.T],
            [rows @ k_tx, rows @ k_tt @ rows.T + (noise or 0.0) * np.eye(3)],
        ]
    )
    across = np.hstack([k_tx, k_tt @ rows.T])
    seen = np.concatenate([np.asarray(task.context_values), np.asarray(mass)])
    expected = np.concatenate([np.full(10, mean), rows @ np.full(len(t), mean)])
    exact_mean = mean + across @ np.linalg.solve(joint, seen - expected)
    exact_cov = k_tt - across @ np.linalg.solve(joint, across.T)
    np.testing.assert_allclose(ours.mean, exact_mean, rtol=0, atol=1e-9)
    np.testing.assert_allclose(ours.cov.as_matrix(), exact_cov, rtol=0, atol=1e-10)
    if noise is None:
        np.testing.assert_allclose(rows @ ours.mean, mass, rtol=0, atol=1e-14)


def test_float32_posterior_has_a_density_and_draws():
    grid = Grid.uniform(x=(0.0, 1.0, 101))
    x = jnp.linspace(0.0, 1.0, 40)[:, None]
    kernel = stationary_kernel("squared-exponential", 0.3)
    task = Task(x, jnp.sin(5 * x[:, 0]), grid.points())
    prediction = predict(GaussianProcess(kernel, noise=1e-3), task)
    assert bool(jnp.all(prediction.marginal_var > 0))
    log_prob = jax.jit(lambda g: g.log_prob(g.sample(jr.key(0))))(prediction)
    assert bool(jnp.isfinite(log_prob))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda: GaussianProcess(0.3), TypeError, r"kernel=...\)`: expected a callable"),
        (lambda: GaussianProcess(min, noise=-1.0), ValueError, "variance >= 0, got -1"),
        (lambda: GaussianProcess(min, noise=np.ones((2, 2))), ValueError, r"shape \(nc,\), got"),
        (lambda: GaussianProcess(min, noise=np.nan), ValueError, "noise=...*finite"),
        (lambda: GaussianProcess(min, mean=np.ones(2)), ValueError, "mean=.*got an array of shape"),
        (lambda: GaussianProcess(min, jitter=2.0), ValueError, r"number in \[0, 1\)"),
        (lambda: stationary_kernel("matern53", 1.0), ValueError, "did you mean 'matern52'"),
        (lambda: stationary_kernel("matern52", (1.0, -1.0)), ValueError, "lengthscales.*positive"),
        (lambda: stationary_kernel("matern52", 1.0, amplitude=0.0), ValueError, "amplitude.*posit"),
        (lambda: stationary_kernel("matern52", np.ones((2, 2))), ValueError, r"shape \(d,\), got"),
        (lambda: SeparableKernel(), ValueError, "one kernel per axis, got none"),
        (lambda: SeparableKernel(0.1), TypeError, "got float for axis 0"),
    ],
)
def test_bad_settings(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_bad_tasks():
    surrogate, task = make_surrogate(2), make_task()
    x, y, t = task.context_points, task.context_values, task.target_points
    batch = jax.tree.map(lambda a: jnp.stack([a, a]), task)
    with pytest.raises(ValueError, match=r"one task.*`jax.vmap`"):
        surrogate(batch)
    with pytest.raises(TypeError, match="one floating dtype.*context_values int32"):
        surrogate(Task(x, jnp.zeros(12, jnp.int32), t))
    with pytest.raises(ValueError, match=r"context_values=...\)`: expected finite.*index \(3,\)"):
        surrogate(Task(x, y.at[3].set(jnp.nan), t))
    with pytest.raises(ValueError, match=r"expected a scalar or shape \(12,\).*got \(5,\)"):
        make_surrogate(2, noise=jnp.ones(5))(task)
    with pytest.raises(ValueError, match="singular to rounding; raise `noise`"):
        GaussianProcess(lambda a, b: -jnp.ones((len(a), len(b))))(task)
    with pytest.raises(ValueError, match=r"a kernel that returns shape \(12, 12\)"):
        GaussianProcess(lambda a, b: jnp.ones(3))(task)
    with pytest.raises(ValueError, match="returns a scalar, got shape"):
        GaussianProcess(surrogate.kernel, noise=0.1, mean=lambda p: p)(task)
    with pytest.raises(ValueError, match=r"floats of shape \(n, d\), got"):
        surrogate.prior(jnp.zeros(3))
    one = SeparableKernel(tinygp.kernels.Matern52(0.3))
    with pytest.raises(ValueError, match="points with 1 coordinates.*got 2"):
        GaussianProcess(one)(task)
    with pytest.raises(ValueError, match="expected 1 axes, one per kernel, got 2"):
        GaussianProcess(one).prior(Grid.uniform(t=(0.0, 1.0, 2), x=(0.0, 1.0, 2)))


def test_missing_extra_is_named(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "tinygp.kernels", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxsci\[gp\]'"):
        stationary_kernel("matern52", 1.0)
