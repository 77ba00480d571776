"""The published weights reproduce the published network's outputs."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.surrogates import Task, load_anp_weights
from jaxsci.surrogates._anp_loss import log_normal

pytestmark = pytest.mark.data


@pytest.fixture(scope="module")
def folder(data_dir):
    return data_dir / "probconserv"


@pytest.fixture(scope="module")
def golden(folder):
    return np.load(folder / "1b_pme_golden_anp.npz")


@pytest.fixture(scope="module")
def model(folder):
    return load_anp_weights(folder / "1b_pme_weights_anp.npz")


@pytest.fixture(scope="module")
def observed(folder, golden):
    """Contexts and targets of the golden functions: points and values of each."""
    with np.load(folder / "1b_pme_test.npz") as file:
        names = ("input_contexts", "output_contexts", "input_targets", "output_targets")
        cx, cy, tx, ty = (jnp.asarray(file[name][golden["test_index"]]) for name in names)
    return Task(cx, cy[..., 0], tx), ty[..., 0]


def test_latent(model, golden, observed):
    tasks, values = observed

    def latents(task, value):
        prior, posterior = model.latent(task), model.encode(task.target_points, value)
        return (
            prior.mean,
            prior.log_variance,
            posterior.mean,
            posterior.log_variance,
            posterior.kl(prior),
        )

    got = jax.jit(jax.vmap(latents))(tasks, values)
    names = ("prior_mu", "prior_logvar", "post_mu", "post_logvar", "kl")
    for name, array in zip(names, got, strict=True):
        np.testing.assert_allclose(array, golden[name], rtol=0, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(got[0], golden["z"], rtol=0, atol=1e-5)


def test_fields(model, golden, observed):
    """Every fifth time of the 201 x 201 grid, in chunks."""
    tasks, _ = observed
    every = slice(None, None, 5)
    points = np.stack(np.meshgrid(golden["t"][every], golden["x"], indexing="ij"), axis=-1)
    targets = jnp.asarray(np.broadcast_to(points.reshape(-1, 2), (3, points.size // 2, 2)))

    def predict(task):
        gaussian = model(task)
        return gaussian.mean, gaussian.marginal_std

    batch = Task(tasks.context_points, tasks.context_values, targets)
    mean, std = jax.jit(jax.vmap(predict))(batch)
    shape = golden["anp_mean"][:, every].shape
    for array, name in ((mean, "anp_mean"), (std, "anp_std")):
        expected = golden[name][:, every]
        np.testing.assert_allclose(array.reshape(shape), expected, rtol=0, atol=1e-5, err_msg=name)


def test_representation(model, golden, observed):
    tasks, _ = observed
    points = np.stack(np.meshgrid(golden["t"], golden["x"], indexing="ij"), axis=-1)
    targets = jnp.asarray(np.broadcast_to(points.reshape(-1, 2)[::4041], (3, 10, 2)))
    batch = Task(tasks.context_points, tasks.context_values, targets)
    representation = jax.jit(jax.vmap(lambda task: model.represent(task)))(batch)
    np.testing.assert_allclose(representation, golden["r_every4041"], rtol=0, atol=1e-5)


def test_log_density_of_the_targets(model, golden, observed, x64):
    """In float64: a sum of 100 densities as narrow as these has float32 errors of 7e-4."""

    def log_density(model, task, value):
        mean, std = model.predict(task, model.latent(task).mean)
        return jnp.sum(log_normal(value, mean, std))

    arguments = jax.tree.map(
        lambda leaf: leaf.astype(jnp.float64) if eqx.is_inexact_array(leaf) else leaf,
        (model, *observed),
    )
    got = eqx.filter_jit(jax.vmap(log_density, in_axes=(None, 0, 0)))(*arguments)
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, golden["logprob_targets_zprior"], rtol=0, atol=4e-4)
