"""Corrected layers against `T1 K T2` with every matrix written out in numpy."""

import equinox as eqx
import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings

from jaxsci.operators.boundary import (
    BoundaryConditions,
    DenseLayer,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    correct,
    enforce,
    residuals,
)


def _random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def _inverse(A, tikhonov, norm):
    """`A' (A A' + eps^2)^-1` by the singular values."""
    eps = tikhonov * norm
    U, s, V = np.linalg.svd(A)
    return (V.T * (s / (s**2 + eps**2))) @ U.T


def _eliminated(K, x, axis, columns, coupled, tikhonov=2.0**-26):
    """`T2 x` for the boundary points of one axis, block by block."""
    flat = K.reshape(x.size, x.size)
    index = np.arange(x.size).reshape(x.shape)
    if coupled:
        groups = [np.concatenate([index.take(j, axis=axis).ravel() for j in columns])]
    else:
        groups = [index.take(j, axis=axis).ravel() for j in columns]
    norm = max(np.linalg.norm(flat[np.ix_(g, g)]) for g in groups)
    T2 = np.eye(x.size)
    for g in groups:
        block = flat[np.ix_(g, g)]
        alone = np.zeros((len(g), x.size))
        alone[:, g] = block
        T2[g] += _inverse(block, tikhonov, norm) @ (alone - flat[g])
    return (T2 @ x.ravel()).reshape(x.shape)


@eqx.filter_jit
def _two_ways(K, x, conditions, method):
    """A matrix, and the same as a function that is probed."""
    one = correct(K, conditions, method)(x)
    return one, correct(lambda x: jnp.einsum("cidj,dj->ci", K, x), conditions, method)(x)


@settings(max_examples=12)
@given(
    seed=st.integers(0, 99),
    n=st.sampled_from([8, 9]),
    channels=st.sampled_from([1, 3]),
    method=st.sampled_from(["boon", "exact", "t1"]),
    faces=st.sampled_from([("low",), ("high",), ("low", "high")]),
    kind=st.sampled_from(["D", "N", "R"]),
)
def test_corrected_layers_are_the_product_of_three_matrices(seed, n, channels, method, faces, kind):
    make = {"D": Dirichlet, "N": Neumann, "R": lambda v: Robin(v, a=1.0, b=2.0)}[kind]
    # Well conditioned, so that the Tikhonov term is below the rounding of the inverse.
    K = _random(seed, channels, n, channels, n) / 8
    K += np.eye(channels * n).reshape(K.shape)
    x, g = _random(seed + 1, channels, n), _random(seed + 2, channels)
    columns = [{"low": 0, "high": n - 1}[side] for side in faces]
    z = x if method == "t1" else _eliminated(K, x, 1, columns, method == "exact")
    y = np.einsum("cidj,dj->ci", K, z)
    with jax.enable_x64(True):
        conditions = BoundaryConditions(
            "x", {("x", side): make(g) for side in faces}, length={"x": 1.0}
        )
        expected = np.array(enforce(jnp.asarray(y), conditions))
        matrix, called = _two_ways(jnp.asarray(K), jnp.asarray(x), conditions, method)
        for corrected in (matrix, called):
            assert np.abs(corrected - expected).max() <= 1e-12 * max(1, np.abs(expected).max())
            assert all(bool(f.holds) for f in residuals(corrected, conditions).values())


def test_one_channel_and_one_face_is_the_published_formula(x64):
    """Gaussian elimination: Schur complement inside, a row that sees the boundary only."""
    n = 9
    K, x = _random(0, n, n), _random(1, n)
    conditions = BoundaryConditions("x", {("x", "low"): Dirichlet(4.0)})
    y = correct(K, conditions, "boon")(jnp.asarray(x)[None])[0]
    schur = K[1:, 1:] - np.outer(K[1:, 0], K[0, 1:]) / K[0, 0]
    # z_0 = 2 x_0 - (K x)_0 / K_00
    expected = schur @ x[1:] + K[1:, 0] * x[0]
    np.testing.assert_allclose(y[1:], expected, rtol=1e-12)
    assert y[0] == 4


