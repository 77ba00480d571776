"""Factorised sparse approximate inverse: two sparse products and no triangular solve."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.precision import Policy, all_finite
from jaxsci.solvers.sparse import inverse_cholesky, small_matmul

from ._base import AbstractPreconditioner, dtypes
from ._blocks import (
    BlockMatrix,
    check_matrix,
    regular_diagonal,
    safe_inverse_root,
    times_transpose,
)
from ._pattern import Lookup, check_pattern, inverse, lower_power
from ._rounding import block_product, stored_blocks
from ._sweep import Sweep, padded_size, slots_for, sweep


class FSAI(eqx.Module):
    """`M = G'G` with `G ~ L^-1` on the pattern of the lower half of `H^power`.

    Of all `G` with that pattern this one minimises `||I - G L||_F` for the (unknown) Cholesky
    factor `L`, row by row: each takes a small dense solve with the rows and columns of its pattern.
    It exists for every positive definite `H`, and to apply it takes two products, with all rows at
    once: for accelerators. On a CPU an incomplete Cholesky factor needs fewer iterations.

    **Arguments:**

    - `power`: 1 (the pattern of `H`) or 2 (that of `H^2`).
    - `width`: rows per piece of the storage.

    **Raises:** `ValueError` for another power, or a width below 1.

    Reference: Kolotilina, Yeremin, *Factorized Sparse Approximate Inverse Preconditionings I*,
    1993. Differs from it in: blocks.
    """

    power: int = eqx.field(static=True, default=1)
    width: int = eqx.field(static=True, default=16)

    def __check_init__(self):
        if self.power not in (1, 2):
            raise ValueError(f"`FSAI(power=...)`: expected 1 or 2, got {self.power}")
        if self.width < 1:
            raise ValueError(f"`FSAI(width=...)`: expected at least 1, got {self.width}")

    def plan(self, rows: np.ndarray, cols: np.ndarray, N: int, d: int) -> "FSAIPlan":
        """The symbolic phase, on the host, once per graph.

        **Arguments, Raises:** as
        [`jaxsci.solvers.preconditioners.IncompleteCholesky.plan`][].
        """
        rows, cols = np.asarray(rows), np.asarray(cols)
        check_pattern("FSAI", rows, cols, N)
        rows, cols = rows.astype(np.int64), cols.astype(np.int64)
        i, j = lower_power(rows, cols, N, self.power)
        diagonal = np.arange(N)
        rows_of, cols_of = np.concatenate([i, diagonal]), np.concatenate([j, diagonal])
        flat, slots = np.zeros(N, np.int64), slots_for(len(rows_of), N)
        forward, first = sweep(rows_of, cols_of, N, flat, self.width, slots)
        backward, second = sweep(cols_of, rows_of, N, flat, self.width, slots)
        room = padded_size(len(rows_of))
        systems = _row_systems(Lookup(rows, cols, N), i, j, N, room)
        integers = (first, inverse(first)[second], inverse(second), rows, cols)
        return FSAIPlan(
            systems,
            forward,
            backward,
            *(jnp.asarray(array, jnp.int32) for array in integers),
            count=N,
            dim=d,
            entries=room,
        )


class RowSystems(eqx.Module):
    """The dense systems of rows with at most `k` entries, each row's own block last.

    - `sources`: their blocks, `(n, k, k)`: numbers in [lower, lower', 0, identity].
    - `targets`: the entries of `G` that they give, `(n, k)`; one too many where there is none.
    """

    sources: Int[Array, "n k k"]
    targets: Int[Array, "n k"]


class FSAIPlan(eqx.Module):
    """The symbolic phase of [`jaxsci.solvers.preconditioners.FSAI`][]."""

    systems: tuple[RowSystems, ...]
    forward: Sweep
    backward: Sweep
    into: Int[Array, " N"]
    between: Int[Array, " N"]
    out: Int[Array, " N"]
    rows: Int[Array, " E"]
    cols: Int[Array, " E"]
    count: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    entries: int = eqx.field(static=True)

    def factor(
        self,
        H: BlockMatrix,
        *,
        policy: Policy | None = None,
        damping: Float[Array, ""] | float = 0.0,
    ) -> "FSAIFactor":
        """The numeric phase, `M ~ (H + damping)^-1`, inside `jit`.

        A row whose system is not positive definite takes its diagonal block alone; a variable whose
        block is zero (held) keeps what it is given.

        **Raises:** `ValueError` if `H` does not have the sizes of the plan.
        """
        check_matrix("FSAIPlan", H, self.count, self.dim, len(self.rows))
        compute, wide, stored = dtypes(policy, H.diagonal.dtype)
        X = safe_inverse_root(regular_diagonal(H.diagonal.astype(compute), damping))
        # G is made for X H X', which has unit diagonal blocks: a narrow dtype can hold it.
        lower = jax.lax.stop_gradient(H.lower.astype(compute))
        lower = times_transpose(small_matmul(X[self.rows], lower, lower.dtype), X[self.cols])
        identity = jnp.eye(self.dim, dtype=X.dtype)[None]
        pieces = [lower, lower.swapaxes(1, 2), jnp.zeros_like(identity), identity]
        blocks = jnp.concatenate(pieces)
        entries = jnp.zeros_like(X, shape=(self.entries + 1, self.dim, self.dim))
        for system in self.systems:
            entries = entries.at[system.targets].set(_last_row(blocks[system.sources]))
        entries = entries[:-1]
        roots, scale = stored_blocks(X, stored, wide)
        return FSAIFactor(
            plan=self,
            blocks=roots,
            scale=scale,
            forward=self.forward.gather(entries, stored),
            backward=self.backward.gather(entries.swapaxes(1, 2), stored),
            size=self.count * self.dim,
            dtype=wide,
        )


class FSAIFactor(AbstractPreconditioner):
    """`M = X' G' G X` with block diagonal `X`: two sparse products."""

    plan: FSAIPlan
    blocks: Float[Array, "N d d"]
    scale: Float[Array, " N"] | None
    forward: Float[Array, "S w d k d"]
    backward: Float[Array, "T w d k d"]
    size: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        plan = self.plan
        x = vector.astype(self.dtype).reshape(plan.count, plan.dim)
        x = block_product(self.blocks, x, self.scale)
        x = plan.forward.product(self.forward, x[plan.into])
        x = plan.backward.product(self.backward, x[plan.between])[plan.out]
        return block_product(self.blocks.swapaxes(1, 2), x, self.scale).ravel()


def _last_row(systems: Float[Array, "n k k d d"]) -> Float[Array, "n k d d"]:
    """The last block row of the inverse Cholesky factor of each system."""
    n, k, _, d, _ = systems.shape
    matrices = systems.swapaxes(2, 3).reshape(n, k * d, k * d)
    last = jnp.concatenate([jnp.zeros((k * d - d, d)), jnp.eye(d)]).astype(systems.dtype)
    right = jnp.broadcast_to(last, (n, k * d, d))
    row = inverse_cholesky(matrices)[:, -d:].swapaxes(1, 2)
    row = jnp.where(all_finite(row, (1, 2))[:, None, None], row, right)
    return row.reshape(n, k, d, d).swapaxes(2, 3)


def _row_systems(
    find: Lookup, rows: np.ndarray, cols: np.ndarray, count: int, none: int
) -> tuple[RowSystems, ...]:
    entry_count = len(rows)
    first = np.searchsorted(rows, np.arange(count + 1))
    terms = np.diff(first) + 1
    zero, one = 2 * find.given, 2 * find.given + 1
    systems = []
    for k in 1 << np.arange(int(terms.max(initial=1) - 1).bit_length() + 1):
        chosen = np.flatnonzero((terms <= k) & (terms > k // 2))
        if len(chosen) == 0:
            continue
        # Columns right-aligned, the row itself last; -1 where there is none.
        slot = np.arange(k)[None, :] - (k - terms[chosen])[:, None]
        members = np.full((padded_size(len(chosen)), k), -1)
        targets = np.full(members.shape, none)
        at = np.minimum(first[chosen][:, None] + np.maximum(slot, 0), max(entry_count - 1, 0))
        inside = (slot >= 0) & (slot < terms[chosen][:, None] - 1)
        if entry_count:
            members[: len(chosen)] = np.where(inside, cols[at], -1)
            targets[: len(chosen)] = np.where(inside, at, none)
        members[: len(chosen), -1] = chosen
        targets[: len(chosen), -1] = entry_count + chosen
        i = np.broadcast_to(members[:, :, None], (len(members), k, k))
        j = np.broadcast_to(members[:, None, :], i.shape)
        sources = np.where((i < 0) | (j < 0), zero, find(i, j, zero))
        sources[:, np.arange(k), np.arange(k)] = one
        systems.append(RowSystems(jnp.asarray(sources, jnp.int32), jnp.asarray(targets, jnp.int32)))
    return tuple(systems)
