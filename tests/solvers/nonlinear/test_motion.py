"""Rigid motions against jaxlie and the matrix exponential in float64, and their Jacobians."""

import jax
import jax.numpy as jnp
import jaxlie
import numpy as np
import pytest
import scipy.linalg

from jaxsci.solvers.nonlinear import SE2, SE3
from jaxsci.solvers.nonlinear._motion import inverse_right_jacobian

GROUPS = {"SE2": (SE2(), jaxlie.SE2), "SE3": (SE3(), jaxlie.SE3)}
# Angles around the switches to series, and near a half turn.
ANGLES = [0.0, 1e-9, 1e-6, 1e-4, 3e-3, 0.02, 0.2, 0.49, 0.51, 1.0, 2.0, 3.0, 3.1415]


def _tangents(dim):
    rng = np.random.default_rng(0)
    out = []
    for angle in ANGLES:
        t = rng.normal(size=dim)
        k = 2 if dim == 3 else 3
        t[k:] *= angle / np.linalg.norm(t[k:])
        out.append(t)
    return np.array(out)


@jax.jit
def _everything(motion, a, b):
    def one(a, b):
        x, y = motion.exp(a), motion.exp(b)
        return {
            "exp": x,
            "log": motion.log(x),
            "multiply": motion.multiply(x, y),
            "between": motion.between(x, y),
            "adjoint": motion.adjoint(x),
            "bracket": motion.bracket(a),
            "retract": motion.retract(x, b),
            "increment": motion.increment(x, b),
            "jacobian": inverse_right_jacobian(motion, a),
            "log slope": jax.jacfwd(lambda d: motion.log(motion.multiply(x, motion.exp(d))))(
                jnp.zeros_like(a)
            ),
        }

    return jax.vmap(one)(a, b)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", GROUPS)
def test_motions_agree_with_jaxlie_and_slopes_with_forward_mode(name, dtype):
    motion, group = GROUPS[name]
    a = _tangents(motion.dim)
    b = np.random.default_rng(1).normal(size=a.shape)
    loosely = jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow")
    with jax.enable_x64(True), loosely[0], loosely[1]:
        A, B = group.exp(jnp.asarray(a)), group.exp(jnp.asarray(b))
        expected = {
            "exp": A.parameters(),
            "log": a,
            "multiply": (A @ B).parameters(),
            "between": (A.inverse() @ B).parameters(),
            "adjoint": A.adjoint(),
            "retract": (A @ B).parameters(),
            "increment": (A @ B).parameters() - A.parameters(),
        }
        expected = {k: np.asarray(v) for k, v in expected.items()}
    with jax.enable_x64(dtype == "float64"):
        found = _everything(motion, jnp.asarray(a, dtype), jnp.asarray(b, dtype))
        assert all(v.dtype == dtype for v in found.values())
        found = {k: np.asarray(v, float) for k, v in found.items()}
    eps = np.finfo(dtype).eps
    for key, value in expected.items():
        # A logarithm near a half turn; and jaxlie's exponential is of first order below 1e-5.
        tolerance = max((1e3 if key == "log" else 40) * eps, 2e-6)
        np.testing.assert_allclose(found[key], value, rtol=0, atol=tolerance, err_msg=key)
    exact = np.stack([scipy.linalg.expm(ad) for ad in found["bracket"]])
    np.testing.assert_allclose(found["adjoint"], exact, rtol=0, atol=100 * eps)
    np.testing.assert_allclose(found["log"], a, rtol=0, atol=1e3 * eps)
    # At a half turn the logarithm jumps within a rounding: the last angle is left out there.
    np.testing.assert_allclose(
        found["jacobian"][:-1], found["log slope"][:-1], rtol=0, atol=400 * eps
    )


@pytest.mark.parametrize("name", GROUPS)
def test_increment_is_accurate_relative_to_the_step(name):
    motion, group = GROUPS[name]
    x = np.asarray(motion.exp(jnp.asarray(_tangents(motion.dim)[9], jnp.float32)), np.float64)
    x[-2:] += 1000
    step = 1e-5 * np.random.default_rng(3).normal(size=motion.dim)
    found = motion.increment(jnp.asarray(x, jnp.float32), jnp.asarray(step, jnp.float32))
    x, step = x.astype(np.float32).astype(float), step.astype(np.float32).astype(float)
    with jax.enable_x64(True):
        exact = motion.increment(jnp.asarray(x), jnp.asarray(step))
        moved = motion.multiply(jnp.asarray(x), motion.exp(jnp.asarray(step)))
    np.testing.assert_allclose(found, exact, rtol=0, atol=1e-5 * 1e-6)
    np.testing.assert_allclose(exact, np.asarray(moved) - x, rtol=0, atol=1e-12)
