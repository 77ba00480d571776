"""Viscous Burgers with jumps to begin with: shocks and fans that run into each other."""

from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import erfc
from jaxtyping import Array, Float, PRNGKeyArray

from ._abstract import (
    AbstractFamily,
    FaceKind,
    FaceName,
    Range,
    Sample,
    check_count,
    check_positive,
    check_range,
    times,
)
from ._erfcx import erfcx
from ._pairs import Pair, lone, minus, pair, plus
from ._pairs import times as product


class BurgersRiemann(AbstractFamily):
    """Viscous Burgers' equation from Riemann data: from the jump to the field at later times.

    ```
    u_t + u u_x = nu u_xx on [0, 1],    u(x, 0) = u_left for x < 1/2, u_right for x > 1/2
    ```

    The boundary values are those of the solution on the whole line, which the Cole-Hopf
    transformation gives in error functions; it is evaluated in ratios that neither overflow nor
    cancel, for jumps of any sign and small viscosities.

    With `hard`, each function has a viscosity of its own (log-uniform in `viscosities`) and `jumps`
    jumps at random places (one in each of as many equal parts of [0, 1], away from the parts'
    ends), between levels that are uniform in `levels`: exact again.

    **Arguments:**

    - `points`, `steps`, `time`: points in `x`; times `time / steps`, ..., `time`.
    - `viscosity`: `nu`, where it is not random.
    - `left`, `right`: the ranges of `u_left` and `u_right`.
    - `hard`, `viscosities`, `jumps`, `levels`: as above.

    Inputs: averages of the initial field over an interval of one spacing around each point (values
    at the points would not say where between two of them a jump is) and, if `hard`, `log10(nu)`.

    **Raises:** `ValueError` for a setting that is impossible.

    !!! example
        >>> import jax
        >>> import jax.numpy as jnp
        >>> from jaxsci.equations.families import BurgersRiemann
        >>> family = BurgersRiemann(points=5, steps=2, viscosity=0.002, time=0.5)
        >>> u = jax.jit(family.sample)(jnp.array([1.0, 0.0])).outputs[0, -1]
        >>> print(u.round(3))  # the shock is at 3/4
        [1.  1.  1.  0.5 0. ]
    """

    points: int = eqx.field(default=128, static=True, kw_only=True)
    steps: int = eqx.field(default=16, static=True, kw_only=True)
    time: float = eqx.field(default=1.0, static=True, kw_only=True)
    viscosity: float = eqx.field(default=0.02, static=True, kw_only=True)
    left: Range = eqx.field(default=(0.5, 1.5), static=True, kw_only=True)
    right: Range = eqx.field(default=(0.0, 0.0), static=True, kw_only=True)
    hard: bool = eqx.field(default=False, static=True, kw_only=True)
    viscosities: Range = eqx.field(default=(0.005, 0.1), static=True, kw_only=True)
    jumps: int = eqx.field(default=5, static=True, kw_only=True)
    levels: Range = eqx.field(default=(-1.0, 1.0), static=True, kw_only=True)

    name: ClassVar[str] = "burgers-dirichlet"
    summary: ClassVar[str] = "viscous Burgers from Riemann data, values prescribed at both ends"

    def __check_init__(self):
        where = "BurgersRiemann"
        for name, least in (("points", 2), ("steps", 1), ("jumps", 1)):
            check_count(where, name, getattr(self, name), least)
        for name in ("time", "viscosity"):
            check_positive(where, name, getattr(self, name))
        for name in ("left", "right", "levels"):
            check_range(where, name, getattr(self, name))
        check_range(where, "viscosities", self.viscosities, 0.0)

    @property
    def axes(self) -> tuple[str, ...]:
        return "t", "x"

    @property
    def faces(self) -> dict[FaceName, FaceKind]:
        return {("x", "low"): FaceKind("dirichlet"), ("x", "high"): FaceKind("dirichlet")}

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("u0", "log10_nu") if self.hard else ("u0",)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("u",)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        if not self.hard:
            return "left", "right"
        levels = (f"level_{j}" for j in range(self.jumps + 1))
        return ("nu", *(f"place_{j}" for j in range(self.jumps)), *levels)

    def exact_coordinates(self) -> dict[str, np.ndarray]:
        return {"t": times(self.time, self.steps), "x": np.linspace(0.0, 1.0, self.points)}

    def draw_parameters(self, key: PRNGKeyArray) -> Float[Array, " parameters"]:
        keys = jax.random.split(key, 3)
        if not self.hard:
            return jnp.stack(
                [
                    jax.random.uniform(k, minval=low, maxval=high)
                    for k, (low, high) in zip(keys, (self.left, self.right), strict=False)
                ]
            )
        low, high = np.log(self.viscosities)
        nu = jnp.exp(jax.random.uniform(keys[0], (1,), minval=low, maxval=high))
        shift = jax.random.uniform(keys[1], (self.jumps,), minval=0.1, maxval=0.9)
        places = (jnp.arange(self.jumps, dtype=shift.dtype) + shift) / self.jumps
        low, high = self.levels
        levels = jax.random.uniform(keys[2], (self.jumps + 1,), minval=low, maxval=high)
        return jnp.concatenate([nu, places, levels])

    def solution(
        self, parameters: Float[Array, " parameters"], t: np.ndarray, x: np.ndarray
    ) -> Float[Array, "times positions"]:
        """The exact solution at all pairs of known float64 times above 0 and positions."""
        nu, places, levels = self._law(parameters)
        return _average(nu, places, levels, np.asarray(t)[:, None], np.asarray(x)[None, :])

    def initial(
        self, parameters: Float[Array, " parameters"], x: np.ndarray, width: float
    ) -> Float[Array, " positions"]:
        """Averages of the initial field over intervals of a given width around `x`."""
        _, places, levels = self._law(parameters)
        distance = minus(pair(x[None, :], parameters.dtype), lone(places[:, None]))
        passed = jnp.clip(_sum(distance) / width + 0.5, 0, 1)
        return levels[0] + jnp.sum(jnp.diff(levels)[:, None] * passed, axis=0)

    def sample(self, parameters: Float[Array, " parameters"]) -> Sample:
        self.check_parameters(parameters)
        points = self.exact_coordinates()
        u = self.solution(parameters, points["t"], points["x"])[None]
        start = self.initial(parameters, points["x"], 1 / (self.points - 1))
        inputs = [jnp.broadcast_to(start, self.shape)]
        if self.hard:
            inputs.append(jnp.full(self.shape, jnp.log10(parameters[0])))
        values: dict[FaceName, Array] = {("x", "low"): u[..., 0], ("x", "high"): u[..., -1]}
        return Sample(jnp.stack(inputs), u, values, parameters)

    def _law(self, parameters: Array) -> tuple[Array, Array, Array]:
        """The viscosity, where the jumps are, and the levels between them."""
        if self.hard:
            return parameters[0], parameters[1 : 1 + self.jumps], parameters[1 + self.jumps :]
        dtype = parameters.dtype
        return jnp.asarray(self.viscosity, dtype), jnp.full((1,), 0.5, dtype), parameters


