"""The pattern of an incomplete factor: fill, levels and updates (host, once per graph)."""

import numpy as np
import scipy.sparse as sp


def check_pattern(name: str, rows: np.ndarray, cols: np.ndarray, count: int) -> None:
    """**Raises:** `ValueError` unless these are the strictly lower entries of a block matrix."""
    call = f"`{name}.plan(rows, cols, N, d)`"
    if rows.ndim != 1 or rows.shape != cols.shape:
        raise ValueError(
            f"{call}: expected two equally long vectors, got shapes {rows.shape} and {cols.shape}"
        )
    for what, index in (("rows", rows), ("cols", cols)):
        if not np.issubdtype(index.dtype, np.integer):
            raise ValueError(f"{call}: expected integers, got {what} in {index.dtype}")
    if len(rows) and (cols.min() < 0 or rows.max() >= count):
        raise ValueError(
            f"{call}: expected 0 <= cols and rows < N = {count}, got cols down to {cols.min()} "
            f"and rows up to {rows.max()}"
        )
    if (rows <= cols).any():
        first = int(np.argmax(rows <= cols))
        raise ValueError(
            f"{call}: expected rows > cols (the lower half without its diagonal), got "
            f"({rows[first]}, {cols[first]}) at {first}; swap them and transpose the block"
        )
    if len(np.unique(rows * count + cols)) != len(rows):
        raise ValueError(f"{call}: a pair occurs twice; sum such blocks into one first")


def fill_pattern(
    rows: np.ndarray, cols: np.ndarray, count: int, fill: int
) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of the factor of IC(`fill`), sorted by row, then column.

    An entry of level `m` joins `i` and `j` through a lower `k` with levels `a + b + 1 = m`, so
    that those of level `m` are the pattern of `sum F_a F_b'`: sparse products do it.
    """
    by_level = [_pattern(rows, cols, count)]
    keys = np.sort(rows * count + cols)
    for level in range(1, fill + 1):
        fresh = np.empty(0, np.int64)
        for a in range((level + 1) // 2):
            b = level - 1 - a
            product = by_level[a] @ by_level[b].T
            if a != b:
                product = product + product.T
            low = sp.coo_matrix(sp.tril(product, -1))
            fresh = np.union1d(fresh, low.row.astype(np.int64) * count + low.col)
        fresh = np.setdiff1d(fresh, keys, assume_unique=True)
        by_level.append(_pattern(fresh // count, fresh % count, count))
        keys = np.union1d(keys, fresh)
    return keys // count, keys % count


def lower_power(
    rows: np.ndarray, cols: np.ndarray, count: int, power: int
) -> tuple[np.ndarray, np.ndarray]:
    """The strictly lower entries of `H^power`, sorted by row, then column."""
    half = _pattern(rows, cols, count)
    whole = sp.csr_matrix(half + half.T + sp.identity(count, "float32"))
    result = whole
    for _ in range(power - 1):
        result = result @ whole
    low = sp.coo_matrix(sp.tril(result, -1))
    keys = np.sort(low.row.astype(np.int64) * count + low.col)
    return keys // count, keys % count


def _pattern(rows: np.ndarray, cols: np.ndarray, count: int) -> sp.csr_matrix:
    return sp.csr_matrix((np.ones(len(rows), np.float32), (rows, cols)), (count, count))


def levels(rows: np.ndarray, cols: np.ndarray, count: int) -> np.ndarray:
    """The level of each row: one more than the highest of the rows on which it depends."""
    by_column = np.argsort(cols, kind="stable")
    after = rows[by_column]
    first = np.searchsorted(cols[by_column], np.arange(count + 1))
    waiting = np.bincount(rows, minlength=count)
    level = np.zeros(count, np.int64)
    ready = np.flatnonzero(waiting == 0)
    depth = 0
    while len(ready):
        level[ready] = depth
        depth += 1
        freed = after[ranges(first[ready], first[ready + 1])]
        np.subtract.at(waiting, freed, 1)
        ready = np.unique(freed[waiting[freed] == 0])
    return level


def ranges(start: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """`start[0], ..., stop[0] - 1, start[1], ...` in one vector."""
    length = stop - start
    return np.repeat(stop - np.cumsum(length), length) + np.arange(length.sum())


def updates(
    rows: np.ndarray, cols: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All `(target, i k, j k)` with `S_ij -= S_ik D_k^-1 S_jk'` kept by the pattern.

    **Returns:** three vectors. A target below `E` is the entry `(i, j)`; `E + j` is the diagonal
    block `j`. The other two are entries. Rows and columns must be sorted by row, then column.
    """
    entry_count = len(rows)
    by_column = np.lexsort((rows, cols))
    column = cols[by_column]
    stop = np.searchsorted(column, column, side="right")
    here = np.arange(entry_count)
    upper = np.repeat(here, stop - here)
    lower = ranges(here, stop)
    j, i = rows[by_column[upper]], rows[by_column[lower]]
    keys = rows * count + cols
    wanted = i * count + j
    found = np.minimum(np.searchsorted(keys, wanted), max(entry_count - 1, 0))
    diagonal = i == j
    kept = diagonal | (keys[found] == wanted if entry_count else diagonal)
    target = np.where(diagonal, entry_count + j, found)
    return target[kept], by_column[lower][kept], by_column[upper][kept]


class Lookup:
    """Where a pair of variables is in the lower half of a matrix: an entry, or a transposed one."""

    def __init__(self, rows: np.ndarray, cols: np.ndarray, count: int):
        self.count, self.given = count, len(rows)
        key = rows * count + cols
        self.order = np.argsort(key)
        self.key = key[self.order]

    def __call__(self, i: np.ndarray, j: np.ndarray, absent: int) -> np.ndarray:
        """Numbers in [lower, lower']; `absent` where there is no such entry."""
        if self.given == 0:
            return np.full(i.shape, absent)
        wanted = np.maximum(i, j) * self.count + np.minimum(i, j)
        found = np.minimum(np.searchsorted(self.key, wanted), self.given - 1)
        number = self.order[found] + np.where(i > j, 0, self.given)
        return np.where((self.key[found] == wanted) & (i != j), number, absent)


def inverse(order: np.ndarray) -> np.ndarray:
    """The permutation that undoes `order`."""
    result = np.empty_like(order)
    result[order] = np.arange(len(order))
    return result
