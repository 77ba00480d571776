"""Every covariance structure against the dense formulas in float64."""

import functools

import jax
import jax.numpy as jnp
import jax.test_util
import lineax as lx
import numpy as np
import pytest
import scipy.stats

from jaxsci.conservation import LinearConstraint, condition, curvature, integral
from jaxsci.gaussians import Conditioned, Gaussian, Kronecker, LowRank, blocks
from jaxsci.grids import Grid

GRID = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 1.0, 4))
N = GRID.size
# One compilation for each structure, where op by op would take one for each step.
CONDITION = jax.jit(condition)
PARTS = jax.jit(lambda g, v: (g.cov.as_matrix(), g.cov.mv(v), g.marginal_var, g.marginal_std))
LOG_PROB = jax.jit(lambda g, v: g.log_prob(v))


def _random(seed: int, *shape: int, dtype=np.float32) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


def _spd(seed: int, n: int, dtype=np.float32) -> np.ndarray:
    a = _random(seed, n, n, dtype=np.float64)
    return (a @ a.T / n + np.eye(n)).astype(dtype)


@functools.cache
def _diagonal(dtype):
    return Gaussian.diagonal(_random(0, N, dtype=dtype), 0.5 + _random(1, N, dtype=dtype) ** 2)


@functools.cache
def _low_rank(dtype):
    diag = 0.5 + _random(1, N, dtype=dtype) ** 2
    return Gaussian.low_rank(_random(0, N, dtype=dtype), diag, _random(2, N, 3, dtype=dtype))


@functools.cache
def _dense(dtype):
    return Gaussian.dense(_random(0, N, dtype=dtype), _spd(3, N, dtype))


@functools.cache
def _kronecker(dtype):
    factors = _spd(4, 3, dtype), _spd(5, 4, dtype)
    return Gaussian.kronecker(_random(0, N, dtype=dtype), *factors)


def _noisy(prior):
    @functools.cache
    def make(dtype):
        masses = integral(GRID.astype(dtype), np.ones(3), over="x", noise=0.1)
        return CONDITION(prior(dtype), masses)

    return make


def _noisy_dense_rows(prior):
    @functools.cache
    def make(dtype):
        rows = LinearConstraint(_random(6, 2, N, dtype=dtype), np.ones(2), _spd(7, 2, dtype))
        return CONDITION(prior(dtype), rows)

    return make


def _exact(prior):
    @functools.cache
    def make(dtype):
        return CONDITION(prior(dtype), integral(GRID.astype(dtype), np.ones(3), over="x"))

    return make


REGULAR = {
    "diagonal": _diagonal,
    "low rank": _low_rank,
    "dense": _dense,
    "kronecker": _kronecker,
    "conditioned diagonal": _noisy(_diagonal),
    "conditioned diagonal, dense rows": _noisy_dense_rows(_diagonal),
    "conditioned low rank": _noisy_dense_rows(_low_rank),
    "conditioned dense": _noisy(_dense),
    "conditioned kronecker": _noisy(_kronecker),
    "conditioned twice": _noisy_dense_rows(_noisy(_diagonal)),
}
EXACT = {
    "diagonal": _exact(_diagonal),
    "low rank": _exact(_low_rank),
    "dense": _exact(_dense),
    "kronecker": _exact(_kronecker),
    "after noisy": _exact(_noisy_dense_rows(_diagonal)),
}


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def _tolerance(dtype) -> float:
    return 2e-5 if dtype == np.float32 else 1e-12


@pytest.mark.slow_but(10)
@pytest.mark.parametrize("make", REGULAR.values(), ids=REGULAR)
def test_products_and_variances_are_those_of_the_matrix(make, dtype):
    gaussian = make(dtype)
    vector = _random(9, N, dtype=dtype)
    matrix, product, variance, std = map(np.asarray, PARTS(gaussian, vector))
    assert product.dtype == dtype
    np.testing.assert_allclose(product, matrix @ vector, atol=_tolerance(dtype) * 9)
    np.testing.assert_allclose(variance, np.diagonal(matrix), atol=_tolerance(dtype))
    np.testing.assert_allclose(std**2, variance, rtol=1e-5)


