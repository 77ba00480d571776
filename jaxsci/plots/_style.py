"""What the figures share: matplotlib on demand, one style, colours that all can tell apart."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from jaxsci.gaussians import Gaussian

# Okabe and Ito, *Color universal design* (2008): distinct under every common colour blindness.
# Vermilion and blue lead: the two are also distinct in lightness, hence in grey.
OKABE_ITO = {
    "vermilion": "#D55E00",
    "blue": "#0072B2",
    "green": "#009E73",
    "purple": "#CC79A7",
    "orange": "#E69F00",
    "sky blue": "#56B4E9",
    "yellow": "#F0E442",
}
"""The colour-blind safe palette of Okabe and Ito, in the order that figures use it."""
INK = "#1a1a1a"  # the truth, and text
FAINT = "#8a8a8a"  # guides

STYLE: dict[str, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#4d4d4d",
    "axes.facecolor": "white",
    "axes.grid": False,
    "axes.labelcolor": INK,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlelocation": "left",
    "axes.titlepad": 8,
    "axes.titlesize": 11,
    "figure.dpi": 110,
    "figure.facecolor": "white",
    "font.size": 10,
    "hatch.linewidth": 0.6,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "legend.handlelength": 1.6,
    "legend.title_fontsize": 9,
    "lines.linewidth": 1.9,
    "lines.solid_capstyle": "round",
    "savefig.facecolor": "white",
    "text.color": INK,
    "xtick.color": "#4d4d4d",
    "xtick.labelcolor": INK,
    "xtick.labelsize": 9,
    "ytick.color": "#4d4d4d",
    "ytick.labelcolor": INK,
    "ytick.labelsize": 9,
}


def pyplot(where: str) -> Any:
    """`matplotlib.pyplot`, imported at the first plot and not before."""
    try:
        import matplotlib.pyplot
    except ImportError as error:
        raise ImportError(
            f"`{where}(...)`: figures need matplotlib, which is not installed; "
            "run `pip install 'jaxsci[plot]'`"
        ) from error
    return matplotlib.pyplot


def colors_for(names: Iterable[str], colors: Mapping[str, str] | None = None) -> dict[str, str]:
    """A colour for each name, in order: vermilion, blue, green, ...; blue if there is only one."""
    names = list(names)
    cycle = list(OKABE_ITO.values())
    start = 1 if len(names) == 1 else 0
    chosen = {name: cycle[(start + i) % len(cycle)] for i, name in enumerate(names)}
    return chosen | {name: colors[name] for name in names if colors and name in colors}


def host(where: str, name: str, value: Any, shape: tuple[int, ...] | None = None) -> np.ndarray:
    """`value` as a numpy array of the given shape."""
    array = np.asarray(value)
    if shape is not None and array.shape != shape:
        raise ValueError(f"`{where}({name}=...)`: expected shape {shape}, got {array.shape}")
    return array


def host_moments(
    where: str, name: str, prediction: Any, shape: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard deviation of a `Gaussian` or a pair `(mean, variance)`, as `shape`."""
    if isinstance(prediction, Gaussian):
        pair = (prediction.mean, prediction.marginal_var)
    elif isinstance(prediction, tuple | list) and len(prediction) == 2:
        pair = prediction
    else:
        raise TypeError(
            f"`{where}(predictions[{name!r}]=...)`: expected a `Gaussian` or a pair "
            f"(mean, variance), got {type(prediction).__name__}"
        )
    arrays = []
    for part, value in zip(("mean", "variance"), pair, strict=True):
        array = np.asarray(value)
        if array.shape != shape and array.shape != (int(np.prod(shape)),):
            raise ValueError(
                f"`{where}(predictions[{name!r}]=...)`: expected a {part} of shape {shape}, got "
                f"{array.shape}"
            )
        arrays.append(array.reshape(shape))
    if (arrays[1] < 0).any():
        raise ValueError(
            f"`{where}(predictions[{name!r}]=...)`: expected variances >= 0, got {arrays[1].min()}"
        )
    return arrays[0], np.sqrt(arrays[1])


def in_powers(value: float, form: str = "+.1e") -> str:
    """A number in scientific notation as matplotlib's mathematics: `+3.8 x 10^-2`."""
    digits, power = format(value, form).split("e")
    return rf"${digits}\times 10^{{{int(power)}}}$"


def require_some(where: str, name: str, mapping: Mapping[str, Any]) -> None:
    """Raises `ValueError` if there is nothing to draw."""
    if not isinstance(mapping, Mapping):
        raise TypeError(
            f"`{where}({name}=...)`: expected a mapping from name to data, got "
            f"{type(mapping).__name__}; write {{'before': ..., 'after': ...}}"
        )
    if not mapping:
        raise ValueError(f"`{where}({name}=...)`: expected at least one entry, got none")
