"""Conservative finite volumes for laws whose solution has no closed form."""

from typing import Any, Literal

import diffrax
import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.errors import is_concrete, lookup, require_finite
from jaxsci.precision import matmul

from ._boundary import Boundary, Dirichlet, Flux, Outflow, Periodic
from ._law import ConservationLaw
from ._linearly_implicit import LinearlyImplicit
from ._numbers import real
from ._semi_discrete import SemiDiscrete, State


class FiniteVolume(eqx.Module):
    """Settings of [`jaxsci.equations.solve_finite_volume`][].

    **Arguments:**

    - `average`: how the conductivity of a face follows from its two cells.

        `"integral"`: the mean of `k` over the values between them, which is the difference of
        Kirchhoff's transform; exact with `kirchhoff`, else by quadrature.
        `"arithmetic"`: the mean of the two conductivities; cheaper, less accurate at fronts.
        `"harmonic"`: usual for layered media, where `k` depends on position. It is 0 as soon as
        one of the two is: a front that enters ground with `k(0) = 0` never moves (it locks).
        Offered for comparison.

    - `nodes`: nodes of that quadrature.
    - `limiter`: `"minmod"` (order 2 where smooth) or `"none"` (upwind, order 1) for convection.
    - `rtol`, `atol`: tolerances on the error of a time step in the root mean square over the
        cells; by default `1e-5`, or 100 roundings if that is more.
    - `max_steps`: steps of time, accepted and rejected.
    - `adjoint`: how derivatives pass through time; see diffrax. For forward mode give
        `diffrax.ForwardMode()`.

    **Raises:** `ValueError` for an unknown `average` or `limiter` or a number out of range.
    """

    average: Literal["integral", "arithmetic", "harmonic"] = eqx.field(
        static=True, default="integral"
    )
    nodes: int = eqx.field(static=True, default=8)
    limiter: Literal["minmod", "none"] = eqx.field(static=True, default="minmod")
    rtol: float | None = eqx.field(static=True, default=None)
    atol: float | None = eqx.field(static=True, default=None)
    max_steps: int = eqx.field(static=True, default=16384)
    adjoint: diffrax.AbstractAdjoint = eqx.field(default=diffrax.RecursiveCheckpointAdjoint())

    def __check_init__(self):
        lookup("average", self.average, dict.fromkeys(("integral", "arithmetic", "harmonic")))
        lookup("limiter", self.limiter, dict.fromkeys(("minmod", "none")))
        for name, value in (("nodes", self.nodes), ("max_steps", self.max_steps)):
            if value < 1:
                raise ValueError(f"`FiniteVolume({name}=...)`: expected at least 1, got {value}")
        for name, value in (("rtol", self.rtol), ("atol", self.atol)):
            if value is not None and not 0 < value < 1:
                raise ValueError(
                    f"`FiniteVolume({name}=...)`: expected a number between 0 and 1, got {value}"
                )


class FiniteVolumeSolution(eqx.Module):
    """Averages over cells at the times asked for, with the balance that they obey.

    ```
    mass(t) - mass(t0) = inflow(t) - outflow(t) + produced(t)
    ```

    holds to rounding (at most about one a step, which adds up: 1e-5 in float32 after hundreds of
    steps): `inflow` and `outflow` are the time integrals of the flux (positive towards
    larger `x`) through the lower and the upper end, `produced` that of the source.
    """

    edges: Float[Array, " cells+1"]
    times: Float[Array, " times"]
    averages: Float[Array, "times cells"]
    inflow: Float[Array, " times"]
    outflow: Float[Array, " times"]
    produced: Float[Array, " times"]
    initial: Float[Array, " cells"]
    steps: Array
    result: diffrax.RESULTS

    @property
    def mass(self) -> Float[Array, " times"]:
        """The integral of the solution over the interval at each of `times`."""
        return matmul(self.averages, jnp.diff(self.edges))

    @property
    def imbalance(self) -> Float[Array, " times"]:
        """`mass(t) - mass(t0) - inflow + outflow - produced`: rounding."""
        start = matmul(self.initial, jnp.diff(self.edges))
        return self.mass - start - self.inflow + self.outflow - self.produced


