"""Which block of a sparse Cholesky factor is where: found once, on the host."""

from typing import Any, NamedTuple

import numpy as np

from ._dissection import Part, dissect

# Fronts are padded to one of at most so many sizes. Each is one more loop to compile, so that there
# are fewer where padding then costs no more than this part, or this many multiplications (half a
# millisecond).
_BANDS, _PADDING, _PADDING_WORK = 5, 0.1, 3_000_000
# How many multiplications one step of the loop should do, so that its overhead is nothing.
_STEP_WORK = 10_000_000


class Band(NamedTuple):
    """Fronts of like size: `S` steps of `B` fronts each, padded to `c` columns and `r` rows below.

    The fronts of one step are independent.

    - `panel` (S, B, c + r, c): where in the storage the blocks of a front's columns are.
    - `update` (S, B, r, r): where the products of its blocks below go; beyond the storage if
        nowhere.
    - `slot` (S,): where the slots of its columns begin, which lie together, as (B, c).
    - `below` (S, B, r): the slots of the rows below; the last where there is none.
    """

    panel: Any
    update: Any
    slot: Any
    below: Any


class _Layout(NamedTuple):
    """The fronts of each step of a band, how many a step holds, and their padded size."""

    steps: list[np.ndarray]
    size: int
    c: int
    r: int


