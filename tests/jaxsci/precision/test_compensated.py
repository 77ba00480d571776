"""Compensated sums against exact arithmetic with fractions."""

import math
from fractions import Fraction

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given

from jaxsci.precision import compensated_dot, compensated_sum, matmul, two_product, two_sum

DOT, TOTAL = jax.jit(compensated_dot), jax.jit(compensated_sum)
PRODUCT, SUM = jax.jit(two_product), jax.jit(two_sum)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def _exact(a, b, start) -> Fraction:
    terms = (Fraction(float(x)) * Fraction(float(y)) for x, y in zip(a, b, strict=True))
    return sum(terms, Fraction(float(start)))


def _bound(a, b, start, exact, dtype) -> float:
    eps = float(np.finfo(dtype).eps)
    size = sum(abs(float(x) * float(y)) for x, y in zip(a, b, strict=True)) + abs(float(start))
    return eps * abs(float(exact)) + 4 * len(a) * eps**2 * size


def _numbers(rng, n, dtype, decades):
    return (rng.normal(size=n) * 10.0 ** rng.uniform(-decades, decades, n)).astype(dtype)


@pytest.mark.parametrize("n", [1, 2, 3, 1001, 2048, 5000])
def test_dot_is_that_of_twice_the_precision(n, dtype):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        a, b = _numbers(rng, n, dtype, 3), _numbers(rng, n, dtype, 3)
        start = dtype.type(rng.normal())
        exact, got = _exact(a, b, start), DOT(a, b, start)
        assert got.dtype == dtype
        assert abs(float(Fraction(float(got)) - exact)) <= _bound(a, b, start, exact, dtype)


def test_sums_of_as_many_as_come_in(dtype):
    """With a symbol for their number, as in an export."""
    (n,) = jax.export.symbolic_shape("n")
    many, one = jax.ShapeDtypeStruct((n,), dtype), jax.ShapeDtypeStruct((), dtype)
    dot = jax.export.export(DOT)(many, many, one)
    total = jax.export.export(TOTAL)(many, one)
    for n in (1, 2, 3, 64, 1001):
        rng = np.random.default_rng(n)
        a, b = _numbers(rng, n, dtype, 3), _numbers(rng, n, dtype, 3)
        start = dtype.type(rng.normal())
        exact, got = _exact(a, b, start), dot.call(a, b, start)
        assert abs(float(Fraction(float(got)) - exact)) <= _bound(a, b, start, exact, dtype)
        exact, got = _exact(a, np.ones(n), start), total.call(a, start)
        assert abs(float(Fraction(float(got)) - exact)) <= _bound(
            a, np.ones(n), start, exact, dtype
        )


@pytest.mark.parametrize("n", [1, 63, 64, 65, 1001, 2048, 2049, 5000])
def test_sum_is_that_of_twice_the_precision(n, dtype):
    for seed in range(3):
        rng = np.random.default_rng(seed)
        terms, start = _numbers(rng, n, dtype, 3), dtype.type(rng.normal())
        # Half of the terms cancel the other half, up to their rounding.
        terms[n // 2 :] = -terms[: n - n // 2] * dtype.type(1 + 1e-5)
        ones = np.ones(n)
        exact, got = _exact(terms, ones, start), TOTAL(terms, start)
        assert got.dtype == dtype
        error = abs(float(Fraction(float(got)) - exact))
        assert error <= _bound(terms, ones, start, exact, dtype)


def test_hostile_cancellation(dtype):
    # Pairs that cancel but for the last bits: a plain sum has no correct digit.
    rng = np.random.default_rng(0)
    a, b = _numbers(rng, 2000, dtype, 4), _numbers(rng, 2000, dtype, 4)
    small = dtype.type(1e-3)
    a = np.concatenate([a, -a, [small]]).astype(dtype)
    b = np.concatenate([b, b, [small]]).astype(dtype)
    order = rng.permutation(len(a))
    a, b = a[order], b[order]
    exact = _exact(a, b, 0)
    got = float(DOT(a, b, dtype.type(0)))
    assert abs(got - float(exact)) <= _bound(a, b, 0, exact, dtype)
    assert abs(float(np.sum(a * b, dtype=dtype)) - float(exact)) > abs(got - float(exact))


def test_start_cancels_the_sum(dtype):
    rng = np.random.default_rng(1)
    a, b = _numbers(rng, 300, dtype, 1), _numbers(rng, 300, dtype, 1)
    start = dtype.type(-float(_exact(a, b, 0)))
    exact = _exact(a, b, start)
    got = float(DOT(a, b, start))
    assert abs(got - float(exact)) <= _bound(a, b, start, exact, dtype)


@given(st.lists(st.floats(-1e6, 1e6, width=32), min_size=8, max_size=8))
def test_dot_with_ones_is_fsum(values):
    a = np.asarray(values, np.float32)
    got = float(DOT(a, np.ones(8, np.float32), np.float32(0)))
    exact = math.fsum(a.tolist())
    eps = float(np.finfo(np.float32).eps)
    # Numbers below the smallest normal one may be flushed to zero.
    assert abs(got - exact) <= eps * abs(exact) + 32 * eps**2 * np.abs(a).sum() + 1e-36


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_error_free_transformations(scale, dtype):
    rng = np.random.default_rng(2)
    a, b = ((scale * rng.normal(size=500)).astype(dtype) for _ in range(2))
    s, e = SUM(a, b)
    np.testing.assert_array_equal(s, a + b)
    for i in range(50):
        exact = Fraction(float(a[i])) + Fraction(float(b[i]))
        assert Fraction(float(s[i])) + Fraction(float(e[i])) == exact
    p, e = PRODUCT(a, b)
    np.testing.assert_array_equal(p, a * b)
    eps = Fraction(float(np.finfo(dtype).eps))
    for i in range(500):
        exact = Fraction(float(a[i])) * Fraction(float(b[i]))
        error = abs(Fraction(float(p[i])) + Fraction(float(e[i])) - exact)
        assert error <= 2 * eps**2 * abs(exact)


def test_vmap_and_gradient(x64):
    rng = np.random.default_rng(3)
    a, b = jnp.asarray(rng.normal(size=(2, 3, 40)))
    start = jnp.asarray(rng.normal(size=3))
    got = jax.jit(jax.vmap(compensated_dot))(a, b, start)
    np.testing.assert_allclose(got, np.sum(a * b, axis=1) + start, rtol=1e-14)
    arguments = (a[0], b[0], start[0])
    jax.test_util.check_grads(compensated_dot, arguments, order=2, rtol=1e-6, atol=1e-6)
    got = jax.jit(jax.vmap(compensated_sum))(a, start)
    np.testing.assert_allclose(got, np.sum(a, axis=1) + start, rtol=1e-14)
    jax.test_util.check_grads(compensated_sum, arguments[1:], order=2, rtol=1e-6, atol=1e-6)


def test_other_dtypes_are_refused():
    half = jnp.ones(3, jnp.bfloat16)
    with pytest.raises(TypeError, match="expected float32 or float64, got bfloat16"):
        compensated_dot(half, half, jnp.zeros((), jnp.bfloat16))


def test_matmul_keeps_every_bit_and_asks_for_it():
    rng = np.random.default_rng(4)
    a, b = rng.normal(size=(2, 7, 7)).astype(np.float32)
    exact = a.astype(float) @ b.astype(float)
    np.testing.assert_allclose(jax.jit(matmul)(a, b), exact, rtol=1e-5, atol=1e-5)
    assert "HIGHEST" in str(jax.make_jaxpr(matmul)(a, b))
