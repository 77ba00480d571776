"""What NaN and infinities must not slip through: on a CPU a maximum lets NaN pass (jaxlib 0.10)."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Inexact


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
    return jnp.sum(x * 0, axis) == 0


def largest(
    x: Inexact[Array, "*shape"], axis: int | tuple[int, ...] | None = None
) -> Float[Array, "..."]:
    """`max |x|` over some axes, by default all; NaN where there is one, and 0 of nothing.

    `jnp.max` passes NaN over on a CPU, and with it perhaps the largest number, where the array has
    4096 elements or more, those of a `vmap` included (jaxlib 0.10): a residual of NaN would count
    as none.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.precision import largest
        >>> float(largest(jnp.array([1.0, -3.0]))), float(largest(jnp.array([1.0, jnp.nan])))
        (3.0, nan)
    """
    size = jnp.abs(x)
    # The sum does not pass it over.
    return jnp.where(jnp.isnan(jnp.sum(size, axis)), jnp.nan, jnp.max(size, axis, initial=0))
