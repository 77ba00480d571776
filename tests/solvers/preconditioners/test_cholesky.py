"""Incomplete Cholesky against dense factorisations and a plain loop, in float64."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.preconditioners import (
    PRECONDITIONER_RESULTS,
    BlockJacobi,
    CholeskyFactor,
    IncompleteCholesky,
    PointJacobi,
)
from jaxsci.solvers.preconditioners._orders import ORDERS, elimination_order
from jaxsci.solvers.preconditioners._pattern import fill_pattern, levels


class Matrix(eqx.Module):
    """A block symmetric matrix as plain arrays."""

    diagonal: Any
    lower: Any


N, D = 14, 2


def graph(seed=0, extra=14):
    """A connected graph: a chain, then random pairs."""
    rng = np.random.default_rng(seed)
    pairs = {(i + 1, i) for i in range(N - 1)}
    while len(pairs) < N - 1 + extra:
        i, j = sorted(rng.choice(N, 2, replace=False).tolist(), reverse=True)
        pairs.add((i, j))
    rows, cols = np.array(sorted(pairs)).T
    return rows, cols


def matrix(rows, cols, seed=1, prior=0.1):
    """A pose-graph-like matrix: J'J of random relative measurements, plus a prior."""
    rng = np.random.default_rng(seed)
    A, B = rng.standard_normal((2, len(rows), D, D)) * 0.3
    A, B = A + np.eye(D), B - np.eye(D)
    diagonal = np.tile(prior * np.eye(D), (N, 1, 1))
    np.add.at(diagonal, rows, A.transpose(0, 2, 1) @ A)
    np.add.at(diagonal, cols, B.transpose(0, 2, 1) @ B)
    return diagonal, A.transpose(0, 2, 1) @ B


def dense(rows, cols, diagonal, lower):
    H = np.zeros((N, D, N, D))
    H[np.arange(N), :, np.arange(N)] = diagonal
    H[rows, :, cols] = lower
    H[cols, :, rows] = lower.transpose(0, 2, 1)
    return H.reshape(N * D, N * D)


def incomplete(H, rows, cols, order):
    """Block IC(0) in the given order, by the textbook's loops."""
    p = np.asarray(order)
    A = H.reshape(N, D, N, D).transpose(0, 2, 1, 3)[p][:, p]
    keep = np.eye(N, dtype=bool)
    keep[rows, cols] = keep[cols, rows] = True
    keep = keep[p][:, p]
    L = np.zeros_like(A)
    for j in range(N):
        S = A[j, j] - sum(L[j, k] @ L[j, k].T for k in range(j))
        L[j, j] = np.linalg.cholesky(S)
        for i in range(j + 1, N):
            if keep[i, j]:
                S = A[i, j] - sum((L[i, k] @ L[j, k].T for k in range(j)), np.zeros((D, D)))
                L[i, j] = S @ np.linalg.inv(L[j, j]).T
    L = L.transpose(0, 2, 1, 3).reshape(N * D, N * D)
    back = np.argsort(p)
    M = np.linalg.inv(L @ L.T).reshape(N, D, N, D)[back][:, :, back]
    return M.reshape(N * D, N * D)


@jax.jit
def factor_and_apply(plan, diagonal, lower, damping, vectors):
    factor = plan.factor(Matrix(diagonal, lower), damping=damping)
    return jax.vmap(factor.mv)(vectors), factor.shift, factor.result


def applied(plan, diagonal, lower, damping=0.0):
    """The whole of `M`, and what happened."""
    dtype = jnp.result_type(float)
    diagonal, lower = jnp.asarray(diagonal, dtype), jnp.asarray(lower, dtype)
    M, shift, result = factor_and_apply(
        plan, diagonal, lower, jnp.asarray(damping, dtype), jnp.eye(N * D, dtype=dtype)
    )
    return np.asarray(M, np.float64).T, float(shift), result


def test_ic0_is_the_textbooks(x64):
    rows, cols = graph()
    H = dense(rows, cols, *matrix(rows, cols))
    plan = IncompleteCholesky("natural", width=4).plan(rows, cols, N, D)
    M, shift, result = applied(plan, *matrix(rows, cols), damping=0.2)
    expected = incomplete(H + 0.2 * np.eye(N * D), rows, cols, range(N))
    np.testing.assert_allclose(M, expected, rtol=0, atol=1e-12 * abs(expected).max())
    assert shift == 0 and result == PRECONDITIONER_RESULTS.successful


def test_full_fill_is_the_inverse():
    rows, cols = graph()
    diagonal, lower = matrix(rows, cols)
    plan = IncompleteCholesky("amd", fill=N, width=4).plan(rows, cols, N, D)
    M, shift, _ = applied(plan, diagonal, lower)
    expected = np.linalg.inv(dense(rows, cols, diagonal, lower))
    assert shift == 0
    np.testing.assert_allclose(M, expected, rtol=0, atol=1e-4 * abs(expected).max())


