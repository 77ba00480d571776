"""Space-time maps of a field, its prediction and the error."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float

from ._colors import signed_error_map
from ._style import STYLE, colors_for, host, host_moments, pyplot, require_some

if TYPE_CHECKING:
    import matplotlib.figure


def plot_fields(
    t: Float[ArrayLike, " times"],
    x: Float[ArrayLike, " points"],
    truth: Float[ArrayLike, "times points"],
    predictions: Mapping[str, Any],
    *,
    show_std: bool = False,
    colors: Mapping[str, str] | None = None,
    t_label: str = "time $t$ (dimensionless)",
    x_label: str = "position $x$ (dimensionless)",
    u_label: str = "solution $u$",
) -> tuple["matplotlib.figure.Figure", np.ndarray]:
    """Maps over space and time: the truth and each mean, the signed errors, the deviations.

    Fields share one sequential, perceptually uniform map; errors share one diverging map whose
    lightness is symmetric about zero (blue: too low, orange: too high).

    **Arguments:**

    - `t`, `x`: coordinates.
    - `truth`: shape `(times, points)`.
    - `predictions`: name to [`jaxsci.gaussians.Gaussian`][] over the flattened field, or pair
        `(mean, variance)` of the shape of `truth` (or flattened).
    - `show_std`: adds a row with the standard deviations.
    - `colors`: name to the colour of its title.
    - `t_label`, `x_label`, `u_label`: labels, with their units.

    **Returns:** `(figure, axes)`, axes of shape `(2 or 3, 1 + len(predictions))`; the rows are
    the fields, the errors and the deviations, and the first column (the truth) is empty below its
    first row.

    **Raises:** `ValueError` for unequal shapes; `ImportError` without matplotlib.

    !!! example
        >>> import numpy as np
        >>> t, x = np.linspace(0.0, 1.0, 3), np.linspace(0.0, 1.0, 4)
        >>> truth = t[:, None] * x
        >>> figure, axes = plot_fields(t, x, truth, {"model": (truth + 0.1, truth)})
        >>> axes.shape
        (2, 2)
    """
    where = "plot_fields"
    plt = pyplot(where)
    require_some(where, "predictions", predictions)
    t, x = host(where, "t", t), host(where, "x", x)
    shape = (t.size, x.size)
    exact = host(where, "truth", truth, shape)
    drawn = {n: host_moments(where, n, p, shape) for n, p in predictions.items()}
    color = colors_for(drawn, colors)
    low = min(float(exact.min()), *(float(m.min()) for m, _ in drawn.values()))
    high = max(float(exact.max()), *(float(m.max()) for m, _ in drawn.values()))
    worst = max(float(np.abs(m - exact).max()) for m, _ in drawn.values())
    widest = max(float(s.max()) for _, s in drawn.values())
    tiny = float(np.finfo(np.float32).tiny)
    field = dict(cmap="viridis", vmin=low, vmax=high)
    signed = dict(cmap=signed_error_map(), vmin=-max(worst, tiny), vmax=max(worst, tiny))
    spread = dict(cmap="magma", vmin=0, vmax=max(widest, tiny))
    rows, columns = 2 + show_std, 1 + len(drawn)
    with plt.rc_context(STYLE | {"axes.spines.top": True, "axes.spines.right": True}):
        figure, axes = plt.subplots(
            rows,
            columns,
            figsize=(max(6.4, 2.9 * columns + 0.9), 2.45 * rows + 0.2),
            sharex=True,
            sharey=True,
            squeeze=False,
            layout="constrained",
        )

        def draw(ax: Any, values: np.ndarray, settings: dict[str, Any]) -> Any:
            return ax.pcolormesh(x, t, values, shading="nearest", rasterized=True, **settings)

        images = {0: draw(axes[0, 0], exact, field)}
        axes[0, 0].set_title("truth", fontweight="bold")
        for j, (name, (mean, std)) in enumerate(drawn.items(), start=1):
            draw(axes[0, j], mean, field)
            axes[0, j].set_title(name, color=color[name], fontweight="bold")
            images[1] = draw(axes[1, j], mean - exact, signed)
            if show_std:
                images[2] = draw(axes[2, j], std, spread)
        captions = (u_label, "mean − truth", "standard deviation")
        for i, image in images.items():
            figure.colorbar(image, ax=axes[i], label=captions[i], pad=0.015, aspect=14)
        for row in axes[1:]:
            row[0].set_axis_off()
            row[1].tick_params(labelleft=True)
        for row, text in zip(axes[1:], ("error", "standard deviation"), strict=False):
            at = dict(transform=row[0].transAxes, ha="right", va="center")
            row[0].text(0.97, 0.5, text, fontsize=11, **at)
        axes[0, 0].set_ylabel(t_label)
        axes[0, 0].tick_params(labelbottom=True)
        axes[0, 0].set_xlabel(x_label)
        for ax in axes[-1, 1:]:
            ax.set_xlabel(x_label)
    return figure, axes
