"""Every pose graph of a folder under several policies, as one table."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxsci.solvers.slam import read_g2o

from ._slam import optimise_graph
from ._slam_settings import PreconditionerName, SlamSettings

_COLUMNS = "graph | policy | start | cost | iterations | CG | run (s) | compile (s) | status"


@dataclasses.dataclass(frozen=True)
class SlamBenchSettings:
    """Settings of [`jaxsci.experiments.benchmark_graphs`][]: options of `jaxsci slam bench`.

    **Raises:** `ValueError` for an unknown policy, or numbers out of range.
    """

    folder: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FOLDER")]
    """A folder with g2o files."""
    policies: tuple[str, ...] = ("double", "single", "pose_graph")
    """The dtype policies to compare."""
    method: Literal["lm", "gn", "dogleg"] = "lm"
    """As in `jaxsci slam`."""
    linear: Literal["cgnr", "cholesky", "dense"] = "cgnr"
    """As in `jaxsci slam`."""
    preconditioner: PreconditionerName = "auto"
    """As in `jaxsci slam`."""
    init: Literal["file", "odometry", "chordal", "auto"] = "auto"
    """As in `jaxsci slam`."""
    max_steps: int = 100
    """As in `jaxsci slam`."""

    def __post_init__(self):
        for policy in self.policies:
            self.one(self.folder, policy)

    def one(self, file: Path, policy: str) -> SlamSettings:
        """The settings of one graph under one policy."""
        same = ("method", "linear", "preconditioner", "init", "max_steps")
        return SlamSettings(
            file, policy=policy, figures=False, **{name: getattr(self, name) for name in same}
        )


@dataclasses.dataclass(frozen=True)
class SlamBench:
    """One row for each graph and policy; `str(bench)` is a Markdown table."""

    rows: list[dict[str, Any]]

    def __str__(self) -> str:
        lines = [f"| {_COLUMNS} |", "|" + "---|" * len(_COLUMNS.split("|"))]
        for row in self.rows:
            lines.append(
                f"| {row['graph']} | {row['policy']} | {row['start']} | {row['cost']:.10g} "
                f"| {row['iterations']} | {row['cg_iterations']} | {row['run']:.2f} "
                f"| {row['compile']:.1f} | {row['status'] or 'converged'} |"
            )
        return "\n".join(lines)


def benchmark_graphs(
    settings: SlamBenchSettings, *, progress: Callable[[str], None] = print
) -> SlamBench:
    """Optimises every g2o file of a folder under each policy; writes nothing.

    **Arguments:** `settings`; `progress`: takes lines of text.

    **Returns:** a `SlamBench`.

    **Raises:** `FileNotFoundError` if the folder holds no g2o file, and as
    [`jaxsci.experiments.optimise_graph_file`][].
    """
    files = sorted(settings.folder.glob("*.g2o"))
    if not files:
        raise FileNotFoundError(f"{settings.folder}: expected a folder with .g2o files, found none")
    rows = []
    for file in files:
        graph = read_g2o(file)
        for policy in settings.policies:
            progress(f"{file.name}, {policy}")
            one = settings.one(file, policy)
            result, _, _ = optimise_graph(graph, one, progress=lambda line: None)
            rows.append(
                {
                    "graph": file.stem,
                    "policy": policy,
                    "start": result.start,
                    "cost": result.final_cost,
                    "iterations": result.iterations,
                    "cg_iterations": result.cg_iterations,
                    "run": result.seconds["run"],
                    "compile": result.seconds["compile"],
                    "bytes": result.bytes,
                    "status": result.status,
                }
            )
    return SlamBench(rows)
