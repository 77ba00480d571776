"""A law against the flux through the faces."""

import jax.numpy as jnp
import pytest

from jaxsci.conservation import integral
from jaxsci.constraining import DiffusiveFlux, impose
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann, Periodic

SHAPE = (3, 8)


def _grid():
    return Grid.uniform(t=(0.0, 1.0, SHAPE[0]), x=(0.0, 1.0, SHAPE[1]))


def test_flux_that_does_not_match_the_mass():
    grid = _grid()
    # du/dx = 2 at the high end lets in 0.5 * 2 per unit of time.
    conditions = BoundaryConditions.on(grid, {("x", "low"): Neumann(0.0), ("x", "high"): Neumann()})
    prior = Gaussian.diagonal(jnp.zeros(grid.size), jnp.ones(grid.size))

    def with_mass(b):
        return impose(
            prior,
            conservation=integral(grid, b, over="x"),
            boundary=conditions,
            values={("x", "high"): 2.0},
            shape=SHAPE,
            balance=DiffusiveFlux(grid, 0.5),
        )

    assert jnp.isfinite(with_mass(jnp.array([1.0, 1.5, 2.0])).mean).all()
    with pytest.raises(ValueError, match=r"Between times 1 and 2 the law gains -0.4 more"):
        with_mass(jnp.array([1.0, 1.5, 1.6]))


def test_balance_of_a_channel_and_of_a_circle():
    grid = _grid()
    slopes = BoundaryConditions.on(grid, {"x": Neumann(0.0)})
    prior = Gaussian.diagonal(jnp.zeros(2 * grid.size), jnp.ones(2 * grid.size))
    totals = jnp.array([1.0, 2.0, 3.0]), jnp.ones(3)
    laws = {channel: integral(grid, b, over="x") for channel, b in enumerate(totals)}
    both = {"conservation": laws, "boundary": slopes, "shape": (2, *SHAPE)}
    impose(prior, **both, balance=DiffusiveFlux(grid, 0.5, channel=1))
    with pytest.raises(ValueError, match="the law gains 1 more"):
        impose(prior, **both, balance=DiffusiveFlux(grid, 0.5))
    # What leaves a circle at one end comes in at the other.
    circle = BoundaryConditions.on(grid, {"x": Periodic()})
    one = Gaussian.diagonal(jnp.zeros(grid.size), jnp.ones(grid.size))
    kept = {"conservation": laws[1], "boundary": circle, "shape": SHAPE}
    impose(one, **kept, balance=DiffusiveFlux(grid, 0.5))


@pytest.mark.parametrize(
    "change, error, match",
    [
        (
            {"diffusivity": jnp.ones(2)},
            ValueError,
            r"expected a number or shape \(3,\), got \(2,\)",
        ),
        ({"diffusivity": -1.0}, ValueError, "expected numbers from 0, got -1.0"),
        ({"diffusivity": jnp.nan}, ValueError, "diffusivity"),
        ({"rtol": -0.1}, ValueError, r"rtol=...\)`: expected a number from 0, got -0.1"),
        ({"channel": 0.5}, TypeError, r"channel=...\)`: expected a whole number, got 0.5"),
        ({"channel": 3}, ValueError, r"channel=...\)\)`: expected 0 to 0, got 3"),
        ({"grid": Grid.uniform(x=(0.0, 1.0, 8))}, ValueError, r"time axis 't', got axes \['x'\]"),
    ],
)
def test_bad_input_of_a_balance(change, error, match):
    grid = _grid()
    arguments = {"grid": grid, "diffusivity": 0.5} | change
    prior = Gaussian.diagonal(jnp.zeros(grid.size), jnp.ones(grid.size))
    with pytest.raises(error, match=match):
        impose(
            prior,
            conservation=integral(grid, jnp.ones(3), over="x"),
            boundary=BoundaryConditions.on(grid, {"x": Neumann(0.0)}),
            shape=SHAPE,
            balance=DiffusiveFlux(**arguments),
        )


def test_a_balance_needs_a_law_and_slopes():
    grid = _grid()
    prior = Gaussian.diagonal(jnp.zeros(grid.size), jnp.ones(grid.size))
    law, balance = integral(grid, jnp.ones(3), over="x"), DiffusiveFlux(grid, 0.5)
    slopes = BoundaryConditions.on(grid, {"x": Neumann(0.0)})
    for some, got in (
        ({"boundary": slopes}, "got no law"),
        ({"conservation": law}, "got no conditions"),
        ({"boundary": slopes, "conservation": integral(grid, 1.0)}, "LinearConstraint of 1 rows"),
        (
            {"boundary": BoundaryConditions.on(grid, {"x": Dirichlet(1.0)}), "conservation": law},
            r"derivative on every face.*\('x', 'low'\) is not",
        ),
    ):
        with pytest.raises(ValueError, match=got):
            impose(prior, **some, shape=SHAPE, balance=balance)
