"""The last layer's posterior against the dense formulas, and its evidence against scipy's."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads
from scipy import optimize, stats

from jaxsci.conservation import condition, integral
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
from jaxsci.operators.constrained import make_operator
from jaxsci.operators.fno import FNO
from jaxsci.operators.layers import Pointwise
from jaxsci.operators.uncertain import fit_last_layer_laplace, last_layer

KEY = jax.random.key(0)


class Features(eqx.Module):
    """Powers of the input, and a last layer: all that there is to know of it is known."""

    layer: Pointwise

    def __call__(self, x):
        return self.layer(jnp.concatenate([x, x**2, jnp.sin(3 * x)]))


def make_features(dtype):
    return Features(Pointwise(3, 1, dtype=dtype, key=KEY))


def layer_of(model):
    return model.layer


def make_data(functions=6, points=5, noise=0.1):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (functions, 1, points))
    y = 0.7 * x - 0.4 * x**2 + 0.2 + noise * rng.normal(size=x.shape)
    phi = np.stack([x, x**2, np.sin(3 * x), np.ones_like(x)], -1).reshape(-1, 4)
    return x, y, phi


@pytest.mark.parametrize("wide", [False, True])
def test_posterior_and_prediction_against_the_dense_formulas(wide):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        x, y, phi = make_data()
        model = fit_last_layer_laplace(
            make_features(dtype), jnp.asarray(x, dtype), jnp.asarray(y, dtype), where=layer_of
        )
        a, b = float(model.prior_precision), 1 / float(model.noise_variance)
        A = a * np.eye(4) + b * phi.T @ phi
        rtol = 1e-8 if wide else 2e-3
        np.testing.assert_allclose(
            model.weights, b * np.linalg.solve(A, phi.T @ y.ravel()), rtol=rtol, atol=rtol
        )
        root = np.asarray(model.root, np.float64)
        np.testing.assert_allclose(root @ root.T, np.linalg.inv(A), rtol=rtol, atol=1e-2 * rtol)
        new = np.linspace(-2, 2, 7)
        prediction = eqx.filter_jit(model)(jnp.asarray(new[None], dtype))
        at = np.stack([new, new**2, np.sin(3 * new), np.ones(7)], -1)
        cov = at @ np.linalg.inv(A) @ at.T + np.eye(7) / b
        np.testing.assert_allclose(prediction.cov.as_matrix(), cov, rtol=10 * rtol, atol=rtol)
        np.testing.assert_allclose(
            prediction.mean, at @ np.asarray(model.weights, np.float64), rtol=rtol, atol=rtol
        )
        assert prediction.mean.dtype == dtype


@pytest.mark.parametrize("noise", [0.02, 0.5])
def test_evidence_is_the_largest_marginal_likelihood(noise, x64):
    """Of `N(0, phi phi' / a + I / b)`, by scipy's density and optimiser."""
    x, y, phi = make_data(noise=noise)

    def surprise(logs):
        a, b = np.exp(logs)
        cov = phi @ phi.T / a + np.eye(len(phi)) / b
        return -stats.multivariate_normal.logpdf(y.ravel(), cov=cov)

    best = optimize.minimize(surprise, [0.0, 4.0], method="Nelder-Mead", options={"xatol": 1e-6})
    model = fit_last_layer_laplace(
        make_features(jnp.float64), jnp.asarray(x), jnp.asarray(y), where=layer_of
    )
    np.testing.assert_allclose(model.log_evidence, -best.fun, rtol=1e-6)
    found = np.log([float(model.prior_precision), 1 / float(model.noise_variance)])
    np.testing.assert_allclose(found, best.x, atol=2e-3)
    at_found = -surprise(found)
    np.testing.assert_allclose(model.log_evidence, at_found, rtol=1e-9)


