"""Matrix products that are as precise as their dtype says."""

from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

Axes = tuple[Sequence[int], Sequence[int]]


def matmul(a: Array, b: Array) -> Array:
    """`a @ b` without the reduced-precision passes that GPUs and TPUs take by default.

    The default precision of a float32 product is TF32 or bfloat16 there, with errors of 1e-3;
    conservation to rounding needs all 24 bits.
    """
    return jnp.matmul(a, b, precision=lax.Precision.HIGHEST)


def contract(
    a: Array,
    b: Array,
    axes: Axes,
    batch: Axes = ((), ()),
    *,
    compute: Any = None,
    output: Any = None,
) -> Array:
    """The sum of products of `a` and `b` over pairs of axes, in the dtypes that a policy gives.

    Factors of 16 bits are multiplied as such and summed in float32; wider ones are multiplied in
    full, as in [`jaxsci.precision.matmul`][].

    **Arguments:**

    - `axes`: the axes of `a` and those of `b` that are summed over, in pairs.
    - `batch`: the axes of `a` and of `b` that are kept as one, in pairs.
    - `compute`: the dtype of the factors; by default they keep theirs, which must be the same.
    - `output`: the dtype of the result; by default that of the factors.

    **Returns:** the batch axes, then the remaining axes of `a`, then those of `b`, each in order.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.precision import contract
        >>> a, b = jnp.ones((2, 4, 3)), jnp.ones((4, 5))
        >>> contract(a, b, ([1], [0]), compute=jnp.bfloat16, output=jnp.float32).shape
        (2, 3, 5)
    """
    compute = a.dtype if compute is None else jnp.dtype(compute)
    output = compute if output is None else jnp.dtype(output)
    sums = jnp.float32 if jnp.finfo(compute).bits < 32 else compute
    product = lax.dot_general(
        a.astype(compute),
        b.astype(compute),
        (axes, batch),
        precision=lax.Precision.HIGHEST,
        preferred_element_type=sums,
    )
    return product.astype(output)
