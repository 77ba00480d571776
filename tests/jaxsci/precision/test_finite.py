"""Whether all numbers are finite: also of arrays so large that a maximum passes NaN over."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.precision import all_finite, largest


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16, jnp.complex64])
@pytest.mark.parametrize("shape", [(3, 4), (9, 24, 24, 24)])
def test_one_bad_number_is_found(shape, dtype, bad):
    x = jnp.full(shape, jnp.finfo(dtype).max, dtype)
    spoilt = x.at[(1, *(-1,) * (len(shape) - 1))].set(bad)
    everything, parts = (jax.jit(all_finite, static_argnums=1) for _ in range(2))
    assert bool(everything(x, None)) and not bool(everything(spoilt, None))
    axes = tuple(range(1, len(shape)))
    np.testing.assert_array_equal(parts(spoilt, axes), np.arange(shape[0]) != 1)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(3, 4), (9, 24, 24, 24), (8, 512)])
def test_the_largest_is_nan_where_one_is(shape, dtype):
    x = jnp.zeros(shape, dtype).at[0, 1].set(-3)
    everything, parts = (jax.jit(largest, static_argnums=1) for _ in range(2))
    assert float(everything(x, None)) == 3
    assert np.isinf(everything(x.at[-1, -1].set(-jnp.inf), None))
    spoilt = x.at[-1, -1].set(jnp.nan)
    assert np.isnan(everything(spoilt, None))
    got = np.asarray(parts(spoilt, tuple(range(1, len(shape)))), np.float32)
    assert got[0] == 3 and np.isnan(got[-1]) and (got[1:-1] == 0).all()
    assert float(jax.vmap(everything, (0, None))(spoilt, None)[0]) == 3


def test_nothing_is_finite():
    assert bool(all_finite(jnp.zeros((0, 3))))
    assert float(largest(jnp.zeros((0, 3)))) == 0
    assert all_finite(jnp.zeros((2, 0)), 1).tolist() == [True, True]
