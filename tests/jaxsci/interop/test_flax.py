"""Real Flax models, nnx and linen: same numbers, trainable, with dropout and running statistics."""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import optax
import pytest

from jaxsci.conservation import condition, integral
from jaxsci.grids import Grid
from jaxsci.interop import from_flax_linen, from_flax_nnx
from jaxsci.surrogates import DeepEnsemble, MCDropout

pytest.importorskip("flax", reason="the extra `flax` is not installed")
from flax import linen, nnx  # noqa: E402  (after the check that they are there)

GRID = Grid.uniform(x=(0.0, 1.0, 9))
X = GRID.points()
U = jnp.sin(3.0 * X[:, 0])


class Net(nnx.Module):
    def __init__(self, rngs):
        self.first = nnx.Linear(1, 16, rngs=rngs)
        self.norm = nnx.BatchNorm(16, rngs=rngs)
        self.dropout = nnx.Dropout(0.2, rngs=rngs)
        self.last = nnx.Linear(16, 2, rngs=rngs)

    def __call__(self, x):
        return self.last(self.dropout(jnp.tanh(self.norm(self.first(x)))))


class LinenNet(linen.Module):
    @linen.compact
    def __call__(self, x, train=False):
        x = linen.Dense(16)(x)
        x = linen.BatchNorm(use_running_average=True)(x)
        x = linen.Dropout(0.2, deterministic=not train)(jnp.tanh(x))
        return linen.Dense(2)(x)


def channels(y):
    return y[..., 0], jax.nn.softplus(y[..., 1])


def make_nnx(seed=0, train=False):
    model = Net(nnx.Rngs(seed))
    model.train() if train else model.eval()
    return model


def make_linen(**arguments):
    variables = LinenNet().init(jr.key(0), X)
    return from_flax_linen(LinenNet(), variables, readout=channels, **arguments), variables


def make(kind):
    if kind == "nnx":
        return from_flax_nnx(make_nnx(), readout=channels)
    return make_linen()[0]


def expected(kind):
    if kind == "nnx":
        return channels(make_nnx()(X))
    return channels(LinenNet().apply(make_linen()[1], X))


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_same_numbers_also_compiled_and_in_a_batch(kind):
    surrogate, (mean, std) = make(kind), expected(kind)
    batch = jnp.stack([X, X + 1.0])
    means = eqx.filter_jit(lambda s, b: jax.vmap(lambda x: s(x).mean)(b))(surrogate, batch)
    prediction = surrogate(X)
    np.testing.assert_allclose(prediction.mean, mean, rtol=0, atol=1e-6)
    np.testing.assert_allclose(prediction.marginal_std, std, rtol=0, atol=1e-6)
    np.testing.assert_allclose(means[0], mean, rtol=0, atol=1e-6)
    assert not np.allclose(means[1], mean)


@pytest.mark.parametrize("kind", ["nnx", "linen"])
def test_trains_through_the_conserved_likelihood(kind):
    """Parameters are leaves: optax sees them; state gets no gradient and does not move."""
    surrogate, mass = make(kind), integral(GRID, 0.663)
    optimiser = optax.adam(1e-2)

    def loss(surrogate):
        conserved = condition(surrogate(X), mass)
        variance = jnp.maximum(conserved.marginal_var, 1e-6)
        return jnp.mean((U - conserved.mean) ** 2 / variance + jnp.log(variance))

    @eqx.filter_jit
    def step(surrogate, state):
        value, slopes = eqx.filter_value_and_grad(loss)(surrogate)
        with jax.numpy_dtype_promotion("standard"):  # optax mixes floats and integers
            updates, state = optimiser.update(slopes, state)
        return eqx.apply_updates(surrogate, updates), state, value

    before = surrogate
    state = optimiser.init(eqx.filter(surrogate, eqx.is_inexact_array))
    losses = []
    for _ in range(15):
        surrogate, state, value = step(surrogate, state)
        losses.append(float(value))
    assert losses[-1] < losses[0] - 0.05
    assert not eqx.tree_equal(before.parameters, surrogate.parameters)
    floats = [eqx.filter(s.state, eqx.is_inexact_array) for s in (before, surrogate)]
    assert eqx.tree_equal(*floats)
    conserved = condition(surrogate(X), mass)
    np.testing.assert_allclose(mass.residual(conserved.mean), 0.0, atol=2e-6)


def test_trained_parameters_go_back_to_flax():
    surrogate = from_flax_nnx(make_nnx(), readout=channels)
    moved = eqx.tree_at(
        lambda s: s.parameters, surrogate, jax.tree.map(lambda p: p + 0.1, surrogate.parameters)
    )
    np.testing.assert_allclose(channels(moved.model(X))[0], moved(X).mean, rtol=1e-5, atol=1e-6)
    surrogate, variables = make_linen()
    assert jax.tree.structure(surrogate.variables) == jax.tree.structure(variables)
    np.testing.assert_allclose(
        channels(LinenNet().apply(surrogate.variables, X))[0], surrogate(X).mean, rtol=1e-6
    )


