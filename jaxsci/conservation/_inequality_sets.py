"""Inequalities that a field may have to obey."""

import abc
from typing import ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Bool, Float

from jaxsci.errors import is_concrete, require_finite

from ._qp import AbstractComplementarity
from ._qp_polyhedral import Polyhedral
from ._qp_total_variation import BoundedVariation


class AbstractInequality(eqx.Module):
    """A convex set of fields, described by the rows whose values it limits."""

    # Whether it is `A v >= 0`, row by row.
    limits_each_row: eqx.AbstractClassVar[bool]
    # Whether it compares neighbours in the order of the points, which is that of one axis.
    ordered: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def rows(self, n: int, dtype: jnp.dtype) -> Float[Array, "m n"]:
        """The rows `A` whose values `A v` the inequality limits."""

    @abc.abstractmethod
    def slack(self, value: Float[Array, " n"]) -> Float[Array, " s"]:
        """What is left of each limit; negative where it is violated. In the field's unit."""

    @abc.abstractmethod
    def snap(self, value: Float[Array, " n"], active: Bool[Array, " m"]) -> Float[Array, " n"]:
        """Take away violations of rounding size, with the `active` rows at zero."""

    @abc.abstractmethod
    def row_scales(self, sizes: Float[Array, " m"]) -> Float[Array, " m"]:
        """The units in which the problem measures each row, from their standard deviations."""

    @abc.abstractmethod
    def problem(
        self, gram: Array, offset: Array, scale: Array, fixed: Bool[Array, " m"]
    ) -> AbstractComplementarity:
        """The optimality conditions; `fixed` rows have no variance, and hold."""

    @abc.abstractmethod
    def zero_rows(self, working) -> Bool[Array, " m"]:
        """Which rows are zero in a working set of the problem."""


class Nonnegative(AbstractInequality):
    """`v_i >= 0` at every point: a density, a concentration, a saturation.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import Nonnegative
        >>> Nonnegative().slack(jnp.array([0.5, -0.25]))
        Array([ 0.5 , -0.25], dtype=float32)
    """

    limits_each_row: ClassVar[bool] = True
    ordered: ClassVar[bool] = False

    def rows(self, n: int, dtype: jnp.dtype) -> Float[Array, "n n"]:
        return jnp.eye(n, dtype=dtype)

    def slack(self, value: Float[Array, " n"]) -> Float[Array, " n"]:
        return value

    def snap(self, value: Float[Array, " n"], active: Bool[Array, " n"]) -> Float[Array, " n"]:
        return jnp.where(active, 0.0, jnp.maximum(value, 0.0))

    def row_scales(self, sizes: Float[Array, " n"]) -> Float[Array, " n"]:
        return sizes

    def problem(self, gram, offset, scale, fixed) -> Polyhedral:
        return _polyhedral(gram, offset, fixed)

    def zero_rows(self, working: Bool[Array, " rows"]) -> Bool[Array, " rows"]:
        return working


class Monotone(AbstractInequality):
    """`v_i >= v_i+1` (or `<=`), along the points in their order: a front, a survival function.

    The order of one axis: [`jaxsci.constraining.impose`][] refuses it for a field of several.

    **Arguments:**

    - `decreasing`: non-increasing if true, non-decreasing otherwise.
    - `nonnegative`: the smallest value, the last of a decreasing field and the first of an
        increasing one, is at least 0, so that all are.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import Monotone
        >>> Monotone().slack(jnp.array([1.0, 0.5, 0.75]))
        Array([ 0.5 , -0.25,  0.75], dtype=float32)
    """

    limits_each_row: ClassVar[bool] = True
    ordered: ClassVar[bool] = True
    decreasing: bool = eqx.field(static=True, default=True)
    nonnegative: bool = eqx.field(static=True, default=True)

    def rows(self, n: int, dtype: jnp.dtype) -> Float[Array, "m n"]:
        # The slack of a basis vector is a column of the rows.
        decreasing = jnp.eye(n, dtype=dtype) - jnp.eye(n, k=1, dtype=dtype)
        rows = decreasing if self.nonnegative else decreasing[:-1]
        return rows if self.decreasing else rows[:, ::-1]

    def slack(self, value: Float[Array, " n"]) -> Float[Array, " m"]:
        value = value if self.decreasing else value[::-1]
        steps = value[:-1] - value[1:]
        return jnp.concatenate([steps, value[-1:]]) if self.nonnegative else steps

    def snap(self, value: Float[Array, " n"], active: Bool[Array, " m"]) -> Float[Array, " n"]:
        value = value if self.decreasing else value[::-1]
        if not self.nonnegative:
            active = jnp.concatenate([active, jnp.zeros(1, bool)])
        value = _pool(jnp.concatenate([value, jnp.zeros_like(value[:1])]), active)[:-1]
        value = lax.cummax(value, reverse=True)
        value = jnp.maximum(value, 0.0) if self.nonnegative else value
        return value if self.decreasing else value[::-1]

    def row_scales(self, sizes: Float[Array, " m"]) -> Float[Array, " m"]:
        return sizes

    def problem(self, gram, offset, scale, fixed) -> Polyhedral:
        return _polyhedral(gram, offset, fixed)

    def zero_rows(self, working: Bool[Array, " rows"]) -> Bool[Array, " rows"]:
        return working


