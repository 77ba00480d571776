"""What training through the constraints is worth: `python benchmarks/constrained_training.py`.

Operators for the heat equation with prescribed fluxes (the change of the total heat is known),
Burgers' equation on a circle (the total stays), the porous medium equation, Stefan's problem and
advection on a circle (the exact mass): plain, constrained when they predict, trained through the
constraint, and trained on the mean of both losses, that of the prediction before the constraint and
that after it. Each from the same weights in the same order. All constraints by
`jaxsci.constrain`: conditions on the faces, if there are any, and the total together.

With `--only`, the rows of other families stay as they are.
"""

import argparse
import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsci import constrain
from jaxsci.conservation import LinearConstraint, integral
from jaxsci.equations import EQUATIONS
from jaxsci.equations.families import AbstractFamily, BurgersPeriodic, HeatNeumann, Sample
from jaxsci.experiments import (
    OperatorTraining,
    Problem,
    ScaledOperator,
    fit_operator,
    make_problem,
    make_uncertainty_problem,
    scaled_operator,
)
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Axis, Grid
from jaxsci.metrics import relative_l2
from jaxsci.operators.boundary import residuals
from jaxsci.operators.constrained import DEFAULT_RECIPE

RESULTS = Path(__file__).resolve().parent / "results"
DEFAULTS = {
    "points": 64,
    "steps": 16,
    "functions": 256,
    "held_out": 64,
    "epochs": 40,
    "width": 16,
    "learning_rate": 3e-3,
    "seeds": 3,
}
Totals = Callable[[Sample], Array]


class Predictor(eqx.Module):
    """An operator as a function of a sample."""

    operator: ScaledOperator

    def __call__(self, sample: Sample) -> Array:
        return self.operator(sample.inputs, sample.values)


@dataclasses.dataclass(frozen=True)
class Case:
    """Functions to learn, the total at each time, and what is trained.

    `make`: with as many functions for training, and as many held out.
    `faces`: whether the conditions of the problem are imposed.
    `more`: the factor of functions and epochs; with fewer, Burgers' equation is not learned at all.
    """

    make: Callable[[int, int], tuple[Problem, Grid]]
    totals: Totals
    modes: tuple[int, ...]
    recipes: tuple[str, ...]
    faces: bool = True
    more: int = 1
    options: dict[str, Any] = dataclasses.field(default_factory=dict)


def of_family(family: AbstractFamily) -> Callable[[int, int], tuple[Problem, Grid]]:
    def make(functions: int, held_out: int) -> tuple[Problem, Grid]:
        problem = make_problem(family, functions, held_out, progress=False)
        axes = problem.coordinates.items()
        return problem, Grid(*(Axis(name, jnp.asarray(x, jnp.float32)) for name, x in axes))

    return make


def heat_totals(family: HeatNeumann) -> Totals:
    """`int u0 + k int (u_x(1) - u_x(0)) dt`, and what the trapezoid rule makes of it."""
    coordinates = family.exact_coordinates()
    t, h = jnp.asarray(coordinates["t"], jnp.float32), 1 / (family.points - 1)
    through = family.conductivity * (1 - jnp.cos(jnp.pi * t)) / jnp.pi
    # Euler and Maclaurin: the rule exceeds the integral by h^2 / 12 of the slopes' difference.
    gained = family.flux * (through + h**2 / 12 * jnp.sin(jnp.pi * t))

    def totals(sample: Sample) -> Array:
        return jnp.sinc(sample.parameters[0]) + gained

    return totals


def burgers_totals(sample: Sample) -> Array:
    """That of the field at the start."""
    return jnp.trapezoid(sample.inputs[0], dx=1 / (sample.inputs.shape[1] - 1))


