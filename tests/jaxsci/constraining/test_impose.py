"""Laws and boundary conditions together, against dense formulas in float64."""

import jax
import jax.numpy as jnp
import jax.test_util
import lineax as lx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci.conservation import LinearConstraint, Nonnegative, integral
from jaxsci.constraining import (
    CONSTRAIN_RESULTS,
    NonlinearLaw,
    impose,
    impose_with_certificate,
)
from jaxsci.gaussians import Gaussian, WeightedSums
from jaxsci.grids import Grid
from jaxsci.operators.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    enforce,
    residuals,
)

SHAPE = (3, 8)


def _grid():
    return Grid.uniform(t=(0.0, 1.0, SHAPE[0]), x=(0.0, 1.0, SHAPE[1]))


def _conditions(name):
    grid = _grid()
    match name:
        case "values":
            return BoundaryConditions.on(grid, {"x": Dirichlet(1.0)})
        case "derivatives":
            return BoundaryConditions.on(grid, {"x": Neumann(0.3, order=2)})
        case "mixed":
            return BoundaryConditions.on(
                grid,
                {("x", "low"): Neumann(0.3, order=3), ("x", "high"): Robin(0.2, a=1, b=0.5)},
            )
        case "circle":
            return BoundaryConditions(("t", "x"), {"x": Periodic()})
        case "start":
            return BoundaryConditions.on(
                grid, {("t", "low"): Dirichlet(1.0), ("x", "low"): Neumann(0.0, order=2)}
            )
    raise AssertionError(name)


def _rows(conditions, shape):
    """`B`, `g` with `B u = g`, read off the residuals, which are affine in the field."""

    def missed(u):
        found = residuals(u.reshape(1, *shape), conditions)
        return jnp.concatenate([face.residual.ravel() for face in found.values()])

    owned = np.concatenate(
        [
            np.broadcast_to(face.owned, face.residual.shape).ravel()
            for face in residuals(jnp.zeros((1, *shape)), conditions).values()
        ]
    )
    n = int(np.prod(shape))
    zero = np.asarray(missed(jnp.zeros(n)))
    B = np.asarray(jax.jacfwd(missed)(jnp.zeros(n)))
    return B[owned], -zero[owned]


def _dense(mean, cov, A, y):
    gain = cov @ A.T @ np.linalg.pinv(A @ cov @ A.T, rcond=1e-12)
    return mean - gain @ (A @ mean - y), cov - gain @ A @ cov


def _gaussian(kind, n, seed=0):
    rng = np.random.default_rng(seed)
    mean, variance = rng.normal(size=n), rng.uniform(0.2, 2, n)
    if kind == "diagonal":
        return Gaussian.diagonal(mean, variance)
    return Gaussian.low_rank(mean, variance, rng.normal(size=(n, 3)))


@pytest.mark.slow_but(2)
@pytest.mark.parametrize(
    "name, kind",
    [
        ("values", "low rank"),
        ("derivatives", "diagonal"),
        ("mixed", "diagonal"),
        pytest.param("mixed", "low rank", marks=pytest.mark.slow),
        ("circle", "diagonal"),
        pytest.param("circle", "low rank", marks=pytest.mark.slow),
        ("start", "diagonal"),
        pytest.param("start", "low rank", marks=pytest.mark.slow),
    ],
)
def test_dense_formula(name, kind):
    with jax.enable_x64(True):
        conditions, grid = _conditions(name), _grid()
        prior = _gaussian(kind, grid.size)
        b = np.array([1.0, 2.0, -1.0])
        law = integral(grid, b, over="x")
        updated, certificate = impose_with_certificate(
            prior, conservation=law, boundary=conditions, shape=SHAPE
        )
        B, g = _rows(conditions, SHAPE)
        A = np.concatenate([B, np.asarray(law.G.as_matrix())])
        mean, cov = _dense(
            np.asarray(prior.mean), np.asarray(prior.cov.as_matrix()), A, np.concatenate([g, b])
        )
        np.testing.assert_allclose(updated.mean, mean, atol=1e-10)
        np.testing.assert_allclose(updated.cov.as_matrix(), cov, atol=1e-11)
        np.testing.assert_allclose(updated.marginal_var, np.diagonal(cov), atol=1e-11)
        assert certificate.holds
        if name == "mixed":
            draw = updated.sample(jax.random.key(0))
            np.testing.assert_allclose(A @ draw, np.append(g, b), atol=1e-11)
            assert np.isfinite(updated.log_prob(draw))
            off = draw.at[SHAPE[1]].add(0.1)  # the low face at the second time
            assert updated.log_prob(off) == -np.inf


