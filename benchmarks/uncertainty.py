"""Which operators know how sure they are, in and out of domain: `python benchmarks/uncertainty.py`.

`jaxsci run EQUATION --uncertainty all` for every equation and several seeds, as one table for each
equation, and what it says of three published claims. Runs are kept in `--folder`; one that was
stopped goes on.
"""

import argparse
import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsci.experiments import DOMAINS, UNCERTAINTIES, UncertaintySettings, run_uncertainty

RESULTS = Path(__file__).resolve().parent / "results"
SCORES = {
    "MSE": "MSE",
    "NLL": "NLL",
    "width_95": "95 % width",
    "CRPS": "CRPS",
    "CE": "CE",
    "n-MeRCI": "n-MeRCI",
    "RMSCE": "RMSCE",
    "coverage_50": "50 %",
    "coverage_90": "90 %",
    "coverage_95": "95 %",
    "coverage_95 recalibrated": "95 %, recalibrated",
}
SPREAD = ("MSE", "n-MeRCI")  # with their standard deviation over the seeds
PUBLISHED = "ProbConserv"
Found = dict[str, list[Any]]
"""By equation: a result for each seed."""


def collected(folder: Path, budget: Any, equations: Iterable[str], seeds: int) -> Found:
    found: Found = {}
    for equation in equations:
        found[equation] = []
        for seed in range(seeds):
            output = folder / f"{equation}-{seed}"
            settings = UncertaintySettings(equation, budget=budget, seed=seed, output=output)
            found[equation].append(run_uncertainty(settings, progress=progress))
    return found


def progress(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def numbers(results: list[Any], domain: str, method: str, update: str, score: str) -> np.ndarray:
    """One for each seed whose training did not diverge."""
    tables = [result.table[domain] for result in results]
    return np.array([table[method][update][score] for table in tables if method in table])


def cell(values: np.ndarray, spread: bool) -> str:
    if not np.isfinite(values).all():
        return "none"
    return f"{values.mean():.3g}" + (f" ± {values.std():.1g}" if spread else "")


def table(results: list[Any]) -> list[str]:
    lines = [
        "| domain | method | update | " + " | ".join(SCORES.values()) + " |",
        "|" + "---|" * (3 + len(SCORES)),
    ]
    for domain, methods in results[0].table.items():
        for method in UNCERTAINTIES:
            for update in methods.get(method, ()):
                each = [numbers(results, domain, method, update, score) for score in SCORES]
                cells = [cell(x, s in SPREAD) for x, s in zip(each, SCORES, strict=True)]
                lines.append("| " + " | ".join([domain, method, update, *cells]) + " |")
    return lines


def costs(found: Found) -> list[str]:
    """Seconds of training over those of the ensemble, in the same run."""
    lines = ["| method | " + " | ".join(found) + " |", "|" + "---|" * (1 + len(found))]
    for method in UNCERTAINTIES:
        cells = []
        for results in found.values():
            seconds = [result.training for result in results]
            ratio = [
                s[method]["seconds"] / s["ensemble"]["seconds"] for s in seconds if method in s
            ]
            cells.append(f"{np.mean(ratio):.2f}")
        lines.append("| " + " | ".join([method, *cells]) + " |")
    return lines


def far(found: Found, entry: Callable[[list[Any], str], float]) -> list[str]:
    """A table of methods by equations, far from the range of training."""
    lines = ["| method | " + " | ".join(found) + " |", "|" + "---|" * (1 + len(found))]
    for method in UNCERTAINTIES:
        cells = [f"{entry(results, method):.3g}" for results in found.values()]
        lines.append("| " + " | ".join([method, *cells]) + " |")
    return lines


def n_merci(results: list[Any], method: str) -> float:
    return numbers(results, "far", method, "none", "n-MeRCI").mean()


def saved(results: list[Any], method: str) -> float:
    """By how many percent the published update lowers the MSE, mean over the seeds."""
    before, after = (numbers(results, "far", method, u, "MSE") for u in ("none", PUBLISHED))
    return 100 * (1 - after / before).mean()


def report(found: Found, command: str, seeds: int) -> str:
    first = next(iter(found.values()))[0]
    budget = first.budget
    lines = [
        "# Operators that say how sure they are, in and out of the range of training",
        "",
        f"`{command}` (jax {jax.__version__}, {jax.devices()[0].device_kind}), {seeds} seeds of "
        "functions and weights. For each "
        f"equation {budget['functions']} functions for training, {budget['held_out']} each for "
        f"choosing, calibrating and testing in each domain, {budget['points']} points x "
        f"{budget['steps']} times, {budget['training']['epochs']} epochs, width "
        f"{budget['training']['width']}, {budget['members']} members, heads or masks. Means over "
        "the seeds, ± their standard deviation; lower is better up to RMSCE, then the coverage of "
        "central intervals. Updates at each time, of the exact mass: none; ProbConserv, by the "
        "variances alone, as published; by the covariance between the points of a time. "
        "Recalibrated: one factor for all variances, from functions held back from the range of "
        "training; the mass stays exact.",
        "",
        "## Claims, far from the range of training",
        "",
        "n-MeRCI without an update (0: the uncertainty says exactly how large errors are; 1: it "
        "says nothing):",
        "",
        *far(found, n_merci),
        "",
        "By how many percent the published update lowers the MSE:",
        "",
        *far(found, saved),
        "",
        "Seconds of training over those of the ensemble (Laplace: the first member's and its own):",
        "",
        *costs(found),
    ]
    for equation, results in found.items():
        ranges = DOMAINS[equation].items()
        said = ", ".join(f"{domain} {low:g} to {high:g}" for domain, (low, high) in ranges)
        lines += ["", f"## {equation}: {results[0].parameter} {said}", "", *table(results)]
        for seed, result in enumerate(results):
            lines += [f"\nSeed {seed}, {name}: {note}" for name, note in result.notes.items()]
    return "\n".join(lines) + "\n"


def rounded(numbers: Any) -> Any:
    """To four digits, for the file."""
    return jax.tree.map(lambda number: float(f"{number:.4g}"), numbers)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget", default="quick", choices=["quick", "cpu", "paper"])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--equations", nargs="*", default=list(DOMAINS), choices=list(DOMAINS))
    parser.add_argument("--folder", type=Path, default=Path("runs") / "uncertainty")
    asked = parser.parse_args()
    found = collected(asked.folder / asked.budget, asked.budget, asked.equations, asked.seeds)
    command = f"python benchmarks/uncertainty.py --budget {asked.budget} --seeds {asked.seeds}"
    text = report(found, command, asked.seeds)
    name = f"uncertainty-{asked.budget}"
    (RESULTS / f"{name}.md").write_text(text)
    kept = {
        equation: [
            {"table": rounded(r.table), "training": rounded(r.training), "notes": r.notes}
            for r in results
        ]
        for equation, results in found.items()
    }
    (RESULTS / f"{name}.json").write_text(json.dumps(kept) + "\n")
    print(text)


if __name__ == "__main__":
    main()
