"""Half-precision products in bundle adjustment: `python benchmarks/bundle_adjustment.py FOLDER`.

FOLDER holds libmv's problems (`libmv_problem_02.bin`, `..._03.bin`): a window of 50 frames of
each, and three synthetic windows of the published size. All by Levenberg-Marquardt from the same
start; the cost is computed by numpy in float64 for every solution alike. A long trajectory, where
conjugate gradients need thousands of steps, is timed as well.
"""

import argparse
import functools
from pathlib import Path

import jax
import numpy as np
from timing import Measurement, interleaved, report

from jaxsci.solvers import Iterative, LevenbergMarquardt, minimise
from jaxsci.solvers.nonlinear import AbstractLinear, Schur
from jaxsci.solvers.preconditioners import BlockJacobi, CompleteCholesky
from jaxsci.solvers.slam import (
    Bundle,
    bundle_cost,
    bundle_from_values,
    bundle_to_problem,
    bundle_to_values,
    read_libmv,
    sliding_window,
)

KEPT = ",residual=f64,update=f64"
DIAGONAL = Schur(reduced=BlockJacobi())
FACTORED = Schur(reduced=CompleteCholesky())
# The steps of conjugate gradients of these have a bar, against those of fp64.
MOST = {"fp16 products": 1.25, "fp64, Schur": 0.85, "fp64, Schur, diagonal": 0.85}
RUNS: dict[str, tuple[str, AbstractLinear]] = {
    "fp64": ("double", Iterative()),
    "fp32": ("single" + KEPT, Iterative()),
    "fp16 products": ("bundle_adjustment" + KEPT, Iterative()),
    "bf16 products": ("bf16" + KEPT, Iterative()),
    "fp64, Schur": ("double", Schur()),
    "fp16 products, Schur": ("bundle_adjustment" + KEPT, Schur()),
    "fp64, Schur, diagonal": ("double", DIAGONAL),
    "fp16 products, Schur, diagonal": ("bundle_adjustment" + KEPT, DIAGONAL),
    "fp64, Schur, factored": ("double", FACTORED),
    "fp16 products, Schur, factored": ("bundle_adjustment" + KEPT, FACTORED),
}


def windows(folder: Path) -> dict[str, Bundle]:
    """The windows, each with noise added to where it starts."""
    found = {}
    for number in ("02", "03"):
        whole = read_libmv(folder / f"libmv_problem_{number}.bin")
        window = whole.window(100, 50)
        found[f"libmv {number}"] = window.perturbed(
            rotation=1e-3, translation=1e-2, point=1e-2, seed=0
        )
    return found | {f"synthetic {seed}": sliding_window(seed=seed) for seed in range(3)}


def solved(name: str, window: Bundle) -> list[Measurement]:
    """The rows of one window."""
    problem, start = bundle_to_problem(window), bundle_to_values(window)
    rows = [
        Measurement(f"{name}: rows of J", 2 * len(window.pixels), "", "lower"),
        Measurement(f"{name}: columns of J", problem.dim, "", "lower"),
        Measurement(f"{name}: cost at the start", bundle_cost(window), "", "lower"),
    ]
    costs, steps, enough = {}, {}, {}
    lowest = 0.0
    for kind, (policy, linear) in RUNS.items():
        found = minimise(
            problem,
            start,
            method=LevenbergMarquardt(),
            linear=linear,
            policy=policy,
            throw=False,
        )
        costs[kind] = bundle_cost(bundle_from_values(window, found.to_numpy()))
        steps[kind] = int(found.linear_steps)
        lowest = costs[kind] if kind == "fp64" else lowest
        there = np.asarray(found.history.cost) <= lowest * (1 + 1e-8)
        solves = np.asarray(found.history.linear_steps)[: int(np.argmax(there))]
        enough[kind] = int(solves.sum()) if there.any() else np.inf
        what = f"{name}, {kind}"
        ended = str(found).split(": ", 1)[1].rstrip(".")
        ended = "" if ended == "converged" else f" [{ended.split(':')[0]}]"
        rows += [
            Measurement(f"{what}: steps of CG in {int(found.steps)} iterations{ended}", steps[kind],
                        "", "lower"),
            Measurement(f"{what}: steps of CG to 1e-8 above the lowest cost", enough[kind], "",
                        "lower"),
        ]  # fmt: skip
        if kind == "fp64":
            continue
        gap = abs(costs[kind] / costs["fp64"] - 1)
        most = MOST.get(kind)
        asked = 1e-5 if kind != "bf16 products" else None
        rows += [
            Measurement(f"{what}: cost / fp64's - 1, absolute", gap, "", "lower", asked),
            Measurement(f"{what}: steps of CG / fp64's", steps[kind] / steps["fp64"], "x", "lower",
                        most),
            Measurement(f"{what}: steps of CG to 1e-8 / fp64's", enough[kind] / enough["fp64"], "x",
                        "lower", most),
        ]  # fmt: skip
    return rows


