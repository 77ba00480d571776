"""Scores of uncertain operators as tables that a person reads, and one that a program reads."""

import csv
import math
from collections.abc import Mapping
from pathlib import Path

Table = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""By domain, method and update: the scores, those recalibrated with ` recalibrated` after them."""

AFTER = " recalibrated"
_SCORES = ("MSE", "NLL", "width_95", "CRPS", "CE", "n-MeRCI", "RMSCE")
_COVERAGES = ("coverage_50", "coverage_90", "coverage_95")
_SHOWN = ("none", "ProbConserv")
_HEADS = {"width_95": "95 % width", "coverage_50": "50 %", "coverage_90": "90 %"} | {
    "coverage_95": "95 %"
}


def uncertainty_table(table: Table) -> str:
    """A row for each domain, method and update; "none" where a number does not exist."""
    return _markdown(table, {name: (name,) for name in _SCORES})


def coverage_table(table: Table) -> str:
    """Coverage of central intervals, width and NLL, before → after recalibration.

    Without an update and with the published one.
    """
    columns = {name: (name, name + AFTER) for name in (*_COVERAGES, "width_95", "NLL")}
    shown = {
        domain: {
            method: {update: row for update, row in updates.items() if update in _SHOWN}
            for method, updates in methods.items()
        }
        for domain, methods in table.items()
    }
    return _markdown(shown, columns)


def _markdown(table: Table, columns: Mapping[str, tuple[str, ...]]) -> str:
    header = ["domain", "method", "update", *(_HEADS.get(name, name) for name in columns)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for domain, methods in table.items():
        for method, updates in methods.items():
            for update, row in updates.items():
                cells = [" → ".join(_cell(row[n]) for n in names) for names in columns.values()]
                lines.append("| " + " | ".join([domain, method, update, *cells]) + " |")
    return "\n".join(lines)


def _cell(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else "none"


def write_uncertainty_csv(table: Table, path: Path) -> None:
    """One line for each domain, method, update and score, numbers in full."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["domain", "method", "update", "score", "value"])
        for domain, methods in table.items():
            for method, updates in methods.items():
                for update, row in updates.items():
                    writer.writerows([domain, method, update, *entry] for entry in row.items())
