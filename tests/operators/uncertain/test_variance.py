"""The output variance and dropout of operators: channels, transforms, training, walls."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxsci.metrics import gaussian_log_likelihood
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
from jaxsci.operators.constrained import make_operator
from jaxsci.operators.fno import FNO
from jaxsci.operators.uncertain import OutputVariance, Unpack
from jaxsci.surrogates import DeepEnsemble, MCDropout
from jaxsci.training import fit

KEY = jax.random.key(0)
WALL = BoundaryConditions("x", {("x", "low"): Dirichlet()})


def random(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("transform", ["softplus", "exp"])
@pytest.mark.parametrize("wide", [False, True])
def test_channels_are_means_and_variances(transform, wide):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        fno, x = (
            FNO(1, 4, 4, width=6, layers=1, dtype=dtype, key=KEY),
            random(0, 1, 12, dtype=dtype),
        )
        model = OutputVariance(fno, transform=transform, variance_floor=0.01)
        prediction = eqx.filter_jit(model)(x)
        mean, raw = np.split(np.asarray(fno(x), np.float64), 2)
        variance = {"softplus": np.log1p(np.exp(raw)), "exp": np.exp(raw)}[transform] + 0.01
        rtol = 1e-12 if wide else 1e-5
        np.testing.assert_allclose(prediction.mean, mean.ravel(), rtol=rtol, atol=rtol)
        np.testing.assert_allclose(prediction.marginal_var, variance.ravel(), rtol=rtol)
        assert prediction.mean.dtype == dtype and prediction.size == 24


def test_a_wall_holds_for_the_mean_and_not_for_the_variance():
    operator = make_operator(
        "fno-matched-enforced", 1, 1, WALL, modes=4, width=6, free_channels=1, key=KEY
    )
    model = OutputVariance(operator)
    x, g = random(0, 3, 1, 12), random(1, 3, 1)
    prediction = jax.vmap(lambda x, g: model((x, {("x", "low"): g})))(x, g)
    np.testing.assert_array_equal(prediction.mean[:, 0], g[:, 0])
    raw = jnp.stack([operator(a, {("x", "low"): b})[1] for a, b in zip(x, g, strict=True)])
    expected = jax.nn.softplus(raw) + 1e-6
    np.testing.assert_allclose(prediction.cov.diagonal, expected, rtol=1e-5)


@pytest.mark.slow
def test_the_likelihood_finds_a_known_noise():
    """`u = a + noise(x)`, of a deviation that grows from 0.1 to 1: it comes out to a fifth."""
    sigma = np.linspace(0.1, 1.0, 16)
    rng = np.random.default_rng(0)
    a = rng.normal(size=(512, 1, 1)) * np.ones((512, 1, 16))
    u = a + sigma * rng.normal(size=(512, 1, 16))
    data = jnp.asarray(a, jnp.float32), jnp.asarray(u, jnp.float32)

    def loss(model, batch, *, key):
        g = jax.vmap(model)(batch[0])
        truth = batch[1].reshape(g.mean.shape)
        return -gaussian_log_likelihood(g.mean, g.cov.diagonal, truth)

    fno = FNO(1, 2, 4, width=8, layers=1, key=KEY)
    model = fit(
        OutputVariance(fno, transform="exp"),
        loss,
        data,
        optimiser=optax.adam(1e-2),
        epochs=30,
        batch_size=32,
        key=jax.random.key(1),
        progress=False,
    ).model
    stds = np.asarray(jax.vmap(lambda x: model(x).marginal_std)(data[0])).mean(0)
    np.testing.assert_allclose(stds, sigma, rtol=0.2)


def test_gradients(x64):
    fno = FNO(1, 2, 4, width=4, layers=1, dtype=jnp.float64, key=KEY)
    arrays, rest = eqx.partition(OutputVariance(fno), eqx.is_inexact_array)
    x = random(0, 1, 8, dtype=jnp.float64)

    def score(arrays):
        g = eqx.combine(arrays, rest)(x)
        return -gaussian_log_likelihood(g.mean, g.marginal_var, jnp.zeros(8))

    check_grads(score, (arrays,), order=1, modes=("rev",), atol=1e-5, rtol=1e-5)


def test_dropout_of_an_operator_with_a_wall():
    operator = make_operator("fno-enforced", 1, 1, WALL, modes=4, width=8, dropout=0.2, key=KEY)
    inputs = random(0, 1, 12), {("x", "low"): random(1, 1)}
    surrogate = MCDropout(Unpack(operator), 12)
    prediction = eqx.filter_jit(surrogate)(inputs, key=jax.random.key(1))
    keys = jax.random.split(jax.random.key(1), 12)
    each = np.array([operator(*inputs, key=k).ravel() for k in keys], np.float64)
    np.testing.assert_allclose(prediction.mean, each.mean(0), rtol=0, atol=1e-6)
    cov = np.cov(each.T, ddof=1)
    np.testing.assert_allclose(prediction.cov.as_matrix(), cov, rtol=0, atol=1e-6)
    assert float(prediction.marginal_var[0]) == 0 < float(prediction.marginal_var[1:].min())
    quiet = MCDropout(Unpack(eqx.nn.inference_mode(operator)), 12)  # switched on again
    again = eqx.filter_jit(quiet)(inputs, key=jax.random.key(1))
    np.testing.assert_allclose(again.mean, prediction.mean, rtol=1e-6)


def test_an_ensemble_of_operators_with_a_wall():
    def make(key):
        return Unpack(make_operator("fno-enforced", 1, 1, WALL, modes=4, width=4, key=key))

    inputs = random(0, 1, 12), {("x", "low"): random(1, 1)}
    members = [make(k) for k in jax.random.split(KEY, 3)]
    prediction = DeepEnsemble(members)(inputs)
    each = np.array([m(inputs).ravel() for m in members])
    np.testing.assert_allclose(prediction.marginal_var, each.var(0, ddof=1), rtol=1e-4, atol=1e-9)
    np.testing.assert_array_equal(prediction.mean[:1], inputs[1]["x", "low"])


def test_bad_input():
    fno = FNO(1, 3, 4, width=4, layers=1, key=KEY)
    with pytest.raises(ValueError, match="unknown transform 'softpls'; did you mean 'softplus'"):
        OutputVariance(fno, transform="softpls")
    with pytest.raises(ValueError, match="variance_floor=.*positive number, got 0"):
        OutputVariance(fno, variance_floor=0)
    with pytest.raises(ValueError, match=r"even number of channels.*shape \(3, 8\)"):
        OutputVariance(fno)(jnp.ones((1, 8)))
    with pytest.raises(ValueError, match=r"`FNO\(dropout=...\)`: .*\[0, 1\), got 1"):
        FNO(1, 1, 4, width=4, dropout=1.0, key=KEY)