@pytest.mark.slow
def test_gradient_against_differences(x64):
    surrogate = from_flax_nnx(make_nnx(), readout=channels)
    surrogate = jax.tree.map(
        lambda a: a.astype(jnp.float64) if eqx.is_inexact_array(a) else a, surrogate
    )
    inputs, truth = X.astype(jnp.float64), U.astype(jnp.float64)
    assert surrogate(inputs).mean.dtype == jnp.float64

    def score(parameters):
        return eqx.tree_at(lambda s: s.parameters, surrogate, parameters)(inputs).log_prob(truth)

    slope = jax.grad(score)(surrogate.parameters)
    size = 1e-6
    up, down = (
        jax.tree.map(lambda p, g, s=s: p + s * size * g, surrogate.parameters, slope)
        for s in (1.0, -1.0)
    )
    square = sum(float(jnp.sum(g**2)) for g in jax.tree.leaves(slope))
    np.testing.assert_allclose((score(up) - score(down)) / (2 * size), square, rtol=1e-5)


def test_the_users_model_is_neither_changed_nor_followed():
    model = make_nnx(train=True)
    before = jax.tree.map(jnp.copy, nnx.state(model, nnx.BatchStat))
    surrogate = from_flax_nnx(model, readout=channels)
    first = surrogate(X).mean
    assert eqx.tree_equal(before, nnx.state(model, nnx.BatchStat))
    model.first.kernel.set_value(model.first.kernel.get_value() + 1.0)
    np.testing.assert_allclose(surrogate(X).mean, first)


@pytest.mark.parametrize("kind", ["nnx", "linen"])
@pytest.mark.parametrize("make_key", [jr.key, jr.PRNGKey])
def test_dropout_follows_the_key(kind, make_key):
    if kind == "nnx":
        model = make_nnx()
        model.dropout.deterministic = False
        surrogate = from_flax_nnx(model, readout=lambda y: y[..., 0], variance=0.0)
    else:
        surrogate = from_flax_linen(
            LinenNet(), make_linen()[1], readout=lambda y: y[..., 0], variance=0.0, train=True
        )
    one, two = (surrogate(X, key=make_key(seed)).mean for seed in (1, 2))
    np.testing.assert_allclose(surrogate(X, key=make_key(1)).mean, one)
    assert not np.allclose(one, two)
    if make_key is jr.key:
        prediction = MCDropout(surrogate, 12)(X, key=make_key(0))
        assert prediction.cov.factor.shape == (9, 12)
        # Where x = 0 the hidden layer is 0 too, and there is nothing to drop.
        assert bool(jnp.all(prediction.marginal_var[1:] > 0))


def test_dropout_that_is_off_is_noticed():
    surrogate = from_flax_nnx(make_nnx(), readout=channels)
    with pytest.raises(ValueError, match=r"samples that differ.*`model.train\(\)`"):
        MCDropout(surrogate, 4)(X, key=jr.key(0))


def test_an_ensemble_of_flax_models():
    members = [from_flax_nnx(make_nnx(seed), readout=channels) for seed in range(3)]
    prediction = DeepEnsemble(members)(X)
    means = np.array([m(X).mean for m in members])
    np.testing.assert_allclose(prediction.mean, means.mean(0), rtol=0, atol=1e-6)
    own = np.mean([m(X).marginal_var for m in members], axis=0)
    np.testing.assert_allclose(prediction.cov.diag, own, rtol=1e-5)


def test_bad_input(monkeypatch):
    with pytest.raises(TypeError, match="nnx.Module, got LinenNet; use `from_flax_linen"):
        from_flax_nnx(LinenNet())
    with pytest.raises(TypeError, match=r"linen.Module, got Net; an nnx.Module goes to"):
        from_flax_linen(make_nnx(), {})
    with pytest.raises(ValueError, match=r"mapping with 'params'.*got \['kernel'\]"):
        from_flax_linen(linen.Dense(1), {"kernel": jnp.ones(1)})
    with pytest.raises(ValueError, match=r"from_flax_nnx\(variance=...\)`.*without one"):
        from_flax_nnx(make_nnx())(X)
    with pytest.raises(ValueError, match="variance=.*>= 0, got -2"):
        from_flax_nnx(make_nnx(), variance=-2)
    monkeypatch.setitem(sys.modules, "flax.nnx", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxsci\[flax\]'"):
        from_flax_nnx(make_nnx)
