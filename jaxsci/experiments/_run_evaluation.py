"""Evaluating a surrogate with and without its conservation law."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.conservation import LinearConstraint, condition, curvature, integral, project
from jaxsci.equations import AbstractEquation, sample_tasks
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.metrics import (
    calibration_curve,
    mean_and_standard_error,
    pool_moments,
    shock_position,
    shock_summary,
    summarise,
)
from jaxsci.surrogates import AttentiveNeuralProcess, slice_tasks

POINTS = 201
TEST_FUNCTIONS = 50
SHOCK_DRAWS = 100

Method = Callable[[Gaussian, LinearConstraint], Gaussian]


def _unchanged(gaussian: Gaussian, mass: LinearConstraint) -> Gaussian:
    del mass
    return gaussian


def _smoothed(gaussian: Gaussian, mass: LinearConstraint) -> Gaussian:
    return condition(condition(gaussian, curvature(gaussian)), mass)


METHODS: dict[str, Method] = {
    "surrogate": _unchanged,
    "HardC": project,
    "ProbConserv": condition,
    "ProbConserv + curvature": _smoothed,
}
"""What is done to each predicted Gaussian, by the names that the tables have."""


def evaluate_surrogate(
    model: AttentiveNeuralProcess,
    equation: AbstractEquation,
    *,
    key: PRNGKeyArray,
    mode: str = "zmean",
    samples: int = 1,
    functions: int = TEST_FUNCTIONS,
    contexts: tuple[Array, Array] | None = None,
) -> dict[str, dict[str, tuple[float, float]]]:
    """One block of a results table: every method on test functions of one equation.

    At the equation's evaluation time, on 201 points: the mass is imposed on the Gaussian of each
    sample, then moments are pooled over the samples, then metrics are averaged over functions.

    **Arguments:**

    - `model`: predicts a Gaussian from a [`jaxsci.surrogates.Task`][].
    - `equation`: with a concrete parameter.
    - `key`: the seed of contexts, samples and draws.
    - `mode`, `samples`: as in [`jaxsci.surrogates.pooled_moments`][].
    - `functions`: how many sets of context points are drawn.
    - `contexts`: points `(functions, nc, 2)` and values `(functions, nc)` to use instead.

    **Returns:** `{method: {metric: (mean, standard error)}}`. Where the solution has a front:
    `"shock_error"`, the root mean square error of the first point where a draw from the full
    posterior falls to 0, as published, and `"no_shock"`, the fraction of draws that never do;
    `"front_error_draws"`, the same for the point where a draw passes half the height of the front,
    and `"front_error"`, for the point where the mean does.
    """
    data_key, draw_key = jax.random.split(key)
    if contexts is None:
        parameters = jnp.full(functions, equation.parameter)
        batch = sample_tasks(type(equation), data_key, functions, parameters)
        contexts = batch.context_points, batch.context_values
    keys = jax.random.split(draw_key, (len(contexts[0]), 1 if mode == "zmean" else samples))
    model = eqx.nn.inference_mode(model, mode != "dropout")
    rows = _rows(model, equation, *contexts, keys, mode == "zmean")
    return {
        method: {
            metric: _floats(mean_and_standard_error(values))
            for metric, values in rows[method].items()
        }
        for method in METHODS  # `jit` returns dictionaries sorted by key
    }


def _floats(pair: tuple[Array, Array]) -> tuple[float, float]:
    return float(pair[0]), float(pair[1])


def front_height(truth: Float[Array, " points"]) -> Float[Array, ""]:
    """What the true solution falls by from one point to the next at its front."""
    return jnp.max(truth[:-1] - truth[1:])


@eqx.filter_jit
def _rows(
    model: AttentiveNeuralProcess,
    equation: AbstractEquation,
    context_points: Array,
    context_values: Array,
    keys: PRNGKeyArray,
    deterministic: bool,
) -> dict[str, dict[str, Array]]:
    x = jnp.linspace(*equation.x_bounds, POINTS)
    time = jnp.asarray(equation.evaluation_time)
    truth, b = equation.solution(jnp.full_like(x, time), x), equation.mass(time)
    front = equation.shock_position(time)
    half_height = front_height(truth) / 2
    grid = Grid.from_points(x=x)
    mass = integral(grid, b)
    tasks = slice_tasks(context_points, context_values, time, x)

    def function(arguments: tuple[Any, PRNGKeyArray]) -> dict[str, dict[str, Array]]:
        task, sample_keys = arguments

        def sample(key: PRNGKeyArray) -> dict[str, tuple[Array, Array, Array, Array]]:
            model_key, shock_key = jax.random.split(key)
            gaussian = model(task, key=None if deterministic else model_key)
            draws = max(1, SHOCK_DRAWS // len(sample_keys))
            out = {}
            for name, method in METHODS.items():
                updated = method(gaussian, mass)
                fields = updated.sample(shock_key, (draws,))
                shocks = shock_position(fields, x)
                fronts = shock_position(fields, x, threshold=half_height, subcell=True)
                out[name] = updated.mean, updated.marginal_var, shocks, fronts
            return out

        by_method = lax.map(sample, sample_keys, batch_size=10)
        rows = {}
        for name, (means, variances, shocks, fronts) in by_method.items():
            mean, var = pool_moments(means, variances)
            rows[name] = summarise(mean, var, truth, grid.weights(), b)
            summary = shock_summary(shocks.ravel(), front)
            rows[name] |= {"shock_error": summary.error, "no_shock": summary.none}
            rows[name]["front_error_draws"] = shock_summary(fronts.ravel(), front).error
            middle = shock_position(mean, x, threshold=half_height, subcell=True)
            rows[name]["front_error"] = jnp.abs(middle - front)
        return rows

    return lax.map(function, (tasks, keys))


class Showcase(eqx.Module):
    """One test function in full, for the figures: `"before"` and `"after"`, at all times.

    - `x`, `t`: points `(nx,)` and times `(nt,)`; `time`: that of the profiles.
    - `predictions`: `{name: (mean, variance)}` at `time`, each `(nx,)`; `truth`: `(nx,)`.
    - `masses`: `{name: (nt,)}`; `true_mass`: `(nt,)`.
    - `shocks`: `{name: (draws,)}` at `time`, where draws pass half the height of the front;
        `true_shock`: a scalar, NaN without a front.
    - `calibration`: `{name: (levels, observed)}` over all points and times.
    """

    x: Float[Array, " nx"]
    t: Float[Array, " nt"]
    time: Float[Array, ""]
    predictions: dict[str, tuple[Array, Array]]
    truth: Float[Array, " nx"]
    masses: dict[str, Array]
    true_mass: Float[Array, " nt"]
    shocks: dict[str, Array]
    true_shock: Float[Array, ""]
    calibration: dict[str, tuple[Array, Array]]


@eqx.filter_jit
def showcase(
    model: AttentiveNeuralProcess,
    equation: AbstractEquation,
    *,
    key: PRNGKeyArray,
    times: int = 41,
    draws: int = 1000,
) -> Showcase:
    """Predicts one function deterministically, before and after the mass is imposed.

    **Arguments:** as [`jaxsci.experiments.evaluate_surrogate`][]; `times` equally spaced from just
    after the start to the end, `draws` for the histogram of the front.
    """
    data_key, draw_key = jax.random.split(key)
    batch = sample_tasks(type(equation), data_key, 1, jnp.full(1, equation.parameter))
    x = jnp.linspace(*equation.x_bounds, POINTS)
    t = jnp.linspace(*equation.t_bounds, times + 1)[1:]
    time = jnp.asarray(equation.evaluation_time)
    grid, model = Grid.from_points(x=x), eqx.nn.inference_mode(model)

    def slice_at(time: Array) -> dict[str, Gaussian]:
        tasks = slice_tasks(batch.context_points, batch.context_values, time, x)
        gaussian = model(jax.tree.map(lambda leaf: leaf[0], tasks))
        mass = integral(grid, equation.mass(time))
        return {"before": gaussian, "after": condition(gaussian, mass)}

    def moments(time: Array) -> dict[str, tuple[Array, Array]]:
        return {n: (g.mean, g.marginal_var) for n, g in slice_at(time).items()}

    over_time = lax.map(moments, t)
    truth = jax.vmap(lambda at: equation.solution(jnp.full_like(x, at), x))(t)
    now, weights = slice_at(time), grid.weights()
    profile = equation.solution(jnp.full_like(x, time), x)

    def fronts(gaussian: Gaussian) -> Array:
        fields = gaussian.sample(draw_key, (draws,))
        return shock_position(fields, x, threshold=front_height(profile) / 2, subcell=True)

    return Showcase(
        x=x,
        t=t,
        time=time,
        predictions={n: (g.mean, g.marginal_var) for n, g in now.items()},
        truth=profile,
        masses={n: jnp.sum(m * weights[None, :], 1) for n, (m, _) in over_time.items()},
        true_mass=equation.mass(t),
        shocks={n: fronts(g) for n, g in now.items()},
        true_shock=equation.shock_position(time),
        calibration={n: calibration_curve(m, v, truth) for n, (m, v) in over_time.items()},
    )
