"""`jaxsci run`: train a surrogate, constrain it, compare, and draw."""

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsci.equations import EQUATIONS

from ._run_evaluation import TEST_FUNCTIONS, evaluate_surrogate, showcase
from ._run_figures import draw_figures
from ._run_settings import RunSettings
from ._run_table import markdown_table, write_csv
from ._run_training import train_surrogate


@dataclasses.dataclass(frozen=True)
class RunResult:
    """What an experiment gave; `print` it for the report.

    - `table`: `{parameter value: {method: {metric: (mean, standard error)}}}`.
    - `training`: functions, epochs, parameters, best epoch and losses, seconds.
    - `files`: what was written.
    """

    experiment: str
    parameter: str
    budget: dict[str, Any]
    seed: int
    table: dict[str, dict[str, dict[str, tuple[float, float]]]]
    training: dict[str, Any]
    files: dict[str, str]

    def __str__(self) -> str:
        lines = [markdown_table(self.table, self.parameter), ""]
        lines += [
            f"trained in {self.training['seconds']:.0f} s: {self.training['parameters']} "
            f"parameters, {self.budget['functions']} functions, {self.budget['epochs']} epochs",
            *(f"{what}: {path}" for what, path in self.files.items()),
        ]
        return "\n".join(lines)


def run_experiment(
    settings: RunSettings, *, progress: Callable[[str], Any] | None = None
) -> RunResult:
    """Trains a surrogate of one equation, imposes its mass, and compares before and after.

    Writes into `settings.folder`: `results.json`, `table.md`, `table.csv`, figures, and the
    training's checkpoint and history. Run again, it resumes a training that was stopped.

    **Arguments:**

    - `settings`: a [`jaxsci.experiments.RunSettings`][].
    - `progress`: called with a line of text now and then; a progress bar of the training is shown
        on stderr unless it is `None`.

    **Raises:** as [`jaxsci.training.fit`][]; `ImportError` if figures are asked for and matplotlib
    is missing, before anything is trained.
    """
    say = progress or (lambda line: None)
    if settings.figures:
        require_matplotlib()
    budget, folder = settings.resolved(), settings.folder
    folder.mkdir(parents=True, exist_ok=True)
    equation_cls = EQUATIONS[settings.experiment]
    train_key, test_key = jax.random.split(jax.random.key(settings.seed))
    say(f"conservation law, {settings.experiment}: training on {budget.functions} functions")
    result = train_surrogate(
        equation_cls,
        budget,
        key=train_key,
        softc_weight=settings.softc_weight if settings.surrogate == "softc" else None,
        checkpoint=folder / "training",
        progress=progress is not None,
    )
    table, equations, began = {}, {}, time.perf_counter()
    for value in equation_cls.test_values:
        say(f"evaluating {TEST_FUNCTIONS} functions at {equation_cls.parameter_name} {value:g}")
        equations[f"{value:g}"] = equation_cls(value)  # pyright: ignore[reportCallIssue]
        table[f"{value:g}"] = evaluate_surrogate(
            result.model,
            equations[f"{value:g}"],
            key=test_key,
            mode=budget.mode,
            samples=budget.samples,
        )
    leaves = [leaf for leaf in jax.tree.leaves(result.model) if isinstance(leaf, jax.Array)]
    training = {
        "parameters": sum(leaf.size for leaf in leaves),
        "best_epoch": result.best_epoch,
        "best_validation_loss": result.best_loss,
        "seconds": result.seconds,
        "evaluation_seconds": time.perf_counter() - began,
    }
    files = {"results": folder / "results.json", "table": folder / "table.md"}
    files["csv"] = folder / "table.csv"
    if settings.figures:
        say("drawing figures")
        drawn = showcase(result.model, equations[list(equations)[-1]], key=test_key)
        files |= draw_figures(jax.tree.map(np.asarray, drawn), folder)
    run = RunResult(
        settings.experiment,
        equation_cls.parameter_name,
        dataclasses.asdict(budget) | {"name": settings.budget, "surrogate": settings.surrogate},
        settings.seed,
        table,
        training,
        {name: str(path) for name, path in files.items()},
    )
    _write(run, files, result.versions)
    return run


def _write(run: RunResult, files: dict[str, Path], versions: dict[str, str]) -> None:
    text = json.dumps(dataclasses.asdict(run) | {"versions": versions}, indent=1)
    files["results"].write_text(text + "\n")
    files["table"].write_text(markdown_table(run.table, run.parameter) + "\n")
    write_csv(run.table, run.parameter, files["csv"])


def require_matplotlib() -> None:
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise ImportError(
            "figures need matplotlib, which is not installed: pip install 'jaxsci[plot]', or turn "
            "them off with --no-figures"
        ) from error
