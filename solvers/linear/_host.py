"""Sparse factorisations by libraries of the host, outside `jit`."""

import importlib
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jaxtyping import Array, Float

from jaxsci.errors import is_concrete
from jaxsci.solvers.sparse import BlockSymmetric, register_positive

from ._results import DIRECT_RESULTS


class HostPlan:
    """A factorisation by scikit-sparse or scipy, which find the structure for themselves."""

    def __init__(self, backend: str):
        self.backend = backend
        if backend == "cholmod":
            _cholmod()

    def factor(self, H: BlockSymmetric, *, damping: Array | float = 0.0) -> "HostFactor":
        """The operator `(H + damping)^-1`, in float64.

        **Raises:** `ValueError` inside `jit`, where values are not known.
        """
        if not is_concrete(H, damping):
            raise ValueError(
                f"`SparseCholesky(backend={self.backend!r})` works on the host, outside `jit`; "
                "use backend='jax' inside"
            )
        matrix = to_scipy(H) + float(damping) * sp.eye(H.in_size(), format="csc")
        solve, result = None, DIRECT_RESULTS.successful
        if not np.isfinite(matrix.data).all():
            result = DIRECT_RESULTS.non_finite_input
        else:
            solve = _cholesky(matrix) if self.backend == "cholmod" else _symmetric_lu(matrix)
            if solve is None:
                result = DIRECT_RESULTS.not_positive_definite
        return HostFactor(solve, result, H.in_structure())


class HostFactor(lx.AbstractLinearOperator):
    """The inverse of a matrix that the host has factored; outside `jit` only."""

    solve: Any = eqx.field(static=True)
    result: DIRECT_RESULTS
    structure: jax.ShapeDtypeStruct = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        if not is_concrete(vector):
            raise ValueError(
                "`SparseCholesky(backend=...)`: a factor of the host cannot be used in `jit`; use "
                "backend='jax' there"
            )
        if self.solve is None:
            return jnp.full_like(vector, jnp.nan)
        return jnp.asarray(self.solve(np.asarray(vector, np.float64)), vector.dtype)

    def as_matrix(self) -> Float[Array, "n n"]:
        columns = [
            self.mv(column) for column in jnp.eye(self.in_size(), dtype=self.structure.dtype)
        ]
        return jnp.stack(columns)

    def transpose(self) -> "HostFactor":
        return self

    def in_structure(self):
        return self.structure

    def out_structure(self):
        return self.structure


register_positive(HostFactor)


def to_scipy(H: BlockSymmetric) -> sp.csc_matrix:
    """The matrix in float64, for scipy."""
    count, d = H.diagonal.shape[:2]
    rows, cols, lower = (np.asarray(a) for a in (H.rows, H.cols, H.lower))
    i = np.concatenate([np.arange(count), rows, cols])
    j = np.concatenate([np.arange(count), cols, rows])
    values = np.concatenate([np.asarray(H.diagonal), lower, lower.swapaxes(1, 2)])
    inner = np.arange(d)
    i = (i[:, None, None] * d + inner[None, :, None] + 0 * inner[None, None]).ravel()
    j = (j[:, None, None] * d + inner[None, None] + 0 * inner[None, :, None]).ravel()
    shape = (count * d, count * d)
    return sp.csc_matrix((values.astype(np.float64).ravel(), (i, j)), shape=shape)


def _cholmod():
    try:
        module = importlib.import_module("sksparse.cholmod")
    except ImportError as error:
        raise ImportError(
            "`SparseCholesky(backend='cholmod')` needs scikit-sparse, which needs SuiteSparse: "
            "`apt install libsuitesparse-dev`, then `pip install 'jaxsci[cholmod]'`; or use "
            "backend='jax', which needs nothing"
        ) from error
    if "cho_factor" in vars(module):  # from 0.5 on, `cholesky` is another function
        raise ImportError(
            "`SparseCholesky(backend='cholmod')` needs scikit-sparse 0.4, got a later one: `pip "
            "install 'jaxsci[cholmod]'`"
        )
    return module


def _cholesky(matrix: sp.csc_matrix):
    module = _cholmod()
    try:
        # Supernodal is L L', which says what is not positive definite; L D L' would not.
        return module.cholesky(matrix, mode="supernodal")
    except module.CholmodNotPositiveDefiniteError:
        return None


def _symmetric_lu(matrix: sp.csc_matrix):
    # Without pivoting, the LU factors of a positive definite matrix have positive pivots.
    options = {"SymmetricMode": True}
    try:
        factor = spl.splu(
            matrix, permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options=options
        )
    except RuntimeError:
        return None
    return factor.solve if np.all(factor.U.diagonal() > 0) else None