class Symbolic:
    """The structure of a factor: its fronts in bands, from the leaves of the tree to its root.

    Storage is an array of blocks, each front's columns one after the other, and then two blocks
    more: zero, and the identity, which pad. Each variable has a slot, in the order in which they
    are eliminated; the last slot is no variable's.

    - `storage`: how many blocks, without those two.
    - `diagonal` (N,), `lower` (E,): where those of the matrix are in it.
    - `slots` (N,): of each variable; `variables` (slots,): of each slot, `N` if none.
    """

    def __init__(self, rows, cols, count: int, d: int, leaf: int):
        rows, cols = np.asarray(rows, np.int64), np.asarray(cols, np.int64)
        # Narrow panels of one width, as in a dense blocked factorisation: wide ones would pad.
        parts = _chunks(dissect(rows, cols, count, leaf), leaf)
        front_of, order = _elimination_order(parts, count)
        fronts = _fronts(parts, rows, cols, front_of, order, count)
        widths = np.array([len(part.members) for part in parts])
        heights = np.array([len(front) for front in fronts])
        self._offset = np.concatenate([[0], np.cumsum(widths * heights)])
        self.storage = int(self._offset[-1])
        self._front_of, self._order, self._fronts, self._widths = front_of, order, fronts, widths
        layouts = self._schedule(parts, d)
        self._local, self.slots = np.zeros((2, count), np.int64)
        slot = 0
        for steps, size, c, _ in layouts:
            for group in steps:
                for k, f in enumerate(group):
                    members = parts[f].members
                    self._local[members] = np.arange(len(members))
                    self.slots[members] = slot + k * c + np.arange(len(members))
                slot += size * c
        self.variables = np.full(slot + 1, count)
        numbers, late = np.arange(count), order[rows] > order[cols]
        self.variables[self.slots] = numbers
        self.diagonal = self._place(numbers, numbers)
        self.lower = self._place(np.where(late, rows, cols), np.where(late, cols, rows))
        self.turned = ~late
        self.bands = [self._band(layout) for layout in layouts]

    def _place(self, row, col) -> np.ndarray:
        """Where the block (row, col) is stored; `row` is eliminated with `col` or after it."""
        out = np.empty(len(row), np.int64)
        owner = self._front_of[col]
        by_owner = np.argsort(owner, kind="stable")
        starts = np.searchsorted(owner[by_owner], np.arange(len(self._fronts) + 1))
        for f in np.flatnonzero(np.diff(starts)):
            some = by_owner[starts[f] : starts[f + 1]]
            out[some] = self._place_in(int(f), row[some], col[some])
        return out

    def _place_in(self, f: int, row, col) -> np.ndarray:
        front = self._fronts[f]
        at = np.searchsorted(self._order[front], self._order[row])
        return self._offset[f] + at * self._widths[f] + self._local[col]

    def _schedule(self, parts: list[Part], d: int) -> list[_Layout]:
        widths = self._widths
        below = np.array([len(front) for front in self._fronts]) - widths
        heights = _upwards(parts, np.zeros(len(parts), np.int64), 1)
        # The largest front of each subtree: it never falls on the way to the root, so that bands
        # of it can be eliminated one after the other.
        largest = _upwards(parts, widths + below, 0)
        layouts = []
        for members in _bands(largest, widths, below, _PADDING_WORK / d**3):
            levels = np.unique(heights[members])
            some = [members[heights[members] == level] for level in levels]
            everything = np.concatenate(some)
            c, r = int(widths[everything].max()), int(below[everything].max())
            most = max(1, _STEP_WORK // (c * (c + r) ** 2 * d**3))
            # Steps of equal size: as many as the largest height needs, not one over.
            largest = max(len(group) for group in some)
            most = -(-largest // -(-largest // most))
            steps = [
                group[start : start + most]
                for group in some
                for start in range(0, len(group), most)
            ]
            layouts.append(_Layout(steps, most, c, r))
        return layouts

    def _band(self, layout: _Layout) -> Band:
        steps, size, c, r = layout
        places = zip(*(self._group(group, size, c, r) for group in steps), strict=True)
        panel, update, below = (np.stack(arrays) for arrays in places)
        slot = self.slots[[self._fronts[group[0]][0] for group in steps]]
        return Band(panel, update, slot, below)

    def _group(self, group, size: int, c: int, r: int) -> tuple[np.ndarray, ...]:
        """`panel`, `update` and `below` of one step."""
        zero, one, nowhere = self.storage, self.storage + 1, self.storage + 2
        panel = np.full((size, c + r, c), zero, np.int32)
        panel[:, np.arange(c), np.arange(c)] = one
        update = np.full((size, r, r), nowhere, np.int32)
        below = np.full((size, r), len(self.variables) - 1)
        for k, f in enumerate(group):
            front, width = self._fronts[f], int(self._widths[f])
            rest = front[width:]
            place = self._offset[f] + np.arange(len(front) * width).reshape(-1, width)
            panel[k, :width, :width] = place[:width]
            panel[k, c : c + len(rest), :width] = place[width:]
            below[k, : len(rest)] = self.slots[rest]
            # Fronts are numbered from the root, so that what is eliminated later comes first.
            owners = -self._front_of[rest]
            for owner in np.unique(-owners):
                first, last = np.searchsorted(owners, [-owner, -owner + 1])
                # Columns first..last of what is below go to that front, with all rows after them.
                row = np.repeat(rest[first:], last - first)
                col = np.tile(rest[first:last], len(rest) - first)
                place = self._place_in(owner, row, col).reshape(-1, last - first)
                update[k, first : len(rest), first:last] = place
        # Above the diagonal nothing is read.
        lower = np.tril(np.ones((r, r), bool))
        return panel, np.where(lower[None], update, nowhere), below


def _chunks(parts: list[Part], width: int) -> list[Part]:
    """Splits each part into a chain of parts of at most `width` variables."""
    out: list[Part] = []
    bottom = []
    for part in parts:
        parent = bottom[part.parent] if part.parent >= 0 else -1
        # The last members are eliminated last, so that they come first.
        for stop in range(len(part.members), 0, -width):
            out.append(Part(part.members[max(0, stop - width) : stop], parent, part.depth))
            parent = len(out) - 1
        bottom.append(parent)
    return out


def _elimination_order(parts: list[Part], count: int) -> tuple[np.ndarray, np.ndarray]:
    """The part of each variable and its number in the order, deepest parts first."""
    front_of, order = np.empty(count, np.int64), np.empty(count, np.int64)
    at = count
    # Parents come before children in the list, so that numbers are given out from the end.
    for k, part in enumerate(parts):
        at -= len(part.members)
        front_of[part.members] = k
        order[part.members] = at + np.arange(len(part.members))
    return front_of, order


def _fronts(parts, rows, cols, front_of, order, count) -> list[np.ndarray]:
    """For each part its members, then the variables after them that its elimination touches."""
    # Each entry of the matrix belongs to the part that is eliminated first.
    first = np.where(order[rows] < order[cols], rows, cols)
    other = np.where(order[rows] < order[cols], cols, rows)
    by_part = np.argsort(front_of[first], kind="stable")
    ends = np.searchsorted(front_of[first][by_part], np.arange(len(parts) + 1))
    touched = [[other[by_part[ends[k] : ends[k + 1]]]] for k in range(len(parts))]
    fronts: list[np.ndarray] = [np.empty(0, np.int64)] * len(parts)
    inverse = np.argsort(order)
    for k in range(len(parts) - 1, -1, -1):
        members = parts[k].members
        numbers = np.unique(order[np.concatenate(touched[k])])
        later = inverse[numbers[numbers > order[members[-1]]]]
        fronts[k] = np.concatenate([members, later])
        if parts[k].parent >= 0:
            touched[parts[k].parent].append(later)
    return fronts


def _upwards(parts: list[Part], values, step: int) -> np.ndarray:
    """For each part the largest of its value and those of its children plus `step`."""
    out = np.array(values)
    for k in range(len(parts) - 1, -1, -1):
        if (up := parts[k].parent) >= 0:
            out[up] = max(out[up], out[k] + step)
    return out


def _bands(largest, widths, below, spare: float) -> list[np.ndarray]:
    """Cuts the fronts, in order of `largest`, where padding to one size costs least.

    Into no more bands than needed for that least cost, but for `spare` or a small part of it.
    """
    order = np.argsort(largest, kind="stable")
    values, starts = np.unique(largest[order], return_index=True)
    # At most so many candidates, the large fronts, which cost most, among them.
    chosen = np.unique(np.linspace(0, len(values) - 1, min(len(values), 40)).astype(int))
    cuts = [*starts[chosen].tolist(), len(order)]
    c = [int(widths[order[a:b]].max()) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]
    r = [int(below[order[a:b]].max()) for a, b in zip(cuts[:-1], cuts[1:], strict=True)]

    def cost(i, j):
        wide, deep = max(c[i:j]), max(r[i:j])
        return (cuts[j] - cuts[i]) * wide * (wide + deep) ** 2

    # best[j]: the least cost of what comes before cut j, and where its bands end.
    best: list[dict[int, tuple[int, tuple[int, ...]]]] = [{0: (0, ())}]
    total = len(cuts) - 1
    for _ in range(min(_BANDS, total)):
        row = {}
        for j in range(1, total + 1):
            options = [(v + cost(i, j), (*ends, j)) for i, (v, ends) in best[-1].items() if i < j]
            if options:
                row[j] = min(options)
        best.append(row)
    found = [row[total] for row in best if total in row]
    least = min(found)[0]
    enough = least + max(_PADDING * least, spare)
    ends = next(ends for value, ends in found if value <= enough)
    edges = [0, *(cuts[j] for j in ends)]
    return [order[a:b] for a, b in zip(edges[:-1], edges[1:], strict=True)]
