"""Whether a prediction's uncertainty is the right size: coverage, widths, calibration."""

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, ArrayLike, Float

from ._arrays import (
    as_floating,
    as_like,
    moments,
    require_level,
    require_nonempty,
    require_nonnegative,
)

# Nominal levels of the calibration curve: 5 %, 10 %, ..., 95 %.
_LEVELS = tuple(np.round(np.linspace(0.05, 0.95, 19), 2).tolist())


def _halfwidths(level: ArrayLike, dtype: jnp.dtype) -> Array:
    """Half the central interval of a standard normal, in standard deviations."""
    return ndtri((1 + jnp.asarray(level, dtype)) / 2)


def interval_coverage(
    mean: Float[ArrayLike, "*points"],
    var: Float[ArrayLike, "*points"],
    truth: Float[ArrayLike, "*points"],
    level: ArrayLike = 0.95,
) -> Float[Array, ""]:
    """Fraction of points at which the truth lies in the central interval of probability `level`.

    `mean_i 1{|truth_i - mean_i| <= z sqrt(var_i)}`, `z = Phi^-1((1 + level) / 2)`. A calibrated
    prediction covers `level` of the points; less is overconfident.

    **Arguments:**

    - `mean`, `var` (a variance), `truth`: same shape.
    - `level`: a probability, 0.95 for the 95 % interval.

    **Returns:** a scalar in [0, 1]; a step function of its inputs, with gradient 0. NaN if any
    input is.

    **Raises:** `ValueError` for a level outside (0, 1), unequal shapes, negative variances.

    !!! example
        >>> import jax.numpy as jnp
        >>> zero, one = jnp.zeros(4), jnp.ones(4)
        >>> float(interval_coverage(zero, one, jnp.array([0.0, 1.9, 2.0, -3.0]), 0.95))
        0.5
    """
    mean, var, truth = moments("interval_coverage", mean, var, truth)
    require_level("interval_coverage", level)
    inside = jnp.abs(truth - mean) <= _halfwidths(level, mean.dtype) * jnp.sqrt(var)
    unknown = jnp.isnan(truth) | jnp.isnan(mean) | jnp.isnan(var)
    return jnp.mean(jnp.where(unknown, jnp.nan, inside.astype(mean.dtype)))


def interval_width(var: Float[ArrayLike, "*points"], level: ArrayLike = 0.95) -> Float[Array, ""]:
    """Width of the central interval of probability `level`, mean over the points.

    `mean_i 2 z sqrt(var_i)`, `z = Phi^-1((1 + level) / 2)`: of two predictions with the same
    coverage the narrower is better.

    **Arguments:**

    - `var`: variances, any shape.
    - `level`: a probability, 0.95 for the 95 % interval.

    **Returns:** a scalar, in units of the field.

    **Raises:** `ValueError` for a level outside (0, 1), negative variances or no points.
    """
    var, _, _ = moments("interval_width", var, var, var)
    require_level("interval_width", level)
    return jnp.mean(2 * _halfwidths(level, var.dtype) * jnp.sqrt(var))


def calibration_curve(
    mean: Float[ArrayLike, "*points"],
    var: Float[ArrayLike, "*points"],
    truth: Float[ArrayLike, "*points"],
    levels: Float[ArrayLike, " levels"] | Sequence[float] = _LEVELS,
) -> tuple[Float[Array, " levels"], Float[Array, " levels"]]:
    """Observed coverage of the central intervals against their nominal probability.

    For a batch, `vmap` and average the observed coverages (the nominal ones are the same).

    **Arguments:**

    - `mean`, `var` (a variance), `truth`: same shape.
    - `levels`: nominal probabilities, 5 % to 95 % in steps of 5 % by default.

    **Returns:** `(nominal, observed)`; on the diagonal is calibrated, below it overconfident.

    **Raises:** as `interval_coverage`; `ValueError` if `levels` is not 1-D.

    !!! example
        >>> import jax.numpy as jnp
        >>> zero, one = jnp.zeros(2), jnp.ones(2)
        >>> nominal, observed = calibration_curve(zero, one, one, [0.6, 0.8])
        >>> observed.tolist()
        [0.0, 1.0]
    """
    mean, var, truth = moments("calibration_curve", mean, var, truth)
    require_level("calibration_curve", levels)
    nominal = jnp.asarray(levels, mean.dtype)
    if nominal.ndim != 1:
        raise ValueError(
            f"`calibration_curve(levels=...)`: expected a 1-D array, got shape {nominal.shape}"
        )
    error, std = jnp.abs(truth - mean).ravel(), jnp.sqrt(var).ravel()
    inside = error[None, :] <= _halfwidths(nominal, mean.dtype)[:, None] * std[None, :]
    return nominal, jnp.mean(inside.astype(mean.dtype), axis=1)


