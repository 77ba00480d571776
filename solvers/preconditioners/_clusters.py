"""Clusters of a graph: near one another, and of like size."""

import numpy as np
import scipy.sparse as sp

from ._pattern import ranges

# How often clusters grow again from their middles.
_ROUNDS = 4


def clusters(
    rows: np.ndarray, cols: np.ndarray, count: int, wanted: int
) -> tuple[np.ndarray, np.ndarray]:
    """The cluster of each of `count` vertices, numbered from 0, and the middle of each cluster.

    Each vertex goes to the nearest of `wanted <= count` seeds, by edges; then each seed moves to
    the vertex that is farthest from its cluster's border, a few times over. A cluster is connected,
    but for parts of the graph that are smaller than one: those join that of another vertex.

    Reference: Bell, *Algebraic multigrid for discrete differential forms*, 2008, for Lloyd's
    algorithm on graphs. Differs from it in: distances are numbers of edges.
    """
    ends = np.concatenate([rows, cols]), np.concatenate([cols, rows])
    graph = sp.csr_array((np.ones(len(ends[0]), bool), ends), shape=(count, count))
    part = sp.csgraph.connected_components(graph, directed=False)[1]
    # Each part of the graph gets its share of seeds.
    mixed = np.lexsort((np.random.default_rng(0).permutation(count), part))
    seeds = mixed[((np.arange(wanted) + 0.5) * count / wanted).astype(np.int64)]
    label, _ = _nearest(graph, seeds, np.arange(len(seeds)))
    for _ in range(_ROUNDS):
        border = np.unique(ends[0][label[ends[0]] != label[ends[1]]])
        _, depth = _nearest(graph, border, label[border])
        # Where a cluster has no border its seed may stay; of several middles the first is taken.
        depth[seeds] = np.maximum(depth[seeds], 0)
        order = np.lexsort((-np.arange(count), depth, label))
        order = order[label[order] >= 0]
        seeds = order[np.flatnonzero(np.diff(np.append(label[order], len(seeds))))]
        label, _ = _nearest(graph, seeds, np.arange(len(seeds)))
    known = np.maximum.accumulate(np.where(label >= 0, np.arange(count), -1))
    return label[np.where(known >= 0, known, seeds[0])], seeds


def _nearest(
    graph: sp.csr_array, seeds: np.ndarray, names: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """For each vertex the name of the seed that reaches it first, and its distance; -1 if none."""
    label, depth = np.full((2, graph.shape[0]), -1, np.int64)
    label[seeds], depth[seeds] = names, 0
    front, step = seeds, 0
    while len(front):
        step += 1
        first, last = graph.indptr[front], graph.indptr[front + 1]
        reached = graph.indices[ranges(first, last)]
        source = np.repeat(label[front], last - first)
        new = label[reached] < 0
        reached, source = reached[new], source[new]
        label[reached], depth[reached] = source, step
        front = np.unique(reached)
    return label, depth
