"""A residual of a whole group: its Jacobian, its minimum, its derivatives, its messages."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.sparse as sp

from jaxsci.solvers.nonlinear import (
    AbstractManifold,
    Cauchy,
    Euclidean,
    Factors,
    LevenbergMarquardt,
    Problem,
    SparseResidual,
    Variables,
    linearise,
    minimise,
)

N = 6
DATA = jnp.asarray(np.random.default_rng(0).normal(size=N), jnp.float32)


class Scaled(AbstractManifold):
    """Pairs, the first of which is positive and stepped along by a factor."""

    ambient: ClassVar[int] = 2
    dim: ClassVar[int] = 2

    def retract(self, x, delta):
        return jnp.stack([x[0] * jnp.exp(delta[0]), x[1] + delta[1]])

    def local(self, x, y):
        return jnp.stack([jnp.log(y[0] / x[0]), y[1] - x[1]])


def chain(x, data):
    """A flux between neighbours, fitted values, and one row that depends on nothing."""
    k, u = x[:, 0], x[:, 1]
    flux = k[1:] * k[:-1] * jnp.diff(u)
    return jnp.concatenate([jnp.diff(flux), u - data, k - 1.5, jnp.zeros(1, k.dtype)])


def start(dtype=jnp.float32):
    rng = np.random.default_rng(1)
    return jnp.asarray(1 + 0.2 * rng.random((N, 2)), dtype)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("manifold", [Euclidean(2), Scaled()])
def test_jacobian_against_dense(x64, manifold):
    x, data = start(jnp.float64), DATA.astype(jnp.float64)
    weights = jnp.linspace(0.5, 2.0, 3 * N - 1)
    group = SparseResidual(chain, "x", x, data, weights)
    jacobian, residual = linearise(Problem({"x": Variables(manifold, N)}, [group]), {"x": x})

    def stepped(delta):
        moved = jax.vmap(manifold.retract)(x, delta.reshape(N, 2))
        return weights * chain(moved, data)

    dense = jax.jacfwd(stepped)(jnp.zeros(2 * N))
    np.testing.assert_allclose(jacobian.as_matrix(), dense, rtol=1e-13, atol=1e-13)
    np.testing.assert_allclose(residual, stepped(jnp.zeros(2 * N)), rtol=1e-13)
    assert group.number < 2 * N, "colours are fewer than columns"


def smooth(x, data):
    return jnp.concatenate([2 * jnp.diff(x[:, 0]), jnp.sinh(x[:, 0]) - data])


def fitted(group, data):
    """The minimum for other data: only what is traced changes inside `jit`."""
    group = eqx.tree_at(lambda g: g.measurement, group, data)
    return minimise(
        Problem({"x": Variables(Euclidean(1), N)}, [group]),
        {"x": jnp.zeros((N, 1), data.dtype)},
        method=LevenbergMarquardt(),
        linear="cholesky",
        rtol=1e-14,
        throw=False,
    )


PATTERN = sp.vstack([sp.diags([1.0, 1.0], [0, 1], shape=(N - 1, N)), sp.eye(N)])


def test_minimum_is_that_of_small_factors():
    def difference(a, b, _):
        return 2 * (b - a)

    def value(a, z):
        return jnp.sinh(a) - z

    pairs = np.stack([np.arange(N - 1), np.arange(1, N)], 1)
    factors = [
        Factors(difference, ("x", "x"), pairs),
        Factors(value, ("x",), np.arange(N), DATA[:, None]),
    ]
    by_factor = minimise(
        Problem({"x": Variables(Euclidean(1), N)}, factors), {"x": jnp.zeros((N, 1))}
    )
    group = SparseResidual(smooth, "x", jnp.zeros((N, 1)), DATA, sparsity=PATTERN)
    whole = fitted(group, DATA)
    assert jnp.allclose(whole.cost, by_factor.cost, rtol=1e-6)
    np.testing.assert_allclose(whole.values["x"], by_factor.values["x"], atol=2e-6)


def test_derivatives_in_measurements(x64):
    data = DATA.astype(jnp.float64)
    group = SparseResidual(smooth, "x", jnp.zeros((N, 1)), data)

    @jax.jit
    def middle(data):
        return fitted(group, data).values["x"][2, 0]

    direction, step = jnp.cos(jnp.arange(N, dtype=jnp.float64)), 1e-5
    quotient = (middle(data + step * direction) - middle(data - step * direction)) / (2 * step)
    np.testing.assert_allclose(jax.grad(middle)(data) @ direction, quotient, rtol=1e-7)


def test_kernel_acts_row_by_row():
    x = jnp.zeros((N, 1))
    group = SparseResidual(smooth, "x", x, DATA, kernel=Cauchy(1.0))
    _, residual = linearise(Problem({"x": Variables(Euclidean(1), N)}, [group]), {"x": x})
    r = smooth(x, DATA)
    np.testing.assert_allclose(residual, r / jnp.sqrt(1 + r**2), rtol=1e-6)


def test_bad_input_is_named():
    x = jnp.zeros((N, 1))
    with pytest.raises(ValueError, match=r"expected points \(N, ambient\)"):
        SparseResidual(smooth, "x", x[:, 0], DATA)
    with pytest.raises(ValueError, match=rf"expected shape \({2 * N - 1},\), one weight"):
        SparseResidual(smooth, "x", x, DATA, jnp.ones(3))
    with pytest.raises(ValueError, match=rf"scipy sparse matrix of shape \({2 * N - 1}, {N}\)"):
        SparseResidual(smooth, "x", x, DATA, sparsity=sp.eye(N))
    with pytest.raises(ValueError, match="expected 'detect' or"):
        SparseResidual(smooth, "x", x, DATA, sparsity="dense")
    group = SparseResidual(smooth, "x", x, DATA, dim=2)
    with pytest.raises(ValueError, match="expected 1, the dimension of a step"):
        linearise(Problem({"x": Variables(Euclidean(1), N)}, [group]), {"x": x})
    with pytest.raises(ValueError, match="outside `jit`"):
        jax.jit(lambda x: SparseResidual(smooth, "x", x, DATA).indices)(x)
