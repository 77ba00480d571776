"""The attentive neural process against a forward pass written out in numpy."""

import math

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsci.gaussians import Gaussian
from jaxsci.surrogates import (
    AttentiveNeuralProcess,
    Latent,
    Surrogate,
    Task,
    anp_loss,
    anp_weights,
)
from jaxsci.surrogates._anp_layers import dropout, in_chunks


def make(dtype=jnp.float32, **settings):
    # Not in `jit`: what is drawn for one layer is compiled for all others of its shape.
    return AttentiveNeuralProcess(8, 2, key=jr.key(0), dtype=dtype, **settings)


def double(model):
    return jax.tree.map(lambda a: a.astype(np.float64) if eqx.is_inexact_array(a) else a, model)


def make_task(seed=0, contexts=5, targets=7, dtype=np.float32):
    rng = np.random.default_rng(seed)
    points, values = rng.random((contexts, 2)), rng.random(contexts)
    at = rng.random((targets, 2))
    return Task(*(jnp.asarray(a, dtype) for a in (points, values, at)))


def oracle(model, task, z=None):
    """Mean, std, and latent mean and log-variance, in float64 numpy."""
    w = {k: np.asarray(v, np.float64) for k, v in anp_weights(model).items()}
    cx, cy, tx = (np.asarray(a, np.float64) for a in jax.tree.leaves(task))

    def linear(name, x):
        y = x @ w[name + ".linear_layer.weight"].T
        return y + w.get(name + ".linear_layer.bias", 0)

    def attention(name, keys, values, queries):
        k, v, q = (
            linear(f"{name}.encoder_{s}", a)
            for s, a in zip(("key", "value", "query"), (keys, values, queries), strict=True)
        )
        heads = []
        for h in range(2):
            part = slice(4 * h, 4 * h + 4)
            scores = q[:, part] @ k[:, part].T / 2
            p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
            heads.append(p @ v[:, part])
        x = queries + linear(f"{name}.final_linear", np.concatenate([queries, *heads], 1))
        x = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
        return x * w[f"{name}.layer_norm.weight"] + w[f"{name}.layer_norm.bias"]

    def encode(part):
        x = linear(f"{part}.input_projection", np.concatenate([cx, cy[:, None]], 1))
        for i in range(2):
            x = attention(f"{part}.self_attentions.{i}", x, x, x)
        return x

    hidden = linear("latent_encoder.penultimate_layer", encode("latent_encoder").mean(0))
    hidden = np.maximum(hidden, 0)
    mu, log_variance = (linear(f"latent_encoder.{s}", hidden) for s in ("mu", "log_sigma"))
    values = encode("deterministic_encoder")
    keys = linear("deterministic_encoder.context_projection", cx)
    q = linear("deterministic_encoder.target_projection", tx)
    for i in range(2):
        q = attention(f"deterministic_encoder.cross_attentions.{i}", keys, values, q)
    z = np.broadcast_to(mu if z is None else z, q.shape)
    x = np.concatenate([q, z, linear("decoder.target_projection", tx)], 1)
    for i in range(3):
        x = np.maximum(linear(f"decoder.linears.{i}", x), 0)
    m, s = linear("decoder.final_projection", x).T
    return m, np.log1p(np.exp(s)) + 1e-3, mu, log_variance


@pytest.fixture(scope="module")
def model():
    return make()


@pytest.fixture(scope="module")
def task():
    return make_task()


def moments(model, task, **kwargs):
    gaussian = eqx.filter_jit(lambda m, t, kw: m(t, **kw))(model, task, kwargs)
    return np.asarray(gaussian.mean), np.asarray(gaussian.marginal_std)


def test_forward_float32(model, task):
    mean, std, mu, log_variance = oracle(model, task)
    latent = eqx.filter_jit(lambda m, t: m.latent(t))(model, task)
    for got, expected in zip(
        (*moments(model, task), latent.mean, latent.log_variance),
        (mean, std, mu, log_variance),
        strict=True,
    ):
        assert got.dtype == np.float32
        np.testing.assert_allclose(got, expected, atol=3e-6)


def test_forward_float64(model, x64):
    model = double(model)
    task = make_task()  # float32 inputs are cast to the dtype of the parameters
    got = moments(model, task)
    assert got[0].dtype == np.float64
    np.testing.assert_allclose(got, oracle(model, task)[:2], atol=1e-13)


def test_given_z(model, task):
    z = jr.normal(jr.key(3), (8,))
    got = eqx.filter_jit(lambda m, t, z: m.predict(t, z))(model, task, z)
    np.testing.assert_allclose(got, oracle(model, task, np.asarray(z))[:2], atol=3e-6)


