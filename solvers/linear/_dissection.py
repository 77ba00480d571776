"""Nested dissection on the host: an elimination order whose tree is low and wide.

All parts of one depth are cut at once, so that the work is a few calls of compiled scipy routines
per depth and not a few per part.
"""

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp
import scipy.sparse.csgraph as csgraph


class Part(NamedTuple):
    """A set of variables that is eliminated together, after all parts below it."""

    members: np.ndarray
    parent: int
    depth: int


def dissect(rows, cols, count: int, leaf: int) -> list[Part]:
    """A tree of parts, parents before their children; the members of all parts are `0..count-1`.

    A part of more than `leaf` variables is cut in two by a small separator, found as the least
    vertex cover of the edges between two neighbouring levels of a breadth-first search from an end
    of the part; the separator becomes the part, what it separates its children.
    """
    rows, cols = np.asarray(rows, np.int64), np.asarray(cols, np.int64)
    ones = np.ones(len(rows), np.int8)
    half = sp.coo_matrix((ones, (rows, cols)), shape=(count, count))
    graph = sp.csr_matrix(half + half.T)
    graph.data[:] = 1
    parts: list[Part] = []
    owner = np.full(count, -1)
    active = np.arange(count)
    depth = 0
    while len(active):
        inner = graph[active][:, active]
        number, label = csgraph.connected_components(inner, directed=False)
        size = np.bincount(label, minlength=number)
        whole = size[label] <= leaf
        separator = whole | (_separators(inner, label, number, size) & ~whole)
        # A part whose separator came out empty (complete graphs) is not cut any further.
        cut = np.bincount(label[separator], minlength=number)
        separator |= cut[label] == 0
        order = np.argsort(label[separator], kind="stable")
        members = active[separator][order]
        ends = np.cumsum(np.bincount(label[separator], minlength=number))
        parents = np.full(number, -1)
        parents[label] = owner[active]
        first = len(parts)
        for k, some in enumerate(np.split(members, ends[:-1])):
            parts.append(Part(some, int(parents[k]), depth))
        owner[active] = first + label
        active = active[~separator]
        depth += 1
    return parts


def _separators(graph, label, number: int, size) -> np.ndarray:
    """For each component a vertex separator near its middle, as one mask over all nodes."""
    n = len(label)
    level = _levels(graph, _farthest(graph, label, number, np.zeros(n)))
    level = _levels(graph, _farthest(graph, label, number, level))
    height = int(level.max()) + 1
    widths = np.bincount(label * height + level, minlength=number * height)
    widths = widths.reshape(number, height)
    below = np.cumsum(widths, axis=1)
    # The narrowest level that leaves at least a third on either side, or else the middle one.
    share = below / size[:, None]
    fits = (share >= 1 / 3) & (share <= 2 / 3)
    middle = np.abs(share - 0.5)
    rank = np.where(fits, widths.astype(float), n + middle * n)
    # Never the last level: there is nothing behind it.
    rank[share >= 1] = 4.0 * n
    at = np.argmin(rank, axis=1)[label]
    edges = graph.tocoo()
    across = (level[edges.row] == at[edges.row]) & (level[edges.col] == at[edges.row] + 1)
    return _vertex_cover(edges.row[across], edges.col[across], n)


def _levels(graph, sources) -> np.ndarray:
    distance = csgraph.dijkstra(graph, indices=sources, unweighted=True, min_only=True)
    return distance.astype(np.int64)


def _farthest(graph, label, number: int, level) -> np.ndarray:
    """For each component the node of the highest level, of these the one of least degree."""
    degree = np.diff(graph.indptr)
    order = np.lexsort((degree, -level, label))
    return order[np.searchsorted(label[order], np.arange(number))]


def _vertex_cover(left, right, n: int) -> np.ndarray:
    """The least set of nodes that touches every edge of a bipartite graph (Koenig's theorem)."""
    cover = np.zeros(n, bool)
    if not len(left):
        return cover
    lefts, i = np.unique(left, return_inverse=True)
    rights, j = np.unique(right, return_inverse=True)
    ones = np.ones(len(i), np.int8)
    bipartite = sp.csr_matrix((ones, (i, j)), shape=(len(lefts), len(rights)))
    mate = csgraph.maximum_bipartite_matching(bipartite, perm_type="column")
    # What alternating paths reach from unmatched left nodes: off the matching to the right, along
    # it to the left.
    reached_left = mate < 0
    reached_right = np.zeros(len(rights), bool)
    matched = np.flatnonzero(mate >= 0)
    back = np.full(len(rights), -1)
    back[mate[matched]] = matched
    while True:
        seen = np.zeros(len(rights), bool)
        seen[j[reached_left[i]]] = True
        seen &= ~reached_right
        if not seen.any():
            break
        reached_right |= seen
        new = back[seen]
        reached_left[new[new >= 0]] = True
    cover[lefts[~reached_left]] = True
    cover[rights[reached_right]] = True
    return cover
