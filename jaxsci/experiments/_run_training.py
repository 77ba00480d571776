"""Training the surrogate of an experiment."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, PRNGKeyArray

from jaxsci.equations import AbstractEquation, TaskBatch, sample_tasks
from jaxsci.surrogates import AttentiveNeuralProcess, Task, anp_loss, softc_loss
from jaxsci.training import FitResult, fit

from ._run_settings import Budget

VALIDATION_FUNCTIONS = 100


def train_surrogate(
    equation_cls: type[AbstractEquation],
    budget: Budget,
    *,
    key: PRNGKeyArray,
    softc_weight: float | None = None,
    checkpoint: Path | None = None,
    progress: bool = True,
) -> FitResult[AttentiveNeuralProcess]:
    """Trains an attentive neural process on solutions of one equation, as published.

    Functions with parameters drawn from `equation_cls.train_range`, 10 x 10 context and target
    points each; the model with the smallest loss on 100 further functions is kept.

    **Arguments:**

    - `equation_cls`: a class of [`jaxsci.equations.EQUATIONS`][].
    - `budget`: sizes, see [`jaxsci.experiments.Budget`][].
    - `key`: the seed of data, weights and training.
    - `softc_weight`: `None` for the plain objective, else that of
        [`jaxsci.surrogates.softc_loss`][].
    - `checkpoint`, `progress`: as for [`jaxsci.training.fit`][].

    **Raises:** as [`jaxsci.training.fit`][].
    """
    data_key, held_out_key, weights_key, train_key = jax.random.split(key, 4)
    model = AttentiveNeuralProcess(budget.width, dropout=budget.dropout, key=weights_key)
    if softc_weight is None:
        loss, held_out_loss = _mean_loss, _mean_held_out_loss
    else:
        loss = partial(_mean_softc_loss, equation_cls, softc_weight)
        held_out_loss = partial(_mean_held_out_softc_loss, equation_cls, softc_weight)
    return fit(
        model,
        loss,
        sample_tasks(equation_cls, data_key, budget.functions),
        optimiser=_optimiser(budget),
        epochs=budget.epochs,
        batch_size=min(budget.batch_size, budget.functions),
        key=train_key,
        validation=sample_tasks(equation_cls, held_out_key, VALIDATION_FUNCTIONS),
        validation_loss=held_out_loss,
        validation_batch_size=VALIDATION_FUNCTIONS,
        steps_per_call=64,
        checkpoint=checkpoint,
        progress=progress,
    )


def _optimiser(budget: Budget) -> optax.GradientTransformation:
    if not budget.decay:
        return optax.flatten(optax.adam(budget.learning_rate))
    steps = budget.epochs * max(1, budget.functions // budget.batch_size)
    rate = budget.learning_rate
    schedule = optax.warmup_cosine_decay_schedule(
        rate / 10, rate, max(1, min(100, steps // 5)), steps, rate / 100
    )
    # A large step early on, when the predicted standard deviations shrink, costs many later ones.
    return optax.chain(optax.clip_by_global_norm(100.0), optax.flatten(optax.adam(schedule)))


def _mean_loss(
    model: AttentiveNeuralProcess, batch: TaskBatch, *, key: PRNGKeyArray | None
) -> Array:
    def one(task: Task, values: Array, key: PRNGKeyArray | None) -> Array:
        return anp_loss(model, task, values, key=key)

    keys = None if key is None else jax.random.split(key, len(batch.parameters))
    return jnp.mean(jax.vmap(one)(_tasks(batch), batch.target_values, keys))


def _mean_held_out_loss(
    model: AttentiveNeuralProcess, batch: TaskBatch, *, key: PRNGKeyArray
) -> Array:
    del key  # z at its mean and no dropout: the same number for the same weights
    return _mean_loss(model, batch, key=None)


def _mean_softc_loss(
    equation_cls: type[AbstractEquation],
    weight: float,
    model: AttentiveNeuralProcess,
    batch: TaskBatch,
    *,
    key: PRNGKeyArray | None,
) -> Array:
    def one(task: Task, values: Array, parameter: Array, key: PRNGKeyArray | None) -> Array:
        equation = equation_cls(parameter)  # pyright: ignore[reportCallIssue]
        return softc_loss(model, task, values, equation, weight=weight, key=key)

    keys = None if key is None else jax.random.split(key, len(batch.parameters))
    losses = jax.vmap(one)(_tasks(batch), batch.target_values, batch.parameters, keys)
    return jnp.mean(losses)


def _mean_held_out_softc_loss(
    equation_cls: type[AbstractEquation],
    weight: float,
    model: AttentiveNeuralProcess,
    batch: TaskBatch,
    *,
    key: PRNGKeyArray,
) -> Array:
    del key
    return _mean_softc_loss(equation_cls, weight, model, batch, key=None)


def _tasks(batch: TaskBatch) -> Task:
    return Task(batch.context_points, batch.context_values, batch.target_points)
