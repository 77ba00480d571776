"""Real pose graphs against GTSAM: `python benchmarks/pose_graphs.py FOLDER [--only NAME ...]`.

FOLDER holds the public g2o files. Each graph is solved in several ways from the same start as
GTSAM's (installed from its wheel): final cost, iterations, CG iterations, and time, warm and cold,
GTSAM's and ours in turn. The cost is the full logarithm's, computed by numpy in float64 for every
solution alike.
"""

import argparse
import dataclasses
import importlib
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from timing import RESULTS, Measurement, report

from jaxsci.experiments import SlamResult, SlamSettings, optimise_graph
from jaxsci.solvers.slam import PoseGraph, chordal, odometry, read_g2o, sphere, write_g2o

# name: (start, method, bar on the relative difference to GTSAM's cost)
GRAPHS: dict[str, tuple[str, Any, float]] = {
    "intel": ("file", "gn", 1e-7),
    "sphere2500": ("file", "gn", 1e-7),
    "city10000": ("file", "gn", 1e-7),
    "parking-garage": ("file", "gn", 1e-6),
    "torus3D": ("chordal", "gn", 1e-6),
    "manhattan": ("odometry", "lm", 1e-6),
}
TIMED = ("sphere2500", "city10000")


@dataclasses.dataclass(frozen=True)
class Way:
    """How a graph is solved, and what is asked of it.

    - `cost`: a bar on the cost of its own, for the two graphs for which one is set.
    - `time`: on the time against GTSAM's, for the graphs in `TIMED`.
    """

    settings: dict[str, Any]
    only: tuple[str, ...] = tuple(GRAPHS)
    cost: float | None = None
    time: float | None = None

    def cost_bar(self, name: str, usual: float) -> float | None:
        """The bar on the relative difference of the costs."""
        if self.cost is not None:
            return self.cost if name in ("intel", "sphere2500") else None
        return usual


LOOSE = ("intel", "sphere2500", "city10000", "torus3D")
WAYS = {
    "double": Way({"policy": "double"}, time=4.0),
    "single": Way({"policy": "single"}, time=4.0),
    "pose_graph": Way({"policy": "pose_graph"}, (*LOOSE, "parking-garage"), cost=1e-7),
    "bundle_adjustment": Way({"policy": "bundle_adjustment"}, LOOSE, cost=1e-6),
    "single, complete": Way({"policy": "single", "preconditioner": "complete"}, LOOSE),
    "pose_graph, complete": Way(
        {"policy": "pose_graph", "preconditioner": "complete"}, LOOSE, cost=1e-7
    ),
    "double, direct": Way({"policy": "double", "linear": "cholesky"}, time=2.5),
    "single, IC0": Way({"policy": "single", "preconditioner": "ic0"}, LOOSE),
    "pose_graph, IC0": Way({"policy": "pose_graph", "preconditioner": "ic0"}, LOOSE, cost=1e-7),
    "single, block Jacobi": Way({"policy": "single", "preconditioner": "block-jacobi"}, TIMED),
}


class Peer:
    """GTSAM on one graph: the better of Gauss-Newton and Levenberg-Marquardt, at 1e-10."""

    def __init__(self, path: Path, three: bool):
        self.gtsam: Any = importlib.import_module("gtsam")
        factors, self.start = self.gtsam.readG2o(str(path), three)
        self.factors = self.gtsam.NonlinearFactorGraph(factors)
        first = min(self.start.keys())
        kind = "3" if three else "2"
        at = getattr(self.start, f"atPose{kind}")(first)
        self.factors.add(getattr(self.gtsam, f"NonlinearEqualityPose{kind}")(first, at))
        runs = {name: self.solve(name) for name in ("GaussNewton", "LevenbergMarquardt")}
        self.name = min(runs, key=lambda name: runs[name][1] * (1 + 1e-9 * (name[0] == "L")))
        self.cost, self.steps = runs[self.name][1:]

    def solve(self, name: str) -> tuple[float, float, int]:
        """Seconds, final cost and iterations of one run."""
        settings = getattr(self.gtsam, f"{name}Params")()
        settings.setRelativeErrorTol(1e-10)
        settings.setAbsoluteErrorTol(0)
        settings.setMaxIterations(200)
        optimiser = getattr(self.gtsam, f"{name}Optimizer")(self.factors, self.start, settings)
        began = time.perf_counter()
        solved = optimiser.optimize()
        seconds = time.perf_counter() - began
        return seconds, self.factors.error(solved), optimiser.iterations()

    def seconds(self) -> float:
        """Of one run."""
        return self.solve(self.name)[0]


