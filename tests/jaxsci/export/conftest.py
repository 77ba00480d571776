"""Models and inputs that the tests of exports share."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci import constrain
from jaxsci.conservation import integral
from jaxsci.export import operator_arguments
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann, Periodic
from jaxsci.operators.constrained import DEFAULT_RECIPE, make_operator
from jaxsci.operators.fno import FNO


class Case(NamedTuple):
    """A model, what it is exported for, and a batch for some sizes."""

    model: Callable[..., Any]
    args: tuple[Any, ...]
    shapes: tuple[Any, ...]
    batch: Callable[..., tuple[Any, ...]]
    sizes: tuple[tuple[int, ...], ...]


LINE = ((3, 32), (2, 47), (1, 256))
PLANE = ((3, 16, 32), (2, 25, 47), (1, 40, 96))
SETTINGS: dict[str, Any] = {"width": 8, "layers": 2, "key": jax.random.key(0)}


def normal(*shape: int) -> jax.Array:
    numbers = np.random.default_rng(sum(shape)).standard_normal(shape)
    return jnp.asarray(numbers, jnp.float32)


def fno() -> Case:
    return Case(
        FNO(1, 1, 6, **SETTINGS),
        (normal(1, 32),),
        ("_, x",),
        lambda b, n: (normal(b, 1, n),),
        LINE,
    )


def on_a_line(name: str, kind: type[Dirichlet] | type[Neumann] = Dirichlet) -> Case:
    """An operator with a number on one side and a value of each call on the other."""
    conditions = BoundaryConditions(
        "x", {("x", "low"): kind(0.5), ("x", "high"): Dirichlet()}, length={"x": 1.0}
    )
    values = {("x", "high"): jnp.ones(())}
    return Case(
        make_operator(name, 1, 1, conditions, modes=6, **SETTINGS),
        *operator_arguments(conditions, normal(1, 32), values),
        lambda b, n: (normal(b, 1, n), {("x", "high"): normal(b)}),
        LINE,
    )


def in_the_plane(name: str) -> Case:
    """An operator in time and space, with values along time at a wall and a slope at the other."""
    conditions = BoundaryConditions(
        ("t", "x"), {("x", "low"): Dirichlet(), ("x", "high"): Neumann(0.0)}, length={"x": 1.0}
    )
    values = {("x", "low"): normal(1, 16)}
    return Case(
        make_operator(name, 1, 1, conditions, modes=(6, 6), **SETTINGS),
        *operator_arguments(conditions, normal(1, 16, 32), values),
        lambda b, n, m: (normal(b, 1, n, m), {("x", "low"): normal(b, 1, n)}),
        PLANE,
    )


def on_a_circle(name: str) -> Case:
    """An operator between the two ends of an axis that are one."""
    conditions = BoundaryConditions(("t", "x"), {"x": Periodic()})
    return Case(
        make_operator(name, 1, 1, conditions, modes=(6, 6), **SETTINGS),
        *operator_arguments(conditions, normal(1, 16, 32)),
        lambda b, n, m: (normal(b, 1, n, m),),
        PLANE,
    )


def constrained(name: str = DEFAULT_RECIPE, update: Any = "enforce") -> Case:
    """Insulated walls, a first state and its total, on any grid: mean and variance."""
    conditions = BoundaryConditions(
        ("t", "x"),
        {"x": Neumann(0.0), ("t", "low"): Dirichlet()},
        length={"x": 1.0},
    )
    walls = BoundaryConditions(("t", "x"), {"x": Neumann(0.0)}, length={"x": 1.0})

    def total(x):
        _, n, m = x.shape
        grid = Grid.uniform(t=(0.0, 1.0, n), x=(0.0, 1.0, m))
        return integral(grid, jnp.repeat(grid.spatial.weights() @ x[0, 0], n), over="x")

    model = constrain(
        make_operator(name, 1, 1, walls, modes=(6, 6), **SETTINGS),
        variance=0.1,
        conservation=total,
        boundary=conditions,
        values=lambda x: {("t", "low"): x[:, 0]},
        shape=jnp.shape,
        boundary_update=update,
    )

    def both(x):
        gaussian = model(x)
        return jnp.stack([gaussian.mean, gaussian.marginal_var])

    def batch(b, n, m):
        return (1 + normal(b, 1, n, m),)

    return Case(both, (normal(1, 16, 32),), ("_, t, x",), batch, PLANE)


CASES: dict[str, Callable[[], Case]] = {
    "fno": fno,
    "default": lambda: on_a_line(DEFAULT_RECIPE),
    "padded": lambda: on_a_line("fno-matched-padded-blended"),
    "lifted": lambda: on_a_line("fno-lifted", Neumann),
    "adapted": lambda: on_a_line("fno-adapted"),
    "boon": lambda: on_a_line("boon"),
    "default-plane": lambda: in_the_plane(DEFAULT_RECIPE),
    "circle": lambda: on_a_circle("fno-matched-blended"),
    "constrained": constrained,
}


@pytest.fixture(scope="session")
def case_of() -> Callable[[str], Case]:
    return lambda name: CASES[name]()


@pytest.fixture(scope="session")
def relative() -> Callable[[Any, Any], float]:
    """The largest difference over the largest value."""

    def measure(found: Any, expected: Any) -> float:
        found, expected = np.asarray(found), np.asarray(expected)
        assert found.shape == expected.shape and found.dtype == expected.dtype
        return float(np.abs(found - expected).max() / np.abs(expected).max())

    return measure
