"""Information matrices: which have no square root, what to put in their place, and the root."""

import contextlib

import numpy as np

from ._lie import Doubles

# Files print about six digits: a singular matrix comes back with an eigenvalue this far below 0.
ROUNDING = 1e-5


def symmetric(upper: Doubles, size: int) -> Doubles:
    """Symmetric matrices from the rows of their upper triangles, (n, size (size + 1) / 2)."""
    full = np.zeros((len(upper), size, size))
    row, column = np.triu_indices(size)
    full[:, row, column] = upper
    full[:, column, row] = upper
    return full


def indefinite(information: Doubles) -> tuple[np.ndarray, Doubles]:
    """Which matrices have an eigenvalue below zero by more than rounding, and the lowest ones.

    They are scaled to a unit diagonal first, so that a weak direction is not taken for the
    rounding of a strong one.
    """
    if information.size == 0:
        return np.zeros(len(information), bool), np.zeros(len(information))
    diagonal = np.einsum("eii->ei", information)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1))
    with np.errstate(over="ignore"):
        unit = np.clip(information / scale[:, :, None] / scale[:, None, :], -1e100, 1e100)
    lowest = np.zeros(len(information))
    with contextlib.suppress(np.linalg.LinAlgError):
        np.linalg.cholesky(unit + ROUNDING * np.eye(unit.shape[1]))
        return np.zeros(len(information), bool), lowest  # the usual case, ten times faster
    bad = (np.linalg.eigvalsh(unit)[:, 0] < -ROUNDING) | (diagonal < 0).any(axis=1)
    lowest[bad] = np.linalg.eigvalsh(information[bad])[:, 0]
    return bad, lowest


def isotropic(information: Doubles, dim: int) -> tuple[Doubles, np.ndarray]:
    """`diag(a I, b I)` with the mean of each part of the diagonal, translation and rotation.

    **Returns:** the matrices, and which have a mean below zero, so that there is no scale to keep.
    """
    diagonal = np.einsum("eii->ei", information)
    scale = diagonal.copy()
    scale[:, :dim] = diagonal[:, :dim].mean(axis=1, keepdims=True)
    if diagonal.shape[1] > dim:
        scale[:, dim:] = diagonal[:, dim:].mean(axis=1, keepdims=True)
    return scale[:, :, None] * np.eye(diagonal.shape[1]), (scale < 0).any(axis=1)


def root(information: Doubles) -> Doubles:
    """`W` with `W'W` the information matrix; eigenvalues below zero by rounding count as zero.

    **Raises:** `ValueError` naming the first matrix that is not positive semidefinite.
    """
    bad, lowest = indefinite(information)
    if bad.any():
        edge = int(bad.argmax())
        raise ValueError(
            f"an information matrix must be positive semidefinite, got eigenvalue "
            f"{lowest[edge]:.3g} in edge {edge} ({int(bad.sum())} such); read the file with "
            "information='isotropic'"
        )
    with contextlib.suppress(np.linalg.LinAlgError):
        return np.linalg.cholesky(information).transpose(0, 2, 1)
    value, vector = np.linalg.eigh(information)
    return np.asarray(np.sqrt(np.maximum(value, 0))[:, :, None] * vector.transpose(0, 2, 1))
