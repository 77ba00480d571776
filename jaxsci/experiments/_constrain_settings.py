"""What `jaxsci constrain` can be told."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class ConstrainSettings:
    """Settings of [`jaxsci.experiments.constrain_file`][], and the options of `jaxsci constrain`.

    **Raises:** `ValueError` for a noise that is not a finite number >= 0, or for options that
    exclude each other.
    """

    file: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="FILE")]
    """Predictions: an .npz, .h5 or .hdf5 file; docs/command-line.md gives its layout."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Where to write; by default FILE with '-constrained' before its extension."""
    overwrite: bool = False
    """Replace the output (and the figure) if it exists already."""
    figure: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Also draw the slice that moved most, before and after, to this file (.png, .pdf, .svg)."""
    method: Literal["condition", "project"] = "condition"
    """condition: the Bayesian update. project: move every point alike, whatever its variance."""
    rule: Literal["trapezoid", "right", "cells"] | None = None
    """Quadrature over space; by default cells where edges are given, else trapezoid."""
    domain: tuple[str, ...] = ()
    """Integrate over a part only, e.g. x=0:0.5; ends need not be grid points."""
    noise: float = 0.0
    """Standard deviation of b, in its unit, in addition to `b_std` of the file; 0 is exact."""
    curvature: bool = False
    """Damp kinks where the prediction is unsure, before the integral is imposed (1-D, uniform)."""
    joint: bool = False
    """Use the covariance between time slices too (`samples`, or a `cov` over space-time)."""
    spread: Literal["std", "variance", "samples", "cov"] | None = None
    """Which array is the uncertainty, if the file has several; by default the richest."""
    precision: Literal["float32", "float64"] | None = None
    """Compute and write in this dtype; by default that of the prediction."""
    save_cov: bool = False
    """Write the full covariance matrices too; they are large."""

    def __post_init__(self):
        check_options(self.method, self.noise, self.curvature, self.joint)
        parse_domain(self.domain)


def check_options(method: str, noise: float, curvature: bool, joint: bool) -> None:
    """`ValueError` for a bad noise, or for options that exclude each other."""
    if not (math.isfinite(noise) and noise >= 0):
        raise ValueError(f"--noise: expected a finite standard deviation >= 0, got {noise}")
    if method == "project":
        for name, given in (("noise", noise), ("curvature", curvature), ("joint", joint)):
            if given:
                raise ValueError(
                    f"--{name} means nothing for --method project, which uses no variances; "
                    "leave it out, or use --method condition"
                )
    if curvature and joint:
        raise ValueError("--curvature works slice by slice; leave out --joint")


def parse_domain(parts: Sequence[str]) -> dict[str, tuple[float, float]]:
    """`{axis: (low, high)}` from `"axis=low:high"`, one for each axis.

    **Raises:** `ValueError` with the part that cannot be read, or is given twice.
    """
    domain: dict[str, tuple[float, float]] = {}
    for part in parts:
        name, _, ends = part.partition("=")
        low, _, high = ends.partition(":")
        try:
            interval = float(low), float(high)
        except ValueError:
            raise ValueError(
                f"--domain: expected AXIS=LOW:HIGH, e.g. x=0:0.5, got {part!r}"
            ) from None
        if name in domain:
            raise ValueError(f"--domain: axis {name!r} is given twice")
        domain[name] = interval
    return domain
