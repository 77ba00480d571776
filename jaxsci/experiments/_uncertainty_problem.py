"""Solutions of an equation for an operator to learn, inside and outside a range of parameters."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.equations import EQUATIONS, AbstractEquation
from jaxsci.equations.families import Sample
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Periodic

from ._operators_problem import Problem

Range = tuple[float, float]

DOMAINS: dict[str, dict[str, Range]] = {
    "heat": {"in": (1.0, 5.0), "near": (5.0, 6.0), "far": (7.0, 8.0)},
    "porous-medium": {"in": (2.0, 3.0), "near": (3.0, 4.0), "far": (5.0, 6.0)},
    "stefan": {"in": (0.6, 0.65), "near": (0.55, 0.6), "far": (0.5, 0.55)},
    "advection": {"in": (1.0, 2.0), "near": (2.0, 2.5), "far": (2.5, 3.0)},
}
"""For each experiment, the parameters of training and testing `"in"` the domain, and outside."""


@dataclasses.dataclass(frozen=True)
class UncertaintyProblem:
    """What is learned, where it is tested, and what is conserved.

    - `problem`: functions to train on and to choose by, from the range `"in"`.
    - `calibration`: more functions of that range, for nothing but calibration.
    - `tests`: by domain.
    - `grid`: of the outputs, `(t, x)`.
    - `masses`: by domain, `"calibration"` too: the exact integral over `x`, `(functions, times)`.
    """

    problem: Problem
    calibration: Sample
    tests: dict[str, Sample]
    grid: Grid
    masses: dict[str, Float[Array, "functions times"]]


def make_uncertainty_problem(
    experiment: str, functions: int, held_out: int, *, points: int, steps: int, seed: int = 0
) -> UncertaintyProblem:
    """The operator from the parameter of an equation (and its initial field) to the solution.

    Inputs are the parameter as a constant channel and the initial field at all times; outputs are
    exact. Times are equally spaced, the first after the start.

    **Arguments:**

    - `experiment`: a name of [`jaxsci.experiments.DOMAINS`][].
    - `functions`: for training.
    - `held_out`: for choosing, for calibrating, and for testing in each domain.
    - `points`, `steps`: of the grid; on a circle the end is left out.

    !!! example
        >>> from jaxsci.experiments import make_uncertainty_problem
        >>> made = make_uncertainty_problem("stefan", 4, 2, points=8, steps=6)
        >>> made.problem.train.outputs.shape, made.masses["far"].shape
        ((4, 1, 6, 8), (2, 6))
    """
    cls, ranges = EQUATIONS[experiment], DOMAINS[experiment]
    low, high = cls.x_bounds
    x = np.linspace(low, high, points, endpoint=not cls.periodic)
    start, end = cls.t_bounds
    t = start + (end - start) * np.arange(1, steps + 1) / steps
    grid = Grid.from_points(period={"x": high - low} if cls.periodic else None, t=t, x=x)
    keys = iter(jax.random.split(jax.random.key(seed), 3 + len(ranges)))

    def draw(count: int, domain: str) -> tuple[Sample, Array]:
        a, b = ranges[domain]
        parameters = jax.random.uniform(next(keys), (count,), minval=a, maxval=b)
        return _solutions(cls, parameters, grid)

    train, _ = draw(functions, "in")
    validation, _ = draw(held_out, "in")
    calibration, calibration_masses = draw(held_out, "in")
    tested = {domain: draw(held_out, domain) for domain in ranges}
    conditions = BoundaryConditions(("t", "x"), {"x": Periodic()} if cls.periodic else {})
    problem = Problem(
        experiment,
        conditions,
        train,
        validation,
        tested["in"][0],
        coordinates={"t": t, "x": x},
    )
    return UncertaintyProblem(
        problem,
        calibration,
        {domain: sample for domain, (sample, _) in tested.items()},
        grid,
        {domain: masses for domain, (_, masses) in tested.items()}
        | {"calibration": calibration_masses},
    )


def _solutions(
    cls: type[AbstractEquation], parameters: Array, grid: Grid
) -> tuple[Sample, Float[Array, "functions times"]]:
    make: Any = cls
    t, x = (grid.axis(name).points for name in ("t", "x"))

    @jax.jit
    @jax.vmap
    def one(parameter: Array) -> tuple[Array, Array, Array]:
        equation = make(parameter)
        u = equation.solution(t[:, None], x[None, :])
        constant = jnp.full_like(u, 1) * parameter
        initial = jnp.broadcast_to(equation.initial(x)[None, :], u.shape)
        return jnp.stack([constant, initial]), u[None], equation.mass(t)

    inputs, outputs, masses = one(parameters)
    return Sample(inputs, outputs, {}, parameters[:, None]), masses


def padding(experiment: str) -> tuple[float, float]:
    """Of the blocks: in time, and in space where it is no circle."""
    return (0.125, 0.0 if EQUATIONS[experiment].periodic else 0.125)
