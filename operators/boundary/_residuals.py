"""How well a field obeys its conditions."""

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsci.precision import compensated_sum

from ._boundary import BoundaryConditions, FaceName, Values, functional
from ._conditions import Dirichlet, Neumann, Periodic, Robin
from ._enforce import check_field, ordered_axes
from ._stencils import SIDES, boundary_derivative, from_end


class FaceResidual(eqx.Module):
    """How well the condition of a face holds; arrays of its shape, `(C, *transverse)`.

    - `residual`: `sum_k w_k u_k - g` in the units of the condition, summed in twice the working
        precision; for a periodic axis the jump from the high to the low side.
    - `rounding`: `4 eps (sum_k |w_k u_k| + |g|)`, what may be left of a condition that is enforced;
        0 for values and periodic axes, of which nothing may.
    - `owned`: whether the face decides at that point; on points of several faces one does.
    - `derivative`: that of the field along the axis by an independent stencil of order 6, or of the
        highest order that the points allow, whatever the condition.
    """

    residual: Float[Array, "channels *transverse"]
    rounding: Float[Array, "channels *transverse"]
    owned: Bool[Array, "channels *transverse"]
    derivative: Float[Array, "channels *transverse"] | None

    @property
    def holds(self) -> Bool[Array, ""]:
        """Whether the condition holds to rounding wherever the face decides."""
        return jnp.all(~self.owned | (jnp.abs(self.residual) <= self.rounding))


def residuals(
    u: Float[Array, "channels *points"],
    conditions: BoundaryConditions,
    values: Values | None = None,
) -> dict[FaceName, FaceResidual]:
    """How well a field obeys its conditions, face by face.

    **Arguments, Raises:** as [`jaxsci.operators.boundary.enforce`][]; a field that is not finite
    is no error here.

    **Returns:** a [`jaxsci.operators.boundary.FaceResidual`][] for each face with a condition. The
    derivative by the independent stencil is `None` where the spacing is not known.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, residuals
        >>> conditions = BoundaryConditions("x", {"x": Dirichlet(0.0)})
        >>> found = residuals(jnp.array([[0.0, 1.0, 0.5]]), conditions)
        >>> float(found["x", "high"].residual[0]), bool(found["x", "low"].holds)
        (0.5, True)
    """
    check_field("residuals", u)
    resolved = conditions.values(u.shape, u.dtype, values, where="residuals")
    return _compiled(u, conditions, resolved)


@eqx.filter_jit
def _compiled(
    u: Array, conditions: BoundaryConditions, resolved: dict[FaceName, Array]
) -> dict[FaceName, FaceResidual]:
    found = {}
    for face, condition in conditions.faces.items():
        axis, side = face
        at = conditions.along(axis)
        derivative = None
        if conditions.has_step(axis):
            h = conditions.step(axis, u.shape[at], u.dtype)
            order = min(6, u.shape[at] - 1)
            derivative = boundary_derivative(u, axis=at, side=side, spacing=h, order=order)
        if isinstance(condition, Periodic):
            residual = from_end(u, at, "low", 0) - from_end(u, at, "high", 0)
            rounding = jnp.zeros_like(residual)
        else:
            residual, rounding = _residual(u, conditions, face, resolved[face])
        owned = jnp.broadcast_to(_owned(conditions, face, residual.shape), residual.shape)
        found[face] = FaceResidual(residual, rounding, owned, derivative)
    return found


def _residual(
    u: Array, conditions: BoundaryConditions, face: FaceName, g: Array
) -> tuple[Array, Array]:
    condition, at = conditions.faces[face], conditions.along(face[0])
    if isinstance(condition, Dirichlet):
        residual = from_end(u, at, face[1], 0) - g
        return residual, jnp.zeros_like(residual)
    assert isinstance(condition, Neumann | Robin)
    h = conditions.step(face[0], u.shape[at], u.dtype)
    weights, m = functional(condition, face[1], h, u.dtype)
    terms = [w * from_end(u, at, face[1], k) for k, w in enumerate(weights)]
    stacked = jnp.stack([t.ravel() for t in [*terms, -m * g]], axis=1)
    zero = jnp.zeros((), u.dtype)
    wide = stacked.dtype if stacked.dtype in (jnp.float32, jnp.float64) else jnp.float32
    total = jax.vmap(lambda row: compensated_sum(row, zero.astype(wide)))(stacked.astype(wide))
    scale = jnp.sum(jnp.abs(stacked), axis=1)
    eps = jnp.finfo(u.dtype).eps
    shape = g.shape
    return (total.astype(u.dtype) / m).reshape(shape), (4 * eps * scale / m).reshape(shape)


def _owned(conditions: BoundaryConditions, face: FaceName, shape: tuple[int, ...]) -> Array:
    """Where, on a face, no other face goes before it."""
    axis, condition = face[0], conditions.faces[face]
    order = ordered_axes(conditions)
    owned = jnp.ones((1,) * len(shape), bool)
    for other in order:
        if other == axis or isinstance(condition, Periodic):
            continue
        at = conditions.along(other) - (conditions.along(other) > conditions.along(axis))
        for side in SIDES:
            rival = conditions.faces.get((other, side))
            if rival is None or isinstance(rival, Periodic):
                continue
            later = order.index(other) > order.index(axis)
            if isinstance(condition, Dirichlet):
                wins = isinstance(rival, Dirichlet) and later and conditions.corners != "check"
            else:
                wins = isinstance(rival, Dirichlet) or later
            if wins:
                n = shape[at]
                there = jnp.arange(n) == (0 if side == "low" else n - 1)
                form = [n if i == at else 1 for i in range(len(shape))]
                owned = owned & ~there.reshape(form)
    return owned
