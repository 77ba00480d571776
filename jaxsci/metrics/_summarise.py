"""One row of a results table."""

from collections.abc import Sequence

from jaxtyping import Array, ArrayLike, Float

from ._calibration import interval_coverage, interval_width
from ._scores import conservation_error, crps, gaussian_log_likelihood, mean_squared_error


def summarise(
    mean: Float[ArrayLike, "*points"],
    var: Float[ArrayLike, "*points"],
    truth: Float[ArrayLike, "*points"],
    weights: Float[ArrayLike, "*grid"],
    b: ArrayLike,
    *,
    levels: Sequence[float] = (0.5, 0.9, 0.95),
    min_var: float = 1e-8,
) -> dict[str, Float[Array, ""]]:
    """Every metric of one prediction: a row of a results table.

    **Arguments:**

    - `mean`, `var` (a variance), `truth`: the field at one time, same shape.
    - `weights`: quadrature weights, as many as `mean` has values.
    - `b`: the true value of the conserved integral.
    - `levels`: probabilities of the intervals whose coverage is reported.
    - `min_var`: floor of the variance in the log-likelihood only.

    **Returns:** scalars under `"CE"`, `"LL"`, `"MSE"`, `"CRPS"`, `"coverage_50"` (one per level)
    and `"width_95"`, the mean width of the 95 % interval. For a batch, `jax.vmap` it, then
    `jax.tree.map(mean_and_standard_error, ...)`.

    **Raises:** as the metrics themselves.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.grids import Grid
        >>> grid = Grid.uniform(x=(0.0, 1.0, 5))
        >>> field = jnp.ones(5)
        >>> row = summarise(field, field, field, grid.weights(), 0.5)
        >>> float(row["CE"]), float(row["MSE"]), float(row["coverage_95"])
        (0.5, 0.0, 1.0)
    """
    row = {
        "CE": conservation_error(mean, weights, b),
        "LL": gaussian_log_likelihood(mean, var, truth, min_var=min_var),
        "MSE": mean_squared_error(mean, truth),
        "CRPS": crps(mean, var, truth),
    }
    for level in levels:
        row[f"coverage_{100 * level:g}"] = interval_coverage(mean, var, truth, level)
    return row | {"width_95": interval_width(var, 0.95)}
