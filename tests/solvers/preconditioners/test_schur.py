"""Preconditioners that eliminate points against their definitions, in dense float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.preconditioners import (
    PRECONDITIONER_RESULTS,
    BlockJacobi,
    CompleteCholesky,
    DenseCholesky,
    IncompleteCholesky,
    SchurComplement,
    SchurJacobi,
)

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


def close(found, expected, tolerance):
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * abs(expected).max())


@pytest.mark.parametrize(
    ("reduced", "seed", "couplings"),
    # Where every two cameras see a common point, IC(0) is exact.
    [(CompleteCholesky(), 0, 5), (CompleteCholesky(), 2, 6), (IncompleteCholesky(), 2, 6)],
)
def test_with_all_couplings_it_is_the_inverse(x64, reduced, seed, couplings):
    cameras, points, A, B, H = problem(seed)
    plan = SchurComplement(reduced).plan(cameras, points, N, P, C)
    assert len(plan.coupling.rows) == couplings
    close_to_the_inverse(plan, H, A, B)


def test_dense_it_is_the_inverse(x64):
    """Pairs that are seen twice come in parts."""
    cameras, points, A, B, H = problem()
    plan = SchurComplement(DenseCholesky()).plan(cameras, points, N, P, C)
    close_to_the_inverse(plan, H, A, B)


def close_to_the_inverse(plan, H, A, B):
    M, left = applied(plan, *inputs(H, A, B, jnp.float64, 0.3))
    expected = np.linalg.inv(H + 0.3 * np.eye(len(H)))
    close(M, expected, 1e-11)
    # The inverse of a Schur complement is a block of the inverse.
    close(left, expected[: N * C, : N * C], 1e-11)


def test_its_diagonal_alone_is_schur_jacobi(x64):
    cameras, points, A, B, H = problem(1)
    given = inputs(H, A, B, jnp.float64, 0.1)
    alone = applied(SchurJacobi().plan(cameras, points, N, P), *given)
    plan = SchurComplement(BlockJacobi()).plan(cameras, points, N, P, C)
    for found, expected in zip(applied(plan, *given), alone, strict=True):
        close(found, np.asarray(expected), 1e-13)


@pytest.mark.parametrize("reduced", [CompleteCholesky(), DenseCholesky()])
def test_cameras_without_a_common_point_and_one_that_is_held(x64, reduced):
    cameras, points = np.array([0, 1, 2, 2]), np.array([0, 1, 2, 3])
    rng = np.random.default_rng(0)
    J = np.zeros((4, 2, 3 * C + 4 * D))
    A, B = rng.standard_normal((4, 2, C)), rng.standard_normal((4, 2, D))
    A[1] = 0  # held: camera 1
    for f in range(4):
        J[f, :, cameras[f] * C : cameras[f] * C + C] = A[f]
        J[f, :, 3 * C + points[f] * D : 3 * C + points[f] * D + D] = B[f]
    H = np.einsum("fri,frj->ij", J, J)
    camera_blocks = jnp.stack([H[i * C : i * C + C, i * C : i * C + C] for i in range(3)])
    point_blocks = jnp.stack([H[s : s + D, s : s + D] for s in 3 * C + D * np.arange(4)])
    plan = SchurComplement(reduced).plan(cameras, points, 3, 4, C)
    assert isinstance(reduced, DenseCholesky) or len(plan.coupling.rows) == 0
    cross = jnp.asarray(A.transpose(0, 2, 1) @ B)
    M, _ = applied(plan, (camera_blocks, point_blocks), cross, jnp.asarray(0.3))
    H += 0.3 * np.eye(len(H))
    close(M, np.linalg.inv(H), 1e-12)


@pytest.mark.parametrize(
    "settings",
    [SchurJacobi(), SchurComplement(CompleteCholesky()), SchurComplement(DenseCholesky())],
)
def test_batches_go_through(settings):
    cameras, points, A, B, H = problem()
    size = (N, P, C) if isinstance(settings, SchurComplement) else (N, P)
    plan = settings.plan(cameras, points, *size)
    blocks, cross, _ = inputs(H, A, B, jnp.float32, 0.0)
    v = jnp.ones((len(H),))

    def value(damping):
        return plan.factor(blocks, cross, damping=damping).mv(v)

    dampings = jnp.array([0.3, 3.0])
    each = jnp.stack([value(d) for d in dampings])
    np.testing.assert_allclose(jax.jit(jax.vmap(value))(dampings), each, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_half_precision(dense):
    cameras, points, A, B, H = problem()
    plan = SchurJacobi().plan(cameras, points, N, P)
    if dense:
        plan = SchurComplement(DenseCholesky()).plan(cameras, points, N, P, C)
    tiny = 1e-8  # far outside of what float16 can hold

    @jax.jit
    def halved(plan, blocks, cross, damping):
        policy = Policy(precondition="f16")
        return plan.factor(blocks, cross, policy=policy, damping=damping).as_matrix()

    root = np.sqrt(tiny)
    given = inputs(H * tiny, A * root, B * root, jnp.float32, 0.3 * tiny)
    M = halved(plan, *given)
    expected = np.linalg.inv(H + 0.3 * np.eye(len(H))) if dense else by_definition(H, 0.3)[0]
    expected = expected / tiny
    np.testing.assert_allclose(M, expected, rtol=0, atol=1e-2 * abs(expected).max())


def test_bad_input():
    cameras, points, A, B, H = problem()
    with pytest.raises(ValueError, match="points=.*0 <= points < 3"):
        SchurJacobi().plan(cameras, points, N, 3)
    with pytest.raises(ValueError, match="one per observation"):
        SchurJacobi().plan(cameras, points[:-1], N, P)
    with pytest.raises(ValueError, match=r"SchurComplement.plan\(cameras=.*0 <= cameras < 2"):
        SchurComplement(BlockJacobi()).plan(cameras, points, 2, P, C)
    narrow = SchurComplement(BlockJacobi()).plan(cameras, points, N, P, C - 1)
    with pytest.raises(ValueError, match=f"cameras of {C - 1} numbers, as planned, got {C}"):
        narrow.factor(*inputs(H, A, B, jnp.float32, 0.0)[:2])
    with pytest.raises(ValueError, match=r"SchurComplement.plan\(cameras=.*0 <= cameras < 2"):
        SchurComplement(DenseCholesky()).plan(cameras, points, 2, P, C)
    with pytest.raises(TypeError, match="reduced=.*CompleteCholesky"):
        SchurComplement("complete")
    plan = SchurJacobi().plan(cameras, points, N, P)
    blocks, cross, _ = inputs(H, A, B, jnp.float32, 0.0)
    with pytest.raises(ValueError, match="plan again"):
        plan.factor(blocks, cross[:-1])


def test_what_nothing_determines_does_not_spoil_a_dense_factor(x64):
    """The second camera and its point see each other alone: undamped, `S` is zero there."""
    plan = SchurComplement(DenseCholesky()).plan(np.array([0, 1]), np.array([0, 1]), 2, 2, 1)
    blocks = jnp.array([[[2.0]], [[1.0]]]), jnp.ones((2, 1, 1))
    factor = plan.factor(blocks, jnp.array([[[0.5]], [[1.0]]]))
    assert factor.inner.result == PRECONDITIONER_RESULTS.successful
    assert jnp.isfinite(factor.mv(jnp.ones(4))).all()