def started(graph: PoseGraph, start: str) -> PoseGraph:
    """The graph with the poses to start from."""
    if start == "file":
        return graph
    with jax.enable_x64(True):
        return odometry(graph) if start == "odometry" else chordal(graph)[0]


def solved(graph: PoseGraph, file: Path, method: Any, way: Way) -> SlamResult:
    """One run from the poses of the graph."""
    settings = SlamSettings(file, init="file", figures=False, method=method, **way.settings)
    return optimise_graph(graph, settings, progress=lambda line: None)[0]


def compare(name: str, folder: Path, repeats: int) -> list[Measurement]:
    """All rows of one graph."""
    start, method, usual = GRAPHS[name]
    graph = started(read_g2o(folder / f"{name}.g2o"), start)
    scratch = Path(tempfile.gettempdir()) / f"{name}-start.g2o"
    write_g2o(scratch, graph)
    peer = Peer(scratch, graph.dim == 3)
    ways = {label: way for label, way in WAYS.items() if name in way.only}
    first = {label: solved(graph, scratch, method, way) for label, way in ways.items()}

    def seconds(way: Way) -> Callable[[], float]:
        return lambda: solved(graph, scratch, method, way).seconds["run"]

    runs = {"": peer.seconds} | {label: seconds(way) for label, way in ways.items()}
    # In turn, so that noise meets them alike.
    turns = [{label: run() for label, run in runs.items()} for _ in range(repeats)]
    times = {label: float(np.median([turn[label] for turn in turns])) for label in runs}
    rows = [Measurement(f"{name}: GTSAM's cost ({peer.steps} iterations)", peer.cost, "", "lower")]
    for label, way in ways.items():
        result, what = first[label], f"{name}, {label}"
        ended = f" [{result.status.split(':')[0]}]" if result.status else ""
        gap, asked = result.final_cost / peer.cost - 1, name in TIMED
        rows += [
            Measurement(
                f"{what}: cost / GTSAM's - 1{ended}", gap, "", "lower", way.cost_bar(name, usual)
            ),
            Measurement(
                f"{what}: CG iterations in {result.iterations} steps",
                result.cg_iterations, "", "lower",
            ),
            Measurement(
                f"{what}: time / GTSAM's", times[label] / times[""], "x", "lower",
                way.time if asked else None,
            ),
            Measurement(f"{what}: compilation", result.seconds["compile"], "s", "lower", 10.0),
        ]  # fmt: skip
    if name in TIMED:
        ratio = times["single"] / times["single, block Jacobi"]
        what = f"{name}: time of single / of the same with block Jacobi"
        rows.append(Measurement(what, ratio, "x", "lower", 0.7))
    return rows


def second_graph() -> Measurement:
    """Compilation for a graph of the sizes of one before, but with other edges."""
    way = Way({"policy": "single", "preconditioner": "ic0"})
    seconds = []
    for seed in (0, 1):
        graph = sphere(20, 25, seed=seed)
        seconds.append(solved(graph, Path("unused"), "gn", way).seconds["compile"])
    what = f"second graph of one structure class: compilation (first: {seconds[0]:.1f} s)"
    return Measurement(what, seconds[1], "s", "lower", 0.5)


def kept(name: str) -> list[Measurement]:
    """The rows of a graph that an earlier run has measured, for `--only` others."""
    file = RESULTS / "pose_graphs.json"
    rows = json.loads(file.read_text()) if file.exists() else []
    return [
        Measurement(**row) for row in rows if row["metric"].startswith((f"{name},", f"{name}:"))
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=GRAPHS, default=list(GRAPHS))
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    rows = {"": [second_graph()]} | {name: kept(name) for name in GRAPHS}
    for name in arguments.only:
        rows[name] = compare(name, arguments.folder, arguments.repeats)
        # After each graph: a run that is stopped leaves what it has.
        table = report(
            "pose_graphs",
            "Pose graphs against GTSAM",
            "python benchmarks/pose_graphs.py FOLDER",
            [row for found in rows.values() for row in found],
            "Both start from the same file, hold the first pose and stop at a relative 1e-10; "
            "times are medians of runs in turn, compilation apart. Conjugate gradients have two "
            "levels, blocks and clusters, unless another preconditioner is named, but a complete "
            "factor on parking-garage and manhattan, whose weights are far apart. `pose_graph`: "
            "the preconditioner, e.g. its triangular solves, in half precision; "
            "`bundle_adjustment`: the Jacobian. "
            "parking-garage, whose weights span eight decades, has no rows for half-precision "
            "products (minutes, to 6e-7) and for IC0 (26 000 CG iterations, to 4e-11).",
        )
        print(table, flush=True)


if __name__ == "__main__":
    main()
