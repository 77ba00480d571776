"""Calling an operator of any number of arguments as surrogates are called: with one."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
from jaxtyping import Array, PRNGKeyArray

from jaxsci.interop import takes_key


def call_operator(operator: Callable[..., Array], inputs: Any, key: PRNGKeyArray | None) -> Array:
    """`operator(x)` or, for a tuple, `operator(*inputs)`; with the key, if it takes one."""
    arguments = inputs if isinstance(inputs, tuple) else (inputs,)
    if key is None or not takes_key(operator):
        return operator(*arguments)
    return operator(*arguments, key=key)


class Unpack(eqx.Module):
    """An operator of several arguments as a function of one, the tuple of them.

    For [`jaxsci.surrogates.DeepEnsemble`][] and [`jaxsci.surrogates.MCDropout`][], which call
    `model(inputs, key=key)`.

    **Arguments:** `operator`: called as `operator(*inputs)`, with `key=key` if it takes one.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
        >>> from jaxsci.operators.constrained import make_operator
        >>> from jaxsci.operators.uncertain import Unpack
        >>> from jaxsci.surrogates import MCDropout
        >>> wall = BoundaryConditions("x", {("x", "low"): Dirichlet()})
        >>> operator = make_operator("fno-enforced", 1, 1, wall, modes=4, width=8, dropout=0.1,
        ...                          key=jax.random.key(0))
        >>> inputs = jnp.ones((1, 16)), {("x", "low"): 2.0}
        >>> prediction = MCDropout(Unpack(operator), 8)(inputs, key=jax.random.key(1))
        >>> float(prediction.mean[0]), float(prediction.marginal_std[0])
        (2.0, 0.0)
    """

    operator: Callable[..., Array]

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Array:
        """The operator's output for one sample."""
        return call_operator(self.operator, inputs, key)
