"""Elimination orders (host): which variable goes first decides fill, levels and quality."""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.sparse.csgraph import connected_components, dijkstra, reverse_cuthill_mckee

from jaxsci.errors import lookup

from ._pattern import inverse


def natural(rows: np.ndarray, cols: np.ndarray, count: int) -> np.ndarray:
    return np.arange(count)


def rcm(rows: np.ndarray, cols: np.ndarray, count: int) -> np.ndarray:
    order = reverse_cuthill_mckee(_adjacency(rows, cols, count), symmetric_mode=True)
    return np.asarray(order, np.int64)


def minimum_degree(rows: np.ndarray, cols: np.ndarray, count: int) -> np.ndarray:
    """The order of SuperLU, reached through an incomplete factorisation that drops everything."""
    adjacency = _adjacency(rows, cols, count)
    degree = np.asarray(adjacency.sum(1)).ravel()
    dominant = sp.csc_matrix(sp.diags(degree + 1) - adjacency)
    options = {"SymmetricMode": True}
    factor = spl.spilu(
        dominant,
        drop_tol=1.0,
        fill_factor=1,
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options=options,
    )
    return np.argsort(factor.perm_c).astype(np.int64)


def nested(rows: np.ndarray, cols: np.ndarray, count: int) -> np.ndarray:
    """Nested dissection: separators last, so that a chain or a grid has few levels.

    All components of a depth are cut at once, each at a thin level of the distance from one of its
    ends; what is small, and separators, are ordered by minimum degree.
    """
    depth = np.zeros(count, np.int64)
    for cut in range(1, _MOST_CUTS):
        alive = depth == 0
        inside = alive[rows] & alive[cols]
        separator = _separator(rows[inside], cols[inside], alive)
        if not len(separator):
            break
        depth[separator] = cut
    depth[depth == 0] = _MOST_CUTS
    return np.lexsort((inverse(minimum_degree(rows, cols, count)), -depth))


_MOST_CUTS, _SMALL = 64, 32


def _separator(rows: np.ndarray, cols: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Variables whose removal cuts each component that is not small."""
    adjacency = _adjacency(rows, cols, len(alive))
    part = connected_components(adjacency, directed=False)[1]
    large = alive & (np.bincount(part)[part] > _SMALL)
    if not large.any():
        return np.empty(0, np.int64)
    members = np.flatnonzero(large)
    ends = _one_of_each(part[members], members)
    farthest = np.lexsort((-_distance(adjacency, ends)[members], part[members]))
    ends = _one_of_each(part[members][farthest], members[farthest])
    far = np.where(large, _distance(adjacency, ends), 0).astype(np.int64)

    # The sizes of the levels of each part, and how much of it lies at or before each.
    span = int(far.max()) + 2
    key, size = np.unique(part[members] * span + far[members], return_counts=True)
    owner = key // span
    upto = np.cumsum(size)
    first = np.searchsorted(owner, owner)
    upto = upto - upto[first] + size[first]
    share = upto / np.bincount(part)[owner]
    last = np.append(owner[1:] != owner[:-1], True)
    penalty = np.where(
        last, 2.0, np.where((share > 0.3) & (share < 0.7), 0.0, abs(share - 0.5) + 1)
    )
    best = np.lexsort((size, penalty, owner))
    best = best[np.unique(owner[best], return_index=True)[1]]
    at = np.full(len(alive), -1)
    at[owner[best]] = key[best] % span
    # Of the level, only those with a neighbour beyond it are needed.
    i, j = np.concatenate([rows, cols]), np.concatenate([cols, rows])
    bridge = large[i] & (far[i] == at[part[i]]) & (far[j] > far[i])
    return np.unique(i[bridge])


def _distance(adjacency: sp.csr_matrix, ends: np.ndarray) -> np.ndarray:
    return dijkstra(adjacency, directed=False, indices=ends, unweighted=True, min_only=True)


def _one_of_each(part: np.ndarray, members: np.ndarray) -> np.ndarray:
    return members[np.unique(part, return_index=True)[1]]


def colour(rows: np.ndarray, cols: np.ndarray, count: int) -> np.ndarray:
    """Greedy colouring, largest degree first: as many levels as colours."""
    adjacency = _adjacency(rows, cols, count)
    # Lists: their items are looked at one by one.
    first = np.asarray(adjacency.indptr).tolist()
    neighbours = np.asarray(adjacency.indices).tolist()
    colours = [-1] * count
    for node in np.argsort(-np.diff(adjacency.indptr), kind="stable").tolist():
        taken = {colours[other] for other in neighbours[first[node] : first[node + 1]]}
        free = 0
        while free in taken:
            free += 1
        colours[node] = free
    return np.argsort(np.asarray(colours, np.int64), kind="stable")


def _adjacency(rows: np.ndarray, cols: np.ndarray, count: int) -> sp.csr_matrix:
    half = sp.csr_matrix((np.ones(len(rows)), (rows, cols)), (count, count))
    return sp.csr_matrix(half + half.T)


ORDERS = {
    "rcm": rcm,
    "amd": minimum_degree,
    "nested": nested,
    "colour": colour,
    "natural": natural,
}


def elimination_order(name: str, rows: np.ndarray, cols: np.ndarray, count: int) -> np.ndarray:
    """The variable that is eliminated first, second, ...; `ValueError` for an unknown name."""
    lookup("order", name, ORDERS)
    if len(rows) == 0:
        return np.arange(count)
    return ORDERS[name](rows, cols, count)