@pytest.mark.slow_but(10)
@pytest.mark.parametrize("make", REGULAR.values(), ids=REGULAR)
def test_log_prob_is_scipys(make, dtype):
    gaussian, value = make(dtype), jnp.asarray(_random(8, N, dtype=dtype))
    matrix = np.asarray(gaussian.cov.as_matrix(), np.float64)
    expected = scipy.stats.multivariate_normal(np.asarray(gaussian.mean), matrix).logpdf(value)
    got = LOG_PROB(gaussian, value)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=_tolerance(dtype) * 5)


@pytest.mark.slow_but(5)
@pytest.mark.parametrize("make", REGULAR.values(), ids=REGULAR)
def test_samples_have_the_mean_and_covariance(make):
    gaussian, m = make(np.float32), 40_000
    samples = np.asarray(jax.jit(lambda g: g.sample(jax.random.key(0), (m,)))(gaussian))
    cov = np.asarray(gaussian.cov.as_matrix())
    spread = np.sqrt(np.diagonal(cov))
    # Standard errors over m draws; 5 of them hold for all n^2 entries of a seeded run.
    assert np.all(np.abs(samples.mean(0) - gaussian.mean) < 5 * spread / np.sqrt(m))
    bound = 5 * np.sqrt((np.outer(spread**2, spread**2) + cov**2) / m)
    assert np.all(np.abs(np.cov(samples.T) - cov) < bound)


@pytest.mark.slow_but(15)
@pytest.mark.parametrize("make", [*REGULAR.values(), *EXACT.values()])
def test_marginal_is_the_block(make, dtype):
    gaussian = make(dtype)
    indices = np.array([7, 0, 5])
    value = _random(8, 3, dtype=dtype)

    @jax.jit
    def parts(gaussian, value):
        marginal = gaussian.marginal(indices)
        some = marginal.mean, marginal.cov.as_matrix(), marginal.marginal_var
        return gaussian.cov.as_matrix(), some, marginal.log_prob(value)

    whole, (mean, block, variance), got = parts(gaussian, value)
    matrix = np.asarray(whole)[np.ix_(indices, indices)]
    np.testing.assert_allclose(block, matrix, atol=_tolerance(dtype))
    np.testing.assert_allclose(variance, np.diagonal(matrix), atol=_tolerance(dtype))
    np.testing.assert_array_equal(mean, gaussian.mean[indices])
    expected = scipy.stats.multivariate_normal(mean, matrix.astype(float)).logpdf(value)
    np.testing.assert_allclose(got, expected, rtol=1e-4 if dtype == np.float32 else 1e-10)


def test_marginals_keep_their_structure():
    mask = np.arange(N) < 5
    assert isinstance(_diagonal(np.float32).marginal(mask).cov, lx.DiagonalLinearOperator)
    assert isinstance(_low_rank(np.float32).marginal(mask).cov, LowRank)
    kept = _noisy(_diagonal)(np.float32).marginal(mask).cov
    assert isinstance(kept, Conditioned) and isinstance(kept.prior, lx.DiagonalLinearOperator)


@pytest.mark.slow_but(5)
@pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
def test_exact_observations_give_the_density_on_their_subspace(make, dtype):
    gaussian = make(dtype)
    matrix = np.asarray(gaussian.cov.as_matrix(), np.float64)
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-5 * values.max()
    assert kept.sum() == N - 3
    sample = jax.jit(lambda g: g.sample(jax.random.key(1)))(gaussian)
    white = vectors[:, kept].T @ np.asarray(sample - gaussian.mean, np.float64)
    expected = -0.5 * np.sum(white**2 / values[kept] + np.log(2 * np.pi * values[kept]))
    np.testing.assert_allclose(LOG_PROB(gaussian, sample), expected, rtol=_tolerance(dtype) * 50)
    assert LOG_PROB(gaussian, sample.at[0].add(0.01)) == -jnp.inf