@pytest.mark.slow
def test_vmap_and_chunks(model):
    tasks = [make_task(seed) for seed in range(3)]
    batch = jax.tree.map(lambda *a: jnp.stack(a), *tasks)
    got = jax.jit(jax.vmap(lambda t: model(t).mean))(batch)
    chunked = make(chunk=3)
    for i, one in enumerate(tasks):
        expected = oracle(model, one)[0]
        np.testing.assert_allclose(got[i], expected, atol=3e-6)
        np.testing.assert_allclose(moments(chunked, one)[0], expected, atol=3e-6)
    at_once = eqx.filter_jit(lambda m, t: m.represent(t))
    np.testing.assert_allclose(at_once(chunked, one), at_once(model, one), atol=1e-6)


@pytest.mark.parametrize("count", [1, 3, 4, 6, 7])
def test_in_chunks_covers_every_point_once(count):
    points = jnp.arange(2.0 * count).reshape(count, 2)
    keys = []
    result = in_chunks(lambda p, k: (keys.append(k), 2 * p)[1], points, 3, jr.key(0))
    np.testing.assert_array_equal(result, 2 * points)
    assert all(k is not None for k in keys)


def test_order_of_contexts_does_not_matter(model, task):
    order = np.array([3, 1, 4, 0, 2])
    other = Task(task.context_points[order], task.context_values[order], task.target_points)
    np.testing.assert_allclose(moments(model, other), moments(model, task), atol=3e-6)


@pytest.mark.slow
def test_modes(model, task):
    key = jr.key(5)
    quiet = eqx.nn.inference_mode(model)
    first, again = moments(quiet, task, key=key), moments(quiet, task, key=key)
    np.testing.assert_array_equal(first, again)
    np.testing.assert_array_equal(first, moments(model, task, key=key, inference=True))
    sample = eqx.filter_jit(lambda m, t, k: m.latent(t).sample(k))
    z = sample(model, task, jr.split(key, 3)[0])
    np.testing.assert_allclose(first, oracle(model, task, np.asarray(z))[:2], atol=3e-6)
    noisy = moments(model, task, key=key)
    assert np.abs(noisy[0] - first[0]).max() > 1e-3
    np.testing.assert_array_equal(moments(make(dropout=0.0), task, key=key), first)


def test_meets_the_protocol(model, task):
    assert isinstance(model, Surrogate)
    gaussian = eqx.filter_eval_shape(model, task)
    assert isinstance(gaussian, Gaussian)
    assert gaussian.size == 7


def test_dropout_keeps_the_mean():
    x = jnp.ones((101, 99))
    y = np.asarray(dropout(x, 0.1, jr.key(0)))
    kept = y > 0
    assert abs((~kept).mean() - 0.1) < 4 * math.sqrt(0.09 / y.size)
    np.testing.assert_allclose(y[kept], 1 / 0.9, rtol=1e-4)
    # No correlation along rows or columns, or between the two halves of each random word.
    for a, b in ((kept[1:], kept[:-1]), (kept[:, 1:], kept[:, :-1])):
        assert abs(np.corrcoef(a.ravel(), b.ravel())[0, 1]) < 4 / math.sqrt(a.size)
    assert dropout(x, 0.1, None) is x
    assert dropout(x, 0.0, jr.key(0)) is x


@pytest.mark.slow
def test_published_size_and_initialisation():
    shapes = eqx.filter_eval_shape(AttentiveNeuralProcess, key=jr.key(0))
    sizes = [math.prod(a.shape) for a in anp_weights(shapes).values()]
    assert (len(sizes), sum(sizes)) == (66, 989_826)
    for name, array in anp_weights(make()).items():
        if "layer_norm" in name:
            np.testing.assert_array_equal(array, float(name.endswith("weight")))
            continue
        fan_out, fan_in = array.shape if array.ndim == 2 else (array.size, None)
        if fan_in is not None:
            relu = "linears" in name or "penultimate" in name
            bound = math.sqrt(6 * (2 if relu else 1) / (fan_in + fan_out))
            assert 0.5 * bound < np.abs(array).max() <= bound, name


def test_latent_divergence():
    rng = np.random.default_rng(0)
    m1, l1, m0, l0 = rng.normal(size=(4, 6))
    latents = [
        Latent(*(jnp.asarray(a, jnp.float32) for a in pair)) for pair in ((m1, l1), (m0, l0))
    ]
    expected = 0.5 * np.sum(l0 - l1 + (np.exp(l1) + (m1 - m0) ** 2) / np.exp(l0) - 1)
    np.testing.assert_allclose(latents[0].kl(latents[1]), expected, rtol=1e-5)
    assert float(latents[0].kl(latents[0])) == 0
    draws = jax.vmap(latents[0].sample)(jr.split(jr.key(0), 20_000))
    np.testing.assert_allclose(draws.mean(0), m1, atol=0.05)
    np.testing.assert_allclose(jnp.log(draws.var(0)), l1, atol=0.05)