def test_exact_elimination_leaves_rows_that_depend_on_the_boundary_only(x64):
    """The rows before T1, seen through a condition on a field that it leaves as it is."""
    C, n = 3, 8
    K = _random(0, C, n, C, n)
    conditions = BoundaryConditions("x", {"x": Dirichlet()})
    zero = {("x", "low"): jnp.zeros(C), ("x", "high"): jnp.zeros(C)}
    boundary = np.zeros((C, n))
    boundary[:, [0, -1]] = _random(1, C, 2)

    # A field that is 0 on the boundary gives 0 there before T1: then `consistent` for the value
    # 0 and `exact` are the same operator.
    x = _random(2, C, n)
    x[:, [0, -1]] = 0
    one = correct(K, conditions, "exact", tikhonov=0.0)(jnp.asarray(x), zero)
    other = correct(K, conditions, "consistent", tikhonov=0.0)(jnp.asarray(x), zero)
    np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-11)
    # And the operator is linear in what is on the boundary.
    both = correct(K, conditions, "exact", tikhonov=0.0)(jnp.asarray(x + boundary), zero)
    K_b = np.einsum("cidj,dj->ci", K, boundary)
    np.testing.assert_allclose((both - one)[:, 1:-1], K_b[:, 1:-1], rtol=1e-9, atol=1e-10)


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("faces", ["DD", "DN", "RN", "P"])
def test_consistent_layers_obey_without_being_set(faces, x64):
    """`T1` moves nothing: the layer's own output at `z` obeys, bias or not."""
    C, n = 2, 12
    kinds = {"D": Dirichlet(), "N": Neumann(), "R": Robin(a=1.0, b=2.0, order=2)}
    sides = zip(("low", "high"), faces, strict=False)
    made = {"x": Periodic()} if faces == "P" else {("x", s): kinds[k] for s, k in sides}
    conditions = BoundaryConditions("x", made, length={"x": 1.0})
    values = {f: jnp.asarray(_random(5, C)) for f, c in made.items() if faces != "P"}
    K, bias = _random(0, C, n, C, n), jnp.asarray(_random(1, C, n))
    seen = []

    def layer(x):
        seen.append(x)
        return DenseLayer(K)(x) + bias

    x = jnp.asarray(_random(2, C, n))
    y = correct(layer, conditions, "consistent", tikhonov=0.0)(x, values)
    z = seen[-1]
    np.testing.assert_array_equal(z[:, 1:-1], x[:, 1:-1])
    np.testing.assert_allclose(layer(z), y, rtol=1e-9, atol=1e-10)
    assert all(bool(f.holds) for f in residuals(y, conditions, values).values())


@pytest.mark.slow_but(1)
@pytest.mark.parametrize(
    ("method", "wide"),
    [
        ("boon", False),
        ("exact", True),
        pytest.param("boon", True, marks=pytest.mark.slow),
        pytest.param("consistent", True, marks=pytest.mark.slow),
    ],
)
def test_boxes_of_matrices_and_callables(method, wide):
    C, n = 2, (3, 5)
    K, x = _random(0, C, *n, C, *n) / 8, _random(1, C, *n)
    K += np.eye(C * 15).reshape(K.shape)
    made = {"x": Neumann(order=2), ("t", "low"): Dirichlet()}
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        conditions = BoundaryConditions(("t", "x"), made, spacing={"x": 0.1})
        values = {
            ("x", "low"): jnp.asarray(_random(2, C, 3), dtype),
            ("x", "high"): jnp.asarray(_random(3, 1, 3), dtype),
            ("t", "low"): jnp.asarray(_random(4, C, 5), dtype),
        }
        K_, x_ = jnp.asarray(K, dtype), jnp.asarray(x, dtype)

        @jax.jit
        def run(K, x):
            one = correct(K, conditions, method)(x, values)
            return one, correct(lambda x: DenseLayer(K)(x), conditions, method)(x, values)

        dense, called = run(K_, x_)
        rtol = 1e-12 if wide else 2e-4
        np.testing.assert_allclose(called, dense, rtol=rtol, atol=rtol * 100)
        assert dense.dtype == dtype
        assert all(bool(f.holds) for f in residuals(dense, conditions, values).values())
        if wide and method in ("boon", "exact"):
            z = _eliminated(K, x, 1, [0], method == "exact")  # the axes in their order
            z = _eliminated(K, z, 2, [0, 4], method == "exact")
            y = jnp.asarray(np.einsum("ctxdsy,dsy->ctx", K, z))
            expected = enforce(y, conditions, values)
            np.testing.assert_allclose(dense, expected, rtol=1e-12, atol=1e-11)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("method", ["boon", "consistent"])
