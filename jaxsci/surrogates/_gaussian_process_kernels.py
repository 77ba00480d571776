"""Kernels for Gaussian processes: stationary ones by name, products with one factor per axis."""

import functools
import importlib
from collections.abc import Callable, Sequence
from types import ModuleType
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.errors import is_concrete, lookup

_NAMES = {
    "exponential": "Exp",
    "matern32": "Matern32",
    "matern52": "Matern52",
    "squared-exponential": "ExpSquared",
    "rational-quadratic": "RationalQuadratic",
}


def tinygp_module(where: str, name: str) -> ModuleType:
    """The module `name` of tinygp, imported on first use."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"`{where}`: expected tinygp to be installed, got {error}; "
            "`pip install 'jaxsci[gp]'` installs it"
        ) from error


def stationary_kernel(
    name: str, lengthscales: ArrayLike, *, amplitude: ArrayLike = 1.0
) -> Callable[[Array, Array], Array]:
    """A tinygp kernel with one length scale per coordinate.

    `k(a, b) = amplitude f(|(a - b) / lengthscales|_2)`, with the Euclidean norm (tinygp's own
    default is the 1-norm).

    **Arguments:**

    - `name`: `"exponential"`, `"matern32"`, `"matern52"`, `"squared-exponential"` or
        `"rational-quadratic"`.
    - `lengthscales`: positive, shape `(d,)`, in the units of the coordinates; a scalar is shared
        by all coordinates.
    - `amplitude`: the prior variance, positive, in the unit of the field squared.

    **Returns:** a `tinygp.kernels.Kernel`, a pytree whose arrays are the hyper-parameters.

    **Raises:** `ValueError` for an unknown name or a hyper-parameter that is not positive,
    `ImportError` where the extra `gp` is not installed.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.surrogates import stationary_kernel
        >>> kernel = stationary_kernel("matern52", (0.5, 0.1), amplitude=4.0)
        >>> kernel(jnp.zeros((3, 2)), jnp.zeros((5, 2))).shape
        (3, 5)
    """
    class_name = lookup("kernel", name, _NAMES)
    scales, size = jnp.asarray(lengthscales), jnp.asarray(amplitude)
    for argument, array, ndims in (("lengthscales", scales, (0, 1)), ("amplitude", size, (0,))):
        if array.ndim not in ndims:
            raise ValueError(
                f"`stationary_kernel({argument}=...)`: expected "
                f"{'a scalar or shape (d,)' if 1 in ndims else 'a scalar'}, got {array.shape}"
            )
        if is_concrete(array) and not (np.asarray(array) > 0).all():
            raise ValueError(
                f"`stationary_kernel({argument}=...)`: expected positive numbers, got {array}"
            )
    kernels = tinygp_module("stationary_kernel", "tinygp.kernels")
    transforms = tinygp_module("stationary_kernel", "tinygp.transforms")
    # The inner scale is the integer 1, not an array: one length scale too many could not be fitted.
    extra = {"alpha": jnp.asarray(1.0)} if name == "rational-quadratic" else {}
    inner = getattr(kernels, class_name)(scale=1, distance=kernels.distance.L2Distance(), **extra)
    return size * transforms.Cholesky(_inexact(scales), inner)


class SeparableKernel(eqx.Module):
    """A product of kernels, one per coordinate: `k(a, b) = prod_i k_i(a_i, b_i)`.

    On a tensor grid its covariance is the Kronecker product of one small matrix per axis, which
    [`jaxsci.surrogates.GaussianProcess.prior`][] makes use of.

    **Arguments:**

    - `kernels`: one kernel of a single coordinate per axis, in the order of the coordinates; each
        is called as `kernel(a, b)` with shapes `(n,)` and `(m,)`.

    **Raises:** `ValueError` for no kernel, `TypeError` for one that is not callable.

    !!! example
        >>> import jax.numpy as jnp
        >>> from tinygp.kernels import ExpSquared, Matern52
        >>> from jaxsci.surrogates import SeparableKernel
        >>> kernel = SeparableKernel(2.0 * Matern52(0.3), ExpSquared(0.1))
        >>> kernel(jnp.zeros((3, 2)), jnp.zeros((4, 2))).shape
        (3, 4)
    """

    kernels: tuple[Any, ...]

    def __init__(self, *kernels: Callable[[Array, Array], Array]):
        if not kernels:
            raise ValueError("`SeparableKernel(...)`: expected one kernel per axis, got none")
        for i, kernel in enumerate(kernels):
            if not callable(kernel):
                raise TypeError(
                    f"`SeparableKernel(...)`: expected callables, got {type(kernel).__name__} for "
                    f"axis {i}; pass e.g. `tinygp.kernels.Matern52(0.3)`"
                )
        self.kernels = kernels

    def __call__(self, a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Float[Array, "n m"]:
        """The covariance between two sets of points."""
        if a.shape[1] != len(self.kernels):
            raise ValueError(
                f"`SeparableKernel(...)`: expected points with {len(self.kernels)} coordinates, "
                f"one per kernel, got {a.shape[1]}"
            )
        parts = [k(a[:, i], b[:, i]) for i, k in enumerate(self.kernels)]
        return functools.reduce(jnp.multiply, parts)

    def factors(self, axes: Sequence[Float[Array, " _"]]) -> tuple[Float[Array, "_ _"], ...]:
        """One covariance matrix per axis of the tensor grid with these axis points."""
        if len(axes) != len(self.kernels):
            raise ValueError(
                f"`SeparableKernel.factors(axes)`: expected {len(self.kernels)} axes, one per "
                f"kernel, got {len(axes)}"
            )
        return tuple(k(x, x) for k, x in zip(self.kernels, axes, strict=True))


def _inexact(array: Array) -> Array:
    floating = jnp.issubdtype(array.dtype, jnp.floating)
    return array if floating else array.astype(jnp.result_type(float))
