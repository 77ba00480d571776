"""One-dimensional quadrature against numpy and closed forms."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given

from jaxsci.grids import Axis

POINTS = np.sort(np.random.default_rng(0).uniform(-1, 3, 17))
EDGES = np.sort(np.random.default_rng(1).uniform(0, 2, 9))


def _axis(rule, dtype=np.float64, period=None):
    if rule == "cells":
        edges = EDGES.astype(dtype)
        return Axis("x", (edges[1:] + edges[:-1]) / 2, edges=edges)
    return Axis("x", POINTS.astype(dtype), period=period)


def _broken_line(x, u, a, b, rule):
    """The integral from a to b of the field as the rule takes it, by a fine sum in numpy."""
    s = np.linspace(a, b, 200_001)
    middle = (s[1:] + s[:-1]) / 2
    if rule == "trapezoid":
        values = np.interp(middle, x, u)
    else:  # piecewise constant: the value at the right end of each interval
        values = u[np.clip(np.searchsorted(x, middle), 0, len(x) - 1)]
    return values.sum() * (b - a) / 200_000


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_trapezoid_is_numpys(dtype):
    with jax.enable_x64(dtype == "float64"):
        axis = _axis("trapezoid", dtype)
        weights = axis.weights()
        assert weights.dtype == dtype
        u = np.cos(POINTS)
        rtol = 1e-6 if dtype == "float32" else 1e-14
        np.testing.assert_allclose(weights @ u.astype(dtype), np.trapezoid(u, POINTS), rtol=rtol)
        expected = np.concatenate([[0], np.diff(POINTS)])
        # The points themselves are rounded, which shows where two are close.
        np.testing.assert_allclose(axis.weights("right"), expected, rtol=20 * rtol, atol=rtol)


def test_cells_are_their_lengths(x64):
    axis = _axis("cells")
    np.testing.assert_allclose(axis.weights(), np.diff(EDGES), rtol=1e-14)
    averages = np.diff(EDGES**3) / np.diff(EDGES)
    np.testing.assert_allclose(axis.weights("cells") @ averages, EDGES[-1] ** 3 - EDGES[0] ** 3)


@pytest.mark.parametrize("rule", ["trapezoid", "right"])
def test_sub_domains_take_the_field_as_the_rule_does(rule, x64):
    axis, u = _axis(rule), np.sin(POINTS)
    for a, b in ((POINTS[2], POINTS[9]), (0.123, 0.2), (POINTS[0], 1.7), (-0.3, POINTS[-1])):
        got = float(axis.weights(rule, (a, b)) @ u)
        np.testing.assert_allclose(got, _broken_line(POINTS, u, a, b, rule), atol=3e-5)


_part = jax.jit(lambda axis, rule, a, b: axis.weights(rule, (a, b)), static_argnums=1)
_whole = jax.jit(lambda axis, rule: axis.weights(rule), static_argnums=1)
CUTS = st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3, unique=True)


@pytest.mark.parametrize("rule, period", [("trapezoid", None), ("right", None), ("cells", None),
                                          ("trapezoid", 4.5), ("right", 4.5)])  # fmt: skip
@given(cuts=CUTS)
def test_adjacent_domains_add_up(rule, period, cuts):
    with jax.enable_x64(True):
        axis = _axis(rule, period=period)
        low, high = map(float, axis.bounds)
        ends = [low, *(low + c * (high - low) for c in sorted(cuts)), high]
        parts = [np.asarray(_part(axis, rule, *ends[i : i + 2])) for i in range(len(ends) - 1)]
        np.testing.assert_allclose(np.sum(parts, axis=0), _whole(axis, rule), atol=1e-14)
        np.testing.assert_allclose(np.sum(parts, axis=1), np.diff(ends), atol=1e-13)


def test_periodic_weights_cover_the_circle(x64):
    axis = _axis("trapezoid", period=4.5)
    closed = np.append(POINTS, POINTS[0] + 4.5)
    u = np.cos(2 * np.pi * closed / 4.5) + 2
    np.testing.assert_allclose(axis.weights() @ u[:-1], np.trapezoid(u, closed), rtol=1e-14)
    right = np.sum(np.diff(closed) * u[1:])
    np.testing.assert_allclose(axis.weights("right") @ u[:-1], right, rtol=1e-14)
    uniform = Axis("x", np.arange(8) / 8, period=1.0)
    np.testing.assert_allclose(uniform.weights(), np.full(8, 1 / 8), rtol=1e-14)


def test_weights_can_be_traced_and_differentiated(x64):
    points, u = jnp.asarray(POINTS), jnp.asarray(np.cos(POINTS))

    def total(points, low, high):
        return Axis("x", points).weights(domain=(low, high)) @ u

    got = jax.jit(total)(points, 0.11, 1.93)
    np.testing.assert_allclose(got, total(points, 0.11, 1.93), rtol=1e-13)
    batch = jax.vmap(lambda x: Axis("x", x).weights())(jnp.stack([points, 2 * points]))
    np.testing.assert_allclose(batch[1], 2 * batch[0], rtol=1e-13)
    jax.test_util.check_grads(total, (points, 0.11, 1.93), order=1, rtol=1e-6, atol=1e-6)


BAD = [
    (
        lambda: Axis("x", [0.0, 2.0, 1.0]),
        ValueError,
        "strictly increasing.*2.0 followed by 1.0 at index 1",
    ),
    (lambda: Axis("x", [0.0, 0.0]), ValueError, "strictly increasing"),
    (lambda: Axis("x", [0.0, np.nan]), ValueError, r"finite numbers, got nan at index \(1,\)"),
    (lambda: Axis("x", [0.0]), ValueError, "at least 2 numbers"),
    (lambda: Axis("x", [[0.0, 1.0]]), ValueError, "1-D array"),
    (lambda: Axis("x", ["a", "b"]), TypeError, "expected real numbers"),
    (lambda: Axis("x", [0j, 1j]), TypeError, "expected real numbers"),
    (
        lambda: Axis("x", [0.5], edges=[0.0, 1.0, 2.0]),
        ValueError,
        "expected 2 edges around 1 points, got 3",
    ),
    (lambda: Axis("x", [0.5], edges=[0.0, 1.0], period=1.0), ValueError, "cells need no period"),
    (
        lambda: Axis("x", [0.0, 1.0], period=1.0),
        ValueError,
        "less than the period; leave out the end",
    ),
    (lambda: Axis("x", [0.0, 1.0], period=np.nan), ValueError, "less than the period"),
    (lambda: Axis("x", [2.5, 3.5], edges=[0.0, 1.0, 2.0]), ValueError, "points inside their cells"),
    (
        lambda: Axis("x", [0.0, 1.0]).weights("trapezium"),
        ValueError,
        "unknown quadrature rule.*'trapezoid'",
    ),
    (lambda: Axis("x", [0.0, 1.0]).weights("cells"), ValueError, "has points, not cells"),
    (
        lambda: Axis("x", [0.5], edges=[0.0, 1.0]).weights("right"),
        ValueError,
        "holds cell averages",
    ),
    (lambda: Axis("x", [0.0, 1.0]).weights(domain=(0.5, 0.5)), ValueError, "interval inside"),
    (lambda: Axis("x", [0.0, 1.0]).weights(domain=(0.5, 1.5)), ValueError, "interval inside"),
    (lambda: Axis("x", [0.0, 1.0]).weights(domain=(0.8, 0.2)), ValueError, "low end first"),
]


@pytest.mark.parametrize("make, error, match", BAD)
def test_bad_input_is_named(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_whole_numbers_are_made_floating():
    assert Axis("x", [0, 1, 2]).points.dtype == jnp.float32
    assert Axis("t", [0.0, 1.0]).is_time
