"""Any function of the inputs as a surrogate."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from jaxsci.gaussians import Gaussian

from ._key import takes_key
from ._output import Variance, as_gaussian, checked_variance


class FunctionSurrogate(eqx.Module):
    """A function behind the surrogate protocol; made by [`jaxsci.interop.from_function`][].

    - `function`: any callable; arrays in it (an Equinox module's) are parameters of this pytree.
    - `variance`: the variance of a function that gives none.
    - `readout`: turns what the function returns into one of the forms that are understood.
    """

    function: Callable[..., Any]
    variance: Variance = None
    readout: Callable[[Any], Any] | None = None

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The function's output as a Gaussian; `key` is handed on if the function takes one."""
        use_key = key is not None and takes_key(self.function)
        output = self.function(inputs, key=key) if use_key else self.function(inputs)
        return as_gaussian("from_function", output, inputs, self.variance, self.readout)


def from_function(
    function: Callable[..., Any],
    *,
    variance: ArrayLike | Callable[[Any], Array] | None = None,
    readout: Callable[[Any], Any] | None = None,
) -> FunctionSurrogate:
    """A plain function, or any callable, as a surrogate.

    **Arguments:**

    - `function`: called as `function(inputs)`, or `function(inputs, key=key)` if it takes a key
        and one is given. It returns a [`jaxsci.gaussians.Gaussian`][], a pair (mean, standard
        deviation) of arrays, or a mean alone, for which `variance` must be given. Arrays of any
        shape are flattened in C order.
    - `variance`: a scalar, an array of the mean's size, or a callable of the inputs that returns
        either; in the unit of the field squared. A scalar is no parameter; an array is held in
        training (by gradients: keep a decay of weights away); a callable's arrays are parameters.
    - `readout`: applied to what the function returns, e.g. to split two channels:
        `lambda y: (y[..., 0], jax.nn.softplus(y[..., 1]))`.

    **Returns:** a surrogate whose arrays are those of `function`, so that it can be trained.

    **Raises:** `TypeError` for something that cannot be called, or (when called) an output in none
    of these forms; `ValueError` for a negative variance, or a mean without one.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.interop import from_function
        >>> surrogate = from_function(lambda x: (jnp.sin(x), 0.1 * jnp.ones_like(x)))
        >>> surrogate(jnp.zeros(3)).marginal_std
        Array([0.1, 0.1, 0.1], dtype=float32)
    """
    if not callable(function):
        raise TypeError(
            f"`from_function(function)`: expected a callable, got {type(function).__name__}"
        )
    return FunctionSurrogate(function, checked_variance("from_function", variance), readout)
