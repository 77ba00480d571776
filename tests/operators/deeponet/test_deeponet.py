"""DeepONet against its formula in NumPy, its derivatives, and what it learns."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from scipy.special import erf

from jaxsci.operators.deeponet import DeepONet
from jaxsci.precision import Policy

KEY = jax.random.key(0, impl="rbg")


def by_numpy(model, u, points):
    def mlp(net, x):
        for i, layer in enumerate(net.layers):
            x = x @ np.asarray(layer.weight).T + np.asarray(layer.bias)
            x = x * (1 + erf(x / np.sqrt(2))) / 2 if i < len(net.layers) - 1 else x
        return x

    b = mlp(model.branch, np.asarray(u).reshape(-1)).reshape(len(model.bias), -1)
    t = mlp(model.trunk, np.asarray(points))
    t = t * (1 + erf(t / np.sqrt(2))) / 2
    return np.moveaxis(t @ b.T + np.asarray(model.bias), -1, 0)


def make(*args, dtype=jnp.float32, **settings):
    model = eqx.filter_eval_shape(lambda: DeepONet(*args, dtype=dtype, **settings, key=KEY))
    rng = np.random.default_rng(7)

    def draw(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jnp.asarray(rng.normal(size=leaf.shape) / leaf.shape[-1] ** 0.5, leaf.dtype)

    return jax.tree.map(draw, model)


def test_formula_derivatives_and_batches(x64):
    model = make(6, 2, 3, width=5, depth=2, terms=4, dtype=jnp.float64)
    rng = np.random.default_rng(0)
    u, points = (jnp.asarray(rng.normal(size=shape)) for shape in ((4, 2, 3), (7, 5, 2)))
    outputs = eqx.filter_jit(lambda model, u: jax.vmap(model, (0, None))(u, points))(model, u)
    for one, y in zip(u, outputs, strict=True):
        np.testing.assert_allclose(y, by_numpy(model, one, points), atol=1e-13)
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    f = jax.jit(lambda p, u, x: jnp.sin(eqx.combine(p, rest)(u, x)).sum())
    check_grads(f, (params, u[0], points[0]), 1)


def test_a_policy_gives_its_dtypes():
    plain = make(6, 1, width=8, terms=8)
    model = make(6, 1, width=8, terms=8, policy=Policy.parse("bf16"))
    u, points = jnp.linspace(0, 1, 6), jnp.linspace(0, 1, 9)[:, None]
    y, exact = eqx.filter_jit(lambda a, b: (a(u, points), b(u, points)))(model, plain)
    error = float(np.abs(np.subtract(y, exact)).max() / np.abs(exact).max())
    assert y.dtype == jnp.float32 and 1e-5 < error < 5e-2


def test_it_learns_the_antiderivative():
    """`a cos(w x)` to `a sin(w x) / w`: new functions to a few per cent after 1000 steps."""
    rng = np.random.default_rng(1)

    def functions(count):
        a, w = rng.uniform(0.5, 1, (2, count, 1))
        sensors, x = np.linspace(0, 1, 12), np.linspace(0, 1, 15)
        pair = a * np.cos(4 * w * sensors), a * np.sin(4 * w * x) / (4 * w)
        return [jnp.asarray(p, jnp.float32) for p in pair]

    points = jnp.linspace(0, 1, 15)[:, None]
    (u, y), (u_test, y_test) = functions(64), functions(32)
    params, rest = eqx.partition(make(12, 1, width=24, depth=2, terms=24), eqx.is_inexact_array)
    optimiser = optax.adam(optax.cosine_decay_schedule(1e-2, 1000))

    def predict(params, u):
        return jax.vmap(eqx.combine(params, rest), (0, None))(u, points)[:, 0]

    @jax.jit
    def train(params):
        def step(carry, _):
            params, state = carry
            gradient = jax.grad(lambda p: jnp.mean((predict(p, u) - y) ** 2))(params)
            updates, state = optimiser.update(gradient, state)
            return (optax.apply_updates(params, updates), state), None

        params = jax.lax.scan(step, (params, optimiser.init(params)), length=1000)[0][0]
        return predict(params, u_test)

    with jax.numpy_dtype_promotion("standard"):  # which Adam needs
        got = train(params)
    error = np.linalg.norm(np.subtract(got, y_test)) / np.linalg.norm(y_test)
    assert error < 0.05


def test_bad_input_is_named():
    model = make(6, 2, width=4, terms=4)
    with pytest.raises(ValueError, match=r"expected 6 numbers, got shape \(5,\)"):
        model(jnp.ones(5), jnp.ones((3, 2)))
    with pytest.raises(ValueError, match=r"expected points of shape \(..., 2\), got \(3,\)"):
        model(jnp.ones(6), jnp.ones(3))
    with pytest.raises(ValueError, match="terms=.*at least 1, got 0"):
        make(6, 2, terms=0)
