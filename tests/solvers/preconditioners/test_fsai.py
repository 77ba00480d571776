"""FSAI against its definition, row by row, in dense float64."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.preconditioners import FSAI

N, D = 12, 2


class Matrix(eqx.Module):
    """A block symmetric matrix as plain arrays."""

    diagonal: Any
    lower: Any


def problem(seed=0):
    """A connected random graph, and a matrix on it whose scale varies a lot."""
    rng = np.random.default_rng(seed)
    pairs = {(i + 1, i) for i in range(N - 1)} | {(9, 2), (11, 0), (7, 4), (10, 3)}
    rows, cols = np.array(sorted(pairs)).T
    A, B = rng.standard_normal((2, len(rows), D, D)) * 0.3
    A, B = A + np.eye(D), B - np.eye(D)
    diagonal = np.tile(0.2 * np.eye(D), (N, 1, 1))
    np.add.at(diagonal, rows, A.transpose(0, 2, 1) @ A)
    np.add.at(diagonal, cols, B.transpose(0, 2, 1) @ B)
    lower = A.transpose(0, 2, 1) @ B
    scale = np.exp(rng.standard_normal((N, D)))
    diagonal = scale[:, :, None] * diagonal * scale[:, None, :]
    lower = scale[rows][:, :, None] * lower * scale[cols][:, None, :]
    H = np.zeros((N, D, N, D))
    H[np.arange(N), :, np.arange(N)] = diagonal
    H[rows, :, cols] = lower
    H[cols, :, rows] = lower.transpose(0, 2, 1)
    return rows, cols, diagonal, lower, H.reshape(N * D, N * D)


def by_definition(H, power):
    """Each row of `G` from the dense system of its pattern."""
    touch = (abs(H.reshape(N, D, N, D)).sum((1, 3)) > 0).astype(int)
    pattern = np.linalg.matrix_power(touch, power) > 0
    G = np.zeros_like(H)
    for i in range(N):
        J = (np.flatnonzero(pattern[i, : i + 1])[:, None] * D + np.arange(D)).ravel()
        G[i * D : (i + 1) * D, J] = np.linalg.inv(np.linalg.cholesky(H[np.ix_(J, J)]))[-D:]
    return G.T @ G


@jax.jit
def applied(plan, diagonal, lower):
    factor = plan.factor(Matrix(diagonal, lower))
    return factor.as_matrix()


@pytest.mark.parametrize("power", [1, 2])
def test_rows_are_those_of_the_definition(power, x64):
    rows, cols, diagonal, lower, H = problem()
    M = applied(FSAI(power, width=4).plan(rows, cols, N, D), diagonal, lower)
    expected = by_definition(H, power)
    np.testing.assert_allclose(M, expected, rtol=0, atol=1e-12 * abs(expected).max())


def test_half_precision_storage():
    rows, cols, diagonal, lower, H = problem()
    tiny = 1e-9  # far outside of what float16 can hold
    matrix = Matrix(*(jnp.asarray(tiny * a, jnp.float32) for a in (diagonal, lower)))
    plan = FSAI(width=4).plan(rows, cols, N, D)
    policy = Policy(precondition="f16")
    factor = jax.jit(lambda plan, matrix: plan.factor(matrix, policy=policy))(plan, matrix)
    assert factor.forward.dtype == jnp.float16 and factor.blocks.dtype == jnp.float16
    M, expected = jax.jit(lambda factor: factor.as_matrix())(factor), by_definition(H, 1) / tiny
    assert M.dtype == jnp.float32
    np.testing.assert_allclose(M, expected, rtol=0, atol=4e-3 * abs(expected).max())


def test_bad_input():
    with pytest.raises(ValueError, match="power=.*1 or 2, got 3"):
        FSAI(3)
    with pytest.raises(ValueError, match="width=.*at least 1"):
        FSAI(width=0)
