"""The points on the faces as functions of the others: what conditions leave free."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, Int

from ._boundary import BoundaryConditions, functional
from ._conditions import Dirichlet, Periodic
from ._enforce import ordered_axes, put
from ._stencils import SIDES, Side, from_end


class Elimination(NamedTuple):
    """What conditions make of the points of a field; flat indices in C order.

    `u[at] = sum_m weights_m u[indices_m] + what the data add`, of free points only: those that are
    neither `fixed` nor in `at`.

    - `fixed`: the points with a prescribed value, a mask of shape `(n,)`.
    - `at`: the points that a derivative, or the other end of a circle, makes of others, `(k,)`.
    - `indices`, `weights`: of what, `(k, p)`; an entry that is not needed repeats the last index,
        with weight 0, so that no row seems to have points of another.
    - `periodic`: which of `at` are the high end of a circle, `(k,)`.
    """

    fixed: Bool[np.ndarray | Array, " n"]
    at: Int[np.ndarray | Array, " k"]
    indices: Int[np.ndarray | Array, "k p"]
    weights: Float[Array, "k p"]
    periodic: Bool[np.ndarray | Array, " k"]


def eliminate(
    conditions: BoundaryConditions, shape: Sequence[int], dtype: DTypeLike
) -> Elimination:
    """Which points of a field are prescribed, which are made of others, and how.

    The linear part of [`jaxsci.operators.boundary.enforce`][], whose result depends on nothing but
    the free points and the data (except that it averages the two ends of a circle).

    **Arguments:** `shape`, `dtype`: of the field, `(C, N_1, ..., N_d)`. Where a size is a symbol of
    `jax.export`, the result is traced, and derivatives and circles may be along one axis only.

    **Raises:** `ValueError` if the shape does not fit the conditions.

    !!! example
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann, eliminate
        >>> conditions = BoundaryConditions(
        ...     "x", {("x", "low"): Dirichlet(0.0), ("x", "high"): Neumann(0.0, order=2)},
        ...     spacing={"x": 1.0})
        >>> found = eliminate(conditions, (1, 5), "float32")
        >>> found.fixed, found.at, found.indices
        (array([ True, False, False, False, False]), array([4]), array([[3, 2]]))
        >>> found.weights
        Array([[ 1.3333334 , -0.33333334]], dtype=float32)
    """
    conditions.check("eliminate", tuple(shape))
    if any(jax.export.is_symbolic_dim(n) for n in shape):
        return _of_open_sizes(conditions, tuple(shape), dtype)
    index = np.arange(math.prod(shape)).reshape(shape)
    fixed = np.zeros(index.size, bool)
    for (axis, side), condition in conditions.faces.items():
        if isinstance(condition, Dirichlet):
            fixed[_layer(index, conditions.along(axis), side, 0)] = True
    table = _Table(fixed, dtype)
    axes = ordered_axes(conditions)
    for axis in axes:
        if isinstance(conditions.pair(axis)[0], Periodic):
            low, high = (_layer(index, conditions.along(axis), side, 0) for side in SIDES)
            table.add(high, [low], jnp.ones(1, dtype), periodic=True)
    for axis in axes:
        at = conditions.along(axis)
        for side, condition in zip(SIDES, conditions.pair(axis), strict=True):
            if condition is not None and not isinstance(condition, Dirichlet | Periodic):
                ratios = _ratios(conditions, axis, side, shape[at], dtype)
                inner = [_layer(index, at, side, k) for k in range(1, 1 + len(ratios))]
                table.add(_layer(index, at, side, 0), inner, ratios, periodic=False)
    return table.result()


def _ratios(
    conditions: BoundaryConditions, axis: str, side: Side, n: int, dtype: DTypeLike
) -> Array:
    """What the points inside count for the one at the end, from the outermost on.

    As many on both sides, if need be with zeros: rows stay within those of a sum along the axis.
    """
    condition = conditions.faces[axis, side]
    assert not isinstance(condition, Periodic)
    weights, _ = functional(condition, side, conditions.step(axis, n, dtype), dtype)
    ratios = jnp.stack([-w / weights[0] for w in weights[1:]])
    longest = max(getattr(each, "order", 0) for each in conditions.pair(axis))
    return jnp.pad(ratios, (0, longest - len(ratios)))


def _of_open_sizes(
    conditions: BoundaryConditions, shape: tuple[int, ...], dtype: DTypeLike
) -> Elimination:
    """The same with arrays of which only the compiled program knows the sizes.

    Nothing can be looked up in them here, so that no point may be made of dependent ones.
    """
    index = jnp.arange(math.prod(shape)).reshape(shape)
    fixed = jnp.zeros(shape, bool)
    inside = [slice(None)] * len(shape)  # what the values leave, without their faces
    dependent = []
    for axis in ordered_axes(conditions):
        at, pair = conditions.along(axis), conditions.pair(axis)
        prescribed = [isinstance(condition, Dirichlet) for condition in pair]
        for side, whether in zip(SIDES, prescribed, strict=True):
            if whether:
                fixed = put(fixed, at, side, jnp.ones_like(from_end(fixed, at, side, 0)))
        if any(c is not None and not isinstance(c, Dirichlet) for c in pair):
            dependent.append(axis)
        else:
            inside[at] = slice(int(prescribed[0]), -1 if prescribed[1] else None)
    if len(dependent) > 1:
        raise ValueError(
            "`eliminate(conditions, shape)`: expected derivatives and circles along one axis at "
            f"most where sizes are open, got {dependent}, whose faces meet"
        )
    index = index[tuple(inside)]
    rows = [(jnp.zeros(0, index.dtype), jnp.zeros((0, 1), index.dtype), jnp.zeros(1, dtype))]
    periodic = False
    for axis in dependent:
        at = conditions.along(axis)
        for side, condition in zip(SIDES, conditions.pair(axis), strict=True):
            if isinstance(condition, Periodic):
                periodic = True
                if side == "low":
                    continue
                low = from_end(index, at, "low", 0).ravel()[:, None]
                rows.append((from_end(index, at, side, 0).ravel(), low, jnp.ones(1, dtype)))
            elif condition is not None and not isinstance(condition, Dirichlet):
                ratios = _ratios(conditions, axis, side, shape[at], dtype)
                steps = range(1, 1 + ratios.shape[0])
                inner = [from_end(index, at, side, k).ravel() for k in steps]
                made = from_end(index, at, side, 0).ravel()
                rows.append((made, jnp.stack(inner, axis=1), ratios))
    length = max(indices.shape[1] for _, indices, _ in rows)
    at = jnp.concatenate([made for made, _, _ in rows])
    indices = jnp.concatenate([_padded(each, length, jnp, mode="edge") for _, each, _ in rows])
    weights = jnp.concatenate(
        [_padded(jnp.broadcast_to(w, each.shape), length, jnp) for _, each, w in rows]
    )
    return Elimination(fixed.ravel(), at, indices, weights, jnp.full(at.shape, periodic))


class _Table:
    """Rows of dependent points, each in terms of free ones."""

    def __init__(self, fixed: np.ndarray, dtype: DTypeLike):
        self.fixed = fixed
        self.at = np.zeros(0, int)
        self.indices, self.weights = np.zeros((0, 1), int), jnp.zeros((0, 1), dtype)
        self.periodic = np.zeros(0, bool)

    def add(
        self, at: np.ndarray, inner: list[np.ndarray], weights: Array, *, periodic: bool
    ) -> None:
        """Rows `u[at] = sum_m weights_m u[inner_m]`, which replace earlier ones of the points."""
        free = ~self.fixed[at]
        at, indices = at[free], np.stack(inner, axis=1)[free]
        spread = jnp.broadcast_to(weights, indices.shape)
        made = np.isin(indices, self.at)
        if made.any():  # where faces meet: a point made of points that are made of others
            place = np.searchsorted(self.at, np.where(made, indices, self.at[0]))
            length = self.indices.shape[1]
            alone = jnp.zeros(length, spread.dtype).at[0].set(1)
            own = np.broadcast_to(indices[..., None], (*indices.shape, length))
            full = np.where(made[..., None], self.indices[place], own)
            factor = jnp.where(made[..., None], self.weights[place], alone)
            indices = full.reshape(len(at), -1)
            spread = (spread[..., None] * factor).reshape(len(at), -1)
        kept = ~np.isin(self.at, at)
        length = max(self.indices.shape[1], indices.shape[1])
        order = np.argsort(np.concatenate([self.at[kept], at]))

        def joined(old, new, stack):
            return stack([old[kept], new])[order]

        self.indices = joined(
            _padded(self.indices, length, np, mode="edge"),
            _padded(indices, length, np, mode="edge"),
            np.concatenate,
        )
        self.weights = joined(
            _padded(self.weights, length, jnp), _padded(spread, length, jnp), jnp.concatenate
        )
        self.periodic = joined(self.periodic, np.full(len(at), periodic), np.concatenate)
        self.at = joined(self.at, at, np.concatenate)

    def result(self) -> Elimination:
        return Elimination(self.fixed, self.at, self.indices, self.weights, self.periodic)


def _padded(rows, length, module, mode="constant"):
    return module.pad(rows, ((0, 0), (0, length - rows.shape[1])), mode=mode)


def _layer(index: np.ndarray, axis: int, side: str, k: int) -> np.ndarray:
    return index.take(k if side == "low" else index.shape[axis] - 1 - k, axis=axis).ravel()
