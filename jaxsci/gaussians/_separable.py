"""A covariance of time and one of space from a sample of errors."""

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.errors import is_concrete, require_finite
from jaxsci.precision import matmul


def separable_factors(errors: Float[Array, "samples *sizes"]) -> tuple[Float[Array, "_ _"], ...]:
    """The factors of the Kronecker covariance that errors on a grid show.

    For each axis the second moment between its points, averaged over samples and all other axes
    (partial traces); the first factor has the units of the errors squared, the others a mean of 1
    on their diagonal. For errors whose covariance is a Kronecker product it tends to that product;
    for any others it has their mean square, and their correlation along each axis.

    **Arguments:**

    - `errors`: of a model on functions that it was not trained on, shape `(samples, n_1, ...)`. No
        mean is taken off: what the model is off by on average is an error, too.

    **Returns:** matrices `(n_i, n_i)` in the order of the axes, for
    [`jaxsci.gaussians.Gaussian.kronecker`][]; positive semidefinite, and singular where an axis has
    more points than samples times the points of all others.

    **Raises:** `TypeError` if they are not floating; `ValueError` without an axis for samples and
    one for points, without samples, if all are 0, or if they are not finite.

    Reference: Aston, Pigoli and Tavakoli, *Tests for separability in nonparametric covariance
    operators of random surfaces*, Annals of Statistics 45 (2017), for partial traces.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.gaussians import Gaussian, separable_factors
        >>> errors = jnp.array([[[0.3, 0.3, 0.3], [0.1, 0.1, 0.1]]])  # two times, three points
        >>> in_time, in_space = separable_factors(errors)
        >>> in_time
        Array([[0.09, 0.03],
               [0.03, 0.01]], dtype=float32)
        >>> print(Gaussian.kronecker(jnp.zeros(6), in_time, in_space).marginal_std.round(2))
        [0.3 0.3 0.3 0.1 0.1 0.1]
    """
    where = "separable_factors"
    errors = jnp.asarray(errors)
    if not jnp.issubdtype(errors.dtype, jnp.floating):
        raise TypeError(f"`{where}(errors)`: expected floating numbers, got {errors.dtype}")
    if errors.ndim < 2 or errors.size == 0:
        raise ValueError(
            f"`{where}(errors)`: expected (samples, n_1, ...), at least one of each, got shape "
            f"{errors.shape}"
        )
    require_finite(where, "errors", errors)
    total = jnp.mean(errors**2)
    if is_concrete(total) and not total > 0:
        raise ValueError(f"`{where}(errors)`: all are 0, which no covariance describes")
    factors = []
    for axis in range(1, errors.ndim):
        rows = jnp.moveaxis(errors, axis, 0).reshape(errors.shape[axis], -1)
        moment = matmul(rows, rows.T) / rows.shape[1]
        moment = (moment + moment.T) / 2  # to the bit, which rounding is not
        factors.append(moment if axis == 1 else moment / total)
    return tuple(factors)
