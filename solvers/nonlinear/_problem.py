"""A least squares problem: groups of variables, and groups of factors that tie them."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxsci.errors import is_concrete, lookup

from ._kernel import AbstractKernel
from ._manifold import AbstractManifold
from ._sparse_residual import SparseResidual

Values = dict[str, Array]
"""The point of every variable, `(N, ambient)` per group, by the group's name."""


class Variables(eqx.Module):
    """A group of variables of one kind.

    **Arguments:** `manifold`: where they live; `count`: how many there are.
    """

    manifold: AbstractManifold
    count: int = eqx.field(static=True)

    def __check_init__(self):
        if not isinstance(self.manifold, AbstractManifold):
            raise TypeError(
                f"`Variables(manifold=...)`: expected a manifold, got {self.manifold!r}; "
                "for R^n use `Euclidean(n)`"
            )
        if self.count < 1:
            raise ValueError(f"`Variables(count=...)`: expected at least 1, got {self.count}")


class Factors(eqx.Module):
    """A group of factors of one kind: a residual for each row of `indices`.

    The cost of the group is `1/2 sum_f rho(|W_f r_f|^2)`, `r_f = residual(x_a, x_b, ..., z_f)`.

    **Arguments:**

    - `residual`: a function of one point per slot and one measurement; returns shape `(r,)`. Give
        the same function (or an Equinox module) again for another problem, not a new lambda: it
        is part of what a compiled program is looked up by.
    - `variables`: the name of the variable group of each slot.
    - `indices`: which variable each slot addresses, `(F, slots)`.
    - `measurement`: any pytree of arrays with a leading axis `F`, or `None`.
    - `sqrt_information`: `W`, as `(F, r, r)`, as diagonals `(F, r)`, or as one number per factor
        `(F,)`; `None` for 1. `W'W` is the inverse covariance of the noise.
    - `kernel`: an [`jaxsci.solvers.nonlinear.AbstractKernel`][], or `None` for squares.
    - `jacobian`: a function of the same arguments that returns one block `(r, dim)` per slot, the
        derivative of the residual along a step of that slot. `None`: by forward mode.
    - `jacobian_at_zero`: a function of the measurement that returns the blocks where the residual
        vanishes; lets a preconditioner be factored before there is a start worth trusting.

    **Raises:** `ValueError`, `TypeError` for shapes that do not fit.
    """

    residual: Callable[..., Array]
    variables: tuple[str, ...] = eqx.field(static=True)
    indices: Int[Array, "factors slots"]
    measurement: PyTree
    sqrt_information: Float[Array, " factors ..."] | None
    kernel: AbstractKernel | None
    jacobian: Callable[..., Sequence[Array]] | None
    jacobian_at_zero: Callable[..., Sequence[Array]] | None

    def __init__(
        self,
        residual: Callable[..., Array],
        variables: Sequence[str] | str,
        indices: Any,
        measurement: PyTree = None,
        sqrt_information: Any = None,
        kernel: AbstractKernel | None = None,
        jacobian: Callable[..., Sequence[Array]] | None = None,
        jacobian_at_zero: Callable[..., Sequence[Array]] | None = None,
    ):
        self.residual = residual
        self.variables = (variables,) if isinstance(variables, str) else tuple(variables)
        self.indices = _indices(indices, len(self.variables))
        self.measurement = jax.tree.map(jnp.asarray, measurement)
        self.sqrt_information = None
        if sqrt_information is not None:
            self.sqrt_information = jnp.asarray(sqrt_information)
        self.kernel = kernel
        self.jacobian = jacobian
        self.jacobian_at_zero = jacobian_at_zero
        for name, tree in (("measurement", measurement), ("sqrt_information", sqrt_information)):
            for leaf in jax.tree.leaves(tree):
                if np.ndim(leaf) == 0 or len(leaf) != self.count:
                    raise ValueError(
                        f"`Factors({name}=...)`: expected a leading axis of {self.count} factors, "
                        f"as `indices`, got shape {np.shape(leaf)}"
                    )
        if kernel is not None and not isinstance(kernel, AbstractKernel):
            raise TypeError(
                f"`Factors(kernel=...)`: expected a kernel, e.g. `Huber(1.5)`, got {kernel!r}"
            )

    @property
    def count(self) -> int:
        """How many factors the group has."""
        return self.indices.shape[0]


AnyFactors: TypeAlias = Factors | SparseResidual
"""What a problem is made of."""


