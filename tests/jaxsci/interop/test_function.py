"""Functions as surrogates: every form of output, training through them, clear errors."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from jaxsci.conservation import condition, integral
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.interop import from_function, takes_key

X = jnp.linspace(0.0, 1.0, 6).reshape(2, 3)


@pytest.mark.parametrize(
    ("function", "options"),
    [
        (lambda x: (jnp.sin(x), 0.5 + x), {}),
        (lambda x: [jnp.sin(x), 0.5 + x], {}),
        (lambda x: Gaussian.diagonal(jnp.sin(x).ravel(), (0.5 + x.ravel()) ** 2), {}),
        (jnp.sin, {"variance": (0.5 + X) ** 2}),
        (jnp.sin, {"variance": lambda x: (0.5 + x) ** 2}),
        (
            lambda x: jnp.stack([jnp.sin(x), jnp.log(0.5 + x)], axis=-1),
            {"readout": lambda y: (y[..., 0], jnp.exp(y[..., 1]))},
        ),
        (lambda x: {"u": jnp.sin(x)}, {"readout": lambda y: y["u"], "variance": (0.5 + X) ** 2}),
    ],
    ids=["pair", "list", "gaussian", "array", "callable", "readout", "dict"],
)
def test_forms_of_output(function, options):
    surrogate = from_function(function, **options)
    for prediction in (surrogate(X), eqx.filter_jit(surrogate)(X)):
        np.testing.assert_allclose(prediction.mean, np.sin(X).ravel(), rtol=1e-6)
        np.testing.assert_allclose(prediction.marginal_std, 0.5 + X.ravel(), rtol=1e-6)


def test_scalars_are_shared_and_the_mean_decides_the_dtype(x64):
    mean32 = X.astype(jnp.float32)
    for surrogate in (
        from_function(lambda x: x, variance=0.25),
        from_function(lambda x: (x, 0.5)),
        from_function(lambda x: (x, jnp.asarray(0.5))),
    ):
        prediction = surrogate(mean32)
        assert prediction.mean.dtype == prediction.marginal_var.dtype == jnp.float32
        np.testing.assert_allclose(prediction.marginal_std, 0.5)
    assert (
        from_function(lambda x: x, variance=1)(mean32.astype(jnp.float64)).mean.dtype == "float64"
    )


def test_key_goes_to_those_who_take_one():
    def noisy(x, *, key=None):
        return x if key is None else x + jr.normal(key, x.shape)

    surrogate = from_function(noisy, variance=1.0)
    np.testing.assert_allclose(surrogate(X).mean, X.ravel())
    expected = X + jr.normal(jr.key(0), X.shape)
    np.testing.assert_allclose(surrogate(X, key=jr.key(0)).mean, expected.ravel())
    np.testing.assert_allclose(
        from_function(lambda x: x, variance=1.0)(X, key=jr.key(0)).mean, X.ravel()
    )
    assert takes_key(noisy) and takes_key(lambda x, **rest: x) and not takes_key(lambda x: x)
    assert takes_key(eqx.nn.MLP(1, 1, 1, 1, key=jr.key(0))) and not takes_key(3)


def test_vmap_and_training_through_an_equinox_model():
    """Parameters are leaves: the likelihood sees them, but not a stated variance."""
    model = eqx.nn.MLP("scalar", "scalar", 8, 1, jnp.tanh, key=jr.key(0))
    surrogate = from_function(eqx.filter_vmap(model), variance=0.1)
    batch = jax.vmap(lambda x: surrogate(x).mean)(X)
    np.testing.assert_allclose(batch[1], surrogate(X[1]).mean, rtol=0, atol=1e-6)
    slopes = eqx.filter_grad(lambda s: s(X[1]).log_prob(X[1]))(surrogate)
    assert slopes.variance is None  # a number is no parameter
    assert all(bool(jnp.any(g != 0)) for g in jax.tree.leaves(slopes.function))


def test_gradient_with_respect_to_parameters(x64):
    weight = jnp.asarray(0.7)

    def score(weight):
        surrogate = from_function(eqx.Partial(lambda w, x: (w * x, jnp.exp(w) + x), weight))
        return surrogate(X.astype(jnp.float64)).log_prob(jnp.ones(6))

    step = 1e-6
    difference = (score(weight + step) - score(weight - step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(score)(weight), difference, rtol=1e-7)


def test_conserves_in_five_lines():
    grid = Grid.uniform(x=(0.0, 1.0, 11))
    surrogate = from_function(lambda points: jnp.sin(points[:, 0]), variance=0.01)
    prediction = surrogate(grid.points())
    mass = integral(grid, 0.5)
    conserved = condition(prediction, mass)
    np.testing.assert_allclose(mass.residual(conserved.mean), 0.0, atol=1e-6)


@pytest.mark.parametrize(
    ("function", "options", "error", "match"),
    [
        (3.0, {}, TypeError, r"`from_function\(function\)`: expected a callable, got float"),
        (jnp.sin, {}, ValueError, "variance=...*returns one array, a mean, without one; pass"),
        (jnp.sin, {"variance": -1.0}, ValueError, "variance=...*numbers >= 0, got -1"),
        (jnp.sin, {"variance": np.inf}, ValueError, "variance=...*finite"),
        (jnp.sin, {"variance": jnp.ones(5)}, ValueError, r"variance of the mean's size 6.*\(5,\)"),
        (
            lambda x: (x, x),
            {"variance": 1.0},
            ValueError,
            "None, for the model returns a pair",
        ),
        (lambda x: (x, -x - 1), {}, ValueError, "standard deviations >= 0.*log-variance"),
        (lambda x: (x, x[0]), {}, ValueError, r"standard deviation of the mean's size 6.*\(3,\)"),
        (lambda x: (x, x, x), {}, TypeError, "got a tuple of 3; `readout=`"),
        (lambda x: {"mean": x}, {}, TypeError, "got dict; `readout=` can rearrange"),
        (lambda x: x > 0, {"variance": 1.0}, TypeError, "a mean of real floats, got bool"),
    ],
)
def test_bad_input(function, options, error, match):
    with pytest.raises(error, match=match):
        from_function(function, **options)(X)