def test_fill_keeps_what_the_level_rule_says():
    rows, cols = graph()
    level = np.full((N, N), 99)
    level[rows, cols] = level[cols, rows] = 0
    for k in range(N):
        through = level[:, k, None] + level[None, k, :] + 1
        level[k + 1 :, k + 1 :] = np.minimum(level, through)[k + 1 :, k + 1 :]
    for fill in (1, 2):
        i, j = fill_pattern(rows, cols, N, fill)
        np.testing.assert_array_equal(np.argwhere(np.tril(level <= fill, -1)), np.stack([i, j], 1))


@pytest.mark.parametrize("order", list(ORDERS))
def test_orders(order):
    rows, cols = graph()
    far = rows + 3 * N, cols + 3 * N  # a second component; between them, variables without edges
    i, j = (np.concatenate(pair) for pair in zip((rows, cols), far, strict=True))
    p = elimination_order(order, i, j, 4 * N)
    np.testing.assert_array_equal(np.sort(p), np.arange(4 * N))


def test_nested_dissection_of_a_chain_is_shallow():
    count = 1000
    rows, cols = np.arange(1, count), np.arange(count - 1)
    for order, least, most in (("natural", count, count), ("nested", 2, 40), ("colour", 2, 2)):
        rank = np.argsort(elimination_order(order, rows, cols, count))
        i, j = rank[rows], rank[cols]
        depth = levels(np.maximum(i, j), np.minimum(i, j), count).max() + 1
        assert least <= depth <= most


def test_sweeps_and_their_guard():
    rows, cols = graph()
    diagonal, lower = matrix(rows, cols, prior=3.0)
    exact, _, _ = applied(
        IncompleteCholesky("amd", width=4).plan(rows, cols, N, D), diagonal, lower
    )
    plan = IncompleteCholesky("amd", solve="sweeps", sweeps=2, width=4).plan(rows, cols, N, D)
    M, _, result = applied(plan, diagonal, lower)
    assert result == PRECONDITIONER_RESULTS.successful
    np.testing.assert_allclose(M, exact, rtol=0, atol=3e-2 * abs(exact).max())
    assert abs(M - exact).max() > 1e-6 * abs(exact).max()
    np.testing.assert_allclose(M, M.T, rtol=0, atol=1e-6 * abs(exact).max())
    # In the natural order of a chain with a weak prior what is far away matters: two sweeps fail.
    diagonal, lower = matrix(rows, cols, prior=1e-3)
    keep = rows == cols + 1
    diagonal[:], lower[:] = 2.001 * np.eye(D), np.where(keep[:, None, None], -np.eye(D), 0)
    natural = IncompleteCholesky("natural", solve="sweeps", sweeps=2, width=4).plan(
        rows, cols, N, D
    )
    M, _, result = applied(natural, diagonal, lower)
    assert result == PRECONDITIONER_RESULTS.by_levels
    expected = np.linalg.inv(dense(rows, cols, diagonal, lower))
    np.testing.assert_allclose(M, expected, rtol=0, atol=1e-4 * abs(expected).max())


@eqx.filter_jit
def factored(plan, H, policy=None, damping=0.0):
    return plan.factor(H, policy=policy, damping=damping)


@pytest.mark.parametrize("vectors", ["wide", "narrow"])
def test_half_precision_of_badly_scaled_matrices(vectors):
    rows, cols = graph()
    diagonal, lower = matrix(rows, cols)
    levelled = IncompleteCholesky("amd", width=4).plan(rows, cols, N, D)
    expected, _, _ = applied(levelled, diagonal, lower)
    plan = IncompleteCholesky("amd", vectors=vectors, width=4).plan(rows, cols, N, D)
    tiny = 1e-9  # far outside of what float16 can hold
    H = Matrix(*(jnp.asarray(tiny * a, jnp.float32) for a in (diagonal, lower)))
    factor = factored(plan, H, Policy(precondition="f16"))
    assert factor.forward.dtype == jnp.float16 and factor.blocks.dtype == jnp.float16
    M = jax.jit(lambda factor: factor.as_matrix())(factor)
    assert M.dtype == jnp.float32
    np.testing.assert_allclose(tiny * M, expected, rtol=0, atol=4e-3 * abs(expected).max())
    asymmetry = abs(M - M.T).max() / abs(M).max()
    assert asymmetry < 1e-6 if vectors == "wide" else asymmetry > 1e-5


def test_everything_in_half_precision_is_applied_so():
    rows, cols = graph()
    H = Matrix(*(jnp.asarray(a, jnp.float32) for a in matrix(rows, cols)))
    plan = IncompleteCholesky("amd", width=4).plan(rows, cols, N, D)
    factor = factored(plan, H, Policy(precondition="f16", krylov="f16"))
    assert jax.eval_shape(factor.mv, jnp.ones(N * D, jnp.float16)).dtype == jnp.float16


def test_shift_on_breakdown():
    rows, cols = graph()
    diagonal, lower = matrix(rows, cols)
    plan = IncompleteCholesky("natural", width=4).plan(rows, cols, N, D)
    M, shift, result = applied(plan, diagonal * 0.5, lower)
    assert shift > 0 and result == PRECONDITIONER_RESULTS.shifted
    assert np.linalg.eigvalsh((M + M.T) / 2).min() > 0
    M, _, result = applied(plan, np.full_like(diagonal, np.nan), lower)
    assert result == PRECONDITIONER_RESULTS.breakdown
    np.testing.assert_array_equal(M, np.eye(N * D))


