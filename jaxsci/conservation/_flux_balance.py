"""The total at each time from what flows in and out: any law u_t + div F(u) = s."""

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.errors import is_concrete, lookup
from jaxsci.grids import Grid
from jaxsci.precision import matmul

from ._constraint import LinearConstraint
from ._integral import integral

Signal = ArrayLike | Callable[[Array], Array]
"""A number, values at the grid's times (or on a face or the whole grid), or a function of time."""


def flux_balance(
    grid: Grid,
    initial: ArrayLike,
    fluxes: Mapping[str, tuple[Signal, Signal]],
    *,
    source: Signal = 0.0,
    flux_std: Mapping[str, tuple[ArrayLike, ArrayLike]] | None = None,
    initial_std: ArrayLike | None = None,
    rule: str | None = None,
) -> LinearConstraint:
    """The space integral of a field that obeys `u_t + div F(u) = s`, at each time of the grid.

    ```
    b(t) = initial + sum over axes of int_t0^t (F_low - F_high) dt' + int_t0^t int s dx dt'
    ```

    Known functions of time are integrated between the grid's times by an eight-point Gauss rule;
    values at the grid's times by the trapezoid rule.

    **Arguments:**

    - `grid`: has a time axis; `t0` is its first time.
    - `initial`: the integral of the field over space at `t0`.
    - `fluxes`: `{axis: (F_low, F_high)}` for every space axis that is not periodic: the flux
        through the low and the high face, counted positive *along* the axis (so it enters at the
        low face and leaves at the high one) and integrated over the face. Each is a number, values
        at the grid's times `(nt,)`, values on the face `(nt, face points)` (integrated here), or a
        function of time. A closed wall is 0.
    - `source`: `s`, integrated over space: a number, `(nt,)`, or a function of time; or its values
        on the whole grid, shape `grid.shape` (integrated here).
    - `flux_std`: how uncertain the fluxes are, `{axis: (low, high)}`: standard deviations, a number
        or `(nt,)`, independent from time to time; or a covariance `(nt, nt)` between times. They
        enter `R`, correlated between the rows as the time integral makes them.
    - `initial_std`: the standard deviation of `initial`.
    - `rule`: the space quadrature, as in [`jaxsci.conservation.integral`][].

    **Returns:** a constraint with one row per time; exact unless a standard deviation is given.

    **Raises:** `ValueError` for a grid without time, a face whose flux is not given, an unknown
    axis, a flux for a periodic axis, a negative standard deviation, or a signal of the wrong
    shape.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import flux_balance
        >>> from jaxsci.grids import Grid
        >>> grid = Grid.uniform(t=(0.0, 2.0, 3), x=(0.0, 1.0, 11))
        >>> flux_balance(grid, 1.0, {"x": (lambda t: 2 * t, 0.5)}).b
        Array([1. , 1.5, 4. ], dtype=float32)
    """
    if "t" not in grid.names:
        raise ValueError(
            f"`flux_balance(grid, ...)`: expected a time axis 't', got axes {list(grid.names)}"
        )
    open_axes = {a.name: a for a in grid.spatial.axes if a.period is None}
    for name in (*fluxes, *(flux_std or {})):
        if name in grid.names and name not in open_axes:
            raise ValueError(
                f"`flux_balance(fluxes={{{name!r}: ...}})`: axis {name!r} has no boundary"
            )
        lookup("axis", name, open_axes)
    for name in open_axes:
        if name not in fluxes:
            raise ValueError(
                f"`flux_balance(fluxes=...)`: expected (low, high) for axis {name!r}, got none; "
                "a closed wall is (0, 0)"
            )
    for argument, pairs in (("fluxes", fluxes), ("flux_std", flux_std or {})):
        for name, pair in pairs.items():
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise ValueError(
                    f"`flux_balance({argument}={{{name!r}: ...}})`: expected a pair (low, high), "
                    f"got {pair!r}"
                )
    times = grid.axis("t").points
    if np.shape(initial) != ():
        raise ValueError(
            "`flux_balance(initial=...)`: expected one number, the integral over space at the "
            f"first time, got shape {np.shape(initial)}"
        )
    if initial_std is not None and is_concrete(initial_std) and np.any(np.less(initial_std, 0)):
        raise ValueError(
            f"`flux_balance(initial_std=...)`: expected a number >= 0, got {initial_std}"
        )
    face_weights = {(f.axis, f.side): f.weights for f in grid.spatial.faces}
    b = jnp.full_like(times, 0) + jnp.asarray(initial, times.dtype)
    for name, (low, high) in fluxes.items():
        for sign, side, signal in ((1, "low", low), (-1, "high", high)):
            what = f"fluxes[{name!r}] {side}"
            b = b + sign * _accumulate(what, signal, times, face_weights[name, side])
    if not callable(source) and np.shape(source) == grid.shape:  # the time axis may be any axis
        source = jnp.moveaxis(jnp.asarray(source, times.dtype), grid.names.index("t"), 0)
    b = b + _accumulate("source", source, times, grid.spatial.weights(rule))

    variance = None
    if flux_std is not None or initial_std is not None:
        variance = jnp.zeros((times.size, times.size), times.dtype)
        if initial_std is not None:
            variance = variance + jnp.asarray(initial_std, times.dtype) ** 2
        running = _running_trapezoid(times)
        for name, pair in (flux_std or {}).items():
            for side, spread in zip(("low", "high"), pair, strict=True):
                cov = _flux_covariance(f"flux_std[{name!r}] {side}", spread, times)
                variance = variance + matmul(matmul(running, cov), running.T)
    space = [axis.name for axis in grid.spatial.axes]
    return integral(grid, b, rule=rule, over=space, noise=variance)


