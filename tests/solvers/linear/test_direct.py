"""Direct factorisations: against dense float64 Cholesky; what is not positive definite is said."""

import importlib.util
import sys
import types

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.solvers.linear import DIRECT_RESULTS, DenseCholesky, SparseCholesky
from jaxsci.solvers.linear._dissection import dissect
from jaxsci.solvers.sparse import BlockSymmetric


def _grid(side, d, seed=0):
    """A positive definite matrix on a square grid, with a few far edges, in float64."""
    rng = np.random.default_rng(seed)
    number = np.arange(side * side).reshape(side, side)
    pairs = [(number[:, :-1], number[:, 1:]), (number[:-1], number[1:])]
    i, j = (np.concatenate([p[k].ravel() for p in pairs]) for k in (0, 1))
    i, j = np.concatenate([i, [0, 3]]), np.concatenate([j, [side * side - 1, side * side - 5]])
    order = np.lexsort((i, j))
    rows, cols = j[order], i[order]
    lower = rng.normal(size=(len(rows), d, d))
    diagonal = np.tile(4.0 * d * np.eye(d), (side * side, 1, 1)) + 0.5
    return diagonal, lower, rows.astype(np.int32), cols.astype(np.int32)


def _dense(diagonal, lower, rows, cols):
    count, d = diagonal.shape[:2]
    H = np.zeros((count, d, count, d))
    H[np.arange(count), :, np.arange(count)] = diagonal
    H[rows, :, cols] = lower
    H[cols, :, rows] = lower.swapaxes(1, 2)
    return H.reshape(count * d, count * d)


@eqx.filter_jit
def _solve(plan, H, rights, damping):
    factor = plan.factor(H, damping=damping)
    return jax.vmap(factor.mv)(rights), factor.result


