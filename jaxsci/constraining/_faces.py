"""The affine map from any field to one that obeys the conditions on its faces."""

import math
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
from jaxsci.operators.boundary import BoundaryConditions, Values, eliminate, enforce

# Rows that share points are made a matrix; of so many numbers at most.
_LARGEST = 50_000_000


class Faces:
    """`u = E v + e`: the points on the faces set, the others as they are.

    Made inside a compiled function: what it holds of shapes are constants there.
    """

    def __init__(
        self,
        conditions: BoundaryConditions,
        values: Values | None,
        shape: tuple[int, ...],
        dtype: Any,
    ):
        self.conditions, self.values, self.shape, self.dtype = conditions, values, shape, dtype
        found = eliminate(conditions, shape, dtype)
        self.fixed, self.at, self.periodic = found.fixed, found.at, found.periodic
        self.indices, self.weights = found.indices, found.weights
        self.size = math.prod(shape)
        self.rows = SparseRows(found.indices, found.weights, self.size)
        self.free = jnp.asarray(~found.fixed, dtype).at[found.at].set(0)
        self.data = self.enforce(jnp.zeros(self.size, dtype))

    def enforce(self, field: Float[Array, " n"]) -> Float[Array, " n"]:
        """`E v + e`, each face by its own stencil."""
        # The map of a circle is the low end's; averaging two equal ends changes nothing.
        field = field.at[self.at].set(jnp.where(self.periodic, self.rows.mv(field), field[self.at]))
        return enforce(field.reshape(self.shape), self.conditions, self.values).ravel()

    def pull(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """`E' w`."""
        return self.free * vector + self.rows.T.mv(vector[self.at])

    def push(self, cov: lx.AbstractLinearOperator, earlier: list[np.ndarray | None]) -> Pushforward:
        """`E C E'`, with the rows, as `owners`, on which `C` was conditioned."""
        whole = all(
            owner is not None and (owner[self.indices] == owner[self.indices[:, :1]]).all()
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
        if isinstance(G, DisjointRows) and _within(G, self.at, self.indices):
            return G.reweighted(self.pull(G.flat_weights))
        check_dense(G.out_size(), self.size)
        return lx.MatrixLinearOperator(jax.vmap(self.pull)(G.as_matrix()))

    def owners(self, some: np.ndarray) -> np.ndarray | None:
        """For each point the row of `E` at some dependent point that it is in, as `owners`."""
        indices = self.indices[some]
        if len(np.unique(indices)) < indices.size:
            return None
        owner = np.zeros(self.size, int)
        owner[indices] = np.arange(1, len(indices) + 1)[:, None]
        return owner

    def observed(self, some: np.ndarray) -> lx.AbstractLinearOperator:
        """The rows of `E` at some of the dependent points, a mask over `at`."""
        indices = self.indices[some]
        rows = SparseRows(indices, self.weights[some], self.size)
        if self.owners(some) is not None:
            return SeparateRows(rows)
        check_dense(len(indices), self.size)
        return lx.MatrixLinearOperator(rows.as_matrix())

    def exact(self, some: np.ndarray, *, fixed: bool) -> LinearConstraint:
        """Conditions as rows of `u`: `u_i - (E u)_i = e_i` at dependent points, `u_i = e_i`."""
        first = np.flatnonzero(self.fixed) if fixed else np.zeros(0, int)
        at = np.concatenate([first, self.at[some]])
        check_dense(len(at), self.size)
        rows = jnp.zeros((len(at), self.size), self.dtype).at[np.arange(len(at)), at].set(1)
        made = SparseRows(self.indices[some], self.weights[some], self.size)
        rows = rows.at[len(first) :].add(-made.as_matrix())
        return LinearConstraint(rows, self.data[at])


def check_dense(rows: int, points: int) -> None:
    """Raises `ValueError` where a matrix would be too large."""
    if rows * points > _LARGEST:
        raise ValueError(
            f"`impose(boundary_update='condition')`: {rows} conditions over {points} points have "
            "to be one matrix, since they share points or the covariance is not diagonal: more "
            f"than {_LARGEST} numbers; `boundary_update='enforce'` needs no matrix"
        )


def owners(G: lx.AbstractLinearOperator) -> np.ndarray | None:
    """For each point the row that it is in, counted from 1; 0 in none. `None` if not known."""
    part = G.operator if isinstance(G, PartRows) else G
    if not isinstance(G, DisjointRows) or not isinstance(part, WeightedSums):
        return None
    with jax.ensure_compile_time_eval():
        return np.asarray(G.spread(jnp.arange(1, G.rows + 1)))


def _within(G: DisjointRows, at: np.ndarray, indices: np.ndarray) -> bool:
    """Whether every point that is made of others is in the same row as they are."""
    owner = owners(G)
    return owner is not None and bool((owner[at][:, None] == owner[indices]).all())


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