@pytest.mark.slow_but(5)
@pytest.mark.parametrize("make", EXACT.values(), ids=EXACT)
def test_samples_satisfy_exact_observations_to_rounding(make, dtype):
    draw = jax.jit(lambda g: g.sample(jax.random.key(2), (5, 20)))
    samples = np.asarray(draw(make(dtype)), np.float64)
    weights = np.asarray(GRID.astype(dtype).spatial.weights(), np.float64)
    fields = samples.reshape(5, 20, 3, 4)
    error = np.abs(fields @ weights - 1)
    # The draw and the mean are each correct to 4 eps; their sum adds its own rounding.
    size = np.abs(fields) @ weights + 1
    assert np.all(error <= 12 * np.finfo(dtype).eps * size)


@pytest.mark.slow_but(15)
@pytest.mark.parametrize("make", [*REGULAR.values(), *EXACT.values()])
def test_blocks_are_the_diagonal_blocks(make, dtype):
    gaussian = make(dtype)
    cov = np.asarray(PARTS(gaussian, gaussian.mean)[0], np.float64)
    batch = jax.jit(lambda g: blocks(g, 3))(gaussian)
    for i in range(3):
        one, at = jax.tree.map(lambda leaf, i=i: leaf[i], batch), slice(4 * i, 4 * i + 4)
        np.testing.assert_array_equal(one.mean, gaussian.mean[at])
        found = np.asarray(one.cov.as_matrix(), np.float64)
        np.testing.assert_allclose(found, cov[at, at], rtol=0, atol=20 * _tolerance(dtype))
    structured = isinstance(gaussian.cov, lx.DiagonalLinearOperator | LowRank)
    assert isinstance(batch.cov, type(gaussian.cov) if structured else lx.MatrixLinearOperator)


SCALED = {
    name: REGULAR[name]
    for name in ("diagonal", "low rank", "dense", "kronecker", "conditioned diagonal")
} | {"exact low rank": EXACT["low rank"]}


@pytest.mark.parametrize("make", SCALED.values(), ids=SCALED)
def test_a_scaled_covariance_is_the_scaled_matrix_and_keeps_its_structure(make, dtype):
    gaussian = make(dtype)
    scaled = jax.jit(lambda g, f: g.scale_cov(f))(gaussian, jnp.asarray(2.5, dtype))
    assert type(scaled.cov) is type(gaussian.cov)
    np.testing.assert_array_equal(scaled.mean, gaussian.mean)
    vector = jnp.asarray(_random(8, N, dtype=dtype))
    before, after = PARTS(gaussian, vector), PARTS(scaled, vector)
    for old, new, power in zip(before, after, (1, 1, 1, 0.5), strict=True):
        size = float(jnp.abs(old).max())
        np.testing.assert_allclose(new, 2.5**power * old, rtol=0, atol=size * 8 * _tolerance(dtype))
    # The density of N(m, f C) at m + sqrt(f) d is that of N(m, C) at m + d, over f^(rank / 2).
    rank = np.linalg.matrix_rank(np.asarray(before[0], np.float64), tol=1e-5)
    expected = LOG_PROB(gaussian, gaussian.mean + before[1]) - rank / 2 * np.log(2.5)
    found = LOG_PROB(scaled, gaussian.mean + before[1] * np.sqrt(2.5).astype(dtype))
    np.testing.assert_allclose(found, expected, rtol=50 * _tolerance(dtype))


@pytest.mark.parametrize("name", ["diagonal", "low rank"])
def test_what_is_exact_stays_exact_when_scaled(name, dtype):
    masses = integral(GRID.astype(dtype), np.ones(3), over="x")
    scaled = EXACT[name](dtype).scale_cov(1e4)
    mean, spread = np.asarray(scaled.mean, np.float64), np.asarray(scaled.marginal_std).max()
    G = np.asarray(masses.G.as_matrix(), np.float64)
    eps = np.finfo(dtype).eps
    assert (np.abs(G @ mean - 1) <= 4 * eps * (np.abs(G) @ np.abs(mean))).all()
    draws = np.asarray(scaled.sample(jax.random.key(1), (20,)), np.float64)
    assert np.abs(draws @ G.T - 1).max() <= 40 * eps * max(1, spread) * np.abs(G).sum(1).max()


