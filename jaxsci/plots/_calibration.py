"""Observed against nominal coverage."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._style import FAINT, STYLE, colors_for, host, pyplot, require_some

if TYPE_CHECKING:
    import matplotlib.axes
    import matplotlib.figure


def plot_calibration(
    curves: Mapping[str, Any],
    *,
    colors: Mapping[str, str] | None = None,
) -> tuple["matplotlib.figure.Figure", "matplotlib.axes.Axes"]:
    """Calibration curves: how often the truth lies in the interval that should hold it.

    **Arguments:**

    - `curves`: name to `(nominal, observed)` as [`jaxsci.metrics.calibration_curve`][] returns
        them; average the observed coverage over functions first.
    - `colors`: name to any matplotlib colour.

    **Returns:** `(figure, axes)`. Below the diagonal a prediction is overconfident. The legend
    states the root mean square distance from the diagonal (RMSCE).

    **Raises:** `ValueError` for nothing to draw, unequal shapes or coverages outside [0, 1];
    `ImportError` without matplotlib.

    !!! example
        >>> figure, axes = plot_calibration({"surrogate": ([0.5, 0.9], [0.4, 0.8])})
        >>> axes.get_legend_handles_labels()[1]
        ['calibrated', 'surrogate (RMSCE 0.10)']
    """
    where = "plot_calibration"
    plt = pyplot(where)
    require_some(where, "curves", curves)
    drawn = {}
    for name, (nominal, observed) in curves.items():
        nominal = host(where, f"curves[{name!r}]", nominal)
        observed = host(where, f"curves[{name!r}]", observed, nominal.shape)
        if not ((observed >= 0) & (observed <= 1) & (nominal >= 0) & (nominal <= 1)).all():
            raise ValueError(
                f"`{where}(curves[{name!r}]=...)`: expected fractions between 0 and 1, got "
                f"{observed.min()} to {observed.max()}"
            )
        drawn[name] = (nominal, observed)
    color = colors_for(drawn, colors)
    markers = "os^Dv<>"
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.6, 4.4), layout="constrained")
        axes.plot([0, 1], [0, 1], color=FAINT, lw=1.2, ls="--", label="calibrated", zorder=1)
        for i, (name, (nominal, observed)) in enumerate(drawn.items()):
            rmsce = float(np.sqrt(np.mean((observed - nominal) ** 2)))
            axes.plot(
                nominal,
                observed,
                color=color[name],
                marker=markers[i % len(markers)],
                ms=4.5,
                label=f"{name} (RMSCE {rmsce:.2f})",
                clip_on=False,
                zorder=3,
            )
        axes.set_title(
            "above the diagonal underconfident, below overconfident", fontsize=9, color="#6a6a6a"
        )
        axes.set(
            xlim=(0, 1),
            ylim=(0, 1),
            aspect="equal",
            xlabel="nominal coverage (fraction)",
            ylabel="observed coverage (fraction)",
        )
        axes.legend(loc="best")
    return figure, axes
