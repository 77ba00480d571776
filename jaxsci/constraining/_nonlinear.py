"""Conserved quantities that are no sums of the field, such as its energy."""

from collections.abc import Callable
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lineax as lx
import optimistix as optx
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxsci.conservation import LinearConstraint, condition_with_certificate
from jaxsci.errors import require_finite
from jaxsci.gaussians import Gaussian, null_projector
from jaxsci.precision import matmul
from jaxsci.solvers.linear import CGNR


class NonlinearLaw(eqx.Module):
    """`h(u) = b`, for any differentiable `h` of the field: an energy, an entropy.

    The mean is moved to the nearest field that satisfies it (in the metric of the covariance, and
    without leaving what holds already), by sequential linearisation and
    Newton's method for its fixed point:

    ```
    u <- mean - C J' (J C J')^-1 (h(u) - b + J (mean - u)),      J = dh/du
    ```

    and the covariance is conditioned on the last linearisation, to first order what the law leaves
    of it. Derivatives of the result are by the implicit function theorem. (C) What is found is a
    stationary point: the nearest field if the law is met within a few deviations of the mean; far
    from it there may be several, so look at `moved` of the certificate. Each step costs `k`
    products with the covariance and a `k x k` solve; memory O(n k).

    **Arguments:**

    - `function`: `h`, from the field in the shape that was passed to
        [`jaxsci.constraining.constrain`][] (flat without one) to `(k,)` or a number; arrays
        in it, if it is a module, are differentiated by `impose` and held by `constrain`.
    - `b`: shape `(k,)` or a number.
    - `max_steps`: of Newton's method, each some products with the step's derivative.

    **Raises:** `TypeError` for what cannot be called, `ValueError` if `b` is not finite.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.constraining import NonlinearLaw, impose
        >>> from jaxsci.gaussians import Gaussian
        >>> energy = NonlinearLaw(lambda u: jnp.sum(u**2), 4.0)
        >>> impose(Gaussian.diagonal(jnp.ones(4), jnp.ones(4) / 9), conservation=energy).mean
        Array([1., 1., 1., 1.], dtype=float32)
        >>> impose(Gaussian.diagonal(jnp.full(4, 1.5), jnp.ones(4)), conservation=energy).mean
        Array([1., 1., 1., 1.], dtype=float32)
    """

    function: Callable[[Array], Array]
    b: Float[Array, " k"]
    max_steps: int = eqx.field(static=True)

    def __init__(self, function: Callable[[Array], Array], b: ArrayLike, *, max_steps: int = 64):
        if not callable(function):
            raise TypeError(
                f"`NonlinearLaw(function)`: expected a function of the field, got "
                f"{type(function).__name__}"
            )
        require_finite("NonlinearLaw", "b", b)
        if max_steps < 1:
            raise ValueError(f"`NonlinearLaw(max_steps=...)`: expected at least 1, got {max_steps}")
        self.function, self.b, self.max_steps = function, jnp.atleast_1d(jnp.asarray(b)), max_steps

    @property
    def rows(self) -> int:
        """The number of quantities, `k`."""
        return self.b.size

    def of(self, field: Float[Array, " n"], shape: tuple[int, ...]) -> Float[Array, " k"]:
        """`h(u)`."""
        found = jnp.atleast_1d(self.function(field.reshape(shape)))
        if found.shape != self.b.shape:
            raise ValueError(
                f"`NonlinearLaw(function)`: expected it to return shape {self.b.shape}, as `b`, "
                f"got {found.shape}"
            )
        return found

    def missed(
        self, field: Float[Array, " n"], shape: tuple[int, ...]
    ) -> tuple[Float[Array, " k"], Float[Array, " k"]]:
        """`h(u) - b`, and what of it is rounding."""
        h, J = _linearised((self,), field, shape)
        b = self.b.astype(h.dtype)
        size = matmul(jnp.abs(J), jnp.abs(field)) + jnp.abs(b)
        return h - b, 64 * jnp.finfo(h.dtype).eps * size


