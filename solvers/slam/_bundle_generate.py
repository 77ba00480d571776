"""A synthetic window of key frames with ground truth."""

import numpy as np

from . import _lie
from ._bundle import Bundle, bundle_residual

_INTRINSICS = np.array([500.0, 320, 240, -0.05, 0.01, 0, 0, 0])


def sliding_window(
    frames: int = 50,
    points: int = 233,
    *,
    views: int = 10,
    pixel_noise: float = 0.5,
    start_noise: float = 0.02,
    seed: int,
) -> Bundle:
    """A camera that moves along a wall of points, looking at it; 640 by 480 pixels.

    By default about the size of the published experiment, a Jacobian of some 5000 by 999.

    **Arguments:**

    - `frames`, `points`: how many key frames and points.
    - `views`: from about how many frames a point is seen; it is dropped where it is out of sight.
    - `pixel_noise`: the standard deviation of what is seen, in pixels.
    - `start_noise`: of the start around the truth: radians, and lengths (the wall is 4 away).
    - `seed`: of everything random.

    **Returns:** a [`jaxsci.solvers.slam.Bundle`][] with fixed intrinsics, `true_cameras` and
    `true_points`; its first camera is the true one.

    **Raises:** `ValueError` for fewer than 2 frames, points or views, or a negative noise.

    !!! example
        >>> from jaxsci.solvers.slam import sliding_window
        >>> window = sliding_window(seed=0)
        >>> window.cameras.shape, window.points.shape, 2 * len(window.pixels) > 4500
        ((50, 7), (233, 3), True)
    """
    for name, size in (("frames", frames), ("points", points), ("views", views)):
        if size < 2:
            raise ValueError(f"`sliding_window({name}=...)`: expected at least 2, got {size}")
    if not (pixel_noise >= 0 and start_noise >= 0):
        raise ValueError("`sliding_window(pixel_noise=..., start_noise=...)`: expected at least 0")
    rng = np.random.default_rng(seed)
    step = 4.5 / views  # at a distance of 4 the camera sees about 5 along the wall
    along = step * np.arange(frames)
    sway = rng.normal(scale=0.05, size=(frames, 6))
    truth = np.zeros((frames, 7))
    truth[:, 0], truth[:, 4] = 1.0, along
    # Poses of the camera in the world; what a bundle holds is the inverse.
    truth = _lie.inverse(_lie.compose(truth, _lie.exp(sway)))
    low, high = along[0] - 1.5, along[-1] + 1.5
    places = np.stack(
        [
            rng.uniform(low, high, points),
            rng.uniform(-1.2, 1.2, points),
            rng.uniform(3.5, 5.0, points),
        ],
        axis=1,
    )
    camera, point = (index.ravel() for index in np.indices((frames, points)))
    exact = Bundle(truth, _INTRINSICS, places, camera, point, np.zeros((frames * points, 2)))
    pixels = bundle_residual(exact)
    depth = _lie.act(truth[camera], places[point])[:, 2]
    inside = (depth > 1) & (pixels > 0).all(axis=1) & (pixels < np.array([640, 480])).all(axis=1)
    noisy = pixels[inside] + pixel_noise * rng.normal(size=(int(inside.sum()), 2))
    seen = Bundle(
        truth,
        _INTRINSICS,
        places,
        camera[inside],
        point[inside],
        noisy,
        true_cameras=truth,
        true_points=places,
    )
    return seen.perturbed(
        rotation=start_noise, translation=start_noise, point=start_noise, seed=seed + 1
    )
