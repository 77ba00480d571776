"""Regularised inverses of blocks, against singular values in numpy."""

import math

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxsci.operators.boundary._regularised import _wide_inverse, regularised_solve


def _random(dtype, *shape):
    rng = np.random.default_rng(math.prod(shape))
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else x).astype(dtype)


def _best(A, r, tikhonov):
    eps = tikhonov * max(np.linalg.norm(block) for block in A)
    U, s, V = np.linalg.svd(A, full_matrices=False)
    inner = np.einsum("bpk,bp->bk", U.conj(), r) * s / (s**2 + eps**2)
    return np.einsum("bkq,bk->bq", V.conj(), inner), eps


@pytest.mark.slow_but(5)
@pytest.mark.parametrize("dtype", ["float32", "float64", "complex64"])
@pytest.mark.parametrize(("p", "q"), [(1, 1), (1, 3), (6, 6), (40, 24), (24, 40)])
def test_solutions(p, q, dtype, x64):
    A, r = _random(dtype, 6, p, q), _random(dtype, 6, p)
    A[2] = A[2, :, :1] * A[2, :1, :]  # of rank 1, of size 1e-4, 0, and with one row of weight
    A[3] *= 1e-4
    A[4] = 0
    A[5, 1:] *= 1e-7
    found = np.asarray(jax.jit(lambda A, r: regularised_solve(A, r, None))(A, r))
    assert found.dtype == dtype
    u, wide = np.finfo(dtype).eps, np.result_type(dtype, np.float64)
    best, eps = _best(A.astype(wide), r.astype(wide), np.sqrt(u))
    given, size = (np.linalg.norm(x, axis=-1) for x in (r, best))
    assert (np.linalg.norm(found, axis=-1) <= given / (2 * eps) * (1 + 1e-5)).all()
    # What is regular is as good as its condition lets it be; the rest no worse than rounding of
    # the blocks themselves would make it.
    scale = np.linalg.norm(A, axis=(1, 2)).max()
    smallest = np.linalg.svd(A.astype(wide), compute_uv=False)[:, -1]
    error = np.linalg.norm(found - best, axis=-1)
    assert (error[:2] <= 4 * u * (scale / smallest[:2]) * size[:2]).all()
    assert (error <= 4 * u * scale * (size / eps + given / eps**2)).all()


@pytest.mark.slow_but(1)
@pytest.mark.parametrize(("p", "q", "dtype"), [(3, 3, "float64"), (4, 12, "complex128")])
def test_derivatives(p, q, dtype, x64):
    # Of the inverse itself: the level of the noise in a solution is no function of the blocks.
    A = jnp.asarray(_random(dtype, 4, p, q))
    jax.test_util.check_grads(lambda A: _wide_inverse(0.1, A), (A,), 2, rtol=1e-5, atol=1e-5)


def test_no_call_to_a_library():
    # Two of them in one program can wait for each other for ever.
    def f(A):
        return regularised_solve(A, jnp.ones((1, 20)), None).sum()

    assert "custom_call" not in jax.jit(jax.grad(f)).lower(jnp.ones((1, 20, 20))).as_text()
