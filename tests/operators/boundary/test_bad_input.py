"""Every message that bad input meets."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.grids import Axis, Grid
from jaxsci.operators.boundary import (
    BoundaryConditions,
    DenseLayer,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    boundary_derivative,
    correct,
    enforce,
)

U = jnp.ones((1, 4, 6))
XY = ("x", "y")


def _both(**kwargs):
    return BoundaryConditions("x", {"x": Neumann(0.0)}, **kwargs)


CASES = {
    "nan value": (lambda: Dirichlet(np.array([1.0, np.nan])), "got nan at index \\(1,\\)"),
    "infinite b": (lambda: Robin(0.0, a=1.0, b=np.inf), "Robin\\(b=...\\).*finite"),
    "order": (lambda: Neumann(0.0, order=5), "Neumann\\(order=...\\).*1 to 4, got 5"),
    "nothing": (lambda: Robin(0.0, a=0.0, b=0.0), "says nothing about the field"),
    "array a": (lambda: Robin(0.0, a=np.ones(2), b=1.0), "expected a number, got shape \\(2,\\)"),
    "weight": (lambda: Periodic(1.5), "number 0 to 1, got 1.5"),
    "axis": (
        lambda: BoundaryConditions("x", {"z": Dirichlet()}),
        "unknown axis 'z'",
    ),
    "side": (
        lambda: BoundaryConditions("x", {("x", "left"): Dirichlet()}),
        "unknown side 'left'",
    ),
    "twice": (
        lambda: BoundaryConditions("x", {"x": Dirichlet(), ("x", "low"): Neumann()}),
        "two conditions for the face \\('x', 'low'\\)",
    ),
    "same axes": (lambda: BoundaryConditions(("x", "x"), {}), "expected different names"),
    "half periodic": (
        lambda: BoundaryConditions("x", {("x", "low"): Periodic()}),
        "joins both sides; give it for the axis, \\{'x': Periodic\\(\\)\\}",
    ),
    "spacing": (lambda: _both(), "Neumann on the low side of 'x' needs the distance.*got none"),
    "negative": (lambda: _both(spacing={"x": -0.1}), "expected a positive number, got -0.1"),
    "points": (lambda: _both(spacing={"x": np.ones(3)}), "expected a number \\(uniform spacing\\)"),
    "both": (lambda: _both(spacing={"x": 1.0}, length={"x": 1.0}), "a spacing and a length"),
    "corner axis": (lambda: _both(spacing={"x": 1.0}, corners="q"), "unknown axis of the corners"),
    "batch": (
        lambda: enforce(U, _both(spacing={"x": 1.0})),
        "expected one sample \\(C, x\\), got shape \\(1, 4, 6\\)",
    ),
    "few points": (
        lambda: enforce(U[:, 0, :5], _both(spacing={"x": 1.0})),
        "on axis 'x' need 6 points .*got 5; lower their order",
    ),
    "no value": (
        lambda: enforce(U, BoundaryConditions(XY, {("y", "low"): Dirichlet()})),
        "\\('y', 'low'\\) is passed at each call.*got values for no face",
    ),
    "unknown face": (
        lambda: enforce(U, BoundaryConditions(XY, {}), {("y", "low"): 1.0}),
        "values=.*of which there are none; got one on \\('y', 'low'\\)",
    ),
    "surplus": (
        lambda: enforce(U, BoundaryConditions(XY, {"y": Dirichlet(1.0)}), {("y", "low"): 1.0}),
        "takes no value at the call; make it `Dirichlet\\(None\\)`",
    ),
    "periodic value": (
        lambda: enforce(U, BoundaryConditions(XY, {"y": Periodic()}), {("y", "low"): 1.0}),
        "is periodic and takes no value",
    ),
    "face shape": (
        lambda: enforce(
            U, BoundaryConditions(XY, {("y", "low"): Dirichlet()}), {("y", "low"): np.ones((1, 5))}
        ),
        "the shape of the face \\(1, 4\\).*got \\(1, 5\\)",
    ),
    "channels": (
        lambda: enforce(U, BoundaryConditions(XY, {"y": Dirichlet(np.ones(3))})),
        "one per channel \\(1,\\).*got \\(3, 1\\)",
    ),
    "nan at call": (
        lambda: enforce(
            U,
            BoundaryConditions(XY, {("y", "low"): Dirichlet()}),
            {("y", "low"): jnp.ones((1, 4)).at[0, 2].set(jnp.nan)},
        ),
        "got nan at index \\(0, 2\\)",
    ),
    "nan field": (
        lambda: enforce(U.at[0, 1, 2].set(jnp.nan), BoundaryConditions(XY, {})),
        "enforce\\(u=...\\).*nan at index \\(0, 1, 2\\)",
    ),
    "singular robin": (
        lambda: enforce(
            U[:, 0],
            BoundaryConditions(
                "x", {("x", "low"): Robin(0.0, a=1.0, b=1.0, order=1)}, spacing={"x": 1.0}
            ),
        ),
        "does not depend on the value at the low end",
    ),
    "grid circle": (
        lambda: BoundaryConditions.on(
            Grid.uniform(x=(0, 1, 5), periodic=["x"]), {"x": Dirichlet(0.0)}
        ),
        "'x' is a circle",
    ),
    "grid cells": (
        lambda: BoundaryConditions.on(Grid.cells(x=np.linspace(0, 1, 5)), {"x": Dirichlet(0.0)}),
        "'x' holds cells",
    ),
    "grid steps": (
        lambda: BoundaryConditions.on(
            Grid(Axis("x", np.array([0.0, 1.0, 3.0]))), {"x": Neumann(0.0)}
        ),
        "'x' is not uniform \\(steps 1 to 2\\)",
    ),
    "derivative order": (
        lambda: boundary_derivative(U, axis=1, side="low", spacing=1.0, order=9),
        "1 to 8, got 9",
    ),
    "derivative side": (
        lambda: boundary_derivative(U, axis=1, side="left", spacing=1.0),
        "'low' or 'high', got 'left'",
    ),
    "derivative axis": (
        lambda: boundary_derivative(U, axis=3, side="low", spacing=1.0),
        "the field has 3 axes",
    ),
    "derivative points": (
        lambda: boundary_derivative(U, axis=1, side="low", spacing=1.0),
        "needs 7 points along axis 1, got 4; lower the order",
    ),
    "method": (
        lambda: correct(np.eye(4), BoundaryConditions("x", {}), "bon"),
        "unknown method 'bon'; did you mean 'boon'",
    ),
    "tikhonov": (
        lambda: correct(np.eye(4), BoundaryConditions("x", {}), tikhonov=-1.0),
        "expected a number >= 0, got -1.0",
    ),
    "matrix": (
        lambda: DenseLayer(np.ones((1, 3, 1, 4))),
        "same points on both sides, got \\(1, 3, 1, 4\\)",
    ),
    "odd matrix": (lambda: DenseLayer(np.ones((3, 3, 3))), "got \\(3, 3, 3\\)"),
    "matrix input": (lambda: DenseLayer(np.eye(3))(jnp.ones((1, 4))), "expected shape \\(1, 3\\)"),
    "other points": (
        lambda: correct(lambda x: x[:, 1:], BoundaryConditions("x", {}))(U[0]),
        "at the same points, got \\(4, 5\\) for \\(4, 6\\)",
    ),
}
TYPES = {
    "function": (lambda: Dirichlet(jnp.sin), "expected real numbers.*evaluate a function"),
    "complex": (lambda: Dirichlet(np.ones(2, complex)), "expected real numbers, got complex128"),
    "no condition": (lambda: BoundaryConditions("x", {"x": 0.0}), "got float"),
    "no faces": (lambda: BoundaryConditions("x", Dirichlet(0.0)), "a condition for each face"),
    "scalar spacing": (lambda: _both(spacing=0.1), "a number for each axis, as \\{'x': ...\\}"),
    "integers": (
        lambda: enforce(jnp.ones((1, 4), int), BoundaryConditions("x", {})),
        "expected floating numbers, got int32; cast them",
    ),
    "conditions": (
        lambda: correct(np.eye(4), {"x": Dirichlet(0.0)}),
        "expected BoundaryConditions, which name the axes, got dict",
    ),
    "layer": (
        lambda: correct("K", BoundaryConditions("x", {})),
        "expected a matrix or a callable, got str",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_values_that_make_no_sense_are_named(name):
    call, message = CASES[name]
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("name", TYPES)
def test_types_that_make_no_sense_are_named(name):
    call, message = TYPES[name]
    with pytest.raises(TypeError, match=message):
        call()


def test_nothing_is_raised_on_values_under_jit():
    wall = BoundaryConditions(XY, {("y", "low"): Dirichlet()})
    y = jax.jit(lambda u, v: enforce(u, wall, {("y", "low"): v}))(U, jnp.full((1, 4), jnp.nan))
    assert jnp.isnan(y[:, :, 0]).all() and jnp.isfinite(y[:, :, 1:]).all()
