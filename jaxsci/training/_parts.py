"""Gradients of a batch, a part of it at a time."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array


def value_and_grad_in_parts(
    loss: Callable[..., Array], parts: int
) -> Callable[..., tuple[Array, Any]]:
    """`jax.value_and_grad(loss)` of a whole batch, computed for a part of it at a time.

    Memory is that of a part. On a CPU it is also quicker, twice for a Fourier neural operator: the
    arrays of a part stay in the cache. On a GPU take as few parts as fit.

    **Arguments:**

    - `loss`: `loss(params, *batch)`, a mean over the leading axis of the arrays in `batch`.
    - `parts`: how many; they are of equal size.

    **Returns:** a function of `(params, *batch)` that returns the loss and its gradient with
    respect to `params`, arrays all.

    **Raises:** `ValueError` for fewer than 1 part, and when called, for a batch that they do not
    divide.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.training import value_and_grad_in_parts
        >>> loss = lambda w, x: jnp.mean((w * x) ** 2)
        >>> value_and_grad_in_parts(loss, 2)(jnp.array(1.0), jnp.arange(4.0))
        (Array(3.5, dtype=float32), Array(7., dtype=float32))
    """
    if parts < 1:
        raise ValueError(f"`value_and_grad_in_parts(parts=...)`: expected at least 1, got {parts}")
    whole = jax.value_and_grad(loss)

    def value_and_grad(params: Any, *batch: Any) -> tuple[Array, Any]:
        if parts == 1:
            return whole(params, *batch)
        for leaf in jax.tree.leaves(batch):
            if leaf.shape[0] % parts:
                raise ValueError(
                    f"`value_and_grad_in_parts(parts={parts})`: expected a batch that is a "
                    f"multiple of it, got {leaf.shape[0]}"
                )

        def add(total: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, whole(params, *part)), None

        split = jax.tree.map(lambda a: a.reshape(parts, -1, *a.shape[1:]), batch)
        shapes = jax.eval_shape(whole, params, *jax.tree.map(lambda a: a[0], split))
        start = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
        total, _ = jax.lax.scan(add, start, split)
        return jax.tree.map(lambda a: a / parts, total)

    return value_and_grad
