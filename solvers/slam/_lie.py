"""SE(2) and SE(3) on the host, in float64 numpy, batched; parameters and tangents as in jaxlie.

Reading, checking and initialising a graph must be exact to float64 whether or not JAX's 64-bit
types are on; inside compiled code the groups are jaxlie's. SE(2) is `(cos, sin, x, y)`, SE(3) is
`(qw, qx, qy, qz, x, y, z)`; the last axis, 4 or 7, says which. Tangents: translation first.
"""

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.floating]

# Below this angle the closed forms lose more digits than their series has error.
_SMALL = 1e-4


def identity(dim: int) -> Doubles:
    """The identity of SE(`dim`)."""
    return np.array([1.0, 0, 0, 0] if dim == 2 else [1.0, 0, 0, 0, 0, 0, 0])


def normalise(pose: Doubles) -> Doubles:
    """The pose with a rotation of length one; where that is zero, the identity's."""
    k = 2 if pose.shape[-1] == 4 else 4
    rotation = pose[..., :k]
    largest = np.abs(rotation).max(axis=-1, keepdims=True)  # against overflow of the squares
    scaled = rotation / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(scaled, axis=-1, keepdims=True)
    unit = scaled / np.where(length > 0, length, 1)
    unit[..., 0] = np.where(length[..., 0] > 0, unit[..., 0], 1)
    return np.concatenate([unit, pose[..., k:]], axis=-1)


def rotate(pose: Doubles, vector: Doubles) -> Doubles:
    """The vector turned by the pose's rotation."""
    if pose.shape[-1] == 4:
        c, s, x, y = pose[..., 0], pose[..., 1], vector[..., 0], vector[..., 1]
        return np.stack([c * x - s * y, s * x + c * y], axis=-1)
    twice = 2 * np.cross(pose[..., 1:4], vector)
    return vector + pose[..., :1] * twice + np.cross(pose[..., 1:4], twice)


def act(pose: Doubles, point: Doubles) -> Doubles:
    """The point, given in the pose's frame, in the world's."""
    return rotate(pose, point) + _translation(pose)


def compose(a: Doubles, b: Doubles) -> Doubles:
    """`a b`."""
    if a.shape[-1] == 4:
        c = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
        s = a[..., 1] * b[..., 0] + a[..., 0] * b[..., 1]
        rotation = np.stack([c, s], axis=-1)
    else:
        aw, av, bw, bv = a[..., :1], a[..., 1:4], b[..., :1], b[..., 1:4]
        w = aw * bw - np.sum(av * bv, axis=-1, keepdims=True)
        rotation = np.concatenate([w, aw * bv + bw * av + np.cross(av, bv)], axis=-1)
    return np.concatenate([rotation, act(a, _translation(b))], axis=-1)


def inverse(pose: Doubles) -> Doubles:
    """The inverse of a pose whose rotation has length one."""
    k = 2 if pose.shape[-1] == 4 else 4
    turned = pose.copy()
    turned[..., 1:k] *= -1
    turned[..., k:] = -rotate(turned, pose[..., k:])
    return turned


def exp(tangent: Doubles) -> Doubles:
    """The pose reached in unit time at the velocity `(translation, rotation)`."""
    if tangent.shape[-1] == 3:
        angle = tangent[..., 2]
        along, across = _sinc(angle), np.sin(angle / 2) * _sinc(angle / 2)
        x, y = tangent[..., 0], tangent[..., 1]
        parts = [np.cos(angle), np.sin(angle), along * x - across * y, across * x + along * y]
        return np.stack(parts, axis=-1)
    omega = tangent[..., 3:]
    angle = np.linalg.norm(omega, axis=-1, keepdims=True)
    turned = np.cross(omega, tangent[..., :3])
    half = _sinc(angle / 2)
    safe = np.where(angle < _SMALL, 1, angle)
    cubic = np.where(angle < _SMALL, 1 / 6 - angle**2 / 120, (1 - _sinc(angle)) / safe**2)
    translation = tangent[..., :3] + half**2 / 2 * turned + cubic * np.cross(omega, turned)
    return np.concatenate([np.cos(angle / 2), half / 2 * omega, translation], axis=-1)


def log(pose: Doubles) -> Doubles:
    """The tangent `(translation, rotation)` with `exp(tangent) = pose`; angles in [-pi, pi]."""
    if pose.shape[-1] == 4:
        angle = np.arctan2(pose[..., 1], pose[..., 0])
        shape, x, y = _half_cot(angle), pose[..., 2], pose[..., 3]
        parts = [shape * x + angle / 2 * y, shape * y - angle / 2 * x, angle]
        return np.stack(parts, axis=-1)
    # q and -q are one rotation; of the two, the one turning by less than pi.
    q = np.where(pose[..., :1] < 0, -pose[..., :4], pose[..., :4])
    sine = np.linalg.norm(q[..., 1:], axis=-1, keepdims=True)
    angle = 2 * np.arctan2(sine, q[..., :1])
    safe = np.where(sine < _SMALL, 1, sine)
    omega = np.where(sine < _SMALL, 2 + sine**2 / 3, angle / safe) * q[..., 1:]
    safe = np.where(angle < _SMALL, 1, angle)
    square = np.where(angle < _SMALL, 1 / 12 + angle**2 / 720, (1 - _half_cot(angle)) / safe**2)
    turned = np.cross(omega, pose[..., 4:])
    translation = pose[..., 4:] - turned / 2 + square * np.cross(omega, turned)
    return np.concatenate([translation, omega], axis=-1)


def matrix(pose: Doubles) -> Doubles:
    """The rotation matrices, (..., 2, 2) or (..., 3, 3)."""
    dim = 2 if pose.shape[-1] == 4 else 3
    columns = [rotate(pose, np.broadcast_to(e, pose.shape[:-1] + (dim,))) for e in np.eye(dim)]
    return np.stack(columns, axis=-1)


def from_matrix(rotation: Doubles, translation: Doubles) -> Doubles:
    """The poses of rotation matrices and translations."""
    if rotation.shape[-1] == 2:
        unit = rotation[..., :, 0]
    else:
        # The eigenvector of the largest eigenvalue: no branches on the size of the trace.
        m = rotation
        xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
        a, b, c = m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]
        d, e, f = m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]
        rows = [
            [xx + yy + zz, a - d, b - e, c - f],
            [a - d, xx - yy - zz, c + f, b + e],
            [b - e, c + f, yy - xx - zz, a + d],
            [c - f, b + e, a + d, zz - xx - yy],
        ]
        stacked = np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)
        unit = np.linalg.eigh(stacked)[1][..., :, -1]
        unit = np.where(unit[..., :1] < 0, -unit, unit)
    return np.concatenate([unit, translation], axis=-1)


def _translation(pose: Doubles) -> Doubles:
    return pose[..., 2:] if pose.shape[-1] == 4 else pose[..., 4:]


def _sinc(angle: Doubles) -> Doubles:
    return np.sinc(angle / np.pi)


def _half_cot(angle: Doubles) -> Doubles:
    """`angle/2 cot(angle/2)`, 1 at zero."""
    small = np.abs(angle) < _SMALL
    safe = np.where(small, 1, angle)
    return np.where(small, 1 - angle**2 / 12, safe / 2 / np.tan(safe / 2))
