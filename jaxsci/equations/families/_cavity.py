"""The lid-driven cavity: a box of fluid whose lid drags it round."""

import math
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.precision import contract, matmul

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
from ._vorticity import VorticityBox, evolve, stable_step


class LidDrivenCavity(AbstractFamily):
    """The lid-driven cavity: from a fluid at rest to its velocity at later times.

    ```
    u_t + u u_x + v u_y = -p_x + (u_xx + u_yy) / Re,   the same for v,   u_x + v_y = 0 on [0, 1]^2
    (u, v) = (speed, 0) on the lid, y = 1, and 0 on the other walls,    speed ~ U(speeds)
    ```

    `Re` is that of a lid of speed 1. The solver is of second order: differences for the vorticity
    and the stream function, with Thom's condition on the walls, and the velocity from differences
    of the stream function. At Re = 100 the steady state is that of Ghia, Ghia and Shin (1982). With
    64 intervals, as by default, the velocities are off by 1.4 % (root mean square, most of it below
    the lid's corners); the error falls with the square of the spacing.

    The upper corners belong to the lid and to a wall at rest. The point itself is at rest, so that
    the two conditions agree; with `ramp > 0`, the lid's speed rises to its full value smoothly over
    this length from each corner, and the solution no longer has a singularity there. With
    `ramp = 0`, the rise takes one spacing, whatever that is: the problem of the literature.

    With `hard`, each function has a Reynolds number of its own (log-uniform in `reynolds_numbers`),
    a lid that starts and turns, `speed(t) = sum_j c_j sin((j - 1/2) pi t / time)`, `c_j` uniform in
    +-`speeds[1] / j`, and a flow to begin with: the stream function is a random sum of
    `sin(pi x) sin(i pi x) sin(pi y) sin(j pi y)`, `i` and `j` up to `modes`.

    **Arguments:**

    - `points`: in `x` and in `y`.
    - `refine`: the solver has a grid this many times as fine.
    - `steps`, `time`: the times are `time / steps`, ..., `time`.
    - `reynolds`: `Re`, where it is not random.
    - `speeds`: the range of the lid's speed.
    - `ramp`: up to 1/2.
    - `hard`, `reynolds_numbers`, `waves`, `modes`: as above.

    Inputs: the lid's speed; if `hard`, the initial velocity, `log10(Re)` and the `c_j`.

    **Raises:** `ValueError` for a setting that is impossible.

    !!! example
        >>> import jax
        >>> from jaxsci.equations.families import LidDrivenCavity
        >>> family = LidDrivenCavity(points=9, steps=4, time=0.4)
        >>> sample = family.draw(jax.random.key(0))
        >>> sample.outputs.shape, sample.values["y", "high"].shape
        ((2, 4, 9, 9), (2, 4, 9))
    """

    points: int = eqx.field(default=33, static=True, kw_only=True)
    refine: int = eqx.field(default=2, static=True, kw_only=True)
    steps: int = eqx.field(default=25, static=True, kw_only=True)
    time: float = eqx.field(default=2.0, static=True, kw_only=True)
    reynolds: float = eqx.field(default=100.0, static=True, kw_only=True)
    speeds: Range = eqx.field(default=(0.5, 1.5), static=True, kw_only=True)
    ramp: float = eqx.field(default=0.0, static=True, kw_only=True)
    hard: bool = eqx.field(default=False, static=True, kw_only=True)
    reynolds_numbers: Range = eqx.field(default=(50.0, 400.0), static=True, kw_only=True)
    waves: int = eqx.field(default=3, static=True, kw_only=True)
    modes: int = eqx.field(default=3, static=True, kw_only=True)

    name: ClassVar[str] = "cavity"
    summary: ClassVar[str] = "the lid-driven cavity: Navier-Stokes in a box with a moving lid"

    def __check_init__(self):
        where = "LidDrivenCavity"
        for name, least in (
            ("points", 5),
            ("refine", 1),
            ("steps", 1),
            ("waves", 1),
            ("modes", 1),
        ):
            check_count(where, name, getattr(self, name), least)
        for name in ("time", "reynolds"):
            check_positive(where, name, getattr(self, name))
        for name in ("speeds", "reynolds_numbers"):
            check_range(where, name, getattr(self, name), 0.0)
        if not 0 <= self.ramp <= 0.5:
            raise ValueError(f"`{where}(ramp=...)`: expected a length of 0 to 0.5, got {self.ramp}")

    @property
    def axes(self) -> tuple[str, ...]:
        return "t", "x", "y"

    @property
    def faces(self) -> dict[FaceName, FaceKind]:
        rest = FaceKind("dirichlet", 0.0)
        return {
            ("x", "low"): rest,
            ("x", "high"): rest,
            ("y", "low"): rest,
            ("y", "high"): FaceKind("dirichlet"),
        }

    @property
    def input_names(self) -> tuple[str, ...]:
        lid = tuple(f"c_{j + 1}" for j in range(self.waves))
        return ("u0", "v0", "log10_re", *lid) if self.hard else ("speed",)

    @property
    def output_names(self) -> tuple[str, ...]:
        return "u", "v"

    @property
    def parameter_names(self) -> tuple[str, ...]:
        if not self.hard:
            return ("speed",)
        mode = range(1, self.modes + 1)
        flow = (f"psi_{i}_{j}" for i in mode for j in mode)
        return ("re", *(f"c_{j + 1}" for j in range(self.waves)), *flow)

    def exact_coordinates(self) -> dict[str, np.ndarray]:
        x = np.linspace(0.0, 1.0, self.points)
        return {"t": times(self.time, self.steps), "x": x, "y": x}

    def draw_parameters(self, key: PRNGKeyArray) -> Float[Array, " parameters"]:
        keys = jax.random.split(key, 3)
        low, high = self.speeds
        if not self.hard:
            return jax.random.uniform(keys[0], (1,), minval=low, maxval=high)
        c = jax.random.uniform(keys[0], (self.waves,), minval=-high, maxval=high)
        c = c / jnp.arange(1, self.waves + 1, dtype=c.dtype)
        low, high = np.log(self.reynolds_numbers)
        re = jnp.exp(jax.random.uniform(keys[1], (1,), minval=low, maxval=high))
        flow = jax.random.uniform(keys[2], (self.modes, self.modes), minval=-1, maxval=1)
        flow = flow * jnp.asarray(self._largest_flow(), flow.dtype)
        return jnp.concatenate([re, c, flow.ravel()])

    def lid(self, parameters: Float[Array, " parameters"], t: np.ndarray) -> Float[Array, "*times"]:
        """The speed of the lid at known times."""
        if not self.hard:
            return jnp.broadcast_to(parameters[0], t.shape)
        j = np.arange(1, self.waves + 1)
        waves = np.sin(np.multiply.outer(t, (j - 0.5) * np.pi / self.time))
        waves = jnp.asarray(waves.reshape(-1, self.waves), parameters.dtype)
        return matmul(waves, parameters[1 : 1 + self.waves]).reshape(t.shape)

    def profile(self, x: np.ndarray) -> np.ndarray:
        """The speed along the lid, relative to that of its middle."""
        if self.ramp == 0:
            return np.where((x <= 0) | (x >= 1), 0.0, 1.0)
        z = np.clip(np.minimum(x, 1 - x) / self.ramp, 0, 1)
        return z**3 * (10 - 15 * z + 6 * z**2)

    def sample(self, parameters: Float[Array, " parameters"]) -> Sample:
        self.check_parameters(parameters)
        dtype, n = parameters.dtype, (self.points - 1) * self.refine
        box, x = VorticityBox(n), np.arange(1, n) / n
        nu = 1 / (parameters[0] if self.hard else jnp.asarray(self.reynolds, dtype))

        substeps = self.substeps
        dt = self.time / self.steps / substeps
        stages = np.add.outer(np.arange(self.steps * substeps), [0.0, 0.5, 1.0]) * dt
        lids = self.lid(parameters, stages.reshape(self.steps, substeps, 3))
        lids = lids[..., None] * jnp.asarray(self.profile(x), dtype)[None, None, None, :]
        start = self._initial(parameters, x)
        streams = evolve(box, box.vorticity(start), nu, dt, lids)

        ends = self.lid(parameters, self.exact_coordinates()["t"])
        coarse = jnp.asarray(self.profile(self.exact_coordinates()["x"]), dtype)
        moving = ends[:, None] * coarse[None, :]
        u, v = self._on_points(box, streams)
        u = u.at[:, :, -1].set(moving)
        values: dict[FaceName, Array] = {("y", "high"): jnp.stack([moving, jnp.zeros_like(moving)])}
        inputs = [jnp.full(u.shape[1:], p) for p in parameters[: 1 + self.waves * self.hard]]
        if self.hard:
            inputs[0] = jnp.log10(inputs[0])
            inputs = [field[0] for field in self._on_points(box, start[None])] + inputs
        spread = jnp.broadcast_to(jnp.stack(inputs)[:, None], (len(inputs), *self.shape))
        return Sample(spread, jnp.stack([u, v]), values, parameters)

    @property
    def substeps(self) -> int:
        """How many steps the solver takes from one output to the next."""
        n = (self.points - 1) * self.refine
        fastest, slowest = self.speeds[1], self.reynolds
        if self.hard:
            fastest *= sum(1 / j for j in range(1, self.waves + 1))
            turns = np.pi * (1 + np.arange(1, self.modes + 1))
            fastest += float((self._largest_flow() * turns[None, :]).sum())
            slowest = self.reynolds_numbers[0]
        return math.ceil(self.time / self.steps / stable_step(n, 1 / slowest, fastest))

    def _largest_flow(self) -> np.ndarray:
        """The bounds of the amplitudes of the initial stream function."""
        i = np.arange(1, self.modes + 1)
        return 0.2 / np.add.outer(i**2, i**2)

    def _initial(self, parameters: Array, x: np.ndarray) -> Array:
        """The initial stream function at the inner points of the solver's grid."""
        if not self.hard:
            return jnp.zeros((len(x), len(x)), parameters.dtype)
        flow = parameters[1 + self.waves :].reshape(self.modes, self.modes)
        waves = np.sin(np.pi * np.outer(np.arange(1, self.modes + 1), x)) * np.sin(np.pi * x)
        waves = jnp.asarray(waves, parameters.dtype)
        return contract(contract(flow, waves, ([0], [0])), waves, ([0], [0]))

    def _on_points(self, box: VorticityBox, streams: Array) -> tuple[Array, Array]:
        """The velocities at the points of the output, 0 on all walls: shapes `(t, x, y)`."""
        inner = slice(self.refine - 1, None, self.refine)
        u, v = jax.vmap(box.velocity)(streams)
        around = ((0, 0), (1, 1), (1, 1))
        return jnp.pad(u[:, inner, inner], around), jnp.pad(v[:, inner, inner], around)
