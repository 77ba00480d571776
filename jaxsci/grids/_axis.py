"""One axis of a grid and its one-dimensional quadrature weights."""

from typing import Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.errors import is_concrete, lookup, require_finite

Rule = Literal["trapezoid", "right", "cells"]


class Axis(eqx.Module):
    """A named axis: the points at which a field is known, or the cells over which it is averaged.

    **Arguments:**

    - `name`: `"t"` is time; every other name is a space axis.
    - `points`: shape `(n,)`, strictly increasing, `n >= 2` (or one cell), in the unit of the axis.
    - `edges`: shape `(n + 1,)`, if the field is known as averages over cells; `points` are then
        the centres.
    - `period`: the length of the circle if the axis is periodic. The points cover it once: the
        end that coincides with the start is left out.

    **Raises:** `ValueError` if the points are not finite and strictly increasing, if `edges` does
    not enclose `points`, or if the points do not fit into the period.
    """

    name: str = eqx.field(static=True)
    points: Float[Array, " n"]
    edges: Float[Array, " n_plus_1"] | None
    period: float | None = eqx.field(static=True)

    def __init__(
        self,
        name: str,
        points: ArrayLike,
        *,
        edges: ArrayLike | None = None,
        period: float | None = None,
    ):
        where = f"Axis({name!r})"
        self.name = name
        self.points = _increasing(where, "points", points, fewest=1 if edges is not None else 2)
        self.edges = None if edges is None else _increasing(where, "edges", edges, fewest=2)
        self.period = None if period is None else float(period)
        n = self.points.size
        if self.edges is not None:
            if self.edges.shape != (n + 1,):
                raise ValueError(
                    f"`{where}(edges=...)`: expected {n + 1} edges around {n} points, "
                    f"got {self.edges.size}"
                )
            if is_concrete(self.points, self.edges):
                inside = (self.edges[:-1] <= self.points) & (self.points <= self.edges[1:])
                if not inside.all():
                    raise ValueError(
                        f"`{where}(edges=...)`: expected points inside their cells, got "
                        f"{float(self.points[inside.argmin()])} in cell {int(inside.argmin())}"
                    )
            if period is not None:
                raise ValueError(
                    f"`{where}(period=...)`: cells need no period, their edges already close the "
                    "circle; pass `edges` alone"
                )
        if self.period is not None and is_concrete(self.points):
            covered = float(self.points[-1] - self.points[0])
            if not covered < self.period:
                raise ValueError(
                    f"`{where}(period={self.period})`: the points span {covered}, which must be "
                    "less than the period; leave out the end that coincides with the start"
                )

    @property
    def size(self) -> int:
        """The number of points or cells."""
        return self.points.size

    @property
    def is_time(self) -> bool:
        """Whether this is the time axis."""
        return self.name == "t"

    @property
    def bounds(self) -> tuple[Array, Array]:
        """Both ends of the interval that the axis covers, as scalar arrays."""
        if self.edges is not None:
            return self.edges[0], self.edges[-1]
        low = self.points[0]
        return low, (self.points[-1] if self.period is None else low + self.period)

    def weights(
        self, rule: str | None = None, domain: tuple[float, float] | None = None
    ) -> Float[Array, " n"]:
        """Weights `w` such that `sum(w * u)` is the integral of `u` over the axis.

        - `"trapezoid"`: half the distance to both neighbours (a missing neighbour counts 0).
        - `"right"`: the right-hand Riemann sum, `(0, h_1, h_2, ...)`.
        - `"cells"`: the length of each cell, exact for cell averages.

        **Arguments:**

        - `rule`: one of the above; by default `"cells"` on an axis with edges, else `"trapezoid"`.
        - `domain`: integrate over `(low, high)` only. The field is taken as the rule takes it
            (piecewise linear for `"trapezoid"`, piecewise constant for the others), so that an
            end inside a cell counts for the part that it covers.

        **Returns:** shape `(n,)`, in the unit of the axis and the dtype of its points.

        **Raises:** `ValueError` for an unknown rule, `"cells"` without edges, or a domain that is
        empty or reaches outside the axis.
        """
        if rule is None:
            rule = "trapezoid" if self.edges is None else "cells"
        lookup("quadrature rule", rule, _PRIMITIVES)
        if rule == "cells" and self.edges is None:
            raise ValueError(
                f"`Axis({self.name!r}).weights(rule='cells')`: this axis has points, not cells; "
                "make it with `edges=...` (`Grid.cells`) or use rule='trapezoid'"
            )
        if rule != "cells" and self.edges is not None:
            raise ValueError(
                f"`Axis({self.name!r}).weights(rule={rule!r})`: this axis holds cell averages; "
                "use rule='cells'"
            )
        low, high = self.bounds
        if domain is None:
            return _between(self, rule, low, high)
        a, b = domain
        if is_concrete(low, high, a, b):
            slack = 1e-6 * float(high - low)
            if not (float(low) - slack <= a < b <= float(high) + slack):
                raise ValueError(
                    f"`domain={{{self.name!r}: ({a}, {b})}}`: expected an interval inside "
                    f"[{float(low)}, {float(high)}], low end first"
                )
        dtype = self.points.dtype
        return _between(self, rule, jnp.asarray(a, dtype), jnp.asarray(b, dtype))


