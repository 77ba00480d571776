"""Scores of operators as a table that a person reads, and one that a program reads."""

import csv
import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


@dataclasses.dataclass(frozen=True)
class OperatorRow:
    """What one model scored.

    - `scores`: for each seed, the numbers by name: those of [`jaxsci.experiments.SCORES`][], with
        `@2` and `@4` after the name at 2 and 4 times the resolution, and `seconds_per_epoch`.
    - `parameters`: how many were trained; `None` for a baseline.
    - `note`: what a reader has to know, e.g. that a training failed.
    - `seeds`: those of `scores`, in order.
    """

    scores: tuple[dict[str, float], ...]
    parameters: int | None = None
    note: str = ""
    seeds: tuple[int, ...] = (0,)

    def values(self, name: str) -> np.ndarray:
        """That score of each seed that has it."""
        return np.array([each[name] for each in self.scores if name in each])


Rows = Mapping[str, OperatorRow]

_COLUMNS = {
    "error": "relative L2",
    "ratio": "vs. told FNO",
    "boundary": "boundary",
    "independent": "boundary, independent",
    "error@2": "relative L2 at 2N",
    "error@4": "at 4N",
    "boundary@4": "boundary at 4N",
    "parameters": "parameters",
    "seconds_per_epoch": "s/epoch",
}
YARDSTICK = "fno-matched-enforced"
"""The fair comparison: an FNO told the boundary data, its output enforced."""


def operator_table(rows: Rows) -> str:
    """A row for each model: means over the seeds, and after ± their standard deviation.

    Lower is better in every column. `vs. told FNO` is the ratio of the mean errors to that of
    `fno-matched-enforced`, where that is in the table.
    """
    cells = {model: {c: _cell(rows, model, c) for c in _COLUMNS} for model in rows}
    shown = [c for c in _COLUMNS if any(row[c] for row in cells.values())]
    header = ["model", *(_COLUMNS[c] for c in shown)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for model, row in cells.items():
        lines.append("| " + " | ".join([model, *(row[c] for c in shown)]) + " |")
    notes = [f"{model}: {row.note}" for model, row in rows.items() if row.note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def write_operator_csv(rows: Rows, path: Path) -> None:
    """One line for each model, seed and score, numbers in full."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["model", "seed", "score", "value"])
        for model, row in rows.items():
            for seed, scores in zip(row.seeds, row.scores, strict=False):
                writer.writerows([model, seed, name, value] for name, value in scores.items())


def _cell(rows: Rows, model: str, column: str) -> str:
    row = rows[model]
    if column == "parameters":
        return "" if row.parameters is None else f"{row.parameters}"
    if column == "ratio":
        fair = rows[YARDSTICK].values("error") if YARDSTICK in rows else np.array([])
        own = row.values("error")
        return f"{own.mean() / fair.mean():.2f}" if len(fair) and len(own) else ""
    values = row.values(column)
    if not len(values):
        return ""
    mean = f"{values.mean():.2g}"
    return mean if len(values) == 1 else f"{mean} ± {_digits(values.std(ddof=1), values.mean())}"


def _digits(spread: Any, mean: Any) -> str:
    """To two digits, or one where it is below a thousandth of the mean."""
    small = not math.isfinite(mean) or abs(spread) < 1e-3 * abs(mean)
    return f"{spread:.1g}" if small else f"{spread:.2g}"
