"""Incomplete block Cholesky by levels, in steps of two fixed shapes, inside `jit`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.solvers.sparse import inverse_cholesky, small_matmul

from ._blocks import times_transpose
from ._pattern import Lookup, inverse, updates
from ._sweep import padded_size, pieces, slots_for, steps_of


class Elimination(eqx.Module):
    """The numeric phase, `H ~ C (I + L) (I + L') C'` with block diagonal `C`, as a program.

    Its memory is a list of the blocks of `S`, the factor before normalisation: entries and diagonal
    blocks by the level of their column. At each level it updates them, `width` in a step,
    `S_ij -= (S_ik X_k') (S_jk X_k')'`, then takes pivots, `X_j = chol(S_jj)^-1`, `width` in a step.
    At last `L_ij = X_i S_ij X_j'`, which does not change if variables are rescaled.

    - `source`: what each block starts as: a number in [lower, lower', diagonal, 0, identity].
    - `levels`: how many of the levels count.
    - `update_stop`, `pivot_stop`: after which steps each level ends, `(levels,)`.
    - `update_start`, `pivot_start`: the block, or the pivot, at which each step begins.
    - `first`, `second`, `between`: two blocks and a pivot for each term, `(S, width, slots)`.
    - `diagonal`: the blocks of which pivots are taken, `(T, width)`.
    - `entries`, `row_pivots`, `column_pivots`: the block of each entry of `L` and its two pivots.
    - `order`: the variable of each pivot, `(N,)`.
    """

    source: Int[Array, " B"]
    levels: Int[Array, ""]
    update_stop: Int[Array, " levels"]
    pivot_stop: Int[Array, " levels"]
    update_start: Int[Array, " S"]
    pivot_start: Int[Array, " T"]
    first: Int[Array, "S w k"]
    second: Int[Array, "S w k"]
    between: Int[Array, "S w k"]
    diagonal: Int[Array, "T w"]
    entries: Int[Array, " E"]
    row_pivots: Int[Array, " E"]
    column_pivots: Int[Array, " E"]
    order: Int[Array, " N"]

    def run(
        self, diagonal: Float[Array, "N d d"], lower: Float[Array, "A d d"]
    ) -> tuple[Float[Array, "N d d"], Float[Array, "E d d"]]:
        """`X = C^-1` and the entries of `L`; not finite where a pivot is not positive definite."""
        count, dim = diagonal.shape[:2]
        width = self.diagonal.shape[1]
        identity = jnp.eye(dim, dtype=diagonal.dtype)[None]
        zero = jnp.zeros_like(identity)
        blocks = [lower, lower.swapaxes(1, 2), diagonal, zero, identity]
        S = jnp.concatenate(blocks)[self.source]
        X = jnp.tile(identity, (count + width + 1, 1, 1))

        def update(s, S, X):
            pivots = X[self.between[s]]
            first = times_transpose(S[self.first[s]], pivots)
            second = times_transpose(S[self.second[s]], pivots)
            change = times_transpose(first, second).sum(1)
            piece = jax.lax.dynamic_slice_in_dim(S, self.update_start[s], width) - change
            return jax.lax.dynamic_update_slice_in_dim(S, piece, self.update_start[s], 0)

        def take_pivots(s, S, X):
            taken = inverse_cholesky(S[self.diagonal[s]])
            return jax.lax.dynamic_update_slice_in_dim(X, taken, self.pivot_start[s], 0)

        def run_level(level, state):
            S, X, updated, taken = state
            until, pivots_until = self.update_stop[level], self.pivot_stop[level]
            S = jax.lax.fori_loop(updated, until, lambda s, S: update(s, S, X), S)
            X = jax.lax.fori_loop(taken, pivots_until, lambda s, X: take_pivots(s, S, X), X)
            return S, X, until, pivots_until

        none = jnp.zeros((), jnp.int32)
        S, X, *_ = jax.lax.fori_loop(0, self.levels, run_level, (S, X, none, none))
        rows = small_matmul(X[self.row_pivots], S[self.entries], S.dtype)
        entries = times_transpose(rows, X[self.column_pivots])
        return jnp.zeros_like(diagonal).at[self.order].set(X[:count]), entries


def elimination(
    matrix: tuple[np.ndarray, np.ndarray],
    order: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    level: np.ndarray,
    width: int,
    room: int,
) -> Elimination:
    """The program (host), for up to `room` entries.

    **Arguments:** `matrix`: rows and columns of the matrix's lower half, in its own numbering;
    `order`: the variable eliminated first, second, ...; `rows`, `cols`, `level`: of the factor, in
    that order.
    """
    count, entry_count = len(order), len(rows)
    target, first, second = updates(rows, cols, count)
    block_level = np.concatenate([level[cols], level])
    total, depth = entry_count + count, int(level.max(initial=-1)) + 1
    slots = slots_for(len(target), int(np.count_nonzero(np.bincount(target))))
    _, block, block_start, part, offset, slot = pieces(target, total, block_level, width, slots)
    begins = block_start[block_level[target]] + offset // width * width
    chunks, step = steps_of(begins, part)
    chunk_level = np.empty(len(chunks), np.int64)
    chunk_level[step] = block_level[target]
    # After the blocks: `width` zeros, into which steps may stand out, then the identity.
    zero, one = room + count, room + count + width
    terms = np.full((2, padded_size(len(chunks)), width, slots), zero, np.int32)
    between = np.full((terms.shape[1], width, slots), count + width, np.int32)
    where = (step, offset % width, slot)
    terms[0][where], terms[1][where] = block[first], block[second]
    rank = inverse(np.argsort(level, kind="stable"))
    between[where] = rank[cols[first]]

    pivot_level_start = np.concatenate([[0], np.cumsum(np.bincount(level, minlength=1))])
    pivot_offset = rank - pivot_level_start[level]
    pivot_begins = pivot_level_start[level] + pivot_offset // width * width
    pivot_chunks, pivot_step = np.unique(pivot_begins, return_inverse=True)
    diagonal = np.full((padded_size(len(pivot_chunks)), width), one, np.int32)
    diagonal[pivot_step, pivot_offset % width] = block[entry_count:]

    empty = 2 * len(matrix[0]) + count
    source = np.full(one + 1, empty, np.int32)
    source[one] += 1
    source[block[:entry_count]] = Lookup(*matrix, count)(order[rows], order[cols], empty)
    source[block[entry_count:]] = 2 * len(matrix[0]) + order

    depths, padded_depth = np.arange(depth), padded_size(depth)
    integers = (
        source,
        np.int32(depth),
        _padded(np.searchsorted(chunk_level, depths, side="right"), padded_depth),
        _padded(np.cumsum(-(-np.bincount(level, minlength=1) // width)), padded_depth),
        _padded(chunks, terms.shape[1]),
        _padded(pivot_chunks, len(diagonal)),
        *terms,
        between,
        diagonal,
        _padded(block[:entry_count], room, zero),
        _padded(rank[rows], room),
        _padded(rank[cols], room),
        order[np.argsort(rank)],
    )
    return Elimination(*(jnp.asarray(array, jnp.int32) for array in integers))


def _padded(integers: np.ndarray, size: int, value: int = 0) -> np.ndarray:
    return np.pad(integers, (0, size - len(integers)), constant_values=value)
