"""A figure of the slice that moved most."""

from pathlib import Path

import numpy as np

from jaxsci.plots import plot_profile

from ._constrain_layout import Prediction


def check_figure(path: Path, prediction: Prediction) -> None:
    """**Raises:** `ValueError` unless there is one space axis, `ImportError` without matplotlib."""
    space = [name for name in prediction.axes if name != "t"]
    if len(space) != 1:
        raise ValueError(f"--figure: expected one space axis to draw along, got {space}")
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise ImportError("--figure needs matplotlib: pip install 'jaxsci[plot]'") from error
    known = Figure().canvas.get_supported_filetypes()
    if path.suffix[1:].lower() not in known:
        raise ValueError(f"--figure {path}: unknown extension; expected one of {', '.join(known)}")


def draw(path: Path, prediction: Prediction, updated: dict[str, np.ndarray]) -> None:
    """Write the profile of the slice with the largest move, before and after, with its bands."""
    import matplotlib.pyplot as plt

    step = np.abs(updated["mean"] - prediction.mean).max(axis=2)
    i, j = np.unravel_index(int(step.argmax()), step.shape)
    before, after = prediction.variance, updated.get("variance")
    none = np.zeros_like(prediction.mean)
    pairs = {
        "prediction": (prediction.mean[i, j], (none if before is None else before)[i, j]),
        "constrained": (updated["mean"][i, j], (none if after is None else after)[i, j]),
    }
    name = next(name for name in prediction.axes if name != "t")
    x = np.asarray(prediction.space().axes[0].points)
    figure, axes = plot_profile(x, pairs, layout="overlay", x_label=f"${name}$", u_label="mean")
    where = [f"prediction {i}"] if prediction.batched else []
    if prediction.timed:
        where.append(f"$t$ = {prediction.coordinates['t'][j]:.4g}")
    axes[0].set_title(", ".join([*where, "the slice that moved most"]))
    figure.savefig(path)
    plt.close(figure)
