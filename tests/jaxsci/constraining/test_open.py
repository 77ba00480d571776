"""Sizes that stay open in an export: the numbers of the live model on every grid."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci import constrain
from jaxsci.conservation import integral
from jaxsci.grids import Grid
from jaxsci.operators.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    eliminate,
)

START = {("t", "low"): Dirichlet()}
FACES = {
    "no faces": {},
    "values": {"x": Dirichlet(0.25)} | START,
    "slopes": {"x": Neumann(0.5)} | START,
    "orders that differ": {
        ("x", "low"): Robin(0.5, a=1.0, b=-2.0, order=4),
        ("x", "high"): Neumann(-1.0, order=2),
    },
    "one slope": {("x", "low"): Neumann(0.5), ("x", "high"): Dirichlet(0.0)} | START,
    "circle": {"x": Periodic()} | START,
}
SOME = ("one slope", "enforce"), ("circle", "condition")
SIZES = (5, 12), (9, 40)


def conditions_of(kind):
    return BoundaryConditions(("t", "x"), FACES[kind], length={"x": 2.0}, corners="t")


def total(a):
    """Two channels: the first has the total that it has at the start, at all times."""
    _, t, x = a.shape
    grid = Grid.uniform(t=(0.0, 1.0, t), x=(0.0, 2.0, x))
    return {0: integral(grid, jnp.repeat(grid.spatial.weights() @ a[0, 0], t), over="x")}


def fields(t, x):
    numbers = np.random.default_rng(t).standard_normal((2, t, x))
    return jnp.asarray(numbers, jnp.float32).at[..., -1].set(numbers[..., 0])


def moments_of(kind, update, law=total):
    model = constrain(
        jnp.sin,
        variance=lambda a: 0.1 + jnp.cos(a) ** 2,
        conservation=law,
        boundary=conditions_of(kind) if FACES[kind] else None,
        values=(lambda a: {("t", "low"): a[:, 0]}) if ("t", "low") in FACES[kind] else None,
        shape=jnp.shape,
        boundary_update=update,
    )

    def moments(a):
        gaussian, certificate = model.with_certificate(a)
        return gaussian.mean, gaussian.marginal_var, certificate.holds

    return moments


def exported(function, least="t >= 4, x >= 10"):
    scope = jax.export.SymbolicScope(least.split(", "))
    shape = jax.export.symbolic_shape("2, t, x", scope=scope)
    return jax.export.export(jax.jit(function))(jax.ShapeDtypeStruct(shape, jnp.float32))


@pytest.mark.slow_but(1)
@pytest.mark.parametrize(
    ("kind", "update"),
    [
        pytest.param(kind, update, marks=() if (kind, update) in SOME else pytest.mark.slow)
        for kind in FACES
        for update in ("condition", "enforce")
    ],
)
def test_numbers_of_the_live_model(kind, update):
    moments = moments_of(kind, update)
    model = exported(moments)
    for sizes in SIZES:
        a = fields(*sizes)
        for found, wanted in zip(model.call(a)[:2], moments(a)[:2], strict=True):
            np.testing.assert_allclose(found, wanted, atol=2e-6 * float(jnp.abs(wanted).max()))
        assert model.call(a)[2]


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("kind", ["slopes", "orders that differ", "one slope", "circle"])
def test_elimination(kind):
    """The same points, whatever the order of the rows."""

    def found(a):
        return tuple(eliminate(conditions_of(kind), a.shape, a.dtype))

    model = exported(found)
    for sizes in SIZES:
        a = fields(*sizes)
        wanted = eliminate(conditions_of(kind), a.shape, a.dtype)
        fixed, at, indices, weights, periodic = model.call(a)
        order = np.argsort(at)
        np.testing.assert_array_equal(fixed, wanted.fixed)
        np.testing.assert_array_equal(at[order], wanted.at)
        np.testing.assert_array_equal(indices[order], wanted.indices)
        np.testing.assert_allclose(weights[order], wanted.weights, rtol=1e-6)
        np.testing.assert_array_equal(periodic[order], wanted.periodic)


def cuts_stencils(a):
    """One total for each point, over all times."""
    _, t, x = a.shape
    grid = Grid.uniform(t=(0.0, 1.0, t), x=(0.0, 2.0, x))
    return {1: integral(grid, jnp.zeros(x), over="t")}


def test_refusals():
    with pytest.raises(ValueError, match="axis 'x' of open size needs 10 points, got x"):
        exported(moments_of("slopes", "enforce"), "t >= 4, x >= 6, 9 >= x")
    with pytest.raises(Exception, match="'x' >= '10' is inconclusive"):
        exported(moments_of("slopes", "enforce"), "t >= 4, x >= 9")
    with pytest.raises(ValueError, match="make a matrix, which open sizes do not allow"):
        exported(moments_of("slopes", "condition", cuts_stencils))
    walls = BoundaryConditions(("t", "x"), {"x": Dirichlet(0.0)})
    kept = constrain([jnp.sin, jnp.cos], variance=0.1, boundary=walls, shape=jnp.shape)
    with pytest.raises(ValueError, match="not diagonal, make a matrix, which open sizes"):
        exported(lambda x: kept(x).mean, "t >= 4, x >= 12")
    meeting = BoundaryConditions(("t", "x"), {"t": Neumann(0.0), "x": Neumann(0.0)}, length=LENGTH)
    with pytest.raises(ValueError, match=r"along one axis at most .* got \['t', 'x'\]"):
        exported(lambda a: eliminate(meeting, a.shape, a.dtype).at, "t >= 10, x >= 10")


LENGTH = {"t": 1.0, "x": 1.0}


def test_uniform_grid():
    """That of numbers, to rounding, with the ends exact."""
    scope = jax.export.SymbolicScope(["n >= 2"])
    (n,) = jax.export.symbolic_shape("n", scope=scope)

    def points(a):
        grid = Grid.uniform(x=(0.1, 0.7, a.size), y=(-1.0, 2.0, a.size), periodic=("y",))
        return grid.axis("x").points, grid.axis("y").points, grid.weights()

    model = jax.export.export(jax.jit(points))(jax.ShapeDtypeStruct((n,), jnp.float32))
    for size in (2, 3, 10, 101):
        found, wanted = model.call(jnp.zeros(size)), points(jnp.zeros(size))
        for f, w in zip(found, wanted, strict=True):
            np.testing.assert_allclose(f, w, rtol=2e-6, atol=2e-7)
        assert found[0][0] == wanted[0][0] and found[0][-1] == wanted[0][-1]
