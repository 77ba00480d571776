"""Integrals, flux balances and curvature against closed forms."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxsci.conservation import condition, curvature, flux_balance, integral
from jaxsci.gaussians import Gaussian, WeightedSums
from jaxsci.grids import Grid

GRID = Grid.uniform(t=(0.0, 1.0, 5), x=(0.0, 2.0, 9))


def test_one_row_for_each_point_that_is_left(x64):
    grid = Grid.from_points(t=[0.0, 0.1, 1.0], x=np.linspace(0, 2, 7) ** 2, y=[0.0, 1.0, 3.0])
    field = np.random.default_rng(0).normal(size=grid.shape)
    t, x, y = (np.asarray(axis.points) for axis in grid.axes)
    over_x = np.trapezoid(field, x, axis=1)
    cases = [
        ("x", over_x.ravel()),
        (("y", "x"), np.trapezoid(over_x, y, axis=1)),
        (("t", "y"), np.trapezoid(np.trapezoid(field, y, axis=2), t, axis=0)),
        (None, [np.trapezoid(np.trapezoid(over_x, y, axis=1), t)]),
    ]
    for over, expected in cases:
        constraint = integral(grid, np.zeros(len(expected)), over=over)
        assert isinstance(constraint.G, WeightedSums)
        np.testing.assert_allclose(constraint.residual(field.ravel()), expected, atol=1e-13)
        np.testing.assert_allclose(constraint.G.as_matrix() @ field.ravel(), expected, atol=1e-13)
        back = jnp.cos(jnp.arange(len(expected), dtype=float))
        np.testing.assert_allclose(constraint.G.T.mv(back), constraint.G.as_matrix().T @ back)


def test_rules_and_domains_reach_the_weights():
    for rule, domain in (("right", None), (None, {"x": (0.3, 1.9)})):
        constraint = integral(GRID, np.ones(5), over="x", rule=rule, domain=domain, noise=0.1)
        expected = GRID.weights(rule, over="x", domain=domain)
        np.testing.assert_array_equal(constraint.G.weights, expected)
        np.testing.assert_array_equal(constraint.R, np.full(5, 0.1, np.float32))
    cells = Grid.cells(x=[0.0, 1.0, 3.0])
    np.testing.assert_array_equal(integral(cells, 1.0).G.weights, [1.0, 2.0])


def test_an_integral_can_be_traced_and_sharded_by_axis():
    field = jnp.ones(GRID.size)
    residual = jax.jit(lambda g, b: integral(g, b, over="x").residual(field))(GRID, jnp.ones(5))
    np.testing.assert_allclose(residual, np.ones(5), rtol=1e-6)


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: integral(GRID, 1.0, over="x"), r"each of 5 rows, got shape \(\)"),
        (lambda: integral(GRID, np.ones(4), over="x"), r"each of 5 rows, got shape \(4,\)"),
        (lambda: integral(GRID, 1.0, over="z"), "unknown axis 'z'"),
        (lambda: integral(GRID, 1.0, rule="simpson"), "unknown quadrature rule 'simpson'"),
        (lambda: integral(GRID, 1.0, domain={"x": (0.0, 3.0)}), "interval inside"),
        (lambda: integral(GRID, np.nan), "expected finite numbers"),
        (
            lambda: integral(GRID, 1.0, over=()),
            "axes of a field",
        ),
    ],
)
def test_bad_integrals_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


# u = exp(-nu t) cos(x) on [0, 1]: u_t + F_x = 0 with F = -nu u_x = nu exp(-nu t) sin(x).
NU = 1.7


@pytest.mark.slow
def test_heat_equation_with_known_boundary_fluxes(x64):
    grid = Grid.from_points(t=[0.0, 0.1, 0.35, 1.0], x=np.linspace(0, 1, 401))
    t = np.asarray(grid.axis("t").points)
    expected = np.exp(-NU * t) * np.sin(1.0)
    flux = {"x": (0.0, lambda t: NU * jnp.exp(-NU * t) * jnp.sin(1.0))}
    constraint = flux_balance(grid, np.sin(1.0), flux)
    np.testing.assert_allclose(constraint.b, expected, rtol=1e-13)
    assert constraint.R is None
    fine = Grid.uniform(t=(0.0, 1.0, 2001), x=(0.0, 1.0, 3))
    t = np.asarray(fine.axis("t").points)
    values = {"x": (np.zeros(2001), NU * np.exp(-NU * t) * np.sin(1.0))}
    b = flux_balance(fine, np.sin(1.0), values).b
    np.testing.assert_allclose(b, np.exp(-NU * t) * np.sin(1.0), atol=1e-6)
    u = np.exp(-NU * 0.35) * np.cos(grid.axis("x").points)
    field = np.zeros(grid.shape)
    field[2] = u
    np.testing.assert_allclose(constraint.residual(field.ravel())[2], 0, atol=1e-6)


def _two_dimensional(order):
    """u = 1 + t (x + 2 y): fluxes F = (x^2, y), so s = x + 2 y + 2 x + 1, on [0,1] x [0,2]."""
    axes = {"t": (0.0, 1.5, 4), "x": (0.0, 1.0, 41), "y": (0.0, 2.0, 51)}
    return Grid.uniform(**{name: axes[name] for name in order})


@pytest.mark.parametrize("order", ["txy", "xty", "xyt"])
def test_two_dimensional_budget_with_a_source_whatever_the_order(order, x64):
    grid = _two_dimensional(order)
    t = np.asarray(grid.axis("t").points)
    # int u = 2 + t (1 + 4); fluxes integrated over the faces: x: (0, 1 * 2), y: (0, 2 * 1).
    expected = 2 + 5 * t
    points = np.asarray(grid.points()).reshape(*grid.shape, 3)
    x, y = (points[..., grid.names.index(n)] for n in "xy")
    fluxes = {"x": (0.0, 2.0), "y": (0.0, 2.0)}
    sources = [9.0, np.full(4, 9.0), lambda t: 9.0 + 0 * t, x + 2 * y + 2 * x + 1]
    for source in sources:
        constraint = flux_balance(grid, 2.0, fluxes, source=source)
        np.testing.assert_allclose(constraint.b, expected, rtol=1e-12)
    on_faces = {"x": (0.0, np.ones((4, 51))), "y": (np.zeros((4, 41)), np.full((4, 41), 2.0))}
    np.testing.assert_allclose(flux_balance(grid, 2.0, on_faces, source=9.0).b, expected)
    field = 1 + points[..., grid.names.index("t")] * (x + 2 * y)
    np.testing.assert_allclose(constraint.residual(field.ravel()), 0, atol=1e-12)


def test_a_periodic_axis_has_no_flux():
    grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 1.0, 8), periodic=("x",))
    np.testing.assert_allclose(flux_balance(grid, 0.5, {}).b, np.full(3, 0.5))


def test_uncertain_fluxes_enter_R_as_the_time_integral_makes_them(x64):
    t = np.array([0.0, 0.2, 0.5, 1.0])
    grid = Grid.from_points(t=t, x=np.linspace(0, 1, 5))
    running = np.stack([np.trapezoid(np.eye(4)[:, : i + 1], t[: i + 1]) for i in range(4)])
    root = np.random.default_rng(0).normal(size=(4, 4))
    std, cov = np.array([0.1, 0.2, 0.3, 0.4]), root @ root.T
    got = flux_balance(grid, 1.0, {"x": (1.0, 2.0)}, flux_std={"x": (std, cov)}, initial_std=0.5)
    expected = running @ (np.diag(std**2) + cov) @ running.T + 0.25
    np.testing.assert_allclose(got.R, expected, rtol=1e-12)
    only = flux_balance(grid, 1.0, {"x": (1.0, 2.0)}, flux_std={"x": (0.1, 0.0)})
    np.testing.assert_allclose(only.R, 0.01 * running @ running.T, atol=1e-15)
    # Totals drawn with random fluxes have that covariance.
    draws = 1 + (std * np.random.default_rng(1).normal(size=(100_000, 4))) @ running.T
    sampled = flux_balance(grid, 1.0, {"x": (0.0, 0.0)}, flux_std={"x": (std, 0.0)}).R
    np.testing.assert_allclose(np.cov(draws.T), sampled, atol=1e-3)


@pytest.mark.parametrize("uncertain", ["initial", "fluxes", "both"])
def test_conditioning_on_an_uncertain_budget(uncertain, x64):
    given = {
        "initial": {"initial_std": 0.1},
        "fluxes": {"flux_std": {"x": (0.1, 0.2)}},
        "both": {"initial_std": 0.1, "flux_std": {"x": (0.1, 0.2)}},
    }[uncertain]
    grid = GRID.astype(jnp.float64)
    constraint = flux_balance(grid, 1.0, {"x": (0.5, 0.0)}, **given)
    rng = np.random.default_rng(0)
    prior = Gaussian.diagonal(rng.normal(size=grid.size), 0.5 + rng.uniform(size=grid.size))

    @jax.jit
    def update(prior, constraint):
        posterior = condition(prior, constraint)
        sample = posterior.sample(jax.random.key(0))
        return posterior, posterior.cov.as_matrix(), posterior.log_prob(sample), sample

    posterior, matrix, log_prob, sample = update(prior, constraint)
    G, P = np.asarray(constraint.G.as_matrix()), np.diag(prior.marginal_var)
    gain = P @ G.T @ np.linalg.inv(G @ P @ G.T + constraint.R)
    np.testing.assert_allclose(posterior.mean, prior.mean - gain @ constraint.residual(prior.mean))
    np.testing.assert_allclose(matrix, P - gain @ G @ P, atol=1e-13)
    # The density on the range of the covariance, which exact rows make singular.
    values, vectors = np.linalg.eigh(matrix)
    kept = values > 1e-10
    assert kept.sum() == grid.size - {"initial": 4, "fluxes": 1, "both": 0}[uncertain]
    white = vectors[:, kept].T @ (sample - posterior.mean)
    expected = -0.5 * np.sum(white**2 / values[kept] + np.log(2 * np.pi * values[kept]))
    np.testing.assert_allclose(log_prob, expected, rtol=1e-8)
    if uncertain != "both":
        off = sample.at[0].add(1.0)  # breaks what is exact, by far
        assert posterior.log_prob(off) == -jnp.inf


def test_a_budget_is_differentiable(x64):
    def total(initial, rate, std):
        fluxes = {"x": (lambda t: jnp.exp(-rate * t), 0.2 * rate)}
        made = flux_balance(GRID.astype(jnp.float64), initial, fluxes, flux_std={"x": (std, 0.1)})
        return jnp.sum(made.b**2) + jnp.sum(made.R)

    jax.test_util.check_grads(jax.jit(total), (1.0, 0.7, 0.3), order=1, rtol=1e-7, atol=1e-7)


WALLS = {"x": (0.0, 0.0)}
CIRCLE = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 1.0, 8), periodic=("x",))


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda: flux_balance(GRID.spatial, 1.0, WALLS), "expected a time axis 't'"),
        (lambda: flux_balance(GRID, 1.0, {}), "axis 'x', got none; a closed wall is"),
        (lambda: flux_balance(GRID, 1.0, WALLS | {"y": (0, 0)}), "unknown axis 'y'"),
        (lambda: flux_balance(CIRCLE, 1.0, WALLS), "axis 'x' has no boundary"),
        (lambda: flux_balance(GRID, 1.0, WALLS | {"t": (0, 0)}), "axis 't' has no boundary"),
        (lambda: flux_balance(GRID, 1.0, {"x": 0.0}), r"fluxes=.*a pair \(low, high\), got 0.0"),
        (lambda: flux_balance(GRID, 1.0, {"x": (0.0, np.ones(4))}), r"fluxes\['x'\] high.*\(4,\)"),
        (lambda: flux_balance(GRID, 1.0, {"x": (lambda t: jnp.ones(2), 0.0)}), "a function from"),
        (lambda: flux_balance(GRID, 1.0, WALLS, source=np.ones((5, 8))), r"source.*\(5, 8\)"),
        (lambda: flux_balance(GRID, np.ones(5), WALLS), r"initial=.*got shape \(5,\)"),
        (lambda: flux_balance(GRID, np.nan, WALLS), "expected finite numbers"),
        (lambda: flux_balance(GRID, 1.0, WALLS, flux_std={"x": 0.1}), "flux_std=.*a pair"),
        (lambda: flux_balance(GRID, 1.0, WALLS, flux_std={"x": (-0.1, 0)}), "deviations >= 0"),
        (lambda: flux_balance(GRID, 1.0, WALLS, flux_std={"x": (np.ones(4), 0)}), r"\(4,\)"),
        (lambda: flux_balance(GRID, 1.0, WALLS, flux_std={"x": (np.ones((4, 4)), 0)}), r"\(4, 4\)"),
        (lambda: flux_balance(GRID, 1.0, WALLS, initial_std=-1.0), "initial_std=.*>= 0"),
    ],
)
def test_bad_budgets_are_named(make, match):
    with pytest.raises(ValueError, match=match):
        make()


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_curvature_rows_and_noise(correlation, x64):
    s = 0.1 + np.random.default_rng(0).uniform(size=8)
    constraint = curvature(Gaussian.diagonal(np.zeros(8), s**2), correlation)
    u = np.random.default_rng(1).normal(size=8)
    np.testing.assert_allclose(constraint.residual(u), np.diff(u, 2), atol=1e-14)
    a, (s0, s1, s2) = correlation, (s[:-2], s[1:-1], s[2:])
    noise = s0**2 + 4 * s1**2 + s2**2 - 4 * a * s0 * s1 + 2 * a**2 * s0 * s2 - 4 * a * s1 * s2
    np.testing.assert_allclose(constraint.R, noise, rtol=1e-12)
    # It is the variance of [1, -2, 1] under the correlations that it states.
    correlations = np.array([[1, a, a**2], [a, 1, a], [a**2, a, 1]])
    row = np.array([1, -2, 1])
    of_first = row @ (correlations * np.outer(s[:3], s[:3])) @ row
    np.testing.assert_allclose(np.asarray(constraint.R)[0], of_first, rtol=1e-12)


def test_curvature_straightens_and_is_differentiable(x64):
    mean = jnp.asarray(np.random.default_rng(0).normal(size=8))

    def bend(variance):
        prior = Gaussian.diagonal(mean, variance)
        return jnp.sum(jnp.diff(condition(prior, curvature(prior)).mean, 2) ** 2)

    variance = jnp.linspace(0.1, 1.0, 8)
    assert bend(variance) < 0.5 * jnp.sum(jnp.diff(mean, 2) ** 2)
    jax.test_util.check_grads(jax.jit(bend), (variance,), order=1, rtol=1e-6, atol=1e-6)
    some_known = variance.at[2:6].set(0.0)
    assert np.isfinite(jax.jit(jax.grad(bend))(some_known)).all()
