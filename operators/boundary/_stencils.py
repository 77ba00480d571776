"""One-sided finite differences at an end of a uniform axis."""

import math
from fractions import Fraction
from functools import cache
from typing import Any, Literal

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

Side = Literal["low", "high"]
SIDES: tuple[Side, Side] = ("low", "high")
HIGHEST_ORDER = 8


@cache
def one_sided(order: int) -> tuple[tuple[int, ...], int]:
    """Integers `(C_0, ..., C_order)` and `d`: `u'(0) = sum_k C_k u(k h) / (d h) + O(h^order)`.

    Integers, so that a stencil is exact in every dtype and its rounding is that of its products.
    They follow from `log(1 + D) = D - D^2/2 + ...` in the forward difference `D`.
    """
    c = [Fraction(0)] * (order + 1)
    for m in range(1, order + 1):
        for k in range(m + 1):  # (-1)^(m+1) D^m / m
            c[k] += Fraction((-1) ** (m + 1) * (-1) ** (m - k) * math.comb(m, k), m)
    d = math.lcm(*(f.denominator for f in c))
    return tuple(int(f * d) for f in c), d


def from_end(u: Array, axis: int, side: Side, k: Any) -> Array:
    """The points of `u` that are `k` steps inside the end of an axis; that axis is gone."""
    if not isinstance(k, int):  # a symbol of `jax.export`, of which it is not known that it fits
        at = k if side == "low" else u.shape[axis] - 1 - k
        return jax.lax.dynamic_index_in_dim(u, jnp.asarray(at), axis, keepdims=False)
    index: list[slice | int] = [slice(None)] * u.ndim
    index[axis] = k if side == "low" else -1 - k
    return u[tuple(index)]


def as_number(n: Any, dtype: Any) -> Any:
    """A number of points as a factor of arrays; a symbol of `jax.export` gets their dtype."""
    return n if isinstance(n, int) else jnp.asarray(n).astype(dtype)


def boundary_derivative(
    u: Float[Array, "..."], *, axis: int, side: Side, spacing: ArrayLike, order: int = 6
) -> Float[Array, "..."]:
    """The derivative along an axis at one of its ends, by a one-sided stencil.

    `u'(0) = sum_k c_k u_k + O(h^order)` over the `order + 1` points nearest to the end. A condition
    that is enforced by a stencil holds by that stencil whatever the field is like; this tells, with
    another and higher order, what the derivative of the field really is.

    **Arguments:**

    - `u`: any shape; the ends of `axis` are points of the boundary.
    - `axis`: the array axis, e.g. 1 for the first space axis of `(C, N)`.
    - `side`: `"low"` or `"high"`. The derivative is along the axis at both (not the outward one).
    - `spacing`: the distance of neighbouring points.
    - `order`: of accuracy, 1 to 8.

    **Returns:** the shape of `u` without `axis`, in its dtype.

    **Raises:** `ValueError` for an order, a side or an axis that does not exist, or too few points.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.boundary import boundary_derivative
        >>> x = jnp.linspace(0.0, 1.0, 11)
        >>> print(f"{boundary_derivative(x**3, axis=0, side='high', spacing=0.1):.4f}")
        3.0000
    """
    where = "boundary_derivative"
    check_order(where, order, HIGHEST_ORDER)
    if side not in SIDES:
        raise ValueError(f"`{where}(side=...)`: expected 'low' or 'high', got {side!r}")
    if not -u.ndim <= axis < u.ndim:
        raise ValueError(f"`{where}(axis={axis})`: the field has {u.ndim} axes")
    if u.shape[axis] < order + 1:
        raise ValueError(
            f"`{where}(order={order})`: needs {order + 1} points along axis {axis}, got "
            f"{u.shape[axis]}; lower the order"
        )
    coefficients, d = one_sided(order)
    total = jnp.zeros_like(from_end(u, axis, side, 0))
    for k, c in enumerate(coefficients):
        total = total + c * from_end(u, axis, side, k)
    step = d * jnp.asarray(spacing).astype(u.dtype)
    return total / step if side == "low" else -total / step


def check_order(where: str, order: int, highest: int) -> None:
    if isinstance(order, bool) or not isinstance(order, int) or not 1 <= order <= highest:
        raise ValueError(
            f"`{where}(order=...)`: expected the order of the one-sided stencil, 1 to {highest}, "
            f"got {order!r}"
        )
