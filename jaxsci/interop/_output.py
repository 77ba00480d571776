"""What the models of others return, as a Gaussian."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from jaxsci.errors import is_concrete, require_finite
from jaxsci.gaussians import Gaussian

Variance = Any  # an array, a callable of the inputs, or None
_FORMS = "a Gaussian, a pair (mean, standard deviation) of arrays, or one array"
_PARTS = ("mean", "standard deviation")


def checked_variance(where: str, variance: ArrayLike | Callable[[Any], Array] | None) -> Variance:
    """`variance` as an array, or a number where it is one, refused where it is negative."""
    if variance is None or callable(variance):
        return variance
    array = jnp.asarray(variance)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        array = array.astype(jnp.result_type(float))
    require_finite(where, "variance", array)
    if is_concrete(array) and (np.asarray(array) < 0).any():
        raise ValueError(
            f"`{where}(variance=...)`: expected numbers >= 0, got {np.asarray(array).min()}"
        )
    # Python's number is no parameter: no decay of weights makes it smaller.
    return float(array) if is_concrete(array) and array.ndim == 0 else array


def as_gaussian(
    where: str,
    output: Any,
    inputs: Any,
    variance: Variance,
    readout: Callable[[Any], Any] | None,
) -> Gaussian:
    """The Gaussian that `output` stands for: see [`jaxsci.interop.from_function`][]."""
    if readout is not None:
        output = readout(output)
    given = variance is not None
    if isinstance(output, Gaussian):
        _refuse(where, given, "a Gaussian")
        return output
    if isinstance(output, tuple | list):
        _refuse(where, given, "a pair with a standard deviation")
        if len(output) != 2 or not all(eqx.is_array_like(part) for part in output):
            raise TypeError(
                f"`{where}(...)`: expected a model that returns {_FORMS}, got a "
                f"{type(output).__name__} of {len(output)}; `readout=` can rearrange it"
            )
        mean, std = (_floats(where, name, part) for name, part in zip(_PARTS, output, strict=True))
        std = _like(where, "standard deviation", std, mean)
        if is_concrete(std) and (np.asarray(std) < 0).any():
            raise ValueError(
                f"`{where}(...)`: expected standard deviations >= 0, got {np.asarray(std).min()}; "
                "if it is a log-variance, `readout=` can transform it"
            )
        return Gaussian.diagonal(mean.ravel(), std**2)
    if not eqx.is_array_like(output):
        raise TypeError(
            f"`{where}(...)`: expected a model that returns {_FORMS}, got "
            f"{type(output).__name__}; `readout=` can rearrange it"
        )
    mean = _floats(where, "mean", output)
    if not given:
        raise ValueError(
            f"`{where}(variance=...)`: expected a variance, for the model returns one array, a "
            "mean, without one; pass `variance=` (a number, an array or a callable of the inputs), "
            "or return (mean, standard deviation)"
        )
    # A stated variance is held: descent could make it negative. A callable one can be trained.
    values = jnp.asarray(variance(inputs) if callable(variance) else frozen(variance))
    return Gaussian.diagonal(
        mean.ravel(), _like(where, "variance", values.astype(mean.dtype), mean)
    )


def _floats(where: str, name: str, values: Any) -> Array:
    array = jnp.asarray(values)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"`{where}(...)`: expected a {name} of real floats, got {array.dtype}")
    return array


def _like(where: str, name: str, values: Array, mean: Array) -> Array:
    """`values` flat and of the mean's size; a scalar is shared by all points."""
    if values.size == 1 and values.ndim == 0:
        return jnp.broadcast_to(values, (mean.size,)).astype(mean.dtype)
    if values.size != mean.size:
        raise ValueError(
            f"`{where}(...)`: expected a {name} of the mean's size {mean.size} (shape "
            f"{mean.shape}) or a scalar, got shape {values.shape}"
        )
    return values.ravel().astype(mean.dtype)


def _refuse(where: str, given: bool, form: str) -> None:
    if given:
        raise ValueError(
            f"`{where}(variance=...)`: expected None, for the model returns {form}; leave "
            "`variance` out"
        )


def frozen(tree: Any) -> Any:
    """`tree` with no gradient through its arrays: state that is not trained by descent."""

    def stop(leaf: Any) -> Any:
        return jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf

    return jax.tree.map(stop, tree)
