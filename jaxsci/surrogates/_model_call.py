"""Calling any model, and reading a mean and a variance from what it returns."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.gaussians import Gaussian
from jaxsci.interop import takes_key


def call_model(model: Callable[..., Any], inputs: Any, key: PRNGKeyArray | None) -> Any:
    """`model(inputs, key=key)`, or `model(inputs)` without a key or for a model that takes none."""
    return model(inputs) if key is None or not takes_key(model) else model(inputs, key=key)


def moments(where: str, output: Any) -> tuple[Float[Array, " n"], Float[Array, " n"] | None]:
    """The flat mean, and the marginal variance where the model gave a Gaussian."""
    if isinstance(output, Gaussian):
        return output.mean, output.marginal_var
    if isinstance(output, tuple | list | dict) or output is None:
        raise TypeError(
            f"`{where}`: expected a model that returns an array or a Gaussian, got "
            f"{type(output).__name__}; wrap it with `jaxsci.interop.from_function`"
        )
    array = jnp.asarray(output)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"`{where}`: expected a model that returns floats, got {array.dtype}")
    return array.ravel(), None


def pooled(
    samples: Float[Array, "M n"],
    variances: Float[Array, "M n"] | None,
    variance_floor: float,
) -> Gaussian:
    """Mean and unbiased covariance of samples, plus the average of their own variances."""
    zero = jnp.zeros(samples.shape[1], samples.dtype)
    own = zero if variances is None else jnp.mean(variances, axis=0)
    return Gaussian.from_samples(samples, jnp.maximum(own, variance_floor))


def checked_floor(where: str, value: float) -> float:
    """`variance_floor` as a float, refused where it is no variance."""
    if not (isinstance(value, int | float) and 0 <= value < float("inf")):
        raise ValueError(f"`{where}(variance_floor=...)`: expected a number >= 0, got {value!r}")
    return float(value)
