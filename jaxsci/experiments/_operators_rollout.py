"""An operator on its own output, window after window."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

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
    - `family`: with the initial field of each output `u` as its input `u0`, and with a time axis or
        periodic.
    - `functions`: how many are averaged.
    - `windows`: how many.

    **Returns:** for each model the mean error in each window; nothing where windows cannot follow.
    """
    later = following(family, windows)
    if not later:
        return {}
    truths = [make_dataset(f, functions, seed=3 * seed + 2, progress=False) for f in later]
    steps = family.shape[0] if family.axes[0] == "t" else None
    names, of = family.input_names, family.output_names
    channels = np.array([names.index(f"{name}0") for name in of])
    return {n: _errors(model, truths, channels, steps, windows) for n, model in models.items()}


def following(family: AbstractFamily, windows: int) -> tuple[AbstractFamily, ...]:
    """The families that hold the windows: one over all the time, or one for the end of each.

    None where a window cannot follow another: where the field is not all that the flow needs to go
    on (waves have a velocity), where the initial field is no input, or one that tells of the first
    window alone, or where what holds on a face is not the same in all of them.
    """
    fields: Any = {field.name for field in dataclasses.fields(family)}
    starts = {f"{name}0" for name in family.output_names}
    others = set(family.input_names) - starts
    constants = all(name.startswith("log10_") for name in others)
    known = starts <= set(family.input_names) and constants and "time" in fields
    if family.name == "wave" or not known:
        return ()
    time = family.time  # pyright: ignore[reportAttributeAccessIssue]
    if family.axes[0] == "t":
        steps = windows * family.shape[0]
        return (dataclasses.replace(family, time=windows * time, steps=steps),)  # pyright: ignore
    ends = (count * time for count in range(1, windows + 1))
    later = tuple(dataclasses.replace(family, time=end) for end in ends)  # pyright: ignore
    same = all(kind.kind == "periodic" for kind in family.faces.values())
    return later if same else ()


def _errors(
    model: ScaledOperator,
    truths: list[Sample],
    channels: np.ndarray,
    steps: int | None,
    windows: int,
) -> list[float]:
    """In each window; `steps` of a window, or `None` for fields without a time axis."""
    inputs, errors = truths[0].inputs, []
    if steps is not None:
        inputs = inputs[:, :, :steps]
    for window in range(windows):
        if steps is None:
            batch = eqx.tree_at(lambda truth: truth.inputs, truths[window], inputs)
        else:
            batch = _window(truths[0], inputs, slice(window * steps, (window + 1) * steps))
        predicted = predict_in_parts(model, batch)
        errors.append(float(relative_errors(np.asarray(predicted), batch).mean()))
        last = predicted
        if steps is not None:
            last = jnp.broadcast_to(predicted[:, :, -1:], predicted.shape)
        inputs = inputs.at[:, channels].set(last)
    return errors


def _window(truth: Sample, inputs: Array, now: slice) -> Sample:
    steps = truth.outputs.shape[2]

    def at(value: Array) -> Array:
        """Boundary data, of shape `(batch, C, times, *others)`, if they have times."""
        return value[:, :, now] if value.ndim > 2 and value.shape[2] == steps else value

    values = {face: at(value) for face, value in truth.values.items()}
    return Sample(inputs, truth.outputs[:, :, now], values, truth.parameters)
