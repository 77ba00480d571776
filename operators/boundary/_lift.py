"""Boundary data continued into the interior: smooth fields and corrections that carry it."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._boundary import BoundaryConditions, FaceName, Values, functional
from ._conditions import Dirichlet, Neumann, Periodic, Robin
from ._enforce import check_field, enforce_resolved, ordered_axes
from ._stencils import SIDES, Side, as_number, from_end


def lift(
    conditions: BoundaryConditions,
    shape: Sequence[int],
    values: Values | None = None,
    *,
    dtype: Any = jnp.float32,
) -> Float[Array, "channels *points"]:
    """A smooth field that satisfies the conditions: what is left to be found satisfies 0 ones.

    Along each axis, the polynomial of lowest degree that the conditions at both ends allow (linear
    between two values, quadratic between two derivatives), whose coefficients vary along the
    others as the data do; axis after axis, each on what the axes before it left over (transfinite
    interpolation). Discrete conditions hold to rounding where the data of the faces are compatible
    at the corners. It is linear in the values; 0 where nothing is prescribed.

    **Arguments:**

    - `conditions`, `values`: as in [`jaxsci.operators.boundary.enforce`][].
    - `shape`, `dtype`: of the field, `(C, N_1, ..., N_d)`.

    **Raises:** as [`jaxsci.operators.boundary.enforce`][].

    !!! example
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, lift
        >>> walls = BoundaryConditions(
        ...     "x", {("x", "low"): Dirichlet(1.0), ("x", "high"): Dirichlet(3.0)})
        >>> lift(walls, (1, 5))
        Array([[1. , 1.5, 2. , 2.5, 3. ]], dtype=float32)

    Reference: Gordon and Hall, *Transfinite element methods*, Numerische Mathematik 21 (1973).
    """
    resolved = conditions.values(shape, dtype, values, where="lift")
    return lift_resolved(conditions, tuple(shape), dtype, resolved)


@eqx.filter_jit
def lift_resolved(
    conditions: BoundaryConditions,
    shape: tuple[int, ...],
    dtype: Any,
    resolved: dict[FaceName, Array],
) -> Array:
    """`lift` with values that were spread over their faces and checked."""
    u = jnp.zeros(shape, dtype)
    for axis in ordered_axes(conditions):
        faces: list[FaceName] = [(axis, side) for side in SIDES if (axis, side) in resolved]
        if not faces:  # periodic: 0 is
            continue
        at = conditions.along(axis)
        n = shape[at]
        s = _unit(n, dtype)
        powers = [_along(s**p, at, len(shape)) for p in _powers(conditions, faces)]
        M = jnp.array([[_measure(p, conditions, f, n).squeeze() for p in powers] for f in faces])
        left = jnp.stack([resolved[f] - _measure(u, conditions, f, n) for f in faces])
        # Of more polynomials than conditions, the least.
        square = len(powers) == len(faces)
        inverse = _inverse(M) if square else M.T @ _inverse(M @ M.T)
        coefficients = jnp.einsum("pf,f...->p...", inverse, left, precision="highest")
        for power, c in zip(powers, coefficients, strict=True):
            u = u + power * jnp.expand_dims(c, at)
    return u


def blend(
    u: Float[Array, "channels *points"],
    conditions: BoundaryConditions,
    values: Values | None = None,
    *,
    width: ArrayLike = 0.1,
) -> Float[Array, "channels *points"]:
    """As [`jaxsci.operators.boundary.enforce`][], with the change faded into the interior.

    A face that is off by `r = g - B u` gets `u + p r / (B p)`: `p = (1 - s / w)^2` for a value,
    `s (1 - s / w)^2` for a derivative, at the distance `s < w` from the face. Setting one point
    leaves a jump of `r` beside the wall; this does not, and changes as much at any resolution. A
    derivative is measured for it over up to a sixth of the axis, not between points ever closer,
    whose rounding is divided by their distance. Half of what is left of it is then faded over
    three steps, for the end alone would gather the rounding of its stencil; the rest is enforced.

    **Arguments:**

    - `u`, `conditions`, `values`: as in [`jaxsci.operators.boundary.enforce`][].
    - `width`: `w` as a fraction of the axis, above 0 and below 1; an array if it is learned. It is
        never less than the stencil of the condition needs, nor does it reach the other face's.

    **Raises:** as [`jaxsci.operators.boundary.enforce`][].

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, blend
        >>> wall = BoundaryConditions("x", {("x", "low"): Dirichlet(1.0)})
        >>> blend(jnp.zeros((1, 6)), wall, width=0.4)
        Array([[1.  , 0.25, 0.  , 0.  , 0.  , 0.  ]], dtype=float32)
    """
    check_field("blend", u)
    resolved = conditions.values(u.shape, u.dtype, values, where="blend")
    return blend_resolved(u, conditions, resolved, jnp.asarray(width).astype(u.dtype))


@eqx.filter_jit
def blend_resolved(
    u: Array, conditions: BoundaryConditions, resolved: dict[FaceName, Array], width: Array
) -> Array:
    """`blend` with values that were spread over their faces and checked."""
    order = ordered_axes(conditions)
    for axis in order:
        low, at = conditions.pair(axis)[0], conditions.along(axis)
        if isinstance(low, Periodic):
            jump = from_end(u, at, "low", 0) - from_end(u, at, "high", 0)
            parts: tuple[tuple[Side, float], ...]
            parts = ("low", low.weight - 1), ("high", low.weight)
            for side, part in parts:
                fading = _fading(u.shape[at], width, side, 0, 0, u.dtype)
                u = u + _along(fading, at, u.ndim) * jnp.expand_dims(part * jump, at)
    for kind in (Neumann | Robin, Dirichlet):
        for axis in order:
            for side in SIDES:
                face: FaceName = (axis, side)
                condition = conditions.faces.get(face)
                if not isinstance(condition, kind):
                    continue
                reach = getattr(condition, "order", 0)
                stride = _stride(u.shape[conditions.along(axis)], reach)
                u = u + _faded(u, conditions, face, resolved[face], width, stride)
    for face, g in resolved.items():
        if isinstance(conditions.faces[face], Neumann):
            near = 3 / as_number(u.shape[conditions.along(face[0])] - 1, u.dtype)
            u = u + 0.5 * _faded(u, conditions, face, g, jnp.minimum(width, near))
    return enforce_resolved(u, conditions, resolved)


def _faded(
    u: Array,
    conditions: BoundaryConditions,
    face: FaceName,
    g: Array,
    width: Array,
    stride: Any = 1,
) -> Array:
    """What to add for a face to have the value or derivative `g`, by each `stride`-th point."""
    at, n = conditions.along(face[0]), u.shape[conditions.along(face[0])]
    reach = max(getattr(c, "order", 0) for c in conditions.pair(face[0]))
    power = 1 if isinstance(conditions.faces[face], Neumann) else 0
    p = _along(_fading(n, width, face[1], power, reach, u.dtype), at, u.ndim)
    r = (g - _measure(u, conditions, face, n, stride)) / _measure(p, conditions, face, n)
    return p * jnp.expand_dims(r, at)


def _fading(n: Any, width: Array, side: Side, power: int, reach: int, dtype: Any) -> Array:
    """`s^power (1 - s / w)^2` at the points of an axis, `s` from a side, both in its length."""
    last = as_number(n - 1, dtype)
    s = jnp.arange(n, dtype=dtype) / last
    # Two points at least beyond the end itself for a slope to be seen; none in the other's stencil.
    least = (1 + power) / last
    most = as_number(max(1 + power, n - 1 - reach), dtype) / last
    w = jnp.clip(width, least, most)
    p = s**power * jnp.maximum(1 - s / w, 0) ** 2
    return p if side == "low" else p[::-1]


def _unit(n: Any, dtype: Any) -> Array:
    """`n` points from 0 to 1."""
    if isinstance(n, int):
        return jnp.linspace(0, 1, n, dtype=dtype)
    return jnp.arange(n, dtype=dtype) / as_number(n - 1, dtype)


def _measure(
    u: Array, conditions: BoundaryConditions, face: FaceName, n: Any, stride: Any = 1
) -> Array:
    """`B u`, the left side of a face's condition in its own units, by each `stride`-th point."""
    condition, at = conditions.faces[face], conditions.along(face[0])
    assert not isinstance(condition, Periodic)
    h = conditions.step(face[0], n, u.dtype) if conditions.has_step(face[0]) else jnp.ones(())
    h = h.astype(u.dtype) * as_number(stride, u.dtype)
    weights, m = functional(condition, face[1], h, u.dtype)
    return sum(w * from_end(u, at, face[1], k * stride) for k, w in enumerate(weights)) / m


_SPAN = 6
"""A derivative is measured over one part in so many of its axis, as far as points allow."""


def _stride(n: Any, reach: int) -> Any:
    if reach == 0:
        return 1
    stride = (n - 1) // (_SPAN * reach)
    return max(stride, 1) if isinstance(n, int) else jax.core.max_dim(stride, 1)


def _powers(conditions: BoundaryConditions, faces: list[FaceName]) -> tuple[int, ...]:
    kinds = [conditions.faces[face] for face in faces]
    if any(isinstance(kind, Robin) for kind in kinds):
        return (0, 1, 2) if len(kinds) == 2 else (0, 1)
    if all(isinstance(kind, Neumann) for kind in kinds):
        return (1, 2)[: len(kinds)]
    return (0, 1)[: len(kinds)]


def _inverse(M: Float[Array, "faces faces"]) -> Array:
    """Of one or two rows, in full: an axis after the other by LAPACK, in one program, can hang."""
    if len(M) == 1:
        return 1 / M
    (a, b), (c, d) = M
    return jnp.array([[d, -b], [-c, a]]) / (a * d - b * c)


def _along(row: Array, at: int, ndim: int) -> Array:
    return row.reshape([-1 if i == at else 1 for i in range(ndim)])
