"""Rows whose value the covariance knows already: nothing can move them, and nothing should."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.conservation import RESULTS, LinearConstraint, condition, condition_with_certificate
from jaxsci.gaussians import Gaussian

N = 60
WEIGHTS = np.full(N, 1 / N)
HALF = np.where(np.arange(N) < N // 2, WEIGHTS, 0.0)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def conserving(made, dtype):
    """A Gaussian whose own covariance fixes the mean over all points at 0.5."""
    rng = np.random.default_rng(0)
    if made == "ensemble":
        samples = rng.normal(size=(8, N))
        samples -= (samples @ WEIGHTS - 0.5)[:, None]
        return Gaussian.from_samples(samples.astype(dtype))
    x = np.linspace(0, 1, N)
    cov = np.exp(-(((x[:, None] - x[None, :]) / 0.2) ** 2) / 2) + 1e-3 * np.eye(N)
    moved = cov @ WEIGHTS
    cov = cov - np.outer(moved, moved) / (WEIGHTS @ moved)
    mean = np.sin(9 * x)
    mean += 0.5 - mean @ WEIGHTS
    return Gaussian.dense(mean.astype(dtype), ((cov + cov.T) / 2).astype(dtype))


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("made", ["ensemble", "dense"])
def test_what_is_known_moves_nothing_and_another_value_is_refused(made, dtype):
    prior = conserving(made, dtype)
    rows = np.stack([WEIGHTS, HALF]).astype(dtype)
    share = dtype.type(HALF @ np.asarray(prior.mean, float) + 0.1)
    for G, b in ((rows[:1], [0.5]), (rows, [0.5, share])):
        posterior, certificate = condition_with_certificate(
            prior, LinearConstraint(G, np.asarray(b, dtype))
        )
        assert RESULTS[certificate.result] == ""
        eps = np.finfo(dtype).eps
        left = G.astype(float) @ np.asarray(posterior.mean, float) - np.asarray(b, float)
        size = np.abs(G) @ np.abs(np.asarray(posterior.mean))
        # The total was known to the rounding of the members' or of the matrix's own entries.
        assert np.all(np.abs(left) <= 16 * eps * size)
        if len(b) == 1:
            assert float(certificate.moved) == 0.0
        b = np.asarray([0.6, *b[1:]], dtype)
        with pytest.raises(ValueError, match="has no variance .* and does not hold already"):
            condition(prior, LinearConstraint(G, b))


def test_repeated_exact_rows_in_a_vector_of_noises(dtype):
    rows = np.array([[1, 1, 1], [1, 1, 1], [1, 0, 0]], dtype)
    prior = Gaussian.diagonal(np.zeros(3, dtype), np.ones(3, dtype))
    got = condition(
        prior, LinearConstraint(rows, np.array([1, 1, 0.5], dtype), np.array([0, 0, 0.1], dtype))
    )
    once = condition(
        prior, LinearConstraint(rows[1:], np.array([1, 0.5], dtype), np.array([0, 0.1], dtype))
    )
    np.testing.assert_allclose(got.mean, once.mean, rtol=30 * np.finfo(dtype).eps)
    np.testing.assert_allclose(got.marginal_var, once.marginal_var, rtol=30 * np.finfo(dtype).eps)
    with pytest.raises(ValueError, match="contradict each other"):
        condition(
            prior,
            LinearConstraint(rows, np.array([1, 2, 0.5], dtype), np.array([0, 0, 0.1], dtype)),
        )
    # A noise below the rounding of the rows' variance is as good as none.
    tiny = condition(
        prior, LinearConstraint(rows, np.array([1, 1, 0.5], dtype), 1e-2 * np.finfo(dtype).eps)
    )
    assert np.all(np.isfinite(tiny.mean))
    np.testing.assert_allclose(rows @ np.asarray(tiny.mean), [1, 1, 0.5], rtol=1e-5)


def test_a_batch_is_refused_where_it_would_be_wrong():
    mean = jnp.arange(6.0).reshape(2, 3)
    batch = jax.vmap(Gaussian.low_rank)(mean, jnp.ones((2, 3)), jnp.ones((2, 3, 1)))
    for ask in (
        lambda: batch.marginal_var,
        lambda: batch.log_prob(mean),
        lambda: batch.sample(jax.random.key(0)),
        lambda: batch.marginal(np.array([0])),
        lambda: condition(batch, LinearConstraint(jnp.ones(3), 1.0)),
    ):
        with pytest.raises(ValueError, match="got a batch, \\(2, 3\\)"):
            ask()


def test_nan_is_not_an_impossible_field():
    prior = Gaussian.diagonal(jnp.zeros(3), jnp.ones(3))
    assert np.isnan(prior.log_prob(jnp.array([jnp.nan, 0.0, 0.0])))
