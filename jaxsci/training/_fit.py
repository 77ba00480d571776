"""Training: the public function, its checks, its checkpoint folder and its progress bar."""

import hashlib
import re
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import PRNGKeyArray, PyTree
from tqdm import tqdm

from jaxsci.checkpoints import differences, signature

from . import _checkpoint, _checks
from ._files import exclusive
from ._history import History
from ._loop import Progress, Run, State, advance, call_arguments
from ._result import FitResult, Model, NonFiniteLoss
from ._steps import Plan, evaluate, optax_promotion, takes_epoch, train_steps


def fit(
    model: Model,
    loss: Callable[..., Any],
    data: PyTree,
    *,
    optimiser: optax.GradientTransformation,
    epochs: int,
    batch_size: int,
    key: PRNGKeyArray,
    validation: PyTree | None = None,
    validation_loss: Callable[..., Any] | None = None,
    validation_batch_size: int | None = None,
    validate_every: int = 1,
    steps_per_call: int | None = None,
    checkpoint: str | Path | None = None,
    save_every: float = 10.0,
    same_program: bool = True,
    trainable: PyTree = eqx.is_inexact_array,
    progress: bool = True,
) -> FitResult[Model]:
    """Minimise a loss over the parameters of a model by stochastic gradient descent.

    Each epoch visits the samples in a new random order, in batches of `batch_size`; the
    `samples % batch_size` that are left over sit this epoch out (others do in the next). An epoch
    is one compiled `lax.scan`, or several of `steps_per_call` steps. Order and keys of an epoch
    depend on `key` and the epoch only, so that a run that was killed at any moment and is
    started again with the same `checkpoint` ends in the same weights bit for bit (on a device
    whose kernels are deterministic).

    **Arguments:**

    - `model`: a pytree; `trainable` says which leaves are parameters.
    - `loss`: `loss(model, batch, *, key)`, the mean over the batch as a real scalar, or
        `(scalar, metrics)` with a dict of scalars. A loss with a parameter `epoch` gets the number
        of the epoch, from 0, and may change with it; it needs a `validation_loss`. Pass the same
        function and the same optimiser to several fits, and they are compiled once.
    - `data`: a pytree of arrays with the same leading axis, the samples; it lives on the device.
    - `optimiser`: from optax, with its learning-rate schedule. `value`, `grad` and `value_fn` are
        handed to those that want them. Complex parameters get the conjugate gradient.
    - `epochs`: how often the data is gone through. A finished run is prolonged by a larger number.
    - `batch_size`: at most the number of samples.
    - `key`: the seed of everything random here.
    - `validation`: data for `validation_loss` (default: `loss`), which is averaged over batches
        of `validation_batch_size` (default: `batch_size`) after every `validate_every` epochs,
        with the same keys each time. Switch dropout off in `validation_loss`
        (`eqx.nn.inference_mode`). A loss that is not finite is recorded and is never the best.
    - `steps_per_call`: the steps between two signs of life (progress bar, checkpoint, stop at a
        bad loss); default: a whole epoch.
    - `checkpoint`: a folder for `checkpoint.eqx`, `history.csv` and `history.json`, all written
        atomically; a run that is found there is resumed. None: nothing is written.
    - `save_every`: the least time in seconds between two checkpoints; 0 saves after each call.
    - `same_program`: refuse a checkpoint whose compiled step (loss, model code, optimiser and
        its schedule) was another one. False resumes if only the arrays fit.
    - `trainable`: a filter specification as in `eqx.partition`.
    - `progress`: whether to show a progress bar on stderr.

    **Returns:** a `FitResult`.

    **Raises:** `NonFiniteLoss` with the step and the batch, after which a resume would fail in
    the same way; `ValueError` or `TypeError` for arguments that do not fit together, a damaged
    checkpoint, or one of a run with other settings; `RuntimeError` if another run holds the folder.

    !!! example
        >>> import jax, jax.numpy as jnp, optax
        >>> x = jnp.linspace(-1.0, 1.0, 64)
        >>> def loss(model, batch, *, key):
        ...     return jnp.mean((model["slope"] * batch["x"] - batch["y"]) ** 2)
        >>> result = fit({"slope": jnp.zeros(())}, loss, {"x": x, "y": 3.0 * x},
        ...              optimiser=optax.adam(0.1), epochs=50, batch_size=16,
        ...              key=jax.random.key(0), progress=False)
        >>> round(float(result.model["slope"]), 2)
        3.0

    Limits: the data must fit on the device (C); parameters only, no running statistics such as
    batch normalisation's (C).
    """
    folder = None if checkpoint is None else Path(checkpoint)
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
    key = _checks.random_key(key)
    params, frozen = eqx.partition(model, trainable)
    params = jax.tree.map(jnp.array, params)  # copies, since they are donated
    if not jax.tree.leaves(params):
        raise ValueError("`fit(model=...)`: expected parameters, got no inexact array to train")
    train_key, held_out_key = jax.random.split(key)
    batch_size = _checks.whole("batch_size", batch_size)
    data = _checks.sample_arrays("data", data)
    plan, held_out = Plan(loss, optimiser, frozen, data, train_key, batch_size), None
    if validation is not None:
        validation = _checks.sample_arrays("validation", validation)
        width = batch_size if validation_batch_size is None else validation_batch_size
        width = _checks.whole("validation_batch_size", width)
        width = min(width, jax.tree.leaves(validation)[0].shape[0])
        held_out_loss = loss if validation_loss is None else validation_loss
        if takes_epoch(held_out_loss):
            raise ValueError(
                "`fit(validation_loss=...)`: expected a loss without `epoch`, which measures the "
                "same in every epoch; pass one besides `loss`"
            )
        held_out = Plan(held_out_loss, None, frozen, validation, held_out_key, width)
    run = _run(plan, held_out, params, epochs, steps_per_call, validate_every)
    # copies again: some states start as the parameters themselves, and a buffer is donated once
    with optax_promotion():
        opt_state = optimiser.init(params)
    opt_state = jax.tree.map(lambda x: jnp.array(x) if eqx.is_array_like(x) else x, opt_state)
    state = State(params, opt_state, None, Progress())
    settings = _settings(run, state, model, key, hash_data=folder is not None)
    versions = {
        "jax": jax.__version__,
        "equinox": eqx.__version__,
        "optax": optax.__version__,
        "platform": jax.default_backend(),
    }
    about: dict[str, Any] = {"settings": settings, "versions": versions}

    with nullcontext() if folder is None else exclusive(folder):
        if folder is not None:
            about["program"] = _program(run, state)
            state = _resume(folder, run, state, about, same_program)
        resumed_at = _updates(run, state)
        with _bar(run, resumed_at, progress) as bar:
            saved = time.monotonic()
            while state.at.epoch < run.epochs:
                before = _updates(run, state)
                try:
                    state = advance(run, state)
                except NonFiniteLoss as stop:
                    if folder is not None:
                        _write_history(folder, stop.history, about)
                    raise
                finished = state.at.epoch == run.epochs
                if folder is not None and (finished or time.monotonic() - saved >= save_every):
                    _save(folder, state, about)
                    saved = time.monotonic()
                _show(bar, run, state)
                bar.update(_updates(run, state) - before)

    last = eqx.combine(state.params, frozen)
    if run.held_out is not None and state.best is None:
        warnings.warn(
            "`fit`: no validation loss was finite, so that `.model` is the last model", stacklevel=2
        )
    return FitResult(
        model=last if state.best is None else eqx.combine(state.best, frozen),
        last_model=last,
        best_epoch=state.at.best_epoch,
        best_loss=state.at.best_loss,
        history=History(state.at.rows),
        settings=settings,
        versions=versions,
        seconds=state.at.seconds,
        resumed_at=resumed_at,
    )


