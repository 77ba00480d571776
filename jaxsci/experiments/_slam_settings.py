"""What `jaxsci slam` can be told."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

import tyro

PreconditionerName: TypeAlias = Literal[
    "auto", "complete", "two-level", "ic0", "ic1", "fsai", "block-jacobi"
]


@dataclasses.dataclass(frozen=True)
class SlamSettings:
    """Settings of [`jaxsci.experiments.optimise_graph_file`][], and the options of `jaxsci slam`.

    **Raises:** `ValueError` for an unknown policy, or numbers out of range.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """A pose graph in g2o format, in the plane or in space."""
    output: Path | None = None
    """Where to write the optimised graph; by default FILE with '-optimised' before .g2o."""
    overwrite: bool = False
    """Replace the output (and the figure) if it exists already."""
    figure: Path | None = None
    """Draw the graph before and after to this file; by default the output's name with .png."""
    figures: bool = True
    """Whether to draw at all; needs matplotlib."""
    policy: str = "double"
    """The dtype of each step: double, single, pose_graph, bundle_adjustment or bf16, which keep
    residuals and poses in float64; or every role by name, e.g. `single,update=f32`."""
    method: Literal["lm", "gn", "dogleg"] = "lm"
    """lm: Levenberg-Marquardt. gn: Gauss-Newton, fewer steps from a good start. dogleg."""
    linear: Literal["cgnr", "cholesky", "dense"] = "cgnr"
    """cgnr: preconditioned conjugate gradients. cholesky: sparse direct. dense: small graphs."""
    preconditioner: PreconditionerName = "auto"
    """Of cgnr. auto: two-level; where weights are a thousand apart complete, or ic0 if that would
    fill in. Else a complete factor in few bits, blocks and motions of clusters, incomplete Cholesky
    without or with fill, an approximate inverse, or blocks."""
    init: Literal["file", "odometry", "chordal", "auto"] = "auto"
    """Where to start. auto: the file (its missing poses along the edges), or the chordal
    relaxation if that fits the measurements better."""
    kernel: Literal["none", "huber", "cauchy", "geman-mcclure"] = "none"
    """A robust kernel for every edge, of width 1 in standard deviations."""
    linear_rtol: float | None = None
    """How far cgnr solves each system; by default 1e-2."""
    rtol: float = 1e-10
    """Stop when a step is predicted to lower the cost by less than this part of it."""
    max_steps: int = 100
    """At most so many linear systems."""
    malformed: Literal["raise", "skip"] = "raise"
    """Lines that cannot be read: refuse the file, or leave them out and report them."""
    information: Literal["raise", "isotropic"] = "raise"
    """Information matrices that are not positive semidefinite: refuse, or replace by isotropic."""

    def __post_init__(self):
        from jaxsci.precision import Policy

        Policy.parse(self.policy)
        if self.max_steps < 1:
            raise ValueError(f"--max-steps: expected a number >= 1, got {self.max_steps}")
        for name in ("rtol", "linear_rtol"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: expected a number between 0 and 1, got {value}")
