"""What training through the constraints is worth: `python benchmarks/constrained_training.py`.

Operators for the heat equation with prescribed fluxes (the change of the total heat is known) and
for Burgers' equation on a circle (the total stays): plain, constrained when they predict, and
trained through the constraint, each from the same weights in the same order. All constraints by
`jaxsci.constrain`: conditions on the faces and the total together.
"""

import argparse
import dataclasses
import json
import shlex
import sys
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
from jaxsci.equations.families import AbstractFamily, BurgersPeriodic, HeatNeumann, Sample
from jaxsci.experiments import (
    OperatorTraining,
    ScaledOperator,
    fit_operator,
    make_problem,
    scaled_operator,
)
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Axis, Grid
from jaxsci.metrics import relative_l2
from jaxsci.operators.boundary import residuals

RESULTS = Path(__file__).resolve().parent / "results"
Totals = Callable[[Sample], Array]


class Predictor(eqx.Module):
    """An operator as a function of a sample."""

    operator: ScaledOperator

    def __call__(self, sample: Sample) -> Array:
        return self.operator(sample.inputs, sample.values)


@dataclasses.dataclass(frozen=True)
class Case:
    """A family, its total at each time, and sizes."""

    family: AbstractFamily
    modes: tuple[int, ...]
    totals: Totals


def heat_totals(family: HeatNeumann) -> Totals:
    """`int u0 + k int (u_x(1) - u_x(0)) dt`, and what the trapezoid rule makes of it."""
    coordinates = family.exact_coordinates()
    t, h = jnp.asarray(coordinates["t"], jnp.float32), 1 / (family.points - 1)
    nu = jnp.pi * jnp.arange(1, (family.waves if family.hard else 1) + 1)

    def totals(sample: Sample) -> Array:
        p = sample.parameters
        if family.hard:
            k, start = p[0], p[1 + 2 * family.waves]
            amplitude = p[1 : 1 + family.waves] - p[1 + family.waves : 1 + 2 * family.waves]
        else:
            k, start = family.conductivity, jnp.sinc(p[0])
            amplitude = jnp.full((1,), family.flux)
        through = (1 - jnp.cos(t[:, None] * nu[None, :])) / nu[None, :]
        slopes = jnp.sin(t[:, None] * nu[None, :])
        # Euler and Maclaurin: the rule exceeds the integral by h^2 / 12 of the slopes' difference.
        return start + (k * through + h**2 / 12 * slopes) @ amplitude

    return totals


def burgers_totals(sample: Sample) -> Array:
    """That of the field at the start."""
    return jnp.trapezoid(sample.inputs[0], dx=1 / (sample.inputs.shape[1] - 1))


def cases(points: int, steps: int) -> dict[str, Case]:
    easy = HeatNeumann(points=points, steps=steps, time=2.0)
    hard = HeatNeumann(points=points, steps=steps, time=2.0, hard=True)
    return {
        "heat": Case(easy, (8, 12), heat_totals(easy)),
        "heat, hard": Case(hard, (8, 12), heat_totals(hard)),
        "Burgers": Case(BurgersPeriodic(points=2 * points + 1), (24,), burgers_totals),
        "Burgers, hard": Case(
            BurgersPeriodic(points=2 * points + 1, hard=True), (24,), burgers_totals
        ),
    }


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


