"""Points that belong to two faces, whose values must agree."""

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Array

from jaxsci.errors import is_concrete

from ._conditions import Dirichlet, Periodic
from ._stencils import SIDES, from_end

if TYPE_CHECKING:
    from ._boundary import BoundaryConditions, FaceName


def check_corners(
    where: str, conditions: "BoundaryConditions", values: "dict[FaceName, Array]"
) -> None:
    """Raises `ValueError` where Dirichlet values contradict each other; traced values pass."""
    if conditions.corners != "check":
        return
    given = {f: v for f, v in values.items() if isinstance(conditions.faces[f], Dirichlet)}
    for one, other in combinations(given, 2):
        if one[0] != other[0]:
            a, b = _edge(conditions, one, other, given), _edge(conditions, other, one, given)
            _compare(where, str(one), str(other), a, b)
    for face, value in given.items():
        for axis in conditions.axes:
            if axis != face[0] and isinstance(conditions.pair(axis)[0], Periodic):
                at = _within(conditions, face[0], axis)
                low, high = (from_end(value, at, side, 0) for side in SIDES)
                end = f"end of periodic {axis!r} on {face}"
                _compare(where, f"the low {end}", f"the high {end}", low, high)


def _within(conditions: "BoundaryConditions", face_axis: str, axis: str) -> int:
    """The array axis of a face's values, `(C, *transverse)`, that has this name."""
    return conditions.along(axis) - (conditions.axes.index(axis) > conditions.axes.index(face_axis))


def _edge(conditions: "BoundaryConditions", face, other, values) -> Array:
    return from_end(values[face], _within(conditions, face[0], other[0]), other[1], 0)


def _compare(where: str, one: str, other: str, a: Array, b: Array) -> None:
    if not is_concrete(a, b):
        return
    x, y = np.asarray(a), np.asarray(b)
    off = np.abs(x - y)
    if (off > 8 * np.finfo(x.dtype).eps * np.maximum(np.abs(x), np.abs(y))).any():
        index = tuple(int(i) for i in np.unravel_index(int(off.argmax()), off.shape))
        raise ValueError(
            f"`{where}(...)`: {one} and {other} share points and contradict each other there: "
            f"{x[index]} and {y[index]} (channel {index[0]}"
            + (f", point {index[1:]} of the edge" if index[1:] else "")
            + "); make the values agree, or say whose they are with corners='<axis>'"
        )
