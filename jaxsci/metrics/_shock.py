"""Where a front is, according to draws from a posterior."""

from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxsci.errors import is_concrete, require_finite
from jaxsci.gaussians import Gaussian
from jaxsci.precision import safe_sqrt

from ._arrays import as_floating


class ShockSummary(NamedTuple):
    """What a set of shock positions says: `mean`, `sd`, the fraction `none`, and `error`.

    - `mean`: mean position of the draws that have a shock; `nan` if none has.
    - `sd`: their standard deviation (divisor `n - 1`); `nan` if fewer than two have one.
    - `none`: fraction of the draws without a shock.
    - `error`: root mean square distance from the true position, over the draws that have a shock;
        `nan` if the truth is not known or is "none".
    """

    mean: Float[Array, ""]
    sd: Float[Array, ""]
    none: Float[Array, ""]
    error: Float[Array, ""]


def shock_position(
    draws: Float[ArrayLike, "*batch points"],
    x: Float[ArrayLike, " points"],
    *,
    threshold: ArrayLike = 0.0,
    subcell: bool = False,
) -> Float[Array, "*batch"]:
    """The first `x` at which a field falls to `threshold` or below; `nan` where it never does.

    **Arguments:**

    - `draws`: fields along the last axis, e.g. samples of a posterior; one field or a batch.
    - `x`: increasing coordinates of the points.
    - `threshold`: the value that marks the empty side of the front.
    - `subcell`: the published definition (`False`) is the grid point itself, so that positions are
        multiples of the spacing. `True` interpolates linearly between that point and the one
        before it, which makes the position differentiable in the draws.

    **Returns:** positions in units of `x`. "No shock" is `nan`, never 0: a zero would pull every
    average towards the left boundary.

    **Raises:** `ValueError` if the shapes do not fit, `x` is not increasing, or a value is not
    finite.

    !!! example
        >>> import jax.numpy as jnp
        >>> x = jnp.array([0.0, 1.0, 2.0])
        >>> shock_position(jnp.array([[1.0, 0.5, -0.5], [1.0, 1.0, 1.0]]), x).tolist()
        [2.0, nan]
        >>> float(shock_position(jnp.array([1.0, 0.5, -0.5]), x, subcell=True))
        1.5
    """
    where = "shock_position"
    draws = as_floating(where, "draws", draws)
    x = jnp.asarray(x, draws.dtype)
    if x.ndim != 1 or x.size == 0 or draws.shape[-1:] != x.shape:
        raise ValueError(
            f"`{where}(draws, x)`: expected shapes (..., n) and (n,), got {draws.shape} and "
            f"{x.shape}"
        )
    require_finite(where, "draws", draws)
    require_finite(where, "x", x)
    if is_concrete(x) and not (np.diff(np.asarray(x)) > 0).all():
        raise ValueError(f"`{where}(x=...)`: expected increasing coordinates; sort the points")
    fallen = draws <= threshold
    at = jnp.argmax(fallen, axis=-1)
    position = x[at]
    if subcell:
        before = jnp.maximum(at - 1, 0)
        low = jnp.take_along_axis(draws, at[..., None], -1)[..., 0]
        high = jnp.take_along_axis(draws, before[..., None], -1)[..., 0]
        # There is nothing to interpolate where the first point has fallen already, or where no
        # point has; both leave a drop of 0 or less, kept out of the division (and its gradient).
        drop = high - low
        real = drop > 0
        share = jnp.where(real, (high - threshold) / jnp.where(real, drop, 1), 1)
        position = x[before] + share * (x[at] - x[before])
    return jnp.where(fallen.any(axis=-1), position, jnp.nan)


def shock_distribution(
    gaussian: Gaussian,
    x: Float[ArrayLike, " points"],
    *,
    key: PRNGKeyArray,
    draws: int = 1000,
    threshold: ArrayLike = 0.0,
    subcell: bool = False,
) -> Float[Array, " draws"]:
    """Shock positions of joint draws from a posterior, with its whole covariance.

    Drawing each point on its own would let noise cross the threshold far from the front wherever
    neighbours are correlated, and would forget that a constrained field conserves: draws of a
    constrained posterior satisfy the constraint one by one.

    **Arguments:**

    - `gaussian`: the field at one time, over the points `x`.
    - `x`: increasing coordinates.
    - `key`: a random key.
    - `draws`: how many.
    - `threshold`, `subcell`: as in `shock_position`.

    **Returns:** one position per draw, `nan` for a draw without a shock.

    **Raises:** `ValueError` for `draws < 1`, or as `shock_position`.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.gaussians import Gaussian
        >>> x = jnp.linspace(0.0, 1.0, 11)
        >>> front = Gaussian.diagonal(0.55 - x, jnp.full(11, 1e-6))
        >>> positions = shock_distribution(front, x, key=jax.random.key(0), draws=3)
        >>> [round(float(p), 1) for p in positions]
        [0.6, 0.6, 0.6]
    """
    if draws < 1:
        raise ValueError(f"`shock_distribution(draws=...)`: expected at least 1, got {draws}")
    samples = gaussian.sample(key, (draws,))
    return shock_position(samples, x, threshold=threshold, subcell=subcell)


def shock_summary(
    positions: Float[ArrayLike, " draws"], truth: ArrayLike = float("nan")
) -> ShockSummary:
    """Mean, spread, share of "none" and error of shock positions.

    **Arguments:**

    - `positions`: as `shock_distribution` returns them, `nan` for "none".
    - `truth`: the true position, if known.

    **Returns:** a `ShockSummary`. "None" enters only its own fraction.

    **Raises:** `ValueError` if `positions` is not 1-D or is empty.

    !!! example
        >>> import jax.numpy as jnp
        >>> summary = shock_summary(jnp.array([0.2, 0.3, jnp.nan, jnp.nan]), 0.2)
        >>> round(float(summary.mean), 2), float(summary.none)
        (0.25, 0.5)
    """
    positions = as_floating("shock_summary", "positions", positions)
    if positions.ndim != 1 or positions.size == 0:
        raise ValueError(
            "`shock_summary(positions=...)`: expected shape (draws,) with at least one draw, got "
            f"{positions.shape}; use `jax.vmap` for a batch"
        )
    truth = jnp.asarray(truth, positions.dtype)
    found = ~jnp.isnan(positions)
    some = jnp.where(found, positions, 0)
    count = jnp.sum(found.astype(positions.dtype))
    mean = jnp.where(count > 0, jnp.sum(some) / jnp.maximum(count, 1), jnp.nan)
    deviation = jnp.where(found, positions - mean, 0)
    sd = safe_sqrt(jnp.sum(deviation**2) / jnp.maximum(count - 1, 1))
    miss = jnp.where(found, positions - truth, 0)
    error = safe_sqrt(jnp.sum(miss**2) / jnp.maximum(count, 1))
    known = (count > 0) & ~jnp.isnan(truth)
    return ShockSummary(
        mean=mean,
        sd=jnp.where(count > 1, sd, jnp.nan),
        none=1 - count / positions.size,
        error=jnp.where(known, error, jnp.nan),
    )