def _run(
    plan: Plan,
    held_out: Plan | None,
    params: PyTree,
    epochs: int,
    steps_per_call: int | None,
    validate_every: int,
) -> Run:
    """The plans with their counts, all checked."""
    epochs = _checks.whole("epochs", epochs)
    every = _checks.whole("validate_every", validate_every)
    steps = plan.size // plan.batch_size
    if not steps:
        raise ValueError(
            f"`fit(batch_size={plan.batch_size})`: expected at most the {plan.size} samples in "
            "`data`; lower it"
        )
    stretch = steps if steps_per_call is None else _checks.whole("steps_per_call", steps_per_call)
    _checks.loss_output("loss", plan, params)
    columns = ()
    if held_out is not None:
        if every > epochs:
            raise ValueError(
                f"`fit(validate_every={every})`: expected at most the {epochs} epochs, or there "
                "is never a validation; lower it"
            )
        names = _checks.loss_output("validation_loss", held_out, params)
        columns = tuple(f"validation_{name}" for name in ("loss", *names))
    return Run(plan, held_out, columns, epochs, steps, min(stretch, steps), every)


def _settings(
    run: Run, state: State, model: PyTree, key: PRNGKeyArray, hash_data: bool
) -> dict[str, Any]:
    """What two runs must share for one to continue the other; the number of epochs may differ."""
    held_out = run.held_out
    typed = jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    data = (run.plan.data, None if held_out is None else held_out.data)
    return {
        "batch_size": run.plan.batch_size,
        "steps_per_call": run.stretch,
        "validate_every": None if held_out is None else run.validate_every,
        "validation_batch_size": None if held_out is None else held_out.batch_size,
        "key": np.asarray(jax.random.key_data(key) if typed else key).tolist(),
        "key_kind": str(jax.random.key_impl(key)) if typed else "raw",
        "model": signature(state.params),
        "optimiser": signature(eqx.filter(state.opt_state, eqx.is_array)),
        "data": signature(data[0]),
        "validation": signature(data[1]),
        "hash of the initial weights": _checkpoint.digest(model),
        **({"hash of the data": _checkpoint.digest(data)} if hash_data else {}),
    }


