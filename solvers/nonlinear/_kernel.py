"""Robust kernels: how much a large residual may still pull."""

import abc

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float


def _float(width) -> Array:
    return jnp.asarray(width, jnp.result_type(float))


class AbstractKernel(eqx.Module):
    """A function `rho(s)` of the squared whitened norm `s` of one factor's residual.

    The cost of the factor is `rho(s) / 2`; `rho(s) = s + O(s^2)`, so that small residuals count
    as without a kernel. Solvers use the slope: the factor is weighted by `rho'(s)`.

    - `rho(s)`, `weight(s)`: the function and its derivative, of one number.
    - `width`: beyond how many standard deviations a residual counts as large.
    """

    width: eqx.AbstractVar[Float[Array, ""]]

    @abc.abstractmethod
    def rho(self, s: Float[Array, ""]) -> Array:
        """The kernel."""

    @abc.abstractmethod
    def weight(self, s: Float[Array, ""]) -> Array:
        """Its derivative, at most 1."""


class Huber(AbstractKernel):
    """Quadratic up to `width` standard deviations, linear beyond.

    ```
    rho(s) = s  if  s <= width^2,  else  2 width sqrt(s) - width^2
    ```

    Convex, so that it adds no local minima; an outlier still pulls with a constant force.
    """

    width: Float[Array, ""] = eqx.field(default=1.345, converter=_float)

    def rho(self, s):
        width, far, root = self._parts(s)
        return jnp.where(far, 2 * width * root - width * width, s)

    def weight(self, s):
        width, far, root = self._parts(s)
        return jnp.where(far, width / root, 1)

    def _parts(self, s):
        width = self.width.astype(s.dtype)
        far = s > width * width
        # A square root has no derivative at zero.
        return width, far, jnp.sqrt(jnp.where(far, s, 1))


class Cauchy(AbstractKernel):
    """`rho(s) = width^2 log(1 + s / width^2)`: an outlier's pull falls like one over its size."""

    width: Float[Array, ""] = eqx.field(default=2.385, converter=_float)

    def rho(self, s):
        square = jnp.square(self.width).astype(s.dtype)
        return square * jnp.log1p(s / square)

    def weight(self, s):
        square = jnp.square(self.width).astype(s.dtype)
        return square / (square + s)


class GemanMcClure(AbstractKernel):
    """`rho(s) = width^2 s / (width^2 + s)`: at most `width^2`, so that outliers stop pulling.

    Not convex: start near the solution, or see [`jaxsci.solvers.nonlinear.graduated`][].
    """

    width: Float[Array, ""] = eqx.field(default=2.0, converter=_float)

    def rho(self, s):
        square = jnp.square(self.width).astype(s.dtype)
        return s * (square / (square + s))

    def weight(self, s):
        square = jnp.square(self.width).astype(s.dtype)
        return jnp.square(square / (square + s))
