"""A predicted profile with its uncertainty, against the truth."""

from collections.abc import Mapping
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float

from jaxsci.errors import lookup

from ._style import FAINT, INK, STYLE, colors_for, host, host_moments, pyplot, require_some

if TYPE_CHECKING:
    import matplotlib.figure

_LAYOUTS = {"panels": "one panel each", "overlay": "one panel for all"}


def draw_profile(
    axes: Any,
    x: np.ndarray,
    mean: np.ndarray,
    std: np.ndarray,
    *,
    level: float,
    color: str,
    label: str,
    band_label: str | None = None,
) -> None:
    """One mean and its central interval, on given axes."""
    z = NormalDist().inv_cdf((1 + level) / 2)
    axes.fill_between(
        x, mean - z * std, mean + z * std, color=color, alpha=0.22, lw=0, label=band_label
    )
    axes.plot(x, mean, color=color, label=label, zorder=3)


def draw_truth(axes: Any, x: np.ndarray, truth: np.ndarray, label: str = "truth") -> None:
    """The true profile: black and dashed, above every prediction."""
    axes.plot(x, truth, color=INK, lw=1.3, ls=(0, (4, 2)), label=label, zorder=4)


def draw_front(axes: Any, position: float | None, label: str = "true front") -> None:
    """A thin guide at the true position of the front, if there is one."""
    if position is not None and np.isfinite(position):
        axes.axvline(position, color=FAINT, lw=1.0, ls=":", label=label, zorder=1)


def profile_legend(axes: Any, **settings: Any) -> None:
    """The legend in the order in which one reads a profile: truth, means, interval, guides."""
    rank = {"truth": 0, "true front": 3}
    entries = zip(*axes.get_legend_handles_labels(), strict=True)
    entries = sorted(
        entries, key=lambda entry: rank.get(entry[1], 2 if entry[1].endswith("interval") else 1)
    )
    axes.legend(*zip(*entries, strict=True), **settings)


def plot_profile(
    x: Float[ArrayLike, " points"],
    predictions: Mapping[str, Any],
    truth: Float[ArrayLike, " points"] | None = None,
    *,
    level: float = 0.95,
    layout: str = "panels",
    front: float | None = None,
    colors: Mapping[str, str] | None = None,
    x_label: str = "position $x$ (dimensionless)",
    u_label: str = "solution $u$ (dimensionless)",
) -> tuple["matplotlib.figure.Figure", np.ndarray]:
    """Solution profiles with their central intervals, and the truth.

    **Arguments:**

    - `x`: coordinates of the points.
    - `predictions`: name to [`jaxsci.gaussians.Gaussian`][] or pair `(mean, variance)`.
    - `truth`: the exact profile, drawn dashed.
    - `level`: probability of the shaded interval.
    - `layout`: `"panels"`, side by side on common axes, or `"overlay"`, in one panel.
    - `front`: the true position of a front, drawn as a dotted line.
    - `colors`: name to any matplotlib colour; colour-blind safe ones are chosen otherwise.
    - `x_label`, `u_label`: axis labels, with their units.

    **Returns:** `(figure, axes)`, axes as a 1-D array.

    **Raises:** `ValueError` for unequal shapes, an unknown layout or a level outside (0, 1);
    `TypeError` for predictions that are neither; `ImportError` without matplotlib.

    !!! example
        >>> import numpy as np
        >>> x = np.linspace(0.0, 1.0, 11)
        >>> figure, axes = plot_profile(x, {"surrogate": (1 - x, 0.01 + 0 * x)}, truth=1 - x)
        >>> axes[0].get_xlabel()
        'position $x$ (dimensionless)'
    """
    where = "plot_profile"
    plt = pyplot(where)
    lookup("layout", layout, _LAYOUTS)
    require_some(where, "predictions", predictions)
    require_probability(where, level)
    x = host(where, "x", x)
    drawn = {n: host_moments(where, n, p, x.shape) for n, p in predictions.items()}
    exact = None if truth is None else host(where, "truth", truth, x.shape)
    color = colors_for(drawn, colors)
    panels = len(drawn) if layout == "panels" else 1
    band = f"{100 * level:g} % interval"
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            panels,
            figsize=(max(4.8, min(4.2 * panels, 12.6)), 3.3),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )
        axes = axes[0]
        for i, (name, (mean, std)) in enumerate(drawn.items()):
            ax = axes[i % panels]
            alone = layout == "panels"
            draw_profile(
                ax,
                x,
                mean,
                std,
                level=level,
                color=color[name],
                label="mean" if alone else name,
                band_label=band if alone else None,
            )
            if alone:
                ax.set_title(name, color=color[name], fontweight="bold")
        for ax in axes:
            if exact is not None:
                draw_truth(ax, x, exact)
            draw_front(ax, front)
            ax.set_xlabel(x_label)
            ax.margins(x=0.01)
            profile_legend(ax, title=f"mean, {band}" if layout == "overlay" else None)
        axes[0].set_ylabel(u_label)
    return figure, axes


def require_probability(where: str, level: float) -> None:
    """Raises `ValueError` unless `level` is strictly between 0 and 1."""
    if not 0 < level < 1:
        raise ValueError(
            f"`{where}(level=...)`: expected a probability between 0 and 1 (0.95, not 95), got "
            f"{level}"
        )
