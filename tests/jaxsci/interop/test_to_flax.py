"""Equinox models inside Flax: the same numbers, trained by Flax's own optimiser."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsci.interop import to_flax_nnx
from jaxsci.operators.fno import FNO

nnx = pytest.importorskip("flax.nnx")


def test_an_fno_trains_as_an_nnx_module():
    model = eqx.filter_jit(lambda: FNO(1, 1, 4, 4, layers=1, key=jax.random.key(0, impl="rbg")))()
    wrapped = to_flax_nnx(model)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 1, 8)), jnp.float32)
    batched = eqx.filter_jit(lambda m, x: jax.vmap(m)(x))
    before = batched(model, x)
    np.testing.assert_allclose(nnx.jit(lambda m, x: jax.vmap(m)(x))(wrapped, x), before, atol=1e-6)
    state = nnx.state(wrapped, nnx.Param)
    shapes = sorted(str(leaf.shape) for leaf in jax.tree.leaves(state))
    arrays = jax.tree.leaves(eqx.filter(model, eqx.is_array))
    assert shapes == sorted(str(leaf.shape) for leaf in arrays)
    optimiser = nnx.Optimizer(wrapped, optax.sgd(0.1), wrt=nnx.Param)

    @nnx.jit
    def step(wrapped, optimiser):
        loss, gradient = nnx.value_and_grad(lambda m: jnp.mean(jax.vmap(m)(x) ** 2))(wrapped)
        optimiser.update(wrapped, gradient)
        return loss

    losses = [float(step(wrapped, optimiser)) for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    trained = batched(wrapped.module, x)
    assert not np.allclose(trained, before)
    np.testing.assert_array_equal(batched(model, x), before)  # the original is as it was


def test_what_is_no_model_is_refused():
    with pytest.raises(TypeError, match="to_flax_nnx.*callable Equinox module, got function"):
        to_flax_nnx(lambda x: x)
