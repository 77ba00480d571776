"""Kernels against their derivatives, and robust fits against a search in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.solvers.nonlinear import (
    MINIMISE_RESULTS,
    Cauchy,
    Euclidean,
    Factors,
    GemanMcClure,
    Huber,
    Problem,
    Variables,
    graduated,
    minimise,
)

KERNELS = [Huber(1.5), Cauchy(0.7), GemanMcClure(2.0)]


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda k: type(k).__name__)
def test_weights_are_slopes_and_small_residuals_count_fully(kernel):
    s = jnp.asarray([0.0, 1e-6, 0.3, 1.0, 2.2, 2.3, 10.0, 1e6, 1e12], jnp.float32)
    slope = jax.vmap(jax.grad(kernel.rho))(s)
    np.testing.assert_allclose(jax.vmap(kernel.weight)(s), slope, rtol=1e-5, atol=1e-12)
    assert float(kernel.weight(s[0])) == 1 and float(kernel.rho(s[0])) == 0
    rho = np.asarray(jax.vmap(kernel.rho)(s))
    assert (np.diff(rho) >= 0).all() and (rho <= s + 1e-6).all()


def _seen(x, z):
    return x - z


def _problem(z, kernel):
    factors = Factors(_seen, "x", np.zeros((len(z), 1), int), z[:, None], kernel=kernel)
    return Problem({"x": Variables(Euclidean(1), 1)}, [factors])


def test_graduation_finds_the_minimum_that_a_bad_start_hides():
    rng = np.random.default_rng(0)
    z = np.concatenate([0.3 * rng.normal(size=12), 8 + 0.3 * rng.normal(size=5), [40, -25, 90]])
    z, width = z.astype(np.float32), 1.0
    grid = np.linspace(-30, 100, 130001)
    square = (grid[:, None] - z.astype(float)) ** 2
    best = grid[np.argmin((square / (1 + square)).sum(1))]
    assert abs(best) < 0.5
    problem, start = _problem(z, GemanMcClure(width)), {"x": np.full((1, 1), 8.0, np.float32)}
    caught = minimise(problem, start, linear="dense", throw=False)
    assert abs(float(caught.values["x"][0, 0]) - 8) < 0.5
    found = graduated(problem, start, linear="dense")
    assert abs(float(found.values["x"][0, 0]) - best) < 2e-3
    assert found.result == MINIMISE_RESULTS.successful
    assert int(found.steps) > int(found.history.accepted[1:].clip(0).sum())


def test_graduation_is_differentiable():
    z = np.array([0.0, 0.1, -0.2, 30.0], np.float32)

    def found(z):
        solution = graduated(
            _problem(z, GemanMcClure(1.0)),
            {"x": jnp.zeros((1, 1))},
            linear="dense",
            throw=False,
            stages=3,
        )
        return solution.values["x"][0, 0]

    gradient = jax.jit(jax.grad(found))(jnp.asarray(z))
    # By the implicit function theorem, with psi the slope of the cost of one factor.
    x = float(jax.jit(found)(jnp.asarray(z)))
    e = x - z.astype(float)
    curvature = (1 - 3 * e**2) / (1 + e**2) ** 3
    np.testing.assert_allclose(gradient, curvature / curvature.sum(), atol=1e-4)


def test_bad_input_is_named():
    z = np.zeros(3, np.float32)
    start = {"x": jnp.zeros((1, 1))}
    with pytest.raises(ValueError, match="expected a factor group with a kernel"):
        graduated(_problem(z, None), start)
    with pytest.raises(ValueError, match=r"`graduated\(stages=...\)`: expected at least 2, got 1"):
        graduated(_problem(z, Huber(1.0)), start, stages=1)
    with pytest.raises(TypeError, match=r"expected a kernel, e.g. `Huber\(1.5\)`, got 'huber'"):
        _problem(z, "huber")
