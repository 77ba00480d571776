"""A primal-dual interior point for small dense monotone complementarity problems.

A convex quadratic program is solved through its dual, where the covariance enters only by
products: with `v = mean + cov rows' multipliers`, nothing ever needs an inverse, or a factor, of
a covariance that may be singular.
"""

import abc
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxsci.precision import matmul

Solve = Callable[[Array, Array], tuple[Array, Array]]


class AbstractComplementarity(eqx.Module):
    """Find `z >= 0` and free `x` with `s(z, x) >= 0`, `s z = 0` and `e(z, x) = 0`.

    `s` and `e` are affine and together monotone, which is what the optimality conditions of a
    convex quadratic program are. Multipliers that say the same in the constraints' own terms are
    a `Multipliers` (an array or a tuple of arrays); `Working` is a guess of what binds.
    """

    @abc.abstractmethod
    def sizes(self) -> tuple[int, int]:
        """Lengths of `z` and of `x`."""

    @property
    @abc.abstractmethod
    def dtype(self) -> jnp.dtype:
        """Of every array in it."""

    @abc.abstractmethod
    def residual(self, z: Array, x: Array) -> tuple[Array, Array]:
        """`s(z, x)` and `e(z, x)`."""

    @abc.abstractmethod
    def factor(self, d: Array) -> Solve:
        """Solver of `(ds + d dz, de) = right`, a linear system in `(dz, dx)`."""

    @abc.abstractmethod
    def multipliers(self, z: Array, x: Array) -> Any:
        """The multipliers that `(z, x)` stands for."""

    @abc.abstractmethod
    def natural_residual(self, multipliers: Any) -> Float[Array, ""]:
        """Zero exactly at a solution; of the size of the error elsewhere."""

    @abc.abstractmethod
    def working(self, multipliers: Any) -> Any:
        """What binds, judged from multipliers near the solution."""

    @abc.abstractmethod
    def solve_working(self, working: Any) -> Any:
        """Multipliers for which exactly `working` binds; differentiable in the problem."""

    @abc.abstractmethod
    def contradicts(self, multipliers: Any) -> Bool[Array, ""]:
        """Whether the multipliers prove that no point meets the constraints."""


class Iterate(eqx.Module):
    """Where the interior point stands after `steps` steps."""

    z: Float[Array, " pairs"]
    s: Float[Array, " pairs"]
    x: Float[Array, " free"]
    error: Float[Array, ""]
    steps: Int[Array, ""]
    stop: Bool[Array, ""]


def factor_shifted(matrix: Float[Array, "m m"], shift: Float[Array, " m"]):
    """Solver of `(matrix + diag(shift)) x = right` for a positive *semi*-definite matrix.

    Cholesky after scaling to a unit diagonal, with a shift at rounding level, raised until the
    factor exists, and refinement, which takes the shift back where the system is consistent. A
    row of zeros gets `x = 0`.
    """
    eps = float(jnp.finfo(matrix.dtype).eps)
    m = matrix.shape[0]
    full = matrix + jnp.diag(shift)
    diagonal = jnp.diagonal(full)
    # Both branches of `where` must be finite for gradients.
    there = diagonal > jnp.finfo(matrix.dtype).tiny
    scale = jnp.where(there, lax.rsqrt(jnp.where(there, diagonal, 1.0)), 0.0)
    scaled = full * scale[:, None] * scale[None, :]

    def attempt(jitter):
        return jnp.linalg.cholesky(scaled.at[jnp.arange(m), jnp.arange(m)].set(1.0 + jitter))

    def failed(state):
        jitter, chol = state
        return ~jnp.all(jnp.isfinite(chol)) & (jitter < 1e-2)

    def raise_jitter(state):
        jitter = state[0] * 30.0
        return jitter, attempt(jitter)

    first = jnp.asarray(4.0 * eps * max(m, 4) ** 0.5, matrix.dtype)
    _, chol = lax.while_loop(failed, raise_jitter, (first, attempt(first)))

    def once(right):
        return scale * jsl.cho_solve((chol, True), scale * right)

    def solve(right):
        x = once(right)
        for _ in range(2):
            x = x + once(right - matmul(full, x))
        return x

    return solve


def solve_masked(
    matrix: Float[Array, "m m"], right: Float[Array, " m"], mask: Bool[Array, " m"]
) -> Float[Array, " m"]:
    """`x` with `(matrix x - right)_i = 0` where `mask`, `x_i = 0` elsewhere; differentiable."""
    m = mask.astype(matrix.dtype)
    kept = matrix * m[:, None] * m[None, :]

    def matvec(x):
        return matmul(kept, x) + (1.0 - m) * x

    def solve(_, r):
        return factor_shifted(lax.stop_gradient(kept), 1.0 - m)(r)

    return lax.custom_linear_solve(matvec, m * right, solve, symmetric=True)


