"""Training an operator on a problem."""

import dataclasses
import math
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxsci.equations.families import Sample
from jaxsci.metrics import relative_l2
from jaxsci.operators.boundary import BoundaryConditions, Periodic, Values
from jaxsci.operators.constrained import ConstrainedOperator, make_operator
from jaxsci.training import FitResult, fit

from ._operators_problem import Problem

Model = TypeVar("Model")


class ScaledOperator(eqx.Module):
    """An operator that sees standardised inputs and predicts in units near 1.

    ```
    u = scale * operator((x - mean) / deviation, values / scale)
    ```

    The scale is a power of two, with which nothing is rounded: a condition that the operator's
    output obeys bit for bit, `u` obeys so in physical units.

    - `operator`: obeys conditions whose numbers are divided by `scale`.
    - `mean`, `deviation`: of each input channel, over all training functions and points.
    - `scale`: near the root mean square of the training outputs.
    """

    operator: ConstrainedOperator
    mean: tuple[float, ...] = eqx.field(static=True)
    deviation: tuple[float, ...] = eqx.field(static=True)
    scale: float = eqx.field(static=True)

    def __call__(
        self,
        x: Float[Array, "channels *points"],
        values: Values | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Float[Array, "out *points"]:
        """The output for one sample, all in physical units; the key is for dropout."""
        form = (-1, *[1] * (x.ndim - 1))
        mean = jnp.asarray(self.mean, x.dtype).reshape(form)
        deviation = jnp.asarray(self.deviation, x.dtype).reshape(form)
        scaled = {face: jnp.asarray(g) / self.scale for face, g in (values or {}).items()}
        return self.scale * self.operator((x - mean) / deviation, scaled, key=key)


@dataclasses.dataclass(frozen=True)
class OperatorTraining:
    """How an operator is made and trained.

    - `width`, `modes`, `layers`: of the network; `modes` one number or one for each axis.
    - `epochs`, `batch_size`, `learning_rate`, `weight_decay`: of Adam, the decay being added to
        the gradient.
    - `schedule`: `"step"` halves the learning rate six times (after every sixth of the epochs);
        `"cosine"` lets it fall to 0.
    - `standardise`: whether the operator works on inputs with mean 0 and deviation 1 and in units
        near 1, by the numbers of the training functions.
    """

    epochs: int
    width: int
    modes: int | tuple[int, ...]
    layers: int = 4
    batch_size: int = 20
    learning_rate: float = 1e-3
    weight_decay: float = 1e-4
    schedule: Literal["step", "cosine"] = "step"
    standardise: bool = True


@dataclasses.dataclass(frozen=True)
class TrainedOperator(Generic[Model]):
    """An operator after training, or what was made of one.

    - `operator`: called as `operator(inputs, values)` for one sample, in physical units.
    - `parameters`: how many numbers were trained.
    - `seconds_per_epoch`: the median, without the first epoch, which includes compilation.
    - `fit`: losses and versions, see [`jaxsci.training.FitResult`][].
    """

    operator: Model
    parameters: int
    seconds_per_epoch: float
    fit: FitResult[Model]


def train_operator(
    name: str,
    problem: Problem,
    training: OperatorTraining,
    *,
    seed: int = 0,
    checkpoint: Path | None = None,
    progress: bool = True,
    **options: Any,
) -> TrainedOperator[ScaledOperator]:
    """Trains an operator of [`jaxsci.operators.constrained.RECIPES`][] on a problem.

    The loss is the relative L2 error, the mean over a batch; kept are the weights with the least
    one on the validation functions, or the last ones where there are none of these.

    **Arguments:**

    - `name`, `options`: as in [`jaxsci.operators.constrained.make_operator`][].
    - `problem`: a [`jaxsci.experiments.Problem`][].
    - `training`: sizes, see [`jaxsci.experiments.OperatorTraining`][].
    - `seed`: of the weights and of the order of the functions.
    - `checkpoint`, `progress`: as in [`jaxsci.training.fit`][].

    **Raises:** as [`jaxsci.operators.constrained.make_operator`][] and [`jaxsci.training.fit`][].
    """
    weights_key, order_key = jax.random.split(jax.random.key(seed))
    return fit_operator(
        scaled_operator(name, problem, training, key=weights_key, **options),
        relative_loss,
        problem,
        training,
        key=order_key,
        checkpoint=checkpoint,
        progress=progress,
    )


def scaled_operator(
    name: str, problem: Problem, training: OperatorTraining, *, key: PRNGKeyArray, **options: Any
) -> ScaledOperator:
    """An operator of [`jaxsci.operators.constrained.RECIPES`][] in the units of a problem.

    **Arguments:** as in [`jaxsci.experiments.train_operator`][]; `key`: of the weights.
    """
    scale = _scale(problem) if training.standardise else 1.0
    mean, deviation = _moments(problem.train.inputs, training.standardise)
    operator = make_operator(
        name,
        *problem.channels,
        _divided(problem.conditions, scale),
        modes=training.modes,
        width=training.width,
        key=key,
        **{"layers": training.layers, **options},
    )
    return ScaledOperator(operator, mean, deviation, scale)


def fit_operator(
    model: Model,
    loss: Callable[..., Any],
    problem: Problem,
    training: OperatorTraining,
    *,
    key: PRNGKeyArray,
    validation_loss: Callable[..., Any] | None = None,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> TrainedOperator[Model]:
    """Trains what was made of an operator, by any loss, on the functions of a problem.

    **Arguments:**

    - `loss`, `validation_loss`: as in [`jaxsci.training.fit`][], of stacked samples.
    - `training`: only what it says of epochs, batches and Adam is used.
    - `key`: of the order of the functions, and of what the loss draws.
    """
    batch_size = min(training.batch_size, len(problem.train.inputs))
    steps = training.epochs * (len(problem.train.inputs) // batch_size)
    result = fit(
        model,
        loss,
        problem.train,
        optimiser=_optimiser(training, steps),
        epochs=training.epochs,
        batch_size=batch_size,
        key=key,
        validation=problem.validation,
        validation_loss=validation_loss,
        validation_batch_size=None if problem.validation is None else batch_size,
        checkpoint=checkpoint,
        progress=progress,
    )
    leaves = jax.tree.leaves(eqx.filter(result.model, eqx.is_inexact_array))
    ends = [row["seconds"] for row in result.history.rows]
    each = np.diff([0.0, *[end for end in ends if end is not None]])
    return TrainedOperator(
        result.model,
        sum(leaf.size for leaf in leaves),
        float(np.median(each[1:] if len(each) > 1 else each)),
        result,
    )


def relative_loss(model: ScaledOperator, batch: Sample, *, key: Any = None) -> Array:
    """The mean over a batch of `relative_l2`."""
    del key  # nothing is random here
    return jnp.mean(jax.vmap(relative_l2)(predict(model, batch), batch.outputs))


def predict(model: ScaledOperator, batch: Sample) -> Array:
    """The outputs for a batch."""
    return jax.vmap(model)(batch.inputs, batch.values)


@cache  # the same object for the same numbers: what was compiled for one seed serves the others
def _optimiser(training: OperatorTraining, steps: int) -> optax.GradientTransformation:
    if training.schedule == "cosine":
        schedule = optax.cosine_decay_schedule(training.learning_rate, steps)
    else:
        per_epoch = steps // training.epochs
        every = per_epoch * max(1, round(training.epochs / 6))
        schedule = optax.exponential_decay(training.learning_rate, every, 0.5, staircase=True)
    decay = optax.add_decayed_weights(training.weight_decay)
    return optax.flatten(optax.chain(decay, optax.adam(schedule)))


def _scale(problem: Problem) -> float:
    rms = float(np.sqrt(np.mean(np.square(problem.train.outputs, dtype=np.float64))))
    return 2.0 ** round(math.log2(rms)) if rms > 0 else 1.0


def _moments(inputs: ArrayLike, wanted: bool) -> tuple[tuple[float, ...], tuple[float, ...]]:
    array = np.asarray(inputs, np.float64)
    if not wanted:
        return (0.0,) * array.shape[1], (1.0,) * array.shape[1]
    axes = (0, *range(2, array.ndim))
    mean, deviation = array.mean(axes), array.std(axes)
    # A channel that is the same everywhere says nothing; dividing by rounding would make it loud.
    silent = deviation <= 1e-6 * np.abs(mean)
    return tuple(mean.tolist()), tuple(np.where(silent, 1.0, deviation).tolist())


def _divided(conditions: BoundaryConditions, scale: float) -> BoundaryConditions:
    """For fields divided by `scale`; all conditions are linear."""
    held = {
        face: condition
        for face, condition in conditions.faces.items()
        if not isinstance(condition, Periodic) and condition.value is not None
    }
    divided = [np.asarray(c.value, np.float32) / np.float32(scale) for c in held.values()]
    return eqx.tree_at(lambda c: [c.faces[face].value for face in held], conditions, divided)
