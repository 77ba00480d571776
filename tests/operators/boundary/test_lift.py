"""Lifts and faded corrections: closed forms, conditions to rounding, smoothness."""

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from jaxsci.operators.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    blend,
    lift,
    residuals,
)


def _random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


X = np.linspace(0, 2, 9)
LINES = {
    "two values": ({"x": Dirichlet()}, (3.0, -1.0), 3 - 2 * X),
    "one value": ({("x", "high"): Dirichlet()}, (None, 4.0), 4 + 0 * X),
    "value and slope": (
        {("x", "low"): Dirichlet(), ("x", "high"): Neumann()},
        (1.0, 0.5),
        1 + 0.5 * X,
    ),
    # The quadratic with these slopes and no constant.
    "two slopes": ({"x": Neumann(order=2)}, (2.0, 6.0), 2 * X + X**2),
    "one slope": ({("x", "low"): Neumann()}, (2.0, None), 2 * X),
}


@pytest.mark.parametrize("name", LINES)
def test_lines_are_polynomials_of_lowest_degree(name, x64):
    faces, data, expected = LINES[name]
    conditions = BoundaryConditions("x", faces, length={"x": 2.0})
    values = {("x", s): v for s, v in zip(("low", "high"), data, strict=True) if v is not None}
    u = lift(conditions, (1, 9), values, dtype=jnp.float64)
    np.testing.assert_allclose(u[0], expected, rtol=1e-12, atol=1e-12)


def _box(f):
    """Conditions of every kind, and values for them that the field `f` has."""
    faces = {
        ("x", "low"): Dirichlet(),
        ("x", "high"): Robin(a=1.0, b=2.0),
        ("y", "low"): Neumann(),
        ("y", "high"): Neumann(order=2),
    }
    conditions = BoundaryConditions(("x", "y"), faces, length={"x": 1.0, "y": 2.0})
    nothing = {face: jnp.zeros(()) for face in faces}
    values = {k: r.residual for k, r in residuals(f, conditions, nothing).items()}
    return conditions, values


def test_boxes_are_met_on_every_face_where_the_data_are_compatible(x64):
    x, y = np.linspace(0, 1, 9)[:, None], np.linspace(0, 2, 11)
    f = jnp.asarray((np.cos(y) * (1 + x**2))[None])
    conditions, values = _box(f)
    u = lift(conditions, f.shape, values, dtype=jnp.float64)
    for face in residuals(u, conditions, values).values():
        assert float(jnp.abs(face.residual).max()) < 1e-11
    assert float(jnp.abs(u - f).max()) < 0.5  # a smooth guess, not only a face
    assert float(jnp.abs(jnp.diff(u, n=2, axis=1)).max()) < 0.1


@pytest.mark.parametrize("width", [1e-6, 0.3, 0.95])
def test_blended_fields_obey_and_change_near_faces_only(width, x64):
    shape = (2, 9, 11)
    conditions, values = _box(jnp.asarray(_random(0, *shape)))
    u = jnp.asarray(_random(1, *shape))
    y = blend(u, conditions, values, width=width)
    assert all(bool(face.holds) for face in residuals(y, conditions, values).values())
    if width == 0.3:
        np.testing.assert_array_equal(y[:, 3:6, 4:7], u[:, 3:6, 4:7])
        assert (y[:, 1, 4:7] != u[:, 1, 4:7]).all()
    circle = BoundaryConditions(("x", "y"), {"x": Periodic(0.3)})
    y = blend(u, circle, width=width)
    assert all(bool(face.holds) for face in residuals(y, circle).values())
    np.testing.assert_allclose(y[:, 0], 0.3 * u[:, 0] + 0.7 * u[:, -1], rtol=1e-12)


def test_blending_leaves_no_jump_and_does_not_depend_on_the_grid(x64):
    for faces, g in (({("x", "low"): Dirichlet(1.0)}, 1.0), ({("x", "low"): Neumann(1.0)}, 1.0)):
        conditions = BoundaryConditions("x", faces, length={"x": 1.0})
        coarse = blend(jnp.zeros((1, 101)), conditions, width=0.5)[0]
        fine = blend(jnp.zeros((1, 401)), conditions, width=0.5)[0]
        assert float(jnp.abs(coarse - fine[::4]).max()) < 2e-4 * g
        assert float(jnp.abs(jnp.diff(coarse)).max()) < 0.045 * g


@pytest.mark.parametrize("kind", [Neumann(), Robin(a=1.0, b=2.0, order=3)])
def test_rounding_is_not_divided_by_the_distance_of_points(kind, x64):
    """The change of the result for noise of size one, on ever finer grids."""
    conditions = BoundaryConditions("x", {"x": kind}, length={"x": 1.0})
    value = {("x", side): 0.0 for side in ("low", "high")}
    for n in (65, 257, 1025):
        noise = jnp.sign(jnp.asarray(_random(n, 1, n)))
        largest = jnp.abs(
            jax.vmap(lambda u: blend(u, conditions, value))(
                jnp.stack([jnp.roll(noise, k) for k in range(32)])
            )
        ).max()
        assert float(largest) < 12  # hundreds, by neighbouring points


@pytest.mark.parametrize("order, points, largest", [(2, 257, 1.0), (4, 65, 2.0), (4, 257, 1.5)])
def test_an_end_gathers_little_of_the_noise_of_its_stencil(order, points, largest, x64):
    """Of noise of size one; set for all that is left, the end would gather 1.4, 3.3 and 2.5."""
    kind = Neumann(order=order)
    conditions = BoundaryConditions("x", {("x", "high"): kind}, length={"x": 1.0})
    noise = jnp.asarray(_random(0, 2000, 1, points))
    blended = jax.vmap(lambda u: blend(u, conditions, {("x", "high"): 0.0}))(noise)
    size = np.sqrt(np.mean(np.square(blended[:, 0]), axis=0))
    assert size[-1] < largest
    assert size[: points // 2] == pytest.approx(1, rel=0.1)


def test_linear_and_differentiable_in_field_values_and_width(x64):
    conditions, values = _box(jnp.asarray(_random(0, 1, 9, 11)))
    u = jnp.asarray(_random(1, 1, 9, 11))
    f = jax.jit(lambda u, v, w: blend(u, conditions, v, width=w))
    doubled = f(2 * u, jax.tree.map(lambda g: 2 * g, values), 0.4)
    np.testing.assert_allclose(doubled, 2 * f(u, values, 0.4), rtol=1e-10, atol=1e-10)
    jax.test_util.check_grads(f, (u, values, 0.4), order=1, modes=["rev"], rtol=1e-4)
