"""Scores of one Gaussian prediction against the truth, averaged over its points."""

import math

import jax.numpy as jnp
from jax import lax
from jax.scipy.special import ndtr
from jaxtyping import Array, ArrayLike, Float

from jaxsci.precision import compensated_dot

from ._arrays import as_floating, as_like, moments, require_nonempty


def conservation_error(
    mean: Float[ArrayLike, "*points"], weights: Float[ArrayLike, "*grid"], b: ArrayLike
) -> Float[Array, ""]:
    """How much of the conserved quantity a prediction creates (> 0) or loses (< 0).

    `CE = sum_i w_i mean_i - b`, signed; on a uniform grid with trapezoid weights this is the
    length of the domain times the trapezoid mean, minus `b`. The sum is compensated, so that what
    is measured is the prediction's error and not the measurement's own rounding.

    **Arguments:**

    - `mean`: predicted field, any shape.
    - `weights`: quadrature weights (`grid.weights()`), as many numbers as `mean`, in its order.
    - `b`: what the integral should be, a scalar.

    **Returns:** a scalar in the dtype of `mean` (float32 for half precisions). A quadrature of a
    *true* discontinuous field is not `b` either: with a jump inside a cell of width `h` it is off
    by up to half the jump times `h`.

    **Raises:** `ValueError` if the numbers of entries differ or `b` is not a scalar; `TypeError`
    for integer fields.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.grids import Grid
        >>> grid = Grid.uniform(x=(0.0, 1.0, 5))
        >>> field = 1 - grid.axis("x").points
        >>> float(conservation_error(field, grid.weights(), 0.25))
        0.25
    """
    mean = as_floating("conservation_error", "mean", mean)
    weights = jnp.asarray(weights)
    if weights.size != mean.size:
        raise ValueError(
            f"`conservation_error(weights=...)`: expected as many weights as `mean` has values "
            f"({mean.size}), got {weights.size}; use `jax.vmap` for a batch"
        )
    dtype = mean.dtype if mean.dtype == jnp.float64 else jnp.float32
    b = jnp.asarray(b, dtype)
    if b.ndim:
        raise ValueError(
            f"`conservation_error(b=...)`: expected a scalar, got shape {b.shape}; use `jax.vmap` "
            "for several slices"
        )
    return compensated_dot(weights.ravel().astype(dtype), mean.ravel().astype(dtype), -b)


def gaussian_log_likelihood(
    mean: Float[ArrayLike, "*points"],
    var: Float[ArrayLike, "*points"],
    truth: Float[ArrayLike, "*points"],
    *,
    min_var: float = 0.0,
) -> Float[Array, ""]:
    """Mean over the points of the marginal log-density of the truth (higher is better).

    `LL = mean_i [-(truth_i - mean_i)^2 / (2 v_i) - log(2 pi v_i) / 2]`, `v_i = max(var_i, min_var)`

    **Arguments:**

    - `mean`, `var`, `truth`: same shape; `var` is a variance, not a standard deviation.
    - `min_var`: a floor for the variance. The published tables use `1e-8`. With the default a
        point of zero variance gives `-inf` if the prediction is wrong there, and `nan` if right.

    **Returns:** a scalar, in nats per point.

    **Raises:** `ValueError` for unequal shapes, negative variances or no points.

    !!! example
        >>> import jax.numpy as jnp
        >>> zero, one = jnp.zeros(3), jnp.ones(3)
        >>> round(float(gaussian_log_likelihood(zero, one, zero)), 4)
        -0.9189
    """
    mean, var, truth = moments("gaussian_log_likelihood", mean, var, truth)
    var = jnp.maximum(var, min_var)
    return jnp.mean(-0.5 * ((truth - mean) ** 2 / var + jnp.log(2 * math.pi * var)))


def mean_squared_error(
    mean: Float[ArrayLike, "*points"], truth: Float[ArrayLike, "*points"]
) -> Float[Array, ""]:
    """`MSE = mean_i (mean_i - truth_i)^2`.

    **Arguments:** `mean`, `truth`: same shape.

    **Returns:** a scalar, in squared units of the field.

    **Raises:** `ValueError` for unequal shapes or no points.
    """
    mean = as_floating("mean_squared_error", "mean", mean)
    require_nonempty("mean_squared_error", "mean", mean)
    truth = as_like("mean_squared_error", "truth", truth, "mean", mean)
    return jnp.mean((mean - truth) ** 2)


def relative_l2(u: Float[Array, "..."], truth: Float[Array, "..."]) -> Float[Array, ""]:
    """`|u - truth| / |truth|` of one sample, over all channels and points.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.metrics import relative_l2
        >>> relative_l2(jnp.array([3.0, 5.0]), jnp.array([3.0, 4.0]))
        Array(0.2, dtype=float32)
    """
    squared = jnp.sum((u - truth) ** 2) / jnp.sum(truth**2)
    # Double where: the root's slope is infinite at 0, which an exact prediction reaches.
    exact = squared == 0
    return jnp.where(exact, 0, jnp.sqrt(jnp.where(exact, 1, squared)))


