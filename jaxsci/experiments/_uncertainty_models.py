"""The operators with uncertainty that are compared, each trained in its own way."""

import dataclasses
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxsci.equations.families import Sample
from jaxsci.metrics import gaussian_log_likelihood, relative_l2
from jaxsci.operators.uncertain import (
    DiverseOperator,
    OutputVariance,
    diverse_loss,
    fit_last_layer_laplace,
)
from jaxsci.surrogates import DeepEnsemble, MCDropout

from ._operators_problem import Problem
from ._operators_training import OperatorTraining, fit_operator, relative_loss, scaled_operator

_WARM_UP = 10  # epochs before heads are kept apart, as published


@dataclasses.dataclass(frozen=True)
class TrainedUncertainty:
    """A surrogate, how many numbers were trained for it, and in how many seconds."""

    surrogate: Callable[..., Any]
    parameters: int
    seconds: float


@dataclasses.dataclass(frozen=True)
class Recipe:
    """All that the methods are told.

    - `problem`, `training`: see [`jaxsci.experiments.train_operator`][].
    - `members`: of the ensemble, heads, masks.
    - `strength`, `dropout`: of the diversity; the rate.
    - `padding`: of the FNO.
    - `seed`: of all weights.
    - `folder`: for checkpoints, one folder for each model.
    - `progress`: whether a bar is shown.
    """

    problem: Problem
    training: OperatorTraining
    members: int
    strength: float
    dropout: float
    padding: tuple[float, ...]
    seed: int
    folder: Path
    progress: bool

    def operator(self, index: int, **options: Any) -> tuple[Any, Any]:
        """An FNO with weights of its own, and the key to train it with."""
        weights, order = jax.random.split(jax.random.fold_in(jax.random.key(self.seed), index))
        made = scaled_operator(
            "fno", self.problem, self.training, key=weights, padding=self.padding, **options
        )
        return made, order

    def fit(self, name: str, model: Any, loss: Any, key: Any, **options: Any) -> TrainedUncertainty:
        """The model after training."""
        done = fit_operator(
            model,
            loss,
            self.problem,
            self.training,
            key=key,
            checkpoint=self.folder / name,
            progress=self.progress,
            **options,
        )
        return TrainedUncertainty(done.operator, done.parameters, done.fit.seconds)


def ensemble(recipe: Recipe) -> TrainedUncertainty:
    """Operators trained from different weights."""
    each = [_member(recipe, index) for index in range(recipe.members)]
    return TrainedUncertainty(
        DeepEnsemble([one.surrogate for one in each]),
        sum(one.parameters for one in each),
        sum(one.seconds for one in each),
    )


def _member(recipe: Recipe, index: int) -> TrainedUncertainty:
    operator, key = recipe.operator(index)
    return recipe.fit(f"member-{index}", operator, relative_loss, key)


def diverse(recipe: Recipe) -> TrainedUncertainty:
    """One operator with many heads that are kept apart."""
    operator, key = recipe.operator(0)
    head_key, key = jax.random.split(key)
    model = DiverseOperator(operator, recipe.members, key=head_key)
    loss = _diverse_training(recipe.strength)
    return recipe.fit("diverse", model, loss, key, validation_loss=_diverse_validation)


@cache  # the same object for the same number, so that a second fit compiles nothing
def _diverse_training(strength: float) -> Callable[..., Array]:
    def loss(model: DiverseOperator, batch: Sample, *, key: Any, epoch: Array) -> Array:
        now = jnp.where(epoch < _WARM_UP, 0.0, strength)
        return diverse_loss(model, batch.inputs, batch.outputs, strength=now, key=key)

    return loss


def _diverse_validation(model: DiverseOperator, batch: Sample, *, key: Any) -> Array:
    del key
    return diverse_loss(model, batch.inputs, batch.outputs, strength=0.0)


def variance(recipe: Recipe) -> TrainedUncertainty:
    """One operator that predicts its variance, by likelihood."""
    operator, key = recipe.operator(0, free_channels=1)
    return recipe.fit("variance", OutputVariance(operator), _surprise, key)


def _surprise(model: OutputVariance, batch: Sample, *, key: Any) -> Array:
    del key

    def one(x: Array, truth: Array) -> Array:
        g = model(x)
        return -gaussian_log_likelihood(g.mean, g.marginal_var, truth.ravel())

    return jnp.mean(jax.vmap(one)(batch.inputs, batch.outputs))


def laplace(recipe: Recipe) -> TrainedUncertainty:
    """The first member of the ensemble, its last layer's weights with their posterior."""
    member, train = _member(recipe, 0), recipe.problem.train
    began = time.perf_counter()
    model = fit_last_layer_laplace(member.surrogate, train.inputs, train.outputs)
    jax.block_until_ready(model.root)
    seconds = member.seconds + time.perf_counter() - began
    return TrainedUncertainty(model, member.parameters, seconds)


def dropout(recipe: Recipe) -> TrainedUncertainty:
    """One operator that drops channels at random, in training and after."""
    operator, key = recipe.operator(0, dropout=recipe.dropout)
    done = recipe.fit("dropout", operator, _dropped, key, validation_loss=relative_loss)
    return dataclasses.replace(done, surrogate=MCDropout(done.surrogate, recipe.members))


def _dropped(model: Any, batch: Sample, *, key: Any) -> Array:
    keys = jax.random.split(key, len(batch.inputs))
    u = jax.vmap(lambda x, key: model(x, key=key))(batch.inputs, keys)
    return jnp.mean(jax.vmap(relative_l2)(u, batch.outputs))


UNCERTAINTIES: dict[str, Callable[[Recipe], TrainedUncertainty]] = {
    "ensemble": ensemble,
    "diverse": diverse,
    "variance": variance,
    "laplace": laplace,
    "dropout": dropout,
}
"""How each operator with uncertainty is made, by the names that the tables have."""