class Problem(eqx.Module):
    """Variables, the factors that tie them, and which of them are held where they are.

    **Arguments:**

    - `variables`: the groups, by name.
    - `factors`: the groups, [`jaxsci.solvers.nonlinear.Factors`][] or
        [`jaxsci.solvers.nonlinear.SparseResidual`][].
    - `fixed`: for some groups, which variables are held, `(N,)` of bool.

    **Raises:** `ValueError` for names, indices or shapes that do not fit; indices out of range
    are found where they are known, outside `jit`.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.nonlinear import Euclidean, Factors, Problem, Variables, minimise
        >>> def line(ab, point):
        ...     return ab[:1] + ab[1:] * point[0] - point[1]
        >>> points = jnp.array([[0.0, 1.0], [1.0, 3.0], [2.0, 5.0]])
        >>> fit = Factors(line, "ab", jnp.zeros((3, 1), int), points)
        >>> problem = Problem({"ab": Variables(Euclidean(2), 1)}, [fit])
        >>> minimise(problem, {"ab": jnp.zeros((1, 2))}, linear="dense").values["ab"].round(4)
        Array([[1., 2.]], dtype=float32)
    """

    variables: dict[str, Variables]
    factors: tuple[AnyFactors, ...]
    fixed: dict[str, Bool[Array, " count"]]

    def __init__(
        self,
        variables: Mapping[str, Variables],
        factors: Sequence[AnyFactors],
        fixed: Mapping[str, Any] | None = None,
    ):
        # Sorted, as JAX sorts dictionaries: the columns of the Jacobian have this order.
        self.variables = {name: variables[name] for name in sorted(variables)}
        self.factors = tuple(factors)
        self.fixed = {}
        for group in self.factors:
            for slot, name in enumerate(group.variables):
                count = lookup("variable group", name, self.variables).count
                _check_range(group, slot, name, count)
        for name, mask in sorted((fixed or {}).items()):
            count = lookup("variable group", name, self.variables).count
            mask = jnp.asarray(mask)
            if mask.shape != (count,) or mask.dtype != jnp.bool_:
                raise ValueError(
                    f"`Problem(fixed[{name!r}]=...)`: expected bool of shape ({count},), got "
                    f"{mask.dtype} of shape {mask.shape}"
                )
            self.fixed[name] = mask

    @property
    def sizes(self) -> tuple[tuple[int, int], ...]:
        """Count and tangent dimension of each variable group, in order."""
        return tuple((v.count, v.manifold.dim) for v in self.variables.values())

    @property
    def dim(self) -> int:
        """The number of columns of the Jacobian."""
        return sum(count * dim for count, dim in self.sizes)


def check_values(function: str, problem: Problem, values: Mapping[str, Any]) -> Values:
    """The values as arrays, in the problem's order, or an error that says what is missing."""
    if set(values) != set(problem.variables):
        raise ValueError(
            f"`{function}(values=...)`: expected the groups {', '.join(problem.variables)}, got "
            f"{', '.join(sorted(values)) or 'none'}"
        )
    arrays = {}
    for name, group in problem.variables.items():
        array = jnp.asarray(values[name])
        if array.shape != (group.count, group.manifold.ambient):
            raise ValueError(
                f"`{function}(values[{name!r}]=...)`: expected shape "
                f"{(group.count, group.manifold.ambient)}, got {array.shape}"
            )
        if not jnp.issubdtype(array.dtype, jnp.floating):
            raise TypeError(
                f"`{function}(values[{name!r}]=...)`: expected floats, got {array.dtype}"
            )
        arrays[name] = array
    return arrays


def _indices(indices: Any, slots: int) -> Array:
    array = jnp.asarray(indices)
    if array.ndim == 1 and slots == 1:
        array = array[:, None]
    if array.ndim != 2 or array.shape[1] != slots or len(array) == 0:
        raise ValueError(
            f"`Factors(indices=...)`: expected shape (factors, {slots}), at least one factor and a "
            f"column for each of `variables`, got {array.shape}"
        )
    if not jnp.issubdtype(array.dtype, jnp.integer):
        raise TypeError(f"`Factors(indices=...)`: expected integers, got {array.dtype}")
    return array.astype(jnp.int32)


def _check_range(group: AnyFactors, slot: int, name: str, count: int) -> None:
    if not is_concrete(group.indices):
        return
    column = np.asarray(group.indices)[:, slot]
    bad = (column < 0) | (column >= count)
    if bad.any():
        row = int(bad.argmax())
        raise ValueError(
            f"`Problem(factors=...)`: expected indices into the {count} variables of {name!r}, "
            f"got {int(column[row])} in slot {slot} of factor {row}"
        )
