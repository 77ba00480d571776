"""More modes leave the function as it is; fewer drop wavenumbers."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsci.operators.spectral import Fourier, Sine, SpectralConv, with_modes

KEY = jax.random.key(0, impl="rbg")


def make(*args, **settings):
    layer = eqx.filter_eval_shape(lambda: SpectralConv(*args, **settings, key=KEY))
    rng = np.random.default_rng(7)
    return jax.tree.map(lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype), layer)


@pytest.mark.parametrize("factorization", [None, "tucker", "cp", "tt"])
def test_more_modes_leave_the_function_as_it_is(factorization):
    layer = make(2, 3, (4, 3), bases=(Fourier(), Sine()), factorization=factorization)
    more = with_modes(layer, (7, 6))
    x = jnp.asarray(np.random.default_rng(0).normal(size=(2, 10, 9)), jnp.float32)
    assert more.modes == (7, 6) and more.weight.dense.shape == (2, 3, 4, 6)
    before, after = eqx.filter_jit(lambda *layers: [layer(x) for layer in layers])(layer, more)
    np.testing.assert_allclose(after, before, atol=1e-5)
    back = with_modes(more, (4, 3))
    assert all(
        np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(back), jax.tree.leaves(layer), strict=True)
    )


def test_signed_wavenumbers_find_their_places():
    layer = make(1, 1, (4, 4))
    dense, more = np.asarray(layer.weight.dense)[0, 0], with_modes(layer, 7)
    k, old = more.wavenumbers[0], layer.wavenumbers[0]
    for i, wavenumber in enumerate(old):
        at = list(k).index(wavenumber)
        np.testing.assert_array_equal(more.weight.dense[0, 0, at, :3], dense[i])
    assert np.count_nonzero(more.weight.dense) == dense.size


def test_training_goes_on_with_more_modes():
    layers = [make(1, 1, 4)] * 2
    optimiser = optax.sgd(1e-2, momentum=0.9)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 16)), jnp.float32)

    @jax.jit
    def step(layers, state):
        gradient = jax.grad(lambda ls: jnp.mean(ls[1](jnp.tanh(ls[0](x))) ** 2))(layers)
        updates, state = optimiser.update(gradient, state)
        return optax.apply_updates(layers, updates), state

    layers, state = step(layers, optimiser.init(layers))
    old = state[0].trace[1].weight.array
    layers, state = with_modes((layers, state), 8)
    np.testing.assert_array_equal(state[0].trace[1].weight.array[:3], old)
    layers, state = step(layers, state)
    assert layers[1].weight.dense.shape == (1, 1, 5)
    assert np.abs(layers[1].weight.array[-1]).min() > 0  # the new ones are trained


def test_bad_numbers_are_named():
    layer = make(1, 1, (4, 4))
    for modes in ((4,), 0, (3, 0)):
        with pytest.raises(ValueError, match="with_modes.*at least 1 for each of 2 axes"):
            with_modes(layer, modes)
