"""An inequality beside laws and conditions: all of them hold, or it is said that they cannot."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.conservation import Monotone, Nonnegative, TotalVariation, integral
from jaxsci.constraining import (
    CONSTRAIN_RESULTS,
    NonlinearLaw,
    impose,
    impose_with_certificate,
)
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann

GRID = Grid.uniform(x=(0.0, 1.0, 21))
LOW, HIGH = ("x", "low"), ("x", "high")


def energy(u):
    return jnp.sum(u**2) / 20


def prediction(grid=GRID):
    x = jnp.asarray(grid.axis("x").points)
    return Gaussian.diagonal(jnp.sin(3 * jnp.pi * x) - 0.3, 0.01 + 0.1 * x)


def ends(low, high, grid=GRID):
    return {
        "boundary": BoundaryConditions.on(grid, {LOW: low, HIGH: high}),
        "shape": grid.shape,
    }


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("inequality", [Nonnegative(), Monotone()], ids=["nonnegative", "monotone"])
@pytest.mark.parametrize(
    "conditions",
    [{}, ends(Dirichlet(1.0), Dirichlet(0.0)), ends(Neumann(0.0), Neumann(0.0))],
    ids=["none", "values", "slopes"],
)
@pytest.mark.parametrize("laws", [1, 2])
def test_all_hold_together(laws, conditions, inequality):
    given = [integral(GRID, 0.3), integral(GRID, 0.2, domain={"x": (0.0, 0.37)})][:laws]
    mean, evidence = impose_with_certificate(
        prediction(), conservation=given, inequality=inequality, **conditions
    )
    assert bool(evidence.holds), evidence
    step = np.diff(np.asarray(mean.mean))
    assert step.max() <= 0 if inequality == Monotone() else np.asarray(mean.mean).min() >= 0
    if inequality == Nonnegative() and conditions.get("shape"):
        # Independent: the nearest such field, by projecting what holds already (nothing to do).
        again = impose(mean, conservation=given, inequality=inequality, **conditions)
        np.testing.assert_allclose(again.mean, mean.mean, atol=1e-6)


def test_an_order_is_that_of_one_axis():
    """Over a flattened field, the end of one time would be compared with the start of the next."""
    grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 1.0, 9))
    fall = Gaussian.diagonal(jnp.tile(jnp.linspace(1.0, 0.0, 9), 3), jnp.ones(27))
    for inequality in (Monotone(), TotalVariation(1.0)):
        with pytest.raises(ValueError, match=r"along one axis.*got shape \(1, 3, 9\)"):
            impose(fall, inequality=inequality, shape=grid.shape, boundary=_insulated(grid))

    def one(mean, inequality):
        prior = Gaussian.diagonal(mean, jnp.ones(9))
        return impose(prior, inequality=inequality, shape=(1, 1, 9)).mean

    rows = fall.mean.reshape(3, 9)
    for inequality in (Monotone(), TotalVariation(1.0)):
        kept = jax.vmap(one, (0, None))(rows, inequality)
        np.testing.assert_allclose(kept, rows, atol=1e-6)


def _insulated(grid):
    return BoundaryConditions.on(grid, {"x": Neumann(0.0)})


def test_a_narrow_case_on_a_finer_grid():
    grid = Grid.uniform(x=(0.0, 1.0, 101))
    zero = ends(Dirichlet(0.0), Dirichlet(0.0), grid)
    law = integral(grid, 0.02)
    _, evidence = impose_with_certificate(
        prediction(grid), conservation=law, inequality=Nonnegative(), **zero
    )
    assert bool(evidence.holds)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"conservation": integral(GRID, -0.35), "inequality": Nonnegative()}, "inequality beside"),
        (
            {
                "conservation": integral(GRID, 0.35),
                "inequality": Monotone(),
                **ends(Dirichlet(0.0), Dirichlet(1.0)),
            },
            "inequality beside",
        ),
        (
            {
                "conservation": [integral(GRID, 0.35), NonlinearLaw(energy, 0.2)],
                "inequality": Nonnegative(),
                **ends(Dirichlet(0.0), Dirichlet(0.0)),
            },
            r"Law 1 asks for 0.2, 0\.\d+ was reached",
        ),
    ],
    ids=["sign of the total", "order of the ends", "energy"],
)
def test_what_cannot_hold_together_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        impose(prediction(), **arguments)
    found, evidence = jax.jit(lambda p: impose_with_certificate(p, **arguments))(prediction())
    assert bool(evidence.result == CONSTRAIN_RESULTS.excluded) and not bool(evidence.holds)
    assert np.isnan(found.mean).all()
