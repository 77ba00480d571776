"""Heat in a rod of which one end, or both, takes in a prescribed flux."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.precision import matmul

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
from ._pairs import cosine_pi, lone, pair, sine_pi
from ._pairs import times as product


class HeatNeumann(AbstractFamily):
    """The heat equation with fluxes prescribed at the ends: from the initial field to a later one.

    ```
    u_t = k u_xx on [0, 1],    u_x(0, t) = 0,    u_x(1, t) = U sin(pi t)
    u(x, 0) = cos(omega pi x),    omega ~ U(frequency)
    ```

    The initial field is a cosine series; the response to the flux is the eventual oscillation, in
    closed form, plus a series of decaying cosines.

    With `hard`, each function has a conductivity of its own (log-uniform in `conductivities`), a
    random field of `modes` cosines to begin with, `a_n ~ N(0, (1 + (n / 3)^2)^-2)`, and random
    fluxes `sum_j c_j sin(j pi t)`, `c_j ~ N(0, (U / j)^2)`, `j` up to `waves`, at both ends: exact
    again.

    **Arguments:**

    - `points`: in `x`, both ends included.
    - `time`, `steps`: with 1 step the output is the field at `time`, without a time axis; with more
        it is the fields at `time / steps`, ..., `time`.
    - `conductivity`: `k`, where it is not random.
    - `flux`: `U`.
    - `frequency`: the range of `omega`, in half waves.
    - `hard`, `conductivities`, `modes`, `waves`: as above.

    Inputs: the initial field; if `hard`, also `log10(k)` and, without a time axis, the `c_j` of the
    right and of the left end.

    **Raises:** `ValueError` for a setting that is impossible.

    !!! example
        >>> import jax
        >>> from jaxsci.equations.families import HeatNeumann
        >>> family = HeatNeumann(points=100)
        >>> family.faces["x", "high"]
        FaceKind(kind='neumann', value=5.0)
        >>> family.draw(jax.random.key(0)).outputs.shape
        (1, 100)
    """

    points: int = eqx.field(default=500, static=True, kw_only=True)
    steps: int = eqx.field(default=1, static=True, kw_only=True)
    time: float = eqx.field(default=0.5, static=True, kw_only=True)
    conductivity: float = eqx.field(default=0.01, static=True, kw_only=True)
    flux: float = eqx.field(default=5.0, static=True, kw_only=True)
    frequency: Range = eqx.field(default=(2.01, 3.99), static=True, kw_only=True)
    hard: bool = eqx.field(default=False, static=True, kw_only=True)
    conductivities: Range = eqx.field(default=(0.005, 0.05), static=True, kw_only=True)
    modes: int = eqx.field(default=16, static=True, kw_only=True)
    waves: int = eqx.field(default=4, static=True, kw_only=True)

    name: ClassVar[str] = "heat"
    summary: ClassVar[str] = "heat in a rod with a prescribed flux at its ends"

    def __check_init__(self):
        where = "HeatNeumann"
        for name, least in (("points", 2), ("steps", 1), ("waves", 1), ("modes", 1)):
            check_count(where, name, getattr(self, name), least)
        for name in ("time", "conductivity", "flux"):
            check_positive(where, name, getattr(self, name))
        check_range(where, "frequency", self.frequency, 0.0)
        check_range(where, "conductivities", self.conductivities, 0.0)

    @property
    def axes(self) -> tuple[str, ...]:
        return ("x",) if self.steps == 1 else ("t", "x")

    @property
    def faces(self) -> dict[FaceName, FaceKind]:
        left, right = None if self.hard else 0.0, None
        if self.steps == 1 and not self.hard:
            right = self.flux * math.sin(math.pi * self.time)
        return {
            ("x", "low"): FaceKind("neumann", left),
            ("x", "high"): FaceKind("neumann", right),
        }

    @property
    def input_names(self) -> tuple[str, ...]:
        if not self.hard:
            return ("u0",)
        return ("u0", "log10_k", *(self._flux_names() if self.steps == 1 else ()))

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("u",)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        if not self.hard:
            return ("omega",)
        return ("k", *self._flux_names(), *(f"a_{n}" for n in range(self.modes)))

    def exact_coordinates(self) -> dict[str, np.ndarray]:
        t = {} if self.steps == 1 else {"t": times(self.time, self.steps)}
        return t | {"x": np.linspace(0.0, 1.0, self.points)}

    def draw_parameters(self, key: PRNGKeyArray) -> Float[Array, " parameters"]:
        keys = jax.random.split(key, 3)
        if not self.hard:
            low, high = self.frequency
            return jax.random.uniform(keys[0], (1,), minval=low, maxval=high)
        low, high = np.log(self.conductivities)
        k = jnp.exp(jax.random.uniform(keys[0], (1,), minval=low, maxval=high))
        c = jax.random.normal(keys[1], (2, self.waves)) * self.flux
        c = c / jnp.arange(1, self.waves + 1, dtype=c.dtype)[None, :]
        a = jax.random.normal(keys[2], (self.modes,))
        a = a / (1 + (jnp.arange(self.modes, dtype=a.dtype) / 3) ** 2)
        return jnp.concatenate([k, c.ravel(), a])

    def solution(
        self, parameters: Float[Array, " parameters"], t: np.ndarray, x: np.ndarray
    ) -> Float[Array, "times positions"]:
        """The exact solution at all pairs of known float64 times above 0 and positions."""
        dtype = parameters.dtype
        k, right, left = self._law(parameters)
        count = self._series(float(np.min(t)))
        n_pi = np.pi * np.arange(count)
        cosines = jnp.asarray(np.cos(np.outer(n_pi, x)), dtype)
        decay = jnp.exp(-k * jnp.asarray(np.outer(t, n_pi**2), dtype))
        if self.hard:
            start = parameters[1 + 2 * self.waves :]
            start = jnp.pad(start, (0, max(0, count - self.modes)))[:count]
        else:
            start = _cosine_coefficients(parameters[0], count)
        rates = k * jnp.asarray(n_pi**2, dtype)
        twice = jnp.asarray(np.where(np.arange(count) == 0, 1.0, 2.0), dtype)
        signs = jnp.asarray((-1.0) ** np.arange(count), dtype)
        forced = jnp.zeros((len(t), len(x)), dtype)
        for nu, to_right, to_left in zip(self._frequencies(), right, left, strict=True):
            answer = twice * k * nu / (rates**2 + nu**2)
            start = start + (to_right * signs - to_left) * answer
            forced = forced + to_right * _oscillation(nu, k, t, x, dtype)
            if self.hard:
                forced = forced - to_left * _oscillation(nu, k, t, 1 - x, dtype)
        return matmul(decay * start[None, :], cosines) + forced

    def fluxes(
        self, parameters: Float[Array, " parameters"], t: np.ndarray
    ) -> tuple[Float[Array, " times"], Float[Array, " times"]]:
        """`u_x` at the left and at the right end."""
        _, right, left = self._law(parameters)
        waves = np.sin(np.outer(t, self._frequencies()))
        waves = jnp.asarray(waves, parameters.dtype)
        return matmul(waves, left), matmul(waves, right)

    def initial(
        self, parameters: Float[Array, " parameters"], x: np.ndarray
    ) -> Float[Array, " positions"]:
        """The field at time 0."""
        if not self.hard:
            return cosine_pi(product(lone(parameters[0]), pair(x, parameters.dtype)))
        cosines = np.cos(np.pi * np.outer(x, np.arange(self.modes)))
        return matmul(jnp.asarray(cosines, parameters.dtype), parameters[1 + 2 * self.waves :])

    def sample(self, parameters: Float[Array, " parameters"]) -> Sample:
        self.check_parameters(parameters)
        points = self.exact_coordinates()
        t, x = points.get("t", np.array([self.time])), points["x"]
        u = self.solution(parameters, t, x).reshape(1, *self.shape)
        constants = []
        if self.hard:
            fluxes = parameters[1 : 1 + 2 * self.waves] if self.steps == 1 else parameters[:0]
            constants = [jnp.log10(parameters[:1]), fluxes]
        channels = jnp.concatenate([jnp.ones((1,), u.dtype), *constants])
        inputs = jnp.broadcast_to(
            channels.reshape(-1, *(1 for _ in self.shape)), (len(channels), *self.shape)
        )
        start = jnp.broadcast_to(self.initial(parameters, x), self.shape)
        values = {}
        for face, flux in zip(self.faces, self.fluxes(parameters, t), strict=True):
            if self.faces[face].value is None:
                values[face] = flux[None, :] if self.steps > 1 else flux
        return Sample(inputs.at[0].set(start), u, values, parameters)

    def _flux_names(self) -> tuple[str, ...]:
        return tuple(f"{side}_{j + 1}" for side in ("right", "left") for j in range(self.waves))

    def _frequencies(self) -> list[float]:
        return [math.pi * j for j in range(1, (self.waves if self.hard else 1) + 1)]

    def _law(self, parameters: Array) -> tuple[Array, Array, Array]:
        """The conductivity, and the amplitudes of the fluxes at the right and the left end."""
        if self.hard:
            right, left = parameters[1 : 1 + 2 * self.waves].reshape(2, self.waves)
            return parameters[0], right, left
        dtype = parameters.dtype
        flux = jnp.full((1,), self.flux, dtype)
        return jnp.asarray(self.conductivity, dtype), flux, jnp.zeros_like(flux)

    def _series(self, earliest: float) -> int:
        """How many cosines have not decayed below 1e-17 at the earliest time."""
        slowest = self.conductivities[0] if self.hard else self.conductivity
        return 2 + math.ceil(math.sqrt(39 / (slowest * math.pi**2 * earliest)))


def _cosine_coefficients(omega: Array, count: int) -> Array:
    """Those of `cos(omega pi x)` on [0, 1]; `omega` may be an integer, or close to one.

    `a_n = (-1)^n 2 omega sin(pi omega) / (pi (omega^2 - n^2))`, `n > 0`, with the whole part of
    `omega` taken off first, so that the sine and the denominator are exact where both are small.
    """
    n = jnp.arange(count, dtype=omega.dtype)
    whole = jnp.round(omega)
    sign = jnp.where((n + whole) % 2 == 0, jnp.ones_like(n), -jnp.ones_like(n))
    same = n == whole
    # Double where: the division by omega - n = 0 is not taken.
    apart = jnp.where(same, jnp.ones_like(n), omega - n)
    other = sign * sine_pi(lone(omega - whole)) / (jnp.pi * apart)
    a = 2 * omega / (omega + n) * jnp.where(same, jnp.sinc(omega - whole), other)
    return a.at[0].divide(2)


def _oscillation(nu: float, k: Array, t: np.ndarray, x: np.ndarray, dtype) -> Array:
    """What the flux `u_x = sin(nu t)` at 1, and 0 at 0, has long been making: shape `(t, x)`.

    `Im(exp(i nu t) cosh(q x) / (q sinh(q)))`, `q = sqrt(i nu / k)`.
    """
    root = jnp.sqrt(nu / (2 * k))
    q = jax.lax.complex(root, root)
    before, behind = (jnp.asarray(y, dtype).astype(q.dtype) for y in (1 - x, 1 + x))
    shape = (jnp.exp(-q * before) + jnp.exp(-q * behind)) / (q * (1 - jnp.exp(-2 * q)))
    sin, cos = (jnp.asarray(f(nu * t), dtype)[:, None] for f in (np.sin, np.cos))
    return cos * shape.imag[None, :] + sin * shape.real[None, :]
