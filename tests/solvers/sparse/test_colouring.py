"""Sparse operators by entries, and Jacobians by colouring: the heat equation and Poisson's."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jax.experimental.sparse import BCOO

from jaxsci.precision import Policy
from jaxsci.solvers.linear import CGNR, SparseCholesky
from jaxsci.solvers.sparse import (
    SparseEntries,
    colour_columns,
    detect_sparsity,
    from_bcoo,
    from_scipy,
    sparse_jacobian,
    symmetric_from_scipy,
)


def _laplacian(side):
    line = sp.diags([-1.0, 2.0, -1.0], [-1, 0, 1], shape=(side, side))
    eye = sp.eye(side)
    return sp.csr_matrix(sp.kron(line, eye) + sp.kron(eye, line))


def test_entries_of_scipy_and_bcoo():
    rng = np.random.default_rng(0)
    A = sp.random(13, 7, density=0.4, random_state=rng, dtype=np.float32)
    x, u = rng.normal(size=7).astype(np.float32), rng.normal(size=13).astype(np.float32)

    @jax.jit
    def products(A, x, u):
        low = A.under(Policy(matrix="f16"))
        return A.mv(x), A.T.mv(u), A.as_matrix(), low.mv(1e9 * x), lx.diagonal(A)

    dense = A.toarray()
    for operator in (from_scipy(A), from_bcoo(BCOO.fromdense(dense))):
        forward, back, matrix, low, diagonal = products(operator, x, u)
        np.testing.assert_allclose(forward, dense @ x, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(back, dense.T @ u, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(low, 1e9 * (dense @ x), rtol=1e-2, atol=1e6)
        np.testing.assert_array_equal(matrix, dense)
        np.testing.assert_array_equal(diagonal, np.diag(dense))
        assert not lx.is_symmetric(operator)


def test_colours_of_a_stencil():
    A = _laplacian(12)
    colouring = colour_columns(A)
    assert colouring.number <= 9
    colours, rows, cols = (
        np.asarray(a) for a in (colouring.colours, colouring.rows, colouring.cols)
    )
    places = set(zip(rows.tolist(), colours[cols].tolist(), strict=True))
    assert len(places) == len(rows) == A.nnz


SIDE = 12


def _implicit_heat(u, before, step=0.02):
    """The residual of one implicit Euler step of `u_t = (1 + u^2) Laplace(u)`, zero outside."""
    grid = jnp.pad(u, 1)
    near = grid[2:, 1:-1] + grid[:-2, 1:-1] + grid[1:-1, 2:] + grid[1:-1, :-2]
    return u - before - step * (1 + u**2) * (near - 4 * u) * SIDE**2


def test_an_implicit_heat_step():
    """Newton's method with a sparse Jacobian, found by itself, against scipy's root finder."""
    x = np.linspace(0, 1, SIDE)
    before = jnp.asarray(np.sin(np.pi * x)[:, None] * np.sin(2 * np.pi * x)[None], jnp.float32)
    pattern = detect_sparsity(lambda u: _implicit_heat(u, before), before)
    want = (_laplacian(SIDE) != 0).toarray()
    np.testing.assert_array_equal(pattern.toarray(), want)
    colouring = colour_columns(pattern)
    solver = CGNR(rtol=1e-5, atol=0.0, max_steps=400)

    @jax.jit
    def newton(u):
        residual = _implicit_heat(u, before)
        J = sparse_jacobian(lambda u: _implicit_heat(u, before), u, colouring)
        step = lx.linear_solve(J, residual.reshape(-1), solver, throw=False)
        return u - step.value.reshape(u.shape), J.as_matrix(), jnp.max(jnp.abs(residual))

    u, J, _ = newton(before)
    exact = jax.jacfwd(lambda u: _implicit_heat(u, before))(before).reshape(SIDE**2, SIDE**2)
    np.testing.assert_allclose(J, exact, rtol=1e-5, atol=1e-5)
    for _ in range(5):
        u, _, left = newton(u)
    assert left <= 2e-5
    peak = np.abs(u).max()
    assert 0.1 < peak < float(np.abs(before).max())


@pytest.mark.slow
def test_poisson_in_two_dimensions():
    A = _laplacian(SIDE)
    right = np.random.default_rng(1).normal(size=SIDE**2).astype(np.float32)
    want = spl.spsolve(sp.csc_matrix(A), right.astype(float))

    def residual(u):
        grid = jnp.pad(u, 1)
        near = grid[2:, 1:-1] + grid[:-2, 1:-1] + grid[1:-1, 2:] + grid[1:-1, :-2]
        return 4 * u - near

    J = sparse_jacobian(residual, jnp.zeros((SIDE, SIDE)), A)
    positive = lx.TaggedLinearOperator(J, lx.positive_semidefinite_tag)
    direct = SparseCholesky().factor(symmetric_from_scipy(A))
    for got in (
        lx.linear_solve(positive, jnp.asarray(right), lx.CG(1e-5, 1e-6, max_steps=200)).value,
        lx.linear_solve(J, jnp.asarray(right), CGNR(rtol=1e-6, atol=0.0)).value,
        jax.jit(lambda b: direct.mv(b))(jnp.asarray(right)),
    ):
        np.testing.assert_allclose(got, want, atol=2e-3)


def test_blocks_of_a_symmetric_matrix():
    rng = np.random.default_rng(2)
    A = sp.random(12, 12, density=0.2, random_state=rng)
    A = sp.csr_matrix(A + A.T + 5 * sp.eye(12))
    for d in (1, 3):
        H = symmetric_from_scipy(A, d)
        np.testing.assert_allclose(jax.jit(lambda H: H.as_matrix())(H), A.toarray(), rtol=1e-6)


def test_bad_input_is_named():
    with pytest.raises(TypeError, match="expected a scipy sparse matrix, got ndarray"):
        from_scipy(np.eye(3))
    with pytest.raises(TypeError, match="expected a scipy sparse matrix, got ndarray"):
        colour_columns(np.eye(3))
    with pytest.raises(TypeError, match="expected a scipy sparse matrix, got ndarray"):
        symmetric_from_scipy(np.eye(3))
    with pytest.raises(ValueError, match="a multiple of 2 rows"):
        symmetric_from_scipy(sp.eye(3), 2)
    with pytest.raises(ValueError, match="three arrays of one shape"):
        SparseEntries(jnp.ones(2), jnp.array([0]), jnp.array([0]), (1, 1))
    with pytest.raises(ValueError, match="1 batch"):
        from_bcoo(BCOO.fromdense(np.ones((2, 3, 3), np.float32), n_batch=1))
    with pytest.raises(ValueError, match=r"expected a pattern of shape \(3, 3\), got \(2, 2\)"):
        sparse_jacobian(lambda x: x, jnp.ones(3), sp.eye(2))
    with pytest.raises(ValueError, match="'detect', got 'guess'"):
        sparse_jacobian(lambda x: x, jnp.ones(3), "guess")
    with pytest.raises(ValueError, match="make a Colouring outside"):
        jax.jit(lambda x: sparse_jacobian(jnp.sin, x).values)(jnp.ones(3))