def test_known_points_have_no_density_but_a_value():
    gaussian = Gaussian.diagonal(jnp.array([1.0, 2.0]), jnp.array([0.0, 4.0]))
    expected = scipy.stats.norm(2.0, 2.0).logpdf(3.0)
    np.testing.assert_allclose(gaussian.log_prob(jnp.array([1.0, 3.0])), expected, rtol=1e-6)
    assert gaussian.log_prob(jnp.array([1.1, 3.0])) == -jnp.inf
    assert gaussian.sample(jax.random.key(0))[0] == 1.0


def test_from_samples_has_the_samples_moments():
    samples = _random(0, 6, N)
    gaussian = Gaussian.from_samples(samples, np.full(N, 0.25, np.float32))
    np.testing.assert_allclose(gaussian.mean, samples.mean(0), atol=1e-6)
    expected = np.cov(samples.T) + 0.25 * np.eye(N)
    np.testing.assert_allclose(gaussian.cov.as_matrix(), expected, atol=1e-5)


def test_dense_singular_covariance_can_be_sampled():
    root = _random(0, N, 2)
    gaussian = Gaussian.dense(np.zeros(N, np.float32), root @ root.T)
    samples = np.asarray(gaussian.sample(jax.random.key(0), (100,)))
    off = samples - samples @ np.linalg.pinv(root).T @ root.T
    assert np.abs(off).max() < 5e-3 * np.abs(samples).max()


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("name", ["diagonal", "low rank", "kronecker", "conditioned diagonal"])
def test_gradients_of_log_prob_and_samples(name, x64):
    gaussian = REGULAR[name](np.float64)
    value = jnp.asarray(_random(8, N, dtype=np.float64))

    def score(g):
        return g.log_prob(value) + jnp.sum(g.sample(jax.random.key(0)) ** 2)

    jax.test_util.check_grads(
        jax.jit(score), (gaussian,), order=1, modes=["rev"], rtol=1e-5, atol=1e-6
    )


def test_batches_are_made_by_vmap():
    means, variances = _random(0, 5, N), 1 + _random(1, 5, N) ** 2
    batch = jax.vmap(Gaussian.diagonal)(means, variances)
    values = _random(2, 5, N)
    got = jax.vmap(lambda g, v: g.log_prob(v))(batch, values)
    one = [
        Gaussian.diagonal(m, v).log_prob(u)
        for m, v, u in zip(means, variances, values, strict=True)
    ]
    np.testing.assert_allclose(got, jnp.stack(one), rtol=1e-6)


def test_operators_work_in_lineax_solvers(x64):
    for make in (_low_rank, _kronecker, _noisy(_diagonal)):
        cov = make(np.float64).cov
        b = jnp.asarray(_random(3, N, dtype=np.float64))
        x = lx.linear_solve(cov, b, lx.CG(rtol=1e-12, atol=1e-12)).value
        np.testing.assert_allclose(x, np.linalg.solve(cov.as_matrix(), b), rtol=1e-8)
        assert lx.is_symmetric(cov) and not lx.is_diagonal(cov)
        np.testing.assert_allclose(lx.materialise(cov).as_matrix(), cov.as_matrix())


def test_conditioning_a_curvature_then_a_total_keeps_both_structures():
    gaussian = Gaussian.diagonal(_random(0, N), 0.5 + _random(1, N) ** 2)
    twice = condition(
        condition(gaussian, curvature(gaussian)), LinearConstraint(np.ones(N, np.float32), 1.0)
    )
    assert isinstance(twice.cov, Conditioned) and isinstance(twice.cov.prior, Conditioned)
    assert abs(float(twice.mean.sum()) - 1) < 1e-6


