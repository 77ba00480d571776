"""The heat equation on a circle: the smooth, easy case."""

from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.errors import require_finite

from ._abstract import AbstractEquation
from ._numbers import parameter, real


class Heat(AbstractEquation):
    """The heat equation with a constant diffusivity on a circle.

    ```
    u_t = nu u_xx,    u(t, x) = exp(-nu t) sin(x + theta),    x in [0, 2 pi], periodic
    ```

    **Arguments:**

    - `diffusivity`: `nu > 0`.
    - `phase`: `theta`, in radians.

    **Raises:** `ValueError` if `diffusivity` is not a positive finite scalar.

    !!! example
        >>> from jaxsci.equations import Heat
        >>> equation = Heat(2.0)
        >>> float(equation.solution(0.0, 0.0)), float(equation.mass(0.3))
        (0.0, 0.0)
    """

    diffusivity: Float[Array, ""]
    phase: Float[Array, ""]

    name: ClassVar[str] = "heat"
    parameter_name: ClassVar[str] = "diffusivity"
    t_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    x_bounds: ClassVar[tuple[float, float]] = (0.0, 2 * np.pi)
    train_range: ClassVar[tuple[float, float]] = (1.0, 5.0)
    test_values: ClassVar[tuple[float, ...]] = (1.0, 5.0)
    evaluation_time: ClassVar[float] = 0.5
    periodic: ClassVar[bool] = True
    diffusive: ClassVar[bool] = True

    def __init__(self, diffusivity: ArrayLike, phase: ArrayLike = 0.0):
        self.diffusivity = parameter("Heat", "diffusivity", diffusivity, 0.0)
        require_finite("Heat", "phase", phase)
        self.phase = jnp.asarray(phase, self.diffusivity.dtype)

    def solution(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact solution `exp(-nu t) sin(x + theta)`."""
        t, x = real(t, x)
        return jnp.exp(-self.diffusivity.astype(t.dtype) * t) * jnp.sin(
            x + self.phase.astype(t.dtype)
        )

    def flux(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact flux `-nu exp(-nu t) cos(x + theta)`."""
        t, x = real(t, x)
        nu = self.diffusivity.astype(t.dtype)
        return -nu * jnp.exp(-nu * t) * jnp.cos(x + self.phase.astype(t.dtype))

    def mass(self, t: ArrayLike) -> Float[Array, "*times"]:
        """0 at all times."""
        return jnp.zeros_like(real(t)[0])

    def shock_position(self, t: ArrayLike) -> Float[Array, "*times"]:
        """NaN: the solution is smooth."""
        return jnp.full_like(real(t)[0], jnp.nan)

    def convection(self, u: ArrayLike) -> Float[Array, "*points"]:
        """0: there is no convection."""
        return jnp.zeros_like(real(u)[0])

    def conductivity(self, u: ArrayLike) -> Float[Array, "*points"]:
        """The constant `nu`."""
        (u,) = real(u)
        return jnp.full_like(u, 1) * self.diffusivity.astype(u.dtype)

    def kirchhoff(self, u: ArrayLike) -> Float[Array, "*points"]:
        """`nu u`."""
        (u,) = real(u)
        return self.diffusivity.astype(u.dtype) * u
