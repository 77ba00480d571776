"""`jaxsci run` with operators: train, compare with what is trivial, and draw."""

import dataclasses
import importlib.metadata
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsci.checkpoints import save_checkpoint
from jaxsci.operators.constrained import RECIPES
from jaxsci.training import NonFiniteLoss

from ._export import MODELS
from ._operators_baselines import fit_pod_ridge
from ._operators_evaluation import score_operator, score_predictions
from ._operators_figures import draw_operator_figures
from ._operators_problem import Problem, make_problem
from ._operators_rollout import roll_out
from ._operators_settings import OperatorBudget, OperatorSettings
from ._operators_table import OperatorRow, operator_table, write_operator_csv
from ._operators_training import ScaledOperator, train_operator
from ._run import require_matplotlib


@dataclasses.dataclass(frozen=True)
class OperatorResult:
    """What an experiment with operators gave; `print` it for the report.

    - `rows`: for each model an [`jaxsci.experiments.OperatorRow`][].
    - `rollout`: for each model, the error after each window of a rollout; empty where the family
        has none.
    - `files`: what was written.
    """

    experiment: str
    summary: str
    budget: dict[str, Any]
    seeds: tuple[int, ...]
    rows: dict[str, OperatorRow]
    rollout: dict[str, list[float]]
    files: dict[str, str]

    def __str__(self) -> str:
        lines = [operator_table(self.rows), ""]
        lines += [f"{what}: {path}" for what, path in self.files.items()]
        return "\n".join(lines)


def run_operators(
    settings: OperatorSettings, *, progress: Callable[[str], Any] | None = None
) -> OperatorResult:
    """Trains operators on a family of functions and compares them, inside and on the boundary.

    Beside them stand the mean of the training outputs and POD + ridge regression
    ([`jaxsci.experiments.PODRidge`][]). Writes into `settings.folder`: `results.json`, `table.md`,
    `table.csv`, figures, and for each model and seed the model itself (see `jaxsci export`) and a
    checkpoint, with which a run that was stopped goes on.

    **Arguments:**

    - `settings`: an [`jaxsci.experiments.OperatorSettings`][].
    - `progress`: called with a line of text now and then; a progress bar of the training is shown
        on stderr unless it is `None`.

    **Raises:** as [`jaxsci.training.fit`][] (but a training that diverges is a row that says so);
    `ImportError` if figures are asked for and matplotlib is missing, before anything is trained.
    """
    say = progress or (lambda line: None)
    if settings.figures:
        require_matplotlib()
    budget, folder, family = settings.resolved(), settings.folder, settings.family()
    say(f"operators on {settings.experiment}: {family.summary}")
    folder.mkdir(parents=True, exist_ok=True)
    problem = make_problem(
        family,
        budget.functions,
        budget.held_out,
        seed=settings.seed,
        finer={factor: settings.family(factor) for factor in budget.finer},
        progress=progress is not None,
    )
    rows = baseline_rows(problem)
    seeds = tuple(range(settings.seed, settings.seed + settings.seeds))
    models: dict[str, ScaledOperator] = {}
    files = {
        "results": folder / "results.json",
        "table": folder / "table.md",
        "csv": folder / "table.csv",
    }
    for name in settings.models:
        scores, finished, parameters, notes = [], [], None, []
        for seed in seeds:
            say(f"{name}, seed {seed}: {RECIPES[name].summary}")
            try:
                trained = train_operator(
                    name,
                    problem,
                    budget.training,
                    seed=seed,
                    checkpoint=folder / "training" / f"{name}-{seed}",
                    progress=progress is not None,
                )
            except NonFiniteLoss as stop:
                notes.append(f"seed {seed} diverged in epoch {stop.epoch}")
                continue
            parameters = trained.parameters
            finished.append(seed)
            models.setdefault(name, trained.operator)
            _save(trained.operator, problem, folder / MODELS / f"{name}-{seed}.jaxsci", settings)
            scores.append(
                scores_of(trained.operator, problem)
                | {"seconds_per_epoch": trained.seconds_per_epoch}
            )
        rows[name] = OperatorRow(tuple(scores), parameters, "; ".join(notes), tuple(finished))
        files["table"].write_text(operator_table(rows) + "\n")  # what there is, if it is stopped
    rollout = roll_out(models, family, budget.held_out, seed=settings.seed)
    if settings.figures and models:
        say("drawing figures")
        files |= draw_operator_figures(models, problem, rollout, folder)
    result = OperatorResult(
        settings.experiment,
        family.summary,
        _described(settings, budget),
        seeds,
        rows,
        rollout,
        {name: str(path) for name, path in files.items()},
    )
    _write(result, files)
    return result


def _save(operator: ScaledOperator, problem: Problem, path: Path, settings: Any) -> None:
    """The model as a file of its own, for use elsewhere: `jaxsci export`."""
    one = jax.tree.map(lambda leaf: leaf[0], problem.test)
    path.parent.mkdir(exist_ok=True)
    about = {"experiment": settings.experiment, "hard": settings.hard, "budget": settings.budget}
    args = (one.inputs, one.values) if one.values else (one.inputs,)
    save_checkpoint(path, operator, args=args, about=about)


def baseline_rows(problem: Problem) -> dict[str, OperatorRow]:
    """The mean of the training outputs and POD + ridge regression: what an operator must beat."""
    conditions, test = problem.conditions, problem.test
    ridge = fit_pod_ridge(problem.train, problem.validation)
    mean = np.broadcast_to(ridge.mean, test.outputs.shape)
    return {
        "mean": OperatorRow((score_predictions(mean, test, conditions),)),
        "POD + ridge": OperatorRow((score_predictions(ridge(test), test, conditions),)),
    }


def scores_of(operator: ScaledOperator, problem: Problem) -> dict[str, float]:
    """The scores on the test functions, and with `@2` after their names at twice the resolution."""
    scores = score_operator(operator, problem.test, problem.conditions)
    for factor, batch in problem.finer.items():
        finer = score_operator(operator, batch, problem.conditions)
        scores |= {f"{name}@{factor}": value for name, value in finer.items()}
    return scores


def _described(settings: OperatorSettings, budget: OperatorBudget) -> dict[str, Any]:
    return {"name": settings.budget, "hard": settings.hard, **dataclasses.asdict(budget)}


def _write(result: OperatorResult, files: dict[str, Path]) -> None:
    versions = {name: importlib.metadata.version(name) for name in ("jaxsci", "jax", "numpy")}
    about = {"device": jax.devices()[0].device_kind, "versions": versions}
    text = json.dumps(dataclasses.asdict(result) | about, indent=1)
    files["results"].write_text(text + "\n")
    files["table"].write_text(operator_table(result.rows) + "\n")
    write_operator_csv(result.rows, files["csv"])
