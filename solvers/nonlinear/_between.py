"""Factors between rigid motions: what odometry, loop closures and priors measure."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsci.errors import is_concrete
from jaxsci.precision import matmul

from ._kernel import AbstractKernel
from ._motion import AbstractMotion, inverse_right_jacobian
from ._problem import Factors


def between(
    motion: AbstractMotion,
    name: str,
    indices: Any,
    measurement: Any,
    information: Any = None,
    kernel: AbstractKernel | None = None,
) -> Factors:
    """Factors that measure where one motion is, seen from another.

    ```
    r = Log(Z^-1 X_i^-1 X_j),   J_j = Jr^-1(r),   J_i = -Jr^-1(r) Ad(X_j^-1 X_i)
    ```

    with the full logarithm of the group (as GTSAM; g2o's own residual in 2-D is another cost), and
    the inverse right Jacobian `Jr^-1`. Where `r = 0`, `J_j = I` and `J_i = -Ad(Z^-1)`.

    **Arguments:**

    - `motion`: `SE2()` or `SE3()`.
    - `name`: the variable group.
    - `indices`: `i` and `j` of each factor, `(F, 2)`.
    - `measurement`: `Z`, `(F, ambient)`.
    - `information`: the inverse covariance of `r`, `(F, dim, dim)`, in the order of the tangent
        (translation first); the identity if `None`.
    - `kernel`: as of [`jaxsci.solvers.nonlinear.Factors`][].

    **Raises:** `ValueError` if an information matrix is not positive semidefinite.
    """
    made = _Between(motion)
    return Factors(
        made.residual,
        (name, name),
        indices,
        measurement,
        sqrt_information("between", information),
        kernel,
        made.jacobian,
        made.jacobian_at_zero,
    )


def prior(
    motion: AbstractMotion,
    name: str,
    indices: Any,
    measurement: Any,
    information: Any = None,
    kernel: AbstractKernel | None = None,
) -> Factors:
    """Factors that measure motions themselves: `r = Log(Z^-1 X)`, `J = Jr^-1(r)`.

    **Arguments**, **Raises:** as [`jaxsci.solvers.nonlinear.between`][]; `indices` is `(F,)`.
    """
    made = _Prior(motion)
    return Factors(
        made.residual,
        (name,),
        indices,
        measurement,
        sqrt_information("prior", information),
        kernel,
        made.jacobian,
        made.jacobian_at_zero,
    )


class _Between(eqx.Module):
    motion: AbstractMotion

    def residual(self, xi: Array, xj: Array, z: Array) -> Array:
        return self.motion.log(self.motion.between(z, self.motion.between(xi, xj)))

    def jacobian(self, xi: Array, xj: Array, z: Array) -> tuple[Array, Array]:
        seen = self.motion.between(xi, xj)
        along = inverse_right_jacobian(self.motion, self.motion.log(self.motion.between(z, seen)))
        return -matmul(along, _adjoint_of_inverse(self.motion, seen)), along

    def jacobian_at_zero(self, z: Array) -> tuple[Array, Array]:
        return -_adjoint_of_inverse(self.motion, z), jnp.eye(self.motion.dim, dtype=z.dtype)


class _Prior(eqx.Module):
    motion: AbstractMotion

    def residual(self, x: Array, z: Array) -> Array:
        return self.motion.local(z, x)

    def jacobian(self, x: Array, z: Array) -> tuple[Array]:
        return (inverse_right_jacobian(self.motion, self.motion.local(z, x)),)

    def jacobian_at_zero(self, z: Array) -> tuple[Array]:
        return (jnp.eye(self.motion.dim, dtype=z.dtype),)


def _adjoint_of_inverse(motion: AbstractMotion, x: Array) -> Array:
    return motion.adjoint(motion.between(x, motion.identity(x.dtype)))


def sqrt_information(function: str, information: Any) -> Array | None:
    """`W` with `W'W` the information matrix, upper triangular where that is positive definite.

    **Raises:** `ValueError` naming the first matrix that is not positive semidefinite.
    """
    if information is None:
        return None
    if not is_concrete(information):
        return jnp.swapaxes(jnp.linalg.cholesky(information), -1, -2)
    given = np.asarray(information, np.float64)
    if given.ndim != 3 or given.shape[1] != given.shape[2]:
        raise ValueError(
            f"`{function}(information=...)`: expected shape (factors, dim, dim), got {given.shape}"
        )
    try:
        root = np.swapaxes(np.linalg.cholesky(given), 1, 2)
    except np.linalg.LinAlgError:
        # Semidefinite ones have a root too, which is not triangular.
        value, vector = np.linalg.eigh((given + np.swapaxes(given, 1, 2)) / 2)
        bad = value[:, 0] < -1e-9 * np.maximum(value[:, -1], 0)
        if bad.any() or not np.isfinite(value).all():
            row = int(bad.argmax())
            raise ValueError(
                f"`{function}(information=...)`: expected positive semidefinite matrices, got the "
                f"smallest eigenvalue {value[row, 0]:.3g} in factor {row} ({int(bad.sum())} such); "
                "replace them, e.g. by a multiple of the identity"
            ) from None
        root = np.sqrt(np.maximum(value, 0))[:, :, None] * np.swapaxes(vector, 1, 2)
    return jnp.asarray(root)