def together(rows: list[Measurement]) -> list[Measurement]:
    """The steps of all windows, of each kind: what chance does to one of them matters less."""
    more = []
    for kind in ("fp16 products", "bf16 products", "fp64, Schur", "fp64, Schur, diagonal"):
        for what in ("steps of CG in ", "steps of CG to 1e-8 above"):
            counts = [
                sum(row.value for row in rows if f", {name}: {what}" in row.metric)
                for name in (kind, "fp64")
            ]
            name = f"all windows, {kind}: {what.removesuffix(' in ').removesuffix(' above')}"
            ratio = counts[0] / counts[1]
            more.append(Measurement(f"{name} / fp64's", ratio, "x", "lower", MOST.get(kind)))
    return more


def timed(name: str, window: Bundle, kinds: tuple[str, ...]) -> list[Measurement]:
    """How long a call of `minimise` takes, of each kind."""
    problem, start = bundle_to_problem(window), bundle_to_values(window)
    runs = {
        kind: functools.partial(
            minimise, problem, start, method=LevenbergMarquardt(), linear=RUNS[kind][1]
        )
        for kind in kinds
    }
    found = {kind: run() for kind, run in runs.items()}
    seconds = interleaved({kind: lambda run=run: run().cost for kind, run in runs.items()}, 5)
    rows = [
        Measurement(f"{name}: rows of J", 2 * len(window.pixels), "", "lower"),
        Measurement(f"{name}: columns of J", problem.dim, "", "lower"),
    ]
    for kind in kinds:
        what = f"{name}, {kind}"
        gap = abs(float(found[kind].cost) / float(found["fp64"].cost) - 1)
        rows += [
            Measurement(f"{what}: steps of CG in {int(found[kind].steps)} iterations",
                        int(found[kind].linear_steps), "", "lower"),
            Measurement(f"{what}: time", seconds[kind], "s", "lower"),
        ]  # fmt: skip
        if kind != "fp64":
            rows += [
                Measurement(f"{what}: cost / fp64's - 1, absolute", gap, "", "lower"),
                Measurement(f"{what}: time / fp64's", seconds[kind] / seconds["fp64"], "x",
                            "lower"),
            ]  # fmt: skip
    return rows


NOTE = (
    "Levenberg-Marquardt; each linear system by CGNR to 1e-2 of the energy. `Schur`: the points "
    "eliminated, by `linear='schur'`, with a dense factor of what is left in windows of this "
    "size; `diagonal`: with the diagonal blocks of that, `Schur(reduced=BlockJacobi())`; "
    "`factored`: with a sparse complete factor, `Schur(reduced=CompleteCholesky())`. 16-bit "
    "policies keep residuals and poses in float64, all else in float32; of their products the "
    "matrix alone is narrow. The whole run ends when a step promises less than 1e-10 of the cost,"
    " which one iteration more or less may reach by chance: therefore also to 1e-8, and all "
    "windows together. `50 frames`, `200 frames`: a window and a long trajectory; times are "
    "medians of 5 calls of `minimise`, in turn, with symbolic phases and without compilation."
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []

    def add(more: list[Measurement]) -> None:
        rows.extend(more)
        for row in more:
            print(f"{row.metric}: {row.value:.4g} {row.unit}", flush=True)

    for name, window in windows(arguments.folder).items():
        add(solved(name, window))
    add(together(rows))
    kinds = ("fp64", "fp64, Schur", "fp64, Schur, diagonal", "fp64, Schur, factored")
    add(timed("50 frames", sliding_window(seed=0), kinds))
    # A long way past many points: what is far away is tied to here through all between.
    long = sliding_window(200, 1600, start_noise=3e-4, seed=0)
    add(timed("200 frames", long, (kinds[0], *kinds[2:])))
    print(written(rows))


def written(rows: list[Measurement]) -> str:
    """The table."""
    return report(
        "bundle_adjustment",
        "Half-precision products in bundle adjustment",
        "python benchmarks/bundle_adjustment.py ../shared/data/bundle_adjustment",
        rows,
        NOTE,
    )


if __name__ == "__main__":
    main()