CASES = {
    "dense": (DenseCholesky(), 4, 3),
    "sparse": (SparseCholesky(), 12, 3),
    "scalar blocks, small leaves": (SparseCholesky(leaf=3), 8, 1),
}


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("dtype", [np.float64, pytest.param(np.float32, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", CASES)
def test_solutions_are_those_of_the_dense_matrix(name, dtype):
    method, side, d = CASES[name]
    if name != "sparse" and dtype is np.float32:
        pytest.skip("one method in float32 is enough")
    with jax.enable_x64(dtype is np.float64):
        diagonal, lower, rows, cols = _grid(side, d)
        H = BlockSymmetric(
            jnp.asarray(diagonal, dtype),
            jnp.asarray(lower, dtype),
            jnp.asarray(rows),
            jnp.asarray(cols),
        )
        plan = method.plan(rows, cols, side * side, d)
        rights = np.random.default_rng(1).normal(size=(2, side * side * d))
        matrix = _dense(diagonal, lower, rows, cols)
        for damping in (0.0, 2.0):
            got, result = _solve(plan, H, jnp.asarray(rights, dtype), jnp.asarray(damping, dtype))
            want = np.linalg.solve(matrix + damping * np.eye(len(matrix)), rights.T).T
            tolerance = 200 * np.finfo(dtype).eps * np.abs(want).max()
            np.testing.assert_allclose(got, want, atol=tolerance)
            assert bool(result == DIRECT_RESULTS.successful)
        # The same compiled program says what cannot be factored.
        _, result = _solve(plan, H, jnp.asarray(rights, dtype), jnp.asarray(-40.0, dtype))
        assert bool(result == DIRECT_RESULTS.not_positive_definite)
        _, result = _solve(plan, H, jnp.asarray(rights, dtype), jnp.asarray(np.nan, dtype))
        assert bool(result == DIRECT_RESULTS.non_finite_input)
        assert "add damping" in DIRECT_RESULTS[DIRECT_RESULTS.not_positive_definite]


@pytest.mark.parametrize("backend", ["scipy", "cholmod"])
def test_host_backends(x64, backend):
    if backend == "cholmod" and importlib.util.find_spec("sksparse") is None:
        pytest.skip("scikit-sparse is not installed (the extra `cholmod`)")
    diagonal, lower, rows, cols = _grid(4, 2)
    H = BlockSymmetric(*(jnp.asarray(a) for a in (diagonal, lower, rows, cols)))
    right = np.random.default_rng(2).normal(size=32)
    method = SparseCholesky(backend=backend)
    factor = method.factor(H, damping=1.0)
    dense = _dense(diagonal, lower, rows, cols)
    want = np.linalg.solve(dense + np.eye(32), right)
    np.testing.assert_allclose(factor.mv(jnp.asarray(right)), want, rtol=1e-12)
    np.testing.assert_allclose(factor.as_matrix(), np.linalg.inv(dense + np.eye(32)), rtol=1e-9)
    assert bool(factor.result == DIRECT_RESULTS.successful)
    # With one negative pivot, the last to be noticed, and with all of them negative.
    for damping in (-1.01 * np.linalg.eigvalsh(dense)[0], -40.0):
        bad = method.factor(H, damping=damping)
        assert bool(bad.result == DIRECT_RESULTS.not_positive_definite)
        assert np.isnan(bad.mv(jnp.asarray(right))).all()
    lost = method.factor(H, damping=np.nan)
    assert bool(lost.result == DIRECT_RESULTS.non_finite_input)
    with pytest.raises(ValueError, match="outside `jit`"):
        jax.jit(lambda H: method.plan(rows, cols, 16, 2).factor(H))(H)
    with pytest.raises(ValueError, match="cannot be used in `jit`"):
        jax.jit(lambda b: factor.mv(b))(jnp.asarray(right))


def test_what_cholmod_needs_is_named(monkeypatch):
    H = BlockSymmetric(jnp.ones((2, 1, 1)), jnp.zeros((1, 1, 1)), jnp.array([1]), jnp.array([0]))
    later = types.ModuleType("sksparse.cholmod")
    vars(later)["cho_factor"] = None
    for found, match in ((None, r"pip install 'jaxsci\[cholmod\]'"), (later, "needs .* 0.4, got")):
        monkeypatch.setitem(sys.modules, "sksparse", found and types.ModuleType("sksparse"))
        monkeypatch.setitem(sys.modules, "sksparse.cholmod", found)
        with pytest.raises(ImportError, match=match):
            SparseCholesky(backend="cholmod").factor(H)


@pytest.mark.parametrize("kind", ["grid", "chain", "star", "complete", "nothing", "two parts"])
def test_dissection_separates(kind):
    rng = np.random.default_rng(3)
    i, j, count = {
        "grid": (*_grid(9, 1)[2:], 81),
        "chain": (np.arange(1, 60), np.arange(59), 60),
        "star": (np.arange(1, 60), np.zeros(59, int), 60),
        "complete": (*np.tril_indices(30, -1), 30),
        "nothing": (np.zeros(0, int), np.zeros(0, int), 20),
        "two parts": (np.r_[1:30, 31:60], np.r_[0:29, 30:59], 60),
    }[kind]
    shuffle = rng.permutation(count)
    i, j = shuffle[i], shuffle[j]
    parts = dissect(i, j, count, 5)
    np.testing.assert_array_equal(np.sort(np.concatenate([p.members for p in parts])), range(count))
    owner = np.empty(count, int)
    for k, part in enumerate(parts):
        owner[part.members] = k
        assert part.parent < k

    def above(k):
        return [] if k < 0 else [k, *above(parts[k].parent)]

    # No edge joins two parts of which neither is above the other.
    for a, b in zip(owner[i], owner[j], strict=True):
        assert a in above(b) or b in above(a)
    if kind in ("grid", "chain"):
        assert max(len(part.members) for part in parts) <= 12


def test_bad_input_is_named():
    H = BlockSymmetric(jnp.ones((3, 1, 1)), jnp.ones((1, 1, 1)), jnp.array([1]), jnp.array([0]))
    with pytest.raises(ValueError, match="unknown backend 'cholmmod'; did you mean 'cholmod'"):
        SparseCholesky(backend="cholmmod")
    with pytest.raises(ValueError, match="at least 1, got 0"):
        SparseCholesky(leaf=0)
    with pytest.raises(ValueError, match="3 > rows > cols >= 0"):
        SparseCholesky().plan([0], [1], 3, 1)
    with pytest.raises(ValueError, match="expected 4 diagonal blocks and 1 below"):
        SparseCholesky().plan([1], [0], 4, 1).factor(H)
    with pytest.raises(ValueError, match="call `plan` outside `jit`"):
        jax.jit(lambda H: SparseCholesky().factor(H).mv(jnp.ones(3)))(H)
