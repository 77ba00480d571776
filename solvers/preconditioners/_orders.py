"""Elimination orders (host): which variable goes first decides fill, levels and quality."""

import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from scipy.sparse.csgraph import reverse_cuthill_mckee

from jaxsci.errors import lookup


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


def _adjacency(rows: np.ndarray, cols: np.ndarray, count: int) -> sp.csr_matrix:
    half = sp.csr_matrix((np.ones(len(rows)), (rows, cols)), (count, count))
    return sp.csr_matrix(half + half.T)


ORDERS = {"rcm": rcm, "amd": minimum_degree, "natural": natural}


def elimination_order(name: str, rows: np.ndarray, cols: np.ndarray, count: int) -> np.ndarray:
    """The variable that is eliminated first, second, ...; `ValueError` for an unknown name."""
    lookup("order", name, ORDERS)
    if len(rows) == 0:
        return np.arange(count)
    return ORDERS[name](rows, cols, count)
