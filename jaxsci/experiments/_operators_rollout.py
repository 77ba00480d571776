"""An operator on its own output, window after window."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np

from jaxsci.equations.families import AbstractFamily, Sample, make_dataset

from ._operators_baselines import relative_errors
from ._operators_evaluation import predict_in_parts
from ._operators_training import ScaledOperator

WINDOWS = 4


def roll_out(
    models: Mapping[str, ScaledOperator],
    family: AbstractFamily,
    functions: int,
    *,
    seed: int = 0,
    windows: int = WINDOWS,
) -> dict[str, list[float]]:
    """The relative L2 error in each window of time, the field at its start being the prediction.

    The first window is the one that was trained on; in the others initial field and boundary data
    are such as the flow makes them, and not such as they were drawn. Boundary data are given.

    **Arguments:**

    - `models`: by name.
    - `family`: with a time axis, and the initial field of each output `u` as its input `u0`.
    - `functions`: how many are averaged.
    - `windows`: how many.

    **Returns:** for each model the mean error in each window; nothing for a family without time.
    """
    long = prolonged(family, windows)
    if long is None:
        return {}
    truth = make_dataset(long, functions, seed=3 * seed + 2, progress=False)
    return {name: _errors(model, family, truth, windows) for name, model in models.items()}


def prolonged(family: AbstractFamily, windows: int) -> AbstractFamily | None:
    """The family over so many times its time; `None` where a window cannot follow another."""
    fields: Any = {field.name for field in dataclasses.fields(family)}
    starts = [f"{name}0" for name in family.output_names]
    follows = family.axes[0] == "t" and set(starts) <= set(family.input_names)
    if not follows or not {"time", "steps"} <= fields:
        return None
    time, steps = (getattr(family, name) for name in ("time", "steps"))
    return dataclasses.replace(family, time=windows * time, steps=windows * steps)


def _errors(
    model: ScaledOperator, family: AbstractFamily, truth: Sample, windows: int
) -> list[float]:
    steps = family.shape[0]
    channels = np.array([family.input_names.index(f"{name}0") for name in family.output_names])
    inputs, errors = truth.inputs[:, :, :steps], []
    for window in range(windows):
        now = slice(window * steps, (window + 1) * steps)
        values = {face: _at(value, now, windows * steps) for face, value in truth.values.items()}
        outputs = truth.outputs[:, :, now]
        batch = Sample(inputs, outputs, values, truth.parameters)
        predicted = predict_in_parts(model, batch)
        errors.append(float(relative_errors(np.asarray(predicted), batch).mean()))
        last = jnp.broadcast_to(predicted[:, :, -1:], predicted.shape)
        inputs = inputs.at[:, channels].set(last)
    return errors


def _at(value: Any, now: slice, steps: int) -> Any:
    """Boundary data in a window, of shape `(batch, C, times, *others)`, if they have times."""
    return value[:, :, now] if value.ndim > 2 and value.shape[2] == steps else value
