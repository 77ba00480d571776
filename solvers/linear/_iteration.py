"""The loop of conjugate gradients on normal equations, with its residual by recurrence."""

from collections.abc import Callable
from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from ._results import CGNR_RESULTS

Stopping = Literal["gradient", "energy", "preconditioned"]

# The energy that the last so many steps gained bounds the error before them from below.
WINDOW = 8


class Normal(NamedTuple):
    """`J'J + damping` by products with `J` and `J'`, of flat vectors in the Krylov dtype."""

    forward: Callable[[Array], Array]
    adjoint: Callable[[Array], Array]
    precondition: Callable[[Array], Array]
    damping: Array


class Outcome(eqx.Module):
    """What the loop returns; `history[k]` is the norm of the gradient after `k` steps."""

    value: Float[Array, " n"]
    steps: Int[Array, ""]
    history: Float[Array, " steps"]
    result: CGNR_RESULTS


class _State(NamedTuple):
    begun: Array
    x: Array
    s: Array
    p: Array
    first: Array
    gamma: Array
    norm: Array
    energy: Array
    recent: Array
    step: Array
    history: Array
    bad: Array
    residual: Array | None


class _Moved(NamedTuple):
    """What a step along `p` gives: `s` is the gradient there, `gain` the energy gained."""

    x: Array
    s: Array
    residual: Array | None
    curvature: Array
    gain: Array


# What stopped the loop early, in the order of `_State.bad`.
_ENDS = ("overflow", "indefinite_preconditioner", "no_curvature")


def conjugate_gradients(
    normal: Normal,
    gradient: Float[Array, " n"],
    start: Float[Array, " n"],
    *,
    target: Float[Array, ""],
    rtol: Array | float,
    energy_atol: Array | float,
    max_steps: int,
    stopping: Stopping,
    record: bool,
    residual: Float[Array, " m"] | None = None,
) -> Outcome:
    """Solves `(J'J + damping) x = g`, given the gradient `g - (J'J + damping) start` at a start.

    Stops when the norm of the gradient is at most `target`; for `"energy"` also when the last
    `WINDOW` steps gained at most `rtol^2` of the energy that all steps gained, or at most
    `energy_atol`; for `"preconditioned"` when `s'Ms` has fallen by `rtol^2`. If the `residual` is
    given the gradient is recomputed from it in each step, as in CGLS.
    """
    dtype = gradient.dtype
    real, one = jnp.zeros((), dtype), jnp.ones((), dtype)
    # The first pass takes no step: it evaluates the preconditioner, which then has one place in the
    # program. The triangular solves of a factor are most of what there is to compile.
    state = _State(
        begun=jnp.zeros((), bool),
        x=start,
        s=gradient,
        p=jnp.zeros_like(gradient),
        first=one,
        gamma=one,
        norm=_norm(gradient),
        energy=real,
        recent=jnp.full((WINDOW,), jnp.inf, dtype),
        step=jnp.zeros((), jnp.int32),
        history=jnp.full((max_steps + 1 if record else 0,), jnp.nan, dtype),
        bad=jnp.zeros((), jnp.int32),
        residual=residual,
    )
    relative = jnp.asarray(rtol, dtype) ** 2
    least = jnp.asarray(energy_atol).astype(dtype)

    def converged(state: _State) -> Array:
        small = state.norm <= target
        if stopping == "energy":
            return small | (jnp.sum(state.recent) <= jnp.maximum(relative * state.energy, least))
        if stopping == "preconditioned":
            return small | (jnp.abs(state.gamma) <= relative * jnp.abs(state.first))
        return small

    def going_on(state: _State) -> Array:
        more = (state.step < max_steps) & (state.bad == 0) & ~converged(state)
        return more | ~state.begun

    def moved(state: _State) -> _Moved:
        q = normal.forward(state.p)
        curvature = jnp.vdot(q, q) + jnp.vdot(normal.damping * state.p, state.p)
        alpha = state.gamma / jnp.where(curvature > 0, curvature, 1)
        x = state.x + alpha * state.p
        if state.residual is None:
            remaining = None
            s = state.s - alpha * (normal.adjoint(q) + normal.damping * state.p)
        else:
            remaining = state.residual - alpha * q
            s = normal.adjoint(remaining) - normal.damping * x
        return _Moved(x, s, remaining, curvature, alpha * state.gamma)

    def still(state: _State) -> _Moved:
        return _Moved(state.x, state.s, state.residual, one, real)

    def advance(state: _State) -> _State:
        x, s, remaining, curvature, gain = jax.lax.cond(state.begun, moved, still, state)
        z = normal.precondition(s)
        gamma, norm = jnp.vdot(s, z), _norm(s)
        # A gradient of zero is no breakdown: the point is the answer.
        bad = jnp.where(
            jnp.isfinite(curvature) & jnp.isfinite(gain) & jnp.isfinite(norm) & jnp.isfinite(gamma),
            jnp.where(curvature <= 0, 3, jnp.where((gamma <= 0) & (norm > target), 2, 0)),
            1,
        )
        # After a preconditioner has failed the step before it was still good.
        keep = (bad == 0) | (bad == 2)
        step = jnp.where(state.begun, state.step + 1, state.step)
        history = state.history
        if record:
            history = history.at[step].set(jnp.where(keep | ~state.begun, norm, jnp.nan))
        recent = state.recent.at[state.step % WINDOW].set(gain)
        return _State(
            begun=jnp.ones((), bool),
            x=jnp.where(keep, x, state.x),
            s=s,
            p=z + gamma / state.gamma * state.p,
            first=jnp.where(state.begun, state.first, gamma),
            gamma=gamma,
            norm=norm,
            energy=state.energy + gain,
            recent=jnp.where(state.begun, recent, state.recent),
            step=jnp.where(keep, step, state.step),
            history=history,
            bad=bad.astype(jnp.int32),
            residual=remaining,
        )

    last = jax.lax.while_loop(going_on, advance, state)
    result = CGNR_RESULTS.where(
        converged(last), CGNR_RESULTS.successful, CGNR_RESULTS.max_steps_reached
    )
    for number, name in enumerate(_ENDS, start=1):
        result = CGNR_RESULTS.where(last.bad == number, getattr(CGNR_RESULTS, name), result)
    return Outcome(last.x, last.step, last.history, result)


def _norm(vector: Array) -> Array:
    return jnp.sqrt(jnp.vdot(vector, vector))
