"""What every metric asks of its arrays: one shape, and the dtype of the prediction."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsci.errors import is_concrete


def as_floating(where: str, name: str, value: Any) -> Array:
    """`value` as a floating-point array, or a `TypeError` that says what it is instead."""
    array = jnp.asarray(value)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(
            f"`{where}({name}=...)`: expected floating-point numbers, got dtype {array.dtype}; "
            f"convert with `.astype(float)`"
        )
    return array


def as_like(where: str, name: str, value: Any, first_name: str, first: Array) -> Array:
    """`value` in the dtype of `first`, which must have the same shape."""
    array = jnp.asarray(value, first.dtype)
    if array.shape != first.shape:
        raise ValueError(
            f"`{where}({name}=...)`: expected shape {first.shape}, that of `{first_name}`, got "
            f"{array.shape}; metrics take one sample, use `jax.vmap` for a batch"
        )
    return array


def require_nonempty(where: str, name: str, array: Array) -> None:
    """Raises `ValueError` if there is nothing to average over."""
    if array.size == 0:
        raise ValueError(f"`{where}({name}=...)`: expected at least one value, got none")


def require_nonnegative(where: str, name: str, array: Array, what: str = "variances") -> None:
    """Raises `ValueError` at the first negative entry; a traced array passes."""
    if not is_concrete(array):
        return
    values = np.asarray(array)
    bad = values < 0
    if bad.any():
        index = tuple(int(i) for i in np.argwhere(bad)[0])
        raise ValueError(
            f"`{where}({name}=...)`: expected {what} >= 0, got {values[index]} at index {index}"
        )


def moments(where: str, mean: Any, var: Any, truth: Any) -> tuple[Array, Array, Array]:
    """The three arrays that a metric of a Gaussian prediction needs, checked."""
    mean = as_floating(where, "mean", mean)
    require_nonempty(where, "mean", mean)
    var = as_like(where, "var", var, "mean", mean)
    truth = as_like(where, "truth", truth, "mean", mean)
    require_nonnegative(where, "var", var)
    return mean, var, truth


def require_level(where: str, level: Any) -> None:
    """Raises `ValueError` unless every probability in `level` is strictly between 0 and 1."""
    if not is_concrete(level):
        return
    values = np.asarray(level)
    if not np.issubdtype(values.dtype, np.floating) or not ((values > 0) & (values < 1)).all():
        raise ValueError(
            f"`{where}(level=...)`: expected probabilities between 0 and 1 (0.95, not 95), got "
            f"{level}"
        )
