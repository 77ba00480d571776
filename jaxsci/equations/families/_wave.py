"""Waves in a square box with walls that reflect, or that are driven."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.precision import contract

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
from ._pairs import Pair, cosine, lone, minus, pair, plus, sine
from ._pairs import times as product

_PI = math.pi


class WaveNeumann(AbstractFamily):
    """The wave equation in a square: from the initial field to the field at later times.

    ```
    u_tt = c^2 (u_xx + u_yy) on [0, 1]^2,    du/dn = 0
    u(x, y, 0) = k cos(pi x) cos(pi y),    u_t(x, y, 0) = 0,    k ~ U(amplitude)
    u = k cos(pi x) cos(pi y) cos(sqrt(2) pi c t)
    ```

    With `hard`, each function has a speed of its own (uniform in `speeds`), a random field and a
    random velocity to begin with, of `modes` by `modes` cosines, both with deviations
    `(1 + (n^2 + m^2) / 4)^-1` (the velocity's times the mode's frequency), and `waves` plane waves
    `A cos(K . (x, y) - c |K| t + phase)` of random directions pass through: their derivatives are
    what drives the walls, and the sum is exact again.

    **Arguments:**

    - `points`: in `x` and in `y`.
    - `steps`, `time`: the times are `time / steps`, ..., `time`.
    - `speed`: `c`, where it is not random.
    - `amplitude`: the range of `k`.
    - `hard`, `speeds`, `modes`, `waves`: as above.
    - `wavenumbers`: the range of `|K|`; the amplitudes are normal, of deviation `1 / |K|`, so that
        the walls' data are of the order of 1.

    Inputs: the initial field and, if `hard`, the initial velocity and `c`.

    **Raises:** `ValueError` for a setting that is impossible.

    !!! example
        >>> import jax
        >>> from jaxsci.equations.families import WaveNeumann
        >>> family = WaveNeumann(points=16, steps=5)
        >>> family.draw(jax.random.key(0)).outputs.shape
        (1, 5, 16, 16)
        >>> sorted(WaveNeumann(hard=True).input_names)
        ['c', 'u0', 'velocity0']
    """

    points: int = eqx.field(default=48, static=True, kw_only=True)
    steps: int = eqx.field(default=25, static=True, kw_only=True)
    time: float = eqx.field(default=2.0, static=True, kw_only=True)
    speed: float = eqx.field(default=1.0, static=True, kw_only=True)
    amplitude: Range = eqx.field(default=(3.0, 4.0), static=True, kw_only=True)
    hard: bool = eqx.field(default=False, static=True, kw_only=True)
    speeds: Range = eqx.field(default=(0.5, 1.0), static=True, kw_only=True)
    modes: int = eqx.field(default=4, static=True, kw_only=True)
    waves: int = eqx.field(default=3, static=True, kw_only=True)
    wavenumbers: Range = eqx.field(default=(2.0, 6.0), static=True, kw_only=True)

    name: ClassVar[str] = "wave"
    summary: ClassVar[str] = "the wave equation in a square with prescribed normal derivatives"

    def __check_init__(self):
        where = "WaveNeumann"
        for name, least in (("points", 2), ("steps", 1), ("modes", 1), ("waves", 1)):
            check_count(where, name, getattr(self, name), least)
        for name in ("time", "speed"):
            check_positive(where, name, getattr(self, name))
        check_range(where, "amplitude", self.amplitude)
        for name in ("speeds", "wavenumbers"):
            check_range(where, name, getattr(self, name), 0.0)

    @property
    def axes(self) -> tuple[str, ...]:
        return "t", "x", "y"

    @property
    def faces(self) -> dict[FaceName, FaceKind]:
        kind = FaceKind("neumann", None if self.hard else 0.0)
        return {("x", "low"): kind, ("x", "high"): kind, ("y", "low"): kind, ("y", "high"): kind}

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("u0", "velocity0", "c") if self.hard else ("u0",)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("u",)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        if not self.hard:
            return ("k",)
        plane = ("amplitude", "wavenumber_x", "wavenumber_y", "phase")
        waves = [f"{name}_{j}" for name in plane for j in range(self.waves)]
        modes = [
            f"{name}_{n}_{m}"
            for name in ("cos", "sin")
            for n in range(self.modes)
            for m in range(self.modes)
        ]
        return ("c", *waves, *modes)

    def exact_coordinates(self) -> dict[str, np.ndarray]:
        x = np.linspace(0.0, 1.0, self.points)
        return {"t": times(self.time, self.steps), "x": x, "y": x}

    def draw_parameters(self, key: PRNGKeyArray) -> Float[Array, " parameters"]:
        keys = jax.random.split(key, 6)
        if not self.hard:
            low, high = self.amplitude
            return jax.random.uniform(keys[0], (1,), minval=low, maxval=high)
        low, high = self.speeds
        c = jax.random.uniform(keys[0], (1,), minval=low, maxval=high)
        shape = (self.waves,)
        low, high = self.wavenumbers
        size = jax.random.uniform(keys[1], shape, minval=low, maxval=high)
        angle = jax.random.uniform(keys[2], shape, minval=-_PI, maxval=_PI)
        phase = jax.random.uniform(keys[3], shape, minval=-_PI, maxval=_PI)
        amplitude = jax.random.normal(keys[4], shape) / size
        n = np.arange(self.modes)
        deviation = 1 / (1 + np.add.outer(n**2, n**2) / 4)
        modes = jax.random.normal(keys[5], (2, self.modes, self.modes))
        modes = modes * jnp.asarray(deviation, modes.dtype)[None]
        # The mode (0, 0) does not swing: its place among the sines stays empty.
        modes = modes.at[1, 0, 0].set(0)
        plane = [amplitude, size * jnp.cos(angle), size * jnp.sin(angle), phase]
        return jnp.concatenate([c, *plane, modes.ravel()])

    def solution(
        self, parameters: Float[Array, " parameters"], t: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> Float[Array, "times x y"]:
        """The exact solution at all triples of known float64 times and coordinates."""
        return self._field(parameters, t, x, y)

    def velocity(
        self, parameters: Float[Array, " parameters"], t: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> Float[Array, "times x y"]:
        """Its derivative in time."""
        return self._field(parameters, t, x, y, rate=True)

    def slope(
        self,
        parameters: Float[Array, " parameters"],
        axis: str,
        t: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
    ) -> Float[Array, "times x y"]:
        """Its derivative along `"x"` or `"y"`; the swinging modes' is 0 on the walls exactly."""
        return self._field(parameters, t, x, y, along=axis)

    def sample(self, parameters: Float[Array, " parameters"]) -> Sample:
        self.check_parameters(parameters)
        points = self.exact_coordinates()
        t, x = points["t"], points["x"]
        both = self.solution(parameters, np.concatenate([[0.0], t]), x, x)
        inputs = [both[0]]
        values: dict[FaceName, Array] = {}
        if self.hard:
            inputs.append(self.velocity(parameters, np.zeros(1), x, x)[0])
            inputs.append(jnp.full((self.points, self.points), parameters[0]))
            ends = np.array([0.0, 1.0])
            along_x = self.slope(parameters, "x", t, ends, x)[None]
            along_y = self.slope(parameters, "y", t, x, ends)[None]
            values["x", "low"], values["x", "high"] = along_x[:, :, 0], along_x[:, :, 1]
            values["y", "low"], values["y", "high"] = along_y[..., 0], along_y[..., 1]
        spread = jnp.broadcast_to(jnp.stack(inputs)[:, None], (len(inputs), *self.shape))
        return Sample(spread, both[None, 1:], values, parameters)

    def _field(
        self,
        parameters: Array,
        t: np.ndarray,
        x: np.ndarray,
        y: np.ndarray,
        *,
        rate: bool = False,
        along: str | None = None,
    ) -> Array:
        dtype = parameters.dtype
        if not self.hard:
            c, plane = jnp.asarray(self.speed, dtype), None
            swings, count = jnp.zeros((2, 2, 2), dtype).at[0, 1, 1].set(parameters[0]), 2
        else:
            c = parameters[0]
            plane = parameters[1 : 1 + 4 * self.waves].reshape(4, self.waves)
            swings = parameters[1 + 4 * self.waves :].reshape(2, self.modes, self.modes)
            count = self.modes
        n_pi = _PI * np.arange(count)
        frequency = np.sqrt(np.add.outer(n_pi**2, n_pi**2))
        # c t frequency, (t, n, m), is the only phase here that may be large.
        exact = pair(np.multiply.outer(t, frequency), dtype)
        turned = product(lone(c), exact)
        if rate:
            omega = c * jnp.asarray(frequency, dtype)[None]
            amplitude = omega * (swings[1][None] * cosine(turned) - swings[0][None] * sine(turned))
        else:
            amplitude = swings[0][None] * cosine(turned) + swings[1][None] * sine(turned)
        shapes = [
            jnp.asarray(_cosines(n_pi, p, slope=along == axis), dtype)
            for axis, p in (("x", x), ("y", y))
        ]
        u = contract(contract(amplitude, shapes[0], ([1], [0])), shapes[1], ([1], [0]))
        if plane is None:
            return u

        # cos(kx x + ky y + (phase - c |K| t)) from the cosines and sines of its three parts.
        size, along_x, along_y, phase = plane
        kx, ky = lone(along_x[:, None]), lone(along_y[:, None])
        k = jnp.sqrt(along_x**2 + along_y**2)
        omega = product(lone(c), _norm(kx, ky, k[:, None]))
        place_x, place_y, instant = (pair(np.asarray(p)[None, :], dtype) for p in (x, y, t))
        angle = minus(lone(phase[:, None]), product(omega, instant))
        cos_x, sin_x, cos_y, sin_y = (
            part(q)[:, :, None] if axis == "x" else part(q)[:, None, :]
            for axis, q in (("x", product(kx, place_x)), ("y", product(ky, place_y)))
            for part in (cosine, sine)
        )
        cos_xy, sin_xy = cos_x * cos_y - sin_x * sin_y, sin_x * cos_y + cos_x * sin_y
        if rate:
            size = size * c * k
        elif along is not None:
            size = -size * (along_x if along == "x" else along_y)
        cos_t, sin_t = size[:, None] * cosine(angle), size[:, None] * sine(angle)
        over = ([0], [0])
        if rate or along is not None:
            return u + contract(cos_t, sin_xy, over) + contract(sin_t, cos_xy, over)
        return u + contract(cos_t, cos_xy, over) - contract(sin_t, sin_xy, over)


def _cosines(n_pi: np.ndarray, x: np.ndarray, *, slope: bool) -> np.ndarray:
    """`cos(n pi x)`, or its derivative, 0 at both ends, which rounding would not give."""
    if not slope:
        return np.cos(np.outer(n_pi, x))
    walls = (x == 0) | (x == 1)
    return np.where(walls[None, :], 0.0, -n_pi[:, None] * np.sin(np.outer(n_pi, x)))


def _norm(kx: Pair, ky: Pair, k: Array) -> Pair:
    """`sqrt(kx^2 + ky^2)` as a pair: one Newton step from its rounded value `k`."""
    square = minus(plus(product(kx, kx), product(ky, ky)), product(lone(k), lone(k)))
    return plus(lone(k), lone((square.high + square.low) / (2 * k)))
