"""Tensor-product grids: points, weights and faces in 1-D to 3-D plus time."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.grids import Axis, Grid

RNG = np.random.default_rng(0)
LINES = {name: np.sort(RNG.uniform(0, 1 + i, 5 + i)) for i, name in enumerate("txyz")}


@pytest.mark.parametrize("names", ["x", "tx", "txy", "xy", "txyz", "xt"])
def test_weights_are_products_of_numpys_trapezoids(names, x64):
    lines = {name: LINES[name] for name in names}
    grid = Grid.from_points(**lines)
    assert grid.names == tuple(names) and grid.size == np.prod(grid.shape)
    points = np.asarray(grid.points())
    assert points.shape == (grid.size, len(names))
    mesh = np.meshgrid(*lines.values(), indexing="ij")
    np.testing.assert_array_equal(points, np.stack([m.ravel() for m in mesh], -1))
    field = np.prod([np.exp(0.3 * (i + 1) * m) for i, m in enumerate(mesh)], axis=0)
    expected = np.prod(
        [np.trapezoid(np.exp(0.3 * (i + 1) * v), v) for i, v in enumerate(lines.values())]
    )
    np.testing.assert_allclose(np.sum(grid.weights() * field), expected, rtol=1e-13)
    spatial = np.prod([np.ptp(v) for name, v in lines.items() if name != "t"])
    np.testing.assert_allclose(grid.spatial.weights().sum(), spatial, rtol=1e-13)


@pytest.mark.parametrize("over", ["x", ("x",), ("t", "y"), ("y", "t"), None])
def test_subsets_of_the_axes(over, x64):
    grid = Grid.from_points(**{name: LINES[name] for name in "txy"})
    field = RNG.normal(size=grid.shape)
    chosen = grid.names if over is None else tuple(over)
    expected = field
    for i in sorted((grid.names.index(name) for name in chosen), reverse=True):
        expected = np.trapezoid(expected, LINES[grid.names[i]], axis=i)
    weights = grid.weights(over=over)
    assert weights.shape == grid.shape
    axes = tuple(grid.names.index(name) for name in chosen)
    np.testing.assert_allclose(np.sum(weights * field, axis=axes), expected, rtol=1e-11)


def test_domains_restrict_each_axis(x64):
    grid = Grid.uniform(x=(0.0, 1.0, 11), y=(0.0, 2.0, 21))
    weights = grid.weights(domain={"x": (0.25, 0.75), "y": (0.33, 1.0)})
    np.testing.assert_allclose(weights.sum(), 0.5 * 0.67, rtol=1e-12)
    x, y = grid.points().T
    # The field is taken as bilinear, so that a product of linear functions is exact.
    got = jnp.sum(weights.ravel() * x * (1 + y))
    np.testing.assert_allclose(
        got, (0.75**2 - 0.25**2) / 2 * (0.67 + (1 - 0.33**2) / 2), rtol=1e-12
    )


def test_cells_average_space_and_not_time(x64):
    grid = Grid.cells(t=[0.0, 0.5, 2.0], x=[0.0, 1.0, 3.0], y=[0, 1, 2])
    assert grid.shape == (3, 2, 2)
    np.testing.assert_allclose(grid.axis("x").points, [0.5, 2.0])
    np.testing.assert_allclose(grid.weights(over=("x", "y"))[1], [[1, 1], [2, 2]])
    np.testing.assert_allclose(grid.weights("cells").sum(), 2 * 3 * 2)
    assert grid.axis("y").points.dtype == jnp.float64


def test_periodic_axes():
    grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 2 * np.pi, 16), periodic=("x",))
    assert grid.shape == (3, 16)
    np.testing.assert_allclose(grid.axis("x").points, np.arange(16) * np.pi / 8, rtol=1e-6)
    mass = jnp.sum(grid.spatial.weights() * jnp.sin(grid.axis("x").points + 0.3))
    np.testing.assert_allclose(mass, 0, atol=1e-6)
    same = Grid.from_points(period={"x": 2 * np.pi}, x=np.arange(16) * np.pi / 8)
    np.testing.assert_allclose(same.weights(), grid.spatial.weights(), rtol=1e-5)
    assert grid.faces == ()


def test_faces_touch_the_boundary_with_their_own_weights():
    grid = Grid.uniform(t=(0.0, 1.0, 2), x=(0.0, 1.0, 3), y=(0.0, 2.0, 5))
    points = np.asarray(grid.points())
    faces = {(f.axis, f.side): f for f in grid.faces}
    assert list(faces) == [("x", "low"), ("x", "high"), ("y", "low"), ("y", "high")]
    for (axis, side), face in faces.items():
        column, end = grid.names.index(axis), grid.axis(axis).bounds[side == "high"]
        on = np.flatnonzero(points[:, column] == float(end))
        np.testing.assert_array_equal(face.indices, on)
        assert face.normal == (1 if side == "high" else -1)
        across = 2.0 if axis == "x" else 1.0  # the length of the face; once for each of two times
        np.testing.assert_allclose(face.weights.sum(), 2 * across, rtol=1e-6)
    (low, high) = Grid.uniform(x=(0.0, 1.0, 4)).faces
    assert low.indices.tolist() == [0] and high.indices.tolist() == [3]
    assert low.weights.tolist() == high.weights.tolist() == [1.0]


def test_a_grid_is_a_pytree_of_its_coordinates():
    grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 1.0, 4))
    assert jax.jit(lambda g: g.weights())(grid).shape == (3, 4)
    with jax.enable_x64(True):
        wide = grid.astype(jnp.float64)
        assert wide.weights().dtype == wide.points().dtype == jnp.float64


BAD = [
    (lambda: Grid(), ValueError, "at least one axis"),
    (lambda: Grid(Axis("x", [0.0, 1.0]), Axis("x", [0.0, 1.0])), ValueError, "different names"),
    (
        lambda: Grid.uniform(**{n: (0.0, 1.0, 2) for n in "wxyz"}),
        ValueError,
        "at most three space axes",
    ),
    (lambda: Grid.uniform(x=(0.0, 1.0)), ValueError, r"expected \(low, high, points\)"),
    (lambda: Grid.uniform(x=(0.0, 1.0, 1)), ValueError, "at least 2 points, got 1"),
    (lambda: Grid.uniform(x=(0.0, 1.0, 2.5)), ValueError, "at least 2 points, got 2.5"),
    (lambda: Grid.uniform(x=(1.0, 0.0, 3)), ValueError, "strictly increasing"),
    (lambda: Grid.uniform(x=(0.0, 1.0, 3), periodic=("y",)), ValueError, "unknown axis 'y'"),
    (lambda: Grid.from_points(x=[0.0, 1.0], period={"y": 1.0}), ValueError, "unknown axis 'y'"),
    (lambda: Grid.cells(x=[0.0]), ValueError, "at least 2 edges"),
    (lambda: Grid.cells(x=[0.0, 2.0, 1.0]), ValueError, "strictly increasing"),
    (
        lambda: Grid(Axis("t", np.ones(2, np.float16).cumsum()), Axis("x", [0.0, 1.0])),
        TypeError,
        "axes of one dtype.*'float16'.*cast",
    ),
    (
        lambda: Grid.uniform(time=(0.0, 1.0, 3)).axis("tim"),
        ValueError,
        "unknown axis 'tim'; did you mean 'time'",
    ),
    (lambda: Grid.uniform(x=(0.0, 1.0, 3)).weights(over="y"), ValueError, "unknown axis 'y'"),
    (lambda: Grid.uniform(x=(0.0, 1.0, 3)).weights("rigth"), ValueError, "did you mean 'right'"),
    (
        lambda: Grid.uniform(x=(0.0, 1.0, 3), y=(0.0, 1.0, 3)).weights(
            over="x", domain={"y": (0, 1)}
        ),
        ValueError,
        "unknown axis of the integral 'y'",
    ),
]


@pytest.mark.parametrize("make, error, match", BAD)
def test_bad_input_is_named(make, error, match):
    with pytest.raises(error, match=match):
        make()
