"""A boundary face of a grid."""

from typing import Literal

import equinox as eqx
import numpy as np
from jaxtyping import Array, Float


class Face(eqx.Module):
    """The points (or outermost cells) of a grid that touch one side of one space axis.

    - `axis`, `side`: e.g. `"x"`, `"low"`.
    - `normal`: -1 on the low side, +1 on the high side (the outward normal along `axis`).
    - `indices`: flat (C-order) indices into the grid of the points on this face.
    - `weights`: quadrature weights over the face, i.e. over all other axes but time, one per
        index; a face of a 1-D domain is a point and has weight 1.
    """

    axis: str = eqx.field(static=True)
    side: Literal["low", "high"] = eqx.field(static=True)
    normal: int = eqx.field(static=True)
    indices: np.ndarray
    weights: Float[Array, " face_points"]
