"""How good mean and variance are, with and without the conserved mass, in each domain."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.conservation import LinearConstraint, condition, integral
from jaxsci.equations.families import Sample
from jaxsci.gaussians import Gaussian, blocks
from jaxsci.grids import Grid
from jaxsci.metrics import (
    calibration_curve,
    calibration_error,
    crps,
    gaussian_log_likelihood,
    interval_coverage,
    interval_width,
    mean_squared_error,
    n_merci,
)

LEVELS = (0.5, 0.9, 0.95)
MIN_VARIANCE = 1e-8  # as in the published tables; of the likelihood only

Update = Callable[[Gaussian, LinearConstraint], Gaussian]


def _unchanged(gaussian: Gaussian, mass: LinearConstraint) -> Gaussian:
    del mass
    return gaussian


def _independent(gaussian: Gaussian, mass: LinearConstraint) -> Gaussian:
    return condition(Gaussian.diagonal(gaussian.mean, gaussian.marginal_var), mass)


UPDATES: dict[str, Update] = {
    "none": _unchanged,
    "ProbConserv": _independent,
    "with covariance": condition,
}
"""What is done to the Gaussian of each time: nothing; the published update, by the variances alone;
the update by the covariance between the points of that time."""


class Moments(eqx.Module):
    """Mean and variance of each function by each update, and how much mass they create.

    Each a dictionary by update: `mean`, `var` `(functions, times, points)`; `residual`
    `(functions, times)`, the integral minus what it should be.
    """

    mean: dict[str, Array]
    var: dict[str, Array]
    residual: dict[str, Array]


@eqx.filter_jit
def predict_moments(
    surrogate: Callable[..., Gaussian],
    batch: Sample,
    masses: Float[Array, "functions times"],
    grid: Grid,
    *,
    key: PRNGKeyArray,
) -> Moments:
    """Every update of every function of a stacked sample.

    **Arguments:** `surrogate`: over `(1, times, points)`; `masses`: what `x` integrates to.
    """
    times, space = masses.shape[1], grid.spatial

    def slice_updates(gaussian: Gaussian, b: Array) -> dict[str, tuple[Array, Array, Array]]:
        mass = integral(space, b)
        out = {}
        for name, update in UPDATES.items():
            updated = update(gaussian, mass)
            residual = mass.residual(updated.mean)[0]
            out[name] = updated.mean, updated.marginal_var, residual
        return out

    def function(arguments: tuple[Array, Array, PRNGKeyArray]) -> dict[str, Any]:
        inputs, b, key = arguments
        gaussian = surrogate(inputs, key=key)
        return jax.vmap(slice_updates)(blocks(gaussian, times), b)

    keys = jax.random.split(key, len(masses))
    found = lax.map(function, (batch.inputs, masses, keys), batch_size=8)
    parts = [{name: found[name][i] for name in UPDATES} for i in range(3)]
    return Moments(*parts)


@eqx.filter_jit
def uncertainty_scores(
    mean: Float[Array, "functions times points"],
    var: Float[Array, "functions times points"],
    truth: Float[Array, "functions times points"],
    residual: Float[Array, "functions times"],
) -> dict[str, Array]:
    """The numbers of one row of the tables.

    - `MSE`, `NLL` (per point), `CRPS`, `width_95`, `coverage_50`, ...: over all points of all
        functions.
    - `CE`: `|integral - mass|`, mean over times and functions.
    - `n-MeRCI`: over functions, of the mean absolute error and the root mean variance of each.
    - `RMSCE`: root mean square distance of the coverage of central intervals (5 %, ..., 95 %) from
        their level.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.experiments import uncertainty_scores
        >>> truth = jnp.arange(12.0).reshape(2, 2, 3)
        >>> scores = uncertainty_scores(truth + 1, jnp.ones((2, 2, 3)), truth, jnp.ones((2, 2)))
        >>> float(scores["MSE"]), float(scores["CE"]), float(scores["coverage_50"])
        (1.0, 1.0, 0.0)
    """
    off = jnp.mean(jnp.abs(mean - truth), axis=(1, 2))
    spread = jnp.sqrt(jnp.mean(var, axis=(1, 2)))
    scores = {
        "MSE": mean_squared_error(mean, truth),
        "NLL": -gaussian_log_likelihood(mean, var, truth, min_var=MIN_VARIANCE),
        "CRPS": crps(mean, var, truth),
        "width_95": interval_width(var, 0.95),
        "CE": jnp.mean(jnp.abs(residual)),
        "n-MeRCI": n_merci(off, spread),
        "RMSCE": calibration_error(*calibration_curve(mean, var, truth)),
    }
    for level in LEVELS:
        scores[f"coverage_{100 * level:g}"] = interval_coverage(mean, var, truth, level)
    return scores
