"""Sparse Jacobians of any function, by colouring the columns of their pattern."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Float, Int

from jaxsci.errors import is_concrete

from ._entries import SparseEntries


class Colouring(eqx.Module):
    """A pattern of a Jacobian, and colours of its columns.

    Two columns of one colour have no row in common, so that one derivative in the direction of
    their sum gives both. Made by [`jaxsci.solvers.sparse.colour_columns`][].

    - `rows`, `cols`: where the entries are, shape `(k,)`.
    - `colours`: of each column, shape `(n,)`.
    - `number`: of colours.
    - `shape`: `(m, n)`.
    """

    rows: Int[Array, " k"]
    cols: Int[Array, " k"]
    colours: Int[Array, " n"]
    number: int = eqx.field(static=True)
    shape: tuple[int, int] = eqx.field(static=True)


def colour_columns(sparsity: Any) -> Colouring:
    """Colours the columns of a pattern, greedily, the fullest columns first; on the host.

    **Arguments:**

    - `sparsity`: a scipy sparse matrix of shape `(m, n)`; what is stored counts, if only a zero.

    **Raises:** `TypeError` for anything else.

    !!! example
        >>> import scipy.sparse as sp
        >>> from jaxsci.solvers.sparse import colour_columns
        >>> colour_columns(sp.diags([1.0, 1.0, 1.0], [-1, 0, 1], shape=(100, 100))).number
        3

    Reference: Curtis, Powell and Reid, *On the estimation of sparse Jacobian matrices*, 1974.
    """
    if not sp.issparse(sparsity):
        raise TypeError(
            "`colour_columns(sparsity=...)`: expected a scipy sparse matrix, got "
            f"{type(sparsity).__name__}"
        )
    m, n = np.shape(sparsity)
    pattern = sp.csr_matrix(sparsity, copy=True)
    pattern.data = np.ones(len(pattern.data), np.int32)
    pattern.sum_duplicates()
    neighbours = sp.csr_matrix(pattern.T @ pattern)
    start, index = neighbours.indptr, neighbours.indices
    colours = np.full(n, -1)
    for column in np.argsort(-np.diff(start), kind="stable"):
        taken = colours[index[start[column] : start[column + 1]]]
        used = np.zeros(len(taken) + 1, bool)
        used[taken[(taken >= 0) & (taken < len(used))]] = True
        colours[column] = np.argmin(used)
    coo = pattern.tocoo()
    rows, cols, colours = (jnp.asarray(a.astype(np.int32)) for a in (coo.row, coo.col, colours))
    number = int(colours.max(initial=-1)) + 1
    return Colouring(rows, cols, colours, number, (int(m), int(n)))


def sparse_jacobian(
    function: Callable[[Array], Array],
    x: Float[Array, "..."],
    sparsity: Colouring | Any | Literal["detect"] = "detect",
) -> SparseEntries:
    """The Jacobian of a function at `x`, by as many forward derivatives as its pattern has colours.

    A five-point stencil takes about seven, whatever the number of unknowns. Differentiable, and in
    `jit` if the pattern is a [`jaxsci.solvers.sparse.Colouring`][].

    **Arguments:**

    - `function`: from an array to an array, of any shape; rows and columns are numbered in C
        order.
    - `x`: where.
    - `sparsity`: a `Colouring` made once; a scipy sparse pattern, coloured anew in each call; or
        `"detect"`: find it at `x`, by one derivative per column, of which NaN marks all that it
        reaches. What a `where` or `max` does not choose at `x` is not found.

    **Returns:** a [`jaxsci.solvers.sparse.SparseEntries`][] operator, `m x n`.

    **Raises:** `ValueError` if the pattern does not have the shape of the Jacobian, or for
    `"detect"` inside `jit`. An entry outside the pattern is not noticed: it would be added to
    another.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.sparse import sparse_jacobian
        >>> def function(x):
        ...     return x[1:] * x[:-1]
        >>> sparse_jacobian(function, jnp.array([1.0, 2.0, 3.0])).as_matrix()
        Array([[2., 1., 0.],
               [0., 3., 2.]], dtype=float32)
    """
    if isinstance(sparsity, str):
        if sparsity != "detect":
            raise ValueError(
                "`sparse_jacobian(sparsity=...)`: expected a Colouring, a scipy sparse pattern or "
                f"'detect', got {sparsity!r}"
            )
        sparsity = detect_sparsity(function, x)
    colouring = sparsity if isinstance(sparsity, Colouring) else colour_columns(sparsity)
    m, n = colouring.shape
    out = jax.eval_shape(function, x)
    if (out.size, x.size) != (m, n):
        raise ValueError(
            f"`sparse_jacobian(sparsity=...)`: expected a pattern of shape ({out.size}, {x.size}), "
            f"got ({m}, {n})"
        )
    _, push = jax.linearize(function, x)
    numbers = jnp.arange(colouring.number, dtype=colouring.colours.dtype)

    def compressed(number):
        return push((colouring.colours == number).astype(x.dtype).reshape(x.shape)).reshape(-1)

    rows = jax.vmap(compressed)(numbers)
    values = rows[colouring.colours[colouring.cols], colouring.rows]
    return SparseEntries(values, colouring.rows, colouring.cols, colouring.shape)


def detect_sparsity(function: Callable[[Array], Array], x: Float[Array, "..."]) -> sp.csr_matrix:
    """The pattern of a Jacobian at `x`, on the host: what a NaN in each direction reaches.

    **Raises:** `ValueError` inside `jit`.
    """
    if not is_concrete(x):
        raise ValueError(
            "`sparse_jacobian(sparsity='detect')` works on the host: make a Colouring outside "
            "`jit`, `colour_columns(detect_sparsity(function, x))`, and pass it"
        )
    _, push = jax.linearize(function, x)

    @jax.jit
    def reached(column):
        direction = jnp.where(
            jnp.arange(x.size, dtype=column.dtype) == column, jnp.nan, jnp.zeros((), x.dtype)
        )
        return jnp.isnan(push(direction.astype(x.dtype).reshape(x.shape)).reshape(-1))

    # A slab of columns at a time: never the dense Jacobian of a large problem at once.
    slab = jax.jit(jax.vmap(reached))
    parts = []
    for start in range(0, x.size, 256):
        columns = np.minimum(np.arange(start, start + 256), x.size - 1).astype(np.int32)
        parts.append(sp.csr_matrix(np.asarray(slab(columns))[: x.size - start]))
    return sp.csr_matrix(sp.vstack(parts).T)
