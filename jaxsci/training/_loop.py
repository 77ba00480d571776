"""The loop without its surroundings: a run, its state, and the step from one state to the next."""

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, PyTree

from ._history import History, Row
from ._result import NonFiniteLoss
from ._steps import Plan, evaluate, train_steps


@dataclass(frozen=True)
class Run:
    """What stays the same on the host: the plans for training and validation, and the counts."""

    plan: Plan
    held_out: Plan | None
    held_out_names: tuple[str, ...]  # of the columns that validation fills
    epochs: int
    steps: int  # of an epoch
    stretch: int  # steps in a compiled call
    validate_every: int


@dataclass(frozen=True)
class Progress:
    """How far a run is: everything besides arrays that a resume needs."""

    epoch: int = 0  # finished epochs
    done: int = 0  # steps of the epoch in progress
    sums: dict[str, float] = field(default_factory=dict)  # of loss and metrics over `done`
    seconds: float = 0.0
    best_loss: float | None = None
    best_epoch: int | None = None
    rows: tuple[Row, ...] = ()


@dataclass(frozen=True)
class State:
    """The arrays of a run, and how far it is."""

    params: PyTree
    opt_state: PyTree
    best: PyTree | None
    at: Progress


def advance(run: Run, state: State) -> State:
    """Do one compiled call, and what is due at the end of an epoch.

    The arrays of `state` are donated: only the returned state may be used afterwards.

    **Raises:** `NonFiniteLoss`.
    """
    start = time.monotonic()
    at = state.at
    length = min(run.stretch, run.steps - at.done)
    params, opt_state, bad, values = train_steps(
        call_arguments(run, at, length), state.params, state.opt_state
    )
    losses = _on_host(values)
    if int(bad) >= 0:
        loss = float(losses["loss"][int(bad) - at.done])
        raise _non_finite(run, at, int(bad), loss, params, state.best)
    sums = {name: at.sums.get(name, 0.0) + float(each.sum()) for name, each in losses.items()}
    best = state.best
    if at.done + length < run.steps:
        at = replace(at, done=at.done + length, sums=sums)
        return State(params, opt_state, best, replace(at, seconds=_since(start, at)))

    epoch = at.epoch + 1
    row: Row = {"epoch": epoch, "step": epoch * run.steps}
    row |= {f"train_{name}": total / run.steps for name, total in sums.items()}
    at = replace(at, epoch=epoch, done=0, sums={})
    if run.held_out is not None:
        row |= dict.fromkeys(run.held_out_names)
        if epoch % run.validate_every == 0:
            measured = _validate(run.held_out, params)
            row |= measured
            current = measured["validation_loss"]
            if math.isfinite(current) and (at.best_loss is None or current < at.best_loss):
                best = jax.tree.map(jnp.array, params)  # a copy, since `params` will be donated
                at = replace(at, best_loss=current, best_epoch=epoch)
    row |= _learning_rate(opt_state)
    seconds = _since(start, at)
    at = replace(at, seconds=seconds, rows=(*at.rows, {**row, "seconds": seconds}))
    return State(params, opt_state, best, at)


def call_arguments(run: Run, at: Progress, length: int) -> tuple:
    """The first argument of `train_steps`; counts are arrays, so that they do not recompile."""
    epoch, first = jnp.asarray(at.epoch, jnp.int32), jnp.asarray(at.done, jnp.int32)
    return run.plan, epoch, first, length


def _since(start: float, at: Progress) -> float:
    return at.seconds + time.monotonic() - start


def _validate(plan: Plan, params: PyTree) -> Mapping[str, float]:
    """The means of loss and metrics over all samples."""
    weights = np.full(-(-plan.size // plan.batch_size), plan.batch_size)
    weights[-1] = plan.size - plan.batch_size * (len(weights) - 1)
    return {
        f"validation_{name}": float(np.average(each, weights=weights))
        for name, each in _on_host(evaluate(plan, params)).items()
    }


def _on_host(values: Mapping[str, Array]) -> dict[str, np.ndarray]:
    """In double precision for the means, with the loss first (compilation sorts the names)."""
    names = ["loss", *(name for name in values if name != "loss")]
    return {name: np.asarray(values[name]).astype(np.float64) for name in names}


def _learning_rate(opt_state: PyTree) -> dict[str, float]:
    """The learning rate of the last step, if the optimiser's state has exactly one."""
    found: list[Any] = [
        value
        for _, value in optax.tree_utils.tree_get_all_with_path(opt_state, "learning_rate")
        if eqx.is_inexact_array(value) and value.ndim == 0
    ]
    return {"learning_rate": float(found[0])} if len(found) == 1 else {}


def _non_finite(
    run: Run, at: Progress, bad: int, loss: float, params: PyTree, best: PyTree | None
) -> NonFiniteLoss:
    """The exception for step `bad` (from 0) of the epoch in progress."""
    order = np.asarray(run.plan.order(at.epoch))
    samples = order[bad * run.plan.batch_size :][: run.plan.batch_size]
    listed = ", ".join(map(str, samples[:8])) + (", ..." if len(samples) > 8 else "")
    epoch, step = at.epoch + 1, at.epoch * run.steps + bad + 1
    what = (
        f"the update made parameters that are not finite (the loss was {loss:.6g})"
        if math.isfinite(loss)
        else f"the loss is {loss}"
    )
    frozen = run.plan.frozen
    return NonFiniteLoss(
        f"`fit`: {what} at epoch {epoch}, step {bad + 1} of {run.steps} (update {step}), "
        f"on the samples {listed}; look at them (`.samples`), lower the learning rate, or clip "
        "the gradient (`optax.clip_by_global_norm`). `.model` is the model before that step",
        model=eqx.combine(params, frozen),
        best_model=None if best is None else eqx.combine(best, frozen),
        epoch=epoch,
        step=step,
        samples=samples,
        loss=loss,
        history=History(at.rows),
    )
