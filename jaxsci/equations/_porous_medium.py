"""The porous medium equation, whose front is continuous but has no derivative."""

from typing import ClassVar

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from ._abstract import AbstractEquation
from ._numbers import inside_or_nan, parameter, positive_power, real


class PorousMedium(AbstractEquation):
    """The porous medium equation with a travelling wave for a solution.

    ```
    u_t = (u^m u_x)_x,    u(t, x) = (m (t - x)_+)^(1/m)
    ```

    The wave moves at speed 1 into empty ground. At the front `x = t` the solution is continuous
    and, for `m > 1`, has an infinite slope; derivatives are 0 ahead of the front.

    **Arguments:**

    - `exponent`: `m > 0`.

    **Raises:** `ValueError` if `exponent` is not a positive finite scalar.

    !!! example
        >>> from jaxsci.equations import PorousMedium
        >>> equation = PorousMedium(2.0)
        >>> print(f"{equation.solution(0.5, 0.25):.4f}")
        0.7071
        >>> float(equation.shock_position(0.5))
        0.5

    ??? cite "Reference"
        Vazquez, *The Porous Medium Equation*, Oxford University Press, 2007.
    """

    exponent: Float[Array, ""]

    name: ClassVar[str] = "porous-medium"
    parameter_name: ClassVar[str] = "exponent"
    t_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    x_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    train_range: ClassVar[tuple[float, float]] = (1.0, 6.0)
    test_values: ClassVar[tuple[float, ...]] = (1.0, 3.0, 6.0)
    evaluation_time: ClassVar[float] = 0.5
    periodic: ClassVar[bool] = False
    diffusive: ClassVar[bool] = True

    def __init__(self, exponent: ArrayLike):
        self.exponent = parameter("PorousMedium", "exponent", exponent, 0.0)

    def solution(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact solution `(m (t - x)_+)^(1/m)`."""
        t, x = real(t, x)
        m = self.exponent.astype(t.dtype)
        return positive_power(m * (t - x), 1 / m)

    def flux(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact flux `-u^m u_x`, which equals `u`: the wave moves at speed 1."""
        return self.solution(t, x)

    def mass(self, t: ArrayLike) -> Float[Array, "*times"]:
        """The exact mass in [0, 1], also after the front has left it at `t = 1`.

        ```
        b(t) = m^(1 + 1/m) / (m + 1) (t^(1 + 1/m) - (t - 1)_+^(1 + 1/m))
        ```
        """
        (t,) = real(t)
        m = self.exponent.astype(t.dtype)
        p = 1 + 1 / m
        return m**p / (m + 1) * (positive_power(t, p) - positive_power(t - 1, p))

    def shock_position(self, t: ArrayLike) -> Float[Array, "*times"]:
        """The front `x = t`; NaN once it has left the domain."""
        (t,) = real(t)
        return inside_or_nan(t, self.x_bounds)

    def convection(self, u: ArrayLike) -> Float[Array, "*points"]:
        """0: there is no convection."""
        return jnp.zeros_like(real(u)[0])

    def conductivity(self, u: ArrayLike) -> Float[Array, "*points"]:
        """`u_+^m`."""
        (u,) = real(u)
        return positive_power(u, self.exponent.astype(u.dtype))

    def kirchhoff(self, u: ArrayLike) -> Float[Array, "*points"]:
        """`u_+^(m + 1) / (m + 1)`."""
        (u,) = real(u)
        p = self.exponent.astype(u.dtype) + 1
        return positive_power(u, p) / p
