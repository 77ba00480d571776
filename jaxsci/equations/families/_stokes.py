"""Stokes' second problem: a fluid that an oscillating wall drags along."""

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
from ._pairs import Pair, cosine, lone, minus, pair
from ._pairs import times as product


class StokesSecond(AbstractFamily):
    """Stokes' second problem: from the initial field to the field at later times.

    ```
    u_t = nu u_xx on [0, 1],    u(0, t) = U cos(omega t),    omega ~ U(frequency)
    u = U exp(-k x) cos(k x - omega t),    k = sqrt(omega / (2 nu))
    ```

    The far end has the value of this solution on the half line. With `hard`, each function has a
    viscosity of its own (log-uniform in `viscosities`), and is a sum of `waves` such solutions with
    random frequencies, amplitudes (normal, of mean square `U^2` in all) and phases, and of `modes`
    decaying sines, `b_n sin(n pi x) exp(-nu (n pi)^2 t)`, `b_n ~ N(0, 1 / n^2)`: exact again.

    **Arguments:**

    - `points`, `steps`, `time`: points in `x`; times `time / steps`, ..., `time`.
    - `viscosity`: `nu`, where it is not random.
    - `amplitude`: `U`.
    - `frequency`: the range of `omega`; the paper's is `(3, 4)`, in which the mean of all functions
        is already within 15 % of each.
    - `hard`, `viscosities`, `waves`, `modes`: as above.

    Inputs: the initial field and, if `hard`, `log10(nu)`.

    **Raises:** `ValueError` for a setting that is impossible.

    !!! example
        >>> import jax
        >>> from jaxsci.equations.families import StokesSecond
        >>> family = StokesSecond(points=64, steps=4)
        >>> sample = family.draw(jax.random.key(0))
        >>> sample.inputs.shape, sample.outputs.shape, sample.values["x", "low"].shape
        ((1, 4, 64), (1, 4, 64), (1, 4))
    """

    points: int = eqx.field(default=128, static=True, kw_only=True)
    steps: int = eqx.field(default=16, static=True, kw_only=True)
    time: float = eqx.field(default=2.0, static=True, kw_only=True)
    viscosity: float = eqx.field(default=0.02, static=True, kw_only=True)
    amplitude: float = eqx.field(default=2.0, static=True, kw_only=True)
    frequency: Range = eqx.field(default=(2.0, 6.0), static=True, kw_only=True)
    hard: bool = eqx.field(default=False, static=True, kw_only=True)
    viscosities: Range = eqx.field(default=(0.002, 0.1), static=True, kw_only=True)
    waves: int = eqx.field(default=4, static=True, kw_only=True)
    modes: int = eqx.field(default=8, static=True, kw_only=True)

    name: ClassVar[str] = "stokes"
    summary: ClassVar[str] = "Stokes' second problem: a fluid along an oscillating wall"

    def __check_init__(self):
        where = "StokesSecond"
        for name, least in (("points", 2), ("steps", 1), ("waves", 1), ("modes", 1)):
            check_count(where, name, getattr(self, name), least)
        for name in ("time", "viscosity", "amplitude"):
            check_positive(where, name, getattr(self, name))
        check_range(where, "frequency", self.frequency, 0.0)
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
            return ("omega",)
        waves = [f"{n}_{j}" for n in ("omega", "amplitude", "phase") for j in range(self.waves)]
        return ("nu", *waves, *(f"b_{n}" for n in range(1, self.modes + 1)))

    def exact_coordinates(self) -> dict[str, np.ndarray]:
        return {"t": times(self.time, self.steps), "x": np.linspace(0.0, 1.0, self.points)}

    def draw_parameters(self, key: PRNGKeyArray) -> Float[Array, " parameters"]:
        keys = jax.random.split(key, 5)
        shape = (self.waves if self.hard else 1,)
        low, high = self.frequency
        omega = jax.random.uniform(keys[0], shape, minval=low, maxval=high)
        if not self.hard:
            return omega
        low, high = np.log(self.viscosities)
        nu = jnp.exp(jax.random.uniform(keys[1], (1,), minval=low, maxval=high))
        amplitude = self.amplitude * jax.random.normal(keys[2], shape) / self.waves**0.5
        phase = jax.random.uniform(keys[3], shape, minval=-jnp.pi, maxval=jnp.pi)
        b = jax.random.normal(keys[4], (self.modes,)) / jnp.arange(1, self.modes + 1, dtype=float)
        return jnp.concatenate([nu, omega, amplitude, phase, b])

    def solution(
        self, parameters: Float[Array, " parameters"], t: np.ndarray, x: np.ndarray
    ) -> Float[Array, "times positions"]:
        """The exact solution at all pairs of known float64 times and positions (one axis each)."""
        dtype = parameters.dtype
        if not self.hard:
            nu, omega = jnp.asarray(self.viscosity, dtype), parameters
            amplitude, phase = jnp.full((1,), self.amplitude, dtype), jnp.zeros((1,), dtype)
        else:
            nu, rest = parameters[0], parameters[1 : 1 + 3 * self.waves]
            omega, amplitude, phase = rest.reshape(3, self.waves)
        # An error in k x is damped by exp(-k x); one in omega t is not.
        kx = jnp.sqrt(omega / (2 * nu))[:, None, None] * jnp.asarray(x, dtype)[None, None, :]
        omega_t = product(lone(omega[:, None, None]), _spread(pair(t, dtype)))
        phases = minus(minus(omega_t, lone(phase[:, None, None])), lone(kx))
        u = jnp.sum(amplitude[:, None, None] * jnp.exp(-kx) * cosine(phases), axis=0)
        if not self.hard:
            return u
        n_pi = np.pi * np.arange(1, self.modes + 1)
        decay = jnp.exp(-nu * jnp.asarray(np.outer(t, n_pi**2), dtype))
        sines = jnp.asarray(np.sin(np.outer(n_pi, x)), dtype)
        return u + matmul(decay * parameters[None, 1 + 3 * self.waves :], sines)

    def sample(self, parameters: Float[Array, " parameters"]) -> Sample:
        self.check_parameters(parameters)
        points = self.exact_coordinates()
        t = np.concatenate([[0.0], points["t"]])
        u = self.solution(parameters, t, points["x"])
        start, u = jnp.broadcast_to(u[0], self.shape), u[None, 1:]
        inputs = [start]
        if self.hard:
            inputs.append(jnp.full(self.shape, jnp.log10(parameters[0])))
        values: dict[FaceName, Array] = {("x", "low"): u[..., 0], ("x", "high"): u[..., -1]}
        return Sample(jnp.stack(inputs), u, values, parameters)


def _spread(t: Pair) -> Pair:
    return Pair(t.high[None, :, None], t.low[None, :, None])
