"""The affine map from any field to one that obeys the conditions on its faces."""

import math
from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from jaxsci.conservation import LinearConstraint
from jaxsci.gaussians import (
    DisjointRows,
    PartRows,
    Pushforward,
    SeparateRows,
    SparseRows,
    WeightedSums,
)
from jaxsci.operators.boundary import BoundaryConditions, Periodic, Values, eliminate, enforce

# Rows that share points are made a matrix; of so many numbers at most.
_LARGEST = 50_000_000


class Faces:
    """`u = E v + e`: the points on the faces set, the others as they are.

    Made inside a compiled function: what it holds of shapes are constants there. Questions about
    which points are in which row are answered by `known`, with numbers; where sizes are symbols of
    `jax.export`, on the smallest grid on which the answer is that of every larger one.
    """

    def __init__(
        self,
        conditions: BoundaryConditions,
        values: Values | None,
        shape: tuple[int, ...],
        dtype: Any,
    ):
        self.conditions, self.values, self.shape, self.dtype = conditions, values, shape, dtype
        axes = conditions.constrained()
        circles = [axis for axis in axes if isinstance(conditions.pair(axis)[0], Periodic)]
        self.circles = BoundaryConditions(conditions.axes, dict.fromkeys(circles, Periodic(1.0)))
        found = eliminate(conditions, shape, dtype)
        self.at, self.indices, self.weights = found.at, found.indices, found.weights
        self.numbers = smallest(conditions, shape)
        numbers = tuple(self.numbers.get(n, n) for n in shape)
        self.known = eliminate(conditions, numbers, dtype) if self.numbers else found
        self.size = math.prod(shape)
        self.rows = SparseRows(found.indices, found.weights, self.size)
        self.free = jnp.asarray(~found.fixed, dtype).at[found.at].set(0)
        self.data = self.enforce(jnp.zeros(self.size, dtype))

    def enforce(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        """`E v + e`, each face by its own stencil."""
        # The map of a circle is the low end's; averaging two equal ends changes nothing.
        u = enforce(field.reshape(self.shape), self.circles)
        return enforce(u, self.conditions, self.values).ravel()

    def pull(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """`E' w`."""
        return self.free * vector + self.rows.T.mv(vector[self.at])

    def push(self, cov: lx.AbstractLinearOperator, earlier: list[np.ndarray | None]) -> Pushforward:
        """`E C E'`, with the rows, as `owners`, on which `C` was conditioned."""
        indices = self.known.indices
        whole = all(
            owner is not None and bool((owner[indices] == owner[indices[:, :1]]).all())
            for owner in earlier
        )
        return Pushforward(cov, self.free, jnp.asarray(self.at), self.rows, whole)

    def pull_constraint(self, constraint: LinearConstraint) -> LinearConstraint:
        """The same of `v`: `G E v = b - G e`."""
        G, size = constraint.G, constraint.magnitude(self.data) + jnp.abs(constraint.b)
        rows = self._pull_rows(G)
        # Where everything is prescribed, what rounding leaves of `b - G e` is nothing.
        b = -constraint.residual(self.data)
        empty = _sizes(rows) == 0
        rounding = 32 * jnp.finfo(b.dtype).eps * size
        b = jnp.where(empty & (jnp.abs(b) <= rounding), 0, b)
        # Not by the constructor, which would refuse a row of zeros: here it is no mistake.
        return eqx.tree_at(lambda law: (law.G, law.b), constraint, (rows, b))

    def _pull_rows(self, G: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
        owner = owners(G, self.numbers) if isinstance(G, DisjointRows) else None
        if isinstance(G, DisjointRows) and owner is not None:
            at, indices = self.known.at, self.known.indices
            if (owner[at][:, None] == owner[indices]).all():
                return G.reweighted(self.pull(G.flat_weights))
        check_dense(G.out_size(), self.size)
        return lx.MatrixLinearOperator(jax.vmap(self.pull)(G.as_matrix()))

    def owners(self, some: np.ndarray) -> np.ndarray | None:
        """For each point the row of `E` at some dependent point that it is in, as `owners`."""
        indices = np.asarray(self.known.indices[some])
        rows = np.arange(1, len(indices) + 1)[:, None]
        owner = np.zeros(self.known.fixed.size, int)
        owner[indices] = rows
        return owner if (owner[indices] == rows).all() else None

    def observed(self, some: np.ndarray) -> lx.AbstractLinearOperator:
        """The rows of `E` at some of the dependent points, a mask over `at`."""
        chosen = chosen_of(some)
        rows = SparseRows(self.indices[chosen], self.weights[chosen], self.size)
        if self.owners(some) is not None:
            return SeparateRows(rows)
        check_dense(rows.out_size(), self.size)
        return lx.MatrixLinearOperator(rows.as_matrix())

    def exact(self, some: np.ndarray, *, fixed: bool) -> LinearConstraint:
        """Conditions as rows of `u`: `u_i - (E u)_i = e_i` at dependent points, `u_i = e_i`."""
        check_dense(self.at.shape[0], self.size)
        known = np.asarray(self.at)
        first = np.flatnonzero(self.known.fixed) if fixed else np.zeros(0, int)
        at = np.concatenate([first, known[some]])
        check_dense(len(at), self.size)
        rows = jnp.zeros((len(at), self.size), self.dtype).at[np.arange(len(at)), at].set(1)
        made = SparseRows(self.indices[some], self.weights[some], self.size)
        rows = rows.at[len(first) :].add(-made.as_matrix())
        return LinearConstraint(rows, self.data[at])


def smallest(conditions: BoundaryConditions, shape: tuple[Any, ...]) -> dict[Any, int]:
    """A number for each open size: the stencils of opposite faces just do not meet.

    **Raises:** `ValueError` for a symbol that is smaller.
    """
    found: dict[Any, int] = {}
    for axis, n in zip(conditions.axes, shape[1:], strict=True):
        if jax.export.is_symbolic_dim(n):
            orders = [getattr(each, "order", 0) for each in conditions.pair(axis)]
            needed = max(3, 2 + max(orders) * sum(order > 0 for order in orders))
            if not n >= needed:  # raises where JAX cannot tell
                raise ValueError(
                    f"`impose(shape=...)`: axis {axis!r} of open size needs {needed} points, got "
                    f"{n}"
                )
            found[n] = max(needed, found.get(n, 0))
    return found


def chosen_of(some: np.ndarray) -> slice | np.ndarray:
    """A mask as an index, also into arrays of open sizes, of which all or none are chosen."""
    return slice(None) if some.all() else some


def check_dense(rows: Any, points: Any) -> None:
    """Raises `ValueError` where a matrix would be too large."""
    if any(jax.export.is_symbolic_dim(n) for n in (rows, points)):
        raise ValueError(
            "`impose(...)`: conditions that share points with each other or with a law, or a "
            "covariance that is not diagonal, make a matrix, which open sizes do not allow"
        )
    if rows * points > _LARGEST:
        raise ValueError(
            f"`impose(boundary_update='condition')`: {rows} conditions over {points} points have "
            "to be one matrix, since they share points or the covariance is not diagonal: more "
            f"than {_LARGEST} numbers; `boundary_update='enforce'` needs no matrix"
        )


def owners(G: lx.AbstractLinearOperator, numbers: Mapping[Any, int]) -> np.ndarray | None:
    """For each point the row that it is in, counted from 1; 0 in none. `None` if not known.

    **Arguments:** `numbers`: for open sizes.
    """
    if isinstance(G, PartRows):
        part = owners(G.operator, numbers)
        if part is None:
            return None
        return np.pad(part, [len(part) * n for n in (G.part, G.parts - 1 - G.part)])
    if not isinstance(G, WeightedSums):
        return None
    shape = tuple(numbers.get(n, n) for n in G.shape)
    if any(jax.export.is_symbolic_dim(n) for n in shape):
        return None
    keep = [shape[i] if i in G.kept else 1 for i in range(len(shape))]
    rows = np.arange(1, 1 + math.prod(keep)).reshape(keep)
    return np.broadcast_to(rows, shape).ravel()


def enclosed(earlier: list[np.ndarray | None], owner: np.ndarray | None) -> bool:
    """Whether no earlier row is cut: all of its points are in one row, or all in none."""
    if owner is None:
        return False
    for rows in earlier:
        if rows is None:
            return False
        pairs = np.unique(np.stack([rows, owner])[:, rows > 0], axis=1)
        if len(np.unique(pairs[0])) < pairs.shape[1]:
            return False
    return True


def _sizes(rows: lx.AbstractLinearOperator) -> Array:
    if isinstance(rows, DisjointRows):
        return jnp.max(rows.group(jnp.abs(rows.flat_weights)), axis=1)
    return jnp.max(jnp.abs(rows.as_matrix()), axis=1)
