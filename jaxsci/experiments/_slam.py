"""Pose graphs from files: read, start, minimise, write, draw, and say how it went."""

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsci.precision import Policy
from jaxsci.solvers.nonlinear import (
    MINIMISE_RESULTS,
    Cauchy,
    DogLeg,
    GaussNewton,
    GemanMcClure,
    Huber,
    Iteration,
    Iterative,
    LevenbergMarquardt,
    Preconditioner,
    Problem,
    minimise,
    plan_preconditioner,
)
from jaxsci.solvers.preconditioners import FSAI, CompleteCholesky, IncompleteCholesky, TwoLevel
from jaxsci.solvers.slam import (
    PoseGraph,
    chordal,
    from_values,
    graph_cost,
    odometry,
    read_g2o,
    to_problem,
    to_values,
    write_g2o,
)

from ._slam_settings import SlamSettings

_METHODS = {"lm": LevenbergMarquardt, "gn": GaussNewton, "dogleg": DogLeg}
_KERNELS = {"huber": Huber, "cauchy": Cauchy, "geman-mcclure": GemanMcClure}


@dataclasses.dataclass(frozen=True)
class SlamResult:
    """What became of a pose graph; `str(result)` is the report.

    - `initial_cost`, `final_cost`: `1/2 sum r' Omega r` with the full logarithm, in float64,
        at the start that was taken and at the end; `start` says which start.
    - `status`: empty if the minimum was reached, else a sentence.
    - `iterations`, `cg_iterations`: linear systems solved, and steps of conjugate gradients in all.
    - `seconds`: `read`, `start`, `symbolic` (host phase of the preconditioner), `compile`, `run`.
    - `bytes`: of the arrays that the solver holds: problem, start, preconditioner.
    - `history`: cost, damping and CG steps of each iteration.
    """

    poses: int
    edges: int
    landmarks: int
    start: str
    initial_cost: float
    final_cost: float
    status: str
    iterations: int
    cg_iterations: int
    seconds: dict[str, float]
    bytes: int
    history: dict[str, list[float]]
    report: str
    output: Path | None
    figure: Path | None

    def __str__(self) -> str:
        lines = [
            f"{self.poses} poses, {self.edges} edges"
            + (f", {self.landmarks} landmarks" if self.landmarks else "")
            + f"; start: {self.start}",
            "",
            f"{'cost at the start':<22}{self.initial_cost:.10g}",
            f"{'cost at the end':<22}{self.final_cost:.10g}",
            f"{'iterations':<22}{self.iterations} ({self.cg_iterations} of conjugate gradients)",
            f"{'seconds':<22}"
            + ", ".join(f"{name} {value:.2f}" for name, value in self.seconds.items()),
            f"{'memory':<22}{self.bytes / 1e6:.1f} MB of arrays",
            f"{'status':<22}{self.status or 'converged'}",
        ]
        for name in ("output", "figure"):
            if (path := getattr(self, name)) is not None:
                lines.append(f"{name:<22}{path}")
        return "\n".join(lines)


def optimise_graph_file(
    settings: SlamSettings, *, progress: Callable[[str], None] = print
) -> SlamResult:
    """Reads a g2o file, finds the most likely poses, writes and draws the graph.

    Computes with 64-bit types on, whatever the caller's setting: the policy decides the dtypes.

    **Arguments:** `settings`; `progress`: takes lines of text.

    **Returns:** a `SlamResult`; a `status` that is not empty says why the minimum was not reached.

    **Raises:** [`jaxsci.solvers.slam.G2OError`][] naming the lines of a bad file; `OSError` if a
    file cannot be read or written; `FileExistsError` if one is in the way.
    """
    output = settings.output or _beside(settings.file)
    figure = (settings.figure or output.with_suffix(".png")) if settings.figures else None
    for path in (output, figure):
        if path is not None and path.exists() and not settings.overwrite:
            raise FileExistsError(f"{path} exists; choose another --output, or pass --overwrite")
    began = time.perf_counter()
    graph = read_g2o(settings.file, malformed=settings.malformed, information=settings.information)
    seconds = {"read": time.perf_counter() - began}
    progress(f"{settings.file.name}: {graph.report}")
    result, solved, start = optimise_graph(graph, settings, progress=progress)
    write_g2o(output, solved)
    if figure is not None:
        from jaxsci.plots import plot_pose_graph

        drawn, _ = plot_pose_graph({f"start ({result.start})": start, "optimised": solved})
        from matplotlib import pyplot as plt

        drawn.savefig(figure, dpi=150)
        plt.close(drawn)
    return dataclasses.replace(
        result, seconds=seconds | result.seconds, output=output, figure=figure
    )


