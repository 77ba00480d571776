"""The update against the dense formula in float64, for every covariance and constraint."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxsci.conservation import (
    RESULTS,
    LinearConstraint,
    condition,
    condition_with_certificate,
    project,
    stack,
)
from jaxsci.gaussians import Gaussian, WeightedSums

T, X = 3, 4
N = T * X


def _random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def _spd(seed, n):
    a = _random(seed, n, n)
    return a @ a.T / n + np.eye(n)


def _made(make, *arrays):
    """A Gaussian in the dtype that is asked for, of arrays drawn in float64."""
    return lambda dtype: make(*(a.astype(dtype) for a in arrays))


def _noisily(prior):
    def make(dtype):
        rows = LinearConstraint(_random(6, 2, N).astype(dtype), np.ones(2, dtype), 0.3)
        return condition(prior(dtype), rows)

    return make


MEAN, VARIANCE = _random(0, N), 0.3 + _random(1, N) ** 2
_diagonal = _made(Gaussian.diagonal, MEAN, VARIANCE)
COVARIANCES = {
    "diagonal": _diagonal,
    "low rank": _made(Gaussian.low_rank, MEAN, VARIANCE, _random(2, N, 3)),
    "dense": _made(Gaussian.dense, MEAN, _spd(3, N)),
    "kronecker": _made(Gaussian.kronecker, MEAN, _spd(4, T), _spd(5, X)),
    "conditioned": _noisily(_diagonal),
    "conditioned low rank": _noisily(_made(Gaussian.low_rank, MEAN, VARIANCE, _random(2, N, 3))),
}

WEIGHTS = 0.25 + _random(7, T, X) ** 2
SLICES = (lambda a: WeightedSums(a.reshape(T, X), (1,)), WEIGHTS)
ROW = (lambda a: a, _random(8, N))
DENSE = (lambda a: a, _random(9, 2, N))
CONSTRAINTS = {
    "row": (ROW, np.array([1.5]), None),
    "noisy row": (ROW, np.array([1.5]), np.array([0.2])),
    "slices": (SLICES, _random(10, T), None),
    "slices, one noise": (SLICES, _random(10, T), np.array(0.1)),
    "slices, noises": (SLICES, _random(10, T), np.array([0.1, 1e-3, 2.0])),
    "slices, covariance": (SLICES, _random(10, T), _spd(11, T)),
    "slices, exact and noisy": (SLICES, _random(10, T), np.array([0.0, 0.1, 1.0])),
    "dense": (DENSE, _random(12, 2), None),
    "dense, noises": (DENSE, _random(12, 2), np.array([0.0, 0.5])),
    "dense, covariance": (DENSE, _random(12, 2), _spd(13, 2)),
    "dense, singular covariance": (DENSE, _random(12, 2), np.ones((2, 2))),
}


def _constraint(name, dtype):
    (wrap, array), b, R = CONSTRAINTS[name]
    return LinearConstraint(
        wrap(jnp.asarray(array, dtype)), b.astype(dtype), None if R is None else R.astype(dtype)
    )


def _dense_update(gaussian, constraint):
    mean, cov = np.asarray(gaussian.mean, float), np.asarray(gaussian.cov.as_matrix(), float)
    G, b = np.asarray(constraint.G.as_matrix(), float), np.asarray(constraint.b, float)
    R = np.zeros(len(b)) if constraint.R is None else np.asarray(constraint.R, float)
    R = R if R.ndim == 2 else np.diag(R)
    gain = cov @ G.T @ np.linalg.inv(R + G @ cov @ G.T)
    return mean - gain @ (G @ mean - b), cov - gain @ G @ cov


@jax.jit
def _update(gaussian, constraint):
    posterior, certificate = condition_with_certificate(gaussian, constraint)
    matrix, vector = posterior.cov.as_matrix(), jnp.cos(jnp.arange(N, dtype=posterior.mean.dtype))
    return posterior, matrix, posterior.marginal_var, posterior.cov.mv(vector), certificate


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def _tolerance(dtype):
    return 3e-5 if dtype == np.float32 else 1e-12


# Every constraint on the cheapest covariance, and every covariance, in float64; each kind of
# either in float32, which takes the same paths.
PAIRS = [("diagonal", c, "float64") for c in CONSTRAINTS]
PAIRS += [(g, "slices", "float64") for g in COVARIANCES if g != "diagonal"]
PAIRS += [(g, "dense, covariance", "float32") for g in COVARIANCES]
PAIRS += [("diagonal", c, "float32") for c in ("row", "slices", "slices, exact and noisy")]


@pytest.mark.slow_but(12)
@pytest.mark.parametrize("cov, name, dtype", PAIRS, indirect=["dtype"])
def test_update_is_that_of_the_dense_formula(cov, name, dtype):
    prior, constraint = COVARIANCES[cov](dtype), _constraint(name, dtype)
    posterior, matrix, variance, product, certificate = _update(prior, constraint)
    mean, expected = _dense_update(prior, constraint)
    close = {"rtol": _tolerance(dtype), "atol": _tolerance(dtype)}
    assert posterior.mean.dtype == matrix.dtype == variance.dtype == dtype
    np.testing.assert_allclose(posterior.mean, mean, **close)
    np.testing.assert_allclose(matrix, expected, **close)
    np.testing.assert_allclose(variance, np.diagonal(expected), **close)
    np.testing.assert_allclose(
        product, expected @ np.cos(np.arange(N)), rtol=0, atol=9 * close["atol"]
    )
    before = np.asarray(constraint.G.as_matrix(), float) @ prior.mean - constraint.b
    np.testing.assert_allclose(certificate.residual_before, before, **close)
    moved = np.abs(mean - prior.mean) / np.asarray(prior.marginal_std)
    np.testing.assert_allclose(certificate.moved, moved.max(), rtol=1e-4)
    assert bool(certificate.result == RESULTS.successful)
    if constraint.R is None:
        assert np.all(np.abs(certificate.residual_after) <= certificate.rounding)


def test_exact_is_the_limit_of_little_noise(x64):
    prior, (wrap, array), b = _diagonal(np.float64), *CONSTRAINTS["slices"][:2]
    rows = wrap(jnp.asarray(array))
    exact, matrix, *_ = _update(prior, LinearConstraint(rows, b))
    for R in (1e-4, 1e-8, 1e-12):
        near, near_matrix, *_ = _update(prior, LinearConstraint(rows, b, R))
        np.testing.assert_allclose(near.mean, exact.mean, atol=10 * R + 1e-14)
        np.testing.assert_allclose(near_matrix, matrix, atol=10 * R + 1e-14)


@pytest.mark.parametrize("cov", ["diagonal", "dense"])
def test_batches(cov):
    prior = COVARIANCES[cov](np.float32)
    priors = [prior, Gaussian(prior.mean + 1, prior.cov)]
    batch = jax.tree.map(lambda *leaves: jnp.stack(leaves), *priors)
    rows, b = jnp.asarray(_random(8, 2, N), jnp.float32), jnp.array([1.0, -2.0])

    def update(prior, row, b):
        posterior = condition(prior, LinearConstraint(row, b))
        return posterior.mean, posterior.marginal_var

    mean, variance = jax.jit(jax.vmap(update))(batch, rows, b)
    for i in range(2):
        one, matrix = _dense_update(priors[i], LinearConstraint(rows[i], b[i]))
        np.testing.assert_allclose(mean[i], one, atol=3e-5)
        np.testing.assert_allclose(variance[i], np.diagonal(matrix), atol=3e-5)


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("kind", ["slices", "dense"])
@pytest.mark.parametrize(
    "noise", ["exact", "noises", pytest.param("covariance", marks=pytest.mark.slow)]
)
def test_gradients(kind, noise, x64):
    (wrap, array), b, _ = CONSTRAINTS[kind]
    k = len(b)
    R = {"exact": (), "noises": (0.5 + np.arange(k),), "covariance": (_spd(11, k),)}[noise]

    def score(mean, variance, weights, b, *R):
        prior = Gaussian.diagonal(mean, variance)
        R = tuple((r + r.T) / 2 if r.ndim == 2 else r for r in R)
        posterior = condition(prior, LinearConstraint(wrap(weights), b, *R))
        sample = posterior.sample(jax.random.key(0))
        return jnp.sum(posterior.mean**3) + jnp.sum(posterior.marginal_var**2) + jnp.sum(sample**2)

    arguments = tuple(map(jnp.asarray, (MEAN, VARIANCE, array, b, *R)))
    jax.test_util.check_grads(jax.jit(score), arguments, order=1, rtol=1e-5, atol=1e-5)


def test_gradients_are_finite_where_a_point_has_no_variance():
    def score(variance):
        posterior = condition(
            Gaussian.diagonal(jnp.ones(3), variance), LinearConstraint(jnp.ones(3), 2.0)
        )
        sample = posterior.sample(jax.random.key(0))
        return jnp.sum(posterior.mean**2 + posterior.marginal_std + sample)

    assert np.isfinite(jax.jit(jax.grad(score))(jnp.array([0.0, 1.0, 2.0]))).all()


@pytest.mark.parametrize("cov", ["diagonal", "kronecker"])
def test_project_moves_every_point_alike(cov, dtype):
    prior, constraint = COVARIANCES[cov](dtype), _constraint("dense, noises", dtype)
    got = jax.jit(project)(prior, constraint)
    G = np.asarray(constraint.G.as_matrix(), float)
    mean = np.asarray(prior.mean, float)
    expected = mean - np.linalg.pinv(G) @ (G @ mean - np.asarray(constraint.b, float))
    np.testing.assert_allclose(got.mean, expected, atol=_tolerance(dtype))
    np.testing.assert_array_equal(got.cov.as_matrix(), prior.cov.as_matrix())


def test_stack_of_exact_and_noisy(dtype):
    prior = _diagonal(dtype)
    names = ("slices", "noisy row", "dense, covariance")
    constraints = [_constraint(name, dtype) for name in names]
    posterior, matrix, *_ = _update(prior, stack(*constraints))
    mean, expected = _dense_update(prior, stack(*constraints))
    np.testing.assert_allclose(posterior.mean, mean, atol=5 * _tolerance(dtype))
    np.testing.assert_allclose(matrix, expected, atol=5 * _tolerance(dtype))
    assert stack(*constraints).R.shape == (6, 6)
    assert stack(constraints[0], constraints[0]).R is None


def test_export_with_any_batch_size():
    row = jnp.asarray(_random(8, N), jnp.float32)

    @jax.jit
    @jax.vmap
    def update(mean, variance, b):
        posterior = condition(Gaussian.diagonal(mean, variance), LinearConstraint(row, b))
        return posterior.mean, posterior.marginal_var

    (batch,) = jax.export.symbolic_shape("batch")
    shapes = [jax.ShapeDtypeStruct(s, jnp.float32) for s in ((batch, N), (batch, N), (batch,))]
    exported = jax.export.export(update)(*shapes)
    for size in (1, 5):
        arguments = _random(1, size, N), 1 + _random(2, size, N) ** 2, _random(3, size)
        arguments = [jnp.asarray(a, jnp.float32) for a in arguments]
        for got, expected in zip(exported.call(*arguments), update(*arguments), strict=True):
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
