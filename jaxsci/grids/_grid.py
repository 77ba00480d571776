"""A tensor-product grid over time and up to three space dimensions."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float

from jaxsci.errors import lookup

from ._axis import Axis
from ._faces import Face


class Grid(eqx.Module):
    """The tensor product of one to three space axes and, optionally, a time axis called `"t"`.

    A field on a grid is a flat array of `grid.size` numbers in C order of `grid.shape`
    (`field.reshape(grid.shape)` unrolls it).

    **Arguments:**

    - `axes`: at least one [`jaxsci.grids.Axis`][], each with a name of its own; at most three
        are space axes.

    **Raises:** `ValueError` for no axis, a repeated name or more than three space axes;
    `TypeError` for axes of different dtypes.

    !!! example
        >>> from jaxsci.grids import Grid
        >>> grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 2.0, 5))
        >>> grid.shape, grid.names, grid.points().shape
        ((3, 5), ('t', 'x'), (15, 2))
        >>> float(grid.spatial.weights().sum())
        2.0
    """

    axes: tuple[Axis, ...]

    def __init__(self, *axes: Axis):
        names = [axis.name for axis in axes]
        space = [name for name in names if name != "t"]
        if not axes:
            raise ValueError("`Grid()`: expected at least one axis, got none")
        if len(set(names)) < len(names):
            raise ValueError(f"`Grid(...)`: expected axes with different names, got {names}")
        if len(space) > 3:
            raise ValueError(f"`Grid(...)`: expected at most three space axes, got {space}")
        dtypes = {axis.name: axis.points.dtype.name for axis in axes}
        if len(set(dtypes.values())) > 1:
            raise TypeError(f"`Grid(...)`: expected axes of one dtype, got {dtypes}; cast them")
        self.axes = tuple(axes)

    @classmethod
    def uniform(
        cls, *, periodic: Sequence[str] = (), **axes: tuple[ArrayLike, ArrayLike, int]
    ) -> "Grid":
        """Equally spaced points, ends included: `Grid.uniform(t=(0, 1, 201), x=(0, 1, 201))`.

        **Arguments:**

        - `axes`: `name=(low, high, points)`, in the order that the field has; `points` may be a
            symbol of `jax.export`.
        - `periodic`: names of axes that are circles of length `high - low`; their high end, which
            is the low end again, gets no point.

        **Raises:** `ValueError` for fewer than two points, `high <= low`, or a name in
        `periodic` that is not an axis.
        """
        for name in periodic:
            lookup("axis", name, axes)
        made = []
        for name, spec in axes.items():
            if len(spec) != 3:
                raise ValueError(
                    f"`Grid.uniform({name}=...)`: expected (low, high, points), got {spec!r}"
                )
            low, high, n = spec
            circle, symbol = name in periodic, jax.export.is_symbolic_dim(n)
            if isinstance(n, bool) or not (symbol or isinstance(n, int | np.integer)) or n < 2:
                raise ValueError(
                    f"`Grid.uniform({name}=...)`: expected at least 2 points, got {n!r}"
                )
            if symbol:
                points = _open_line(low, high, n, circle)
            else:
                points = jnp.linspace(low, high, int(n), endpoint=not circle)
            period = float(np.asarray(high) - np.asarray(low)) if circle else None
            made.append(Axis(name, points, period=period))
        return cls(*made)

    @classmethod
    def from_points(cls, *, period: Mapping[str, float] | None = None, **axes: ArrayLike) -> "Grid":
        """Points given one by one: `Grid.from_points(t=times, x=positions)`.

        **Arguments:**

        - `axes`: `name=points`, each strictly increasing, in the order that the field has.
        - `period`: the length of each axis that is periodic.

        **Raises:** as [`jaxsci.grids.Axis`][].
        """
        period = dict(period or {})
        for name in period:
            lookup("axis", name, axes)
        return cls(*(Axis(n, points, period=period.get(n)) for n, points in axes.items()))

    @classmethod
    def cells(cls, **axes: ArrayLike) -> "Grid":
        """Cells given by their edges, for fields known as cell averages: `Grid.cells(x=edges)`.

        An axis called `"t"` gets points, not cells: a field is averaged over space, not time.

        **Arguments:**

        - `axes`: `name=edges`, shape `(n + 1,)` for `n` cells.

        **Raises:** as [`jaxsci.grids.Axis`][].
        """

        def axis(name: str, values: ArrayLike) -> Axis:
            if name == "t":
                return Axis(name, values)
            edges = jnp.asarray(values)
            if edges.ndim != 1 or edges.size < 2:
                raise ValueError(
                    f"`Grid.cells({name}=...)`: expected a 1-D array of at least 2 edges, got "
                    f"shape {edges.shape}"
                )
            if not jnp.issubdtype(edges.dtype, jnp.floating):
                edges = edges.astype(jnp.result_type(float))
            return Axis(name, (edges[:-1] + edges[1:]) / 2, edges=edges)

        return cls(*(axis(n, v) for n, v in axes.items()))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the axes, in order."""
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points along each axis."""
        return tuple(axis.size for axis in self.axes)

    @property
    def size(self) -> int:
        """The number of points of the whole grid."""
        return math.prod(self.shape)

    def axis(self, name: str) -> Axis:
        """The axis called `name`. **Raises:** `ValueError`, with the near misses, if none is."""
        return lookup("axis", name, {axis.name: axis for axis in self.axes})

    def astype(self, dtype: DTypeLike) -> "Grid":
        """The same grid with coordinates, and so weights, in another floating dtype."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype), self)

    @property
    def spatial(self) -> "Grid":
        """The grid without its time axis."""
        return Grid(*(axis for axis in self.axes if not axis.is_time))

    def points(self) -> Float[Array, "size ndim"]:
        """The coordinates of every point, C order, one column per axis."""
        mesh = jnp.meshgrid(*(axis.points for axis in self.axes), indexing="ij")
        return jnp.stack([m.ravel() for m in mesh], axis=-1)

    def weights(
        self,
        rule: str | None = None,
        *,
        over: str | Sequence[str] | None = None,
        domain: Mapping[str, tuple[float, float]] | None = None,
    ) -> Float[Array, "*shape"]:
        """Quadrature weights of the tensor-product rule, of the shape of the grid.

        `(w * u).sum(axes in over)` is the integral of `u` over these axes, for each point of the
        others (along which the weight is 1).

        **Arguments:**

        - `rule`: `"trapezoid"`, `"right"` or `"cells"`; by default each axis's own
            (see [`jaxsci.grids.Axis.weights`][]). It applies to every axis in `over`.
        - `over`: name or names of the axes to integrate over; all axes by default.
        - `domain`: `{name: (low, high)}` restricts the integral along that axis.

        **Raises:** `ValueError` for an unknown axis or rule, or an impossible domain.
        """
        chosen = self._chosen(over)
        domain = dict(domain or {})
        for name in domain:
            lookup("axis of the integral", name, dict.fromkeys(chosen))
        along = {}
        for i, axis in enumerate(self.axes):
            if axis.name in chosen:
                own = None if rule == "cells" and axis.edges is None and axis.is_time else rule
                along[i] = axis.weights(own, domain.get(axis.name))
        return _tensor_product(along, self.shape, self.axes[0].points.dtype)

    @property
    def faces(self) -> tuple[Face, ...]:
        """The boundary faces, low before high, one pair per space axis that is not periodic."""
        index = np.arange(self.size).reshape(self.shape)
        faces = []
        for i, axis in enumerate(self.axes):
            if axis.is_time or axis.period is not None:
                continue
            transverse = [a.name for a in self.axes if not a.is_time and a.name != axis.name]
            w = self.weights(over=transverse)
            sides: tuple[tuple[Literal["low", "high"], int, int], ...]
            sides = ("low", -1, 0), ("high", 1, -1)
            for side, normal, at in sides:
                on_face = index.take(at, axis=i).ravel()
                faces.append(Face(axis.name, side, normal, on_face, w.ravel()[on_face]))
        return tuple(faces)

    def _chosen(self, over: str | Sequence[str] | None) -> tuple[str, ...]:
        if over is None:
            return self.names
        chosen = (over,) if isinstance(over, str) else tuple(over)
        for name in chosen:
            self.axis(name)
        return chosen


def _open_line(low: ArrayLike, high: ArrayLike, n: Any, circle: bool) -> Array:
    """As `jnp.linspace`, which takes no symbols."""
    dtype = jnp.result_type(low, high, float)
    low, high = jnp.asarray(low, dtype), jnp.asarray(high, dtype)
    part = jnp.arange(n, dtype=dtype) / jnp.asarray(n if circle else n - 1).astype(dtype)
    points = low * (1 - part) + high * part
    return points if circle else points.at[-1].set(high)


# Compiled as a whole, for callers that are not.
@eqx.filter_jit
def _tensor_product(along: dict[int, Array], shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    total = jnp.ones((1,) * len(shape), dtype)
    for i, weights in along.items():
        total = total * weights.reshape([-1 if j == i else 1 for j in range(len(shape))])
    return jnp.broadcast_to(total, shape)
