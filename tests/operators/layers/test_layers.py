"""Pointwise maps, norms, coordinates and padding against NumPy; channel primitives under vmap."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy.stats import norm as normal

from jaxsci.operators.layers import (
    ChannelMLP,
    GroupNorm,
    InstanceNorm,
    Pointwise,
    append_coordinates,
    crop,
    gelu,
    make_norm,
    make_skip,
    pad,
    padding_of,
)
from jaxsci.operators.spectral import ChebyshevShen, Cosine, mix_channels, per_channel

KEY = jax.random.key(0, impl="rbg")


def field(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


@pytest.mark.parametrize("axes", [(None, 0), (None, 2), (0, None), (1, 1)])
def test_channel_products_under_vmap(x64, axes):
    weights, x = field(4, 5, 3), field(4, 3, 6, 2)
    place = lambda a, axis: a[0] if axis is None else np.moveaxis(a, 0, axis)  # noqa: E731
    arguments = [jnp.asarray(place(a, axis)) for a, axis in zip((weights, x), axes, strict=True)]
    used = [
        a[:1].repeat(4, 0) if axis is None else a
        for a, axis in zip((weights, x), axes, strict=True)
    ]
    got = jax.jit(jax.vmap(mix_channels, axes))(*arguments)
    np.testing.assert_allclose(got, np.einsum("boc,bc...->bo...", *used), atol=1e-13)
    numbers = [jnp.asarray(a) for a in (place(weights[:, 0], axes[0] and 1), arguments[1])]
    spread = jax.jit(jax.vmap(lambda w, x: per_channel(w, x) * x, axes))(*numbers)
    expected = np.einsum("bc,bc...->bc...", used[0][:, 0], used[1])
    np.testing.assert_allclose(spread, expected, atol=1e-13)


def test_derivatives_of_channel_products(x64):
    weight, numbers, x = (jnp.asarray(field(*s)) for s in ((3, 2), (3,), (4, 2, 5)))

    @jax.jit
    def f(weight, numbers, x):
        y = jax.vmap(lambda x: mix_channels(weight, x))(x)
        return jnp.sin(jax.vmap(lambda y: per_channel(numbers, y) * y)(y)).sum()

    check_grads(f, (weight, numbers, x), 2, modes=["rev"])
    check_grads(f, (weight, numbers, x), 1, modes=["fwd"])
    per_sample = jax.jit(jax.vmap(jax.grad(lambda w, x: mix_channels(w, x).sum()), (None, 0)))
    np.testing.assert_allclose(per_sample(weight, x)[:, 0], x.sum(-1), atol=1e-13)


def test_sixteen_bit_factors_are_summed_in_float32():
    weight, x = jnp.ones((1, 4096)), jnp.full((4096, 2), 1 + 2.0**-6)
    y = jax.jit(lambda w, x: mix_channels(w, x, compute=jnp.bfloat16, output=jnp.float32))(
        weight, x
    )
    np.testing.assert_array_equal(y, np.full((1, 2), 4096 + 64))


def test_gelu_is_the_exact_one(x64):
    x = np.linspace(-6, 6, 50)
    np.testing.assert_allclose(gelu(jnp.asarray(x)), x * normal.cdf(x), atol=1e-15)
    z = gelu(jnp.asarray(x + 1j * x[::-1]))
    np.testing.assert_allclose(z, x * normal.cdf(x) + 1j * (x * normal.cdf(x))[::-1], atol=1e-15)


def test_pointwise_maps_and_their_initialisation():
    layer = Pointwise(4, 300, key=KEY)
    x = jnp.asarray(field(4, 3, 2), jnp.float32)
    expected = np.einsum("oc,c...->o...", layer.weight, x) + np.asarray(layer.bias)[:, None, None]
    np.testing.assert_allclose(layer(x), expected, atol=1e-6)
    for array in (layer.weight, layer.bias):
        assert 0.45 < np.abs(array).max() <= 0.5 and abs(np.mean(array)) < 0.06
    with pytest.raises(ValueError, match=r"expected shape \(4, ...\), got \(3, 2\)"):
        layer(x[0])
    with pytest.raises(ValueError, match="two sizes or more"):
        ChannelMLP((3,), key=KEY)


def test_norms_against_numpy(x64):
    x = field(3, 4, 5) * 3 + 1
    norm = eqx.tree_at(
        lambda n: (n.weight, n.bias),
        GroupNorm(3, dtype=jnp.float64),
        tuple(jnp.asarray(field(2, 3))),
    )
    y = (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    scale, shift = (np.asarray(a)[:, None, None] for a in (norm.weight, norm.bias))
    np.testing.assert_allclose(
        jax.jit(norm.__call__)(jnp.asarray(x)), scale * y + shift, atol=1e-12
    )
    y = (x - x.mean((1, 2), keepdims=True)) / np.sqrt(x.var((1, 2), keepdims=True) + 1e-5)
    np.testing.assert_allclose(jax.jit(InstanceNorm().__call__)(jnp.asarray(x)), y, atol=1e-12)


def test_coordinates_are_those_of_the_basis():
    x = jnp.zeros((2, 4, 3))
    np.testing.assert_allclose(append_coordinates(x)[2:, :, 1], [[0, 0.25, 0.5, 0.75], [1 / 3] * 4])
    both = append_coordinates(x, (Cosine("centres"), ChebyshevShen()))
    np.testing.assert_allclose(both[2, :, 0], [0.125, 0.375, 0.625, 0.875])
    np.testing.assert_allclose(both[3, 0], [0, 0.5, 1], atol=1e-7)
    with pytest.raises(ValueError, match="bases=.*each of 2 axes, got 1"):
        append_coordinates(x, (Cosine(),))


def test_padding_is_rounded_and_undone():
    x = jnp.asarray(field(2, 10, 7), jnp.float32)
    width = padding_of((0.25, 0.1), (10, 7))
    assert width == (2, 1)  # 2.5 to even
    padded = pad(x, width)
    assert padded.shape == (2, 14, 9) and not np.asarray(padded[:, :2]).any()
    np.testing.assert_array_equal(crop(padded, width), x)
    assert crop(pad(x, (0, 0)), (0, 0)) is x


def test_names_are_looked_up():
    assert make_skip("identity", 3, key=KEY)(1) == 1
    with pytest.raises(ValueError, match="unknown skip 'liner'; did you mean 'linear'"):
        make_skip("liner", 3, key=KEY)
    with pytest.raises(ValueError, match="unknown norm 'grup'; did you mean 'group'"):
        make_norm("grup", 3)
