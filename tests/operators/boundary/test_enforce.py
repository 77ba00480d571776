"""Faces of random fields after `enforce`: exact, by stencils written out here, in both dtypes."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest
from hypothesis import given, settings

from jaxsci.grids import Grid
from jaxsci.operators.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    boundary_derivative,
    enforce,
    residuals,
)

# Written out as in any table of one-sided first differences, independently of the code.
STENCILS = {
    1: np.array([-1, 1]),
    2: np.array([-3, 4, -1]) / 2,
    3: np.array([-11, 18, -9, 2]) / 6,
    4: np.array([-25, 48, -36, 16, -3]) / 12,
}


def _random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


@pytest.fixture(params=["float32", "float64"])
def dtype(request):
    with jax.enable_x64(request.param == "float64"):
        yield np.dtype(request.param)


def _stencil(u, axis, side, order, h):
    """The derivative at an end and the sum of the sizes of its terms, in float64."""
    u = np.moveaxis(np.asarray(u, np.float64), axis, 0)
    u, sign = (u, 1) if side == "low" else (u[::-1], -1)
    terms = [sign * c * u[k] / h for k, c in enumerate(STENCILS[order])]
    return sum(terms), sum(np.abs(t) for t in terms)


def test_values_need_no_equal_steps():
    grid = Grid.from_points(x=np.array([0.0, 0.1, 0.4, 1.0]), y=np.linspace(0.0, 1.0, 4))
    conditions = BoundaryConditions.on(
        grid, {"x": Dirichlet(2.0), ("y", "low"): Neumann(1.0, order=1)}
    )
    u = np.asarray(enforce(jnp.ones((1, 4, 4)), conditions))[0]
    assert (u[[0, -1]] == 2).all()
    np.testing.assert_allclose((u[1:-1, 1] - u[1:-1, 0]) * 3, 1, rtol=1e-6)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 99),
    n=st.sampled_from([7, 12]),
    channels=st.sampled_from([1, 3]),
    order=st.integers(1, 4),
    kinds=st.tuples(st.sampled_from("DNRF"), st.sampled_from("DNRF")),
    wide=st.booleans(),
    scale=st.sampled_from([1e-3, 1.0, 1e4]),
)
def test_random_lines_obey_their_conditions(seed, n, channels, order, kinds, wide, scale):
    a, b, h = 0.7, -1.3, 0.1
    make = {
        "D": lambda: Dirichlet(),
        "N": lambda: Neumann(order=order),
        "R": lambda: Robin(a=a, b=b, order=order),
    }
    named = dict(zip(("low", "high"), kinds, strict=True))
    faces = {("x", side): make[k]() for side, k in named.items() if k != "F"}
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        eps = float(jnp.finfo(dtype).eps)
        conditions = BoundaryConditions("x", faces, spacing={"x": h})
        u = jnp.asarray(scale * _random(seed, channels, n), dtype)
        values = {f: jnp.asarray(_random(seed + 1, channels), dtype) for f in faces}
        y = enforce(u, conditions, values)
        np.testing.assert_array_equal(y[:, 1:-1], u[:, 1:-1])
        found = residuals(y, conditions, values)
        for side, kind in named.items():
            end = 0 if side == "low" else -1
            if kind == "F":
                assert (y[:, end] == u[:, end]).all()
                continue
            g = np.asarray(values["x", side], np.float64)
            assert bool(found["x", side].holds)
            if kind == "D":
                assert (np.asarray(y[:, end], np.float64) == g).all()
                continue
            # The spacing as it is in this dtype: its rounding is not the stencil's.
            derivative, size = _stencil(y, 1, side, order, float(jnp.asarray(h, dtype)))
            if kind == "R":
                a_, b_ = float(jnp.asarray(a, dtype)), float(jnp.asarray(b, dtype))
                derivative = b_ * derivative + a_ * np.asarray(y[:, end], np.float64)
                size = abs(b_) * size + np.abs(a_ * np.asarray(y[:, end], np.float64))
            assert (np.abs(derivative - g) <= 4 * eps * (size + np.abs(g))).all()
            # What `residuals` reports is what was measured here.
            assert (found["x", side].rounding <= 4.01 * eps * (size + np.abs(g))).all()
            np.testing.assert_allclose(
                found["x", side].residual, derivative - g, atol=2 * eps * (size + np.abs(g)).max()
            )
        again = enforce(y, conditions, values)
        np.testing.assert_allclose(again, y, rtol=8 * eps)


@settings(max_examples=10)
@given(
    seed=st.integers(0, 99),
    n=st.sampled_from([2, 3, 8]),
    weight=st.sampled_from([0.0, 0.3, 0.5, 1.0]),
)
def test_periodic_ends_are_one_point(seed, n, weight):
    u = jnp.asarray(_random(seed, 2, n), jnp.float32)
    conditions = BoundaryConditions("x", {"x": Periodic(weight)})
    y = enforce(u, conditions)
    assert (y[:, 0] == y[:, -1]).all()
    np.testing.assert_allclose(
        y[:, 0], weight * u[:, 0] + (1 - weight) * u[:, -1], rtol=1e-6, atol=1e-6
    )
    assert all(bool(face.holds) for face in residuals(y, conditions).values())
    assert not u.shape[1] > 2 or not bool(residuals(u, conditions)["x", "low"].holds)


BOX = ("t", "x", "y")


def _compatible(dtype, n):
    """Conditions of each kind on a box, with data of one smooth field, so that all can hold."""
    t, x, y = (np.linspace(0, 1, k).astype(dtype) for k in n)
    wall = (np.cos(t)[:, None] * np.sin(y)[None, :])[None]
    start = np.broadcast_to(np.cos(0) * np.sin(y), (1, n[1], n[2]))
    faces = {
        ("x", "low"): Dirichlet(wall),
        ("x", "high"): Neumann(order=3),
        ("t", "low"): Dirichlet(start.astype(dtype)),
        ("y", "low"): Robin(0.5, a=1.0, b=2.0, order=2),
        ("y", "high"): Neumann(np.linspace(0, 1, n[0])[None, :, None].astype(dtype), order=1),
    }
    return BoundaryConditions(BOX, faces, length={"x": 1.0, "y": 2.0})


def test_boxes_obey_conditions_of_every_kind(dtype):
    n = (5, 6, 7)
    conditions = _compatible(dtype, n)
    u = jnp.asarray(_random(0, 2, *n), dtype)
    values = {("x", "high"): jnp.asarray(_random(1, 2, n[0], n[2]), dtype)}
    y = jax.jit(lambda u, v: enforce(u, conditions, v))(u, values)
    np.testing.assert_array_equal(y[:, 1:, 1:-1, 1:-1], u[:, 1:, 1:-1, 1:-1])
    found = residuals(y, conditions, values)
    assert set(found) == set(conditions.faces)
    for face in found.values():
        assert bool(face.holds)
    # Every point of every face is decided by some condition, those of values by theirs.
    assert bool(found["x", "low"].owned.all()) and bool(found["t", "low"].owned.all())
    assert not bool(found["y", "low"].owned[:, 0].any())
    assert bool(found["y", "low"].owned[:, 1:, 1:].all())
    # The derivative along y at its high end, by a stencil written out here.
    derivative, size = _stencil(y, 3, "high", 1, 2.0 / (n[2] - 1))
    g = np.linspace(0, 1, n[0])[None, :, None]
    off = np.abs(derivative - g)[:, 1:, 1:]
    assert (off <= 4 * jnp.finfo(dtype).eps * (size + g)[:, 1:, 1:]).all()


def test_insulated_corners_satisfy_both_faces(x64):
    conditions = BoundaryConditions(
        ("x", "y"), {"x": Neumann(0.0, order=2), "y": Neumann(0.0)}, spacing={"x": 0.1, "y": 0.2}
    )
    y = enforce(jnp.asarray(_random(0, 1, 8, 9)), conditions)
    for face in residuals(y, conditions).values():
        assert float(jnp.abs(face.residual).max()) < 1e-12 / 0.1
    periodic = BoundaryConditions(
        ("x", "y"), {"x": Periodic(), "y": Neumann(1.0)}, spacing={"y": 0.1}
    )
    found = residuals(enforce(jnp.asarray(_random(0, 1, 8, 9)), periodic), periodic)
    assert float(jnp.abs(found["x", "low"].residual).max()) == 0
    assert all(bool(face.holds) for face in found.values())


def test_corners_go_to_the_axis_that_is_named():
    u = jnp.ones((1, 4, 5), jnp.float32)
    faces = {"x": Dirichlet(0.0), ("y", "high"): Dirichlet(1.0)}
    with pytest.raises(
        ValueError, match=r"\('x', 'low'\) and \('y', 'high'\) share poi.*: 0.0 and"
    ):
        enforce(u, BoundaryConditions(("x", "y"), faces))
    walls = enforce(u, BoundaryConditions(("x", "y"), faces, corners="x"))
    lid = BoundaryConditions(("x", "y"), faces, corners="y")
    assert walls[0, 0, -1] == 0 and walls[0, 1, -1] == 1
    assert enforce(u, lid)[0, 0, -1] == 1
    assert all(bool(face.holds) for face in residuals(enforce(u, lid), lid).values())
    # Under jit nothing can be raised: the later axis has the corner.
    checked = BoundaryConditions(("x", "y"), {"x": Dirichlet(), "y": Dirichlet(1.0)})
    zero = {("x", side): jnp.zeros(()) for side in ("low", "high")}
    assert jax.jit(lambda v: enforce(u, checked, v))(zero)[0, 0, 0] == 1
    ramp = {("y", "low"): Dirichlet(jnp.linspace(0.0, 1.0, 4)[None]), "x": Periodic()}
    with pytest.raises(ValueError, match=r"low end of periodic 'x'.*contradict.*0.0 and 1.0"):
        enforce(u, BoundaryConditions(("x", "y"), ramp))


@pytest.mark.parametrize("order", range(1, 9))
def test_derivatives_are_exact_for_polynomials_of_their_order(order, x64):
    x = jnp.linspace(-1.0, 2.0, 12)
    u = jnp.stack([x**order, -(x**2)])
    low = boundary_derivative(u, axis=1, side="low", spacing=3 / 11, order=order)
    high = boundary_derivative(u, axis=-1, side="high", spacing=3 / 11, order=order)
    np.testing.assert_allclose(low[0], order * (-1.0) ** (order - 1), rtol=1e-10)
    np.testing.assert_allclose(high[0], order * 2.0 ** (order - 1), rtol=1e-10)
    if order > 1:
        np.testing.assert_allclose((low[1], high[1]), (2.0, -4.0), rtol=1e-10)
    # One degree more, and the error is that of a method of this order.
    steps, errors = (20, 40), []
    for n in steps:
        s = jnp.linspace(0.0, 1.0, n + 1)
        slope = boundary_derivative(jnp.exp(2 * s), axis=0, side="high", spacing=1 / n, order=order)
        errors.append(abs(float(slope) - 2 * np.exp(2)))
    assert order - 0.35 < np.log2(errors[0] / errors[1]) < order + 0.35


def test_the_independent_stencil_tells_what_an_enforced_one_hides(x64):
    """The two-point stencil holds to rounding on a field whose derivative is far from 0."""
    x = jnp.linspace(0.0, 1.0, 51)
    conditions = BoundaryConditions("x", {"x": Neumann(0.0, order=1)}, length={"x": 1.0})
    face = residuals(enforce(jnp.sin(6 * x)[None], conditions), conditions)["x", "low"]
    assert face.derivative is not None
    assert bool(face.holds) and abs(float(face.derivative[0])) > 1


def test_linear_differentiable_and_vmapped(x64):
    faces = {("x", "low"): Dirichlet(), ("x", "high"): Robin(a=1.0, b=0.5), "t": Periodic(0.3)}
    conditions = BoundaryConditions(("t", "x"), faces, spacing={"x": 0.3})

    def f(u, low, high):
        low = low.at[:, -1].set(low[:, 0])  # both ends of a circle have one value
        return enforce(u, conditions, {("x", "low"): low, ("x", "high"): high})

    f = jax.jit(f)
    one = (_random(0, 2, 4, 8), _random(1, 2, 4), _random(2, 2, 1))
    two = (_random(3, 2, 4, 8), _random(4, 2, 4), _random(5, 2, 1))
    combined = f(*(2 * p - 3 * q for p, q in zip(one, two, strict=True)))
    np.testing.assert_allclose(combined, 2 * f(*one) - 3 * f(*two), rtol=1e-12, atol=1e-12)
    jax.test_util.check_grads(f, one, order=1, modes=["fwd", "rev"])
    batched = jax.vmap(f)(*(jnp.stack(pair) for pair in zip(one, two, strict=True)))
    np.testing.assert_allclose(batched, jnp.stack([f(*one), f(*two)]), rtol=1e-13)


def test_lengths_keep_their_meaning_when_the_resolution_changes(x64):
    conditions = BoundaryConditions("x", {"x": Neumann(3.0)}, length={"x": 2.0})
    for n in (9, 18, 37):
        u = enforce(jnp.asarray(_random(0, 1, n)), conditions)
        derivative, _ = _stencil(u, 1, "low", 4, 2.0 / (n - 1))
        np.testing.assert_allclose(derivative, 3.0, rtol=1e-10)
    grid = Grid.uniform(t=(0.0, 1.0, 3), x=(-1.0, 1.0, 9))
    on = BoundaryConditions.on(grid, {"x": Neumann(3.0)})
    assert on.axes == ("t", "x") and on.length == {"x": 2.0}


def test_frozen_conditions_have_no_parameters():
    conditions = BoundaryConditions(
        "x", {"x": Robin(jnp.ones(2), a=jnp.ones(()), b=1.0)}, spacing={"x": jnp.ones(())}
    )
    assert len(jax.tree.leaves(conditions)) == 7
    frozen = conditions.frozen()
    assert jax.tree.leaves(frozen) == [] and hash(jax.tree.structure(frozen))
    u = jnp.asarray(_random(0, 2, 9), jnp.float32)
    with jax.disable_jit():  # a compiler folds constants as it likes
        np.testing.assert_array_equal(enforce(u, frozen), enforce(u, conditions))