def _average(nu: Array, places: Array, levels: Array, t: np.ndarray, x: np.ndarray) -> Array:
    """The mean of the levels with the weights of Cole and Hopf, at `t` and `x` of shape `(t, x)`.

    The weight of a piece, with a level `v` from `y_a` to `y_b`, is the integral over it of
    `exp(h(y))`, `h = -((x - y)^2 / (2 t) + potential(y)) / (2 nu)`, the potential being a primitive
    of the initial field. On the piece, `h` is a parabola about `x - v t`. Its largest value on the
    piece is kept apart from the rest of the integral, which is then of the order of 1; differences
    of largest values are taken in pairs of floats, before they are divided by `2 nu`.
    """
    dtype = levels.dtype
    positions, instants = pair(x, dtype), pair(t, dtype)
    inverse = pair(1 / (2 * t), dtype)
    scale = 1 / jnp.sqrt(4 * nu * instants.high)

    # At the jumps: the negative exponent times 2 nu, as pairs.
    potential, at_jumps = lone(jnp.zeros((), dtype)), []
    for j in range(len(places)):
        if j:
            gap = minus(lone(places[j]), lone(places[j - 1]))
            potential = plus(potential, product(lone(levels[j]), gap))
        away = minus(positions, lone(places[j]))
        at_jumps.append(plus(product(product(away, away), inverse), potential))
    potential = lone(jnp.zeros((), dtype))

    least, rest = [], []
    for j in range(len(levels)):
        level = lone(levels[j])
        first, last = j == 0, j == len(places)
        peak = minus(positions, product(level, instants))
        if not first and j > 1:
            gap = minus(lone(places[j - 1]), lone(places[j - 2]))
            potential = plus(potential, product(lone(levels[j - 1]), gap))
        # At the peak, v (x - y) - v^2 t / 2 + potential(y), for the jump y at an end of the piece.
        away = minus(positions, lone(places[max(j - 1, 0)]))
        half = product(pair(0.5, dtype), product(level, instants))
        top = plus(product(level, minus(away, half)), potential)
        low = None if first else _sum(minus(lone(places[j - 1]), peak)) * scale
        high = None if last else _sum(minus(lone(places[j]), peak)) * scale
        exponent, factor = _piece(
            top, at_jumps[j - 1] if j else None, None if last else at_jumps[j], low, high, nu
        )
        least.append(exponent)
        rest.append(factor)

    best = least[0]
    for other in least[1:]:
        nearer = other.high < best.high
        best = Pair(*(jnp.where(nearer, o, b) for o, b in zip(other, best, strict=True)))
    weights = [
        jnp.exp(-_sum(minus(e, best)) / (2 * nu)) * r for e, r in zip(least, rest, strict=True)
    ]
    total = sum(v * w for v, w in zip(levels, weights, strict=True))
    return jnp.asarray(total / sum(weights))


def _piece(
    top: Pair,
    at_low: Pair | None,
    at_high: Pair | None,
    low: Array | None,
    high: Array | None,
    nu: Array,
) -> tuple[Pair, Array]:
    """The least negative exponent on a piece, times `2 nu`, and the integral relative to it.

    `low` and `high` are the ends seen from the peak, in units of `sqrt(4 nu t)`; `None` is
    infinity.
    """
    below = 0.0 if low is None else erfc(jnp.maximum(-low, 0))
    above = 0.0 if high is None else erfc(jnp.maximum(high, 0))
    exponent, factor = top, jnp.asarray(2 - below - above)
    for end, other, z, far in ((at_low, at_high, low, high), (at_high, at_low, high, low)):
        if end is None or z is None:
            continue
        sign = 1 if z is low else -1
        outside = sign * z > 0  # the peak is beyond this end, which is where the exponent is least
        part = erfcx(jnp.maximum(sign * z, 0))
        if other is not None and far is not None:
            drop = jnp.exp(-jnp.maximum(_sum(minus(other, end)), 0) / (2 * nu))
            part = part - drop * erfcx(jnp.maximum(sign * far, 0))
        exponent = Pair(*(jnp.where(outside, e, p) for e, p in zip(end, exponent, strict=True)))
        factor = jnp.where(outside, part, factor)
    return exponent, factor


def _sum(a: Pair) -> Array:
    return a.high + a.low
