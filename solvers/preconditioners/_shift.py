"""Shifts of a diagonal, until there is a complete factor in the bits at hand."""

from collections.abc import Callable
from typing import TypeVar

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, PyTree

T = TypeVar("T", bound=PyTree)
# The first shift is a few roundings of the compute dtype: less is not seen by the pivots.
_FIRST, _GROWTH, _TRIES = 8.0, 8.0, 8


def shifted(
    attempt: Callable[[Float[Array, ""]], tuple[T, Bool[Array, ""]]], empty: T, dtype: jnp.dtype
) -> tuple[T, Float[Array, ""], Bool[Array, ""]]:
    """The first factor that does not break down, of those with growing shifts from zero.

    **Arguments:**

    - `attempt`: the factor with a multiple of the diagonal added, and whether it is sound.
    - `empty`: arrays like those of a factor.
    - `dtype`: in which it is computed.

    **Returns:** the factor, its shift, and whether it is sound.
    """
    first = jnp.asarray(_FIRST * float(jnp.finfo(dtype).eps), dtype)

    def step(state):
        tried, shift = state[0], state[1]
        factor, ok = attempt(shift)
        further = jnp.where(shift > 0, shift * _GROWTH, first)
        return tried + 1, jnp.where(ok, shift, further), ok, factor

    _, shift, ok, factor = jax.lax.while_loop(
        lambda state: ~state[2] & (state[0] < _TRIES),
        step,
        (jnp.zeros((), jnp.int32), jnp.zeros((), dtype), jnp.asarray(False), empty),
    )
    return factor, shift, ok