def _program(run: Run, state: State) -> str:
    """A hash of what is compiled: it changes with the loss, the model's code and the optimiser."""
    fixed = call_arguments(run, state.at, run.stretch)
    compiled: tuple[Any, Any] = (train_steps, evaluate)
    text = compiled[0].lower(fixed, state.params, state.opt_state).as_text()
    if run.held_out is not None:
        text += compiled[1].lower(run.held_out, state.params).as_text()
    # JAX names and repeats helper functions according to what was traced before: leave that out
    lines = {re.sub(r"@[\w.]+", "@", line) for line in text.splitlines()}
    return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def _resume(
    folder: Path, run: Run, state: State, about: dict[str, Any], same_program: bool
) -> State:
    """The state in the checkpoint, if there is one and it is of this run."""
    found = _checkpoint.load(folder, about["settings"], state.params, state.opt_state)
    if found is None:
        return state
    saved, best, params, opt_state = found
    changed = differences(saved["versions"], about["versions"])
    if changed:
        warnings.warn(
            f"`fit(checkpoint={str(folder)!r})`: resumed on another installation "
            f"({'; '.join(changed)}): the weights may differ in the last bits from those of an "
            "uninterrupted run",
            stacklevel=3,
        )
    elif same_program and saved["program"] != about["program"]:
        raise ValueError(
            f"`fit(checkpoint={str(folder)!r})`: the checkpoint there was made with another loss, "
            "model code, optimiser setting or schedule (the compiled step differs); repeat those "
            "to resume it, pass `same_program=False` to go on with the new ones, or choose "
            "another folder"
        )
    at = Progress(**{**saved["progress"], "rows": tuple(saved["progress"]["rows"])})
    if (at.epoch, at.done) > (run.epochs, 0):
        raise ValueError(
            f"`fit(epochs={run.epochs})`: the run in {str(folder)!r} has gone through "
            f"{at.epoch} epochs and {at.done} steps; ask for at least as many, or choose another "
            "folder"
        )
    _write_history(folder, History(at.rows), about)  # a kill may have come just before it
    return State(params, opt_state, best, at)


def _save(folder: Path, state: State, about: dict[str, Any]) -> None:
    """The checkpoint first: the history is written from it again when the run is resumed."""
    progress = {"progress": asdict(state.at)}
    _checkpoint.save(folder, about | progress, state.best, state.params, state.opt_state)
    _write_history(folder, History(state.at.rows), about)


def _write_history(folder: Path, history: History, about: dict[str, Any]) -> None:
    history.write(folder, settings=about["settings"], versions=about["versions"])


def _updates(run: Run, state: State) -> int:
    return state.at.epoch * run.steps + state.at.done


def _bar(run: Run, done: int, shown: bool) -> tqdm:
    return tqdm(total=run.epochs * run.steps, initial=done, unit="step", disable=not shown)


def _show(bar: tqdm, run: Run, state: State) -> None:
    """Losses beside the bar; tqdm itself adds the time left."""
    at = state.at
    bar.set_description(f"epoch {at.epoch + bool(at.done)}/{run.epochs}", refresh=False)
    loss = at.sums["loss"] / at.done if at.done else at.rows[-1]["train_loss"]
    values = {"loss": loss}
    if at.rows and at.rows[-1].get("validation_loss") is not None:
        values["validation"] = at.rows[-1]["validation_loss"]
    if at.best_loss is not None:
        values["best"] = at.best_loss
    bar.set_postfix({name: f"{value:.4g}" for name, value in values.items()}, refresh=False)
