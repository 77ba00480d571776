"""Operators of rows against their matrices, and the covariance that faces leave."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from jaxsci.conservation import LinearConstraint, condition
from jaxsci.gaussians import (
    Gaussian,
    PartRows,
    Pushforward,
    SeparateRows,
    SparseRows,
    WeightedSums,
)

INDICES = np.array([[0, 3], [5, 1]])


def _sparse():
    return SparseRows(INDICES, jnp.array([[1.0, -2.0], [0.5, 3.0]]), 8)


ROWS = {
    "sparse": _sparse,
    "separate": lambda: SeparateRows(_sparse()),
    "part": lambda: PartRows(WeightedSums(jnp.arange(1.0, 5.0).reshape(2, 2), (1,)), 1, 2),
}


@pytest.mark.parametrize("kind", ROWS)
def test_products(kind):
    rows = ROWS[kind]()
    matrix = np.asarray(rows.as_matrix())
    u, w = jnp.arange(8.0), jnp.array([2.0, -1.0])
    assert matrix.shape == (rows.out_size(), rows.in_size()) == (2, 8)
    np.testing.assert_allclose(rows.mv(u), matrix @ u)
    np.testing.assert_allclose(rows.T.mv(w), matrix.T @ w)
    np.testing.assert_allclose(rows.T.as_matrix(), matrix.T)
    np.testing.assert_allclose(rows.squared_mv(u), matrix**2 @ u)
    np.testing.assert_allclose(rows.abs_mv(-u), np.abs(matrix) @ u)
    assert rows.T.T is rows


@pytest.mark.parametrize("kind", ["separate", "part"])
def test_conditioning_as_on_a_matrix(kind):
    rows, b = ROWS[kind](), jnp.array([1.0, -1.0])
    prior = Gaussian.diagonal(jnp.arange(8.0), jnp.arange(1.0, 9.0))
    found = condition(prior, LinearConstraint(rows, b))
    wanted = condition(prior, LinearConstraint(rows.as_matrix(), b))
    np.testing.assert_allclose(found.mean, wanted.mean, atol=1e-5)
    np.testing.assert_allclose(found.marginal_var, wanted.marginal_var, atol=1e-5)
    twice = rows.reweighted(2 * rows.flat_weights)
    np.testing.assert_allclose(twice.as_matrix(), 2 * rows.as_matrix())


def test_sparse_rows_of_different_shapes():
    with pytest.raises(ValueError, match=r"two arrays \(k, p\), got \(2, 2\) and \(3, 2\)"):
        SparseRows(INDICES, jnp.ones((3, 2)), 8)


def _cov(kind):
    rng = np.random.default_rng(0)
    diag, factor = rng.uniform(1, 2, 6), rng.normal(size=(6, 2))
    if kind == "diagonal":
        return Gaussian.diagonal(np.zeros(6), diag)
    if kind == "low rank":
        return Gaussian.low_rank(np.zeros(6), diag, factor)
    if kind == "dense":
        return Gaussian.dense(np.zeros(6), np.diag(diag) + factor @ factor.T)
    free = LinearConstraint(jnp.array([0.0, 1.0, 1.0, 1.0, 0.0, 0.0]), 0.0)
    return condition(Gaussian.diagonal(np.zeros(6), diag), free)


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("kind", ["diagonal", "low rank", "dense", "conditioned"])
def test_pushforward(kind):
    """A point at 0, a point made of two others: moments by E P E', the density by its marginal."""
    with jax.enable_x64(True):
        prior = _cov(kind)
        rows = SparseRows(np.array([[2, 3]]), jnp.array([[1.5, -0.5]]), 6)
        free = jnp.array([0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
        cov = Pushforward(prior.cov, free, jnp.array([5]), rows)
        E = np.diag(free)
        E[5, [2, 3]] = 1.5, -0.5
        P = np.asarray(prior.cov.as_matrix())
        np.testing.assert_allclose(cov.as_matrix(), E @ P @ E.T, atol=1e-14)
        np.testing.assert_allclose(lx.diagonal(cov), np.diagonal(E @ P @ E.T), atol=1e-14)
        np.testing.assert_allclose(jax.vmap(cov.mv)(jnp.eye(6)), E @ P @ E.T, atol=1e-14)
        gaussian = Gaussian(jnp.zeros(6), cov)
        draw = eqx.filter_jit(gaussian.sample)(jax.random.key(1))
        np.testing.assert_allclose(E @ draw, draw, atol=1e-15)
        inside = prior.marginal(np.arange(1, 5)).log_prob(draw[1:5])
        np.testing.assert_allclose(gaussian.log_prob(draw), inside, rtol=1e-10)
        assert gaussian.log_prob(draw.at[5].add(1e-3)) == -jnp.inf
        assert gaussian.log_prob(draw.at[0].add(1e-3)) == -jnp.inf


def test_scaled_pushforward():
    rows = SparseRows(np.array([[2, 3]]), jnp.array([[1.5, -0.5]]), 6)
    free = jnp.array([0.0, 1.0, 1.0, 1.0, 1.0, 0.0])
    cov = Pushforward(lx.DiagonalLinearOperator(jnp.arange(1.0, 7.0)), free, jnp.array([5]), rows)
    scaled = Gaussian(jnp.zeros(6), cov).scale_cov(3.0).cov
    assert isinstance(scaled, Pushforward)
    np.testing.assert_allclose(scaled.as_matrix(), 3 * cov.as_matrix(), rtol=1e-6)