def _step_length(value: Array, change: Array) -> Array:
    """The largest step in [0, 1] that keeps `value + step change` nonnegative."""
    shrinks = change < 0
    ratio = jnp.where(shrinks, -value / jnp.where(shrinks, change, -1.0), 1.0)
    return jnp.minimum(1.0, jnp.min(ratio, initial=1.0))


def interior_point(problem: AbstractComplementarity, *, max_steps: int) -> Iterate:
    """Mehrotra's predictor-corrector method from an infeasible start.

    **Arguments:**

    - `problem`: scaled so that its numbers are standard deviations.
    - `max_steps`: at most so many steps (static). 10 to 25 are usual.

    **Returns:** the last `Iterate` whose numbers are finite.

    !!! cite "Reference"
        Mehrotra, *On the implementation of a primal-dual interior point method*, SIAM J. Optim.
        2 (1992). Differs in that: 1. one step length serves both sides, as a quadratic objective
        ties them; 2. the equations are reduced to the multipliers alone.
    """
    pairs, free = problem.sizes()
    dtype = problem.dtype
    constant, rest = problem.residual(jnp.zeros(pairs, dtype), jnp.zeros(free, dtype))
    tolerance = float(jnp.finfo(dtype).eps) ** 0.6
    one = jnp.ones(pairs, dtype)

    def begin():
        # The least-squares start of Vandenberghe's CVXOPT note: slack and multiplier are equal
        # and opposite, then moved into the positive orthant.
        z, x = problem.factor(one)(-constant, -rest)
        low, high = -jnp.max(z, initial=-jnp.inf), -jnp.min(z, initial=jnp.inf)
        s = -z + jnp.where(low > 0, 0.0, 1.0 - low)
        z = z + jnp.where(high < 0, 0.0, 1.0 + high)
        return z, s, x

    def error_of(z, s, x):
        want, e = problem.residual(z, x)
        complement = jnp.abs(jnp.minimum(s, z))
        return jnp.max(jnp.concatenate([jnp.abs(want - s), jnp.abs(e), complement]), initial=0.0)

    def body(state: Iterate) -> Iterate:
        z, s, x = state.z, state.s, state.x
        want, e = problem.residual(z, x)
        solve = problem.factor(s / z)

        def direction(product):
            # z ds + s dz = -product, and the residuals vanish to first order.
            dz, dx = solve(-(want - s) - product / z, -e)
            return dz, -(product + s * dz) / z, dx

        gap = jnp.mean(s * z)
        dz, ds, _ = direction(s * z)
        length = jnp.minimum(_step_length(z, dz), _step_length(s, ds))
        after = jnp.mean((s + length * ds) * (z + length * dz))
        centre = (after / gap) ** 3
        dz, ds, dx = direction(s * z + ds * dz - centre * gap)
        length = 0.99 * jnp.minimum(_step_length(z, dz), _step_length(s, ds))
        length = jnp.where(length > 0.9, jnp.minimum(1.0, length / 0.99 * 0.999), length)
        z_new, s_new, x_new = z + length * dz, s + length * ds, x + length * dx
        error = error_of(z_new, s_new, x_new)
        positive = jnp.all(z_new > 0) & jnp.all(s_new > 0)
        good = jnp.isfinite(error) & jnp.all(jnp.isfinite(z_new)) & positive
        multipliers = problem.multipliers(z_new, x_new)
        stuck = length < 1e-8
        stop = ~good | (error <= tolerance) | stuck | problem.contradicts(multipliers)
        keep = lambda new, old: jnp.where(good, new, old)  # noqa: E731
        return Iterate(
            z=keep(z_new, z),
            s=keep(s_new, s),
            x=keep(x_new, x),
            error=keep(error, state.error),
            steps=state.steps + 1,
            stop=stop,
        )

    z, s, x = begin()
    usable = jnp.all(jnp.isfinite(z)) & jnp.all(jnp.isfinite(x))
    first = Iterate(
        z=jnp.where(usable, z, 1.0),
        s=jnp.where(usable, s, 1.0),
        x=jnp.where(usable, x, 0.0),
        error=jnp.asarray(jnp.inf, dtype),
        steps=jnp.zeros((), int),
        stop=jnp.asarray(False),
    )
    return lax.while_loop(lambda i: ~i.stop & (i.steps < max_steps), body, first)