def test_enforced_where_faces_meet():
    """Four faces with derivatives: the points inside are conditioned on the law alone."""
    with jax.enable_x64(True):
        shape = (6, 7)
        grid = Grid.uniform(x=(0.0, 1.0, 6), y=(0.0, 2.0, 7))
        conditions = BoundaryConditions.on(
            grid, {"x": Neumann(0.5, order=2), "y": Robin(1.0, a=1.0, b=2.0, order=1)}
        )
        prior, law = _gaussian("diagonal", grid.size), integral(grid, 1.5)

        def obeying(v):
            return enforce(v.reshape(1, *shape), conditions).ravel()

        E, e = np.asarray(jax.jacfwd(obeying)(prior.mean)), np.asarray(obeying(jnp.zeros(42)))
        G = np.asarray(law.G.as_matrix())
        mean, cov = _dense(
            np.asarray(prior.mean),
            np.asarray(prior.cov.as_matrix()),
            G @ E,
            np.asarray(law.b) - G @ e,
        )
        updated, certificate = impose_with_certificate(
            prior, conservation=law, boundary=conditions, shape=shape, boundary_update="enforce"
        )
        np.testing.assert_allclose(updated.mean, E @ mean + e, atol=1e-12)
        np.testing.assert_allclose(updated.marginal_var, np.diagonal(E @ cov @ E.T), atol=1e-12)
        assert certificate.holds


SIDE = st.sampled_from(
    [
        None,
        Dirichlet(0.7),
        Neumann(-0.4, order=1),
        Neumann(0.3, order=4),
        Robin(0.2, a=1.0, b=0.1, order=2),
    ]
)


@pytest.mark.slow
@settings(max_examples=40)
@given(
    low=SIDE,
    high=SIDE,
    n=st.integers(12, 15),
    x64=st.booleans(),
    channels=st.integers(1, 2),
    update=st.sampled_from(["condition", "enforce"]),
    seed=st.integers(0, 99),
)
def test_both_hold_to_rounding(low, high, n, x64, channels, update, seed):
    with jax.enable_x64(x64):
        grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 2.0, n))
        faces = {("x", s): c for s, c in (("low", low), ("high", high)) if c is not None}
        conditions = BoundaryConditions.on(grid, faces)
        rng = np.random.default_rng(seed)
        dtype = jnp.float64 if x64 else jnp.float32
        size = channels * grid.size
        means = jnp.asarray(100 * rng.normal(size=(2, size)), dtype)
        variances = jnp.asarray(rng.uniform(0, 3, (2, size)), dtype)
        laws = {c: integral(grid, rng.normal(size=3), over="x") for c in range(channels)}

        @jax.jit
        @jax.vmap
        def both(mean, variance):
            _, certificate = impose_with_certificate(
                Gaussian.diagonal(mean, variance),
                conservation=laws,
                boundary=conditions,
                shape=(channels, *grid.shape),
                boundary_update=update,
            )
            return certificate, certificate.holds

        certificate, holds = both(means, variances)
        assert holds.all(), certificate


@pytest.mark.slow
def test_gradients():
    with jax.enable_x64(True):
        conditions, grid = _conditions("mixed"), _grid()
        prior = _gaussian("diagonal", grid.size)

        def squares(u):
            return jnp.mean(u**2, axis=1)

        energy = NonlinearLaw(squares, 1.1 * squares(prior.mean.reshape(SHAPE)))

        def loss(mean, log_variance, b):
            law = integral(grid, b, over="x")
            updated = impose(
                Gaussian.diagonal(mean, jnp.exp(log_variance)),
                conservation=(law, energy),
                boundary=conditions,
                shape=SHAPE,
            )
            return jnp.sum(jnp.sin(updated.mean)) + jnp.sum(updated.marginal_var**2)

        log_variance = jnp.log(prior.cov.diagonal)
        start = (
            prior.mean,
            log_variance,
            integral(grid, 0.0 * jnp.ones(3), over="x").residual(prior.mean),
        )
        jax.test_util.check_grads(jax.jit(loss), start, 1, ["rev"], atol=1e-6, rtol=1e-6)