def calibration_error(
    nominal: Float[ArrayLike, " levels"], observed: Float[ArrayLike, " levels"]
) -> Float[Array, ""]:
    """Root mean square distance of a calibration curve from the diagonal (RMSCE).

    `sqrt(mean_j (observed_j - nominal_j)^2)`: 0 is calibrated.

    **Arguments:** `nominal`, `observed`: as `calibration_curve` returns them.

    **Returns:** a scalar in [0, 1].

    **Raises:** `ValueError` for unequal shapes or no levels.
    """
    nominal = as_floating("calibration_error", "nominal", nominal)
    require_nonempty("calibration_error", "nominal", nominal)
    observed = as_like("calibration_error", "observed", observed, "nominal", nominal)
    return jnp.sqrt(jnp.mean((observed - nominal) ** 2))


def n_merci(
    errors: Float[ArrayLike, "*cases"], stds: Float[ArrayLike, "*cases"], level: ArrayLike = 0.95
) -> Float[Array, ""]:
    """Whether predictions that are further off are less sure: 0 is best (n-MeRCI).

    ```
    s = quantile(e_i / std_i, level)                    standard deviations, rescaled to cover
    n-MeRCI = (mean(s std_i) - mean(e_i)) / (max(e_i) - mean(e_i))
    ```

    The uncertainties are rescaled so that a share `level` of the errors lies within them, and then
    compared with the errors in size: a number near 0 says that they follow the errors. One that is
    the same for all gives `(quantile(e) - mean(e)) / (max(e) - mean(e))`, and above that, which is
    below 1, a constant is better. It does not depend on the size of the uncertainties.

    **Arguments:**

    - `errors`: `|truth - mean|`, nonnegative, one for each point or for each function, any shape.
    - `stds`: the standard deviations that were predicted for them.
    - `level`: 0.95 in the paper.

    **Returns:** a scalar; NaN where all errors are equal.

    **Raises:** `ValueError` for a level outside (0, 1), unequal shapes, negative numbers or none.

    !!! example
        >>> import jax.numpy as jnp
        >>> error = jnp.array([0.1, 0.2, 0.4])
        >>> round(float(n_merci(error, 3 * error)), 4)  # all that is known of the size of errors
        0.0
        >>> round(float(n_merci(error, jnp.ones(3))), 4)
        0.88

    Reference: Moukari, Simon, Picard and Jurie, *n-MeRCI: A new Metric to Evaluate the Correlation
    Between Predictive Uncertainty and True Error*, IROS 2019.
    """
    errors = as_floating("n_merci", "errors", errors)
    require_nonempty("n_merci", "errors", errors)
    stds = as_like("n_merci", "stds", stds, "errors", errors)
    for name, array in (("errors", errors), ("stds", stds)):
        require_nonnegative("n_merci", name, array, "numbers")
    require_level("n_merci", level)
    # Nothing is off where nothing is: 0 / 0 counts as covered by any rescaling.
    exact = (errors == 0) & (stds == 0)
    ratio = jnp.where(exact, 0, errors / jnp.where(exact, 1, stds))
    rescale = jnp.quantile(ratio.ravel(), jnp.asarray(level, errors.dtype))
    mean = jnp.mean(errors)
    return (rescale * jnp.mean(stds) - mean) / (jnp.max(errors) - mean)
