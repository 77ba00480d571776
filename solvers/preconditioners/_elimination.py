"""Incomplete block Cholesky by levels, in steps of two fixed shapes, inside `jit`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._blocks import inverse_root, times, times_transpose
from ._pattern import updates
from ._sweep import padded_size, pieces, steps_of


class Elimination(eqx.Module):
    """The numeric phase, `H ~ C (I + L) (I + L') C'` with block diagonal `C`, as a program.

    Its memory is a list of the blocks of `S`, the factor before normalisation: entries and diagonal
    blocks by the level of their column. A step either updates `width` of them,
    `S_ij -= (S_ik X_k') (S_jk X_k')'`, or takes `width` pivots, `X_j = chol(S_jj)^-1`; a level has
    as many of both as it needs. Then `L_ij = X_i S_ij X_j'`, which does not change if variables are
    rescaled.

    - `source`: what each block starts as: a number in [lower, lower', diagonal, 0, identity].
    - `start`: the block at which a step begins, or, for pivots, the pivot, `(S,)`.
    - `is_pivot`: which kind of step it is, `(S,)`; only `steps` of them count.
    - `first`, `second`, `pivot`: the two blocks of each term and the pivot between, `(S, w, k)`.
    - `diagonal`: the blocks of which pivots are taken, `(S, w)`.
    - `entries`, `row_pivots`, `column_pivots`: the block of each entry of `L` and its two pivots.
    - `order`: the variable of each pivot, `(N,)`.
    """

    source: Int[Array, " B"]
    start: Int[Array, " S"]
    is_pivot: Int[Array, " S"]
    first: Int[Array, "S w k"]
    second: Int[Array, "S w k"]
    pivot: Int[Array, "S w k"]
    diagonal: Int[Array, "S w"]
    steps: Int[Array, ""]
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
            pivots = X[self.pivot[s]]
            first = times_transpose(S[self.first[s]], pivots)
            second = times_transpose(S[self.second[s]], pivots)
            change = times_transpose(first, second).sum(1)
            piece = jax.lax.dynamic_slice_in_dim(S, self.start[s], width) - change
            return jax.lax.dynamic_update_slice_in_dim(S, piece, self.start[s], 0), X

        def take_pivots(s, S, X):
            taken = inverse_root(S[self.diagonal[s]])
            return S, jax.lax.dynamic_update_slice_in_dim(X, taken, self.start[s], 0)

        def step(s, state):
            return jax.lax.cond(self.is_pivot[s] > 0, take_pivots, update, s, *state)

        S, X = jax.lax.fori_loop(0, self.steps, step, (S, X))
        rows = times(X[self.row_pivots], S[self.entries])
        entries = times_transpose(rows, X[self.column_pivots])
        return jnp.zeros_like(diagonal).at[self.order].set(X[:count]), entries


def elimination(
    matrix: tuple[np.ndarray, np.ndarray],
    order: np.ndarray,
    rows: np.ndarray,
    cols: np.ndarray,
    level: np.ndarray,
    width: int,
    slots: int,
) -> Elimination:
    """The program (host).

    **Arguments:** `matrix`: rows and columns of the matrix's lower half, in its own numbering;
    `order`: the variable eliminated first, second, ...; `rows`, `cols`, `level`: of the factor, in
    that order.
    """
    count, entry_count = len(order), len(rows)
    target, first, second = updates(rows, cols, count)
    block_level = np.concatenate([level[cols], level])
    total = entry_count + count
    _, block, block_start, part, offset, slot = pieces(target, total, block_level, width, slots)

    begins = block_start[block_level[target]] + offset // width * width
    chunks, chunk_of = steps_of(begins, part)
    chunk_level = np.empty(len(chunks), np.int64)
    chunk_level[chunk_of] = block_level[target]

    pivots = np.argsort(level, kind="stable")
    rank = np.empty(count, np.int64)
    rank[pivots] = np.arange(count)
    pivot_start = np.concatenate([[0], np.cumsum(np.bincount(level))])
    pivot_offset = rank - pivot_start[level]
    pivot_begins = pivot_start[level] + pivot_offset // width * width
    pivot_chunks, pivot_chunk_of = np.unique(pivot_begins, return_inverse=True)
    pivot_level = np.empty(len(pivot_chunks), np.int64)
    pivot_level[pivot_chunk_of] = level

    # A level's updates come first, then its pivots.
    key = np.concatenate([2 * chunk_level, 2 * pivot_level + 1])
    place = np.empty(len(key), np.int64)
    place[np.argsort(key, kind="stable")] = np.arange(len(key))
    update_place, pivot_place = place[: len(chunks)], place[len(chunks) :]

    steps, room = len(key), padded_size(len(key))
    start = np.zeros(room, np.int32)
    start[update_place], start[pivot_place] = chunks, pivot_chunks
    is_pivot = np.zeros(room, np.int32)
    is_pivot[pivot_place] = 1
    # After the blocks: `width` zeros, into which steps may stand out, then the identity.
    one = total + width
    terms = np.full((2, room, width, slots), total, np.int32)
    between = np.full((room, width, slots), count + width, np.int32)
    where = (update_place[chunk_of], offset % width, slot)
    terms[0][where], terms[1][where] = block[first], block[second]
    between[where] = rank[cols[first]]
    diagonal = np.full((room, width), one, np.int32)
    diagonal[pivot_place[pivot_chunk_of], pivot_offset % width] = block[entry_count:]

    source = np.full(total + width + 1, 2 * len(matrix[0]) + count, np.int32)
    source[one] += 1
    source[block[:entry_count]] = _source(matrix, order, rows, cols)
    source[block[entry_count:]] = 2 * len(matrix[0]) + order
    integers = (source, start, is_pivot, *terms, between, diagonal, np.int32(steps))
    integers += (block[:entry_count], rank[rows], rank[cols], order[pivots])
    return Elimination(*(jnp.asarray(array, jnp.int32) for array in integers))


def _source(
    matrix: tuple[np.ndarray, np.ndarray], order: np.ndarray, rows: np.ndarray, cols: np.ndarray
) -> np.ndarray:
    """For each entry of the factor: its number in [lower, lower', diagonal, 0]."""
    given, count = len(matrix[0]), len(order)
    key = matrix[0] * count + matrix[1]
    sorted_key = np.argsort(key)
    i, j = order[rows], order[cols]
    wanted = np.maximum(i, j) * count + np.minimum(i, j)
    found = np.minimum(np.searchsorted(key, wanted, sorter=sorted_key), max(given - 1, 0))
    found = sorted_key[found] if given else found
    there = key[found] == wanted if given else np.zeros(len(rows), bool)
    return np.where(there, np.where(i > j, found, given + found), 2 * given + count)
