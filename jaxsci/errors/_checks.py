"""Checks of array values, made where the values are known (outside `jit`)."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def is_concrete(*trees: Any) -> bool:
    """Whether every array in `trees` has known values, i.e. none is being traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def require_finite(where: str | None, name: str, array: Any) -> None:
    """Raise `ValueError` naming the first non-finite entry of `array`; a traced array passes.

    **Arguments:**

    - `where`: the public function that was called, e.g. `"condition"`; `None` for an array of a
        file.
    - `name`: its argument, e.g. `"gaussian.mean"`.
    - `array`: any numeric array.

    **Raises:** `ValueError` with the index and the value of the first entry that is not finite.
    """
    if not is_concrete(array):
        return
    values = np.asarray(array)
    bad = ~np.isfinite(values)
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        argument = f"`{name}`" if where is None else f"`{where}({name}=...)`"
        raise ValueError(
            f"{argument}: expected finite numbers, got {values[index]} at index "
            f"{index} ({int(bad.sum())} of {values.size} entries are not finite)"
        )


def require_symmetric(where: str, name: str, matrix: Any) -> None:
    """Raise `ValueError` unless a square matrix is symmetric to rounding; a traced one passes.

    **Arguments:** as [`jaxsci.errors.require_finite`][]; `matrix`: shape `(n, n)`.

    **Raises:** `ValueError` with the largest difference between an entry and its mirror image.
    """
    if not is_concrete(matrix):
        return
    values = np.asarray(matrix)
    slack = 1e3 * float(np.finfo(values.dtype).eps) * float(np.abs(values).max(initial=0))
    if (skew := float(np.abs(values - values.T).max(initial=0))) > slack:
        raise ValueError(
            f"`{where}({name}=...)`: expected a symmetric matrix, got entries that differ by "
            f"{skew:.3g} from their mirror image; pass its mean with its transpose"
        )