def _increasing(where: str, name: str, values: ArrayLike, *, fewest: int) -> Array:
    if not isinstance(values, jax.Array):
        values = np.asarray(values)
        if values.dtype.kind not in "fiu":
            raise TypeError(f"`{where}({name}=...)`: expected real numbers, got {values.dtype}")
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.result_type(float))
    if array.ndim != 1 or array.size < fewest:
        raise ValueError(
            f"`{where}({name}=...)`: expected a 1-D array of at least {fewest} numbers, got shape "
            f"{array.shape}"
        )
    require_finite(where, name, array)
    if is_concrete(array):
        steps = np.diff(np.asarray(array))
        if (steps <= 0).any():
            i = int(np.argmin(steps))
            raise ValueError(
                f"`{where}({name}=...)`: expected strictly increasing numbers, got "
                f"{float(array[i])} followed by {float(array[i + 1])} at index {i}"
            )
    return array


# A primitive gives, for each point i, the integral from the axis's low end to s of the basis
# function that belongs to point i; weights are differences of two primitives. All ends are then
# treated alike, and weights of adjacent domains add up to the weights of their union.


def _trapezoid(axis: Axis, s: Array) -> Array:
    x = axis.points
    if axis.period is not None:  # a hat function may straddle the seam: unroll one turn
        hats = _hats(jnp.concatenate([x, x[:1] + axis.period]), s)
        return hats[:-1].at[0].add(hats[-1])
    return _hats(x, s)


def _hats(x: Array, s: Array) -> Array:
    h = jnp.diff(x)
    covered = jnp.clip((s - x[:-1]) / h, 0, 1)
    rising = h * covered**2 / 2
    falling = h * covered - rising
    return jnp.pad(rising, (1, 0)) + jnp.pad(falling, (0, 1))


def _right(axis: Axis, s: Array) -> Array:
    x = axis.points
    if axis.period is not None:
        steps = _steps(jnp.concatenate([x, x[:1] + axis.period]), s)
        return jnp.pad(steps[:-1], (1, 0)).at[0].add(steps[-1])
    return jnp.pad(_steps(x, s), (1, 0))


def _cells(axis: Axis, s: Array) -> Array:
    return _steps(axis.edges, s)  # pyright: ignore[reportArgumentType] - `weights` checked it


def _steps(edges: Array, s: Array) -> Array:
    return jnp.clip(s - edges[:-1], 0, jnp.diff(edges))


_PRIMITIVES = {"trapezoid": _trapezoid, "right": _right, "cells": _cells}


# Compiled as a whole, for callers that are not.
@eqx.filter_jit
def _between(axis: Axis, rule: str, low: Array, high: Array) -> Array:
    return _PRIMITIVES[rule](axis, high) - _PRIMITIVES[rule](axis, low)