def crps(
    mean: Float[ArrayLike, "*points"],
    var: Float[ArrayLike, "*points"],
    truth: Float[ArrayLike, "*points"],
) -> Float[Array, ""]:
    """Continuous ranked probability score of Gaussian marginals, mean over the points.

    `CRPS(F, u) = integral (F(y) - 1{y >= u})^2 dy`, which for `N(m, s^2)` and `z = (u - m) / s` is
    `s [z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi)]`. Lower is better; for `s = 0` it is `|u - m|`.

    **Arguments:** `mean`, `var` (a variance), `truth`: same shape.

    **Returns:** a scalar, in units of the field.

    **Raises:** `ValueError` for unequal shapes, negative variances or no points.

    Reference: Gneiting and Raftery, *Strictly proper scoring rules, prediction, and estimation*,
    J. Am. Stat. Assoc. 102 (2007), eq. 21 (with the opposite sign).

    !!! example
        >>> import jax.numpy as jnp
        >>> zero, one = jnp.zeros(3), jnp.ones(3)
        >>> round(float(crps(zero, one, zero)), 4)
        0.2337
    """
    mean, var, truth = moments("crps", mean, var, truth)
    # Without a variance the score is the absolute error; the inner `where` keeps the infinite
    # derivative of the root at 0 out of the gradient.
    sure = var == 0
    std = jnp.sqrt(jnp.where(sure, 1, var))
    z = (truth - mean) / std
    density = jnp.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    spread = std * (z * (2 * ndtr(z) - 1) + 2 * density - 1 / math.sqrt(math.pi))
    return jnp.mean(jnp.where(sure, jnp.abs(truth - mean), spread))


def crps_from_samples(
    samples: Float[ArrayLike, "draws *points"], truth: Float[ArrayLike, "*points"]
) -> Float[Array, ""]:
    """Continuous ranked probability score of an ensemble, unbiased in its size ("fair").

    `mean_j |x_j - u| - 1 / (2 n (n - 1)) sum_{j,k} |x_j - x_k|`, mean over the points. With
    `n (n - 1)` in place of the plug-in `n^2` its expectation over draws is the CRPS of the
    distribution they come from, so that ensembles of different sizes may be compared. The double
    sum is taken over sorted draws: O(n log n).

    **Arguments:**

    - `samples`: at least two draws along the first axis.
    - `truth`: shape of one draw.

    **Returns:** a scalar, in units of the field; it may be slightly negative, being unbiased.

    **Raises:** `ValueError` for fewer than two draws or a truth of another shape.

    Reference: Ferro, *Fair scores for ensemble forecasts*, Q. J. R. Meteorol. Soc. 140 (2014).

    !!! example
        >>> import jax.numpy as jnp
        >>> float(crps_from_samples(jnp.array([0.0, 2.0]), jnp.array(1.0)))
        0.0
    """
    samples = as_floating("crps_from_samples", "samples", samples)
    if samples.ndim == 0 or samples.shape[0] < 2:
        raise ValueError(
            "`crps_from_samples(samples=...)`: expected at least two draws along the first axis, "
            f"got shape {samples.shape}; one draw says nothing about spread"
        )
    require_nonempty("crps_from_samples", "samples", samples)
    truth = as_like("crps_from_samples", "truth", truth, "samples[0]", samples[0])
    n = samples.shape[0]
    # sum_{j,k} |x_j - x_k| = 2 sum_j (2 j - n + 1) x_(j) for sorted x; taken relative to the
    # truth, which changes nothing in exact arithmetic and avoids cancellation in float32.
    error = jnp.sort(samples - truth[None], axis=0)
    rank = (2 * jnp.arange(n) - n + 1).astype(error.dtype)
    spread = jnp.tensordot(rank, error, axes=1, precision=lax.Precision.HIGHEST) / (n * (n - 1))
    return jnp.mean(jnp.mean(jnp.abs(error), axis=0) - spread)


def pool_moments(
    means: Float[ArrayLike, "samples *points"],
    variances: Float[ArrayLike, "samples *points"],
    *,
    min_var: float = 1e-8,
) -> tuple[Float[Array, "*points"], Float[Array, "*points"]]:
    """Mean and variance of an equal mixture of Gaussians, e.g. one per latent sample.

    `mean = mean_j mean_j`, `var = mean_j var_j + var_j mean_j` (the law of total variance, with
    divisor `n`), raised to `min_var` where it is less.

    **Arguments:**

    - `means`, `variances`: one Gaussian per entry of the first axis, same shape.
    - `min_var`: floor of the result; `1e-8` as in the published tables.

    **Returns:** `(mean, var)`, of the shape of one Gaussian.

    **Raises:** `ValueError` for unequal shapes, negative variances or no samples.

    Reference: Hansen et al., *Learning physical models that can respect conservation laws* (2023).
    """
    means, variances, _ = moments("pool_moments", means, variances, means)
    if means.ndim == 0:
        raise ValueError("`pool_moments(means=...)`: expected samples along a first axis, got none")
    var = jnp.mean(variances, axis=0) + jnp.var(means, axis=0)
    return jnp.mean(means, axis=0), jnp.maximum(var, min_var)


def mean_and_standard_error(
    values: Float[ArrayLike, "functions *rest"],
) -> tuple[Float[Array, "*rest"], Float[Array, "*rest"]]:
    """Mean over the first axis, and the standard error of that mean.

    `sd / sqrt(n)`, with the unbiased standard deviation (divisor `n - 1`).

    **Arguments:**

    - `values`: one metric per function, at least two functions along the first axis.

    **Returns:** `(mean, standard error)`.

    **Raises:** `ValueError` for fewer than two functions.

    !!! example
        >>> import jax.numpy as jnp
        >>> mean, error = mean_and_standard_error(jnp.array([1.0, 2.0, 3.0]))
        >>> float(mean), round(float(error), 4)
        (2.0, 0.5774)
    """
    values = as_floating("mean_and_standard_error", "values", values)
    if values.ndim == 0 or values.shape[0] < 2:
        raise ValueError(
            "`mean_and_standard_error(values=...)`: expected at least two functions along the "
            f"first axis, got shape {values.shape}"
        )
    n = values.shape[0]
    return jnp.mean(values, axis=0), jnp.std(values, axis=0, ddof=1) / math.sqrt(n)
