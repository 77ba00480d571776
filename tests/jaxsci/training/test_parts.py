"""Gradients in parts are those of the whole batch."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.training import value_and_grad_in_parts


@pytest.mark.parametrize("parts", [1, 2, 6])
def test_parts_add_up_to_the_whole(x64, parts):
    x, y = jnp.asarray(np.random.default_rng(0).normal(size=(2, 6, 3)))

    def loss(params, x, y):
        return jnp.mean((jnp.tanh(x * params["w"][None]) + params["b"] - y) ** 2)

    params = {"w": jnp.arange(3.0), "b": jnp.asarray(0.5)}
    got = jax.jit(value_and_grad_in_parts(loss, parts))(params, x, y)
    expected = jax.jit(jax.value_and_grad(loss))(params, x, y)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-13)


def test_parts_that_do_not_divide_the_batch_are_named():
    with pytest.raises(ValueError, match="parts=4.*multiple of it, got 6"):
        value_and_grad_in_parts(lambda w, x: w * x.mean(), 4)(jnp.ones(()), jnp.ones(6))
    with pytest.raises(ValueError, match="at least 1, got 0"):
        value_and_grad_in_parts(jnp.sum, 0)