def with_exact_mass(experiment: str, points: int, steps: int) -> Case:
    """From the parameter of an equation and its initial field to the exact solution."""
    equation: Any = EQUATIONS[experiment]

    def make(functions: int, held_out: int) -> tuple[Problem, Grid]:
        made = make_uncertainty_problem(experiment, functions, held_out, points=points, steps=steps)
        return made.problem, made.grid

    start, end = equation.t_bounds
    t = start + (end - start) * jnp.arange(1, steps + 1, dtype=jnp.float32) / steps

    def totals(sample: Sample) -> Array:
        return equation(sample.parameters[0]).mass(t)

    padding = (0.125, 0.0 if equation.periodic else 0.125)
    return Case(make, totals, (8, 12), ("fno",), faces=False, options={"padding": padding})


def cases(points: int, steps: int) -> dict[str, Case]:
    rods, recipes = (
        HeatNeumann(points=points, steps=steps, time=2.0),
        ("fno-matched", DEFAULT_RECIPE),
    )
    made = {"heat": Case(of_family(rods), heat_totals(rods), (8, 12), recipes)}
    for name in ("porous-medium", "stefan", "advection"):
        made[name] = with_exact_mass(name, points, steps)
    circle = of_family(BurgersPeriodic(points=2 * points + 1))
    made["Burgers"] = Case(circle, burgers_totals, (24,), ("fno-matched",), more=4)
    return made


def law_of(grid: Grid, totals: Totals) -> Callable[[Sample], LinearConstraint]:
    return lambda sample: integral(grid, totals(sample), over="x")


def field(model: Any, sample: Sample) -> Array:
    """The prediction, of a constrained model its mean."""
    found = model(sample)
    return found.mean if isinstance(found, Gaussian) else found


def loss_of(shape: tuple[int, ...]) -> Callable[..., Array]:
    def one(model: Any, sample: Sample) -> Array:
        return relative_l2(field(model, sample).reshape(shape), sample.outputs)

    def loss(model: Any, batch: Sample, *, key: Any = None) -> Array:
        del key
        return jnp.mean(jax.vmap(lambda sample: one(model, sample))(batch))

    return loss


def mean_of_both(loss: Callable[..., Array]) -> Callable[..., Array]:
    """The loss of a constrained surrogate, and of its prediction before it is constrained."""

    def both(model: Any, batch: Sample, *, key: Any = None) -> Array:
        del key
        return (loss(model, batch) + loss(model.surrogate, batch)) / 2

    return both


