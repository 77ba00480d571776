"""What the conditions of mixed precision are for: with them 16 bits work, without them they fail.

A small planar pose graph, its poses kept in float64 numpy; only the linear solve has the dtypes of
the policy. The oracle is Gauss-Newton with dense float64 least squares.
"""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.linear import CGNR_RESULTS, cgnr
from jaxsci.solvers.sparse import (
    BlockDiagonal,
    BlockJacobian,
    BlockRows,
    block_scaling,
    register_rectangular,
)

WEIGHTS = np.array([20.0, 20.0, 50.0])
N, PER = 200, 100


def _wrap(angle):
    return (angle + np.pi) % (2 * np.pi) - np.pi


def _relative(x, i, j):
    c, s = np.cos(x[i, 2]), np.sin(x[i, 2])
    d = x[j, :2] - x[i, :2]
    turned = np.stack([c * d[:, 0] + s * d[:, 1], c * d[:, 1] - s * d[:, 0]], 1)
    return np.concatenate([turned, _wrap(x[j, 2] - x[i, 2])[:, None]], 1)


class _Graph:
    """Two laps of a circle, each pose tied to the one a lap before."""

    def __init__(self):
        rng = np.random.default_rng(0)
        a = 2 * np.pi * np.arange(N) / PER
        truth = np.stack([np.cos(a) * PER / 6, np.sin(a) * PER / 6, a + np.pi / 2], 1)
        self.i = np.concatenate([np.arange(N - 1), np.arange(N - PER)])
        self.j = np.concatenate([np.arange(1, N), np.arange(PER, N)])
        self.z = _relative(truth, self.i, self.j) + 0.02 * rng.normal(size=(len(self.i), 3))
        self.start = truth + 0.03 * rng.normal(size=truth.shape)
        self.start[0] = truth[0]
        x = self.start.copy()
        for _ in range(8):
            J, r = self.dense(x)[:, 3:], self.residual(x).ravel()
            x[1:] -= np.linalg.solve(J.T @ J, J.T @ r).reshape(-1, 3)
        self.best, self.lowest = x, self.cost(x)

    def residual(self, x):
        r = _relative(x, self.i, self.j) - self.z
        return np.concatenate([r[:, :2], _wrap(r[:, 2:])], 1) * WEIGHTS

    def cost(self, x):
        return 0.5 * np.sum(self.residual(x) ** 2)

    def blocks(self, x):
        angle, d = x[self.i, 2], x[self.j, :2] - x[self.i, :2]
        c, s = np.cos(angle), np.sin(angle)
        Ji, Jj = np.zeros((2, len(self.i), 3, 3))
        Jj[:, :2, :2] = np.stack([np.stack([c, s], 1), np.stack([-s, c], 1)], 1)
        Ji[:, :2, :2] = -Jj[:, :2, :2]
        Ji[:, 0, 2] = -s * d[:, 0] + c * d[:, 1]
        Ji[:, 1, 2] = -c * d[:, 0] - s * d[:, 1]
        Ji[:, 2, 2], Jj[:, 2, 2] = -1, 1
        return Ji * WEIGHTS[:, None], Jj * WEIGHTS[:, None]

    def dense(self, x):
        full = np.zeros((len(self.i), 3, N, 3))
        for block, index in zip(self.blocks(x), (self.i, self.j), strict=True):
            full[np.arange(len(self.i)), :, index, :] += block
        return full.reshape(-1, 3 * N)

    def gap(self, x):
        return (self.cost(x) - self.lowest) / self.lowest


@pytest.fixture(scope="module")
def graph():
    return _Graph()


class _BothNarrow(lx.AbstractLinearOperator):
    """A matrix whose products round the vector, too, to a `dtype`: what a tensor core would do.

    The vector is scaled to a largest entry of 1 before.
    """

    matrix: lx.AbstractLinearOperator
    dtype: str = eqx.field(static=True)

    def mv(self, vector):
        info, scale = jnp.finfo(self.dtype), jnp.max(jnp.abs(vector))
        # Two casts would be dropped by the compiler.
        low = jax.lax.reduce_precision(vector / scale, info.nexp, info.nmant)
        return self.matrix.mv(low) * scale

    def as_matrix(self):
        return self.matrix.as_matrix()

    def transpose(self):
        return _BothNarrow(self.matrix.transpose(), self.dtype)

    def in_structure(self):
        return self.matrix.in_structure()

    def out_structure(self):
        return self.matrix.out_structure()


register_rectangular(_BothNarrow)