BAD = [
    (
        lambda: Gaussian(jnp.zeros((2, 2)), lx.DiagonalLinearOperator(jnp.ones(4))),
        ValueError,
        r"mean=.*expected shape \(n,\)",
    ),
    (lambda: Gaussian(jnp.zeros(2), jnp.ones(2)), TypeError, "expected a lineax operator"),
    (
        lambda: Gaussian(jnp.zeros(2), lx.DiagonalLinearOperator(jnp.ones(3))),
        ValueError,
        "expected an operator of size 2",
    ),
    (
        lambda: Gaussian(jnp.zeros(2, jnp.int32), lx.DiagonalLinearOperator(jnp.ones(2))),
        TypeError,
        "expected real floats",
    ),
    (
        lambda: Gaussian(jnp.zeros(2), lx.DiagonalLinearOperator(jnp.ones(2, jnp.float16))),
        TypeError,
        "expected one dtype",
    ),
    (
        lambda: Gaussian.diagonal(jnp.zeros(2), jnp.array([1.0, -1.0])),
        ValueError,
        "variances >= 0, got -1.0 at index 1",
    ),
    (
        lambda: Gaussian.diagonal(jnp.array([0.0, jnp.nan]), jnp.ones(2)),
        ValueError,
        r"nan at index \(1,\)",
    ),
    (
        lambda: Gaussian.dense(jnp.zeros(2), jnp.array([[1.0, 2.0], [0.0, 1.0]])),
        ValueError,
        r"`Gaussian.dense\(cov=...\)`: expected a symmetric matrix, got entries that differ by 2",
    ),
    (
        lambda: Kronecker(jnp.eye(2), jnp.array([[1.0, 0.5], [0.25, 1.0]])),
        ValueError,
        r"`Kronecker\(factors\[1\]=...\)`: expected a symmetric matrix, .* differ by 0.25",
    ),
    (lambda: Gaussian.dense(jnp.zeros(2), jnp.ones((2, 3))), ValueError, "square"),
    (
        lambda: Gaussian.low_rank(jnp.zeros(2), jnp.ones(2), jnp.ones((3, 1))),
        ValueError,
        r"\(n, r\)",
    ),
    (lambda: Gaussian.from_samples(jnp.ones((1, 3))), ValueError, "M >= 2"),
    (lambda: Gaussian.kronecker(jnp.zeros(2)), ValueError, "at least one factor"),
    (lambda: Gaussian.kronecker(jnp.zeros(2), jnp.ones((2, 1))), ValueError, "square factors"),
    (lambda: _diagonal(np.float32).log_prob(jnp.zeros(3)), ValueError, "log_prob.*expected shape"),
    (lambda: _diagonal(np.float32).marginal([99]), ValueError, "indices into 12 points, got 99"),
    (lambda: _diagonal(np.float32).marginal([1, 1]), ValueError, "different indices"),
    (lambda: _diagonal(np.float32).marginal([0.5]), ValueError, "integers or a mask"),
    (lambda: _diagonal(np.float32).marginal(np.ones(3, bool)), ValueError, "a mask of shape"),
    (lambda: blocks(_diagonal(np.float32), 5), ValueError, "a divisor of the 12 points.*got 5"),
    (lambda: _diagonal(np.float32).scale_cov(0.0), ValueError, "positive finite number, got 0"),
    (
        lambda: _diagonal(np.float32).scale_cov(np.inf),
        ValueError,
        "positive finite number, got inf",
    ),
    (
        lambda: _diagonal(np.float32).scale_cov(np.ones(2)),
        ValueError,
        r"a scalar, got shape \(2,\)",
    ),
    (
        lambda: jax.jit(lambda i: _diagonal(np.float32).marginal(i))(jnp.arange(2)),
        TypeError,
        "traced",
    ),
]


@pytest.mark.parametrize("make, error, match", BAD)
def test_bad_input_is_named(make, error, match):
    with pytest.raises(error, match=match):
        make()
