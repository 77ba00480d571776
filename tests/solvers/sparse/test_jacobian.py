"""The block-sparse Jacobian: against the dense matrix that it stands for."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.sparse import (
    BlockDiagonal,
    BlockJacobian,
    BlockRows,
    BlockSymmetric,
    block_scaling,
    gram_pattern,
    slot_pairs,
)

SIZES = ((7, 3), (5, 2))


def _jacobian(dtype=np.float32, seed=0):
    """Two variable groups, three factor groups; some factors touch one variable twice."""
    rng = np.random.default_rng(seed)
    groups = []
    for factors, rows, variables in ((9, 3, (0, 0)), (6, 2, (0, 1)), (4, 5, (1,))):
        blocks = tuple(rng.normal(size=(factors, rows, SIZES[v][1])) for v in variables)
        indices = tuple(rng.permutation(factors) % SIZES[v][0] for v in variables)
        if variables == (0, 0):
            indices[1][:2] = indices[0][:2]
        groups.append((blocks, indices, variables))
    J = BlockJacobian(
        tuple(
            BlockRows(
                tuple(jnp.asarray(b, dtype) for b in blocks),
                tuple(jnp.asarray(i, jnp.int32) for i in indices),
                variables,
            )
            for blocks, indices, variables in groups
        ),
        SIZES,
    )
    return J, _dense(groups)


def _dense(groups):
    starts = (0, 21)
    rows = []
    for blocks, indices, variables in groups:
        for f in range(len(blocks[0])):
            row = np.zeros((blocks[0].shape[1], 31))
            for block, index, v in zip(blocks, indices, variables, strict=True):
                d = SIZES[v][1]
                start = starts[v] + index[f] * d
                row[:, start : start + d] += block[f]
            rows.append(row)
    return np.concatenate(rows)


def _one_group(dtype=np.float32, seed=0, held=None):
    rng = np.random.default_rng(seed)
    i, j = rng.integers(0, 6, 14), rng.integers(0, 6, 14)
    blocks = tuple(jnp.asarray(rng.normal(size=(14, 3, 3)), dtype) for _ in range(2))
    indices = (jnp.asarray(i, jnp.int32), jnp.asarray(j, jnp.int32))
    prior = BlockRows(
        (jnp.asarray(rng.normal(size=(6, 3, 3)), dtype),), (jnp.arange(6, dtype=jnp.int32),), (0,)
    )
    return BlockJacobian((BlockRows(blocks, indices, (0, 0)), prior), ((6, 3),))


@jax.jit
def _everything(J, x, u):
    grams = J.gram_matrix(), J.gram_diagonal()
    return J.mv(x), J.T.mv(u), J.as_matrix(), J.T.as_matrix(), *grams


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_products_are_those_of_the_dense_matrix(dtype):
    with jax.enable_x64(dtype is np.float64):
        J, A = _jacobian(dtype)
        rng = np.random.default_rng(1)
        x, u = rng.normal(size=31), rng.normal(size=A.shape[0])
        forward, back, matrix, transposed, gram, grams = _everything(
            J, jnp.asarray(x, dtype), jnp.asarray(u, dtype)
        )
        tolerance = 20 * np.finfo(dtype).eps
        assert forward.dtype == back.dtype == dtype
        np.testing.assert_allclose(forward, A @ x, atol=tolerance * 10)
        np.testing.assert_allclose(back, A.T @ u, atol=tolerance * 10)
        np.testing.assert_allclose(matrix, A, atol=tolerance)
        np.testing.assert_allclose(transposed, A.T, atol=tolerance)
        assert J.T.T is J
        H = A.T @ A
        np.testing.assert_allclose(gram, H, atol=tolerance * 20)
        for n in range(7):
            at = slice(3 * n, 3 * n + 3)
            np.testing.assert_allclose(grams[0][n], H[at, at], atol=tolerance * 20)
        for n in range(5):
            at = slice(21 + 2 * n, 23 + 2 * n)
            np.testing.assert_allclose(grams[1][n], H[at, at], atol=tolerance * 20)


@eqx.filter_jit
def _derivatives(J, x):
    def half_square(J, x):
        return 0.5 * jnp.sum(J.mv(x) ** 2)

    by_vector = jax.grad(half_square, argnums=1)(J, x[0])
    return jax.vmap(J.mv)(x), by_vector, eqx.filter_grad(half_square)(J, x[0])


def test_derivatives_and_batches():
    J, A = _jacobian()
    batched = jax.tree.map(lambda b: jnp.stack([b, 2 * b]) if b.ndim == 3 else b, J)
    axes = jax.tree.map(lambda b: 0 if b.ndim == 3 else None, J)
    both = jax.jit(jax.vmap(BlockJacobian.gram_matrix, in_axes=(axes,)))(batched)
    np.testing.assert_allclose(both, np.stack([A.T @ A, 4 * A.T @ A]), rtol=1e-4, atol=1e-4)
    x = jnp.asarray(np.random.default_rng(2).normal(size=(4, 31)), jnp.float32)
    batch, by_vector, by_matrix = _derivatives(J, x)
    np.testing.assert_allclose(batch, x @ A.T, atol=1e-5)
    np.testing.assert_allclose(by_vector, A.T @ (A @ x[0]), atol=1e-4)
    # With respect to the blocks: d/dB of |B x|^2 / 2 is (J x)_f x_index'.
    group, y = J.groups[0], (A @ np.asarray(x[0]))[:27].reshape(9, 3)
    touched = np.asarray(x[0])[:21].reshape(7, 3)[np.asarray(group.indices[1])]
    want = y[:, :, None] * touched[:, None]
    np.testing.assert_allclose(by_matrix.groups[0].blocks[1], want, atol=1e-4)


@jax.jit
def _lowered(J, x, u):
    policy = Policy(matrix="f16")
    return J.product(x, policy), J.under(policy).T.mv(u), J.under(policy).gram_matrix()


def test_narrow_blocks_neither_overflow_nor_underflow():
    J, A = _jacobian()
    assert J.under(Policy(matrix="f16")).groups[0].blocks[0].dtype == jnp.float16
    x = np.random.default_rng(3).normal(size=31).astype(np.float32)
    for scale in (1e-12, 1.0, 1e12):
        want = A @ (scale * x)
        got, back, _ = _lowered(J, jnp.asarray(scale * x), jnp.asarray(want, jnp.float32))
        assert got.dtype == jnp.float32
        assert np.abs(got - want).max() < 2e-3 * np.abs(want).max()
        assert np.abs(back - A.T @ want).max() < 2e-3 * np.abs(A.T @ want).max()
    zeros = jnp.zeros(31, jnp.float32), jnp.zeros(len(A), jnp.float32)
    gram = _lowered(J, *zeros)[2]
    B = np.asarray(J.under(Policy(matrix="f16")).as_matrix(), np.float64)
    assert gram.dtype == jnp.float32
    # Sums in float16 would be a thousand times as far off.
    np.testing.assert_allclose(gram, B.T @ B, atol=100 * np.finfo(np.float32).eps)
    assert not any(np.any(product) for product in _lowered(J, *zeros)[:2])
    # Without the wider sums a large vector is lost.
    large = jnp.asarray(3e4 * x).astype(jnp.float16)
    assert not np.isfinite(jax.jit(lambda J, x: J.mv(x))(J.astype("float16"), large)).all()


def test_lineax_knows_what_it_is_not():
    J, A = _jacobian()
    for question in (lx.is_symmetric, lx.is_diagonal, lx.is_positive_semidefinite):
        assert not question(J) and not question(J.T)
    assert lx.linearise(J) is J and lx.conj(J) is J
    b = jnp.asarray(A @ np.ones(31), jnp.float32)
    for solver in (lx.QR(), lx.LSMR(rtol=1e-6, atol=1e-6)):
        np.testing.assert_allclose(lx.linear_solve(J, b, solver).value, np.ones(31), atol=1e-3)
    three = jax.jit(lambda J, x: (2 * J + J).mv(x) - 3 * J.mv(x))(J, jnp.ones(31))
    assert np.abs(three).max() < 1e-4


@jax.jit
def _gram(J, pattern, x):
    H = J.gram(pattern)
    return H, H.as_matrix(), H.mv(x), lx.diagonal(H), H.shifted(0.5).as_matrix(), J.as_matrix()


@eqx.filter_jit
def _slope_of_square(J, y):
    return eqx.filter_grad(lambda J: y @ (J.gram_matrix() @ y))(J)


def test_dense_rows_where_factors_touch_most_columns():
    """`gram_matrix` either way, and its derivative, of factors of which none repeats a variable."""
    rng = np.random.default_rng(7)
    for rows in (1, 40):
        blocks = tuple(jnp.asarray(rng.normal(size=(5, rows, 2)), jnp.float32) for _ in range(3))
        indices = tuple(jnp.asarray((np.arange(5) + k) % 4, jnp.int32) for k in range(3))
        J = BlockJacobian((BlockRows(blocks, indices, (0, 0, 0)),), ((4, 2),))
        A = np.asarray(J.as_matrix(), np.float64)
        gram = jax.jit(BlockJacobian.gram_matrix)
        np.testing.assert_allclose(gram(J), A.T @ A, atol=1e-4)
        diagonal = jax.jit(BlockJacobian.gram_diagonal)(J)[0]
        for n in range(4):
            at = slice(2 * n, 2 * n + 2)
            np.testing.assert_allclose(diagonal[n], (A.T @ A)[at, at], atol=1e-4)
        # Of |J y|^2 along the blocks themselves, which is twice that.
        y = rng.normal(size=8).astype(np.float32)
        slope = _slope_of_square(J, y)
        pairs = zip(slope.groups[0].blocks, blocks, strict=True)
        along = sum(float(jnp.vdot(a, b)) for a, b in pairs)
        assert along == pytest.approx(2 * np.sum((A @ y) ** 2), rel=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_gram_by_a_pattern(dtype):
    with jax.enable_x64(dtype is np.float64):
        J = _one_group(dtype)
        x = np.random.default_rng(4).normal(size=18).astype(dtype)
        pattern = gram_pattern(*slot_pairs(J), 6)
        H, dense, product, diagonal, shifted, A = _gram(J, pattern, jnp.asarray(x))
        A = np.asarray(A, np.float64)
        tolerance = 100 * np.finfo(dtype).eps
        np.testing.assert_allclose(dense, A.T @ A, atol=tolerance)
        np.testing.assert_allclose(product, A.T @ (A @ x), atol=10 * tolerance)
        np.testing.assert_allclose(diagonal, np.diag(A.T @ A), atol=tolerance)
        np.testing.assert_allclose(shifted, A.T @ A + 0.5 * np.eye(18), atol=tolerance)
        assert lx.is_symmetric(H) and lx.is_positive_semidefinite(H) and H.T is H
        place = np.asarray(H.rows) * 6 + np.asarray(H.cols)
        assert np.all(np.diff(place) > 0) and np.all(np.asarray(H.rows) > np.asarray(H.cols))
        if dtype is np.float32:
            for solver in (lx.CG(1e-6, 1e-6, max_steps=200), lx.Cholesky()):
                got = lx.linear_solve(H, product, solver).value
                np.testing.assert_allclose(got, x, atol=2e-3)


@jax.jit
def _scaled(J, stretch, held, y):
    J = J.scale_columns((stretch,))
    scales = block_scaling(J, (held,))
    scaled, S = J.scale_columns(scales), BlockDiagonal(scales)
    products = J.mv(S.mv(y)), scaled.mv(y)
    return scaled.gram_diagonal()[0], S.mv(y), products, S.as_matrix(), S.T.as_matrix()


def test_block_scaling_makes_unit_blocks():
    stretch = jnp.asarray(np.diag([1e4, 1.0, 1e-4])[None] * np.ones((6, 1, 1)), jnp.float32)
    held = jnp.arange(6) == 2
    y = np.random.default_rng(5).normal(size=18).astype(np.float32)
    gram, x, (direct, scaled), S, transposed = _scaled(_one_group(), stretch, held, y)
    want = np.where(np.asarray(held)[:, None, None], 0, np.eye(3)[None])
    np.testing.assert_allclose(gram, want, atol=2e-5)
    assert not np.any(np.asarray(x).reshape(6, 3)[2])
    np.testing.assert_allclose(direct, scaled, atol=1e-5 * np.abs(scaled).max())
    np.testing.assert_allclose(S.T, transposed)
    np.testing.assert_allclose(S @ y, x, rtol=1e-4)


def test_block_scaling_of_a_half_precision_jacobian():
    J = _one_group()
    (wide,) = block_scaling(J)
    (narrow,) = block_scaling(J.astype(jnp.float16))
    assert narrow.dtype == jnp.float16
    narrow, wide = np.asarray(narrow, np.float32), np.asarray(wide)
    np.testing.assert_allclose(narrow, wide, rtol=0.05, atol=0.05 * np.abs(wide).max())


def test_columns_that_nothing_touches_do_not_move():
    rows = BlockRows((jnp.ones((2, 2, 2)),), (jnp.array([0, 0]),), (0,))
    (scale,) = block_scaling(BlockJacobian((rows,), ((3, 2),)))
    assert np.isfinite(scale).all() and not np.any(scale[1:])


@pytest.mark.parametrize(
    "make, match",
    [
        (lambda b, i: BlockRows((b,), (i, i), (0,)), "expected one of each per slot, got 1, 2"),
        (lambda b, i: BlockRows((b, b[:, :1]), (i, i), (0, 0)), "same rows"),
        (lambda b, i: BlockRows((b,), (i.astype(float),), (0,)), "expected integers of shape"),
        (lambda b, i: BlockRows((b,), (i[:2],), (0,)), "expected integers of shape"),
        (lambda b, i: BlockRows((b, b.astype("float16")), (i, i), (0, 0)), "expected one dtype"),
        (lambda b, i: BlockJacobian((), ((3, 2),)), "at least one of each"),
        (lambda b, i: BlockJacobian((BlockRows((b,), (i,), (1,)),), ((3, 2),)), "group 1, but"),
        (lambda b, i: BlockJacobian((BlockRows((b,), (i,), (0,)),), ((3, 4),)), "4 columns"),
        (
            lambda b, i: BlockJacobian((BlockRows((b,), (i,), (0,)),), ((3, 2),)).scale_columns(
                (jnp.ones((2, 2, 2)),)
            ),
            "expected shapes",
        ),
        (
            lambda b, i: block_scaling(
                BlockJacobian((BlockRows((b,), (i,), (0,)),), ((3, 2),)), (jnp.ones(2, bool),)
            ),
            "one mask per variable group",
        ),
        (lambda b, i: gram_pattern([0, 1], [1], 3), "two lists of one length, got 2 and 1"),
        (lambda b, i: gram_pattern([0, 3], [1, 1], 3), "indices from 0 to 2, got 1 to 3|0 to 3"),
        (
            lambda b, i: BlockSymmetric(jnp.ones((2, 2, 3)), jnp.ones((1, 3, 3)), i[:1], i[:1]),
            "expected shape",
        ),
        (
            lambda b, i: BlockSymmetric(jnp.ones((2, 3, 3)), jnp.ones((1, 3, 2)), i[:1], i[:1]),
            "lower",
        ),
        (lambda b, i: BlockDiagonal((jnp.ones((2, 3, 2)),)), "expected shapes"),
    ],
)
def test_bad_input_is_named(make, match):
    with pytest.raises(ValueError, match=match):
        make(jnp.ones((4, 3, 2)), jnp.array([0, 1, 2, 0]))


def test_gram_of_the_wrong_problem_is_named():
    J, _ = _jacobian()
    with pytest.raises(ValueError, match="expected one variable group, got 2"):
        slot_pairs(J)
    J = _one_group()
    with pytest.raises(ValueError, match="expected 14 pairs, got 1"):
        J.gram(gram_pattern([0], [1], 6))
