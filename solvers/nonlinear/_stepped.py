"""The same loop led by the host, an iteration at a time, for those who watch it."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ._compile import compiled
from ._loop import Prepared, State, advance, conclusion, initial
from ._results import Solution


class Iteration(NamedTuple):
    """What is known of a minimisation after an iteration, as plain numbers.

    - `step`: the systems solved before it; 0 for the start.
    - `cost`: at the accepted point.
    - `damping`: of the next linear system (of a trust region: its radius).
    - `linear_steps`: of conjugate gradients, for the next step; 0 if this was the last.
    - `accepted`: whether the point that the step before led to was taken.
    - `seconds`: since the loop began; compilation came before.
    """

    step: int
    cost: float
    damping: float
    linear_steps: int
    accepted: bool
    seconds: float


def stepped(prepared: Prepared, report: Callable[[Iteration], None]) -> Solution:
    """`run`, with a report after each iteration; not to be compiled."""
    state = _begin(prepared)
    # A loop that has ended evaluates once and solves nothing: it compiles, at next to no cost.
    ended = state._replace(evaluations=jnp.full((), prepared.settings.max_steps + 1, jnp.int32))
    jax.block_until_ready(_advance(ended, prepared))
    began = time.perf_counter()
    while not state.done and state.evaluations <= prepared.settings.max_steps:
        state = _advance(state, prepared)
        # Indexed by numpy: by jax, each index would be a program of its own to compile.
        k, history = int(state.evaluations) - 1, jax.device_get(state.history)
        report(
            Iteration(
                step=k,
                cost=float(history.cost[k]),
                damping=float(history.damping[k]),
                linear_steps=max(0, int(history.linear_steps[k])),
                accepted=bool(history.accepted[k] == 1),
                seconds=time.perf_counter() - began,
            )
        )
    return _end(state)


@compiled
def _begin(prepared: Prepared) -> State:
    return initial(prepared)


@compiled
def _advance(state: State, prepared: Prepared) -> State:
    return advance(state, prepared)


@compiled
def _end(state: State) -> Solution:
    return conclusion(state)
