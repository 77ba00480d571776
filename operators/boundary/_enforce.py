"""Setting the faces of a field to what the conditions say."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.errors import require_finite

from ._boundary import BoundaryConditions, FaceName, Values, functional
from ._conditions import Dirichlet, Neumann, Periodic, Robin
from ._stencils import Side, from_end


def enforce(
    u: Float[Array, "channels *points"],
    conditions: BoundaryConditions,
    values: Values | None = None,
) -> Float[Array, "channels *points"]:
    """The field with the points on its faces, and no other, set so that the conditions hold.

    - Dirichlet: the point is the value, bit for bit.
    - Neumann, Robin, `sum_k w_k u_k = g`: `u_0 = (g - sum_{k > 0} w_k u_k) / w_0`, which leaves
      `|sum_k w_k u_k - g| <= 4 eps (sum_k |w_k u_k| + |g|)`.
    - Periodic: both ends are their weighted mean, bit for bit the same.

    It is linear in `(u, values)`, and doing it twice changes nothing.

    **Arguments:**

    - `u`: one sample.
    - `conditions`: a [`jaxsci.operators.boundary.BoundaryConditions`][].
    - `values`: by face, e.g. `{("x", "low"): ...}`, for conditions that hold none.

    **Returns:** shape and dtype of `u`.

    **Raises:** `TypeError` if `u` is not floating; `ValueError` if shapes do not fit, a value is
    missing or superfluous and, outside `jit`, if numbers are not finite or contradict each other
    at a corner.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Neumann, enforce
        >>> insulated = BoundaryConditions("x", {"x": Neumann(0.0, order=2)}, spacing={"x": 0.5})
        >>> enforce(jnp.array([[9.0, 3.0, 0.0, 3.0, 9.0]]), insulated)
        Array([[4., 3., 0., 3., 4.]], dtype=float32)
    """
    check_field("enforce", u)
    require_finite("enforce", "u", u)
    resolved = conditions.values(u.shape, u.dtype, values, where="enforce")
    return _compiled(u, conditions, resolved)


def enforce_resolved(
    u: Array, conditions: BoundaryConditions, resolved: dict[FaceName, Array]
) -> Array:
    """`enforce` with values that were spread over their faces and checked."""
    order = ordered_axes(conditions)
    for axis in order:
        low, _ = conditions.pair(axis)
        if isinstance(low, Periodic):
            at = conditions.along(axis)
            a, b = from_end(u, at, "low", 0), from_end(u, at, "high", 0)
            mean = low.weight * a + (1 - low.weight) * b
            u = put(put(u, at, "low", mean), at, "high", mean)
    # Values last: they hold on the points that they share with derivatives, whose stencils do not
    # reach them (a stencil along x at a point off the faces of y meets none of their points).
    for kind in (Neumann | Robin, Dirichlet):
        for axis in order:
            at = conditions.along(axis)
            for face, g in resolved.items():
                condition = conditions.faces[face]
                if face[0] == axis and isinstance(condition, kind):
                    u = put(u, at, face[1], end_value(u, conditions, face, g))
    for axis in order:
        if isinstance(conditions.pair(axis)[0], Periodic):
            # The two ends went through the same operations, but not in the same vector lanes.
            at = conditions.along(axis)
            u = put(u, at, "high", from_end(u, at, "low", 0))
    return u


# As a whole: run step by step, the first call would compile a dozen of small programs.
_compiled = eqx.filter_jit(enforce_resolved)


def end_value(u: Array, conditions: BoundaryConditions, face: FaceName, g: Array) -> Array:
    """The value at the end with which the condition holds, the other points as they are."""
    condition, at = conditions.faces[face], conditions.along(face[0])
    if isinstance(condition, Dirichlet):
        return g
    assert isinstance(condition, Neumann | Robin)
    h = conditions.step(face[0], u.shape[at], u.dtype)
    weights, m = functional(condition, face[1], h, u.dtype)
    rest = m * g
    for k, w in enumerate(weights[1:], start=1):
        rest = rest - w * from_end(u, at, face[1], k)
    return rest / weights[0]


def ordered_axes(conditions: BoundaryConditions) -> list[str]:
    """The constrained axes, those that keep the corners last."""
    return sorted(conditions.constrained(), key=lambda axis: axis == conditions.corners)


def put(u: Array, axis: int, side: Side, value: Array) -> Array:
    # Chosen point by point, not scattered: where an axis is divided over devices, XLA (jax 0.10)
    # put what was scattered to its end at the end of every part.
    n = u.shape[axis]
    there = jnp.arange(n) == (0 if side == "low" else n - 1)
    there = there.reshape([n if i == axis else 1 for i in range(u.ndim)])
    return jnp.where(there, jnp.expand_dims(value, axis), u)


def check_field(where: str, u: Array) -> None:
    if not jnp.issubdtype(u.dtype, jnp.floating):
        raise TypeError(f"`{where}(u=...)`: expected floating numbers, got {u.dtype}; cast them")
