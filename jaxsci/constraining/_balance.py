"""Whether a law and the derivatives on the faces agree."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.conservation import LinearConstraint
from jaxsci.errors import is_concrete, require_finite
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, FaceName, Neumann, Values

from ._laws import Law


class DiffusiveFlux(eqx.Module):
    """The flux `-diffusivity du/dn` through faces with a derivative, to check a law against.

    A total that changes by what its law says, and derivatives on the faces that let through
    something else, can be met by one field, but not by a solution. Given to
    [`jaxsci.constraining.constrain`][] as `balance`, such data are refused.

    **Arguments:**

    - `grid`: with a time axis, and the axes of the conditions.
    - `diffusivity`: a number, or one for each time `(nt,)`.
    - `rtol`: by which part the change of the total between two times may differ from the flux,
        integrated by the trapezoid rule, that passes in and out; the rule itself errs by the square
        of the time step.
    - `channel`: of the field.

    **Raises:** `ValueError` for a grid without time, or a diffusivity that is negative or not
    finite.
    """

    grid: Grid
    diffusivity: Float[Array, "..."]
    rtol: float = eqx.field(static=True)
    channel: int = eqx.field(static=True)

    def __init__(self, grid: Grid, diffusivity: ArrayLike, *, rtol: float = 0.02, channel: int = 0):
        if "t" not in grid.names:
            raise ValueError(
                f"`DiffusiveFlux(grid)`: expected a time axis 't', got axes {list(grid.names)}"
            )
        self.grid, self.diffusivity = grid, jnp.asarray(diffusivity)
        self.rtol, self.channel = rtol, channel
        nt = grid.axis("t").size
        if self.diffusivity.shape not in ((), (nt,)):
            raise ValueError(
                f"`DiffusiveFlux(diffusivity=...)`: expected a number or shape ({nt},), got "
                f"{self.diffusivity.shape}"
            )
        require_finite("DiffusiveFlux", "diffusivity", self.diffusivity)
        if is_concrete(self.diffusivity) and bool((self.diffusivity < 0).any()):
            raise ValueError(
                f"`DiffusiveFlux(diffusivity=...)`: expected numbers from 0, got {diffusivity}"
            )

    def imbalance(
        self,
        where: str,
        laws: tuple[Law, ...],
        conditions: BoundaryConditions | None,
        values: Values | None,
        shape: tuple[int, ...],
        dtype: Any,
    ) -> tuple[Float[Array, " intervals"], Float[Array, " intervals"]]:
        """What the first law says of each interval less what the faces say, and what is allowed."""
        grid, times = self.grid, self.grid.axis("t").points.astype(dtype)
        nt = times.size
        law = laws[0] if laws else None
        if conditions is None or not isinstance(law, LinearConstraint) or law.rows != nt:
            got = "none" if law is None else f"{type(law).__name__} of {law.rows} rows"
            raise ValueError(
                f"`{where}(balance=...)`: expected conditions on the faces and a law with one row "
                f"for each of {nt} times first, got {got}"
            )
        if shape[1:] != grid.shape or conditions.axes != grid.names:
            raise ValueError(
                f"`{where}(balance=...)`: expected conditions and a field on the axes "
                f"{grid.names} {grid.shape}, got {conditions.axes} {shape[1:]}"
            )
        resolved = conditions.values(shape, dtype, values, where=where)
        inflow, passing = jnp.zeros(nt, dtype), jnp.zeros(nt, dtype)
        for face in grid.spatial.faces:
            name: FaceName = (face.axis, face.side)
            if not isinstance(conditions.faces.get(name), Neumann):
                raise ValueError(
                    f"`{where}(balance=...)`: expected a derivative on every face, so that the "
                    f"flux is known; that on {name} is not"
                )
            slope = resolved[name][self.channel]
            at = [axis for axis in grid.names if axis != face.axis].index("t")
            slope = jnp.moveaxis(slope, at, 0).reshape(nt, -1)
            flux = -self.diffusivity.astype(dtype) * (slope @ face.weights.astype(dtype))
            inflow = inflow - face.normal * flux
            passing = passing + jnp.abs(flux)
        steps = jnp.diff(times)
        gained = jnp.diff(law.b)
        arrived = steps * (inflow[:-1] + inflow[1:]) / 2
        scale = jnp.abs(gained) + steps * (passing[:-1] + passing[1:]) / 2
        size = jnp.max(jnp.abs(law.b))
        allowed = self.rtol * scale + 16 * np.finfo(dtype).eps * size
        return gained - arrived, allowed
