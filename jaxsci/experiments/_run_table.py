"""Results as a table that a person reads, and one that a program reads."""

import csv
import math
from pathlib import Path

Table = dict[str, dict[str, dict[str, tuple[float, float]]]]

_COLUMNS = {
    "CE": ("CE (1e-3)", 1e3, ".2f"),
    "LL": ("LL", 1.0, ".3f"),
    "MSE": ("MSE (1e-4)", 1e4, ".2f"),
    "CRPS": ("CRPS (1e-3)", 1e3, ".2f"),
    "coverage_95": ("95 % coverage", 1.0, ".3f"),
    "front_error": ("front: mean (1e-2)", 1e2, ".2f"),
    "front_error_draws": ("front: draws (1e-2)", 1e2, ".2f"),
    "shock_error": ("first u ≤ 0 (1e-2)", 1e2, ".2f"),
    "no_shock": ("no u ≤ 0", 1.0, ".3f"),
}


def markdown_table(table: Table, parameter: str) -> str:
    """Mean and standard error over test functions, a row for each method and parameter."""
    first = next(iter(next(iter(table.values())).values()))
    rows = [row for methods in table.values() for row in methods.values()]
    shown = [c for c in _COLUMNS if c in first and any(not math.isnan(r[c][0]) for r in rows)]
    header = [parameter, "method", *(_COLUMNS[c][0] for c in shown)]
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    for value, methods in table.items():
        for method, row in methods.items():
            cells = [_cell(row[c], *_COLUMNS[c][1:]) for c in shown]
            lines.append("| " + " | ".join([value, method, *cells]) + " |")
    return "\n".join(lines)


def _cell(entry: tuple[float, float], scale: float, form: str) -> str:
    mean, error = (scale * number for number in entry)
    if math.isnan(mean):
        return "none"
    # A residual at rounding is 0 to every digit shown: say of what size it really is.
    if form == ".2f" and mean != 0 and abs(mean) < 5e-3:
        return f"{mean:.0e}"
    return f"{mean:{form}} ± {error:{form}}"


def write_csv(table: Table, parameter: str, path: Path) -> None:
    """One row for each parameter value, method and metric, numbers in full."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([parameter, "method", "metric", "mean", "standard_error"])
        for value, methods in table.items():
            for method, row in methods.items():
                writer.writerows([value, method, name, *entry] for name, entry in row.items())
