"""Any operator, told the boundary data and made to obey it."""

import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.errors import lookup
from jaxsci.interop import takes_key
from jaxsci.operators.boundary import BoundaryConditions, Values, blend, enforce, lift

from ._boon import BOON
from ._features import Information, boundary_channels, count_channels

Enforcement = Literal["none", "strict", "blend", "learned"]
"""How the output of an operator is made to obey."""


class ConstrainedOperator(eqx.Module):
    """An operator on fields that is told the boundary data and whose output obeys the conditions.

    ```
    v = operator(x, boundary channels)
    u = enforce(v)            or  enforce(lift + v)
    ```

    **Arguments:**

    - `operator`: takes `(C_in + more, N_1, ..., N_d)` to `(C_out, N_1, ..., N_d)`; `more` is what
        [`jaxsci.operators.constrained.count_channels`][] says. A
        [`jaxsci.operators.constrained.BOON`][] is handed the values, too.
    - `conditions`: their numbers become constants, which no optimiser sees.
    - `out_channels`: how many the operator returns.
    - `information`: how it is told: `"none"`, `"faces"` or `"lift"`.
    - `lifted`: whether it predicts what is to be added to a
        [`lift`][jaxsci.operators.boundary.lift] of the data.
    - `enforcement`: `"strict"` sets the points on the faces; `"blend"` fades the change into the
        interior over `width`; `"learned"` does so over a width that is a parameter for the
        optimiser; `"none"` leaves the output as it is.
    - `width`: as in [`jaxsci.operators.boundary.blend`][].
    - `free_channels`: how many channels the operator returns after those, on which nothing is
        imposed; for a variance, see [`jaxsci.operators.uncertain.OutputVariance`][].

    **Raises:** `ValueError` for unknown names, a width that is no fraction, or free channels of a
    BOON, whose layers impose the conditions on all.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
        >>> from jaxsci.operators.constrained import ConstrainedOperator
        >>> wall = BoundaryConditions("x", {("x", "low"): Dirichlet()})
        >>> model = ConstrainedOperator(lambda x: x[:1] + x[1:], wall)
        >>> model(jnp.zeros((1, 4)), {("x", "low"): 2.0})
        Array([[2., 2., 2., 2.]], dtype=float32)
    """

    operator: Callable[..., Array]
    conditions: BoundaryConditions
    log_width: Float[Array, ""] | None
    out_channels: int = eqx.field(static=True)
    width: float = eqx.field(static=True)
    information: Information = eqx.field(static=True)
    lifted: bool = eqx.field(static=True)
    enforcement: Enforcement = eqx.field(static=True)
    free_channels: int = eqx.field(static=True)

    def __init__(
        self,
        operator: Callable[..., Array],
        conditions: BoundaryConditions,
        *,
        out_channels: int = 1,
        information: Information = "faces",
        lifted: bool = False,
        enforcement: Enforcement = "strict",
        width: float = 0.1,
        free_channels: int = 0,
    ):
        count_channels(conditions, 1, information)
        lookup("enforcement", enforcement, dict.fromkeys(("none", "strict", "blend", "learned")))
        if not 0 < width < 1:
            raise ValueError(
                f"`ConstrainedOperator(width=...)`: expected a fraction of the axis, got {width}"
            )
        if free_channels < 0 or (free_channels and isinstance(operator, BOON)):
            raise ValueError(
                f"`ConstrainedOperator(free_channels=...)`: expected at least 0, and 0 for a BOON, "
                f"got {free_channels}"
            )
        self.operator, self.conditions = operator, conditions.frozen()
        self.information, self.lifted, self.enforcement = information, lifted, enforcement
        # Through a logistic function, so that it stays a fraction.
        start = jnp.asarray(math.log(width / (1 - width)), jnp.float32)
        self.log_width = start if enforcement == "learned" else None
        self.width, self.out_channels = float(width), out_channels
        self.free_channels = free_channels

    def __call__(
        self,
        x: Float[Array, "channels *points"],
        values: Values | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "out *points"]:
        """The output for one sample.

        - `values`: by face, for conditions that hold none.
        - `key`: handed to an operator that takes one, for its dropout.
        """
        v = self._operated(x, values, key)
        if not self.free_channels:
            return self._enforced(v, values)
        bound, free = v[: -self.free_channels], v[-self.free_channels :]
        return jnp.concatenate([self._enforced(bound, values), free])

    def _enforced(self, v: Array, values: Values | None) -> Array:
        if self.lifted:
            v = v + lift(self.conditions, v.shape, values, dtype=v.dtype)
        if self.enforcement == "none":
            return v
        if self.enforcement == "strict":
            return enforce(v, self.conditions, values)
        width = self.width if self.log_width is None else jax.nn.sigmoid(self.log_width)
        return blend(v, self.conditions, values, width=width)

    def _operated(self, x: Array, values: Values | None, key: PRNGKeyArray | None) -> Array:
        more: Any = {"information": self.information, "dtype": x.dtype}
        if self.information != "none":
            shape = (self.out_channels, *x.shape[1:])
            told = boundary_channels(self.conditions, shape, values, **more)
            x = jnp.concatenate([x, told])
        if isinstance(self.operator, BOON):
            return self.operator(x, values)
        if key is not None and takes_key(self.operator):
            return self.operator(x, key=key)
        return self.operator(x)
