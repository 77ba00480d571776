"""Residuals of exact and made-up fields, and the SoftC objective."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest
from jax.test_util import check_grads

from jaxsci.equations import Advection, Burgers, Heat, PorousMedium, Stefan
from jaxsci.surrogates import (
    AttentiveNeuralProcess,
    Task,
    anp_loss,
    equation_residual,
    load_anp_weights,
    softc_loss,
)


def points_in(low, high, dtype=np.float64):
    """Points (t, x) in a box where the solution is smooth."""
    unit = np.random.default_rng(0).random((20, 2))
    return jnp.asarray(np.asarray(low) + (np.asarray(high) - np.asarray(low)) * unit, dtype)


@pytest.mark.parametrize(
    ("equation", "low", "high"),
    [
        (lambda: PorousMedium(jnp.asarray(3.0)), (0.6, 0.1), (0.9, 0.5)),
        (lambda: Heat(jnp.asarray(2.0)), (0.1, 0.5), (0.9, 6.0)),
        (lambda: Stefan(jnp.asarray(0.6)), (0.05, 0.01), (0.1, 0.2)),
        (lambda: Advection(jnp.asarray(2.0)), (0.1, 0.0), (0.2, 0.4)),
        (lambda: Burgers(jnp.asarray(3.0)), (0.05, -0.8), (0.2, 0.0)),
    ],
)
def test_exact_solutions_have_no_residual(equation, low, high, x64):
    equation = equation()
    points = points_in(low, high)
    residual = jax.jit(
        lambda at: equation_residual(lambda p: equation.solution(p[:, 0], p[:, 1]), at, equation)
    )(points)
    np.testing.assert_allclose(residual, 0, atol=1e-10)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("exponent", [1.0, 2.5])
def test_made_up_field(exponent, dtype, x64):
    """u = t + x^2: u_t = 1, (u^m u_x)_x = m u^(m-1) 4 x^2 + 2 u^m."""
    points = points_in((0.1, 0.1), (1, 1), dtype)
    equation = PorousMedium(jnp.asarray(exponent, dtype))
    field = jax.jit(lambda p: equation_residual(lambda q: q[:, 0] + q[:, 1] ** 2, p, equation))
    t, x = np.asarray(points, np.float64).T
    u = t + x**2
    expected = 1 - (exponent * u ** (exponent - 1) * 4 * x**2 + 2 * u**exponent)
    got = field(points)
    assert got.dtype == dtype
    np.testing.assert_allclose(got, expected, rtol=1e-5 if dtype == np.float32 else 1e-12)
    batch = jax.vmap(field)(jnp.stack([points, points[::-1]]))
    np.testing.assert_allclose(batch[1], got[::-1], rtol=1e-5)


@pytest.mark.slow
def test_residual_is_differentiable_where_the_field_is_dry(x64):
    """Also for exponents below 2, whose power has an infinite second derivative at 0."""
    points = points_in((0, 0), (1, 1))
    equation = PorousMedium(jnp.asarray(1.5))

    def penalty(shift):
        residual = equation_residual(lambda p: p[:, 0] - p[:, 1] ** 2 + shift, points, equation)
        return jnp.mean(residual**2)

    assert (points[:, 0] - points[:, 1] ** 2 < 0).any()
    check_grads(penalty, (0.01,), order=1, modes=("fwd", "rev"), eps=1e-6)
    dry = equation_residual(lambda p: 0 * p[:, 0], points, equation)
    np.testing.assert_array_equal(dry, 0)


@pytest.fixture(scope="module")
def model():
    return AttentiveNeuralProcess(8, 2, attention_layers=1, decoder_layers=1, key=jr.key(0))


@pytest.fixture(scope="module")
def problem():
    rng = np.random.default_rng(0)
    draw = (rng.random((5, 2)), rng.random(5), rng.random((7, 2)), rng.random(7))
    cx, cy, tx, ty = (jnp.asarray(a, jnp.float32) for a in draw)
    return Task(cx, cy, tx), ty, PorousMedium(2.0)


def test_objective_is_per_target(model, problem):
    """Against the residual from single-point derivatives, with the same z and no masks."""
    task, values, equation = problem
    loss = eqx.filter_jit(lambda w: softc_loss(model, task, values, equation, weight=w))
    z = eqx.filter_jit(lambda: model.encode(task.target_points, values).mean)()

    def mean(t, x):
        one = Task(task.context_points, task.context_values, jnp.stack([t, x])[None])
        return model.predict(one, z)[0][0]

    def flux(t, x):
        return jnp.maximum(mean(t, x), 0) ** 2 * jax.grad(mean, 1)(t, x)

    def residual(point):
        return jax.grad(mean, 0)(*point) - jax.grad(flux, 1)(*point)

    expected = np.mean(np.asarray(jax.jit(jax.vmap(residual))(task.target_points)) ** 2)
    assert expected > 1e-6
    plain = float(eqx.filter_jit(anp_loss)(model, task, values)) / 7
    np.testing.assert_allclose(loss(0.0), plain, rtol=1e-5)
    np.testing.assert_allclose(loss(100.0), plain + 100 * expected, rtol=1e-4)


@pytest.mark.slow
def test_gradient_with_masks_is_finite_and_repeatable(model, problem):
    gradient = eqx.filter_jit(eqx.filter_value_and_grad(softc_loss))
    first, again = (gradient(model, *problem, weight=1.0, key=jr.key(1)) for _ in range(2))
    assert eqx.tree_equal(first, again)
    assert all(bool(jnp.isfinite(leaf).all()) for leaf in jax.tree.leaves(first))


def test_bad_input(model, problem):
    task, values, equation = problem
    with pytest.raises(ValueError, match=r"shape \(n, 2\) of \(t, x\), got \(2,\)"):
        equation_residual(lambda p: p[:, 0], jnp.zeros(2), equation)
    with pytest.raises(ValueError, match=r"softc_loss\(target_values=.* got \(3,\)"):
        softc_loss(model, task, values[:3], equation)


@pytest.mark.data
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
def test_golden_residual(data_dir, dtype, x64):
    with np.load(data_dir / "probconserv" / "1b_pme_weights_anp.npz") as file:
        model = load_anp_weights({name: file[name].astype(dtype) for name in file.files})
    golden = np.load(data_dir / "probconserv" / "1b_pme_golden_loss.npz")
    with np.load(data_dir / "probconserv" / "1b_pme_test.npz") as file:
        names = ("input_contexts", "output_contexts", "input_targets")
        cx, cy, tx = (jnp.asarray(file[n][golden["test_index"]], dtype) for n in names)
    exponents = jnp.asarray(golden["params"][:, 0], dtype)

    def one(task, exponent):
        z = model.latent(task).mean

        def mean(at):
            return model.predict(Task(task.context_points, task.context_values, at), z)[0]

        def slope(axis):
            tangent = jnp.zeros_like(task.target_points).at[:, axis].set(1)
            return jax.jvp(mean, (task.target_points,), (tangent,))[1]

        residual = equation_residual(mean, task.target_points, PorousMedium(exponent))
        moments = model.predict(task, z)
        return *moments, slope(0), slope(1), residual, jnp.mean(residual**2)

    got = jax.jit(jax.vmap(one))(Task(cx, cy[..., 0], tx), exponents)
    names = ("target_mean", "target_std", "grad_t", "grad_x", "residual", "residual_msq")
    for name, array in zip(names, got, strict=True):
        # The golden numbers were made in float64. In float32 a residual of 35, a difference of
        # second derivatives, carries a rounding error of its own (measured: 7e-5).
        np.testing.assert_allclose(
            array,
            golden[name],
            rtol=1e-5 if dtype == np.float32 else 0,
            atol=1e-5 if name.startswith("target") else 5e-5,
            err_msg=name,
        )