class Projected(NamedTuple):
    """The Gaussian on the laws, and whether the iteration has settled there."""

    gaussian: Gaussian
    settled: Bool[Array, ""]


def project_nonlinear(
    gaussian: Gaussian,
    laws: tuple[NonlinearLaw, ...],
    shape: tuple[int, ...],
    spread: Float[Array, " n"],
) -> Projected:
    """The nearest mean that satisfies the laws, and the covariance conditioned on it.

    `spread` holds the standard deviations before anything was imposed: what is left of a law's
    variance is rounding or not beside these.
    """
    b = jnp.concatenate([law.b.astype(gaussian.mean.dtype) for law in laws])

    def step(u: Array, prior: tuple[Any, Any]) -> Array:
        (gaussian, laws), b = prior
        h, J = _linearised(laws, u, shape)
        forward = jax.vmap(gaussian.cov.mv)(J)
        off = h - b + matmul(J, gaussian.mean - u)
        return gaussian.mean - matmul(forward.T, _solved(J, forward, spread, off))

    def moved(u: Array, prior: tuple[Any, Any]) -> Array:
        return step(u, prior) - u

    # Repeating the step converges where the laws are nearly linear over the distance; Newton's
    # method for its fixed point also where they are not. Its derivative is the identity but for
    # the laws' curvature over that distance: few steps of conjugate gradients.
    eps = float(jnp.finfo(gaussian.mean.dtype).eps)
    linear = CGNR(rtol=64 * eps, max_steps=200, stopping="energy")
    prior = ((gaussian, laws), b)
    solution = optx.root_find(
        moved,
        optx.Newton(rtol=16 * eps, atol=16 * eps, linear_solver=linear),
        jax.lax.stop_gradient(step(gaussian.mean, prior)),
        args=prior,
        max_steps=max(law.max_steps for law in laws),
        throw=False,
        adjoint=optx.ImplicitAdjoint(linear_solver=linear),
    )
    mean = solution.value
    _, J = _linearised(laws, mean, shape)
    tangent = LinearConstraint(lx.MatrixLinearOperator(J), matmul(J, mean))
    around, _ = condition_with_certificate(Gaussian(mean, gaussian.cov), tangent)
    # Rounding keeps the iteration from standing still: what counts is whether the laws hold.
    missed = [law.missed(mean, shape) for law in laws]
    settled = jnp.stack([jnp.all(jnp.abs(off) <= rounding) for off, rounding in missed]).all()
    return Projected(Gaussian(mean, around.cov), settled)


def _solved(J: Array, forward: Array, spread: Array, off: Array) -> Array:
    """`(J C J')^-1 off` with `forward = J C`, of least norm where laws repeat one another."""
    k, eps = len(J), jnp.finfo(J.dtype).eps
    variance = jnp.sum(J * forward, axis=1)
    alive = variance > 32 * eps * matmul(jnp.abs(J), spread) ** 2
    scale = jax.lax.stop_gradient(jnp.where(alive, 1 / jnp.sqrt(jnp.where(alive, variance, 1)), 0))
    gram = scale[:, None] * matmul(J, forward.T) * scale[None, :]
    null = null_projector((gram + gram.T) / 2, 8 * k * eps)
    factor = jsl.cho_factor(gram + null, lower=True)
    seen = scale * off
    return scale * jsl.cho_solve(factor, seen - matmul(null, seen))


def _linearised(
    laws: tuple[NonlinearLaw, ...], u: Array, shape: tuple[int, ...]
) -> tuple[Array, Array]:
    def all_of(field: Array) -> tuple[Array, Array]:
        found = jnp.concatenate([law.of(field, shape).astype(field.dtype) for law in laws])
        return found, found

    J, h = jax.jacrev(all_of, has_aux=True)(u)
    return h, J
