"""Finite volumes: convergence to the exact solutions, exact balance, transformations, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.equations import (
    Advection,
    Burgers,
    ConservationLaw,
    Dirichlet,
    FiniteVolume,
    Flux,
    Heat,
    Outflow,
    Periodic,
    PorousMedium,
    Stefan,
    cell_averages,
    solve_finite_volume,
    tabulated_primitive,
)


def _centred(equation, cells, time):
    """A time near `time` at which the front is at the centre of a cell, and of a third of one.

    The error of a front depends on where in its cell it is; orders are measured at equal phase.
    """
    low, high = equation.x_bounds
    times = np.linspace(0.8 * time, 1.2 * time, 200_001)
    phase = (np.asarray(equation.shock_position(jnp.asarray(times))) - low) * cells / (high - low)
    if np.isnan(phase).all():
        return time
    off = np.nan_to_num(np.abs(phase % 1 - 0.5), nan=9.0)
    near = np.flatnonzero(off < off.min() + 1e-4)
    return float(times[near[np.abs(near - 100_000).argmin()]])


def _solve(equation, cells, time, **settings):
    edges = jnp.linspace(*equation.x_bounds, cells + 1)
    initial = cell_averages(equation.initial, edges, nodes=16)
    times = jnp.array([time])
    return solve_finite_volume(
        equation.law(),
        initial,
        edges,
        times,
        settings=FiniteVolume(**settings),
        **equation.boundaries(),
    )


def _error(equation, cells, time, **settings):
    """The error in L1, with the balance checked on the way."""
    solution = _solve(equation, cells, time, **settings)
    exact = cell_averages(lambda x: equation.solution(time, x), solution.edges, nodes=64)
    assert float(jnp.abs(solution.imbalance).max()) < 1e-12
    low, high = equation.x_bounds
    return float(jnp.abs(solution.averages[-1] - exact).mean()) * (high - low)


# Orders measured from 60 to 180 cells: heat 2.0, porous medium 1.98 / 1.37 / 1.19 for m = 1 / 3 / 6
# (the slope at the front is infinite), Stefan 1.6 (at equal phase; the jump itself is O(h)),
# advection 0.67 (minmod at a contact, 2/3 in theory), Burgers 1.0.
ORDERS = [
    (Heat(1.0), 0.5, (15, 45), 1.9),
    pytest.param(Stefan(0.6), 0.05, (20, 60), 1.4, marks=pytest.mark.slow),
    pytest.param(PorousMedium(3.0), 0.5, (20, 60), 1.2, marks=pytest.mark.slow),
    pytest.param(Burgers(3.0), 0.5, (20, 60), 0.9, marks=pytest.mark.slow),
    pytest.param(Advection(1.0), 0.1, (60, 180), 0.6, marks=pytest.mark.slow),
    pytest.param(PorousMedium(1.0), 0.5, (20, 60), 1.8, marks=pytest.mark.slow),
    pytest.param(PorousMedium(6.0), 0.5, (20, 60), 1.1, marks=pytest.mark.slow),
    pytest.param(Stefan(0.5), 0.05, (20, 60), 1.4, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("equation", "time", "cells", "order"), ORDERS)
def test_each_exact_solution_is_reached_at_its_order(equation, time, cells, order, x64):
    equation = type(equation)(float(equation.parameter))  # in 64 bits
    time = _centred(equation, cells[0], time)
    coarse, fine = (_error(equation, n, time) for n in cells)
    assert np.log(coarse / fine) / np.log(cells[1] / cells[0]) > order


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_balance_holds_to_rounding_with_everything_at_once(dtype, x64):
    law = ConservationLaw(
        convection=lambda u: u**2 / 2,
        conductivity=lambda u: 0.02 + 0.1 * u**2,
        source=lambda t, x, u: jnp.sin(3 * x) * t - u,
    )
    shift = np.random.default_rng(0).uniform(-0.3, 0.3, 39) / 40
    edges = jnp.asarray(np.linspace(0, 1, 41) + np.pad(shift, 1), dtype)
    solution = solve_finite_volume(
        law,
        cell_averages(lambda x: 1 + jnp.cos(4 * x), edges),
        edges,
        jnp.array([0.05, 0.2], dtype),
        low=Dirichlet(lambda t: 2 - t),
        high=Flux(lambda t: 0.3 + t),
    )
    assert solution.averages.dtype == dtype
    # One rounding a step at most, of numbers of size 1 (mass, inflow, outflow, produced).
    rounding = float(solution.steps) * float(jnp.finfo(dtype).eps)
    assert float(jnp.abs(solution.imbalance).max()) < rounding
    np.testing.assert_allclose(solution.outflow, 0.3 * solution.times + solution.times**2 / 2, 1e-5)
    assert float(jnp.abs(solution.produced).min()) > 0.01


@pytest.mark.slow
def test_gradient_in_a_parameter_of_the_conductivity_matches_differences_and_batches_agree(x64):
    edges = jnp.linspace(0.0, 1.0, 13)

    def mass(p):
        solution = solve_finite_volume(
            ConservationLaw(conductivity=lambda u: 0.05 + jnp.abs(u) ** p),
            jnp.zeros(12),
            edges,
            jnp.array([0.1]),
            low=Dirichlet(1.0),
            high=Flux(0.0),
            settings=FiniteVolume(rtol=1e-7, atol=1e-7),
        )
        return solution.mass[0]

    h = 1e-4
    batch = jax.jit(jax.vmap(mass))(jnp.array([2.0 - h, 2.0, 2.0 + h]))
    value, gradient = jax.jit(jax.value_and_grad(mass))(2.0)
    np.testing.assert_allclose(value, batch[1], rtol=1e-10)
    np.testing.assert_allclose(gradient, (batch[2] - batch[0]) / (2 * h), rtol=1e-4)


@pytest.mark.slow
def test_a_conductivity_that_jumps_works_from_a_table_and_harmonic_means_lock(x64):
    equation = Stefan(0.6)
    edges = jnp.linspace(0.0, 1.0, 31)
    arguments = (jnp.zeros(30), edges, jnp.array([0.05]))

    def front(law, average="integral"):
        solution = solve_finite_volume(
            law,
            *arguments,
            low=Dirichlet(1.0),
            high=Dirichlet(0.0),
            settings=FiniteVolume(average=average),
        )
        return float(solution.mass[0])

    k = equation.conductivity
    table = tabulated_primitive(k, 0.0, 1.0, intervals=1000)
    exact = float(equation.mass(0.05))
    np.testing.assert_allclose(front(ConservationLaw(kirchhoff=table)), exact, rtol=0.01)
    assert front(ConservationLaw(conductivity=k), "harmonic") < 0.1 * exact


def test_tabulated_primitive_and_cell_averages_are_accurate(x64):
    table = tabulated_primitive(lambda u: jnp.exp(u), -1.0, 2.0, intervals=2000)
    u = jnp.linspace(-1.0, 2.0, 77)
    np.testing.assert_allclose(table(u), jnp.exp(u) - np.exp(-1), atol=1e-6)
    np.testing.assert_allclose(jax.vmap(jax.grad(table))(u[1:-1]), jnp.exp(u[1:-1]), rtol=1e-3)
    np.testing.assert_allclose(table(2.5) - table(2.0), 0.5 * np.exp(2), rtol=1e-3)
    edges = jnp.array([0.0, 0.3, 1.0])
    averages = jax.jit(lambda e: cell_averages(lambda x: x**5, e))(edges)
    np.testing.assert_allclose(averages, jnp.diff(edges**6) / 6 / jnp.diff(edges), rtol=1e-12)


LAW = ConservationLaw(conductivity=lambda u: 1 + u)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"law": lambda u: u}, TypeError, r"\(law=...\)`: expected a `ConservationLaw`"),
        ({"low": 1.0}, TypeError, r"\(low=...\)`: expected `Dirichlet`, `Flux`"),
        ({"low": Periodic()}, ValueError, r"both ends periodic or neither"),
        ({"initial": np.zeros(2)}, ValueError, r"at least 3 cells.*got shape \(2,\)"),
        ({"initial": np.array([0, np.nan, 0, 0])}, ValueError, r"got nan at index \(1,\)"),
        ({"edges": np.linspace(0, 1, 4)}, ValueError, r"\(edges=...\)`: expected shape \(5,\)"),
        ({"edges": np.array([0, 1, 1, 2, 3])}, ValueError, r"strictly increasing"),
        ({"times": np.array([0.2, 0.1])}, ValueError, r"increasing numbers from t0 = 0.0"),
        ({"times": np.array([0.0])}, ValueError, r"a time after t0 = 0.0"),
        ({"times": np.array(0.1)}, ValueError, r"a 1-D array of at least one time"),
        (
            {
                "law": ConservationLaw(kirchhoff=lambda u: u),
                "settings": FiniteVolume(average="arithmetic"),
            },
            ValueError,
            r"expected a conductivity for average='arithmetic'",
        ),
    ],
)
def test_bad_input_is_refused(change, error, message):
    arguments = {
        "law": LAW,
        "initial": np.zeros(4),
        "edges": np.linspace(0, 1, 5),
        "times": np.array([0.1]),
        "low": Dirichlet(1.0),
        "high": Outflow(),
    } | change
    with pytest.raises(error, match=message):
        solve_finite_volume(**arguments)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: ConservationLaw(), ValueError, r"at least one of conductivity"),
        (lambda: ConservationLaw(conductivity=2.0), TypeError, r"expected a function, got 2.0"),
        (lambda: Dirichlet(jnp.ones(2)), ValueError, r"`Dirichlet\(value=...\)`: expected a sca"),
        (lambda: Flux(float("nan")), ValueError, r"`Flux\(flux=...\)`: expected finite"),
        (lambda: FiniteVolume(average="harmonical"), ValueError, r"did you mean 'harmonic'"),
        (lambda: FiniteVolume(limiter="superbee"), ValueError, r"unknown limiter 'superbee'"),
        (lambda: FiniteVolume(rtol=0.0), ValueError, r"`FiniteVolume\(rtol=...\)`"),
        (lambda: FiniteVolume(nodes=0), ValueError, r"`FiniteVolume\(nodes=...\)`"),
        (lambda: tabulated_primitive(jnp.abs, 0, 1, intervals=0), ValueError, r"intervals=..."),
    ],
)
def test_impossible_settings_are_refused(make, error, message):
    with pytest.raises(error, match=message):
        make()