def test_all_at_once():
    """Values, mass, energy and a sign; none undoes another."""
    with jax.enable_x64(True):
        grid = Grid.uniform(x=(0.0, 1.0, 21))
        x = grid.points()[:, 0]
        prior = Gaussian.diagonal(jnp.sin(jnp.pi * x) - 0.2, jnp.full(21, 0.1))
        updated, certificate = impose_with_certificate(
            prior,
            conservation=(integral(grid, 0.7), NonlinearLaw(lambda u: jnp.sum(u**2) / 20, 0.62)),
            boundary=BoundaryConditions.on(grid, {"x": Dirichlet(0.0)}),
            shape=grid.shape,
        )
        assert certificate.holds
        assert updated.mean[0] == 0 and abs(jnp.trapezoid(updated.mean, x) - 0.7) < 1e-15
        positive, found = impose_with_certificate(
            prior,
            conservation=integral(grid, 0.35),
            boundary=BoundaryConditions.on(grid, {"x": Dirichlet(0.0)}),
            shape=grid.shape,
            inequality=Nonnegative(),
        )
        assert found.holds and positive.mean.min() == 0 and prior.mean.min() < 0


def test_start_that_contradicts_the_law():
    conditions, grid = _conditions("start"), _grid()
    prior = Gaussian.diagonal(jnp.zeros(grid.size), jnp.ones(grid.size))
    law = integral(grid, jnp.array([1.25, 1.0, 1.0]), over="x")
    kwargs = {"conservation": law, "boundary": conditions, "shape": SHAPE}
    with pytest.raises(
        ValueError, match=r"asks for 1.25 in row 0, what can be reached is 1: -0.25"
    ):
        impose(prior, **kwargs)
    updated, certificate = jax.jit(lambda g: impose_with_certificate(g, **kwargs))(prior)
    assert certificate.result == CONSTRAIN_RESULTS.no_variance
    assert jnp.isnan(updated.mean).all() and not certificate.holds


def test_an_ensemble_that_lacks_freedom_is_told_so():
    grid = _grid()
    members = jnp.asarray(np.random.default_rng(3).normal(size=(3, grid.size)), jnp.float32)
    law = integral(grid, jnp.ones(3), over="x")
    for floor in (0.0, 0.1):
        prior = Gaussian.from_samples(members, jnp.full(grid.size, floor))
        if floor:
            impose(prior, conservation=law, shape=SHAPE)
        else:
            with pytest.raises(ValueError, match="3 directions at most.*give it a variance floor"):
                impose(prior, conservation=law, shape=SHAPE)


def test_an_ensemble_is_enforced_but_cannot_be_conditioned():
    grid = _grid()
    members = jnp.asarray(np.random.default_rng(3).normal(size=(4, grid.size)), jnp.float32)
    prior, conditions = Gaussian.from_samples(members), _conditions("values")
    law = integral(grid, jnp.ones(3), over="x")
    kwargs = {"conservation": law, "boundary": conditions, "shape": SHAPE}
    with pytest.raises(ValueError, match="boundary_update='enforce'"):
        impose(prior, **kwargs)
    updated, certificate = impose_with_certificate(prior, **kwargs, boundary_update="enforce")
    assert certificate.holds
    inside = enforce(updated.mean.reshape(1, *SHAPE), conditions)
    np.testing.assert_array_equal(inside.ravel(), updated.mean)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"shape": None}, r"expected the shape of the field, \(C, t, x\)"),
        ({"shape": (3, 9)}, r"field of 24 points, got \(3, 9\)"),
        ({"boundary_update": "enforced"}, "enforce"),
        ({"conservation": {1: "law"}}, "channels 0 to 0, got 1"),
        ({"conservation": {0: 3.0}}, "expected a LinearConstraint, got float"),
        ({"conservation": 3.0}, "or a mapping from channels"),
        ({"conservation": LinearConstraint(jnp.ones(5), 1.0)}, "24 points, got rows over 5"),
        ({"conservation": None, "boundary": None}, "got none"),
        ({"values": {("x", "low"): 1.0}}, "takes no value"),
        ({"values": {("y", "low"): 1.0}}, r"impose\(values=...\)`: .* one on \('y', 'low'\)"),
        ({"shape": SHAPE[::-1]}, r"shape=.*law's grid, \(3, 8\), got \(8, 3\)"),
        (
            {"conservation": LinearConstraint(jnp.ones(24, jnp.float16), jnp.float16(1))},
            "law in float32, as the prediction, got one in float16",
        ),
    ],
)
def test_bad_input(change, match):
    grid = _grid()
    prior = Gaussian.diagonal(jnp.zeros(grid.size), jnp.ones(grid.size))
    kwargs = {
        "conservation": integral(grid, jnp.ones(3), over="x"),
        "boundary": _conditions("values"),
        "shape": SHAPE,
    }
    with pytest.raises((ValueError, TypeError), match=match):
        impose(prior, **(kwargs | change))


