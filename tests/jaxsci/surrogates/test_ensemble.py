"""A deep ensemble against numpy's moments of its members."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsci.conservation import condition, integral
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.surrogates import DeepEnsemble


def make_members(number=4, out=6):
    def make(key):
        return eqx.nn.MLP(3, out, 8, 1, key=key)

    return eqx.filter_vmap(make)(jr.split(jr.key(0), number))


def unstack(members, number=4):
    arrays, rest = eqx.partition(members, eqx.is_array)
    return [eqx.combine(jax.tree.map(lambda a, i=i: a[i], arrays), rest) for i in range(number)]


class Noisy(eqx.Module):
    """A member that gives a Gaussian, and jitters its mean with the key."""

    shift: jax.Array

    def __call__(self, inputs, *, key=None):
        mean = inputs + self.shift
        if key is not None:
            mean = mean + jr.normal(key, mean.shape)
        return Gaussian.diagonal(mean, jnp.abs(inputs) + self.shift**2)


INPUTS = np.array([0.3, -1.2, 0.7])


def check_moments(prediction, outputs, own, atol):
    np.testing.assert_allclose(prediction.mean, outputs.mean(0), rtol=0, atol=atol)
    cov = np.cov(outputs.T, ddof=1) + np.diag(own)
    np.testing.assert_allclose(prediction.cov.as_matrix(), cov, rtol=0, atol=atol)


@pytest.mark.parametrize("wide", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_stacked_members(wide):
    with jax.enable_x64(wide):
        members, inputs = make_members(), jnp.asarray(INPUTS)
        call = eqx.filter_jit(lambda model, x: model(x))
        outputs = np.array([call(m, inputs) for m in unstack(members)])
        prediction = call(DeepEnsemble(members), inputs)
        assert prediction.mean.dtype == (jnp.float64 if wide else jnp.float32)
        check_moments(prediction, outputs, np.zeros(6), 1e-14 if wide else 1e-6)
        listed = call(DeepEnsemble(unstack(members)), inputs)
        np.testing.assert_allclose(listed.mean, prediction.mean, rtol=0, atol=1e-6)
        np.testing.assert_allclose(listed.cov.factor, prediction.cov.factor, rtol=0, atol=1e-6)


def test_members_with_variances(x64):
    shifts, inputs = np.array([0.5, 1.0, 3.0]), jnp.asarray(INPUTS)
    outputs = INPUTS[None, :] + shifts[:, None]
    own = np.abs(INPUTS) + (shifts**2).mean()
    stacked = DeepEnsemble(Noisy(jnp.asarray(shifts)))
    check_moments(stacked(inputs), outputs, own, 1e-14)
    check_moments(
        DeepEnsemble([Noisy(jnp.asarray(s)) for s in shifts])(inputs), outputs, own, 1e-14
    )


def test_keys_differ_between_members():
    for ensemble in (DeepEnsemble(Noisy(jnp.zeros(50))), DeepEnsemble([Noisy(jnp.zeros(()))] * 50)):
        prediction = ensemble(jnp.asarray(INPUTS), key=jr.key(3))
        spread = jnp.sum(prediction.cov.factor**2, axis=1)
        np.testing.assert_allclose(spread, 1.0, atol=0.7)


def test_plain_functions_take_no_key():
    ensemble = DeepEnsemble([jnp.sin, lambda x: x.reshape(3, 1)])
    assert ensemble(jnp.asarray(INPUTS), key=jr.key(0)).size == 3


def test_zero_variance_and_its_floor():
    members, inputs = make_members(), jnp.asarray(INPUTS)
    bare, floored = (
        eqx.filter_jit(DeepEnsemble(members, variance_floor=floor))(inputs) for floor in (0.0, 0.01)
    )
    assert np.linalg.matrix_rank(np.asarray(bare.cov.as_matrix()), tol=1e-6) == 3
    assert bool(jnp.isnan(bare.log_prob(jnp.zeros(6))))
    assert bool(jnp.isfinite(floored.log_prob(jnp.zeros(6))))
    np.testing.assert_allclose(floored.cov.diag, 0.01)


def test_conserves_without_a_floor():
    grid = Grid.uniform(x=(0.0, 1.0, 6))
    mass = integral(grid, 0.25)
    conserved = condition(DeepEnsemble(make_members())(jnp.asarray(INPUTS)), mass)
    np.testing.assert_allclose(mass.residual(conserved.mean), 0.0, atol=1e-6)


def test_vmap_and_gradients(x64):
    ensemble = DeepEnsemble(make_members())
    batch = jnp.asarray(np.random.default_rng(0).normal(size=(5, 3)))
    variance = eqx.filter_jit(lambda x: ensemble(x).marginal_var)
    variances = jax.jit(jax.vmap(variance))(batch)
    np.testing.assert_allclose(variances[2], variance(batch[2]), rtol=0, atol=1e-13)
    arrays, rest = eqx.partition(ensemble, eqx.is_inexact_array)

    def score(arrays, x):
        prediction = eqx.combine(arrays, rest)(x)
        return jnp.sum(prediction.mean**2) + jnp.sum(prediction.marginal_var)

    check_grads(jax.jit(score), (arrays, batch[0]), order=1, atol=1e-6, rtol=1e-6, eps=1e-5)


@pytest.mark.parametrize(
    ("members", "error", "match"),
    [
        ([jnp.sin], ValueError, "at least two members, got 1"),
        ([jnp.sin, 3.0], TypeError, "can be called, got float"),
        (jnp.sin, ValueError, "leading axis of members"),
        (eqx.nn.Linear(2, 3, key=jr.key(0)), ValueError, r"shapes \[\(3, 2\), \(3,\)\]"),
    ],
)
def test_bad_members(members, error, match):
    if isinstance(members, eqx.nn.Linear):  # leading axes must differ to be noticed
        members = eqx.tree_at(lambda m: m.bias, members, jnp.zeros(4))
        match = r"shapes \[\(3, 2\), \(4,\)\]"
    with pytest.raises(error, match=match):
        DeepEnsemble(members)


def test_bad_outputs():
    inputs = jnp.asarray(INPUTS)
    with pytest.raises(ValueError, match=r"same number of points.*sizes \[3, 2\]"):
        DeepEnsemble([jnp.sin, lambda x: x[:2]])(inputs)
    with pytest.raises(ValueError, match="1 Gaussians among 2"):
        DeepEnsemble([jnp.sin, Noisy(jnp.ones(()))])(inputs)
    with pytest.raises(TypeError, match="got tuple; wrap it with `jaxsci.interop.from_function`"):
        DeepEnsemble([lambda x: (x, x)] * 2)(inputs)
    with pytest.raises(TypeError, match="returns floats, got int32"):
        DeepEnsemble([lambda x: jnp.arange(3)] * 2)(inputs)
    with pytest.raises(ValueError, match="variance_floor.*expected a number >= 0, got -1"):
        DeepEnsemble([jnp.sin] * 2, variance_floor=-1.0)
