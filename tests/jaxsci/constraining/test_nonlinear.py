"""Laws that are no sums: the nearest field on them, what contradicts, and what leaves in a file."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from jaxsci import constrain
from jaxsci.conservation import integral
from jaxsci.constraining import CONSTRAIN_RESULTS, NonlinearLaw, impose, impose_with_certificate
from jaxsci.export import export_stablehlo
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet


def energy(u):
    return jnp.mean(u**2)


def moments_of_squares(u):
    return jnp.stack([jnp.mean(u**2), jnp.mean(u**4)])


def steepness(u):
    return 100 * jnp.mean(jnp.diff(u) ** 2)


def exponential(u):
    return jnp.mean(jnp.exp(u))


def test_energy_of_the_nearest_field():
    """Of independent equal points, the nearest field on a sphere is the scaled one."""
    with jax.enable_x64(True):
        mean = jnp.asarray(np.random.default_rng(1).normal(size=9))
        energy = NonlinearLaw(lambda u: jnp.sum(u**2), 4.0)
        updated, certificate = impose_with_certificate(
            Gaussian.diagonal(mean, jnp.full(9, 0.5)), conservation=energy
        )
        np.testing.assert_allclose(updated.mean, mean * 2 / jnp.linalg.norm(mean), rtol=1e-12)
        assert certificate.holds
        np.testing.assert_allclose(updated.cov.mv(updated.mean), 0, atol=1e-12)


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("function", [moments_of_squares, exponential, steepness, energy])
def test_stationary_point(function, correlated, dtype):
    """The laws hold, and the mean has moved by the covariance times the gradients of the laws."""
    with jax.enable_x64(True):
        rng = np.random.default_rng(0)
        x = np.linspace(0, 1, 101)
        prior = np.sin(np.pi * x) + 0.1 * rng.normal(size=101)
        deviation = 0.1 + 0.3 * rng.random(101)
        cov = np.diag(deviation**2)
        if correlated:
            cov = np.exp(-np.abs(x[:, None] - x) / 0.2) * deviation[:, None] * deviation
        gaussian = Gaussian.diagonal(jnp.asarray(prior, dtype), jnp.asarray(deviation**2, dtype))
        if correlated:
            matrix = jnp.asarray(cov, dtype)
            whole = lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag)
            gaussian = Gaussian(gaussian.mean, whole)
        asked = 1.1 * function(jnp.asarray(prior))
        law = NonlinearLaw(function, asked.astype(dtype))
        updated, certificate = impose_with_certificate(gaussian, conservation=law)
        assert certificate.holds and 0.03 < certificate.moved < 3
        mean = np.asarray(updated.mean, np.float64)
        J = np.atleast_2d(np.asarray(jax.jacobian(function)(jnp.asarray(mean))))
        _, left, *_ = np.linalg.lstsq(cov @ J.T, mean - prior)
        moved = np.sum((mean - prior) ** 2)
        assert np.sqrt(left / moved) < (1e-11 if dtype == "float64" else 3e-5)


def test_laws_that_say_the_same():
    prior = Gaussian.diagonal(jnp.linspace(0.0, 1.0, 9), jnp.full(9, 0.1))
    law = NonlinearLaw(energy, 0.5)
    once = impose(prior, conservation=law)
    twice = impose(prior, conservation=(law, NonlinearLaw(lambda u: 3 * energy(u), 1.5)))
    np.testing.assert_allclose(twice.mean, once.mean, atol=2e-6)
    np.testing.assert_allclose(twice.marginal_var, once.marginal_var, atol=1e-7)
    gradient = [
        jax.grad(
            lambda mean, laws=laws: jnp.sum(
                jnp.sin(impose(Gaussian(mean, prior.cov), conservation=laws).mean)
            )
        )(prior.mean)
        for laws in (law, (law, law))
    ]
    np.testing.assert_allclose(*gradient, atol=2e-6)


@pytest.mark.parametrize(
    ("laws", "said"),
    [
        (
            lambda grid: (NonlinearLaw(energy, 0.6), NonlinearLaw(energy, 0.7)),
            "Law 0 asks for 0.6, 0.65 was reached. Law 1 asks for 0.7, 0.65 was reached.",
        ),
        (
            lambda grid: (
                integral(grid, 0.7),
                NonlinearLaw(lambda u: grid.weights() @ u, 0.8),
            ),
            "Law 1 asks for 0.8, 0.7 was reached.",
        ),
        (lambda grid: NonlinearLaw(energy, -1.0), "The law asks for -1, "),
    ],
    ids=["each other", "a linear one", "no field"],
)
def test_what_contradicts_is_named(laws, said):
    grid = Grid.uniform(x=(0.0, 1.0, 13))
    x = grid.points()[:, 0]
    prior = Gaussian.diagonal(jnp.sin(jnp.pi * x) + 0.1, jnp.full(13, 1e-2))
    with pytest.raises(ValueError, match="No field that the covariance can reach") as error:
        impose(prior, conservation=laws(grid))
    assert said in str(error.value)
    updated, certificate = jax.jit(
        lambda prior: impose_with_certificate(prior, conservation=laws(grid))
    )(prior)
    assert certificate.result == CONSTRAIN_RESULTS.not_reached
    assert jnp.isnan(updated.mean).all()


def test_in_a_file_on_every_grid():
    """Values, a mass and an energy, whose grid and batch stay open."""

    def laws(a):
        (n,) = a.shape
        return integral(Grid.uniform(x=(0.0, 1.0, n)), 0.7), NonlinearLaw(energy, 0.6)

    model = constrain(
        lambda a: a,
        variance=1e-2,
        conservation=laws,
        boundary=BoundaryConditions(("x",), {"x": Dirichlet(0.0)}, length={"x": 1.0}),
        shape=jnp.shape,
    )

    def moments(a):
        prediction, certificate = model.with_certificate(a)
        return prediction.mean, prediction.marginal_var, certificate.holds

    exported = export_stablehlo(None, moments, (jnp.ones(13),), "n")
    for n in (13, 40):
        x = jnp.linspace(0, 1, n)
        a = jnp.outer(jnp.array([1.0, 1.1]), jnp.sin(jnp.pi * x)) + 0.1
        mean, variance, holds = exported.call(a)
        wanted = jax.vmap(moments)(a)
        assert holds.all()
        np.testing.assert_allclose(mean, wanted[0], atol=1e-6)
        np.testing.assert_allclose(variance, wanted[1], atol=1e-6)
