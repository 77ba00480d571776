"""MC dropout against the closed-form moments of a dropped-out linear layer."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from jaxsci.gaussians import Gaussian
from jaxsci.surrogates import AttentiveNeuralProcess, MCDropout, Task

INPUTS = np.array([1.0, -2.0, 0.5, 3.0])
RATE = 0.25


class Dropped(eqx.Module):
    """`W dropout(x)`: mean `W x`, covariance `W diag(x^2 p / (1 - p)) W'`."""

    weight: jax.Array
    dropout: eqx.nn.Dropout

    def __call__(self, inputs, *, key=None):
        return self.weight @ self.dropout(inputs, key=key)


def make_model(inference=False):
    weight = jnp.asarray(np.random.default_rng(0).normal(size=(3, 4)))
    return Dropped(weight, eqx.nn.Dropout(RATE, inference=inference))


@pytest.mark.parametrize("inference", [False, True])
def test_moments_of_a_linear_layer(inference):
    """Also from inference mode: dropout is switched on."""
    model, inputs = make_model(inference), jnp.asarray(INPUTS)
    samples = 4000
    prediction = eqx.filter_jit(MCDropout(model, samples))(inputs, key=jr.key(0))
    weight = np.asarray(model.weight)
    cov = weight @ np.diag(INPUTS**2 * RATE / (1 - RATE)) @ weight.T
    error = np.sqrt(np.diag(cov).max() / samples)
    np.testing.assert_allclose(prediction.mean, weight @ INPUTS, rtol=0, atol=5 * error)
    np.testing.assert_allclose(
        prediction.cov.as_matrix(), cov, rtol=0, atol=0.15 * np.diag(cov).max()
    )
    assert prediction.mean.dtype == jnp.float32


def test_covariance_is_that_of_the_samples(x64):
    model, inputs = make_model(), jnp.asarray(INPUTS)
    prediction = MCDropout(model, 20)(inputs, key=jr.key(1))
    outputs = np.array([model(inputs, key=k) for k in jr.split(jr.key(1), 20)])
    assert prediction.mean.dtype == jnp.float64
    np.testing.assert_allclose(prediction.mean, outputs.mean(0), rtol=0, atol=1e-14)
    np.testing.assert_allclose(
        prediction.cov.as_matrix(), np.cov(outputs.T, ddof=1), rtol=0, atol=1e-13
    )


def test_batches_change_nothing():
    inputs = jnp.asarray(INPUTS)
    whole = MCDropout(make_model(), 10)(inputs, key=jr.key(2))
    parts = MCDropout(make_model(), 10, batch_size=3)(inputs, key=jr.key(2))
    np.testing.assert_allclose(parts.mean, whole.mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(parts.cov.factor, whole.cov.factor, rtol=0, atol=1e-6)


def test_a_gaussian_model_adds_its_variance():
    def model(inputs, *, key):
        return Gaussian.diagonal(inputs + jr.normal(key, inputs.shape), inputs**2)

    prediction = MCDropout(model, 8)(jnp.asarray(INPUTS), key=jr.key(3))
    np.testing.assert_allclose(prediction.cov.diag, INPUTS**2)


def test_vmap_and_gradient(x64):
    surrogate = MCDropout(make_model(), 6)
    batch = jnp.asarray(np.random.default_rng(1).normal(size=(3, 4)))
    keys = jr.split(jr.key(4), 3)
    variance = jax.jit(lambda x, k: surrogate(x, key=k).marginal_var)
    variances = jax.jit(jax.vmap(variance))(batch, keys)
    np.testing.assert_allclose(variances[1], variance(batch[1], keys[1]), rtol=0, atol=1e-13)

    @eqx.filter_jit
    @eqx.filter_grad
    def slope(model):
        return jnp.sum(MCDropout(model, 6)(batch[0], key=keys[0]).mean)

    # The mean is linear in the weights: its slope is the average dropped input, in every row.
    weights = slope(make_model()).weight
    dropout = eqx.nn.Dropout(RATE)
    dropped = np.mean([dropout(batch[0], key=k) for k in jr.split(keys[0], 6)], axis=0)
    np.testing.assert_allclose(weights, np.tile(dropped, (3, 1)), rtol=0, atol=1e-13)


def test_bad_input():
    model, inputs = make_model(), jnp.asarray(INPUTS)
    with pytest.raises(TypeError, match="which takes no `key`"):
        MCDropout(lambda x: x)
    with pytest.raises(ValueError, match="samples=...*at least 2, got 1"):
        MCDropout(model, 1)
    with pytest.raises(ValueError, match="batch_size.*at least 1, got 0"):
        MCDropout(model, 4, batch_size=0)
    with pytest.raises(ValueError, match="variance_floor.*>= 0, got nan"):
        MCDropout(model, 4, variance_floor=float("nan"))
    with pytest.raises(ValueError, match="expected a random key, got None"):
        MCDropout(model, 4)(inputs)
    with pytest.raises(ValueError, match="samples that differ, got 4 equal ones"):
        MCDropout(lambda x, *, key: x, 4)(inputs, key=jr.key(0))


@pytest.mark.slow
def test_a_neural_process_drops_out_even_in_inference_mode():
    """Also as a part of a model: its own switch is found."""
    process = AttentiveNeuralProcess(8, dropout=0.5, key=jr.key(0))
    process = eqx.tree_at(lambda m: m.inference, process, True)
    points = jnp.linspace(0.0, 1.0, 8).reshape(4, 2)
    task = Task(points, jnp.ones(4), points)
    sure = process(task, key=None).mean
    prediction = MCDropout(Part(process), 4)(task, key=jr.key(1))
    assert jnp.linalg.matrix_rank(prediction.cov.factor) == 3
    assert float(jnp.abs(prediction.mean - sure).max()) > 1e-3


class Part(eqx.Module):
    process: AttentiveNeuralProcess

    def __call__(self, task, *, key):
        return self.process(task, key=key)
