"""Viscous Burgers on a circle, from a Gaussian random field."""

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
)
from ._pairs import cosine_pi, lone, pair, sine_pi
from ._pairs import times as product


class BurgersPeriodic(AbstractFamily):
    """Viscous Burgers' equation on a circle: from a random field to the field at a later time.

    ```
    u_t + u u_x = nu u_xx on [0, 1], periodic,    u(x, 0) ~ N(0, 625 (-Lap + 25 I)^-2)
    ```

    The Cole-Hopf transformation makes the solution a mean of the initial field,
    `u(x, t) = integral(K(x - y) psi(y) u0(y)) / integral(K(x - y) psi(y))`, with the heat kernel
    `K` of the circle and `psi = exp(-integral(u0) / (2 nu))` (for a field of mean 0: the mean moves
    the field along). The trapezoidal rule on a fine grid has the accuracy of a rounding; all terms
    of the denominator are positive.

    With `hard`, each function has a viscosity of its own (log-uniform in `viscosities`), and its
    field is multiplied by a number that is uniform in `amplitudes`.

    **Arguments:**

    - `points`: in `x`, both ends, which are the same point, included.
    - `time`: of the output.
    - `viscosity`: `nu`, where it is not random; `nu time` is at least 0.001. (At `nu time = 0.1`
        all but the mean of the field has gone.)
    - `modes`: how many wavelengths the random field has beside its mean.
    - `fine`: at least how many points the fine grid has.
    - `hard`, `viscosities`, `amplitudes`: as above.

    Inputs: the initial field and, if `hard`, `log10(nu)`.

    **Raises:** `ValueError` for a setting that is impossible.

    !!! example
        >>> import jax
        >>> from jaxsci.equations.families import BurgersPeriodic
        >>> family = BurgersPeriodic(points=65)
        >>> sample = family.draw(jax.random.key(0))
        >>> sample.outputs.shape, bool(sample.outputs[0, 0] == sample.outputs[0, -1])
        ((1, 65), True)
    """

    points: int = eqx.field(default=257, static=True, kw_only=True)
    time: float = eqx.field(default=1.0, static=True, kw_only=True)
    viscosity: float = eqx.field(default=0.01, static=True, kw_only=True)
    modes: int = eqx.field(default=64, static=True, kw_only=True)
    fine: int = eqx.field(default=1024, static=True, kw_only=True)
    hard: bool = eqx.field(default=False, static=True, kw_only=True)
    viscosities: Range = eqx.field(default=(0.005, 0.1), static=True, kw_only=True)
    amplitudes: Range = eqx.field(default=(0.5, 2.0), static=True, kw_only=True)

    name: ClassVar[str] = "burgers-periodic"
    summary: ClassVar[str] = "viscous Burgers on a circle, from a Gaussian random field"

    def __check_init__(self):
        where = "BurgersPeriodic"
        for name, least in (("points", 3), ("modes", 1), ("fine", 4 * self.modes)):
            check_count(where, name, getattr(self, name), least)
        for name in ("time", "viscosity"):
            check_positive(where, name, getattr(self, name))
        for name in ("viscosities", "amplitudes"):
            check_range(where, name, getattr(self, name), 0.0)
        least = self.viscosities[0] if self.hard else self.viscosity
        if not 1e-3 <= least * self.time <= 1:
            raise ValueError(
                f"`{where}(...)`: expected viscosity * time of 0.001 to 1, got "
                f"{least * self.time}; the weights of a smaller one underflow in float32"
            )

    @property
    def axes(self) -> tuple[str, ...]:
        return ("x",)

    @property
    def faces(self) -> dict[FaceName, FaceKind]:
        return {("x", "low"): FaceKind("periodic"), ("x", "high"): FaceKind("periodic")}

    @property
    def input_names(self) -> tuple[str, ...]:
        return ("u0", "log10_nu") if self.hard else ("u0",)

    @property
    def output_names(self) -> tuple[str, ...]:
        return ("u",)

    @property
    def parameter_names(self) -> tuple[str, ...]:
        k = range(1, self.modes + 1)
        field = ("mean", *(f"cos_{i}" for i in k), *(f"sin_{i}" for i in k))
        return ("nu", *field) if self.hard else field

    def exact_coordinates(self) -> dict[str, np.ndarray]:
        return {"x": np.linspace(0.0, 1.0, self.points)}

    def draw_parameters(self, key: PRNGKeyArray) -> Float[Array, " parameters"]:
        keys = jax.random.split(key, 3)
        k = 2 * np.pi * np.arange(self.modes + 1)
        # The mean of a field on an interval of length 1 has the variance of the eigenfunction 1,
        # a cosine or sine half of that of sqrt(2) cos.
        deviation = 25 / (k**2 + 25) * np.where(k == 0, 1.0, np.sqrt(2.0))
        normal = jax.random.normal(keys[0], (2 * self.modes + 1,))
        field = normal * jnp.asarray(np.concatenate([deviation, deviation[1:]]), normal.dtype)
        if not self.hard:
            return field
        low, high = np.log(self.viscosities)
        nu = jnp.exp(jax.random.uniform(keys[1], (1,), minval=low, maxval=high))
        low, high = self.amplitudes
        return jnp.concatenate(
            [nu, field * jax.random.uniform(keys[2], (1,), minval=low, maxval=high)]
        )

    def initial(
        self, parameters: Float[Array, " parameters"], x: np.ndarray
    ) -> Float[Array, " positions"]:
        """The field at time 0."""
        _, mean, a, b = self._law(parameters)
        cosines, sines = self._waves(x, parameters.dtype)
        return mean + matmul(cosines, a) + matmul(sines, b)

    def solution(self, parameters: Float[Array, " parameters"]) -> Float[Array, " points"]:
        """The field at `time`, at the points."""
        dtype = parameters.dtype
        nu, mean, a, b = self._law(parameters)
        # u(x, t) = mean + v(x - mean t, t), v being the solution of mean 0 from the moved field.
        k = jnp.arange(1, self.modes + 1, dtype=dtype)
        turns = product(product(lone(k), lone(mean[None])), pair(2 * self.time, dtype))
        cos, sin = cosine_pi(turns), sine_pi(turns)
        a, b = a * cos - b * sin, a * sin + b * cos

        intervals = self.points - 1
        refined = -(-self.fine // intervals)
        count = intervals * refined
        cosines, sines = self._waves(np.arange(count) / count, dtype)
        start = matmul(cosines, a) + matmul(sines, b)
        wavenumber = jnp.asarray(2 * np.pi * np.arange(1, self.modes + 1), dtype)
        potential = matmul(sines, a / wavenumber) - matmul(cosines, b / wavenumber)
        weight = jnp.exp(-(potential - potential.min()) / (2 * nu))

        # The kernel on the circle: a sum over its images, as many as reach to 1e-17 of its peak.
        largest = self.viscosities[1] if self.hard else self.viscosity
        reach = math.ceil(0.5 + math.sqrt(4 * largest * self.time * 40))
        distance = np.arange(count) / count
        images = np.add.outer(np.arange(-reach - 1, reach + 1), distance) ** 2 / (4 * self.time)
        kernel = jnp.exp(-jnp.asarray(images, dtype) / nu).sum(axis=0)
        index = (refined * np.arange(intervals)[:, None] - np.arange(count)[None, :]) % count
        sums = matmul(kernel[index], jnp.stack([weight * start, weight], axis=1))
        v = mean + sums[:, 0] / sums[:, 1]
        # Both ends are written from one number: the last point, computed again within a fused
        # loop, may round differently from the first.
        return jnp.pad(v, (0, 1)).at[jnp.array([0, intervals])].set(v[0])

    def sample(self, parameters: Float[Array, " parameters"]) -> Sample:
        self.check_parameters(parameters)
        inputs = [self.initial(parameters, self.exact_coordinates()["x"])]
        if self.hard:
            inputs.append(jnp.full(self.shape, jnp.log10(parameters[0])))
        return Sample(jnp.stack(inputs), self.solution(parameters)[None], {}, parameters)

    def _law(self, parameters: Array) -> tuple[Array, Array, Array, Array]:
        """The viscosity, and the mean, the cosines and the sines of the initial field."""
        nu = jnp.asarray(self.viscosity, parameters.dtype)
        if self.hard:
            nu, parameters = parameters[0], parameters[1:]
        return nu, parameters[0], parameters[1 : 1 + self.modes], parameters[1 + self.modes :]

    def _waves(self, x: np.ndarray, dtype) -> tuple[Array, Array]:
        turns = np.outer(x % 1.0, np.arange(1, self.modes + 1)) % 1.0
        return jnp.asarray(np.cos(2 * np.pi * turns), dtype), jnp.asarray(
            np.sin(2 * np.pi * turns), dtype
        )
