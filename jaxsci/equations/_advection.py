"""Linear advection of a step."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._abstract import AbstractEquation
from ._numbers import inside_or_nan, parameter, real


class Advection(AbstractEquation):
    """Linear advection of a step to the right.

    ```
    u_t + a u_x = 0,    u(t, x) = 1 if x - a t <= 1/2 else 0
    ```

    The solution is piecewise constant: its derivatives are 0 wherever they exist. The mass and
    the position of the step are differentiable in `a` and `t`.

    **Arguments:**

    - `speed`: `a > 0`.

    **Raises:** `ValueError` if `speed` is not a positive finite scalar.

    !!! example
        >>> from jaxsci.equations import Advection
        >>> equation = Advection(2.0)
        >>> float(equation.shock_position(0.125)), float(equation.mass(0.125))
        (0.75, 0.75)
        >>> float(equation.mass(0.9))  # the step has left the domain
        1.0
    """

    speed: Float[Array, ""]

    name: ClassVar[str] = "advection"
    parameter_name: ClassVar[str] = "speed"
    t_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    x_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    train_range: ClassVar[tuple[float, float]] = (1.0, 5.0)
    test_values: ClassVar[tuple[float, ...]] = (1.0, 3.0)
    evaluation_time: ClassVar[float] = 0.1
    periodic: ClassVar[bool] = False
    diffusive: ClassVar[bool] = False

    def __init__(self, speed: ArrayLike):
        self.speed = parameter("Advection", "speed", speed, 0.0)

    def solution(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact solution: 1 up to the step, 0 beyond."""
        t, x = real(t, x)
        return (x - self.speed.astype(t.dtype) * t <= 0.5).astype(t.dtype)

    def flux(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact flux `a u`."""
        return self.convection(self.solution(t, x))

    def mass(self, t: ArrayLike) -> Float[Array, "*times"]:
        """`1/2 + min(a t, 1/2)`."""
        (t,) = real(t)
        return 0.5 + jnp.minimum(self.speed.astype(t.dtype) * t, 0.5)

    def shock_position(self, t: ArrayLike) -> Float[Array, "*times"]:
        """The step at `1/2 + a t`; NaN once it has left the domain."""
        (t,) = real(t)
        return inside_or_nan(0.5 + self.speed.astype(t.dtype) * t, self.x_bounds)

    def convection(self, u: ArrayLike) -> Float[Array, "*points"]:
        """`a u`."""
        (u,) = real(u)
        return self.speed.astype(u.dtype) * u

    def conductivity(self, u: ArrayLike) -> Float[Array, "*points"]:
        """0: there is no diffusion."""
        return jnp.zeros_like(real(u)[0])

    def kirchhoff(self, u: ArrayLike) -> Float[Array, "*points"]:
        """0: there is no diffusion."""
        return jnp.zeros_like(real(u)[0])
