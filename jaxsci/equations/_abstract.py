"""What every equation with a known solution declares."""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from ._boundary import Boundary, Dirichlet, Outflow, Periodic
from ._law import ConservationLaw


class AbstractEquation(eqx.Module):
    """A one-dimensional conservation law with one parameter and an exact solution.

    ```
    u_t + F(u, u_x)_x = 0,    F = convection(u) - conductivity(u) u_x
    ```

    The parameter is an array field, so that a batch of equations is `jax.vmap(cls)(parameters)`
    and methods are batched by `jax.vmap(lambda equation, ...: equation.solution(...))`. All
    quantities are dimensionless. Methods that take points are elementwise: `t` and `x` have equal
    shapes, or shapes that broadcast (`t[:, None]` and `x[None, :]`), and their dtype decides the
    dtype of the result. Times are nonnegative.

    **Class attributes:**

    - `name`: the key in [`jaxsci.equations.EQUATIONS`][].
    - `parameter_name`: the field that holds the parameter.
    - `t_bounds`, `x_bounds`: the domain.
    - `train_range`: the interval from which training parameters are drawn uniformly.
    - `test_values`: the parameters of the test functions.
    - `evaluation_time`: the time at which metrics are reported.
    - `periodic`: whether `x_bounds` is a circle.
    - `diffusive`: whether the flux is diffusive; else it is convective.
    """

    name: ClassVar[str]
    parameter_name: ClassVar[str]
    t_bounds: ClassVar[tuple[float, float]]
    x_bounds: ClassVar[tuple[float, float]]
    train_range: ClassVar[tuple[float, float]]
    test_values: ClassVar[tuple[float, ...]]
    evaluation_time: ClassVar[float]
    periodic: ClassVar[bool]
    diffusive: ClassVar[bool]

    @abc.abstractmethod
    def solution(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact solution `u(t, x)`."""

    @abc.abstractmethod
    def flux(self, t: ArrayLike, x: ArrayLike) -> Float[Array, "*points"]:
        """The exact flux `F` through `x` at time `t`, positive towards larger `x`."""

    @abc.abstractmethod
    def mass(self, t: ArrayLike) -> Float[Array, "*times"]:
        """The integral of the exact solution over `x_bounds`, for every `t >= 0`."""

    @abc.abstractmethod
    def shock_position(self, t: ArrayLike) -> Float[Array, "*times"]:
        """Where the front or shock is; NaN where there is none in the domain."""

    @abc.abstractmethod
    def convection(self, u: ArrayLike) -> Float[Array, "*points"]:
        """The convective part `f(u)` of the flux; 0 where there is none."""

    @abc.abstractmethod
    def conductivity(self, u: ArrayLike) -> Float[Array, "*points"]:
        """The conductivity (diffusion coefficient) `k(u)`; 0 where there is none."""

    @abc.abstractmethod
    def kirchhoff(self, u: ArrayLike) -> Float[Array, "*points"]:
        """Kirchhoff's transform `K(u)`, a primitive of `conductivity`."""

    @property
    def parameter(self) -> Float[Array, ""]:
        """The value of the parameter."""
        return getattr(self, self.parameter_name)

    def initial(self, x: ArrayLike) -> Float[Array, "*points"]:
        """The initial condition `u(0, x)`."""
        return self.solution(0.0, x)

    def initial_mass(self) -> Float[Array, ""]:
        """The integral of the initial condition over `x_bounds`, in the parameter's dtype."""
        return self.mass(jnp.zeros((), self.parameter.dtype))

    def boundary_values(self, t: ArrayLike) -> tuple[Array, Array]:
        """The exact solution at the lower and the upper end of `x_bounds`."""
        low, high = self.x_bounds
        return self.solution(t, low), self.solution(t, high)

    def boundary_fluxes(self, t: ArrayLike) -> tuple[Array, Array]:
        """The exact flux through both ends: `d mass / dt` is the first minus the second."""
        low, high = self.x_bounds
        return self.flux(t, low), self.flux(t, high)

    def law(self) -> ConservationLaw:
        """The equation as [`jaxsci.equations.solve_finite_volume`][] takes it."""
        if self.diffusive:
            return ConservationLaw(conductivity=self.conductivity, kirchhoff=self.kirchhoff)
        return ConservationLaw(convection=self.convection)

    def boundaries(self) -> dict[str, Boundary]:
        """`low` and `high` of [`jaxsci.equations.solve_finite_volume`][] for the exact solution."""
        if self.periodic:
            return {"low": Periodic(), "high": Periodic()}
        low, high = self.x_bounds
        inflow = Dirichlet(lambda t: self.solution(t, low))
        if not self.diffusive:
            return {"low": inflow, "high": Outflow()}
        return {"low": inflow, "high": Dirichlet(lambda t: self.solution(t, high))}

    @classmethod
    def sample_parameters(
        cls, key: PRNGKeyArray, functions: int, dtype: jnp.dtype | None = None
    ) -> Float[Array, " functions"]:
        """Independent uniform draws from `train_range`, in `dtype` (the default float type)."""
        low, high = cls.train_range
        dtype = jnp.result_type(float) if dtype is None else dtype
        return jax.random.uniform(key, (functions,), dtype, minval=low, maxval=high)

    @classmethod
    def test_parameters(
        cls, functions: int = 50, dtype: jnp.dtype | None = None
    ) -> Float[Array, " values*functions"]:
        """Each of `test_values`, repeated `functions` times in turn."""
        dtype = jnp.result_type(float) if dtype is None else dtype
        return jnp.repeat(jnp.asarray(cls.test_values, dtype), functions)