def test_convolutions_of_equinox(method, x64):
    conv = eqx.nn.Conv1d(3, 3, 5, padding=2, dtype=jnp.float64, key=jax.random.key(0))
    conditions = BoundaryConditions("x", {"x": Dirichlet(1.5)})
    x = jnp.asarray(_random(0, 3, 10))
    y = eqx.filter_jit(correct(conv, conditions, method))(x)
    # The same layer as a matrix, with the bias added by hand.
    bias = conv(jnp.zeros_like(x))
    columns = jax.vmap(lambda e: conv(e.reshape(x.shape)) - bias, out_axes=-1)(jnp.eye(x.size))
    matrix = columns.reshape(*x.shape, *x.shape)
    layer = correct(lambda x: DenseLayer(matrix)(x) + bias, conditions, method)
    dense = eqx.filter_jit(layer)(x)
    np.testing.assert_allclose(y, dense, rtol=1e-12)
    assert (y[:, [0, -1]] == 1.5).all()


SINGULAR = {
    "no layer": np.zeros((2, 8, 2, 8)),
    "no block": _random(0, 2, 8, 2, 8) * (np.abs(np.arange(8)[:, None, None] - np.arange(8)) > 0),
    "rank one": np.ones((2, 8, 2, 8)),
    "tiny": 1e-30 * _random(0, 2, 8, 2, 8),
}


@eqx.filter_jit
def _with_gradient(K, x, conditions, method):
    y, back = jax.vjp(lambda K: correct(K, conditions, method)(x), K)
    return y, back(y)[0]


@pytest.mark.parametrize("name", SINGULAR)
@pytest.mark.parametrize("method", ["boon", "exact", "consistent"])
def test_singular_blocks_give_finite_answers_and_gradients(name, method):
    conditions = BoundaryConditions("x", {"x": Dirichlet(1.0)})
    K, x = jnp.asarray(SINGULAR[name], jnp.float32), jnp.asarray(_random(1, 2, 8), jnp.float32)
    y, gradient = _with_gradient(K, x, conditions, method)
    assert jnp.isfinite(y).all() and jnp.isfinite(gradient).all()
    assert (y[:, [0, -1]] == 1).all()
    # |z - x| <= |r| / (2 eps): the layer cannot blow up what it is given by more.
    if name == "rank one" and method == "exact":
        assert float(jnp.abs(y).max()) < 1e3


def test_a_block_through_zero_is_continuous(x64):
    """The published division jumps from one infinity to the other where K_00 crosses zero."""
    K, x = _random(0, 6, 6), jnp.asarray(_random(1, 1, 6))
    K[5, 5] = 3  # the other face sets the scale
    conditions = BoundaryConditions("x", {"x": Dirichlet(0.0)})

    @jax.jit
    @jax.vmap
    def at(k):
        block = jnp.asarray(K).at[0, 0].set(k)
        return correct(block[None, :, None], conditions, "boon", tikhonov=1e-2)(x)

    fine = at(jnp.linspace(-0.1, 0.1, 401))
    assert jnp.isfinite(fine).all() and float(jnp.abs(fine).max()) < 1e3
    assert float(jnp.abs(jnp.diff(fine, axis=0)).max()) < 0.1 * float(jnp.abs(fine).max())


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("method", ["boon", "exact", "consistent"])
def test_linear_differentiable_and_vmapped(method, x64):
    C, n = 2, 7
    faces = {("x", "low"): Dirichlet(), ("x", "high"): Neumann(order=2)}
    conditions = BoundaryConditions("x", faces, spacing={"x": 0.5})
    K = _random(0, C, n, C, n) / 4 + np.eye(C * n).reshape(C, n, C, n)

    @jax.jit
    def f(K, x, low, high):
        return correct(K, conditions, method)(x, {("x", "low"): low, ("x", "high"): high})

    one = (_random(1, C, n), _random(2, C), _random(3, C))
    two = (_random(4, C, n), _random(5, C), _random(6, C))
    combined = f(K, *(2 * p - 3 * q for p, q in zip(one, two, strict=True)))
    np.testing.assert_allclose(combined, 2 * f(K, *one) - 3 * f(K, *two), rtol=1e-10, atol=1e-10)
    jax.test_util.check_grads(f, (K, *one), order=1, modes=["fwd", "rev"], rtol=1e-5, atol=1e-5)
    stacked = [jnp.stack(pair) for pair in zip(one, two, strict=True)]
    batched = jax.vmap(f, in_axes=(None, 0, 0, 0))(K, *stacked)
    np.testing.assert_allclose(batched, jnp.stack([f(K, *one), f(K, *two)]), rtol=1e-12)


def test_channels_may_differ(x64):
    K = _random(0, 2, 8, 3, 8)
    conditions = BoundaryConditions("x", {"x": Dirichlet(1.0)})
    x = jnp.asarray(_random(1, 3, 8))
    for method in ("boon", "t1"):
        y = correct(K, conditions, method)(x)
        assert y.shape == (2, 8) and (y[:, 0] == 1).all()
