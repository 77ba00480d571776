"""Exact solutions, fluxes and masses, against quadrature, finite differences and each other."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import optimize, special

from jaxsci.equations import (
    EQUATIONS,
    Advection,
    Burgers,
    Heat,
    PorousMedium,
    Stefan,
    stefan_constants,
)

CASES = [(cls, value) for cls in EQUATIONS.values() for value in cls.test_values]
IDS = [f"{cls.name}-{value:g}" for cls, value in CASES]


# The longest times are those at which every front has left.
TIMES = np.array([0.01, 0.05, 0.1, 0.37, 0.5, 0.9, 1.0, 1.7, 3.5])


def _integrals(equation):
    """Gauss-Legendre quadrature between the points where the solution is not smooth."""
    low, high = equation.x_bounds
    inner = [np.asarray(equation.shock_position(jnp.asarray(TIMES)))]
    if isinstance(equation, Burgers):
        inner += [float(equation.amplitude) * TIMES - 1, 0 * TIMES]
    inner = np.clip(np.nan_to_num(inner, nan=high), low, high)
    breaks = np.sort(np.vstack([inner, low + 0 * TIMES, high + 0 * TIMES]), axis=0)
    # Nodes crowd at the ends of each piece, where the porous medium's slope is infinite.
    s, w = np.polynomial.legendre.leggauss(400)
    theta = (s + 1) * np.pi / 4
    length = np.diff(breaks, axis=0)[..., None]
    x = breaks[:-1, :, None] + length * np.sin(theta) ** 2
    t = np.broadcast_to(TIMES[None, :, None], x.shape)
    u = np.asarray(eqx.filter_jit(equation.solution)(jnp.asarray(t), jnp.asarray(x)))
    return (length * u * w * np.pi / 4 * np.sin(2 * theta)).sum(axis=(0, 2))


@pytest.mark.parametrize(("cls", "value"), CASES, ids=IDS)
def test_mass_is_the_integral_of_the_solution_before_and_after_the_front_leaves(cls, value, x64):
    equation = cls(value)
    mass = eqx.filter_jit(equation.mass)(jnp.asarray(TIMES))
    np.testing.assert_allclose(mass, _integrals(equation), rtol=2e-6, atol=1e-8)


@pytest.mark.parametrize(("cls", "value"), CASES, ids=IDS)
def test_mass_changes_by_what_passes_the_ends(cls, value, x64):
    equation = cls(value)
    times = jnp.array([0.013, 0.21, 0.77, 1.9, 3.7])
    inflow, outflow = eqx.filter_jit(equation.boundary_fluxes)(times)
    rate = jax.jit(jax.vmap(jax.grad(equation.mass)))(times)
    np.testing.assert_allclose(rate, inflow - outflow, atol=1e-9)
    np.testing.assert_allclose(equation.initial_mass(), equation.mass(0.0))


@pytest.mark.parametrize(("cls", "value"), CASES, ids=IDS)
def test_the_solution_satisfies_the_equation_where_it_is_smooth(cls, value, x64):
    equation = cls(value)
    u_t = jax.jit(jax.vmap(jax.grad(equation.solution, argnums=0)))
    u_x = jax.jit(jax.vmap(jax.grad(equation.solution, argnums=1)))
    flux_x = jax.jit(jax.vmap(jax.grad(equation.flux, argnums=1)))
    rng = np.random.default_rng(0)
    t = jnp.asarray(rng.uniform(0.02, equation.t_bounds[1], 200))
    x = jnp.asarray(rng.uniform(*equation.x_bounds, 200))
    np.testing.assert_allclose(u_t(t, x) + flux_x(t, x), 0, atol=1e-9)
    u = equation.solution(t, x)
    flux = equation.convection(u) - equation.conductivity(u) * u_x(t, x)
    np.testing.assert_allclose(equation.flux(t, x), flux, rtol=1e-9, atol=1e-9)
    k = jax.vmap(jax.grad(equation.kirchhoff))(u)
    np.testing.assert_allclose(k, equation.conductivity(u), atol=1e-12)
    low, high = equation.boundary_values(t)
    np.testing.assert_array_equal(low, equation.solution(t, equation.x_bounds[0]))
    np.testing.assert_array_equal(high, equation.solution(t, equation.x_bounds[1]))
    np.testing.assert_array_equal(equation.initial(x), equation.solution(jnp.zeros_like(x), x))


@pytest.mark.parametrize(("cls", "value"), CASES, ids=IDS)
def test_solution_and_mass_are_differentiable_in_the_parameter(cls, value, x64):
    @jax.jit
    def total(p):
        equation = cls(p)
        t = jnp.linspace(*cls.t_bounds, 11)
        return equation.mass(t).sum()

    h = 1e-6
    # One-sided derivatives differ where a front is just leaving: step aside.
    aside = value + 1e-3
    difference = (total(aside + h) - total(aside - h)) / (2 * h)
    np.testing.assert_allclose(jax.grad(total)(aside), difference, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(
        jax.jvp(total, (aside,), (1.0,))[1], difference, rtol=1e-6, atol=1e-8
    )


@pytest.mark.parametrize(("cls", "value"), CASES, ids=IDS)
def test_derivatives_are_finite_everywhere_even_at_the_corner_and_the_front(cls, value):
    equation = cls(value)
    t = jnp.linspace(*cls.t_bounds, 21)[:, None]
    x = jnp.linspace(*cls.x_bounds, 21)[None, :]

    def total(e, t, x):
        return e.solution(t, x).sum() + e.mass(t).sum()

    in_all = jax.jit(jax.grad(total, argnums=(0, 1, 2)))(equation, t, x)
    assert all(bool(jnp.isfinite(g).all()) for g in jax.tree.leaves(in_all))


@pytest.mark.parametrize("cls", EQUATIONS.values(), ids=EQUATIONS)
def test_batches_of_equations_and_jit_agree_with_one_at_a_time(cls):
    values = cls.sample_parameters(jax.random.key(0), 5)
    t = jnp.linspace(*cls.t_bounds, 7)[:, None]
    x = jnp.linspace(*cls.x_bounds, 9)[None, :]
    batch = jax.vmap(cls)(values)
    together = jax.jit(jax.vmap(lambda e: e.solution(t, x)))(batch)
    assert together.shape == (5, 7, 9)
    solution = jax.jit(lambda e: e.solution(t, x))
    for i, value in enumerate(values):
        alone = solution(cls(value))
        # A point on a front may fall to either side by rounding; nowhere else.
        different = np.abs(np.asarray(together[i] - alone)) > 1e-5
        assert different.mean() < 0.03


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
@pytest.mark.parametrize(("cls", "value"), CASES, ids=IDS)
def test_points_decide_the_dtype(cls, value, dtype, x64):
    equation = cls(value)
    t, x = jnp.asarray(0.04, dtype), jnp.linspace(0.0, 1.0, 4, dtype=dtype)
    assert equation.solution(t, x).dtype == dtype
    assert equation.solution(0.04, x).dtype == dtype
    assert equation.flux(t, x).dtype == dtype
    for method in (equation.mass, equation.shock_position):
        assert method(t).dtype == dtype
    for method in (equation.convection, equation.conductivity, equation.kirchhoff):
        assert method(x).dtype == dtype
    tol = 1e-5 if dtype == jnp.float32 else 1e-13
    np.testing.assert_allclose(equation.mass(t), equation.mass(0.04), rtol=tol)


def test_shock_positions_end_where_the_front_leaves():
    t = jnp.array([0.25, 0.5, 0.9, 3.5])
    np.testing.assert_allclose(PorousMedium(3.0).shock_position(t), [0.25, 0.5, 0.9, np.nan])
    np.testing.assert_allclose(Advection(1.0).shock_position(t), [0.75, 1.0, np.nan, np.nan])
    np.testing.assert_allclose(
        Burgers(2.0).shock_position(t), [np.nan, 0.0, 0.4, np.nan], rtol=1e-5
    )
    assert np.isnan(Heat(1.0).shock_position(t)).all()
    np.testing.assert_allclose(Stefan(0.6).shock_position(0.05), 0.235, atol=1e-3)
    assert np.isnan(Stefan(0.6).shock_position(1.0))


def test_the_solution_falls_at_the_shock():
    for equation, t in ((Stefan(0.5), 0.05), (Advection(3.0), 0.1), (Burgers(3.0), 0.5)):
        s = equation.shock_position(t)
        before, after = equation.solution(t, s - 1e-3), equation.solution(t, s + 1e-3)
        assert before > 0.4 and after == 0
    np.testing.assert_allclose(Stefan(0.5).solution(0.05, 1.240125 * 0.05**0.5 - 1e-6), 0.5, 1e-4)


@pytest.mark.parametrize(
    ("threshold", "alpha", "c1"), [(0.5, 1.240125, 0.807155), (0.6, 1.051340, 0.736966)]
)
def test_stefan_constants_have_the_published_values(threshold, alpha, c1):
    np.testing.assert_allclose(stefan_constants(threshold), (alpha, c1), atol=1.5e-6)


@pytest.mark.parametrize("threshold", [1e-6, 0.03, 0.5, 0.55, 0.7, 0.97, 1 - 1e-6])
def test_stefan_constants_match_a_bracketing_solver(threshold, x64):
    def residual(z):
        return threshold * special.erf(z) * z * np.exp(z**2) - (1 - threshold) / np.sqrt(np.pi)

    z = optimize.brentq(residual, 1e-9, 10.0, xtol=1e-15)
    alpha, c1 = stefan_constants(threshold)
    np.testing.assert_allclose(alpha, 2 * z, rtol=1e-9)
    np.testing.assert_allclose(c1, (1 - threshold) / special.erf(z), rtol=1e-9)


def test_stefan_constants_differentiate_to_second_order_under_jit_and_vmap(x64):
    def alpha(u):
        return stefan_constants(u)[0]

    u, h = jnp.array([0.5, 0.6, 0.7]), 1e-5
    first = jax.jit(jax.vmap(jax.grad(alpha)))(u)
    values = [jax.vmap(alpha)(u + d) for d in (-h, 0.0, h)]
    np.testing.assert_allclose(first, (values[2] - values[0]) / (2 * h), rtol=1e-8)
    second = jax.vmap(jax.hessian(alpha))(u)
    by_difference = [jax.vmap(jax.grad(alpha))(u + d) for d in (-h, h)]
    np.testing.assert_allclose(second, (by_difference[1] - by_difference[0]) / (2 * h), rtol=1e-7)


@pytest.mark.parametrize("cls", EQUATIONS.values(), ids=EQUATIONS)
def test_parameters_are_sampled_as_published(cls):
    drawn = np.asarray(cls.sample_parameters(jax.random.key(1), 4000))
    low, high = cls.train_range
    assert low <= drawn.min() and drawn.max() <= high
    np.testing.assert_allclose(drawn.mean(), (low + high) / 2, atol=0.02 * (high - low))
    tests = np.asarray(cls.test_parameters(50))
    np.testing.assert_allclose(tests.reshape(-1, 50)[:, 0], cls.test_values, rtol=1e-6)
    assert cls.name in EQUATIONS and tests.shape == (50 * len(cls.test_values),)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: PorousMedium(0.0), r"`PorousMedium\(exponent=...\)`: expected a number greater"),
        (lambda: PorousMedium(jnp.ones(3)), r"expected a scalar, got shape \(3,\).*vmap"),
        (lambda: Stefan(1.0), r"`Stefan\(threshold=...\)`: expected a number between 0 and 1"),
        (lambda: Stefan(float("nan")), r"`Stefan\(threshold=...\)`: expected finite"),
        (lambda: Heat(-1.0), r"`Heat\(diffusivity=...\)`: expected a number greater than 0"),
        (lambda: Heat(1.0, phase=float("inf")), r"`Heat\(phase=...\)`: expected finite"),
        (lambda: Advection(-2.0), r"`Advection\(speed=...\)`"),
        (lambda: Burgers(0.0), r"`Burgers\(amplitude=...\)`"),
    ],
)
def test_impossible_parameters_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
