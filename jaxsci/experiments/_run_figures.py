"""The figures of an experiment."""

from pathlib import Path
from typing import Any

import numpy as np

from jaxsci.plots import plot_calibration, plot_summary

from ._run_evaluation import Showcase


def draw_figures(shown: Showcase, folder: Path) -> dict[str, Path]:
    """Writes `summary.png` and `calibration.png`; returns their paths."""
    import matplotlib.pyplot as plt

    front = float(shown.true_shock)
    summary, _ = plot_summary(
        x=shown.x,
        predictions=_in_order(shown.predictions),
        truth=shown.truth,
        t=shown.t,
        masses=_in_order(shown.masses),
        true_mass=shown.true_mass,
        shocks=_in_order(shown.shocks),
        true_shock=None if np.isnan(front) else front,
        time=float(shown.time),
    )
    calibration, _ = plot_calibration(_in_order(shown.calibration))
    files = {}
    for name, figure in (("summary", summary), ("calibration", calibration)):
        files[name] = folder / f"{name}.png"
        figure.savefig(files[name], dpi=150)
        plt.close(figure)
    return files


def _in_order(by_name: dict[str, Any]) -> dict[str, Any]:
    """`jit` returns dictionaries sorted by key; a reader wants the order of events."""
    return {name: by_name[name] for name in ("before", "after")}