def test_batch_is_refused():
    batch = jax.vmap(Gaussian.diagonal)(jnp.zeros((2, 4)), jnp.ones((2, 4)))
    with pytest.raises(ValueError, match=r"got a batch, \(2, 4\)"):
        impose(batch, conservation=LinearConstraint(jnp.ones(4), 1.0))


def test_nan_has_a_result():
    prior = Gaussian(jnp.array([jnp.nan, 0.0]), _gaussian("diagonal", 2).cov)
    _, certificate = impose_with_certificate(
        prior, conservation=LinearConstraint(jnp.ones(2, prior.mean.dtype), 1.0)
    )
    assert certificate.result == CONSTRAIN_RESULTS.non_finite


def test_nan_in_many_variances_shows():
    """The maximum of a large array passes NaN over on a CPU."""
    n = 5000
    variance = jnp.ones(n).at[n // 2].set(jnp.nan)
    prior = Gaussian(jnp.ones(n), lx.DiagonalLinearOperator(variance))
    conditions = BoundaryConditions("x", {"x": Dirichlet(0.0)})
    _, certificate = impose_with_certificate(prior, boundary=conditions, shape=(n,))
    assert np.isnan(certificate.moved)
    assert certificate.result == CONSTRAIN_RESULTS.non_finite


def test_several_laws_of_several_channels():
    """Mass and first moment of one channel, mass of half of the other: rows within rows."""
    with jax.enable_x64(True):
        grid = _grid()
        conditions = BoundaryConditions.on(
            grid, {("x", "low"): Neumann(0.2, order=1), ("x", "high"): Neumann(0.1, order=3)}
        )
        x = jnp.broadcast_to(grid.axis("x").points, SHAPE)
        mass = integral(grid, jnp.array([1.0, 2.0, 0.5]), over="x")
        weights = WeightedSums(mass.G.weights * x, (1,))
        moment = LinearConstraint(weights, jnp.array([0.5, 0.8, 0.1]))
        half = integral(grid, jnp.zeros(3), over="x", domain={"x": (0.5, 1.0)})
        prior = _gaussian("diagonal", 2 * grid.size)
        updated, certificate = impose_with_certificate(
            prior,
            conservation={0: [mass, moment], 1: half},
            boundary=conditions,
            shape=(2, *SHAPE),
        )
        B, g = _rows(conditions, SHAPE)
        zero = np.zeros((3, grid.size))
        A = np.concatenate(
            [
                np.kron(np.eye(2), B),
                *(np.hstack([np.asarray(law.G.as_matrix()), zero]) for law in (mass, moment)),
                np.hstack([zero, np.asarray(half.G.as_matrix())]),
            ]
        )
        y = np.concatenate([g, g, mass.b, moment.b, half.b])
        mean, cov = _dense(np.asarray(prior.mean), np.diag(prior.cov.diagonal), A, y)
        np.testing.assert_allclose(updated.mean, mean, atol=1e-10)
        np.testing.assert_allclose(updated.marginal_var, np.diagonal(cov), atol=1e-11)
        np.testing.assert_allclose(updated.cov.as_matrix(), cov, atol=1e-11)
        assert certificate.holds


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("update", ["condition", "enforce"])
@pytest.mark.parametrize("shape", [{"x": 33}, {"x": 25, "y": 20}], ids=["1-D", "2-D"])
def test_overlapping_laws_of_correlated_points(shape, update):
    # The second law's update is many times larger than what the first may be off by.
    grid = Grid.uniform(t=(0.0, 1.0, 3), **{axis: (0.0, 1.0, n) for axis, n in shape.items()})
    faces = {("x", "low"): Neumann(0.3), ("x", "high"): Dirichlet(1.0)}
    conditions = BoundaryConditions.on(grid, faces)
    part, over = {"x": (0.0, 0.37)}, tuple(shape)
    laws = [
        integral(grid, jnp.array([1.0, 1.1, 1.3]), over=over),
        integral(grid, jnp.array([0.2, 0.3, 0.3]), over=over, domain=part),
    ]

    def holds(key):
        keys = jax.random.split(key, 3)
        prediction = Gaussian.low_rank(
            jax.random.normal(keys[0], (grid.size,)),
            jax.random.uniform(keys[1], (grid.size,), minval=0.1, maxval=1.0),
            jax.random.normal(keys[2], (grid.size, 4)),
        )
        return impose_with_certificate(
            prediction,
            conservation=laws,
            boundary=conditions,
            shape=grid.shape,
            boundary_update=update,
        )[1].holds

    assert jax.jit(jax.vmap(holds))(jax.random.split(jax.random.key(0), 16)).all()