# Compiled as a whole, for callers that are not.
@jax.jit
def _running_trapezoid(times: Float[Array, " nt"]) -> Float[Array, "nt nt"]:
    """The matrix that takes values at the times to their integrals from the first time on."""
    half = jnp.diff(times) / 2
    steps = jnp.pad(jnp.diag(half), ((0, 0), (0, 1))) + jnp.pad(jnp.diag(half), ((0, 0), (1, 0)))
    return jnp.concatenate([jnp.zeros((1, times.size), times.dtype), jnp.cumsum(steps, axis=0)])


def _accumulate(what: str, signal: Signal, times: Array, weights: Array) -> Float[Array, " nt"]:
    """The time integral of a signal from the first time to each."""
    if callable(signal):
        return _integrate_function(what, signal, times)
    values = jnp.asarray(signal, times.dtype)
    nt = times.size
    if values.ndim == 0:
        return values * (times - times[0])
    if values.ndim > 1 and values.shape[0] == nt and values[0].size == weights.size:
        values = matmul(values.reshape(nt, -1), weights.ravel())
    if values.shape != (nt,):
        raise ValueError(
            f"`flux_balance`: {what}: expected a number, a function of time, shape ({nt},), or "
            f"({nt}, {weights.size}) to be integrated over space, got shape {values.shape}"
        )
    return matmul(_running_trapezoid(times), values)


def _integrate_function(what: str, signal: Callable[[Array], Array], times: Array) -> Array:
    nodes, weights = np.polynomial.legendre.leggauss(8)
    nodes, weights = jnp.asarray(nodes, times.dtype), jnp.asarray(weights, times.dtype)
    half = jnp.diff(times) / 2
    middle = times[:-1] + half
    at = middle[:, None] + half[:, None] * nodes[None, :]
    values = jax.vmap(lambda t: jnp.asarray(signal(t), times.dtype))(at.ravel())
    if values.ndim != 1:
        raise ValueError(
            f"`flux_balance`: {what}: expected a function from a time to a number, got one to "
            f"shape {values.shape[1:]}"
        )
    steps = half * matmul(values.reshape(at.shape), weights)
    return jnp.concatenate([jnp.zeros(1, times.dtype), jnp.cumsum(steps)])


def _flux_covariance(what: str, spread: ArrayLike, times: Array) -> Array:
    values, nt = jnp.asarray(spread, times.dtype), times.size
    if is_concrete(values) and (np.asarray(values if values.ndim < 2 else 0) < 0).any():
        raise ValueError(f"`flux_balance`: {what}: expected standard deviations >= 0, got {spread}")
    if values.ndim < 2:
        if values.shape not in ((), (nt,)):
            raise ValueError(
                f"`flux_balance`: {what}: expected a number, ({nt},) standard deviations or an "
                f"({nt}, {nt}) covariance, got shape {values.shape}"
            )
        return jnp.diag(jnp.broadcast_to(values, (nt,)) ** 2)
    if values.shape != (nt, nt):
        raise ValueError(
            f"`flux_balance`: {what}: expected a covariance of shape ({nt}, {nt}), got "
            f"{values.shape}"
        )
    return values
