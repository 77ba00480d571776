"""Integrals over a grid as constraints."""

from collections.abc import Mapping, Sequence

from jaxtyping import ArrayLike

from jaxsci.gaussians import WeightedSums
from jaxsci.grids import Grid

from ._constraint import LinearConstraint


def integral(
    grid: Grid,
    b: ArrayLike,
    *,
    rule: str | None = None,
    over: str | Sequence[str] | None = None,
    domain: Mapping[str, tuple[float, float]] | None = None,
    noise: ArrayLike | None = None,
) -> LinearConstraint:
    """The integral of the field over the grid, or over some of its axes, is `b`.

    One row per point of the axes that are not integrated over: on a `(t, x)` grid `over="x"`
    fixes the mass at each time, and `over=None` one integral over space-time.

    **Arguments:**

    - `grid`: a [`jaxsci.grids.Grid`][]; the field is flat, in C order of `grid.shape`.
    - `b`: the value of each integral, shape `(k,)`; a scalar where there is one.
    - `rule`: `"trapezoid"`, `"right"` (right-hand Riemann) or `"cells"` (finite-volume averages);
        by default cells on axes that have them, else trapezoid.
    - `over`: the axis or axes to integrate over, by name; all by default.
    - `domain`: `{axis: (low, high)}` to integrate over a part only; ends need not be grid points.
    - `noise`: `R`, the variance of `b`; `None` is exact.

    **Raises:** `ValueError` for an unknown axis or rule, a domain outside the grid, or as many
    numbers in `b` as there are not rows.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import integral
        >>> from jaxsci.grids import Grid
        >>> grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 1.0, 5))
        >>> mass = integral(grid, jnp.array([1.0, 1.0, 1.0]), over="x")
        >>> mass.residual(jnp.ones(grid.size))
        Array([0., 0., 0.], dtype=float32)
    """
    weights = grid.weights(rule, over=over, domain=domain)
    chosen = grid.names if over is None else (over,) if isinstance(over, str) else tuple(over)
    axes = tuple(i for i, name in enumerate(grid.names) if name in chosen)
    return LinearConstraint(WeightedSums(weights, axes), b, noise)
