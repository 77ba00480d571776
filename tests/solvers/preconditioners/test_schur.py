"""Schur-Jacobi against its definition, in dense float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.preconditioners import SchurJacobi

N, P, F, C, D = 4, 9, 24, 3, 2


def problem(seed=0):
    """Cameras, points, Jacobian blocks of random observations (some pairs twice), and `H`."""
    rng = np.random.default_rng(seed)
    cameras, points = rng.integers(0, N, F), rng.integers(0, P, F)
    cameras[-3:], points[-3:] = cameras[:3], points[:3]
    A, B = rng.standard_normal((F, 2, C)), rng.standard_normal((F, 2, D))
    J = np.zeros((F, 2, N * C + P * D))
    for f in range(F):
        J[f, :, cameras[f] * C : cameras[f] * C + C] = A[f]
        J[f, :, N * C + points[f] * D : N * C + points[f] * D + D] = B[f]
    J = J.reshape(2 * F, -1)
    return cameras, points, A, B, J.T @ J


def inputs(H, A, B, dtype, damping):
    camera_blocks = np.stack([H[i * C : i * C + C, i * C : i * C + C] for i in range(N)])
    start = N * C + D * np.arange(P)
    point_blocks = np.stack([H[s : s + D, s : s + D] for s in start])
    cross = A.transpose(0, 2, 1) @ B
    blocks = (jnp.asarray(camera_blocks, dtype), jnp.asarray(point_blocks, dtype))
    return blocks, jnp.asarray(cross, dtype), jnp.asarray(damping, dtype)


def by_definition(H, damping):
    H = H + damping * np.eye(len(H))
    n = N * C
    B, E, inverse = H[:n, :n], H[:n, n:], np.linalg.inv(H[n:, n:])
    S = (B - E @ inverse @ E.T) * np.kron(np.eye(N), np.ones((C, C)))
    left = np.eye(len(H))
    left[:n, n:] = -E @ inverse
    middle = np.zeros_like(H)
    middle[:n, :n], middle[n:, n:] = np.linalg.inv(S), inverse
    return left.T @ middle @ left, np.linalg.inv(S)


@jax.jit
def applied(plan, blocks, cross, damping):
    factor = plan.factor(blocks, cross, damping=damping)
    return factor.as_matrix(), factor.reduced().as_matrix()


def test_is_the_definition(x64):
    cameras, points, A, B, H = problem()
    plan = SchurJacobi().plan(cameras, points, N, P)
    M, reduced = applied(plan, *inputs(H, A, B, jnp.float64, 0.3))
    expected, expected_reduced = by_definition(H, 0.3)
    np.testing.assert_allclose(M, expected, rtol=0, atol=1e-12 * abs(expected).max())
    np.testing.assert_allclose(
        reduced, expected_reduced, rtol=0, atol=1e-12 * abs(expected_reduced).max()
    )


def test_half_precision():
    cameras, points, A, B, H = problem()
    plan = SchurJacobi().plan(cameras, points, N, P)
    tiny = 1e-8  # far outside of what float16 can hold

    @jax.jit
    def halved(plan, blocks, cross, damping):
        policy = Policy(precondition="f16")
        return plan.factor(blocks, cross, policy=policy, damping=damping).as_matrix()

    root = np.sqrt(tiny)
    given = inputs(H * tiny, A * root, B * root, jnp.float32, 0.3 * tiny)
    M = halved(plan, *given)
    expected = by_definition(H, 0.3)[0] / tiny
    np.testing.assert_allclose(M, expected, rtol=0, atol=1e-2 * abs(expected).max())


def test_bad_input():
    cameras, points, A, B, H = problem()
    with pytest.raises(ValueError, match="points=.*0 <= points < 3"):
        SchurJacobi().plan(cameras, points, N, 3)
    with pytest.raises(ValueError, match="one per observation"):
        SchurJacobi().plan(cameras, points[:-1], N, P)
    plan = SchurJacobi().plan(cameras, points, N, P)
    blocks, cross, _ = inputs(H, A, B, jnp.float32, 0.0)
    with pytest.raises(ValueError, match="plan again"):
        plan.factor(blocks, cross[:-1])
