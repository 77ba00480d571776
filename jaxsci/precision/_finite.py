"""Whether an array has neither NaN nor infinities, at little cost to the compiler."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Inexact


def all_finite(
    x: Inexact[Array, "*shape"], axis: int | tuple[int, ...] | None = None
) -> Bool[Array, "..."]:
    """`jnp.isfinite(x).all(axis)`, of which XLA makes a fortieth of the code on a CPU.

    (0.2 s each to compile, where a solver asks a dozen times.)

    **Arguments:**

    - `axis`: over which; by default over all of them.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.precision import all_finite
        >>> x = jnp.array([[1.0, 2.0], [jnp.nan, 3.0]])
        >>> bool(all_finite(x)), all_finite(x, 1).tolist()
        (False, [True, False])
    """
    # Not the largest: on a CPU the maximum of a large array passes NaN over (jaxlib 0.10).
    return jnp.sum(x * 0, axis) == 0
