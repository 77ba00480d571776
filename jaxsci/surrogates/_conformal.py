"""Uncertainty that is as large as the errors on functions that were held back."""

import math
from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import ndtri
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxsci.errors import is_concrete, lookup, require_finite
from jaxsci.gaussians import Gaussian
from jaxsci.precision import largest

from ._model_call import call_model

Target = Literal["points", "fields"]
"""What an interval is to cover: a share of the points, or all points of a share of the fields."""


def conformal_factor(
    means: Float[ArrayLike, "functions *points"],
    variances: Float[ArrayLike, "functions *points"],
    truths: Float[ArrayLike, "functions *points"],
    *,
    level: float = 0.95,
    cover: Target = "points",
) -> Float[Array, ""]:
    """By how much variances must be multiplied for intervals to cover what they should.

    ```
    score = |truth - mean| / std,    factor = (q / z)^2,    z = Phi^-1((1 + level) / 2)
    ```

    with `q` a quantile of the scores of `N` functions that count as `N + 1`, the new one as
    infinitely far off. Then, if the new function is exchangeable with these, whatever the model
    and the distribution of its errors, the central `level` interval of the Gaussian with variances
    times `factor` covers, in expectation,

    - `cover="points"`: at least a share `level` of the new function's points. `q` is the smallest
        number with `sum_i F_i(q) >= level (N + 1)`, `F_i(q)` the share of the points of function
        `i` whose score is at most `q`. Points of one function need not be independent.
    - `cover="fields"`: all of the new function's points, with probability `level`: the score of a
        function is its largest.

    Intervals of other levels are scaled with it, without a guarantee. There is none for functions
    from elsewhere than those held back, out of the domain of training for one.

    **Arguments:**

    - `means`, `variances`, `truths`: of functions used neither in training nor to choose a model.
    - `level`: a probability; 0.95 needs at least 19 functions, `N >= level / (1 - level)`.
    - `cover`: as above.

    **Returns:** a positive scalar; infinite (under `jit`; else an error) where points without
    variance must be covered that are not predicted to rounding.

    **Raises:** `ValueError` for shapes that differ, a level that is no probability, too few
    functions, numbers that are not finite or negative variances.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.surrogates import conformal_factor
        >>> truths = 3 * jax.random.normal(jax.random.key(0), (1000, 20))
        >>> factor = conformal_factor(jnp.zeros((1000, 20)), jnp.ones((1000, 20)), truths)
        >>> bool(jnp.isclose(factor, 9.0, rtol=0.05))
        True

    Reference: Vovk, Gammerman and Shafer, *Algorithmic Learning in a Random World*, 2005; for
    points in groups Lee, Barber and Willett, *Distribution-free inference with hierarchical data*,
    2023, of which this is the case of groups of one size.
    """
    where = "conformal_factor"
    lookup("cover", cover, {"points": None, "fields": None})
    if not (isinstance(level, float) and 0 < level < 1):
        raise ValueError(
            f"`{where}(level=...)`: expected a probability between 0 and 1 (0.95, not 95), got "
            f"{level!r}"
        )
    mean = jnp.asarray(means)
    var, truth = (jnp.asarray(a, mean.dtype) for a in (variances, truths))
    if mean.ndim < 1 or not mean.shape == var.shape == truth.shape or not mean.size:
        raise ValueError(
            f"`{where}(means, variances, truths)`: expected one shape (functions, ...), got "
            f"{mean.shape}, {var.shape} and {truth.shape}"
        )
    for name, array in (("means", mean), ("variances", var), ("truths", truth)):
        require_finite(where, name, array)
    if is_concrete(var) and (np.asarray(var) < 0).any():
        least = float(np.asarray(var).min())
        raise ValueError(f"`{where}(variances=...)`: expected numbers >= 0, got {least}")
    functions = len(mean)
    scores = _scores(mean, var, truth).reshape(functions, -1)
    if cover == "fields":
        # A field with NaN is infinitely far off.
        scores = jnp.nan_to_num(largest(scores, 1), nan=jnp.inf, posinf=jnp.inf)[:, None]
    # A little less, so that 0.95 x 20 in binary is not 20 but 19.
    needed = math.ceil(level * (functions + 1) * scores.shape[1] * (1 - 1e-12))
    if needed > scores.size:
        least = math.ceil(level / (1 - level) * (1 - 1e-12))
        raise ValueError(
            f"`{where}(level={level})`: expected at least {least} functions to calibrate with, got "
            f"{functions}; lower the level or hold more back"
        )
    quantile = jnp.sort(scores.ravel())[needed - 1]
    factor = (quantile / ndtri(jnp.asarray((1 + level) / 2, scores.dtype))) ** 2
    if is_concrete(factor) and not (np.isfinite(factor) and factor > 0):
        raise ValueError(
            f"`{where}(variances=...)`: expected variances that can be scaled to cover the errors, "
            f"got a factor of {float(factor)}: too many points have no variance but an error, or "
            "no error; add a floor to the variance, or leave out points that are known"
        )
    return factor


def _scores(mean: Array, var: Array, truth: Array) -> Array:
    """`|truth - mean| / std`; where there is no variance, 0 for an error of rounding's size."""
    error = jnp.abs(truth - mean)
    known = var == 0
    rounding = 8 * jnp.finfo(mean.dtype).eps * jnp.max(jnp.abs(truth))
    at_known = jnp.where(error <= rounding, 0, jnp.inf)
    return jnp.where(known, at_known, error / jnp.sqrt(jnp.where(known, 1, var)))


class Recalibrated(eqx.Module):
    """A surrogate whose covariance is multiplied by one number; its mean stays.

    ```
    N(m, C)  ->  N(m, factor C)
    ```

    What holds exactly (a conserved total, a value at a wall) holds exactly as before:
    `G C G' = 0` stays 0. As the update by an exact constraint commutes with it, it makes no
    difference which comes first, except that errors are smaller after it: calibrate what is used.

    **Arguments:**

    - `surrogate`: called as `surrogate(inputs, key=key)`, if it takes a key and one is given.
    - `factor`: of the variances, e.g. a [`jaxsci.surrogates.conformal_factor`][].

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.gaussians import Gaussian
        >>> from jaxsci.surrogates import Recalibrated, conformal_factor
        >>> surrogate = lambda x: Gaussian.diagonal(2 * x, jnp.full_like(x, 1e-3))
        >>> x = jax.random.normal(jax.random.key(0), (400, 8))  # functions that were held back
        >>> truths = 2 * x + 0.1 * jax.random.normal(jax.random.key(1), x.shape)
        >>> held_back = jax.vmap(lambda x: (surrogate(x).mean, surrogate(x).marginal_var))(x)
        >>> honest = Recalibrated(surrogate, conformal_factor(*held_back, truths))
        >>> bool(jnp.isclose(honest(x[0]).marginal_std[0], 0.1, rtol=0.1))
        True
    """

    surrogate: Callable[..., Gaussian]
    factor: Float[Array, ""]

    def __init__(self, surrogate: Callable[..., Gaussian], factor: ArrayLike):
        self.surrogate = surrogate
        self.factor = jnp.asarray(factor)
        if self.factor.ndim:
            raise ValueError(
                f"`Recalibrated(factor=...)`: expected a scalar, got shape {self.factor.shape}"
            )

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The Gaussian of the surrogate, its covariance times `factor`."""
        gaussian = call_model(self.surrogate, inputs, key)
        return gaussian.scale_cov(self.factor.astype(gaussian.mean.dtype))
