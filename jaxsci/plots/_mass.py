"""The conserved quantity over time, and how wrong it is."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float

from ._style import FAINT, INK, STYLE, colors_for, host, pyplot, require_some

if TYPE_CHECKING:
    import matplotlib.figure


def draw_mass(
    axes: Any,
    t: np.ndarray,
    masses: Mapping[str, np.ndarray],
    truth: np.ndarray,
    color: Mapping[str, str],
    stds: Mapping[str, np.ndarray] | None = None,
) -> None:
    """Mass over time; the truth dashed on top, so that a curve under it shows as agreement."""
    for name, mass in masses.items():
        if stds is not None and name in stds:
            half = 1.96 * stds[name]
            axes.fill_between(t, mass - half, mass + half, color=color[name], alpha=0.18, lw=0)
        axes.plot(t, mass, color=color[name], label=name)
    axes.plot(t, truth, color=INK, lw=1.3, ls=(0, (4, 2)), label="truth", zorder=4)
    axes.margins(x=0.01)


def draw_mass_error(
    axes: Any,
    t: np.ndarray,
    masses: Mapping[str, np.ndarray],
    truth: np.ndarray,
    color: Mapping[str, str],
    *,
    rounding_label: bool = True,
) -> None:
    """`|mass - truth|` on a log axis, above a shaded floor: the rounding of the masses' dtype."""
    largest = max((mass.dtype for mass in masses.values()), key=lambda d: np.finfo(d).eps)
    eps = float(np.finfo(largest).eps)
    floor = eps * max(float(np.max(np.abs(truth))), float(np.finfo(np.float64).tiny / eps))
    # An exact zero has no place on a log axis; it is drawn at the bottom of the shaded zone.
    lowest = floor / 30
    top = floor
    for name, mass in masses.items():
        error = np.abs(np.asarray(mass, np.float64) - truth)
        axes.plot(t, np.maximum(error, lowest), color=color[name], label=name)
        top = max(top, float(np.max(error)))
    axes.axhspan(lowest / 2, floor, color=FAINT, alpha=0.16, lw=0)
    if rounding_label:
        axes.annotate(
            f"rounding ({largest.name})",
            (1, floor),
            xycoords=("axes fraction", "data"),
            xytext=(-3, 2),
            textcoords="offset points",
            ha="right",
            va="bottom",
            fontsize=8.5,
            color="#6a6a6a",
        )
    axes.set_yscale("log")
    axes.set_ylim(lowest / 2, 10 * top)
    axes.margins(x=0.01)


def plot_mass(
    t: Float[ArrayLike, " times"],
    masses: Mapping[str, Any],
    truth: Float[ArrayLike, " times"],
    *,
    stds: Mapping[str, Any] | None = None,
    colors: Mapping[str, str] | None = None,
    t_label: str = "time $t$ (dimensionless)",
    mass_label: str = r"mass $\int u\,\mathrm{d}x$ (dimensionless)",
) -> tuple["matplotlib.figure.Figure", np.ndarray]:
    """Mass over time beside its absolute error on a logarithmic axis.

    **Arguments:**

    - `t`: times.
    - `masses`: name to mass over time, e.g. `{"unconstrained": ..., "constrained": ...}`. Errors
        below the rounding of their dtype are in a shaded zone; an exact zero is drawn at its
        bottom.
    - `truth`: the true mass over time.
    - `stds`: name to the standard deviation of the mass; a 95 % band is drawn.
    - `colors`: name to any matplotlib colour.
    - `t_label`, `mass_label`: axis labels, with their units.

    **Returns:** `(figure, axes)`, axes `[mass, error]`.

    **Raises:** `ValueError` for unequal shapes or nothing to draw; `ImportError` without
    matplotlib.

    !!! example
        >>> import numpy as np
        >>> t = np.linspace(0.0, 1.0, 5)
        >>> figure, axes = plot_mass(t, {"surrogate": t + 0.01}, t)
        >>> axes[1].get_yscale()
        'log'
    """
    where = "plot_mass"
    plt = pyplot(where)
    require_some(where, "masses", masses)
    t = host(where, "t", t)
    truth = host(where, "truth", truth, t.shape)
    drawn = host_curves(where, "masses", masses, t.shape)
    bands = None if stds is None else host_curves(where, "stds", stds, t.shape)
    color = colors_for(drawn, colors)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(1, 2, figsize=(9.0, 3.3), sharex=True, layout="constrained")
        draw_mass(axes[0], t, drawn, truth, color, bands)
        draw_mass_error(axes[1], t, drawn, truth, color)
        axes[0].set_ylabel(mass_label)
        axes[1].set_ylabel("absolute error of the mass")
        for ax in axes:
            ax.set_xlabel(t_label)
        axes[0].legend()
        axes[1].legend()
    return figure, axes


def host_curves(
    where: str, name: str, curves: Mapping[str, Any], shape: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """Every curve as a floating numpy array of the given shape."""
    made = {}
    for key, value in curves.items():
        array = host(where, f"{name}[{key!r}]", value, shape)
        made[key] = array if np.issubdtype(array.dtype, np.floating) else array.astype(float)
    return made
