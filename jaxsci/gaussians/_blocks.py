"""A Gaussian over a field as one for each of its slices."""

import jax
import jax.numpy as jnp
import lineax as lx

from ._gaussian import Gaussian
from ._low_rank import LowRank
from ._restrict import restrict


def blocks(gaussian: Gaussian, count: int) -> Gaussian:
    """The Gaussians of consecutive blocks of points, e.g. of the times of a field `(t, x)`.

    A batch, for `vmap`: each block keeps its own covariance (diagonal and low rank as such, others
    dense), what is between blocks is left out. So one constraint for each time costs one row for
    each block, and needs no more variance than one row takes: an ensemble of 10 members cannot
    meet the totals of 50 times at once, but that of each time it can.

    **Arguments:**

    - `gaussian`: over `n` points, flattened with the axis of the blocks first.
    - `count`: how many, a divisor of `n`.

    **Returns:** a Gaussian whose arrays have a leading axis of `count`.

    **Raises:** `ValueError` for a count that does not divide `n`.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.conservation import condition, integral
        >>> from jaxsci.gaussians import Gaussian, blocks
        >>> from jaxsci.grids import Grid
        >>> members = jax.random.normal(jax.random.key(0), (3, 5, 8))  # members, times, positions
        >>> prediction = Gaussian.from_samples(members.reshape(3, -1))
        >>> x = Grid.uniform(x=(0.0, 1.0, 8))
        >>> def at_one_time(gaussian, mass):
        ...     return condition(gaussian, integral(x, mass)).mean
        >>> mean = jax.vmap(at_one_time)(blocks(prediction, 5), jnp.ones(5))
        >>> bool(jnp.allclose(mean @ x.weights(), 1.0))
        True
    """
    n = gaussian.size
    if gaussian.mean.ndim != 1 or count < 1 or n % count:
        raise ValueError(
            f"`blocks(gaussian, count)`: expected a divisor of the {n} points of one Gaussian, got "
            f"{count} for a mean of shape {gaussian.mean.shape}"
        )
    mean, cov = gaussian.mean.reshape(count, -1), gaussian.cov
    if isinstance(cov, lx.DiagonalLinearOperator):
        return jax.vmap(Gaussian.diagonal)(mean, cov.diagonal.reshape(mean.shape))
    if isinstance(cov, LowRank):
        factor = cov.factor.reshape(*mean.shape, -1)
        return jax.vmap(Gaussian.low_rank)(mean, cov.diag.reshape(mean.shape), factor)
    at = jnp.arange(n).reshape(mean.shape)
    each = jax.vmap(lambda at: restrict(cov, at).as_matrix())(at)  # pyright: ignore[reportAttributeAccessIssue]
    return jax.vmap(Gaussian.dense)(mean, each)
