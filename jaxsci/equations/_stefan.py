"""The Stefan problem, whose front is a jump: a melting or freezing interface."""

from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._abstract import AbstractEquation
from ._numbers import inside_or_nan, parameter, positive_sqrt, real

_ROOT_PI = float(np.sqrt(np.pi))
_NEWTON_STEPS = 20


def stefan_constants(threshold: ArrayLike) -> tuple[Float[Array, ""], Float[Array, ""]]:
    """The constants `(alpha, c1)` of the Stefan problem's solution.

    ```
    u* erf(z) z exp(z^2) = (1 - u*) / sqrt(pi),    alpha = 2 z,    c1 = (1 - u*) / erf(z)
    ```

    Newton's method on the logarithm of the equation in the unknown `log z`, where the function is
    increasing and convex, so that it converges from any start; 20 steps suffice for
    thresholds from 1e-6 on. Derivatives of any order come from the implicit
    function theorem, not from the steps.

    **Arguments:**

    - `threshold`: `u*`, a scalar between 0 and 1 (both excluded).

    **Returns:** `alpha` and `c1`, in the dtype of `threshold`.

    !!! example
        >>> from jaxsci.equations import stefan_constants
        >>> alpha, c1 = stefan_constants(0.5)
        >>> print(f"{alpha:.4f} {c1:.4f}")
        1.2401 0.8072
    """
    (u,) = real(threshold)
    return _constants(u)


@jax.jit
def _constants(u: Array) -> tuple[Array, Array]:
    log_odds = jnp.log(u) - jnp.log1p(-u)

    def residual(y: Array) -> Array:
        z = jnp.exp(y)
        return log_odds + jnp.log(_ROOT_PI * jax.scipy.special.erf(z)) + y + z**2

    def newton(f, start: Array) -> Array:
        slope = jax.grad(f)
        return jax.lax.fori_loop(0, _NEWTON_STEPS, lambda _, y: y - f(y) / slope(y), start)

    root = jax.lax.custom_root(
        residual, jnp.zeros_like(u), newton, lambda tangent, v: v / tangent(jnp.ones_like(v))
    )
    z = jnp.exp(root)
    return 2 * z, (1 - u) / jax.scipy.special.erf(z)


class Stefan(AbstractEquation):
    """The one-phase Stefan problem as a porous medium equation with a discontinuous diffusivity.

    ```
    u_t = (k(u) u_x)_x,    k(u) = 1 if u >= u* else 0,    u(t, 0) = 1,    u(0, x) = 0
    u(t, x) = 1 - c1 erf(x / (2 sqrt t))  for x <= alpha sqrt t,  else 0
    ```

    At the front `x = alpha sqrt t` the solution jumps from `u*` to 0. At `t = 0`, where the mass
    grows infinitely fast, derivatives in `t` are given as 0.

    **Arguments:**

    - `threshold`: `u*`, between 0 and 1 (both excluded).

    **Raises:** `ValueError` if `threshold` is not a scalar between 0 and 1.

    !!! example
        >>> from jaxsci.equations import Stefan
        >>> equation = Stefan(0.6)
        >>> print(f"{equation.shock_position(0.05):.3f} {equation.mass(0.05):.4f}")
        0.235 0.1859

    ??? cite "Reference"
        Crank, *Free and Moving Boundary Problems*, Oxford University Press, 1984, section 1.3.
    """

    threshold: Float[Array, ""]

    name: ClassVar[str] = "stefan"
    parameter_name: ClassVar[str] = "threshold"
    t_bounds: ClassVar[tuple[float, float]] = (0.0, 0.1)
    x_bounds: ClassVar[tuple[float, float]] = (0.0, 1.0)
    train_range: ClassVar[tuple[float, float]] = (0.55, 0.7)
    test_values: ClassVar[tuple[float, ...]] = (0.5, 0.6)
    evaluation_time: ClassVar[float] = 0.05
    periodic: ClassVar[bool] = False
    diffusive: ClassVar[bool] = True

    def __init__(self, threshold: ArrayLike):
        self.threshold = parameter("Stefan", "threshold", threshold, 0.0, 1.0)

    def solution(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact solution; at `t = 0` it is 1 at `x = 0` and 0 elsewhere."""
        t, x = real(t, x)
        alpha, c1 = stefan_constants(self.threshold.astype(t.dtype))
        root_t = positive_sqrt(t)
        started = root_t > 0
        # Double where: x / sqrt(t) is 0 / 0 at the corner.
        z = x / (2 * jnp.where(started, root_t, jnp.ones_like(root_t)))
        profile = jnp.where(started, 1 - c1 * jax.scipy.special.erf(z), jnp.ones_like(z))
        return jnp.where(x <= alpha * root_t, profile, jnp.zeros_like(profile))

    def flux(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact flux `c1 exp(-x^2 / 4t) / sqrt(pi t)` behind the front, 0 ahead of it.

        It is infinite at `(0, 0)`, where the value at the boundary jumps from 0 to 1.
        """
        t, x = real(t, x)
        alpha, c1 = stefan_constants(self.threshold.astype(t.dtype))
        root_t = positive_sqrt(t)
        started = root_t > 0
        safe = jnp.where(started, root_t, jnp.ones_like(root_t))  # double where: as above
        behind = c1 / (_ROOT_PI * safe) * jnp.exp(-((x / (2 * safe)) ** 2))
        behind = jnp.where(started, behind, jnp.full_like(behind, jnp.inf))
        return jnp.where(x <= alpha * root_t, behind, jnp.zeros_like(behind))

    def mass(self, t: ArrayLike) -> Float[Array, "*times"]:
        """The exact mass in [0, 1], also after the front has left it at `t = alpha^-2`.

        ```
        b(t) = L - 2 c1 sqrt(t) (z erf(z) + (exp(-z^2) - 1) / sqrt(pi)),
        L = min(alpha sqrt(t), 1),    z = L / (2 sqrt t)
        ```

        which is `2 c1 sqrt(t / pi)` while the front is inside.
        """
        (t,) = real(t)
        alpha, c1 = stefan_constants(self.threshold.astype(t.dtype))
        root_t = positive_sqrt(t)
        left = alpha * root_t > 1
        z = 1 / (2 * jnp.where(left, root_t, jnp.ones_like(root_t)))
        covered = z * jax.scipy.special.erf(z) + jnp.expm1(-(z**2)) / _ROOT_PI
        return jnp.where(left, 1 - 2 * c1 * root_t * covered, 2 * c1 * root_t / _ROOT_PI)

    def shock_position(self, t: ArrayLike) -> Float[Array, "*times"]:
        """The front `alpha sqrt t`; NaN once it has left the domain."""
        (t,) = real(t)
        alpha, _ = stefan_constants(self.threshold.astype(t.dtype))
        return inside_or_nan(alpha * positive_sqrt(t), self.x_bounds)

    def convection(self, u: ArrayLike) -> Float[Array, "*points"]:
        """0: there is no convection."""
        return jnp.zeros_like(real(u)[0])

    def conductivity(self, u: ArrayLike) -> Float[Array, "*points"]:
        """1 where `u >= u*`, else 0."""
        (u,) = real(u)
        return (u >= self.threshold.astype(u.dtype)).astype(u.dtype)

    def kirchhoff(self, u: ArrayLike) -> Float[Array, "*points"]:
        """`max(u - u*, 0)`."""
        (u,) = real(u)
        return jnp.maximum(u - self.threshold.astype(u.dtype), 0)