def optimise_graph(
    graph: PoseGraph,
    settings: SlamSettings,
    *,
    progress: Callable[[str], None] = print,
) -> tuple[SlamResult, PoseGraph, PoseGraph]:
    """The most likely poses of a graph in memory: the result, the graph, and where it started."""
    with jax.enable_x64(True):
        began = time.perf_counter()
        start, name = _start(graph, settings.init, progress)
        seconds = {"start": time.perf_counter() - began}
        progress(f"start: {name}, cost {graph_cost(start):.6g}")
        kernel = None if settings.kernel == "none" else _KERNELS[settings.kernel]()
        problem, values = to_problem(start, kernel=kernel), to_values(start)
        began = time.perf_counter()
        arguments = _arguments(settings, problem, start)
        seconds["symbolic"] = time.perf_counter() - began
        size = sum(
            leaf.nbytes
            for leaf in jax.tree.leaves((problem, values, arguments["preconditioner"]))
            if isinstance(leaf, jax.Array | np.ndarray)
        )
        running = 0.0

        def line(iteration: Iteration) -> None:
            nonlocal running
            running = iteration.seconds
            progress(
                f"{iteration.step:4d}  cost {iteration.cost:<18.10g} "
                f"CG steps {iteration.linear_steps:<6d} {iteration.seconds:7.2f} s"
            )

        began = time.perf_counter()
        solution = minimise(
            problem,
            values,
            rtol=settings.rtol,
            max_steps=settings.max_steps,
            report=line,
            throw=False,
            **arguments,
        )
        seconds |= {"compile": time.perf_counter() - began - running, "run": running}
        solved = from_values(graph, solution.to_numpy())
        steps = int(solution.steps)
        history = {
            "cost": np.asarray(solution.history.cost, float)[: steps + 1].tolist(),
            "damping": np.asarray(solution.history.damping, float)[: steps + 1].tolist(),
            "cg_iterations": np.asarray(solution.history.linear_steps)[:steps].tolist(),
        }
        result = SlamResult(
            poses=len(graph.poses),
            edges=len(graph.edges) + len(graph.landmark_edges),
            landmarks=len(graph.landmarks),
            start=name,
            initial_cost=graph_cost(start),
            final_cost=graph_cost(solved),
            status=MINIMISE_RESULTS[solution.result],
            iterations=steps,
            cg_iterations=int(solution.linear_steps),
            seconds=seconds,
            bytes=size,
            history=history,
            report=str(graph.report),
            output=None,
            figure=None,
        )
    return result, solved, start


def _arguments(settings: SlamSettings, problem: Any, graph: PoseGraph) -> dict[str, Any]:
    """Of [`jaxsci.solvers.nonlinear.minimise`][]."""
    linear: Any = settings.linear
    if settings.linear == "cgnr" and settings.linear_rtol is not None:
        linear = Iterative(rtol=settings.linear_rtol)
    preconditioner = None
    # Factors have blocks of one size: with landmarks, blocks on the diagonal serve.
    if settings.linear == "cgnr" and len(problem.variables) == 1:
        preconditioner = _preconditioner(settings.preconditioner, problem, graph)
    return {
        "method": _METHODS[settings.method](),
        "linear": linear,
        "policy": _policy(settings.policy),
        "preconditioner": preconditioner,
    }


# A complete factor pays on a CPU up to about so many poses, and blocks of the factor for each; and
# two levels where weights are within this factor of one another.
_MOST_POSES, _MOST_FILL, _MOST_SPREAD = 50_000, 100, 1e3


def _preconditioner(name: str, problem: Problem, graph: PoseGraph) -> Preconditioner | None:
    """The symbolic phase of the preconditioner of that name."""
    if name == "block-jacobi":
        return None
    count = problem.sizes[0][0]
    if name == "auto" and _spread(graph) <= _MOST_SPREAD:
        name = "two-level"
    if name == "auto":
        if count <= _MOST_POSES:
            complete = plan_preconditioner(problem, CompleteCholesky())
            if complete.plan.blocks <= _MOST_FILL * count:
                return complete
        name = "ic0"
    settings = {
        "complete": CompleteCholesky(),
        "ic0": IncompleteCholesky(),
        "ic1": IncompleteCholesky(fill=1),
        "fsai": FSAI(),
        "two-level": TwoLevel(),
    }
    return plan_preconditioner(problem, settings[name])


def _spread(graph: PoseGraph) -> float:
    """How far the weights of translations, or those of rotations, are apart.

    All but the hundredth part at either end.
    """
    d = graph.dim
    parts = (graph.information[:, :d, :d], graph.information[:, d:, d:])
    weights = [np.linalg.eigvalsh(part).ravel() for part in parts if part.size]
    ends = [np.quantile(w, (0.01, 0.99)) for w in weights]
    return max((high / max(low, high * 1e-16) for low, high in ends if high > 0), default=1.0)


def _policy(text: str) -> Policy:
    """The policy; a preset of narrow solves keeps residuals and poses in float64."""
    widened = ("single", "pose_graph", "bundle_adjustment", "bf16")
    return Policy.parse(f"{text},residual=f64,update=f64" if text in widened else text)


def _start(graph: PoseGraph, init: str, progress: Callable[[str], None]) -> tuple[PoseGraph, str]:
    """The graph with the poses to start from, and what they are."""

    def relaxed() -> PoseGraph:
        found, report = chordal(graph)
        for message in filter(None, report.messages):
            progress(f"chordal relaxation: {message}")
        return found

    if init == "file":
        return graph, "file"
    if init == "odometry":
        return odometry(graph), "odometry"
    if init == "chordal":
        return relaxed(), "chordal"
    given = "odometry" if len(graph.report.missing) == len(graph.poses) else "file"
    cost, residuals = graph_cost(graph), graph.measurements.shape[0] * (3 * graph.dim - 3)
    # At the truth the cost is about half the number of residuals: well above it, look further.
    if cost <= 5 * residuals:
        return graph, given
    other = relaxed()
    return (other, "chordal") if graph_cost(other) < cost else (graph, given)


def _beside(file: Path) -> Path:
    return file.with_name(f"{file.stem}-optimised.g2o")
