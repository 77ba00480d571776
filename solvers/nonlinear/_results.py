"""How a minimisation ended, in sentences, and what it returns."""

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._problem import Values


class MINIMISE_RESULTS(eqx.Enumeration):
    """How [`jaxsci.solvers.nonlinear.minimise`][] ended; `MINIMISE_RESULTS[result]` says it."""

    successful = ""
    max_steps_reached = (
        "The tolerance was not reached in `max_steps` iterations: raise `max_steps` or `rtol`, or "
        "start nearer to the solution."
    )
    non_finite_start = (
        "The cost at the start is not finite: look for NaN or overflow in the start, the "
        "measurements or the weights."
    )
    non_finite_step = (
        "A step led to a cost that is not finite; the values before it are returned. Use "
        "`LevenbergMarquardt()`, which would have shortened it."
    )
    diverged = (
        "The cost ended above where it started: full Gauss-Newton steps do not lead downhill from "
        "there. Use `LevenbergMarquardt()`, a tighter linear tolerance, or a better start."
    )
    stalled = (
        "No step along which the cost decreases was found, however short, though the model "
        "predicts one: check the Jacobians, or compute residuals in a wider dtype."
    )
    unresolved = (
        "The residuals are computed in a dtype so narrow that their rounding hides whether the "
        "cost is at its minimum: keep the roles `residual` and `update` of the policy in float32 "
        "or float64."
    )
    singular = (
        "The linear system is singular, so that the minimum is not unique: hold a variable, add a "
        "prior, or use `LevenbergMarquardt()`."
    )
    linear_max_steps_reached = (
        "The last linear system was not solved to its tolerance in the steps that were allowed: "
        "raise `max_steps` of the linear solver, use a better preconditioner, or "
        "`linear='cholesky'`."
    )
    linear_breakdown = (
        "The linear solver broke down (overflow of a narrow dtype, or a preconditioner that is not "
        "positive definite): choose a wider policy, or another preconditioner."
    )


class History(eqx.Module):
    """What each iteration did; arrays of length `max_steps + 1`, NaN (or -1) beyond the last.

    Entry `k` is the state before step `k`; the step's own numbers are with it.

    - `cost`: at the accepted point.
    - `damping`: of the linear system (of a trust region: its radius).
    - `linear_steps`: of conjugate gradients; 0 for a direct solve.
    - `accepted`: whether the point that the step before led to was accepted: 1 or 0.
    """

    cost: Float[Array, " steps"]
    damping: Float[Array, " steps"]
    linear_steps: Int[Array, " steps"]
    accepted: Int[Array, " steps"]

    @staticmethod
    def empty(length: int, dtype) -> "History":
        """Of no iteration yet, with room for `length`."""
        nan, none = jnp.full((length,), jnp.nan, dtype), jnp.full((length,), -1, jnp.int32)
        return History(nan, nan, none, none)


class Solution(eqx.Module):
    """Where a minimisation ended; all arrays, so that it works inside `jit`.

    - `values`: the point of every variable, `(N, ambient)` per group, in the update dtype.
    - `low`: what the update dtype cannot hold of them, if the update is compensated (the point is
        `values + low`); else `None`.
    - `cost`: `F` there.
    - `steps`: iterations, i.e. linear systems solved.
    - `linear_steps`: steps of conjugate gradients in all.
    - `history`: a [`jaxsci.solvers.nonlinear.History`][].
    - `result`: a member of [`jaxsci.solvers.nonlinear.MINIMISE_RESULTS`][].
    """

    values: Values
    low: Values | None
    cost: Float[Array, ""]
    steps: Int[Array, ""]
    linear_steps: Int[Array, ""]
    history: History
    result: MINIMISE_RESULTS

    def to_numpy(self) -> dict[str, np.ndarray]:
        """The values in float64 numpy, with what the compensated update kept of them."""
        low = self.low or {}
        return {
            name: np.asarray(value, np.float64) + np.asarray(low.get(name, 0.0), np.float64)
            for name, value in self.values.items()
        }

    def __str__(self) -> str:
        said = MINIMISE_RESULTS[self.result] or "converged."
        steps, linear = int(self.steps), int(self.linear_steps)
        return f"cost {float(self.cost):.10g} after {steps} steps ({linear} of CG): {said}"
