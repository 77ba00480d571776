"""The same loop led by the host, an iteration at a time, for those who watch it."""

import time
from collections.abc import Callable
from typing import NamedTuple

import jax

from ._compile import compile_together, compiled
from ._loop import Prepared, conclusion, ended, initial, judge, precondition, solve
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
    # What is traced soonest comes first: it is compiled while the others are traced.
    parts = (_judge, _solve) if state.stale is None else (_judge, _precondition, _solve)
    compile_together(*((part, state, prepared) for part in parts))
    began, last = time.perf_counter(), False
    while not last:
        state = _judge(state, prepared)
        last = bool(ended(state, prepared))
        for part in () if last else parts[1:]:
            state = part(state, prepared)
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


_begin, _judge, _precondition, _solve, _end = (
    compiled(f) for f in (initial, judge, precondition, solve, conclusion)
)
