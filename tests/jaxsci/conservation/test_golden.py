"""The published update, on the published surrogate's predictions (marker `data`)."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.conservation import (
    LinearConstraint,
    condition,
    constrained_log_likelihood,
    curvature,
    project,
)
from jaxsci.gaussians import Gaussian, WeightedSums
from jaxsci.grids import Grid

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def golden(data_dir):
    folder = data_dir / "probconserv"
    with np.load(folder / "1b_pme_golden_anp.npz") as prediction:
        arrays = {k: prediction[k] for k in ("x", "anp_mean", "anp_std", "mass")}
    with np.load(folder / "1b_pme_golden_constraint.npz") as expected:
        return arrays | dict(expected)


def _row(golden, rule="trapezoid"):
    return WeightedSums(Grid.from_points(x=golden["x"]).weights(rule))


def _close(got, expected, atol):
    np.testing.assert_allclose(np.asarray(got), expected, rtol=0, atol=atol)


@pytest.mark.parametrize(
    "name, rule, noise",
    [
        ("pc", "trapezoid", None),
        ("pc_prec1e2", "trapezoid", 1e-2),
        ("pc_prec1e6", "trapezoid", 1e-6),
        ("pc_rhs", "right", None),
    ],
)
def test_update(golden, name, rule, noise):
    row = _row(golden, rule)

    @jax.jit
    @jax.vmap
    @jax.vmap
    def update(mean, std, b):
        posterior = condition(Gaussian.diagonal(mean, std**2), LinearConstraint(row, b, noise))
        return posterior.mean, posterior.marginal_var

    step = 1 if name == "pc" else 20
    mean, std, mass = (golden[k][:, ::step] for k in ("anp_mean", "anp_std", "mass"))
    got_mean, got_var = update(mean, std, mass)
    _close(got_mean, golden[f"{name}_mean"], 2e-6)
    _close(got_var, golden[f"{name}_var"], 1e-6)


def test_covariance(golden):
    row = _row(golden)

    @jax.jit
    @jax.vmap
    def matrix(mean, std, b):
        prior = Gaussian.diagonal(mean, std**2)
        return condition(prior, LinearConstraint(row, b)).cov.as_matrix()

    arguments = (golden[k][:, 100] for k in ("anp_mean", "anp_std", "mass"))
    _close(matrix(*arguments), golden["pc_cov_t100"], 1e-6)


def test_projection(golden):
    row = _row(golden)

    @jax.jit
    @jax.vmap
    @jax.vmap
    def update(mean, std, b):
        return project(Gaussian.diagonal(mean, std**2), LinearConstraint(row, b)).mean

    got = update(*(golden[k] for k in ("anp_mean", "anp_std", "mass")))
    _close(got, golden["hardc_mean"], 2e-6)


@pytest.fixture(scope="module")
def diffused(golden):
    row = _row(golden)

    @jax.jit
    def update(mean, std, b):
        prior = Gaussian.diagonal(mean, std**2)
        posterior = condition(condition(prior, curvature(prior)), LinearConstraint(row, b))
        return posterior.mean, posterior.marginal_var, posterior.cov.as_matrix()

    return update


@pytest.mark.parametrize("function", range(3))
@pytest.mark.parametrize("t", [1, 100, 200])
def test_curvature_then_mass(golden, diffused, function, t):
    arguments = (jnp.asarray(golden[k][function, t]) for k in ("anp_mean", "anp_std", "mass"))
    mean, variance, cov = diffused(*arguments)
    _close(mean, golden["pcdiff_mean"][function, t], 1e-5)
    _close(variance, golden["pcdiff_var"][function, t], 1e-6)
    if t == 100:
        _close(cov, golden["pcdiff_cov_t100"][function], 1e-6)


@pytest.mark.slow
def test_curvature_then_mass_at_every_time(golden, diffused):
    arguments = [golden[k].reshape(603, -1) for k in ("anp_mean", "anp_std")]
    mass = golden["mass"].reshape(603)
    mean, variance, _ = jax.lax.map(lambda z: diffused(*z), (*map(jnp.asarray, arguments), mass))
    _close(mean.reshape(3, 201, 201), golden["pcdiff_mean"], 1e-5)
    _close(variance.reshape(3, 201, 201), golden["pcdiff_var"], 1e-6)


@pytest.mark.parametrize("precision", ["float32", "float64"])
def test_joint_training_likelihood(data_dir, precision):
    with np.load(data_dir / "probconserv" / "1b_pme_golden_loss.npz") as loss:
        expected, index = loss["constrained_logprob_prec1e2"], loss["test_index"]
        mean, std = loss["target_mean"], loss["target_std"]
    with np.load(data_dir / "probconserv" / "1b_pme_test.npz") as tasks:
        points = tasks["input_targets"][index].reshape(3, 10, 10, 2)
        truth = tasks["output_targets"][index][..., 0]
    with jax.enable_x64(precision == "float64"):

        @jax.jit
        @jax.vmap
        def likelihood(x, mean, std, truth):
            weights = Grid.from_points(x=x).weights()
            sums = WeightedSums(jnp.broadcast_to(weights, (10, 10)), (1,))
            masses = LinearConstraint(sums, jnp.zeros(10, mean.dtype), 1e-2)
            return constrained_log_likelihood(Gaussian.diagonal(mean, std**2), masses, truth)

        arrays = (points[:, 0, :, 1], mean, std, truth)
        got = likelihood(*(a.astype(precision) for a in arrays))
    # Summed over the 10 times. The arrays are stored as float32, the expected sums too.
    _close(got, expected, 4e-4 if precision == "float32" else 5e-5)
