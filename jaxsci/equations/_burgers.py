"""Burgers' equation without viscosity: a ramp that steepens into a shock."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._abstract import AbstractEquation
from ._numbers import inside_or_nan, parameter, real


class Burgers(AbstractEquation):
    """Burgers' equation without viscosity; a ramp becomes a shock at `t = 1/a`.

    ```
    u_t + (u^2 / 2)_x = 0
    t <= 1/a:  u = a for x <= a t - 1,  a x / (a t - 1) for a t - 1 < x <= 0,  else 0
    t >  1/a:  u = a for x <= (a t - 1) / 2,  else 0
    ```

    **Arguments:**

    - `amplitude`: `a > 0`, the height of the ramp.

    **Raises:** `ValueError` if `amplitude` is not a positive finite scalar.

    !!! example
        >>> from jaxsci.equations import Burgers
        >>> equation = Burgers(2.0)
        >>> print(equation.shock_position(0.25), equation.shock_position(1.0))
        nan 0.5
        >>> float(equation.mass(0.5))
        2.0
    """

    amplitude: Float[Array, ""]

    name: ClassVar[str] = "burgers"
    parameter_name: ClassVar[str] = "amplitude"
    t_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    x_bounds: ClassVar[tuple[float, float]] = (-1.0, 1.0)
    train_range: ClassVar[tuple[float, float]] = (1.0, 4.0)
    test_values: ClassVar[tuple[float, ...]] = (1.0, 3.0)
    evaluation_time: ClassVar[float] = 0.5
    periodic: ClassVar[bool] = False
    diffusive: ClassVar[bool] = False

    def __init__(self, amplitude: ArrayLike):
        self.amplitude = parameter("Burgers", "amplitude", amplitude, 0.0)

    def solution(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact (entropy) solution."""
        t, x = real(t, x)
        a = self.amplitude.astype(t.dtype)
        foot = a * t - 1  # the ramp's upper end while negative; twice the shock's position after
        ramping = foot < 0
        safe = jnp.where(ramping, foot, -jnp.ones_like(foot))  # double where: x / 0 at t = 1/a
        ramp = jnp.where(x <= foot, a, jnp.where(x <= 0, a * x / safe, 0))
        return jnp.where(ramping, ramp, jnp.where(x <= foot / 2, a, 0))

    def flux(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact flux `u^2 / 2`."""
        return self.convection(self.solution(t, x))

    def mass(self, t: ArrayLike) -> Float[Array, "*times"]:
        """`(a/2)(1 + a t)` until the shock leaves the domain at `t = 3/a`, then `2 a`."""
        (t,) = real(t)
        a = self.amplitude.astype(t.dtype)
        return a / 2 * jnp.minimum(1 + a * t, 4)

    def shock_position(self, t: ArrayLike) -> Float[Array, "*times"]:
        """`(a t - 1) / 2`; NaN before the shock forms and after it has left the domain."""
        (t,) = real(t)
        foot = self.amplitude.astype(t.dtype) * t - 1
        formed = jnp.where(foot >= 0, foot / 2, jnp.full_like(foot, jnp.nan))
        return inside_or_nan(formed, self.x_bounds)

    def convection(self, u: ArrayLike) -> Float[Array, "*points"]:
        """`u^2 / 2`."""
        (u,) = real(u)
        return u**2 / 2

    def conductivity(self, u: ArrayLike) -> Float[Array, "*points"]:
        """0: there is no diffusion."""
        return jnp.zeros_like(real(u)[0])

    def kirchhoff(self, u: ArrayLike) -> Float[Array, "*points"]:
        """0: there is no diffusion."""
        return jnp.zeros_like(real(u)[0])
