"""Real pose graphs against GTSAM: `python benchmarks/pose_graphs.py FOLDER [--only NAME ...]`.

FOLDER holds the public g2o files. Each graph is solved under each policy from the same start as
GTSAM's (installed from its wheel): final cost, iterations, CG iterations, and time, warm and cold.
The cost is the full logarithm's, computed by numpy in float64 for every solution alike.
"""

import argparse
import importlib
import tempfile
import time
from pathlib import Path
from typing import Any

import jax
import numpy as np
from timing import Measurement, report

from jaxsci.experiments import SlamSettings, optimise_graph
from jaxsci.precision import Policy
from jaxsci.solvers.slam import PoseGraph, chordal, odometry, read_g2o, write_g2o

# name: (start, settings, bar on the relative difference to GTSAM for double and single)
GRAPHS: dict[str, tuple[str, dict[str, Any], float]] = {
    "intel": ("file", {"method": "gn"}, 1e-7),
    "sphere2500": ("file", {"method": "gn"}, 1e-7),
    "city10000": ("file", {"method": "gn"}, 1e-7),
    "parking-garage": ("file", {"method": "gn"}, 1e-6),
    "torus3D": ("chordal", {"method": "gn"}, 1e-6),
    "manhattan": ("odometry", {"method": "lm", "linear": "cholesky"}, 1e-6),
}
HALF = {"pose_graph": 1e-7, "bundle_adjustment": 1e-6}


def gtsam_cost(path: Path, three: bool) -> tuple[float, float, int]:
    """GTSAM's final cost by Levenberg-Marquardt at 1e-10, its seconds and iterations."""
    gtsam: Any = importlib.import_module("gtsam")

    factors, start = gtsam.readG2o(str(path), three)
    factors = gtsam.NonlinearFactorGraph(factors)
    first = min(start.keys())
    held = gtsam.NonlinearEqualityPose3 if three else gtsam.NonlinearEqualityPose2
    at = start.atPose3(first) if three else start.atPose2(first)
    factors.add(held(first, at))
    best: tuple[float, float, int] | None = None
    for name in ("GaussNewton", "LevenbergMarquardt"):
        settings = getattr(gtsam, f"{name}Params")()
        settings.setRelativeErrorTol(1e-10)
        settings.setAbsoluteErrorTol(0)
        settings.setMaxIterations(200)
        runs = []
        for _ in range(3):
            optimiser = getattr(gtsam, f"{name}Optimizer")(factors, start, settings)
            began = time.perf_counter()
            solved = optimiser.optimize()
            seconds = time.perf_counter() - began
            runs.append((seconds, factors.error(solved), optimiser.iterations()))
        found = runs[0][1], float(np.median([run[0] for run in runs])), runs[0][2]
        if best is None or found[0] < best[0] * (1 - 1e-9):
            best = found
    assert best is not None
    return best


def started(graph: PoseGraph, start: str) -> PoseGraph:
    """The graph with the poses to start from."""
    if start == "file":
        return graph
    with jax.enable_x64(True):
        return odometry(graph) if start == "odometry" else chordal(graph)[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", nargs="*", choices=GRAPHS, default=list(GRAPHS))
    parser.add_argument("--policies", nargs="*", default=["double", "single", *HALF])
    arguments = parser.parse_args()
    rows = []
    for name in arguments.only:
        start, settings, bar = GRAPHS[name]
        graph = started(read_g2o(arguments.folder / f"{name}.g2o"), start)
        scratch = Path(tempfile.gettempdir()) / f"{name}-start.g2o"
        write_g2o(scratch, graph)
        peer, peer_seconds, peer_steps = gtsam_cost(scratch, graph.dim == 3)
        rows.append(
            Measurement(f"{name}: GTSAM's cost ({peer_steps} iterations)", peer, "", "lower")
        )
        for policy in arguments.policies:
            Policy.parse(policy)
            chosen = SlamSettings(
                scratch, policy=policy, init="file", figures=False, **settings
            )  # fmt: skip
            result, _, _ = optimise_graph(graph, chosen, progress=lambda line: None)
            gap = result.final_cost / peer - 1
            limit = HALF.get(policy, bar) if name in ("intel", "sphere2500") else bar
            what = f"{name}, {policy}"
            ended = f" [{result.status.split(':')[0]}]" if result.status else ""
            rows += [
                Measurement(f"{what}: cost / GTSAM's - 1{ended}", gap, "", "lower", limit),
                Measurement(
                    f"{what}: CG iterations in {result.iterations} steps",
                    result.cg_iterations, "", "lower",
                ),
                Measurement(
                    f"{what}: time / GTSAM's", result.seconds["run"] / peer_seconds, "x", "lower",
                    4.0 if name in ("sphere2500", "city10000") else None,
                ),
                Measurement(f"{what}: compilation", result.seconds["compile"], "s", "lower", 10.0),
            ]  # fmt: skip
            for row in rows[-4:]:
                print(f"{row.metric}: {row.value:.4g} {row.unit}", flush=True)
    print(
        report(
            "pose_graphs",
            "Pose graphs against GTSAM",
            "python benchmarks/pose_graphs.py FOLDER",
            rows,
            "Both start from the same file, hold the first pose and stop at a relative 1e-10. "
            "GTSAM: the better of Gauss-Newton and Levenberg-Marquardt. `pose_graph`: triangular "
            "solves in half precision; `bundle_adjustment`: products.",
        )
    )


if __name__ == "__main__":
    main()
