"""Checks of array values, made where the values are known (outside `jit`)."""

from typing import Any

import jax
import numpy as np
from jax.core import Tracer


def is_concrete(*trees: Any) -> bool:
    """Whether every array in `trees` has known values, i.e. none is being traced."""
    return not any(isinstance(leaf, Tracer) for leaf in jax.tree.leaves(trees))


def require_finite(where: str, name: str, array: Any) -> None:
    """Raise `ValueError` naming the first non-finite entry of `array`; a traced array passes.

    **Arguments:**

    - `where`: the public function that was called, e.g. `"condition"`.
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
        raise ValueError(
            f"`{where}({name}=...)`: expected finite numbers, got {values[index]} at index "
            f"{index} ({int(bad.sum())} of {values.size} entries are not finite)"
        )
