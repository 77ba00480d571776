"""The factors of a Kronecker covariance, from samples whose covariance is known exactly."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsci.gaussians import Gaussian, separable_factors

SIZES = (3, 4, 2)


def exact(dtype=np.float64):
    """Factors, and samples whose second moment is their product and nothing else."""
    rng = np.random.default_rng(0)
    roots = [rng.standard_normal((n, n)) for n in SIZES]
    factors = [root @ root.T for root in roots]
    root = functools.reduce(np.kron, roots)
    samples = np.sqrt(len(root)) * root.T.reshape(-1, *SIZES)
    return functools.reduce(np.kron, factors), samples.astype(dtype)


@pytest.mark.parametrize(("dtype", "rtol"), [(np.float32, 1e-5), (np.float64, 1e-12)])
def test_a_product_is_found(x64, dtype, rtol):
    wanted, samples = exact(dtype)
    factors = jax.jit(separable_factors)(samples)
    assert [f.dtype for f in factors] == [dtype] * 3
    found = functools.reduce(np.kron, factors)
    np.testing.assert_allclose(found, wanted, rtol=0, atol=rtol * abs(wanted).max())
    for factor in factors[1:]:
        assert np.trace(factor) == pytest.approx(len(factor), rel=rtol)


def test_no_product(x64):
    """Its mean square and its correlations along each axis; positive; and in a batch."""
    errors = jnp.asarray(np.random.default_rng(1).standard_normal((2, 5, 6, 3)))
    errors = errors * jnp.linspace(0.5, 2, 6).reshape(1, 1, 6, 1) + 0.3
    batch = jax.vmap(separable_factors)(errors)
    for k in range(2):
        first, second = separable_factors(errors[k])
        np.testing.assert_allclose(batch[0][k], first)
        np.testing.assert_allclose(batch[1][k], second)
        gaussian = Gaussian.kronecker(jnp.zeros(18), first, second)
        assert float(gaussian.marginal_var.mean()) == pytest.approx(float((errors[k] ** 2).mean()))
        mean_square = (errors[k] ** 2).mean((0, 2))
        np.testing.assert_allclose(gaussian.marginal_var.reshape(6, 3).mean(1), mean_square)
        assert np.linalg.eigvalsh(first).min() > 0 and np.array_equal(first, first.T)


def test_differentiable(x64):
    samples = jnp.asarray(exact()[1][:4])
    check_grads(separable_factors, (samples,), order=1, modes=("rev",))


def test_bad_input():
    with pytest.raises(ValueError, match=r"expected \(samples, n_1, ...\).*got shape \(3,\)"):
        separable_factors(jnp.ones(3))
    with pytest.raises(ValueError, match=r"got shape \(0, 3\)"):
        separable_factors(jnp.ones((0, 3)))
    with pytest.raises(ValueError, match=r"got nan at index \(1, 0\)"):
        separable_factors(jnp.array([[1.0, 2.0], [np.nan, 3.0]]))
    with pytest.raises(ValueError, match="all are 0"):
        separable_factors(jnp.zeros((2, 3)))
    with pytest.raises(TypeError, match="got int32"):
        separable_factors(jnp.ones((2, 3), int))