class TotalVariation(AbstractInequality):
    """`sum_i |v_i+1 - v_i| <= bound`: no oscillation beyond what the physics allows.

    For a scalar conservation law without source the total variation never grows, so that of the
    initial field, plus what enters at the boundaries, is a bound.

    **Arguments:**

    - `bound`: a nonnegative scalar, in the unit of the field; differentiable.

    **Raises:** `ValueError` if it is not a scalar, not finite or negative (values are checked
    where they are known, i.e. outside `jit`).

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import TotalVariation
        >>> TotalVariation(2.0).slack(jnp.array([0.0, 1.0, 0.5]))
        Array([0.5], dtype=float32)
    """

    limits_each_row: ClassVar[bool] = False
    ordered: ClassVar[bool] = True
    bound: Float[Array, ""]

    def __init__(self, bound: ArrayLike):
        self.bound = bound if isinstance(bound, jax.Array) else jnp.asarray(bound, float)

    def __check_init__(self):
        if self.bound.ndim != 0:
            raise ValueError(
                f"`TotalVariation(bound=...)`: expected a scalar, got shape {self.bound.shape}"
            )
        require_finite("TotalVariation", "bound", self.bound)
        if is_concrete(self.bound) and float(self.bound) < 0:
            raise ValueError(
                "`TotalVariation(bound=...)`: expected a nonnegative number, got "
                f"{float(self.bound)}"
            )

    def rows(self, n: int, dtype: jnp.dtype) -> Float[Array, "m n"]:
        return (jnp.eye(n, k=1, dtype=dtype) - jnp.eye(n, dtype=dtype))[:-1]

    def slack(self, value: Float[Array, " n"]) -> Float[Array, " 1"]:
        return (self.bound.astype(value.dtype) - jnp.sum(jnp.abs(jnp.diff(value))))[None]

    def snap(self, value: Float[Array, " n"], active: Bool[Array, " m"]) -> Float[Array, " n"]:
        value = _pool(value, active)
        bound = self.bound.astype(value.dtype)
        variation = jnp.sum(jnp.abs(jnp.diff(value)))
        exceeds = variation > bound
        factor = jnp.where(exceeds, bound / jnp.where(exceeds, variation, 1.0), 1.0)
        centre = jnp.mean(value)
        return jnp.where(exceeds, centre + factor * (value - centre), value)

    def row_scales(self, sizes: Float[Array, " m"]) -> Float[Array, " m"]:
        # One unit for all: the bound is on their sum.
        largest = jnp.max(sizes)
        return jnp.full_like(sizes, jnp.where(largest > 0, largest, 1.0))

    def problem(self, gram, offset, scale, fixed) -> BoundedVariation:
        bound = self.bound.astype(offset.dtype) / scale[0]
        return BoundedVariation(gram, offset, bound, scale.shape[0])

    def zero_rows(self, working) -> Bool[Array, " m"]:
        return working[0]


def _polyhedral(gram: Array, offset: Array, fixed: Bool[Array, " m"]) -> Polyhedral:
    # A row that cannot vary and holds says nothing: it becomes 1 >= 0.
    m = fixed.shape[0]
    offset = jnp.concatenate([jnp.where(fixed, 1.0, offset[:m]), offset[m:]])
    return Polyhedral(gram, offset, m)


def _pool(value: Float[Array, " n"], same: Bool[Array, " m"]) -> Float[Array, " n"]:
    """Each value becomes that of the end of its run, where `same[i]` ties `i` to `i + 1`."""
    n = value.shape[0]
    own = jnp.arange(n)
    tied = jnp.concatenate([same, jnp.zeros(n - same.shape[0], bool)])
    return value[lax.cummin(jnp.where(tied, n, own), reverse=True)]
