"""Heads against models that have one last layer each, and the diversity against a double loop."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from jaxsci.conservation import condition, integral
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
from jaxsci.operators.constrained import make_operator
from jaxsci.operators.fno import FNO
from jaxsci.operators.layers import Pointwise
from jaxsci.operators.uncertain import DiverseOperator, diverse_loss, head_diversity, last_layer
from jaxsci.training import fit

KEY = jax.random.key(0)
WALL = BoundaryConditions("x", {("x", "low"): Dirichlet()})


def make_fno(dtype=jnp.float32, **options):
    return FNO(1, 1, 4, width=6, layers=1, dtype=dtype, key=KEY, **options)


def random(seed, *shape, dtype=jnp.float32):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype)


def with_head(operator, weight):
    """The operator with an ordinary last layer of these weights."""
    layer = Pointwise(weight.shape[1], weight.shape[0], use_bias=False, key=KEY)
    return eqx.tree_at(last_layer, operator, eqx.tree_at(lambda m: m.weight, layer, weight))


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("wide", [False, True])
def test_moments_are_those_of_models_with_one_head_each(wide):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        fno, x = make_fno(dtype), random(1, 1, 16, dtype=dtype)
        model = DiverseOperator(fno, 4, variance_floor=0.5, key=jax.random.key(1))
        each = np.array([with_head(fno, w)(x).ravel() for w in model.weights], np.float64)
        prediction = eqx.filter_jit(model)(x)
        atol = 1e-13 if wide else 1e-6
        np.testing.assert_allclose(prediction.mean, each.mean(0), rtol=0, atol=atol)
        cov = np.cov(each.T, ddof=1) + 0.5 * np.eye(16)
        np.testing.assert_allclose(prediction.cov.as_matrix(), cov, rtol=0, atol=atol)
        assert prediction.mean.dtype == dtype and prediction.cov.factor.shape == (16, 4)


def test_heads_have_no_bias_and_the_old_layer_is_gone():
    model = DiverseOperator(make_fno(), 3, key=KEY)
    assert last_layer(model.operator).bias is None and model.weights.shape == (3, 1, 12)
    own = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(model, eqx.is_array)))
    fno = sum(leaf.size for leaf in jax.tree.leaves(eqx.filter(make_fno(), eqx.is_array)))
    assert own == fno - 12 - 1 + 3 * 12
    bound = 12**-0.5
    assert float(jnp.abs(model.weights).max()) <= bound < 2 * float(jnp.abs(model.weights).max())
    assert len(np.unique(np.asarray(model.weights))) == 36


def test_every_head_of_a_constrained_operator_obeys():
    operator = make_operator("fno-matched-enforced", 1, 1, WALL, modes=4, width=6, key=KEY)
    model = DiverseOperator(operator, 5, key=jax.random.key(1))
    inputs = random(2, 1, 16), {("x", "low"): random(3, 1)}
    np.testing.assert_array_equal(
        model.heads(inputs)[:, 0, 0], np.full(5, inputs[1]["x", "low"][0])
    )
    prediction = model(inputs)
    assert float(prediction.marginal_var[0]) == 0 < float(prediction.marginal_var[1:].min())
    mass = integral(Grid.uniform(x=(0.0, 1.0, 16)), 0.3)
    updated = condition(prediction, mass)
    bound = 4 * np.finfo(np.float32).eps * float(mass.magnitude(updated.mean)[0])
    assert abs(float(mass.residual(updated.mean)[0])) <= bound
    np.testing.assert_array_equal(updated.mean[0], prediction.mean[0])


def test_diversity_against_a_double_loop(x64):
    model = DiverseOperator(make_fno(jnp.float64), 6, key=jax.random.key(2))
    w = np.asarray(model.weights)
    pairs = [((w[i] - w[j]) ** 2).sum() for i in range(6) for j in range(i)]
    np.testing.assert_allclose(head_diversity(model), np.mean(pairs), rtol=1e-13)
    keys = jax.random.split(jax.random.key(3), 2000)
    drawn = jax.vmap(lambda k: head_diversity(model, sampled=3, key=k))(keys)
    assert len(np.unique(np.asarray(drawn).round(12))) == 20  # 6 over 3, none with a repetition
    error = np.std(drawn) / np.sqrt(2000)
    assert abs(np.mean(drawn) - np.mean(pairs)) < 5 * error


def test_loss_against_numpy_and_its_gradient(x64):
    model = DiverseOperator(make_fno(jnp.float64), 3, key=jax.random.key(2))
    x, y = random(4, 5, 1, 16, dtype=jnp.float64), random(5, 5, 1, 16, dtype=jnp.float64)
    heads = np.array([[with_head(model.operator, w)(a) for w in model.weights] for a in x])
    off = np.linalg.norm((heads - np.asarray(y)[:, None]).reshape(5, 3, -1), axis=-1)
    errors = off / np.linalg.norm(np.asarray(y).reshape(5, 1, -1), axis=-1)
    w = np.asarray(model.weights)
    apart = np.mean([((w[i] - w[j]) ** 2).sum() for i in range(3) for j in range(i)])
    found = eqx.filter_jit(diverse_loss)(model, x, y, strength=0.2)
    np.testing.assert_allclose(found, errors.mean() - 0.2 * apart, rtol=1e-12)
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)
    check_grads(
        lambda arrays: diverse_loss(eqx.combine(arrays, rest), x, y, strength=0.2),
        (arrays,),
        order=1,
        modes=("rev",),
        atol=1e-5,
        rtol=1e-5,
    )


@pytest.mark.slow
def test_heads_agree_where_trained_and_differ_elsewhere():
    """Amplitudes 1 to 2 are seen: the spread at 4 is several times that at 1.5, relative to it."""
    x = jnp.linspace(0.0, 1.0, 16, endpoint=False)
    wave = jnp.sin(2 * jnp.pi * x)[None]
    seen = jnp.linspace(1.0, 2.0, 32)[:, None, None] * wave[None]
    data = seen, seen**2 - 0.5

    def loss(model, batch, *, key, epoch):
        return diverse_loss(model, *batch, strength=jnp.where(epoch < 10, 0.0, 1e-3), key=key)

    fno = FNO(1, 1, 4, width=8, layers=2, key=KEY)
    result = fit(
        DiverseOperator(fno, key=jax.random.key(1)),
        loss,
        data,
        optimiser=optax.adam(3e-3),
        epochs=60,
        batch_size=8,
        key=jax.random.key(2),
        progress=False,
    )
    spread = [
        float(jnp.linalg.norm(p.marginal_std) / jnp.linalg.norm(p.mean))
        for p in (result.model(size * wave) for size in (1.5, 4.0))
    ]
    assert spread[0] < 0.1 and spread[1] > 2 * spread[0]


@pytest.mark.slow
def test_batches_and_keys():
    model = DiverseOperator(make_fno(dropout=0.5), 3, key=KEY)
    x = random(6, 4, 1, 16)
    batch = jax.vmap(lambda x: model(x).marginal_var)(x)
    np.testing.assert_allclose(batch[2], model(x[2]).marginal_var, rtol=1e-5)
    assert float(jnp.abs(model(x[0], key=KEY).mean - model(x[0]).mean).max()) > 1e-3
    with_dropout = diverse_loss(model, x, x, strength=0.0, key=KEY)
    assert not np.isclose(with_dropout, diverse_loss(model, x, x, strength=0.0), rtol=1e-3)


def test_bad_input():
    fno = make_fno()
    with pytest.raises(ValueError, match="heads=.*at least 2, got 1"):
        DiverseOperator(fno, 1, key=KEY)
    with pytest.raises(ValueError, match="variance_floor=.*>= 0, got -1"):
        DiverseOperator(fno, variance_floor=-1.0, key=KEY)
    with pytest.raises(
        ValueError, match="expected one FNO in the model, got 0 in MLP; pass `where=`"
    ):
        DiverseOperator(eqx.nn.MLP(2, 2, 2, 1, key=KEY), key=KEY)
    with pytest.raises(ValueError, match="of real data, got one of complex"):
        last_layer(make_fno(complex_data=True))
    with pytest.raises(TypeError, match="a `Pointwise`, got one that returns ChannelMLP"):
        DiverseOperator(fno, where=lambda m: m.projection, key=KEY)
    model = DiverseOperator(fno, 4, key=KEY)
    with pytest.raises(ValueError, match="sampled=.*2 to 4 heads, got 5"):
        head_diversity(model, sampled=5, key=KEY)
    with pytest.raises(ValueError, match="a random key to draw heads with"):
        head_diversity(model, sampled=2)
