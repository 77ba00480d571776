"""Where variables live: a space with a tangent at each point, and a way to step along it."""

import abc
import contextlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jaxlie
from jaxtyping import Array, Float

from jaxsci.precision import two_sum


class AbstractManifold(eqx.Module):
    """A space whose points are arrays, and whose steps are tangent vectors.

    A subclass says the sizes `ambient` (of a point) and `dim` (of a step), and how to step. All
    methods take one point; the solvers `vmap`.

    - `retract(x, delta)`: the point reached from `x` by `delta`; `retract(x, 0) == x`.
    - `local(x, y)`: the step from `x` to `y`; `retract(x, local(x, y)) == y`.
    - `rigid(x, near)`: as columns, the steps of `x` as all points move together and nothing between
        them changes, by each step of the point `near`: the identity, unless it is overridden. A
        two-level preconditioner moves clusters so.
    - `increment(x, delta)`: `retract(x, delta) - x`. Override it where the difference can be
        computed with an error relative to `delta`, not to `x`: the compensated update adds it to
        a pair of numbers, and is as accurate as it is.

    !!! example
        >>> from typing import ClassVar
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.nonlinear import AbstractManifold
        >>> class Positive(AbstractManifold):
        ...     ambient: ClassVar[int] = 1
        ...     dim: ClassVar[int] = 1
        ...     def retract(self, x, delta):
        ...         return x * jnp.exp(delta)
        ...     def local(self, x, y):
        ...         return jnp.log(y / x)
        >>> float(Positive().retract(jnp.ones(1), jnp.zeros(1))[0])
        1.0
    """

    ambient: eqx.AbstractVar[int]
    dim: eqx.AbstractVar[int]

    @abc.abstractmethod
    def retract(self, x: Float[Array, " ambient"], delta: Float[Array, " dim"]) -> Array:
        """The point reached from `x` by the step `delta`."""

    @abc.abstractmethod
    def local(self, x: Float[Array, " ambient"], y: Float[Array, " ambient"]) -> Array:
        """The step from `x` to `y`."""

    def rigid(
        self, x: Float[Array, " ambient"], near: Float[Array, " ambient"]
    ) -> Float[Array, "dim dim"]:
        """The steps of `x` as all points move together with `near`."""
        return jnp.eye(self.dim, dtype=x.dtype)

    def increment(self, x: Float[Array, " ambient"], delta: Float[Array, " dim"]) -> Array:
        """`retract(x, delta) - x`."""
        return self.retract(x, delta) - x

    def correction(self, x: Float[Array, " ambient"], low: Float[Array, " ambient"]) -> Array:
        """What to add to `x + low` so that it is a point: nothing where any array is one.

        A unit vector rounded to float32 is 6e-8 too long, and stays so: the cost would be wrong
        by as much.
        """
        return jnp.zeros_like(x)


class Euclidean(AbstractManifold):
    """R^n: points and steps are vectors. **Arguments:** `dim`: n."""

    ambient: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def __init__(self, dim: int):
        if dim < 1:
            raise ValueError(f"`Euclidean(dim=...)`: expected at least 1, got {dim}")
        self.ambient = self.dim = dim

    def retract(self, x, delta):
        return x + delta

    def local(self, x, y):
        return y - x

    def increment(self, x, delta):
        return delta


class LieGroup(AbstractManifold):
    """Any group of jaxlie (`jaxlie.SO2`, `jaxlie.SO3`, ...), stepped along by `x Exp(delta)`.

    For rigid motions use [`jaxsci.solvers.nonlinear.SE2`][] and [`jaxsci.solvers.nonlinear.SE3`][]:
    they have the parameters of jaxlie's, keep float32 where 64-bit types are on, and know their
    Jacobians.

    **Arguments:** `group`: a class of jaxlie.
    """

    group: Any = eqx.field(static=True)

    def __check_init__(self):
        if not (isinstance(self.group, type) and issubclass(self.group, jaxlie.MatrixLieGroup)):
            raise TypeError(f"`LieGroup(group=...)`: expected a group of jaxlie, got {self.group}")

    @property
    def ambient(self) -> int:
        """How many numbers jaxlie keeps for an element."""
        return self.group.parameters_dim

    @property
    def dim(self) -> int:
        """The dimension of the group's Lie algebra."""
        return self.group.tangent_dim

    def retract(self, x, delta):
        with _loosely():
            moved = self.group(x) @ self.group.exp(delta)
            return moved.normalize().parameters().astype(x.dtype)

    def local(self, x, y):
        with _loosely():
            return (self.group(x).inverse() @ self.group(y)).log().astype(x.dtype)

    def rigid(self, x, near):
        with _loosely():
            return (self.group(x).inverse() @ self.group(near)).adjoint().astype(x.dtype)


@contextlib.contextmanager
def _loosely():
    """jaxlie multiplies floats by tables of integers, and matrices by vectors."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def retract(manifold: AbstractManifold, x: Array, delta: Array) -> Array:
    """Steps of many points: `(N, ambient)` and `(N, dim)`."""
    return jax.vmap(manifold.retract)(x, delta)


def retract_pair(
    manifold: AbstractManifold, high: Array, low: Array, delta: Array
) -> tuple[Array, Array]:
    """A step of points that are carried as unevaluated sums `high + low`.

    The rounding of `high` is caught by `low`, so that the error is relative to the step; at the
    optimum, where steps are small, the points are as good as in twice the precision.
    """
    added = jax.vmap(manifold.increment)(high, delta)
    total, lost = two_sum(high, added)
    return two_sum(total, lost + low)


def as_pairs(manifold: AbstractManifold, x: Array, dtype: Any) -> tuple[Array, Array]:
    """Points as sums of two numbers of a dtype, on the manifold to twice its precision."""
    high, low = split(x, dtype)
    return high, low + jax.vmap(manifold.correction)(high, low)


def split(x: Array, dtype: Any) -> tuple[Array, Array]:
    """`x` as a sum of two numbers of a narrower dtype."""
    high = x.astype(dtype)
    return high, (x - high.astype(x.dtype)).astype(dtype)


def norm2(x: Array) -> Array:
    """The sum of squares along the last axis."""
    return jnp.sum(jnp.square(x), axis=-1)