def measure(name: str, case: Case, sizes: argparse.Namespace) -> list[dict[str, Any]]:
    """All rows of one family."""
    problem = make_problem(case.family, sizes.functions, sizes.held_out, progress=False)
    training = OperatorTraining(sizes.epochs, sizes.width, case.modes)
    axes = problem.coordinates.items()
    grid = Grid(*(Axis(axis, jnp.asarray(points, jnp.float32)) for axis, points in axes))
    shape = problem.test.outputs.shape[1:]
    law, loss = law_of(grid, case.totals), loss_of(shape)
    conditions = problem.conditions

    def bound(model: Any) -> Any:
        return constrain(
            model,
            variance=1.0,
            conservation=law,
            boundary=conditions,
            values=lambda sample: sample.values,
            shape=shape,
            boundary_update="enforce",
        )

    def trained(model: Any, seed: int) -> tuple[Any, float]:
        key = jax.random.key(1000 + seed)
        made = fit_operator(model, loss, problem, training, key=key, progress=False)
        return made.operator, made.seconds_per_epoch

    @eqx.filter_jit
    def score(model: Any) -> tuple[Array, Array, Array]:
        def one(sample: Sample) -> tuple[Array, Array, Array]:
            u = field(model, sample).reshape(shape)
            total = jnp.max(jnp.abs(law(sample).residual(u.ravel())))
            faces = residuals(u, conditions, sample.values)
            off = [jnp.max(jnp.abs(jnp.where(f.owned, f.residual, 0))) for f in faces.values()]
            return relative_l2(u, sample.outputs), jnp.max(jnp.stack(off)), total

        return tuple(jnp.mean(x) for x in jax.vmap(one)(problem.test))  # pyright: ignore

    true = jnp.mean(
        jax.vmap(lambda s: jnp.max(jnp.abs(law(s).residual(s.outputs.ravel()))))(problem.test)
    )
    rows: dict[str, list[tuple[float, ...]]] = {}
    for seed in range(sizes.seeds):
        for recipe in ("fno-matched", "fno-matched-padded-blended"):
            key = jax.random.key(seed)
            start = Predictor(scaled_operator(recipe, problem, training, key=key))
            plain, plain_seconds = trained(start, seed)
            through, through_seconds = trained(bound(start), seed)
            for way, model, seconds in (
                ("as it is", plain, plain_seconds),
                ("constrained at inference", bound(plain), plain_seconds),
                ("trained through the constraint", through, through_seconds),
            ):
                found = (*(float(x) for x in score(model)), seconds)
                rows.setdefault(f"{recipe}, {way}", []).append(found)
                print(f"{name}, {recipe}, {way}, seed {seed}: {found}", flush=True)
    return [
        {
            "family": name,
            "model": label,
            "error": [found[0] for found in each],
            "boundary": [found[1] for found in each],
            "total": [found[2] for found in each],
            "seconds": [found[3] for found in each],
            "total of the truth": float(true),
        }
        for label, each in rows.items()
    ]


def table(rows: list[dict[str, Any]], command: str) -> str:
    lines = [
        "# Training through the constraints",
        "",
        f"`{command}` (jax {jax.__version__}, CPU). Relative L2 on test functions, mean and "
        "standard deviation over the seeds; the largest residuals on the faces, in the unit of "
        "the condition, and of the totals. These are known exactly; the last column says to what "
        "the exact solution on the grid has them. Seconds beside other work: a rough guide.",
        "",
        "| family | model | relative L2 | of the same at inference | boundary | total | s/epoch "
        "| total of the truth |",
        "|---|---|---|---|---|---|---|---|",
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
            f"| {row['family']} | {row['model']} | {error.mean():.3g} ± {error.std():.2g} | "
            f"{ratio:.3f} | {np.mean(row['boundary']):.2g} | {np.mean(row['total']):.2g} | "
            f"{np.mean(row['seconds']):.3g} | {row['total of the truth']:.1g} |"
        )
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    for name, default in (
        ("points", 64),
        ("steps", 16),
        ("functions", 256),
        ("held-out", 64),
        ("epochs", 40),
        ("width", 16),
        ("seeds", 3),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--only", nargs="*")
    sizes = parser.parse_args()
    rows: list[dict[str, Any]] = []
    for name, case in cases(sizes.points, sizes.steps).items():
        if sizes.only is None or name in sizes.only:
            rows += measure(name, case, sizes)
            (RESULTS / "constrained_training.json").write_text(json.dumps(rows, indent=1) + "\n")
            text = table(
                rows, shlex.join(["python", "benchmarks/constrained_training.py", *sys.argv[1:]])
            )
            (RESULTS / "constrained_training.md").write_text(text)
    print((RESULTS / "constrained_training.md").read_text())


if __name__ == "__main__":
    main()
