"""Bundle adjustment on the host: cameras, points, and where each camera saw each point."""

import dataclasses
from typing import Any

import numpy as np

from . import _lie
from ._lie import Doubles


@dataclasses.dataclass(frozen=True, eq=False)
class Bundle:
    """Cameras that saw points; float64 numpy on the host.

    A camera moves a point of the world into its frame, `P = R X + t`, and maps it to a pixel by
    one of two models, told apart by the shape of `intrinsics`:

    ```
    (C, 3)   f, k1, k2 of each camera, free:        p = -(P_x, P_y) / P_z
             pixel = f (1 + k1 |p|^2 + k2 |p|^4) p                            (BAL)
    (8,)     f, cx, cy, k1, k2, k3, p1, p2, fixed:  p = (P_x, P_y) / P_z
             pixel = f (1 + k1 |p|^2 + k2 |p|^4 + k3 |p|^6) p + tangential + (cx, cy)
             tangential = f (2 p1 x y + p2 (|p|^2 + 2 x^2), 2 p2 x y + p1 (|p|^2 + 2 y^2))
    ```

    C cameras, P points, O observations.

    **Arguments:**

    - `cameras`: (C, 7), `(qw, qx, qy, qz, x, y, z)` of `R` and `t`.
    - `intrinsics`: see above; lengths in pixels.
    - `points`: (P, 3).
    - `camera_index`, `point_index`: (O,) who saw what.
    - `pixels`: (O, 2).
    - `camera_ids`, `point_ids`: (C,), (P,) their names; `0, 1, ...` by default.
    - `skipped`: how many observations the reader left out, of cameras or points that are absent.
    - `true_cameras`, `true_points`: if they are known (synthetic windows).

    **Raises:** `ValueError` if shapes do not fit, an index is out of range, or a number is not
    finite.
    """

    cameras: Doubles
    intrinsics: Doubles
    points: Doubles
    camera_index: np.ndarray
    point_index: np.ndarray
    pixels: Doubles
    camera_ids: np.ndarray | None = None
    point_ids: np.ndarray | None = None
    skipped: int = 0
    true_cameras: Doubles | None = None
    true_points: Doubles | None = None

    def __post_init__(self):
        c, p, o = len(self.cameras), len(self.points), len(self.pixels)
        shapes: dict[str, tuple[int, ...]] = {
            "cameras": (c, 7),
            "points": (p, 3),
            "pixels": (o, 2),
            "intrinsics": (8,) if np.ndim(self.intrinsics) == 1 else (c, 3),
            "true_cameras": (c, 7),
            "true_points": (p, 3),
        }
        for name, shape in shapes.items():
            value = getattr(self, name)
            if value is None:
                continue
            array = np.asarray(value, np.float64)
            if array.shape != shape or not np.isfinite(array).all():
                raise ValueError(
                    f"`Bundle({name}=...)`: expected finite numbers of shape {shape}, got shape "
                    f"{array.shape}"
                )
            object.__setattr__(self, name, array)
        self._index("camera_index", self.camera_index, o, c)
        self._index("point_index", self.point_index, o, p)
        self._index("camera_ids", np.arange(c) if self.camera_ids is None else self.camera_ids, c)
        self._index("point_ids", np.arange(p) if self.point_ids is None else self.point_ids, p)
        if c == 0 or p == 0:
            raise ValueError(f"`Bundle(...)`: expected a camera and a point, got {c} and {p}")

    def _index(self, name: str, value: Any, count: int, bound: int | None = None) -> None:
        array = np.asarray(value)
        if array.shape != (count,) or (count and array.dtype.kind not in "iu"):
            raise ValueError(
                f"`Bundle({name}=...)`: expected whole numbers of shape ({count},), got "
                f"{array.dtype} of shape {array.shape}"
            )
        array = array.astype(np.int64)
        if bound is not None and count and not (array.min() >= 0 and array.max() < bound):
            raise ValueError(
                f"`Bundle({name}=...)`: expected positions from 0 to {bound - 1}, got "
                f"{array.min()} to {array.max()}"
            )
        object.__setattr__(self, name, array)

    def window(self, first: int, frames: int = 50, *, least_views: int = 2) -> "Bundle":
        """The cameras `first, ..., first + frames - 1` and what they saw.

        **Arguments:**

        - `first`, `frames`: positions in `cameras`.
        - `least_views`: points seen from fewer cameras of the window are left out: one view does
            not say how far a point is.

        **Raises:** `ValueError` if there are no such cameras, or they see no such point.
        """
        if not (first >= 0 and frames >= 1 and first + frames <= len(self.cameras)):
            raise ValueError(
                f"`Bundle.window({first}, {frames})`: expected cameras from 0 to "
                f"{len(self.cameras) - 1}"
            )
        inside = (self.camera_index >= first) & (self.camera_index < first + frames)
        pairs = np.unique(np.stack([self.point_index, self.camera_index])[:, inside], axis=1)
        views = np.bincount(pairs[0], minlength=len(self.points))
        kept = np.flatnonzero(views >= least_views)
        seen = inside & np.isin(self.point_index, kept)
        if not seen.any():
            raise ValueError(
                f"`Bundle.window({first}, {frames})`: these cameras share no point that "
                f"{least_views} of them saw"
            )
        part = slice(first, first + frames)
        own = self.intrinsics.ndim == 2
        return Bundle(
            cameras=self.cameras[part],
            intrinsics=self.intrinsics[part] if own else self.intrinsics,
            points=self.points[kept],
            camera_index=self.camera_index[seen] - first,
            point_index=np.searchsorted(kept, self.point_index[seen]),
            pixels=self.pixels[seen],
            camera_ids=np.asarray(self.camera_ids)[part],
            point_ids=np.asarray(self.point_ids)[kept],
            true_cameras=None if self.true_cameras is None else self.true_cameras[part],
            true_points=None if self.true_points is None else self.true_points[kept],
        )

    def perturbed(
        self, *, rotation: float, translation: float, point: float, seed: int
    ) -> "Bundle":
        """The same with noise of these standard deviations; the first camera stays."""
        rng = np.random.default_rng(seed)
        size = np.array([translation] * 3 + [rotation] * 3)
        step = _lie.exp(size * rng.normal(size=(len(self.cameras), 6)))
        cameras = _lie.compose(self.cameras, step)
        cameras[0] = self.cameras[0]
        points = self.points + point * rng.normal(size=self.points.shape)
        return dataclasses.replace(self, cameras=cameras, points=points)


