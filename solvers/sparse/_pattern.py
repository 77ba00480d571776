"""Where the blocks of `J'J` are, found once on the host, and their sums in `jit`."""

import equinox as eqx
import numpy as np
from jaxtyping import Array, Bool, Int


class GramPattern(eqx.Module):
    """The places of the blocks of `J'J` below its diagonal, and which products go where.

    Made by [`jaxsci.solvers.sparse.gram_pattern`][]; only arrays, so that two problems whose
    arrays have the same shapes share a compilation.

    - `rows`, `cols`: the places, as in [`jaxsci.solvers.sparse.BlockSymmetric`][].
    - `position`: for each pair of variables that a factor touches, its place; `len(rows)` if both
        are the same variable, whose product belongs to the diagonal.
    - `transposed`: whether the product has to be transposed to lie below the diagonal.
    """

    rows: Int[Array, " E"]
    cols: Int[Array, " E"]
    position: Int[Array, " P"]
    transposed: Bool[Array, " P"]


def gram_pattern(indices_i, indices_j, N: int) -> GramPattern:
    """The pattern of `J'J` for factors that touch the variables `i` and `j`; on the host.

    **Arguments:**

    - `indices_i`, `indices_j`: integers of shape `(P,)`: for each factor, and each pair of its
        slots, the two variables, in the order of [`jaxsci.solvers.sparse.slot_pairs`][].
    - `N`: the number of variables.

    **Raises:** `ValueError` for indices of different length or outside `0 .. N - 1`.

    !!! example
        >>> from jaxsci.solvers.sparse import gram_pattern
        >>> pattern = gram_pattern([0, 2, 1], [1, 0, 0], 3)
        >>> pattern.rows.tolist(), pattern.cols.tolist(), pattern.position.tolist()
        ([1, 2], [0, 0], [0, 1, 0])
    """
    i, j = (np.asarray(index, np.int64).reshape(-1) for index in (indices_i, indices_j))
    if i.shape != j.shape:
        raise ValueError(
            "`gram_pattern(indices_i, indices_j)`: expected two lists of one length, got "
            f"{len(i)} and {len(j)}"
        )
    if len(i) and (min(i.min(), j.min()) < 0 or max(i.max(), j.max()) >= N):
        raise ValueError(
            f"`gram_pattern(indices_i, indices_j, N={N})`: expected indices from 0 to {N - 1}, "
            f"got {min(i.min(), j.min())} to {max(i.max(), j.max())}"
        )
    row, col = np.maximum(i, j), np.minimum(i, j)
    apart = row != col
    places, inverse = np.unique((row * N + col)[apart], return_inverse=True)
    position = np.full(len(i), len(places), np.int32)
    position[apart] = inverse
    # J_i' J_j is the block (i, j): below the diagonal if i > j.
    return GramPattern(
        rows=(places // N).astype(np.int32),  # pyright: ignore[reportArgumentType]
        cols=(places % N).astype(np.int32),  # pyright: ignore[reportArgumentType]
        position=position,  # pyright: ignore[reportArgumentType]
        transposed=i < j,  # pyright: ignore[reportArgumentType]
    )