def loss_oracle(model, task, values):
    tx, u = np.asarray(task.target_points), np.asarray(values)
    *_, m0, l0 = oracle(model, task)
    *_, m1, l1 = oracle(model, Task(tx, u, tx))
    mean, std, *_ = oracle(model, task, m1)
    log_density = -0.5 * ((u - mean) / std) ** 2 - np.log(std * np.sqrt(2 * np.pi))
    kl = 0.5 * np.sum(l0 - l1 + (np.exp(l1) + (m1 - m0) ** 2) / np.exp(l0) - 1)
    return kl - log_density.sum()


def test_loss(model, x64):
    model, task = double(model), make_task(dtype=np.float64)
    values = jnp.asarray(np.random.default_rng(1).random(7))
    loss = eqx.filter_jit(anp_loss)
    np.testing.assert_allclose(loss(model, task, values), loss_oracle(model, task, values))
    key = jr.key(0)
    quiet = loss(eqx.nn.inference_mode(model), task, values, key=key)
    assert quiet == loss(model, task, values, key=key, inference=True)
    assert abs(quiet - loss(model, task, values, key=key)) > 1e-3


@pytest.mark.slow
def test_gradients(x64):
    model = make(jnp.float64, attention_layers=1, decoder_layers=1)
    task = make_task(dtype=np.float64)
    values = jnp.asarray(np.random.default_rng(1).random(7))
    arrays, rest = eqx.partition(model, eqx.is_inexact_array)

    @jax.jit
    def loss(arrays, task):
        return anp_loss(eqx.combine(arrays, rest), task, values, key=jr.key(0))

    check_grads(loss, (arrays, task), order=1, modes=("rev",), eps=1e-5, atol=1e-4, rtol=1e-4)


@pytest.mark.slow
def test_one_task_can_be_learned(task):
    """Twenty steps of fixed length down the gradient of one task must lower its loss."""
    values = jnp.sin(3 * task.target_points[:, 0])
    step = eqx.filter_jit(eqx.filter_value_and_grad(anp_loss))
    model, losses = make(attention_layers=1, decoder_layers=1), []
    for i in range(20):
        loss, gradient = step(model, task, values, key=jr.key(i))
        losses.append(float(loss))
        length = jnp.sqrt(sum(jnp.sum(g**2) for g in jax.tree.leaves(gradient)))
        down = jax.tree.map(lambda g, scale=-0.05 / length: scale * g, gradient)
        model = eqx.apply_updates(model, down)
    assert np.mean(losses[-3:]) < np.mean(losses[:3]) - 1


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"width": 6, "heads": 4}, "multiple of the heads, e.g. 8"),
        ({"heads": 0}, "heads=.* expected at least 1, got 0"),
        ({"dropout": 1.0}, "0 <= dropout < 1, got 1.0"),
        ({"min_std": -1.0}, "min_std=.* at least 0"),
    ],
)
def test_impossible_settings(settings, match):
    with pytest.raises(ValueError, match=match):
        AttentiveNeuralProcess(**settings, key=jr.key(0))


def test_impossible_dtype():
    with pytest.raises(TypeError, match="real floating dtype, got int32"):
        AttentiveNeuralProcess(dtype=jnp.int32, key=jr.key(0))


def test_bad_input(model, task):
    with pytest.raises(TypeError, match="expected a `Task`, got tuple"):
        model((1, 2))
    points, values, targets = jax.tree.leaves(task)
    with pytest.raises(ValueError, match=r"shape \(nc, 2\) with nc >= 1, got \(5, 1\)"):
        model(Task(points[:, :1], values, targets[:, :1]))
    with pytest.raises(ValueError, match="use `jax.vmap` for a batch"):
        model(Task(points[None], values[None], targets[None]))
    with pytest.raises(ValueError, match=r"nc >= 1, got \(0, 2\)"):
        model(Task(points[:0], values[:0], targets))
    with pytest.raises(ValueError, match="context_values.* got nan at index"):
        model(Task(points, values.at[2].set(jnp.nan), targets))
    with pytest.raises(ValueError, match=r"target_values=.* shape \(7,\).* got \(6,\)"):
        anp_loss(model, task, jnp.zeros(6))


def test_tasks_that_do_not_fit():
    points = np.zeros((4, 2))
    with pytest.raises(ValueError, match=r"context_values=.* \(4,\), one value per"):
        Task(points, np.zeros((4, 1)), points)
    with pytest.raises(ValueError, match="as many coordinates"):
        Task(points, np.zeros(4), np.zeros((4, 1)))
    with pytest.raises(ValueError, match=r"a column, `x\[:, None\]`"):
        Task(np.zeros(4), np.zeros(4), np.zeros(4))
    assert Task(0, 0, None).context_points == 0  # `in_axes` of a `vmap`
