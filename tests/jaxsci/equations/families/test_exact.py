"""Families with exact solutions, against their equations, other formulas and other methods."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import special

from jaxsci.equations.families import (
    BurgersPeriodic,
    BurgersRiemann,
    HeatNeumann,
    StokesSecond,
    WaveNeumann,
)
from jaxsci.equations.families._erfcx import erfcx

# Fourth-order central differences over five points.
FIRST = np.array([1, -8, 0, 8, -1]) / 12
SECOND = np.array([-1, 16, -30, 16, -1]) / 12


def difference(u, axis: int, stencil, h: float, order: int):
    """The derivative along an axis at the inner points."""
    windows = np.lib.stride_tricks.sliding_window_view(np.asarray(u), 5, axis=axis)
    return windows @ stencil / h**order


def drawn(family, seed=0):
    return family.draw_parameters(jax.random.key(seed))


def around(t: float, h: float) -> np.ndarray:
    return t + h * np.arange(-2, 3)


@pytest.mark.parametrize("family", [HeatNeumann(), HeatNeumann(hard=True), StokesSecond(hard=True)])
def test_diffusion_satisfies_its_equation(family, x64):
    p, h, dt = drawn(family), 2e-3, 1e-4
    x = np.arange(0.0, 1.0, h)
    k = float(p[0]) if family.hard else family.conductivity
    early, late = (around(t, dt) for t in (0.03, 0.4))
    for u in jax.jit(lambda p: [family.solution(p, t, x) for t in (early, late)])(p):
        u_t = difference(u, 0, FIRST, dt, 1)[0, 2:-2]
        assert np.abs(u_t).max() > 0.1
        k_u_xx = k * difference(u[2], 0, SECOND, h, 2)
        np.testing.assert_allclose(u_t, k_u_xx, rtol=0, atol=2e-6 * np.abs(u_t).max())


def test_heat_begins_with_its_initial_field_and_takes_in_its_fluxes(x64):
    x, h, t = np.linspace(0.1, 0.9, 9), 1e-3, np.array([0.05, 0.3])
    rows = np.vander(np.arange(7.0), increasing=True).T
    stencil = np.linalg.solve(rows, np.eye(7)[1]) / h
    ends = np.concatenate([h * np.arange(7), 1 - h * np.arange(7)])
    easy, hard = HeatNeumann(), HeatNeumann(hard=True)

    @eqx.filter_jit
    def parts(family, p):
        early, near = family.solution(p, np.array([1e-5]), x)[0], family.solution(p, t, ends)
        return early, family.initial(p, x), near, family.fluxes(p, t)

    # With 3, the initial field is a cosine of the series itself: 0 / 0 in the formula.
    for family, p in ((easy, jnp.array([3.0])), (easy, jnp.array([2.3])), (hard, drawn(hard))):
        early, initial, near, (left, right) = parts(family, p)
        np.testing.assert_allclose(early, initial, atol=2e-4)
        np.testing.assert_allclose(near[:, :7] @ stencil, left, atol=1e-6)
        np.testing.assert_allclose(-near[:, 7:] @ stencil, right, atol=1e-6)
        if not family.hard:
            np.testing.assert_allclose(right, 5 * np.sin(np.pi * t))


def test_heat_is_the_published_data(data_dir):
    file = data_dir / "boon" / "heat_neumann_1d.npz"
    if not file.exists():
        pytest.skip("reference data")
    data = np.load(file)
    omega = data["omega"][:300]
    sample = eqx.filter_jit(jax.vmap(HeatNeumann().sample))(jnp.asarray(omega)[:, None])
    # The frequencies are rounded in the file: 4 pi eps / 2 of the phase at the right end.
    np.testing.assert_allclose(sample.inputs[:, 0], data["a"][:300], rtol=0, atol=8e-7)
    np.testing.assert_allclose(sample.outputs[:, 0], data["u"][:300], rtol=0, atol=8e-7)
    assert HeatNeumann().faces["x", "high"].value == pytest.approx(data["flux_right"].item())


def test_stokes_is_the_formula_of_the_textbook():
    family = StokesSecond(points=9, steps=4, viscosity=0.001, time=2.0)
    sample = jax.jit(family.sample)(jnp.array([5.9], jnp.float32))
    omega, x = np.float64(np.float32(5.9)), np.linspace(0, 1, 9)[None, :]
    k, t = np.sqrt(omega / 0.002), np.array([0.5, 1.0, 1.5, 2.0])[:, None]
    exact = 2 * np.exp(-k * x) * np.cos(k * x - omega * t)
    np.testing.assert_allclose(sample.outputs[0], exact, rtol=0, atol=3e-7)
    start = np.broadcast_to(2 * np.exp(-k * x) * np.cos(k * x), (4, 9))
    np.testing.assert_allclose(sample.inputs[0], start, rtol=0, atol=3e-7)
    np.testing.assert_allclose(sample.values["x", "low"][0], 2 * np.cos(omega * t[:, 0]), atol=3e-7)


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float64])
def test_erfcx(dtype):
    z = np.concatenate([np.linspace(0, 30, 1000), np.geomspace(1e-6, 1e6, 200)])
    with jax.enable_x64(dtype == jnp.float64):
        z = jnp.asarray(z, dtype)
        exact = special.erfcx(np.asarray(z, np.float64))
        eps = 1.0 * np.finfo(dtype).eps
        np.testing.assert_allclose(np.asarray(erfcx(z), np.float64), exact, rtol=30 * eps)


def cole_hopf(nu, places, levels, t, x):
    """The mean of the levels by Gauss-Legendre quadrature over [-8, 9], in float64."""
    nodes, weights = np.polynomial.legendre.leggauss(20)
    ends, potential, parts = [-8.0, *places, 9.0], 0.0, []
    for j, level in enumerate(levels):
        edges = np.linspace(ends[j], ends[j + 1], max(2, int(150 * (ends[j + 1] - ends[j]))))
        half = np.diff(edges)[:, None] / 2
        y = (edges[:-1, None] + half * (1 + nodes)).ravel()
        since = potential + level * (y - ends[max(j, 1)])
        parts.append((y, (half * weights).ravel(), np.full_like(y, level), since))
        potential += level * (ends[j + 1] - ends[j]) if j else 0.0
    y, w, u, potential = np.concatenate(parts, axis=1)
    exponent = -((x - y) ** 2 / (2 * t) + potential) / (2 * nu)
    w = w * np.exp(exponent - exponent.max())
    return (w * u).sum() / w.sum()


JUMPS = [(1.0, 0.0), (0.0, 1.0), (1.3, -0.8), (-1.2, -0.3)]


@pytest.mark.parametrize("nu", [0.1, 0.002])
def test_one_jump_of_any_sign_in_float32(nu):
    family = BurgersRiemann(points=21, steps=3, viscosity=nu)
    levels = np.array(JUMPS, np.float32)
    u = jax.jit(jax.vmap(family.sample))(jnp.asarray(levels)).outputs[:, 0]
    points = family.exact_coordinates()
    for got, (left, right) in zip(np.asarray(u), levels.astype(float), strict=True):
        exact = [
            [cole_hopf(float(np.float32(nu)), [0.5], [left, right], t, x) for x in points["x"]]
            for t in points["t"]
        ]
        np.testing.assert_allclose(got, exact, rtol=0, atol=4e-7)


def test_several_jumps_and_the_equation(x64):
    family = BurgersRiemann(points=15, steps=4, hard=True, jumps=2)
    p = drawn(family, 2)
    nu, places, levels = float(p[0]), np.asarray(p[1:3]), np.asarray(p[3:])
    points = family.exact_coordinates()
    t, x, h, dt = points["t"], points["x"], 2e-3, 2e-4
    fine = np.arange(0.0, 1.0, h)
    u, close = jax.jit(
        lambda p: (family.solution(p, t, x), family.solution(p, around(0.4, dt), fine))
    )(p)
    exact = [[cole_hopf(nu, places, levels, s, y) for y in x] for s in t]
    np.testing.assert_allclose(u, exact, rtol=0, atol=1e-12)
    u_t = difference(close, 0, FIRST, dt, 1)[0, 2:-2]
    flux = np.asarray(close[2]) ** 2 / 2
    right = nu * difference(close[2], 0, SECOND, h, 2) - difference(flux, 0, FIRST, h, 1)
    assert np.abs(u_t).max() > 0.1
    np.testing.assert_allclose(u_t, right, rtol=0, atol=2e-4 * np.abs(u_t).max())
    # The input is the average over a cell, which keeps the mass on the left of each cell's end.
    width = 1 / 14
    grid = np.linspace(-width / 2, 1 + width / 2, 100_001)
    field = levels[np.searchsorted(places, grid)]
    mass = np.concatenate([[0], np.cumsum((field[1:] + field[:-1]) / 2 * np.diff(grid))])
    cells = np.diff(np.interp(np.arange(16) * width - width / 2, grid, mass)) / width
    np.testing.assert_allclose(family.initial(p, x, width), cells, atol=1e-3)


def integrating_factor(u0, nu, time, n):
    """RK4 with the diffusion integrated exactly, dealiased by the two-thirds rule."""
    k = 2 * np.pi * np.arange(n // 2 + 1)
    keep = np.arange(n // 2 + 1) <= n // 3
    steps = int(np.ceil(2.5 * n * time))
    dt = time / steps
    e = np.exp(-nu * k**2 * dt / 2)

    def rate(v):
        return -0.5j * k * np.fft.rfft(np.fft.irfft(v * keep, n) ** 2) * keep

    v = np.fft.rfft(u0)
    for _ in range(steps):
        a = rate(v)
        b = rate(e * (v + dt / 2 * a))
        c = rate(e * v + dt / 2 * b)
        d = rate(e * e * v + dt * e * c)
        v = e * e * v + dt / 6 * (e * e * a + 2 * e * (b + c) + d)
    return np.fft.irfft(v, n)


@pytest.mark.parametrize("hard", [False, True])
def test_periodic_burgers_against_an_integrating_factor(hard, x64):
    family = BurgersPeriodic(
        points=33, modes=24, time=0.7, viscosity=0.02, hard=hard, viscosities=(0.015, 0.1)
    )
    sample = jax.jit(family.draw)(jax.random.key(4))
    n = 256
    u0 = np.asarray(family.initial(sample.parameters, np.arange(n) / n))
    nu = float(sample.parameters[0]) if hard else 0.02
    exact = integrating_factor(u0, nu, 0.7, n)[:: n // 32]
    assert np.abs(exact - u0[:: n // 32]).max() > 0.1
    np.testing.assert_allclose(sample.outputs[0, :-1], exact, rtol=0, atol=2e-7)
    np.testing.assert_allclose(sample.inputs[0, :-1], u0[:: n // 32], rtol=0, atol=1e-13)


def test_random_field_has_the_covariance_of_its_operator():
    family = BurgersPeriodic(points=9, modes=64)
    keys = jax.random.split(jax.random.key(0), 4000)
    u = np.asarray(
        jax.jit(jax.vmap(lambda k: family.initial(family.draw_parameters(k), np.arange(8) / 8)))(
            keys
        )
    )
    k = 2 * np.pi * np.arange(-64, 65)
    variance = 625 / (k**2 + 25) ** 2
    for shift in (0, 1, 4):
        exact = (variance * np.cos(k * shift / 8)).sum()
        found = (u * np.roll(u, shift, axis=1)).mean()
        assert found == pytest.approx(exact, abs=0.08)  # 3 deviations of 4000 fields' mean


@pytest.mark.parametrize("hard", [False, True])
def test_waves_satisfy_their_equation(hard, x64):
    family = WaveNeumann(hard=hard, modes=3, waves=2)
    p, h = drawn(family), 5e-3
    t, x, y = around(1.3, h), around(0.3, h), around(0.8, h)

    @jax.jit
    def parts(p):
        u = family.solution(p, t, x, y)
        slopes = (family.slope(p, axis, t[2:3], x[2:3], y[2:3]) for axis in "xy")
        return u, family.velocity(p, t[2:3], x[2:3], y[2:3]), *slopes

    u, velocity, u_x, u_y = parts(p)
    c = float(p[0]) if hard else 1.0
    second = [float(difference(v, 0, SECOND, h, 2)[0]) for v in (u[:, 2, 2], u[2, :, 2], u[2, 2])]
    first = [float(difference(v, 0, FIRST, h, 1)[0]) for v in (u[:, 2, 2], u[2, :, 2], u[2, 2])]
    assert abs(second[0]) > 1
    np.testing.assert_allclose(second[0], c**2 * (second[1] + second[2]), rtol=1e-5)
    found = [float(v.squeeze()) for v in (velocity, u_x, u_y)]
    np.testing.assert_allclose(found, first, rtol=1e-5)


def test_the_easy_wave_is_its_formula():
    family = WaveNeumann(points=6, steps=3, speed=0.5)
    sample = jax.jit(family.sample)(jnp.array([3.5], jnp.float32))
    x, t = np.cos(np.pi * np.linspace(0, 1, 6)), np.array([2, 4, 6]) / 3
    exact = 3.5 * np.einsum("t,x,y->txy", np.cos(np.sqrt(2) * np.pi * 0.5 * t), x, x)
    np.testing.assert_allclose(sample.outputs[0], exact, atol=1e-6)
    np.testing.assert_allclose(sample.inputs[0, 1], 3.5 * np.outer(x, x), atol=1e-6)