def bundle_residual(bundle: Bundle) -> Doubles:
    """Where each point should appear less where it was seen, (O, 2) in pixels, in float64."""
    seen = _lie.act(bundle.cameras[bundle.camera_index], bundle.points[bundle.point_index])
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        if bundle.intrinsics.ndim == 2:
            f, k1, k2 = bundle.intrinsics[bundle.camera_index].T
            p = -seen[:, :2] / seen[:, 2:]
            r2 = np.sum(p**2, axis=1)
            return (f * (1 + k1 * r2 + k2 * r2**2))[:, None] * p - bundle.pixels
        f, cx, cy, k1, k2, k3, p1, p2 = bundle.intrinsics
        x, y = (seen[:, :2] / seen[:, 2:]).T
        r2 = x**2 + y**2
        radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3
        u = f * (radial * x + 2 * p1 * x * y + p2 * (r2 + 2 * x**2)) + cx
        v = f * (radial * y + 2 * p2 * x * y + p1 * (r2 + 2 * y**2)) + cy
    return np.stack([u, v], axis=1) - bundle.pixels


def bundle_cost(bundle: Bundle) -> float:
    """Half the sum of the squared distances between predicted and seen pixels."""
    return float(np.sum(bundle_residual(bundle) ** 2)) / 2