def test_single_precision_finds_what_double_does():
    """Also from features that are nearly dependent, whose squares single precision cannot tell."""

    class Close(eqx.Module):
        layer: Pointwise

        def __call__(self, x):
            return self.layer(jnp.concatenate([x, x + 1e-3 * x**2]))

    def fitted(dtype):
        rng = np.random.default_rng(0)
        x = rng.uniform(-1, 1, (40, 1, 16))
        y = 3 * x - 5 * x**2 * 1e-1 + 0.01 * rng.normal(size=x.shape)
        operator = Close(Pointwise(2, 1, use_bias=False, dtype=dtype, key=KEY))
        model = fit_last_layer_laplace(
            operator, jnp.asarray(x, dtype), jnp.asarray(y, dtype), where=layer_of
        )
        return np.asarray(model.weights), float(model.noise_variance)

    single = fitted(jnp.float32)
    with jax.enable_x64(True):
        double = fitted(jnp.float64)
    assert double[0][0] > 100  # the square is only seen through the difference of both
    np.testing.assert_allclose(single[1], double[1], rtol=1e-2)
    np.testing.assert_allclose(single[0], double[0], rtol=2e-2)


@pytest.mark.slow
def test_an_operator_with_a_wall_and_a_conserved_total(x64):
    wall = BoundaryConditions("x", {("x", "low"): Dirichlet()})
    operator = make_operator(
        "fno-lifted", 1, 1, wall, modes=4, width=4, layers=1, dtype=jnp.float64, key=KEY
    )
    rng = np.random.default_rng(1)
    x, g = (jnp.asarray(rng.normal(size=s)) for s in ((12, 1, 16), (12, 1)))
    inputs, outputs = (x, {("x", "low"): g}), jnp.cumsum(x, -1) / 16 + g[..., None]
    model = fit_last_layer_laplace(operator, inputs, outputs)
    one = jax.tree.map(lambda leaf: leaf[0], inputs)
    prediction = model(one)
    # At the posterior mean it is the operator with these weights.
    layer = last_layer(operator)
    flat = np.asarray(model.weights)
    put = eqx.tree_at(
        lambda m: (m.weight, m.bias), layer, (jnp.asarray(flat[None, :-1]), jnp.asarray(flat[-1:]))
    )
    moved = eqx.tree_at(last_layer, operator, put)(*one)
    np.testing.assert_allclose(prediction.mean, moved.ravel(), atol=1e-12)
    np.testing.assert_array_equal(prediction.mean[:1], g[0])
    np.testing.assert_allclose(prediction.marginal_var[0], model.noise_variance, rtol=1e-12)
    # It is what fits best, up to the prior: the weights before, and any near it, fit worse.

    def misfit(weights):
        moved = eqx.tree_at(lambda m: m.weights, model, jnp.asarray(weights))
        made = jax.vmap(lambda *a: moved(a).mean)(*inputs)
        return float(jnp.mean((made - outputs.reshape(12, 16)) ** 2))

    before = np.concatenate([np.asarray(layer.weight).ravel(), np.asarray(layer.bias)])
    near = flat + 0.3 * rng.normal(size=(4, flat.size))
    assert misfit(flat) < min(map(misfit, [before, *near]))
    mass = integral(Grid.uniform(x=(0.0, 1.0, 16)), 0.3)
    updated = condition(prediction, mass)
    assert abs(float(mass.residual(updated.mean)[0])) < 1e-14


@pytest.mark.slow
def test_batches_and_gradient(x64):
    x, y, _ = make_data()
    operator = make_features(jnp.float64)
    model = fit_last_layer_laplace(operator, jnp.asarray(x), jnp.asarray(y), where=layer_of)
    batch = jax.vmap(lambda x: model(x).marginal_var)(jnp.asarray(x))
    np.testing.assert_allclose(batch[2], model(jnp.asarray(x[2])).marginal_var, rtol=1e-12)
    check_grads(
        lambda x: jnp.sum(model(x).marginal_var) + jnp.sum(model(x).mean ** 2),
        (jnp.asarray(x[0]),),
        order=1,
        atol=1e-6,
        rtol=1e-6,
    )


def test_bad_input():
    fno = FNO(1, 1, 4, width=4, layers=1, key=KEY)
    x = jnp.ones((3, 1, 8))
    with pytest.raises(ValueError, match=r"expected shape \(functions, 1, 8\).*got \(3, 2, 8\)"):
        fit_last_layer_laplace(fno, x, jnp.ones((3, 2, 8)))
    with pytest.raises(ValueError, match="more numbers than the layer has weights, got 8 for 9"):
        fit_last_layer_laplace(fno, x[:1], x[:1])
    with pytest.raises(TypeError, match="a `Pointwise`, got one that returns FNO"):
        fit_last_layer_laplace(fno, x, x, where=lambda m: m)