@jax.jit(static_argnames=("policy", "form", "scaled", "vectors"))
def _solve(Ji, Jj, i, j, residual, policy, form, scaled, vectors):
    J = BlockJacobian((BlockRows((Ji, Jj), (i, j), (0, 0)),), ((N, 3),))
    held = jnp.arange(N) == 0
    free = jnp.where(held[:, None, None], 0, jnp.eye(3, dtype=J.dtype)[None])
    scales = block_scaling(J, (held,)) if scaled else (free,)
    J = J.scale_columns(scales)
    operator, gradient = J, J.transpose_mv(residual)
    if vectors is not None:
        operator, policy = _BothNarrow(J.astype(policy.matrix, policy.product), vectors), Policy()
    # The float32 solves take 330 steps at most: all get the same amount of work.
    solution = cgnr(
        operator, residual, gradient=gradient, policy=policy, rtol=1e-3, max_steps=350, form=form
    )
    return BlockDiagonal(scales).mv(solution.value.astype(J.dtype)), solution.result


def _step(graph, x, policy, form="recurrence", scaled=True, vectors=None):
    Ji, Jj = (jnp.asarray(block, jnp.float32) for block in graph.blocks(x))
    i, j = (jnp.asarray(index, jnp.int32) for index in (graph.i, graph.j))
    residual = jnp.asarray(-graph.residual(x).ravel(), jnp.float32)
    delta, result = _solve(Ji, Jj, i, j, residual, policy, form, scaled, vectors)
    return x + np.asarray(delta, np.float64).reshape(-1, 3), result


def _minimise(graph, policy, form="recurrence", steps=4, vectors=None):
    x = graph.start
    for _ in range(steps):
        tried, _ = _step(graph, x, policy, form, vectors=vectors)
        x = tried if graph.cost(tried) < graph.cost(x) else x
    return graph.gap(x)


def test_float32_solves_reach_the_minimum(graph):
    assert _minimise(graph, Policy()) <= 1e-10


def test_float16_products_reach_the_minimum(graph):
    assert _minimise(graph, Policy.parse("bundle_adjustment")) <= 1e-9


def test_recomputing_the_gradient_from_narrow_products_converges_to_a_wrong_point(graph):
    policy = Policy.parse("bundle_adjustment")
    assert _minimise(graph, policy, "cgls", steps=6, vectors="float16") >= 1e-4
    # It is the narrow products: in float32 the same form gets there.
    assert _minimise(graph, Policy(), "cgls", steps=6) <= 1e-9
    # A narrow matrix alone, whose vectors are not rounded, biases it less, but does.
    assert 1e-9 <= _minimise(graph, policy, "cgls", steps=6) <= 1e-6
    # The minimum is a fixed point of the recurrence, whose gradient is zero there.
    for vectors in (None, "float16"):
        stay, _ = _step(graph, graph.best, policy, vectors=vectors)
        assert abs(graph.gap(stay)) <= 1e-9


def test_bfloat16_products_have_too_few_bits(graph):
    """1e-5 off at equal work: each iteration gains a digit, where float16 gains four.

    Not for ever: the gradient is right, so that a rough matrix only slows the iteration down.
    """
    bfloat, both = Policy(matrix="bf16"), "bfloat16"
    assert _minimise(graph, bfloat, steps=3, vectors=both) >= 1e-5
    half = Policy.parse("bundle_adjustment")
    assert _minimise(graph, half, steps=3, vectors="float16") <= 1e-6
    assert 1e-9 <= _minimise(graph, bfloat, steps=6, vectors=both) <= 1e-6
    assert _minimise(graph, bfloat, steps=12, vectors=both) <= 1e-10
    # With its gradient from the rough products, too, it stays off however long it runs.
    assert _minimise(graph, bfloat, "cgls", steps=6, vectors=both) >= 1e-3


def test_it_is_the_vectors_that_need_the_bits(graph):
    """Of bfloat16 numbers, too, a matrix will do if the vectors keep what they have."""
    for policy in (Policy.parse("bundle_adjustment"), Policy(matrix="bf16")):
        wide = _minimise(graph, policy, steps=3)
        assert wide <= 1e-7
        assert wide <= _minimise(graph, policy, steps=3, vectors=policy.matrix) / 2


def test_float16_without_scaling_says_what_happened(graph):
    moved, result = _step(graph, graph.start, Policy.parse("naive_half"), scaled=False)
    assert bool(result == CGNR_RESULTS.overflow)
    assert "scale the columns" in CGNR_RESULTS[result]
    # Nothing that is not finite comes out of it.
    np.testing.assert_array_equal(moved, graph.start)
    # It takes both: scaled, or in float32, the same solve does not overflow.
    for policy, scaled in (("naive_half", True), ("single", False)):
        moved, result = _step(graph, graph.start, Policy.parse(policy), scaled=scaled)
        assert not bool(result == CGNR_RESULTS.overflow)
        assert graph.gap(moved) <= 0.1
