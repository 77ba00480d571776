"""`jaxsci run` with uncertain operators: train, impose the mass, recalibrate, compare."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp

from jaxsci.equations import EQUATIONS
from jaxsci.surrogates import conformal_factor
from jaxsci.training import NonFiniteLoss

from ._uncertainty_evaluation import UPDATES, Moments, predict_moments, uncertainty_scores
from ._uncertainty_models import UNCERTAINTIES, Recipe
from ._uncertainty_problem import DOMAINS, UncertaintyProblem, make_uncertainty_problem, padding
from ._uncertainty_settings import UncertaintySettings
from ._uncertainty_table import AFTER, coverage_table, uncertainty_table, write_uncertainty_csv

Rows = dict[str, dict[str, float]]


@dataclasses.dataclass(frozen=True)
class UncertaintyResult:
    """What an experiment with uncertain operators gave; `print` it for the report.

    - `domains`: the range of the parameter in each.
    - `table`: `{domain: {method: {update: {score: value}}}}`; see
        [`jaxsci.experiments.uncertainty_scores`][], with ` recalibrated` after the name for the
        covariance times `factors[method][update]`.
    - `training`: for each method `seconds` and `parameters`.
    - `notes`: what went wrong, by method.
    """

    experiment: str
    parameter: str
    domains: dict[str, tuple[float, float]]
    budget: dict[str, Any]
    seed: int
    table: dict[str, dict[str, Rows]]
    factors: dict[str, dict[str, float]]
    training: dict[str, dict[str, float]]
    notes: dict[str, str]
    files: dict[str, str]

    def __str__(self) -> str:
        lines = [self.report(), ""]
        lines += [f"{what}: {path}" for what, path in self.files.items()]
        return "\n".join(lines)

    def report(self) -> str:
        """The tables in markdown."""
        ranges = ", ".join(f"{d} {low:g} to {high:g}" for d, (low, high) in self.domains.items())
        trained = [
            f"| {name} | {each['parameters']:.0f} | {each['seconds']:.0f} |"
            for name, each in self.training.items()
        ]
        level = f"{100 * self.budget['level']:g}"
        lines = [
            f"{self.experiment}: {self.parameter} {ranges}. Lower is better in every column.",
            "",
            uncertainty_table(self.table),
            "",
            "Coverage of central intervals, their width and the NLL, before → after the variances "
            f"are scaled on functions held back from the range of training, for {level} %.",
            "",
            coverage_table(self.table),
            "",
            "| method | parameters | seconds of training |",
            "|---|---|---|",
            *trained,
            *(f"\n{method}: {note}" for method, note in self.notes.items()),
        ]
        return "\n".join(lines)


def run_uncertainty(
    settings: UncertaintySettings, *, progress: Callable[[str], Any] | None = None
) -> UncertaintyResult:
    """Trains operators with uncertainty on one equation; imposes the mass and recalibrates both.

    Each is tested inside the range of parameters that it was trained on, and outside, near and
    far; at each time the exact mass is imposed as [`jaxsci.experiments.UPDATES`][] says. Writes
    into `settings.folder`: `results.json`, `table.md`, `table.csv`, and a checkpoint for each
    model, with which a run that was stopped goes on.

    **Arguments:**

    - `settings`: an [`jaxsci.experiments.UncertaintySettings`][].
    - `progress`: called with a line of text now and then; a progress bar of the training is shown
        on stderr unless it is `None`.

    **Raises:** as [`jaxsci.training.fit`][] (but a training that diverges is a note).
    """
    say = progress or (lambda line: None)
    budget, folder, experiment = settings.resolved(), settings.folder, settings.experiment
    folder.mkdir(parents=True, exist_ok=True)
    say(f"uncertain operators on {experiment}: making functions")
    made = make_uncertainty_problem(
        experiment,
        budget.functions,
        budget.held_out,
        points=budget.points,
        steps=budget.steps,
        seed=settings.seed,
    )
    recipe = Recipe(
        made.problem,
        budget.training,
        budget.members,
        settings.strength,
        settings.dropout,
        padding(experiment),
        settings.seed,
        folder / "training",
        progress is not None,
    )
    table: dict[str, dict[str, Rows]] = {domain: {} for domain in made.tests}
    files = {
        "results": folder / "results.json",
        "table": folder / "table.md",
        "csv": folder / "table.csv",
    }
    chosen = {n: getattr(settings, n) for n in ("strength", "dropout", "level")}
    result = UncertaintyResult(
        experiment,
        EQUATIONS[experiment].parameter_name,
        DOMAINS[experiment],
        {"name": settings.budget, **chosen, **dataclasses.asdict(budget)},
        settings.seed,
        table,
        factors={},
        training={},
        notes={},
        files={name: str(path) for name, path in files.items()},
    )
    for method in settings.methods:
        say(f"{method}: {(UNCERTAINTIES[method].__doc__ or '').rstrip('.')}")
        try:
            trained = UNCERTAINTIES[method](recipe)
        except NonFiniteLoss as stop:
            result.notes[method] = f"diverged in epoch {stop.epoch}"
            continue
        result.training[method] = {"parameters": trained.parameters, "seconds": trained.seconds}
        rows, result.factors[method] = _evaluate(trained.surrogate, made, settings)
        for domain in table:
            table[domain][method] = rows[domain]
        _write(result, files)  # what there is, if it is stopped
    _write(result, files)
    return result


def _evaluate(
    surrogate: Callable[..., Any], made: UncertaintyProblem, settings: UncertaintySettings
) -> tuple[dict[str, Rows], dict[str, float]]:
    """The scores by domain and update, and by update the factor of the variances."""
    key = jax.random.key(settings.seed)

    def moments(batch: Any, domain: str) -> Moments:
        return predict_moments(surrogate, batch, made.masses[domain], made.grid, key=key)

    held_back = moments(made.calibration, "calibration")
    truth = made.calibration.outputs[:, 0]
    factors = {}
    for update in UPDATES:
        mean, var = held_back.mean[update], held_back.var[update]
        try:
            factors[update] = float(conformal_factor(mean, var, truth, level=settings.level))
        except ValueError:  # points without variance that are off: no factor covers them
            factors[update] = float("nan")
    rows: dict[str, Rows] = {}
    for domain, batch in made.tests.items():
        found, truth = moments(batch, domain), batch.outputs[:, 0]
        rows[domain] = {}
        for update in UPDATES:  # `jit` returns dictionaries sorted by key
            mean, var = found.mean[update], found.var[update]
            residual = found.residual[update]
            before = uncertainty_scores(mean, var, truth, residual)
            scaled = var * jnp.asarray(factors[update], var.dtype)
            after = uncertainty_scores(mean, scaled, truth, residual)
            row = {name: float(value) for name, value in before.items()}
            row |= {name + AFTER: float(value) for name, value in after.items()}
            rows[domain][update] = row
    return rows, factors


def _write(result: UncertaintyResult, files: dict[str, Path]) -> None:
    versions = {name: importlib.metadata.version(name) for name in ("jaxsci", "jax", "numpy")}
    about = {"device": jax.devices()[0].device_kind, "versions": versions}
    text = json.dumps(dataclasses.asdict(result) | about, indent=1)
    files["results"].write_text(text + "\n")
    files["table"].write_text(result.report() + "\n")
    write_uncertainty_csv(result.table, files["csv"])
