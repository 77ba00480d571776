"""Before and after in one figure."""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float

from ._mass import draw_mass, draw_mass_error, host_curves
from ._profile import draw_front, draw_profile, draw_truth, profile_legend, require_probability
from ._shock import draw_shocks, host_positions, shock_edges
from ._style import FAINT, STYLE, colors_for, host, host_moments, in_powers, pyplot, require_some

if TYPE_CHECKING:
    import matplotlib.figure


def plot_summary(
    *,
    x: Float[ArrayLike, " points"],
    predictions: Mapping[str, Any],
    truth: Float[ArrayLike, " points"],
    t: Float[ArrayLike, " times"],
    masses: Mapping[str, Any],
    true_mass: Float[ArrayLike, " times"],
    shocks: Mapping[str, Any],
    true_shock: float | None = None,
    time: float | None = None,
    level: float = 0.95,
    colors: Mapping[str, str] | None = None,
    x_label: str = "position $x$ (dimensionless)",
    u_label: str = "solution $u$ (dimensionless)",
    t_label: str = "time $t$ (dimensionless)",
) -> tuple["matplotlib.figure.Figure", dict[str, Any]]:
    """The whole story on one page: profiles above; mass, its error and the front's position below.

    **Arguments:**

    - `x`, `predictions`, `truth`: as in `plot_profile`; one panel per prediction, usually
        `{"before": ..., "after": ...}`.
    - `t`, `masses`, `true_mass`: as in `plot_mass`, under the same names.
    - `shocks`, `true_shock`: as in `plot_shock_histogram`, under the same names.
    - `time`: the time of the profiles, marked in the panels of the mass.
    - `level`: probability of the shaded intervals.
    - `colors`: name to any matplotlib colour.
    - `x_label`, `u_label`, `t_label`: axis labels, with their units.

    **Returns:** `(figure, axes)`, axes a dict with the names of the predictions, `"mass"`,
    `"error"` and `"shock"`.

    **Raises:** `ValueError` for unequal shapes or names; `ImportError` without matplotlib.
    """
    where = "plot_summary"
    plt = pyplot(where)
    require_some(where, "predictions", predictions)
    require_probability(where, level)
    for argument, mapping in (("masses", masses), ("shocks", shocks)):
        if set(mapping) != set(predictions):
            raise ValueError(
                f"`{where}({argument}=...)`: expected the names of `predictions`, "
                f"{list(predictions)}, got {list(mapping)}"
            )
    x, t = host(where, "x", x), host(where, "t", t)
    truth = host(where, "truth", truth, x.shape)
    true_mass = host(where, "true_mass", true_mass, t.shape)
    drawn = {n: host_moments(where, n, p, x.shape) for n, p in predictions.items()}
    curves = host_curves(where, "masses", {n: masses[n] for n in drawn}, t.shape)
    positions = host_positions(where, {n: shocks[n] for n in drawn})
    color = colors_for(drawn, colors)
    n = len(drawn)
    with plt.rc_context(STYLE):
        figure = plt.figure(figsize=(10, 6.3), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.08, h_pad=0.08)
        columns = math.lcm(n, 3)
        cells = figure.add_gridspec(2, columns, height_ratios=(1.15, 1))
        wide, narrow = columns // n, columns // 3
        axes: dict[str, Any] = {}
        first = None
        for i, (name, (mean, std)) in enumerate(drawn.items()):
            ax = figure.add_subplot(cells[0, i * wide : (i + 1) * wide], sharex=first, sharey=first)
            first = ax if first is None else first
            draw_front(ax, true_shock)
            draw_profile(
                ax,
                x,
                mean,
                std,
                level=level,
                color=color[name],
                label="predicted mean",
                band_label=f"{100 * level:g} % interval",
            )
            draw_truth(ax, x, truth)
            ax.set_title(name, color=color[name], fontweight="bold")
            ax.set_title(
                _headline(mean, truth, time, t, curves[name], true_mass), loc="right", fontsize=9.5
            )
            ax.set_xlabel(x_label)
            ax.margins(x=0.01)
            profile_legend(ax, loc="upper right")
            if i:
                ax.tick_params(labelleft=False)
            else:
                ax.set_ylabel(u_label)
            axes[name] = ax
        mass, error, shock = (
            figure.add_subplot(cells[1, i * narrow : (i + 1) * narrow]) for i in range(3)
        )
        draw_mass(mass, t, curves, true_mass, color)
        draw_mass_error(error, t, curves, true_mass, color)
        draw_shocks(
            shock, positions, true_shock, color, edges=shock_edges(positions), headroom=1.45
        )
        mass.set(title="mass", xlabel=t_label, ylabel=r"$\int u\,\mathrm{d}x$ (dimensionless)")
        error.set(title="error of the mass", xlabel=t_label, ylabel="absolute error")
        shock.set(title="position of the front", xlabel=x_label, ylabel="share of draws")
        for ax in (mass, error, shock):
            ax.legend()
            ax.locator_params(axis="x", nbins=5)
        if time is not None:
            for ax in (mass, error):
                ax.axvline(time, color=FAINT, lw=1.0, ls=":", zorder=1)
    return figure, axes | {"mass": mass, "error": error, "shock": shock}


def _headline(
    mean: np.ndarray,
    truth: np.ndarray,
    time: float | None,
    t: np.ndarray,
    mass: np.ndarray,
    true_mass: np.ndarray,
) -> str:
    """What a panel shows, in numbers."""
    mse = float(np.mean((np.asarray(mean, np.float64) - truth) ** 2))
    if time is None:
        return f"MSE {in_powers(mse, '.1e')}"
    at = int(np.argmin(np.abs(t - time)))
    off = float(mass[at] - true_mass[at])
    return f"mass error {in_powers(off)},  MSE {in_powers(mse, '.1e')}"
