"""CGNR: against dense float64 least squares; every way it can end; inside lineax."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.linear import CGNR, CGNR_RESULTS, cgnr

RNG = np.random.default_rng(0)
TALL = RNG.normal(size=(30, 12)) @ np.diag(10.0 ** np.linspace(0, 2, 12))
RIGHT = RNG.normal(size=30)
EXACT = np.linalg.lstsq(TALL, RIGHT, rcond=None)[0]


def _matrix(array, dtype=jnp.float32):
    return lx.MatrixLinearOperator(jnp.asarray(array, dtype))


@eqx.filter_jit
def _solve(J, right, **settings):
    return cgnr(J, right, **({"max_steps": 200} | settings))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_least_squares(dtype):
    with jax.enable_x64(dtype is np.float64):
        eps = np.finfo(dtype).eps
        solution = _solve(_matrix(TALL, dtype), jnp.asarray(RIGHT, dtype), rtol=10 * eps)
        assert solution.value.dtype == dtype
        assert bool(solution.result == CGNR_RESULTS.successful)
        np.testing.assert_allclose(solution.value, EXACT, atol=2e4 * eps * np.abs(EXACT).max())
        steps, history = int(solution.steps), np.asarray(solution.history)
        assert history.shape == (201,) and np.isfinite(history[: steps + 1]).all()
        assert np.isnan(history[steps + 1 :]).all()
        np.testing.assert_allclose(history[0], np.linalg.norm(TALL.T @ RIGHT), rtol=1e-5)
        assert history[steps] <= 10 * eps * history[0] < history[steps - 1]


def test_damping_start_and_preconditioner():
    J, right = _matrix(TALL), jnp.asarray(RIGHT, jnp.float32)
    damping = np.linspace(1, 3, 12)
    H = TALL.T @ TALL + np.diag(damping)
    want = np.linalg.solve(H, TALL.T @ RIGHT)
    settings = {"damping": jnp.asarray(damping, jnp.float32), "rtol": 1e-5}
    plain = _solve(J, right, **settings)
    np.testing.assert_allclose(plain.value, want, rtol=2e-3, atol=1e-5)
    inverse = _matrix(np.linalg.inv(H))
    helped = _solve(J, right, preconditioner=inverse, y0=jnp.ones(12), **settings)
    np.testing.assert_allclose(helped.value, want, rtol=2e-3, atol=1e-5)
    assert int(helped.steps) <= 4 < int(plain.steps)
    # At the answer there is nothing left to do, whatever rounding left of the gradient.
    again = _solve(J, right, preconditioner=inverse, y0=helped.value, **settings)
    assert int(again.steps) <= 1


def test_stopping_once_steps_gain_little_energy(x64):
    A = np.random.default_rng(1).normal(size=(200, 60)) * np.logspace(0, 2, 60)
    right = np.ones(200)

    def energy(**settings):
        found = _solve(
            _matrix(A, float), jnp.asarray(right), rtol=0.0, stopping="energy", **settings
        )
        image = A @ np.asarray(found.value)
        return float(2 * right @ image - image @ image), int(found.steps)

    for part in (1e-3, 1e-6):
        atol = part * energy(max_steps=200)[0]
        gained, steps = energy(energy_atol=atol)
        # Eight steps gained no more than that, for the first time.
        assert 8 < steps < 150
        assert gained - energy(max_steps=steps - 8)[0] <= atol
        assert energy(max_steps=steps - 1)[0] - energy(max_steps=steps - 9)[0] > atol


def test_stopping_by_energy_holds_what_it_says():
    J, right = _matrix(TALL), jnp.asarray(RIGHT, jnp.float32)
    for rtol in (1e-1, 1e-3):
        solution = _solve(J, right, stopping="energy", rtol=rtol)
        error = np.linalg.norm(TALL @ (solution.value - EXACT))
        assert error <= rtol * np.linalg.norm(TALL @ EXACT)
        assert bool(solution.result == CGNR_RESULTS.successful)


def test_the_textbook_form_is_as_good_in_one_dtype():
    solution = _solve(_matrix(TALL), jnp.asarray(RIGHT, jnp.float32), form="cgls", rtol=1e-4)
    np.testing.assert_allclose(solution.value, EXACT, atol=1e-3 * np.abs(EXACT).max())


ENDS = {
    "max_steps_reached": {"max_steps": 3},
    "non_finite_input": {"right": np.nan},
    "overflow": {"policy": Policy.parse("naive_half"), "scale": 1e3},
    "indefinite_preconditioner": {"preconditioner": _matrix(-np.eye(12))},
    "no_curvature": {"matrix": 0.0, "y0": jnp.zeros(12), "damping": jnp.zeros(())},
}


@pytest.mark.parametrize("name", ENDS)
def test_every_end_is_a_sentence_and_leaves_finite_numbers(name):
    case = dict(ENDS[name])
    right = RIGHT * case.pop("scale", 1.0)
    right[0] = case.pop("right", right[0])
    matrix = TALL.copy()
    if "matrix" in case:
        case.pop("matrix")
        # The gradient has a part that the narrow matrix, which underflows to zero, does not see.
        matrix, case["policy"] = TALL * 1e-12, Policy(matrix="f16", product="f32")
    solution = _solve(_matrix(matrix), jnp.asarray(right, jnp.float32), **case)
    assert bool(solution.result == getattr(CGNR_RESULTS, name)), CGNR_RESULTS[solution.result]
    assert CGNR_RESULTS[solution.result].endswith(".")
    assert np.isfinite(solution.value).all()


def test_nothing_to_do_is_a_success():
    solution = _solve(_matrix(TALL), jnp.zeros(30))
    assert int(solution.steps) == 0 and not np.any(solution.value)
    assert bool(solution.result == CGNR_RESULTS.successful)


@eqx.filter_jit
def _lineax(array, right, tangent, cotangent, solver):
    def solve(array, right):
        solution = lx.linear_solve(lx.MatrixLinearOperator(array), right, solver)
        return solution.value

    value, push = jax.jvp(solve, (array, right), tangent)
    pull = jax.vjp(solve, array, right)[1](cotangent)
    return value, push, pull


@pytest.mark.parametrize("shape", ["tall", "wide"])
def test_derivatives_in_lineax(x64, shape):
    A = RNG.normal(size=(7, 4)) if shape == "tall" else RNG.normal(size=(4, 7))
    m, n = A.shape
    b, dA, db, c = (RNG.normal(size=s) for s in (m, (m, n), m, n))
    solver = CGNR(rtol=1e-13, atol=0.0, record=True)
    value, push, pull = _lineax(A, b, (jnp.asarray(dA), jnp.asarray(db)), jnp.asarray(c), solver)

    def oracle(A, b):
        return np.linalg.pinv(A) @ b

    h = 1e-5
    finite = (oracle(A + h * dA, b + h * db) - oracle(A - h * dA, b - h * db)) / (2 * h)
    np.testing.assert_allclose(value, oracle(A, b), rtol=1e-9)
    np.testing.assert_allclose(push, finite, rtol=1e-6, atol=1e-8)
    # Reverse mode is the transpose of forward mode.
    np.testing.assert_allclose(np.sum(pull[0] * dA) + pull[1] @ db, c @ push, rtol=1e-8)


def test_batches_and_statistics():
    rights = jnp.asarray(RNG.normal(size=(3, 30)), jnp.float32)
    solver = CGNR(rtol=1e-5, atol=0.0, max_steps=100, record=True)

    @jax.jit
    def solve(rights):
        return jax.vmap(lambda b: lx.linear_solve(_matrix(TALL), b, solver, throw=False))(rights)

    solution = solve(rights)
    want = np.linalg.lstsq(TALL, np.asarray(rights, float).T, rcond=None)[0].T
    np.testing.assert_allclose(solution.value, want, atol=1e-3)
    assert solution.stats["history"].shape == (3, 101)
    assert solution.stats["num_steps"].shape == (3,)
    assert bool((solution.stats["result"] == CGNR_RESULTS.successful).all())
    text = jax.jit(solve).lower(rights).as_text()
    assert "callback" not in text


def test_pytrees_and_damping_in_lineax():
    structure = jax.eval_shape(lambda: {"a": jnp.zeros(2), "b": jnp.zeros((2, 1))})
    weights = jnp.array([1.0, 2.0])

    def function(x):
        return [x["a"] * weights, jnp.sum(x["b"]) + x["a"], x["b"][:, 0]]

    operator = lx.FunctionLinearOperator(function, structure)
    x = {"a": jnp.array([1.0, -2.0]), "b": jnp.array([[3.0], [0.5]])}
    got = lx.linear_solve(operator, function(x), CGNR(rtol=1e-6, atol=0.0)).value
    np.testing.assert_allclose(got["a"], x["a"], atol=1e-5)
    np.testing.assert_allclose(got["b"], x["b"], atol=1e-5)

    solver = CGNR(rtol=1e-6, atol=0.0, damping=2.0)
    right = jnp.asarray(RIGHT, jnp.float32)

    def damped(scale):
        return jnp.sum(lx.linear_solve(_matrix(TALL) * scale, right, solver).value)

    want = np.linalg.solve(TALL.T @ TALL + 2 * np.eye(12), TALL.T @ RIGHT).sum()
    np.testing.assert_allclose(damped(jnp.ones(())), want, rtol=1e-3)
    with pytest.raises(ValueError, match="no derivative with respect to the operator"):
        jax.grad(damped)(jnp.ones(()))


@pytest.mark.parametrize(
    "settings, match",
    [
        ({"residual": jnp.ones(3)}, r"expected shape \(30,\) for a matrix of 30 by 12, got \(3,\)"),
        ({"y0": jnp.ones(30)}, r"expected shape \(12,\)"),
        ({"preconditioner": _matrix(np.eye(30))}, "expected 12 by 12, as J'J, got 30 by 30"),
        ({"damping": jnp.ones(3)}, r"a number or shape \(12,\), got \(3,\)"),
        ({"damping": -1.0}, "at least 0, got -1.0"),
        ({"max_steps": -1}, "at least 0, got -1"),
        ({"stopping": "energetic"}, "'gradient', 'energy', 'preconditioned', got 'energetic'"),
        ({"residual": None}, "expected a residual or a gradient, got none"),
        ({"gradient": jnp.ones(30)}, r"`cgnr\(gradient=...\)`: expected shape \(12,\)"),
        ({"form": "lsqr"}, "'recurrence' or 'cgls', got 'lsqr'"),
    ],
)
def test_bad_input_is_named(settings, match):
    with pytest.raises(ValueError, match=match):
        cgnr(_matrix(TALL), **({"residual": jnp.ones(30)} | settings))


def test_bad_types_are_named():
    with pytest.raises(TypeError, match="expected a lineax operator, got .*MatrixLinearOperator"):
        cgnr(jnp.ones((3, 2)), jnp.ones(3))
    operator = lx.FunctionLinearOperator(lambda x: 2 * x, jax.eval_shape(lambda: jnp.zeros(3)))
    with pytest.raises(TypeError, match="cannot store FunctionLinearOperator in float16"):
        cgnr(operator, jnp.ones(3), policy=Policy(matrix="f16"))
    with pytest.raises(ValueError, match=r"`CGNR\(rtol=...\)`: expected at least 0"):
        CGNR(rtol=-1.0, atol=0.0)
    with pytest.raises(TypeError, match=r"`CGNR\(policy=...\)`: .*got 1e-06; name the tolerance"):
        CGNR(1e-6)
