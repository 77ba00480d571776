"""The conditions of all faces of a box, and the numbers that they stand for on a given field."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from jaxsci.errors import is_concrete, lookup, require_finite
from jaxsci.grids import Grid

from ._conditions import (
    Condition,
    Dirichlet,
    Fixed,
    Neumann,
    Periodic,
    Robin,
    frozen,
    unfixed,
)
from ._stencils import SIDES, Side, as_number, one_sided

FaceName = tuple[str, Side]
"""The axis and the side of a face, e.g. `("x", "low")`, as in [`jaxsci.grids.Face`][]."""

Faces = Mapping[Any, Condition]
Values = Mapping[FaceName, ArrayLike]
"""What is passed at a call, by face: `{("x", "low"): 1.0}`."""


class BoundaryConditions(eqx.Module):
    """What must hold on the faces of a field of shape `(C, N_1, ..., N_d)`, `d` up to 4.

    **Arguments:**

    - `axes`: the names of the axes after the channels, e.g. `("x",)` or `("t", "x")`; one string
        for one axis.
    - `faces`: for a name, e.g. `"x"`, the condition on both sides; for a pair, e.g.
        `("x", "low")`, that of one face. Faces that are left out are free. A condition at
        `("t", "low")` is an initial condition.
    - `spacing`: the distance of the points, by axis; or
    - `length`: of the axis, by axis: the spacing is then `length / (N - 1)`, so that the same
        conditions hold at every resolution. Derivatives need one of the two.
    - `corners`: points that belong to two Dirichlet faces get one value: `"check"` says so where
        the values differ (outside `jit`); the name of an axis, e.g. `"x"`, gives them to its faces.

    On points of several faces a value goes before a derivative, and of two derivatives that of the
    later axis holds (both do if the data are compatible, `d g_x / dy = d g_y / dx`).

    **Raises:** `ValueError` for an unknown axis or side, two conditions for a face, `Periodic` on
    one side only, or a derivative without spacing; `TypeError` for what is no condition.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann, enforce
        >>> conditions = BoundaryConditions(
        ...     "x", {("x", "low"): Dirichlet(3.0), ("x", "high"): Neumann(0.0, order=1)},
        ...     length={"x": 1.0})
        >>> enforce(jnp.array([[0.0, 1.0, 2.0, 7.0]]), conditions)
        Array([[3., 1., 2., 2.]], dtype=float32)

    Limits: uniform spacing and axis-aligned faces (C).
    """

    axes: tuple[str, ...] = eqx.field(static=True)
    faces: dict[FaceName, Condition]
    spacing: dict[str, ArrayLike | Fixed]
    length: dict[str, ArrayLike | Fixed]
    corners: str = eqx.field(static=True)

    def __init__(
        self,
        axes: str | Sequence[str],
        faces: Faces,
        *,
        spacing: Mapping[str, ArrayLike] | None = None,
        length: Mapping[str, ArrayLike] | None = None,
        corners: str = "check",
    ):
        where = "BoundaryConditions"
        self.axes = (axes,) if isinstance(axes, str) else tuple(axes)
        if not self.axes or len(set(self.axes)) < len(self.axes):
            raise ValueError(f"`{where}(axes=...)`: expected different names, got {self.axes}")
        self.faces = _by_face(where, self.axes, faces)
        known = dict.fromkeys(self.axes)
        for name, numbers in (("spacing", spacing), ("length", length)):
            if numbers is not None and not isinstance(numbers, Mapping):
                raise TypeError(
                    f"`{where}({name}=...)`: expected a number for each axis, as "
                    f"{{{self.axes[-1]!r}: ...}}, got {numbers!r}"
                )
            for axis, number in (numbers or {}).items():
                lookup("axis", axis, known)
                if np.ndim(number) != 0:
                    raise ValueError(
                        f"`{where}({name}={{{axis!r}: ...}})`: expected a number (uniform "
                        f"spacing), got shape {np.shape(number)}"
                    )
                if is_concrete(number) and not 0 < float(np.asarray(number)) < np.inf:
                    raise ValueError(
                        f"`{where}({name}={{{axis!r}: ...}})`: expected a positive number, got "
                        f"{number}"
                    )
        self.spacing, self.length = dict(spacing or {}), dict(length or {})
        for (axis, side), condition in self.faces.items():
            if axis in self.spacing and axis in self.length:
                raise ValueError(
                    f"`{where}(...)`: axis {axis!r} has a spacing and a length; drop one"
                )
            if isinstance(condition, Neumann | Robin) and not self.has_step(axis):
                raise ValueError(
                    f"`{where}(...)`: {type(condition).__name__} on the {side} side of {axis!r} "
                    f"needs the distance of the points, got none; pass spacing={{{axis!r}: ...}} "
                    f"or length={{{axis!r}: ...}}"
                )
        if corners != "check":
            lookup("axis of the corners", corners, known)
        self.corners = corners

    @classmethod
    def on(cls, grid: Grid, faces: Faces, *, corners: str = "check") -> "BoundaryConditions":
        """Conditions on the faces of a [`jaxsci.grids.Grid`][], with the lengths of its axes.

        **Raises:** as the constructor, and `ValueError` for a face of an axis that has none (it is
        periodic), that holds cells instead of points, or, for a derivative, whose points are not
        equally spaced.
        """
        made = cls(grid.names, faces, length=dict.fromkeys(grid.names, 1.0), corners=corners)
        lengths = {}
        for name in dict.fromkeys(axis for axis, _ in made.faces):
            axis, where = grid.axis(name), "BoundaryConditions.on(grid)"
            if axis.period is not None:
                raise ValueError(f"`{where}`: axis {name!r} is a circle, it has no faces")
            if axis.edges is not None:
                raise ValueError(
                    f"`{where}`: axis {name!r} holds cells, none of which lies on a face; use "
                    "points (`Grid.uniform`)"
                )
            points = np.asarray(axis.points, np.float64)
            steps = np.diff(points)
            slack = 8 * np.finfo(axis.points.dtype).eps * np.abs(points).max()
            if steps.max() - steps.min() > 2 * slack + 1e-6 * steps.mean():
                if not any(isinstance(face, Neumann | Robin) for face in made.pair(name)):
                    continue
                raise ValueError(
                    f"`{where}`: axis {name!r} is not uniform (steps {steps.min():.3g} to "
                    f"{steps.max():.3g}); one-sided stencils need equal steps"
                )
            lengths[name] = float(points[-1] - points[0])
        return cls(grid.names, faces, length=lengths, corners=corners)

    def frozen(self) -> "BoundaryConditions":
        """The same conditions, all numbers constants that no optimiser sees: for a model."""
        return frozen(self)

    def opened(self) -> "BoundaryConditions":
        """The same conditions without values: all are passed at the call."""
        values = [f for f, c in self.faces.items() if not isinstance(c, Periodic)]
        return eqx.tree_at(
            lambda conditions: [conditions.faces[face].value for face in values],
            self,
            [None] * len(values),
            is_leaf=lambda leaf: leaf is None or isinstance(leaf, Fixed),
        )

    def pair(self, axis: str) -> tuple[Condition | None, Condition | None]:
        """The conditions on the low and on the high side of an axis, `None` for a free face."""
        low, high = (self.faces.get((axis, side)) for side in SIDES)
        return low, high

    def constrained(self) -> tuple[str, ...]:
        """The axes with a condition, in their order."""
        return tuple(axis for axis in self.axes if self.pair(axis) != (None, None))

    def values(
        self,
        shape: Sequence[int],
        dtype: Any,
        given: Values | None = None,
        *,
        where: str = "BoundaryConditions.values",
    ) -> dict[FaceName, Array]:
        """What is prescribed on each face of a field, in full.

        **Arguments:**

        - `shape`, `dtype`: of the field, `(C, N_1, ..., N_d)`.
        - `given`: by face, the values of the conditions that hold none, each of a shape as in
            [`jaxsci.operators.boundary.Dirichlet`][].

        **Returns:** for each face but periodic ones, an array of shape `(C, *transverse)`.

        **Raises:** `ValueError` if the shape of the field or of a value does not fit, a value is
        missing, superfluous or not finite, or Dirichlet faces contradict each other at a corner.
        """
        from ._corners import check_corners

        shape, given = tuple(shape), dict(given or {})
        self.check(where, shape)
        for face in given:
            if face not in self.faces:
                raise ValueError(
                    f"`{where}(values=...)`: expected values on faces with conditions, "
                    f"{', '.join(map(str, self.faces)) or 'of which there are none'}; got one on "
                    f"{face!r}"
                )
            if getattr(self.faces[face], "value", 0.0) is not None:
                held = type(self.faces[face]).__name__
                raise ValueError(
                    f"`{where}(values=...)`: the condition on {face}, {held}, takes no value at "
                    f"the call; make it `{held}(None)`"
                    if not isinstance(self.faces[face], Periodic)
                    else f"`{where}(values=...)`: {face} is periodic and takes no value"
                )
        resolved = {}
        for face, condition in self.faces.items():
            if isinstance(condition, Periodic):
                continue
            value = unfixed(condition.value)
            if value is None:
                if face not in given:
                    raise ValueError(
                        f"`{where}(values=...)`: the value on {face} is passed at each call "
                        f"({type(condition).__name__}(None)), got values for "
                        f"{sorted(given) or 'no face'}"
                    )
                value = given[face]
                require_finite(where, f"values[{face}]", value)
            at = 1 + self.axes.index(face[0])
            full = shape[:at] + shape[at + 1 :]
            resolved[face] = _spread(where, face, value, full, dtype)
        check_corners(where, self, resolved)
        return resolved

    def has_step(self, axis: str) -> bool:
        """Whether the distance of the points of an axis is known."""
        return axis in self.spacing or axis in self.length

    def step(self, axis: str, n: Any, dtype: Any) -> Array:
        """The distance of the points of an axis of `n`."""
        if axis in self.spacing:
            return jnp.asarray(unfixed(self.spacing[axis])).astype(dtype)
        return jnp.asarray(unfixed(self.length[axis])).astype(dtype) / as_number(n - 1, dtype)

    def check(self, where: str, shape: tuple[int, ...]) -> None:
        """Raises `ValueError` unless a field of this shape can have these conditions."""
        if len(shape) != 1 + len(self.axes):
            raise ValueError(
                f"`{where}(...)`: expected one sample (C, {', '.join(self.axes)}), got shape "
                f"{shape}; use `jax.vmap` for a batch"
            )
        for axis in self.constrained():
            n, pair = shape[1 + self.axes.index(axis)], self.pair(axis)
            reach = max(getattr(condition, "order", 0) for condition in pair)
            needed = reach + (1 if None in pair else 2)
            if n < needed:
                raise ValueError(
                    f"`{where}(...)`: the conditions on axis {axis!r} need {needed} points (a "
                    f"stencil must not reach the other face), got {n}; lower their order"
                )
            for side, condition in zip(SIDES, pair, strict=True):
                if isinstance(condition, Robin):
                    h = self.step(axis, n, jnp.float32)
                    if is_concrete(condition, h):
                        _check_robin(condition, side, float(h))

    def along(self, axis: str) -> int:
        """The array axis of `(C, N_1, ...)` that has this name."""
        return 1 + self.axes.index(axis)


def functional(
    condition: Dirichlet | Neumann | Robin, side: Side, h: Array, dtype: Any
) -> tuple[list[Array], Array]:
    """`(w, m)`: the condition as `sum_k w_k u_k = m value`, `k` steps inside the end.

    Multiplied by `m`, the denominator of the stencil times the spacing (1 for a value), so that the
    weights of a derivative are integers and round nothing.
    """
    one = jnp.ones((), dtype)
    if isinstance(condition, Dirichlet):
        return [one], one
    coefficients, d = one_sided(condition.order)
    sign = 1 if side == "low" else -1
    weights = [jnp.asarray(sign * c, dtype) for c in coefficients]
    m = d * h
    if isinstance(condition, Robin):
        a, b = (jnp.asarray(unfixed(c)).astype(dtype) for c in (condition.a, condition.b))
        weights = [b * w for w in weights]
        weights[0] = weights[0] + m * a
    return weights, m


def _check_robin(condition: Robin, side: Side, h: float) -> None:
    a, b = (float(np.asarray(unfixed(number))) for number in (condition.a, condition.b))
    coefficients, d = one_sided(condition.order)
    value, slope = a * d * h, (1 if side == "low" else -1) * b * coefficients[0]
    if abs(value + slope) <= 1e-6 * (abs(value) + abs(slope)):
        raise ValueError(
            f"`Robin(a={a:g}, b={b:g})`: a u + b du/dx does not depend on the value at the {side} "
            f"end for a spacing of {h:g}; the sign of b is likely to be wrong"
        )


def _by_face(where: str, axes: tuple[str, ...], faces: Faces) -> dict[FaceName, Condition]:
    if not isinstance(faces, Mapping):
        raise TypeError(
            f"`{where}(faces=...)`: expected a condition for each face, as "
            f"{{({axes[-1]!r}, 'low'): Dirichlet(0.0)}}, got {type(faces).__name__}"
        )
    made: dict[FaceName, Condition] = {}
    for key, condition in faces.items():
        axis, *sides = (key, *SIDES) if isinstance(key, str) else key
        lookup("axis", axis, dict.fromkeys(axes))
        if not isinstance(condition, Dirichlet | Neumann | Robin | Periodic):
            raise TypeError(
                f"`{where}(faces={{{key!r}: ...}})`: expected Dirichlet, Neumann, Robin or "
                f"Periodic, got {type(condition).__name__}"
            )
        if isinstance(condition, Periodic) and not isinstance(key, str):
            raise ValueError(
                f"`{where}(faces={{{key!r}: ...}})`: Periodic joins both sides; give it for the "
                f"axis, {{{axis!r}: Periodic()}}"
            )
        for side in sides:
            face = (axis, cast(Side, lookup("side", side, {"low": "low", "high": "high"})))
            if face in made:
                raise ValueError(f"`{where}(faces=...)`: two conditions for the face {face}")
            made[face] = condition
    return made


def _spread(where: str, face: FaceName, value: Any, full: tuple[int, ...], dtype: Any) -> Array:
    if not isinstance(value, jax.Array):
        value = np.asarray(value)
    array, channels = jnp.asarray(value).astype(dtype), full[0]
    if array.ndim == 1 and len(full) > 1:
        array = array.reshape(array.shape + (1,) * (len(full) - 1))
    if (
        array.shape
        and len(array.shape) != len(full)
        or any(n not in (1, m) for n, m in zip(array.shape, full, strict=False))
    ):
        raise ValueError(
            f"`{where}(values=...)`: expected a number, one per channel ({channels},) or the shape "
            f"of the face {tuple(full)} (any size may be 1) on {face}, got {array.shape}"
        )
    return jnp.broadcast_to(array, full)
