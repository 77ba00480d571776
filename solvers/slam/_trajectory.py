"""How far an estimated trajectory is from the true one."""

from typing import NamedTuple

import numpy as np

from . import _lie
from ._lie import Doubles


class TrajectoryError(NamedTuple):
    """What [`jaxsci.solvers.slam.absolute_trajectory_error`][] returns.

    - `rmse`, `mean`, `largest`: of the distances between aligned and true positions, a length.
    - `rotation_rmse`: of the angles between aligned and true rotations, radians.
    - `distances`: (N,) all of them.
    - `alignment`: the rigid motion that was applied to the estimate, (4,) or (7,).
    - `scale`: the factor that was applied before it; 1 unless it was asked for.
    """

    rmse: float
    mean: float
    largest: float
    rotation_rmse: float
    distances: Doubles
    alignment: Doubles
    scale: float


def absolute_trajectory_error(
    estimate: Doubles, truth: Doubles, *, align: bool = True, scale: bool = False
) -> TrajectoryError:
    """The distance between two trajectories after the best alignment.

    `min over s, R, t of  1/N sum_i |s R p_i + t - q_i|^2`, `p` estimated and `q` true positions;
    in closed form, through a singular value decomposition.

    **Arguments:**

    - `estimate`, `truth`: (N, 4) or (N, 7), as the poses of a
        [`jaxsci.solvers.slam.PoseGraph`][]; row `i` of one is row `i` of the other.
    - `align`: whether to look for `R` and `t`; without, both are in one frame already.
    - `scale`: whether to look for `s` too, as for one camera.

    **Returns:** a `TrajectoryError`.

    **Raises:** `ValueError` if shapes differ or a number is not finite.

    !!! example
        >>> import numpy as np
        >>> from jaxsci.solvers.slam import absolute_trajectory_error
        >>> truth = np.array([[1.0, 0, 0, 0], [1.0, 0, 1, 0], [1.0, 0, 1, 1]])
        >>> moved = truth + np.array([0, 0, 5.0, 0])
        >>> absolute_trajectory_error(moved, truth).rmse < 1e-12
        True
        >>> absolute_trajectory_error(moved, truth, align=False).rmse
        5.0

    Reference: Umeyama, *Least-squares estimation of transformation parameters between two point
    patterns*, 1991; Sturm, Engelhard, Endres, Burgard, Cremers, *A benchmark for the evaluation of
    RGB-D SLAM systems*, IROS 2012.
    """
    estimate, truth = np.asarray(estimate, np.float64), np.asarray(truth, np.float64)
    if estimate.shape != truth.shape or truth.ndim != 2 or truth.shape[1] not in (4, 7):
        raise ValueError(
            "`absolute_trajectory_error(estimate, truth)`: expected poses (N, 4) or (N, 7), the "
            f"same of each, got {estimate.shape} and {truth.shape}"
        )
    if len(truth) == 0 or not (np.isfinite(estimate).all() and np.isfinite(truth).all()):
        raise ValueError(
            "`absolute_trajectory_error(estimate, truth)`: expected at least one pose and finite "
            "numbers only"
        )
    dim = 2 if truth.shape[1] == 4 else 3
    p, q = estimate[:, -dim:], truth[:, -dim:]
    factor, motion = 1.0, _lie.identity(dim)
    if align:
        factor, motion = _umeyama(p, q, scale)
    aligned = _lie.compose(motion, np.concatenate([estimate[:, :-dim], factor * p], axis=1))
    off = _lie.log(_lie.compose(_lie.inverse(truth), aligned))[:, dim:]
    distances = np.linalg.norm(aligned[:, -dim:] - q, axis=1)
    return TrajectoryError(
        rmse=float(np.sqrt(np.mean(distances**2))),
        mean=float(distances.mean()),
        largest=float(distances.max()),
        rotation_rmse=float(np.sqrt(np.mean(np.sum(off**2, axis=1)))),
        distances=distances,
        alignment=motion,
        scale=factor,
    )


def _umeyama(p: Doubles, q: Doubles, scale: bool) -> tuple[float, Doubles]:
    p_mean, q_mean = p.mean(axis=0), q.mean(axis=0)
    covariance = (q - q_mean).T @ (p - p_mean) / len(p)
    u, size, vt = np.linalg.svd(covariance)
    sign = np.ones(len(size))
    sign[-1] = -1.0 if np.linalg.det(u @ vt) < 0 else 1.0  # a rotation, not a reflection
    rotation = u @ np.diag(sign) @ vt
    spread = float(np.mean(np.sum((p - p_mean) ** 2, axis=1)))
    factor = float(size @ sign) / spread if scale and spread > 0 else 1.0
    return factor, _lie.from_matrix(rotation, q_mean - factor * rotation @ p_mean)
