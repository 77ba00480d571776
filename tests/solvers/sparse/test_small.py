"""Products and inverse Cholesky factors of small blocks, against numpy in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.solvers.sparse import inverse_cholesky, small_matmul, small_matvec


@pytest.mark.parametrize(("given", "dtype"), [("f2", "f4"), ("f4", "f4"), ("f4", "f8")])
@pytest.mark.parametrize("k", [0, 1, 3, 6, 16, 17])
def test_products(k, given, dtype, x64):
    rng = np.random.default_rng(k)
    a, b = rng.normal(size=(5, 2, k)).astype(given), rng.normal(size=(1, k, 4)).astype(given)
    x = rng.normal(size=(5, k)).astype(dtype)
    found = jax.jit(small_matmul, static_argnums=2)(jnp.asarray(a), jnp.asarray(b), dtype)
    wide = a.astype("f8")
    eps = np.finfo(dtype).eps
    assert found.dtype == dtype
    np.testing.assert_allclose(found, wide @ b.astype("f8"), atol=20 * eps)
    found = small_matvec(jnp.asarray(a), jnp.asarray(x), dtype)
    assert found.dtype == dtype
    exact = (wide @ x.astype("f8")[..., None])[..., 0]
    np.testing.assert_allclose(found, exact, atol=20 * eps)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("d", [1, 3, 6, 9, 16, 17, 66])
def test_factors(d, dtype, x64):
    roots = np.random.default_rng(d).normal(size=(5, d, 2 * d))
    blocks = roots @ roots.swapaxes(1, 2)
    # What is above the diagonal is not read.
    given = jnp.asarray(np.tril(blocks) + np.triu(np.full_like(blocks, 7.0), 1), dtype)
    found = jax.jit(inverse_cholesky)(given)
    assert found.dtype == dtype
    best = np.linalg.inv(np.linalg.cholesky(blocks))
    assert np.abs(np.asarray(found) - best).max() < 200 * np.finfo(dtype).eps * np.abs(best).max()
    assert (np.triu(np.asarray(found), 1) == 0).all()


def test_blocks_without_a_factor_are_not_finite_and_leave_the_others_alone():
    blocks = jnp.asarray([np.diag([4.0, -1.0]), np.diag([4.0, 1.0]), np.zeros((2, 2))], jnp.float32)
    finite = np.isfinite(np.asarray(inverse_cholesky(blocks))).all((1, 2))
    assert finite.tolist() == [False, True, False]


@pytest.mark.parametrize("d", [5, 40])
def test_factors_of_hermitian_blocks(d, x64):
    rng = np.random.default_rng(d)
    roots = rng.normal(size=(3, d, 2 * d)) + 1j * rng.normal(size=(3, d, 2 * d))
    blocks = roots @ roots.conj().swapaxes(1, 2)
    found = np.asarray(inverse_cholesky(jnp.asarray(np.tril(blocks))))
    best = np.linalg.inv(np.linalg.cholesky(blocks))
    assert np.abs(found - best).max() < 1e-13 * np.abs(best).max()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.complex64])
def test_large_blocks_without_a_factor_are_not_finite(dtype):
    blocks = jnp.stack([jnp.eye(40).at[30, 30].set(value) for value in (-1.0, 2.0, 0.0)])
    finite = np.isfinite(np.asarray(inverse_cholesky(blocks.astype(dtype)))).all((1, 2))
    assert finite.tolist() == [False, True, False]


@pytest.mark.parametrize("d", [6, 40])
def test_no_call_to_a_library(d):
    # Two of them in one program can wait for each other for ever.
    text = jax.jit(inverse_cholesky).lower(jnp.eye(d)[None]).as_text()
    assert "custom_call" not in text