def solve_finite_volume(
    law: ConservationLaw,
    initial: ArrayLike,
    edges: ArrayLike,
    times: ArrayLike,
    *,
    low: Boundary,
    high: Boundary,
    t0: float = 0.0,
    settings: FiniteVolume | None = None,
    throw: bool = True,
) -> FiniteVolumeSolution:
    """Solves a conservation law on cells, conserving mass to rounding.

    ```
    d u_i / dt = (F_(i-1/2) - F_(i+1/2)) / h_i + s_i
    F_(i+1/2)  = f*(u-, u+) - (K(u_(i+1)) - K(u_i)) / (x_(i+1) - x_i),    K' = k
    ```

    with limited linear reconstruction and the local Lax-Friedrichs flux `f*` for convection, and a
    linearly implicit time step (order 2, adaptive) that costs two tridiagonal solves however
    stiff the diffusion is. Works under `jit` and `vmap`, and is differentiable in the initial
    averages and in whatever parameters `law`, `low` and `high` carry.

    **Arguments:**

    - `law`: a [`jaxsci.equations.ConservationLaw`][].
    - `initial`: averages over the cells at `t0`, shape `(cells,)`, at least 3; see
        [`jaxsci.equations.cell_averages`][]. With `edges` it decides the dtype.
    - `edges`: ends of the cells, shape `(cells + 1,)`, increasing, uniform or not.
    - `times`: when to report, shape `(times,)`, increasing, not before `t0`.
    - `low`, `high`: what happens at the ends: `Dirichlet`, `Flux`, `Outflow` or `Periodic`.
    - `settings`: a [`jaxsci.equations.FiniteVolume`][].
    - `throw`: raise if `max_steps` do not suffice; else see `.result`, and the averages at the
        times that were not reached are infinite.

    **Returns:** a [`jaxsci.equations.FiniteVolumeSolution`][].

    **Raises:** `ValueError` for arrays of the wrong shape or order, for one periodic end, for
    `average="harmonic"` or `"arithmetic"` without `conductivity`.

    !!! example
        A conductivity without a closed primitive; nothing passes the upper end.

        >>> import jax.numpy as jnp
        >>> from jaxsci.equations import ConservationLaw, Dirichlet, Flux, solve_finite_volume
        >>> law = ConservationLaw(conductivity=lambda u: u**2 / (1 + jnp.exp(-5 * u)))
        >>> edges = jnp.linspace(0.0, 1.0, 51)
        >>> solution = solve_finite_volume(
        ...     law, jnp.zeros(50), edges, jnp.array([0.1, 0.2]), low=Dirichlet(1.0), high=Flux(0.0)
        ... )
        >>> solution.averages.shape
        (2, 50)
        >>> bool(jnp.allclose(solution.mass, solution.inflow, rtol=1e-5))
        True

    ??? cite "References"
        LeVeque, *Finite Volume Methods for Hyperbolic Problems*, Cambridge University Press, 2002.

        Maddix, Sampaio, Gerritsen, *Numerical artifacts in the discontinuous generalized porous
        medium equation*, J. Comput. Phys. 368, 2018 (why harmonic averaging locks).
    """
    settings = FiniteVolume() if settings is None else settings
    initial, edges, times = real(initial, edges, times)
    start = jnp.asarray(t0, times.dtype)
    _check(law, initial, edges, times, start, low, high, settings)
    dtype = initial.dtype
    space = SemiDiscrete(law, edges, low, high, settings.average, settings.nodes, settings.limiter)
    floor = max(1e-5, 100 * float(jnp.finfo(dtype).eps))
    controller = diffrax.PIDController(
        rtol=floor if settings.rtol is None else settings.rtol,
        atol=floor if settings.atol is None else settings.atol,
    )
    nothing = jnp.zeros((), dtype)
    found = diffrax.diffeqsolve(
        diffrax.ODETerm(_rate),
        LinearlyImplicit(space),
        start,
        times[-1],
        None,
        State(initial, nothing, nothing, nothing),
        args=space,
        saveat=diffrax.SaveAt(ts=times),
        # Steps end at the times asked for: nothing is interpolated.
        stepsize_controller=diffrax.ClipStepSizeController(controller, step_ts=times),
        adjoint=settings.adjoint,
        max_steps=settings.max_steps,
        throw=throw,
    )
    state: Any = found.ys
    return FiniteVolumeSolution(
        edges, times, *state, initial=initial, steps=found.stats["num_steps"], result=found.result
    )


def _rate(t: Any, state: State, space: SemiDiscrete) -> State:
    explicit = space.explicit(t, state.averages)
    implicit = space.implicit(t, state.averages)
    return State(*(a + b for a, b in zip(explicit, implicit, strict=True)))


def _check(law, initial, edges, times, start, low, high, settings) -> None:
    def fail(name: str, expected: str, got: str) -> None:
        raise ValueError(f"`solve_finite_volume({name}=...)`: expected {expected}, got {got}")

    if not isinstance(law, ConservationLaw):
        raise TypeError(
            f"`solve_finite_volume(law=...)`: expected a `ConservationLaw`, got {law!r}; wrap a "
            "conductivity as `ConservationLaw(conductivity=k)`"
        )
    for name, end in (("low", low), ("high", high)):
        if not isinstance(end, Dirichlet | Flux | Outflow | Periodic):
            raise TypeError(
                f"`solve_finite_volume({name}=...)`: expected `Dirichlet`, `Flux`, `Outflow` or "
                f"`Periodic`, got {end!r}"
            )
    if isinstance(low, Periodic) != isinstance(high, Periodic):
        fail("low, high", "both ends periodic or neither", f"{low!r} and {high!r}")
    if initial.ndim != 1 or initial.size < 3:
        fail("initial", "averages over at least 3 cells, shape (cells,)", f"shape {initial.shape}")
    if edges.shape != (initial.size + 1,):
        fail("edges", f"shape ({initial.size + 1},), one more than cells", f"shape {edges.shape}")
    if times.ndim != 1 or times.size < 1:
        fail("times", "a 1-D array of at least one time", f"shape {times.shape}")
    if settings.average != "integral" and law.conductivity is None and law.diffusive:
        fail("law", f"a conductivity for average={settings.average!r}", "only `kirchhoff`")
    for name, array in (("initial", initial), ("edges", edges), ("times", times)):
        require_finite("solve_finite_volume", name, array)
    # numpy, since under `jit` even operations on known arrays are traced.
    if is_concrete(edges):
        points = np.asarray(edges, float)
        if bool((np.diff(points) <= 0).any()):
            fail("edges", "strictly increasing numbers", str(points))
    if is_concrete(times, start):
        first, later = float(start), np.asarray(times, float)
        if bool((np.diff(later) <= 0).any()) or later[0] < first:
            fail("times", f"increasing numbers from t0 = {first} on", str(later))
        if later[-1] <= first:
            fail("times", f"a time after t0 = {first}", str(later))
