"""Triangular solves with a unit diagonal, level by level, in steps of one fixed shape."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from ._rounding import rounded


class Sweep(eqx.Module):
    """A schedule for `y = L^-1 v`, `L` strictly lower plus the identity.

    Rows are sorted by level, so that a step acts on a contiguous piece of `y`: `width` rows, with
    `slots` neighbours each, all of earlier levels. A row with more neighbours takes part in several
    steps. All steps have one shape and run in one loop, so that neither their number nor the graph
    is part of what is compiled. (Half a microsecond a step on a CPU; unrolled levels are not faster
    and take minutes to compile.)

    - `start`: the first of the sorted rows on which each step acts, `(S,)`.
    - `steps`: how many of the steps count.
    - `columns`: neighbours, as sorted, `(S, width, slots)`; `N` where there is none.
    - `entries`: which entry of `L` belongs there, `(S, width, slots)`; `E` where there is none.
    """

    start: Int[Array, " S"]
    columns: Int[Array, "S width slots"]
    entries: Int[Array, "S width slots"]
    steps: Int[Array, ""]

    @property
    def width(self) -> int:
        return self.columns.shape[1]

    def gather(self, blocks: Float[Array, "E d d"], stored: str) -> Float[Array, "S w d k d"]:
        """The blocks of `L`, in the dtype `stored`, each where the loop reads it."""
        zero = jnp.zeros((1, *blocks.shape[1:]), stored)
        padded = jnp.concatenate([blocks.astype(stored), zero])
        return padded[self.entries].swapaxes(2, 3)

    def product(
        self, placed: Float[Array, "S w d k d"], vector: Float[Array, "N d"], rounds: bool = False
    ) -> Array:
        """`L v`, all steps at once, with sorted rows before and after.

        With `rounds`, the vector is first rounded to the dtype of `placed`.
        """
        count, dim = vector.shape
        tail = jnp.zeros((self.width, dim), vector.dtype)
        neighbours = jnp.concatenate([vector, tail])[self.columns]
        if rounds:
            neighbours = rounded(neighbours, placed.dtype.name)
        wide = placed.astype(vector.dtype)
        # Term by term: on a CPU a reduction over so short an axis is ten times slower.
        products = jnp.zeros((*neighbours.shape[:2], dim), vector.dtype)
        for k in range(placed.shape[3]):
            for q in range(dim):
                products += wide[:, :, :, k, q] * neighbours[:, :, k, q, None]
        rows = self.start[:, None] + jnp.arange(self.width, dtype=jnp.int32)[None, :]
        return jnp.zeros((count + self.width, dim), vector.dtype).at[rows].add(products)[:count]

    def approximate(
        self,
        placed: Float[Array, "S w d k d"],
        vector: Float[Array, "N d"],
        sweeps: int,
        rounds: bool,
    ) -> Array:
        """`(I - L + L^2 - ...) v` to the power `sweeps`: that many Jacobi sweeps from `v`."""

        def step(_, y):
            return vector - self.product(placed, y, rounds)

        return jax.lax.fori_loop(0, sweeps, step, vector)

    def solve(
        self, placed: Float[Array, "S w d k d"], vector: Float[Array, "N d"], rounds: bool
    ) -> Array:
        """`L^-1 v`, with sorted rows before and after; `placed` comes from `gather`."""
        stored, count = placed.dtype.name, vector.shape[0]
        # The rows past the end are read by empty slots and written by steps that stand out.
        tail = jnp.zeros((self.width, vector.shape[1]), vector.dtype)

        def step(s, y):
            neighbours = y[self.columns[s]]
            if rounds:
                neighbours = rounded(neighbours, stored)
            products = placed[s].astype(y.dtype) * neighbours[:, None]
            piece = jax.lax.dynamic_slice_in_dim(y, self.start[s], self.width)
            piece = piece - products.sum((2, 3))
            return jax.lax.dynamic_update_slice_in_dim(y, piece, self.start[s], 0)

        y = jax.lax.fori_loop(0, self.steps, step, jnp.concatenate([vector, tail]))
        return y[:count]


def sweep(
    rows: np.ndarray, cols: np.ndarray, count: int, level: np.ndarray, width: int, slots: int
) -> tuple[Sweep, np.ndarray]:
    """The schedule (host) for the entries `(rows, cols)` of `L`, given each row's level.

    **Returns:** the schedule, and the rows as it sorts them.
    """
    order, position, start, part, offset, slot = pieces(rows, count, level, width, slots)
    begins = start[level[rows]] + offset // width * width
    chunks, step = steps_of(begins, part)
    room = padded_size(len(chunks))
    columns = np.full((room, width, slots), count, np.int32)
    entries = np.full((room, width, slots), len(rows), np.int32)
    columns[step, offset % width, slot] = position[cols]
    entries[step, offset % width, slot] = np.arange(len(rows))
    begin = np.zeros(room, np.int32)
    begin[: len(chunks)] = chunks
    integers = (begin, columns, entries, np.int32(len(chunks)))
    return Sweep(*(jnp.asarray(array) for array in integers)), order


def pieces(rows: np.ndarray, count: int, level: np.ndarray, width: int, slots: int):
    """Where each term of a levelled, row-wise sum goes.

    Rows are ordered by level and, within one, by falling number of terms, so that the rows with a
    second, third, ... part of `slots` terms come first.

    **Returns:** `order` and its inverse `position`; the first position of each level; and for each
    term its row's part, that row's offset in its level, and the slot in that part.
    """
    terms = np.bincount(rows, minlength=count)
    order = np.lexsort((-terms, level))
    position = np.empty(count, np.int64)
    position[order] = np.arange(count)
    start = np.concatenate([[0], np.cumsum(np.bincount(level))])
    by_row = np.argsort(rows, kind="stable")
    sorted_rows = rows[by_row]
    rank = np.empty(len(rows), np.int64)
    rank[by_row] = np.arange(len(rows)) - np.searchsorted(sorted_rows, sorted_rows, side="left")
    offset = position[rows] - start[level[rows]]
    return order, position, start, rank // slots, offset, rank % slots


def steps_of(begin: np.ndarray, part: np.ndarray):
    """The distinct `(begin, part)`, in order: where each step begins; and each term's."""
    parts = int(part.max(initial=0)) + 1
    # Positions rise with the level, so that it need not be part of the key.
    keys, step = np.unique(begin * parts + part, return_inverse=True)
    return keys // parts, step


def padded_size(size: int) -> int:
    """The next of 32, 48, 64, 96, 128, ...: sizes that similar graphs share."""
    power = max(32, 1 << max(0, size - 1).bit_length())
    return power * 3 // 4 if power > 32 and size <= power * 3 // 4 else power


def slots_for(terms: int, rows: int) -> int:
    """Terms per row and step: near the average, so that little is padded and few rows need two."""
    return 1 << max(0, int(np.log2(max(1.0, 1.2 * terms / max(rows, 1)))))
