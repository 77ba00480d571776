"""Curves of one coordinate: what is prescribed, what is predicted, and the error."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import ArrayLike, Float

from ._style import INK, STYLE, colors_for, host, pyplot, require_some

if TYPE_CHECKING:
    import matplotlib.figure


def plot_traces(
    t: Float[ArrayLike, " times"],
    truth: Mapping[str, Float[ArrayLike, " times"]],
    predictions: Mapping[str, Mapping[str, Float[ArrayLike, " times"]]],
    *,
    colors: Mapping[str, str] | None = None,
    t_label: str = "time $t$ (dimensionless)",
) -> tuple["matplotlib.figure.Figure", np.ndarray]:
    """What holds at some places against what was predicted, over time, and the absolute errors.

    **Arguments:**

    - `t`: the coordinate.
    - `truth`: place to its curve, drawn dashed; its name becomes the label of the axis.
    - `predictions`: model to a curve for each of the places.
    - `colors`: model to any matplotlib colour; colour-blind safe ones are chosen otherwise.
    - `t_label`: of the coordinate.

    **Returns:** `(figure, axes)`, axes of shape `(2, places)`: curves, and errors on a logarithmic
    scale, on which an error of 0 is drawn at the lower edge.

    **Raises:** `ValueError` for unequal shapes or places; `ImportError` without matplotlib.

    !!! example
        >>> import numpy as np
        >>> t = np.linspace(0.0, 1.0, 5)
        >>> figure, axes = plot_traces(t, {"wall": t}, {"model": {"wall": t + 0.1}})
        >>> axes.shape
        (2, 1)
    """
    where = "plot_traces"
    plt = pyplot(where)
    require_some(where, "truth", truth)
    require_some(where, "predictions", predictions)
    t = host(where, "t", t)
    exact = {place: host(where, f"truth[{place!r}]", u, t.shape) for place, u in truth.items()}
    drawn: dict[str, dict[str, np.ndarray]] = {}
    for model, curves in predictions.items():
        if set(curves) != set(exact):
            raise ValueError(
                f"`{where}(predictions[{model!r}]=...)`: expected the places {list(exact)}, got "
                f"{list(curves)}"
            )
        drawn[model] = {
            p: host(where, f"predictions[{model!r}]", curves[p], t.shape) for p in exact
        }
    color = colors_for(drawn, colors)
    off = [np.abs(drawn[m][p] - exact[p]) for m in drawn for p in exact]
    seen = np.concatenate([each[each > 0] for each in off])
    top = float(seen.max()) if seen.size else 1.0
    floor = max(float(seen.min()) if seen.size else 0.1, 1e-9 * top) / 3
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            2,
            len(exact),
            figsize=(max(4.8, 4.2 * len(exact)), 5.2),
            height_ratios=(3, 2),
            sharex=True,
            squeeze=False,
            layout="constrained",
        )
        for (above, below), place in zip(axes.T, exact, strict=True):
            for model, curves in drawn.items():
                above.plot(t, curves[place], color=color[model], label=model)
                error = np.maximum(np.abs(curves[place] - exact[place]), floor)
                below.semilogy(t, error, color=color[model])
            above.plot(t, exact[place], color=INK, lw=1.3, ls=(0, (4, 2)), label="prescribed")
            above.set_title(place)
            below.set_ylim(floor, 3 * top)
            below.set_xlabel(t_label)
        axes[1, 0].set_ylabel("absolute error")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=2)
    return figure, axes


def plot_growth(
    errors: Mapping[str, Float[ArrayLike, " steps"]],
    *,
    colors: Mapping[str, str] | None = None,
    x_label: str = "window",
    y_label: str = "relative L2 error",
) -> tuple["matplotlib.figure.Figure", Any]:
    """An error after each step, on a logarithmic scale, a line for each model.

    **Arguments:**

    - `errors`: model to its errors, in the order of the steps, which count from 1.
    - `colors`, `x_label`, `y_label`: as their names say.

    **Returns:** `(figure, axes)`.

    **Raises:** `ValueError` if there is nothing to draw; `ImportError` without matplotlib.

    !!! example
        >>> figure, axes = plot_growth({"model": [0.01, 0.02, 0.04]})
        >>> axes.get_yscale()
        'log'
    """
    where = "plot_growth"
    plt = pyplot(where)
    require_some(where, "errors", errors)
    color = colors_for(errors, colors)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(figsize=(4.8, 3.3), layout="constrained")
        most = 1
        for model, each in errors.items():
            values = np.asarray(each, np.float64).ravel()
            most = max(most, len(values))
            steps = np.arange(1, len(values) + 1)
            axes.semilogy(steps, values, color=color[model], marker="o", ms=4, label=model)
        axes.set_xticks(range(1, most + 1))
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        axes.legend()
    return figure, axes
