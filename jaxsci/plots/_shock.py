"""Where posterior draws put a front."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike

from ._style import INK, STYLE, colors_for, host, pyplot, require_some

if TYPE_CHECKING:
    import matplotlib.figure


def shock_edges(positions: Mapping[str, np.ndarray], most: int = 40) -> np.ndarray:
    """Edges of at most `most` bins that every histogram shares.

    Positions that are points of a grid get edges half-way between points and a whole number of
    points per bin; edges chosen without regard to the grid would put two points in some bins and
    one in others, a comb that is not in the data.
    """
    found = np.concatenate([p[np.isfinite(p)].astype(np.float64) for p in positions.values()])
    if found.size == 0:
        return np.linspace(0, 1, 11)
    low, high = found.min(), found.max()
    points = np.unique(np.round(found, 9))
    # Positions off a grid are nearly all different; ones on it repeat.
    if points.size > max(2, found.size // 4):
        pad = max(0.02 * (high - low), 1e-6)
        return np.linspace(low - pad, high + pad, most + 1)
    gaps = np.diff(points)
    spacing = float(gaps[gaps > 1e-3 * gaps.max()].min()) if gaps.size else max(abs(low), 1) * 5e-3
    per_bin = int(np.ceil((round((high - low) / spacing) + 1) / most))
    bins = int(np.ceil((round((high - low) / spacing) + 1) / per_bin))
    edges = low - spacing / 2 + spacing * per_bin * np.arange(bins + 1)
    # One empty bin on each side, so that a histogram of one bar is not a full panel.
    width = spacing * per_bin
    return np.concatenate([[edges[0] - width], edges, [edges[-1] + width]])


def draw_shocks(
    axes: Any,
    positions: Mapping[str, np.ndarray],
    truth: float | None,
    color: Mapping[str, str],
    *,
    edges: np.ndarray,
    headroom: float = 1.05,
) -> None:
    """Histograms as shares of *all* draws: those without a shock are missing from the area.

    The vertical axis ends at `headroom` times the tallest bar, to leave a place for the legend.
    """
    from matplotlib.ticker import PercentFormatter  # not at import: an optional dependency

    tallest = 0.0
    for name, values in positions.items():
        found = values[np.isfinite(values)]
        label = name
        if found.size:
            label = f"{name}: {found.mean():.3f} ± {found.std(ddof=min(1, found.size - 1)):.3f}"
        none = 1 - found.size / values.size
        if none > 0:
            label += f"\n({100 * none:.3g} % no shock)"
        share = np.full(found.shape, 1 / values.size)
        heights, _, _ = axes.hist(
            found, edges, weights=share, color=color[name], alpha=0.35, label=label
        )
        tallest = max(tallest, float(np.max(heights)))
        axes.hist(found, edges, weights=share, color=color[name], histtype="step", lw=1.4)
    if truth is not None and np.isfinite(truth):
        axes.axvline(truth, color=INK, lw=1.4, ls=(0, (4, 2)), label=f"truth: {truth:.3f}")
    axes.set_ylim(0, headroom * tallest if tallest > 0 else 1)
    axes.yaxis.set_major_formatter(PercentFormatter(1))
    axes.locator_params(axis="y", nbins=6)


def plot_shock_histogram(
    positions: Mapping[str, Any],
    truth: float | None = None,
    *,
    bins: int = 40,
    colors: Mapping[str, str] | None = None,
    x_label: str = "shock position $x$ (dimensionless)",
) -> tuple["matplotlib.figure.Figure", np.ndarray]:
    """Histograms of the shock position, and the share of draws that have no shock.

    **Arguments:**

    - `positions`: name to positions as [`jaxsci.metrics.shock_distribution`][] returns them, `nan`
        where a draw has no shock.
    - `truth`: the true position; `None` or `nan` if there is none.
    - `bins`: at most how many bins; they are aligned with the grid that the positions are on.
    - `colors`: name to any matplotlib colour.
    - `x_label`: axis label, with its unit.

    **Returns:** `(figure, axes)`, axes `[histogram, share without a shock]`. Bars and "none" of
    one name add up to 1.

    **Raises:** `ValueError` for nothing to draw, positions that are not 1-D or `bins < 1`;
    `ImportError` without matplotlib.

    !!! example
        >>> import numpy as np
        >>> figure, axes = plot_shock_histogram({"before": np.array([0.2, 0.25, np.nan])}, 0.235)
        >>> axes[1].get_title(loc="left")
        'no shock'
    """
    where = "plot_shock_histogram"
    plt = pyplot(where)
    require_some(where, "positions", positions)
    if bins < 1:
        raise ValueError(f"`{where}(bins=...)`: expected at least 1, got {bins}")
    drawn = host_positions(where, positions)
    color = colors_for(drawn, colors)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1, 2, figsize=(7.2, 3.3), layout="constrained", width_ratios=(7, 1 + len(drawn) / 6)
        )
        draw_shocks(axes[0], drawn, truth, color, edges=shock_edges(drawn, bins))
        axes[0].set_xlabel(x_label)
        axes[0].set_ylabel("share of draws")
        axes[0].legend()
        shares = [float(np.mean(~np.isfinite(p))) for p in drawn.values()]
        bars = axes[1].bar(range(len(drawn)), shares, color=list(color.values()), width=0.7)
        axes[1].bar_label(bars, fmt=lambda v: f"{100 * v:.3g} %", padding=2, fontsize=8.5)
        axes[1].set_title("no shock")
        # On the scale of the histogram: "none" is one more bin, and all bins add up to 1.
        top = max(axes[0].get_ylim()[1], 1.1 * max(shares))
        axes[0].set_ylim(0, top)
        axes[1].set_ylim(0, top)
        axes[1].set_xlim(-0.6, len(drawn) - 0.4)
        axes[1].set(xticks=[], yticks=[])
        axes[1].spines["left"].set_visible(False)
    return figure, axes


def host_positions(where: str, positions: Mapping[str, ArrayLike]) -> dict[str, np.ndarray]:
    """Every set of positions as a 1-D numpy array with at least one entry."""
    made = {}
    for name, values in positions.items():
        array = host(where, f"positions[{name!r}]", values)
        if array.ndim != 1 or array.size == 0:
            raise ValueError(
                f"`{where}(positions[{name!r}]=...)`: expected shape (draws,) with at least one "
                f"draw, got {array.shape}"
            )
        made[name] = array
    return made
