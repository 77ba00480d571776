"""A diverging colour map for signed errors, uniform in perceived lightness."""

from typing import Any

import numpy as np

# Oklab to linear sRGB (B. Ottosson, *A perceptual color space for image processing*, 2020).
_TO_LMS = np.array(
    [
        [1, 0.3963377774, 0.2158037573],
        [1, -0.1055613458, -0.0638541728],
        [1, -0.0894841775, -1.2914855480],
    ]
)
_TO_RGB = np.array(
    [
        [4.0767416621, -3.3077115913, 0.2309699292],
        [-1.2684380046, 2.6097574011, -0.3413193965],
        [-0.0041960863, -0.7034186147, 1.7076147010],
    ]
)
# Blue for lost, orange-red for created: hues that red-green colour blindness keeps apart.
_LOST_HUE, _CREATED_HUE = np.deg2rad(252.0), np.deg2rad(45.0)
_DARK, _LIGHT, _CHROMA = 0.42, 0.975, 0.135


def oklab_to_srgb(lab: np.ndarray) -> np.ndarray:
    """Oklab coordinates, shape (..., 3), as sRGB in [0, 1]."""
    linear = (lab @ _TO_LMS.T) ** 3 @ _TO_RGB.T
    linear = np.clip(linear, 0, 1)
    low = linear <= 0.0031308
    return np.where(low, 12.92 * linear, 1.055 * np.maximum(linear, 1e-12) ** (1 / 2.4) - 0.055)


def signed_error_colors(n: int = 255) -> np.ndarray:
    """`n` sRGB rows from dark blue through near-white to dark orange, shape (n, 3).

    Perceived lightness is linear in the absolute error and the same on both sides, so that an
    error of either sign weighs the same on the eye; chroma rises and levels off.
    """
    signed = np.linspace(-1, 1, n)
    size = np.abs(signed)
    lightness = _LIGHT + (_DARK - _LIGHT) * size
    chroma = _CHROMA * np.sin(np.pi / 2 * np.minimum(1.25 * size, 1))
    hue = np.where(signed < 0, _LOST_HUE, _CREATED_HUE)
    return oklab_to_srgb(np.stack([lightness, chroma * np.cos(hue), chroma * np.sin(hue)], axis=-1))


def signed_error_map() -> Any:
    """The colours above as a matplotlib colour map, not registered anywhere."""
    from matplotlib.colors import ListedColormap

    return ListedColormap(signed_error_colors(), name="jaxsci_signed_error")
