"""Time with two and three dimensions of space: faces of several kinds, and a total that changes."""

import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.conservation import integral
from jaxsci.constraining import impose, impose_with_certificate
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann, Periodic

SPACE = {"2-D": {"x": 7, "y": 6}, "3-D": {"x": 7, "y": 6, "z": 6}}
WALL, TOTALS = [0.5, 0.25, 1.0], [1.0, 1.2, 1.5]


def problem(space, dtype):
    grid = Grid.uniform(t=(0.0, 1.0, 3), **{axis: (0.0, 1.0, n) for axis, n in space.items()})
    faces = {("x", "low"): Dirichlet(), ("x", "high"): Neumann(0.2), "y": Periodic()}
    faces |= {"z": Neumann(0.0)} if "z" in space else {}
    total = integral(grid, jnp.array(TOTALS), over=tuple(space))
    total = total.astype(dtype)
    # What is prescribed at one wall depends on time.
    wall = jnp.asarray(WALL, dtype)
    shape = [1, 3] + [n for axis, n in space.items() if axis != "x"]
    values = {("x", "low"): jnp.broadcast_to(wall.reshape(-1, *[1] * (len(shape) - 2)), shape)}
    given = {"boundary": BoundaryConditions.on(grid, faces), "shape": grid.shape}
    return grid, {"conservation": total, "values": values, **given}


def predictions(grid, count, dtype):
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(count, grid.size)).astype(dtype)
    return jnp.asarray(mean), jnp.asarray(rng.uniform(0.2, 1.0, grid.size).astype(dtype))


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("update", ["condition", "enforce"])
@pytest.mark.parametrize("space", SPACE)
def test_all_hold(space, update, dtype):
    with jax.enable_x64(True) if dtype == "float64" else contextlib.nullcontext():
        grid, given = problem(SPACE[space], dtype)
        means, variance = predictions(grid, 3, dtype)

        def imposed(mean):
            return impose_with_certificate(
                Gaussian.diagonal(mean, variance), boundary_update=update, **given
            )

        updated, evidence = jax.jit(jax.vmap(imposed))(means)
        assert bool(evidence.holds), evidence
        # Each by its definition, in numpy: the wall, the circle, the totals by trapezoids.
        u = np.asarray(updated.mean, np.float64).reshape(3, *grid.shape)
        wall = np.asarray(WALL).reshape(-1, *[1] * (u.ndim - 3))
        np.testing.assert_array_equal(u[:, :, 0], np.broadcast_to(wall, u[:, :, 0].shape))
        np.testing.assert_array_equal(u[:, :, :, 0], u[:, :, :, -1])
        for n in reversed(grid.shape[1:]):
            u = (u[..., 1:] + u[..., :-1]).sum(-1) / (2 * (n - 1))
        rounding = {"float32": 2e-6, "float64": 1e-14}[dtype]
        np.testing.assert_allclose(u, [TOTALS] * 3, atol=rounding)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("update", ["condition", "enforce"])
@pytest.mark.parametrize("space", SPACE)
def test_gradient_against_differences(space, update, x64):
    grid, given = problem(SPACE[space], "float64")
    (mean, way), variance = predictions(grid, 2, "float64")

    def loss(mean):
        found = impose(Gaussian.diagonal(mean, variance), boundary_update=update, **given).mean
        return jnp.sum(jnp.sin(found))

    slope = jax.jit(jax.grad(loss))(mean) @ way
    step = 1e-5
    rough = (loss(mean + step * way) - loss(mean - step * way)) / (2 * step)
    np.testing.assert_allclose(slope, rough, rtol=1e-7, atol=1e-8)


def test_a_circle_that_meets_slopes_needs_no_matrix():
    """One of so many rows and points would be refused."""
    grid = Grid.uniform(t=(0.0, 1.0, 4), x=(0.0, 1.0, 21), y=(0.0, 1.0, 21), z=(0.0, 1.0, 41))
    faces = {"x": Dirichlet(1.0), "y": Neumann(0.0), "z": Periodic()}
    _, evidence = impose_with_certificate(
        Gaussian.diagonal(jnp.zeros(grid.size), jnp.ones(grid.size)),
        conservation=integral(grid, jnp.ones(4), over=("x", "y", "z")),
        boundary=BoundaryConditions.on(grid, faces),
        shape=grid.shape,
        boundary_update="enforce",
    )
    assert bool(evidence.holds)
