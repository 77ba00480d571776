"""Derivatives of a minimum against finite differences, and covariances against dense ones."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.solvers.nonlinear import (
    SE2,
    Cauchy,
    Direct,
    Euclidean,
    Factors,
    LevenbergMarquardt,
    Problem,
    Variables,
    between,
    linearise,
    marginal_covariance,
    minimise,
    plan_preconditioner,
)
from jaxsci.solvers.preconditioners import IncompleteCholesky

MOTION, N = SE2(), 4
EDGES = np.array([(0, 1), (1, 2), (2, 3), (3, 0), (0, 2)])


def _data():
    rng = np.random.default_rng(4)
    truth = jax.vmap(MOTION.exp)(jnp.asarray(rng.normal(size=(N, 3))))
    z = jax.vmap(MOTION.between)(*(truth[EDGES[:, k]] for k in (0, 1)))
    z = jax.vmap(MOTION.retract)(z, jnp.asarray(0.2 * rng.normal(size=(len(EDGES), 3))))
    return z, jnp.asarray(1 + rng.uniform(size=(len(EDGES), 3)))


def _problem(z, root, width):
    given = between(MOTION, "poses", EDGES, z, kernel=Cauchy(width))
    factors = eqx.tree_at(
        lambda f: f.sqrt_information, given, root, is_leaf=lambda leaf: leaf is None
    )
    fixed = {"poses": np.arange(N) == 0}
    return Problem({"poses": Variables(MOTION, N)}, [factors], fixed)


X0 = np.tile(np.array([1.0, 0, 0, 0]), (N, 1))


@eqx.filter_jit
def _solved(z, root, width):
    solution = minimise(
        _problem(z, root, width), {"poses": X0}, linear="dense", rtol=1e-24, throw=False
    )
    return solution.values["poses"][1:], solution.cost


@pytest.mark.slow
def test_derivatives_by_measurement_weight_and_width_are_those_of_differences(x64):
    z, root = _data()
    width = jnp.asarray(1.5)
    weights = np.random.default_rng(5).normal(size=(N - 1, 4))

    def number(z, root, width):
        poses, cost = _solved(z, root, width)
        return jnp.sum(poses * weights) + cost

    gradient = jax.jit(jax.grad(number, argnums=(0, 1, 2)))(z, root, width)
    rng = np.random.default_rng(6)
    way = (
        _along(z, jnp.asarray(rng.normal(size=(len(EDGES), 3)))),
        jnp.asarray(rng.normal(size=root.shape)),
        jnp.asarray(0.7),
    )
    forward = jax.jit(lambda p, t: jax.jvp(number, p, t)[1])((z, root, width), way)
    reverse = sum(jnp.sum(g * w) for g, w in zip(gradient, way, strict=True))
    assert float(forward) == pytest.approx(float(reverse), rel=1e-8)
    step = 1e-5
    ends = [
        float(number(*(p + sign * step * w for p, w in zip((z, root, width), way, strict=True))))
        for sign in (1, -1)
    ]
    assert float(forward) == pytest.approx((ends[0] - ends[1]) / (2 * step), rel=1e-6)


def _along(z, step):
    """The direction in which measurements move: they stay motions."""
    moved = jax.vmap(MOTION.retract)
    return jax.jvp(lambda d: moved(z, d), (jnp.zeros_like(step),), (step,))[1]


def _line(x, z):
    return jnp.stack([x[0] * z[0] + x[1] - z[1]])


def _fit(points, weights):
    factors = Factors(_line, "ab", np.zeros((len(points), 1), int), points, weights)
    return Problem({"ab": Variables(Euclidean(2), 1)}, [factors])


def test_a_linear_fit_has_the_derivative_of_the_normal_equations(x64):
    rng = np.random.default_rng(0)
    t = rng.normal(size=6)
    A, w = np.stack([t, np.ones(6)], 1), 0.5 + rng.uniform(size=6)

    def fit(y, w):
        points = jnp.stack([jnp.asarray(t), y], 1)
        solution = minimise(_fit(points, w), {"ab": np.zeros((1, 2))}, throw=False)
        return solution.values["ab"][0]

    y = jnp.asarray(rng.normal(size=6))
    jacobian = jax.jit(jax.jacrev(fit))(y, jnp.asarray(w))
    normal = A.T @ (w[:, None] ** 2 * A)
    np.testing.assert_allclose(jacobian, np.linalg.solve(normal, A.T * w**2), atol=1e-10)


@pytest.mark.parametrize("linear", [pytest.param("dense", marks=pytest.mark.slow), "cg"])
def test_marginal_covariances_are_blocks_of_the_dense_inverse(linear, x64):
    z, root = _data()
    problem = _problem(z, root, jnp.asarray(100.0))
    values = minimise(problem, {"poses": X0}, linear="dense").values
    J = np.asarray(linearise(problem, values)[0].as_matrix())[:, 3:]
    full = np.linalg.inv(J.T @ J).reshape(N - 1, 3, N - 1, 3)
    found = marginal_covariance(problem, values, "poses", [3, 0, 1], linear=linear)
    expected = np.zeros((3, 3, 3, 3))
    where = np.ix_([0, 2], range(3), [0, 2], range(3))
    expected[where] = full[np.ix_([2, 0], range(3), [2, 0], range(3))]
    np.testing.assert_allclose(found, expected, atol=1e-9)


def test_covariance_of_what_is_not_determined_is_an_error(x64):
    z, root = _data()
    held = _problem(z, root, 100.0)
    free = Problem(held.variables, held.factors)
    with pytest.raises(ValueError, match="J'J is singular.*hold one, add a prior"):
        marginal_covariance(free, {"poses": X0}, "poses", [1])
    with pytest.raises(ValueError, match="expected a list of numbers from 0 to 3, got \\[4\\]"):
        marginal_covariance(held, {"poses": X0}, "poses", [4])
    with pytest.raises(ValueError, match="unknown variable group 'pose'; did you mean 'poses'"):
        marginal_covariance(held, {"poses": X0}, "pose", [1])


@pytest.mark.parametrize("linear", ["cgnr", "dense", "cholesky"])
def test_derivative_where_nothing_is_held(linear, x64):
    """Three points of a line known by their distances: these have derivatives, the points may."""
    pairs, z = np.array([(0, 1), (1, 2), (0, 2)]), jnp.array([1.0, 2.0, 3.5])

    def problem(z):
        far = Factors(lambda a, b, z: b - a - z, ("x", "x"), pairs, z[:, None])
        return Problem({"x": Variables(Euclidean(1), 3)}, [far])

    linear = Direct().planned(problem(z)) if linear == "cholesky" else linear

    @jax.jit
    def distances(z):
        start = {"x": jnp.array([[0.0], [1.0], [3.0]])}
        method = LevenbergMarquardt()
        solution = minimise(problem(z), start, method=method, linear=linear, throw=False)
        return jnp.diff(solution.values["x"][:, 0])

    wanted = np.linalg.pinv(np.array([[1.0, 0], [0, 1], [1, 1]]))
    np.testing.assert_allclose(jax.jacrev(distances)(z), wanted, atol=1e-9)
    np.testing.assert_allclose(jax.jacfwd(distances)(z), wanted, atol=1e-9)


T = np.linspace(0.0, 2.0, 6)
DECAYING = 2 * np.exp(-1.3 * T) + 0.2 * np.cos(7 * T)


def _decay(a, b, point):
    return a * jnp.exp(-b * point[0]) - point[1]


def _decaying(y, read=None):
    points, both = jnp.stack([jnp.asarray(T), y], 1), np.tile(np.arange(2), (len(T), 1))
    residual = _decay if read is None else lambda a, b, _: _decay(a, b, read)
    factors = [Factors(residual, ("ab", "ab"), both, points)]
    return Problem({"ab": Variables(Euclidean(1), 2)}, factors)


def _rate(problem, **settings):
    """Amplitude times rate of an exponential through points that do not lie on one."""
    start = {"ab": jnp.ones((2, 1))}
    return minimise(problem, start, rtol=1e-24, throw=False, **settings).values["ab"].prod()


PLANNED = {
    "cgnr": lambda problem: {},
    "dense": lambda problem: {"linear": "dense"},
    "cholesky": lambda problem: {"linear": Direct().planned(problem)},
    "preconditioner": lambda problem: {
        "preconditioner": plan_preconditioner(problem, IncompleteCholesky())
    },
}


@pytest.mark.parametrize("planned", PLANNED.values(), ids=PLANNED)
def test_second_derivatives_are_those_of_differences(planned, x64):
    y = jnp.asarray(DECAYING)
    settings = planned(_decaying(y))
    v, h = jnp.asarray(np.random.default_rng(6).normal(size=len(T))), 1e-5
    slope = jax.jit(jax.grad(lambda y: _rate(_decaying(y), **settings)))
    differences = (slope(y + h * v) - slope(y - h * v)) / (2 * h)
    assert np.abs(differences).max() > 0.1
    forward = jax.jit(lambda y: jax.jvp(slope, (y,), (v,))[1])(y)
    np.testing.assert_allclose(forward, differences, atol=1e-7)
    reverse = jax.jit(jax.grad(lambda y: slope(y) @ v))(y)
    np.testing.assert_allclose(reverse, differences, atol=1e-7)


def test_a_derivative_by_what_the_problem_does_not_hold_is_an_error(x64):
    point = jnp.array([1.0, 0.5])
    y = jnp.asarray(DECAYING)
    assert np.isfinite(jax.jit(lambda p: _rate(_decaying(y, p), linear="dense"))(point))
    for derivative in (jax.grad, jax.jacfwd, lambda f: jax.jit(jax.grad(f))):
        with pytest.raises(ValueError, match="a value that a derivative is taken by.*measurement"):
            derivative(lambda p: _rate(_decaying(y, p), linear="dense"))(point)