def measure(name: str, case: Case, sizes: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows of one family."""
    functions, epochs = case.more * sizes.functions, case.more * sizes.epochs
    problem, grid = case.make(functions, sizes.held_out)
    training = OperatorTraining(epochs, sizes.width, case.modes, learning_rate=sizes.learning_rate)
    conditions = problem.conditions if case.faces else None
    shape = problem.test.outputs.shape[1:]
    law, loss = law_of(grid, case.totals), loss_of(shape)
    both = mean_of_both(loss)

    def bound(model: Any) -> Any:
        return constrain(
            model,
            variance=1.0,
            conservation=law,
            boundary=conditions,
            values=(lambda sample: sample.values) if case.faces else None,
            shape=shape,
            boundary_update="enforce",
        )

    def trained(model: Any, loss: Callable[..., Array], seed: int) -> tuple[Any, float]:
        key = jax.random.key(1000 + seed)
        made = fit_operator(model, loss, problem, training, key=key, progress=False)
        return made.operator, made.seconds_per_epoch

    @eqx.filter_jit
    def score(model: Any) -> tuple[Array, Array, Array]:
        def one(sample: Sample) -> tuple[Array, Array, Array]:
            u = field(model, sample).reshape(shape)
            total = jnp.max(jnp.abs(law(sample).residual(u.ravel())))
            off = [jnp.zeros(())]
            if conditions is not None:
                each = residuals(u, conditions, sample.values).values()
                off += [jnp.max(jnp.abs(jnp.where(f.owned, f.residual, 0))) for f in each]
            return relative_l2(u, sample.outputs), jnp.max(jnp.stack(off)), total

        return tuple(jnp.mean(x) for x in jax.vmap(one)(problem.test))  # pyright: ignore

    true = jnp.mean(
        jax.vmap(lambda s: jnp.max(jnp.abs(law(s).residual(s.outputs.ravel()))))(problem.test)
    )
    rows: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(sizes.seeds):
        for recipe in case.recipes:
            key = jax.random.key(seed)
            operator = scaled_operator(recipe, problem, training, key=key, **case.options)
            start = Predictor(operator)
            plain, plain_seconds = trained(start, loss, seed)
            through, through_seconds = trained(bound(start), loss, seed)
            joint, joint_seconds = trained(bound(start), both, seed)
            for way, model, seconds in (
                ("as it is", plain, plain_seconds),
                ("constrained at inference", bound(plain), plain_seconds),
                ("trained through the constraint", through, through_seconds),
                ("trained on both losses", joint, joint_seconds),
            ):
                found = (*(float(x) for x in score(model)), seconds)
                rows.setdefault(f"{recipe}, {way}", []).append(found)
                print(f"{name}, {recipe}, {way}, seed {seed}: {found}", flush=True)
    return [
        {
            "family": name,
            "model": label,
            "functions": functions,
            "epochs": epochs,
            "error": [found[0] for found in each],
            "boundary": [found[1] for found in each],
            "total": [found[2] for found in each],
            "seconds": [found[3] for found in each],
            "total of the truth": float(true),
        }
        for label, each in rows.items()
    ]


def table(rows: list[dict[str, Any]], command: str, sizes: argparse.Namespace) -> str:
    lines = [
        "# Training through the constraints",
        "",
        f"`{command}` (jax {jax.__version__}, CPU). Relative L2 on test functions, mean and "
        "standard deviation over the seeds; the largest residuals on the faces, in the unit of "
        "the condition, and of the totals. These are known exactly; the last column says to what "
        "the exact solution on the grid has them. Seconds beside other work: a rough guide. "
        f"{sizes.points} points and {sizes.steps} times (twice the points, and no times, for "
        f"Burgers), width {sizes.width}, {sizes.seeds} seeds.",
        "",
        "| family | functions, epochs | model | relative L2 | of the same at inference | boundary "
        "| total | s/epoch | total of the truth |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        error = np.array(row["error"])
        recipe = row["model"].split(",")[0]
        base = next(
            r
            for r in rows
            if r["family"] == row["family"] and r["model"] == f"{recipe}, constrained at inference"
        )
        ratio = error.mean() / np.mean(base["error"])
        lines.append(
            f"| {row['family']} | {row['functions']}, {row['epochs']} | {row['model']} "
            f"| {error.mean():.3g} ± {error.std():.2g} | "
            f"{ratio:.3f} | {np.mean(row['boundary']):.2g} | {np.mean(row['total']):.2g} | "
            f"{np.mean(row['seconds']):.3g} | {row['total of the truth']:.1g} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in DEFAULTS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=type(default), default=default)
    parser.add_argument("--only", nargs="*")
    sizes = parser.parse_args()
    kept, made = RESULTS / "constrained_training.json", cases(sizes.points, sizes.steps)
    rows = {name: [] for name in made}
    for row in json.loads(kept.read_text()) if kept.exists() else ():
        rows[row["family"]].append(row)
    words = [f"--{name.replace('_', '-')} {getattr(sizes, name)}" for name in DEFAULTS]
    command = " ".join(["python benchmarks/constrained_training.py", *words])
    for name in made if sizes.only is None else sizes.only:
        rows[name] = measure(name, made[name], sizes)
        flat = [row for each in rows.values() for row in each]
        kept.write_text(json.dumps(flat, indent=1) + "\n")
        (RESULTS / "constrained_training.md").write_text(table(flat, command, sizes))
    print((RESULTS / "constrained_training.md").read_text())


if __name__ == "__main__":
    main()
