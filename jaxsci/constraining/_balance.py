"""Whether a law and the derivatives on the faces agree."""

import math
from typing import Any, TypeGuard

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.conservation import LinearConstraint
from jaxsci.errors import is_concrete, require_finite
from jaxsci.gaussians import PartRows
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, FaceName, Neumann, Periodic, Values

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
    - `channel`: of the field; the law is the first of that channel with a row for each time. Of a
        periodic axis nothing passes.

    **Raises:** `ValueError` for a grid without time, a diffusivity that is negative or not finite,
    or an `rtol` below 0; `TypeError` for a channel that is no whole number.
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
        if isinstance(channel, bool) or not isinstance(channel, int):
            raise TypeError(
                f"`DiffusiveFlux(channel=...)`: expected a whole number, got {channel!r}"
            )
        if not (math.isfinite(rtol) and rtol >= 0):
            raise ValueError(f"`DiffusiveFlux(rtol=...)`: expected a number from 0, got {rtol!r}")
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
        """What the law says of each interval less what the faces say, and what is allowed."""
        grid, times = self.grid, self.grid.axis("t").points.astype(dtype)
        nt = times.size
        if not 0 <= self.channel < shape[0]:
            raise ValueError(
                f"`{where}(balance=DiffusiveFlux(channel=...))`: expected 0 to {shape[0] - 1}, got "
                f"{self.channel}"
            )
        law = next((law for law in laws if self._is_of(law, nt)), None)
        if conditions is None or law is None:
            got = ", ".join(f"{type(law).__name__} of {law.rows} rows" for law in laws) or "no law"
            raise ValueError(
                f"`{where}(balance=...)`: expected conditions on the faces and a law of channel "
                f"{self.channel} with one row for each of {nt} times, got "
                f"{got if conditions is not None else 'no conditions'}"
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
            if isinstance(conditions.faces.get(name), Periodic):
                continue
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

    def _is_of(self, law: Law, nt: int) -> TypeGuard[LinearConstraint]:
        """Whether a law is linear, of each time, and of no channel but this that could be told."""
        if not isinstance(law, LinearConstraint) or law.rows != nt:
            return False
        return not isinstance(law.G, PartRows) or law.G.part == self.channel
