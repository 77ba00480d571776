"""Integrals that finite volumes need: averages over cells, and primitives by tabulation."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from ._numbers import real


def gauss_legendre(nodes: int, dtype: jnp.dtype) -> tuple[Array, Array]:
    """Nodes in [0, 1] and weights, of sum 1, of the Gauss-Legendre rule."""
    x, w = np.polynomial.legendre.leggauss(nodes)
    return jnp.asarray((x + 1) / 2, dtype), jnp.asarray(w / 2, dtype)


def cell_averages(
    function: Callable[[Array], Array], edges: ArrayLike, *, nodes: int = 4
) -> Float[Array, " cells"]:
    """Averages of a function over cells, by Gauss-Legendre quadrature in each.

    **Arguments:**

    - `function`: an elementwise function of `x`.
    - `edges`: shape `(cells + 1,)`, increasing.
    - `nodes`: quadrature nodes in each cell; exact for polynomials up to degree `2 nodes - 1`
        within a cell. A jump inside a cell is off by up to its height over `2 nodes`.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.equations import cell_averages
        >>> cell_averages(lambda x: 2 * x, jnp.array([0.0, 0.5, 1.0])).tolist()
        [0.5, 1.5]
    """
    (edges,) = real(edges)
    at, w = gauss_legendre(nodes, edges.dtype)
    x = edges[:-1, None] + at[None, :] * jnp.diff(edges)[:, None]
    return (function(x) * w[None, :]).sum(axis=1)


class TabulatedPrimitive(eqx.Module):
    """A piecewise linear primitive `K` of a conductivity; see `tabulated_primitive`."""

    low: Float[Array, ""]
    step: Float[Array, ""]
    conductivities: Float[Array, " intervals"]
    values: Float[Array, " intervals"]

    def __call__(self, u: ArrayLike) -> Array:
        """`K(u)`; beyond the table it continues with the slope at its end."""
        (u,) = real(u)
        low, step = self.low.astype(u.dtype), self.step.astype(u.dtype)
        last = self.values.size - 1
        i = jnp.clip(jnp.floor((u - low) / step), 0, last).astype(jnp.int32)
        start = low + i.astype(u.dtype) * step
        return (self.values[i] + self.conductivities[i] * (u - start)).astype(u.dtype)


def tabulated_primitive(
    conductivity: Callable[[Array], Array],
    low: ArrayLike,
    high: ArrayLike,
    *,
    intervals: int = 1024,
) -> TabulatedPrimitive:
    """A primitive of a conductivity that has no closed form, in particular one that jumps.

    ```
    K(u) = integral of k from low to u
    ```

    The conductivity is replaced by its values at the middle of `intervals` equal intervals, so
    that `K` is continuous, increasing, and exact but for `O(intervals^-2)` where `k` is smooth; a
    jump of `k` is moved by at most half an interval.

    **Arguments:**

    - `conductivity`: an elementwise function `k(u)`. `K` is differentiable in its parameters as
        far as the values are: not in the *position* of a jump, whose derivative is 0 here (M).
    - `low`, `high`: the values of `u` between which to tabulate.
    - `intervals`: the size of the table.

    **Raises:** `ValueError` unless `intervals >= 1`.

    !!! example
        >>> from jaxsci.equations import tabulated_primitive
        >>> K = tabulated_primitive(lambda u: 3 * u**2, 0.0, 1.0)
        >>> print(f"{K(0.5):.4f}")
        0.1250
    """
    low, high = real(low, high)
    if intervals < 1:
        raise ValueError(
            f"`tabulated_primitive(intervals=...)`: expected at least 1, got {intervals}"
        )
    step = (high - low) / intervals
    k = conductivity(low + (jnp.arange(intervals, dtype=low.dtype) + 0.5) * step)
    k = jnp.broadcast_to(k, (intervals,))
    values = jnp.pad(jnp.cumsum(k[:-1] * step), (1, 0))
    return TabulatedPrimitive(low, step, k, values)