def test_held_variable_keeps_its_entries():
    rows, cols = graph()
    diagonal, lower = matrix(rows, cols)
    diagonal[0] = 0
    lower[(rows == 0) | (cols == 0)] = 0
    plan = IncompleteCholesky("rcm", width=4).plan(rows, cols, N, D)
    M, shift, _ = applied(plan, diagonal, lower)
    assert shift == 0
    np.testing.assert_array_equal(M[:D], np.eye(D, N * D))


def test_in_lineax_under_vmap_and_grad():
    rows, cols = graph()
    diagonal, lower = (jnp.asarray(a, jnp.float32) for a in matrix(rows, cols))
    H = jnp.asarray(dense(rows, cols, *matrix(rows, cols)), jnp.float32)
    plan = IncompleteCholesky(width=4).plan(rows, cols, N, D)

    def solve(scale, b):
        factor = plan.factor(Matrix(scale * diagonal, scale * lower))
        operator = lx.MatrixLinearOperator(scale * H, lx.positive_semidefinite_tag)
        options = {"preconditioner": factor}
        solution = lx.linear_solve(operator, b, lx.CG(1e-6, 1e-6), options=options, throw=False)
        return solution.value.sum(), solution.value

    scale = jnp.array([1.0, 3.0])
    b = jax.random.normal(jax.random.key(0), (2, N * D))
    slope, x = jax.jit(jax.vmap(jax.grad(solve, has_aux=True)))(scale, b)
    np.testing.assert_allclose(scale[:, None] * (x @ H), b, atol=1e-3)
    np.testing.assert_allclose(slope, -x.sum(1) / scale, rtol=1e-3)


def test_same_size_means_one_compilation():
    compilations = []
    for seed, order in ((0, "rcm"), (3, "rcm"), (4, "amd")):
        rows, cols = graph(seed)
        applied(IncompleteCholesky(order, width=4).plan(rows, cols, N, D), *matrix(rows, cols))
        compilations.append(factor_and_apply._cache_size())
    assert compilations[0] == compilations[1] == compilations[2]


def test_operator():
    rows, cols = graph()
    plan = IncompleteCholesky("natural", width=4).plan(rows, cols, N, D)
    factor = factored(plan, Matrix(*(jnp.asarray(a, jnp.float32) for a in matrix(rows, cols))))
    assert isinstance(factor, CholeskyFactor)
    assert lx.is_positive_semidefinite(factor) and lx.is_symmetric(factor)
    assert factor.T is factor and factor.in_size() == N * D
    np.testing.assert_allclose(
        lx.diagonal(factor), jnp.diagonal(lx.materialise(factor).as_matrix())
    )


@pytest.mark.parametrize("settings", [BlockJacobi(), PointJacobi()])
def test_jacobi(settings):
    rows, cols = graph()
    diagonal, lower = matrix(rows, cols)
    blocks = diagonal + 0.3 * np.eye(D)
    if isinstance(settings, PointJacobi):
        blocks = blocks * np.eye(D)
    v = np.random.default_rng(2).standard_normal((N, D)).astype(np.float32)
    given = Matrix(diagonal.astype(np.float32), lower.astype(np.float32))
    factor = factored(settings.plan(rows, cols, N, D), given, damping=0.3)
    expected = np.linalg.solve(blocks, v[..., None]).ravel()
    np.testing.assert_allclose(factor.mv(jnp.asarray(v.ravel())), expected, rtol=2e-5, atol=1e-6)


def test_jacobi_of_groups_and_singular_blocks():
    single = jnp.array([[[0.0]], [[4.0]]])
    indefinite = jnp.array([[[1.0, 2.0], [2.0, 1.0]]])
    factor = factored(BlockJacobi().plan(), (single, indefinite))
    np.testing.assert_allclose(factor.mv(jnp.ones(4)), [1, 0.25, 1, 1])


def test_bad_input():
    rows, cols = graph()
    with pytest.raises(ValueError, match="unknown order 'rmc'; did you mean 'rcm'"):
        IncompleteCholesky("rmc")
    with pytest.raises(ValueError, match="fill=.*at least 0"):
        IncompleteCholesky(fill=-1)
    with pytest.raises(ValueError, match="rows > cols"):
        IncompleteCholesky().plan(cols, rows, N, D)
    with pytest.raises(ValueError, match="occurs twice"):
        IncompleteCholesky().plan(np.repeat(rows, 2), np.repeat(cols, 2), N, D)
    with pytest.raises(ValueError, match="0 <= cols"):
        IncompleteCholesky().plan(rows, cols, N - 1, D)
    plan = IncompleteCholesky(width=4).plan(rows, cols, N, D)
    with pytest.raises(ValueError, match="plan again"):
        plan.factor(Matrix(np.zeros((N, D, D)), np.zeros((3, D, D))))
