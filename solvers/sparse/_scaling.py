"""Scaling the columns of a Jacobian so that the diagonal blocks of `J'J` are the identity."""

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsci.precision import all_finite

from ._jacobian import BlockJacobian
from ._small import inverse_cholesky


def block_scaling(
    J: BlockJacobian, held: tuple[Bool[Array, " N"] | None, ...] | None = None
) -> tuple[Float[Array, "N d d"], ...]:
    """`C^-T` with `C C'` the diagonal blocks of `J'J`, one array per variable group.

    `J C^-T` ([`jaxsci.solvers.sparse.BlockJacobian.scale_columns`][]) then has columns of length
    1, with diagonal blocks `I` in its Gram matrix: Marquardt's damping becomes `+ damping I`, and
    no entry can overflow in float16. With `y` the solution of the scaled problem, `x = C^-T y`,
    which is `BlockDiagonal(scales).mv(y)`.

    A column that is zero, or a variable that is held, is scaled by 0: it does not move. A block
    that is singular to rounding is shifted by a few `eps` of its diagonal.

    **Arguments:**

    - `J`: the Jacobian; its dtype is the working precision.
    - `held`: for each variable group which variables must not move, shape `(N,)`, or `None`.

    **Raises:** `ValueError` if a mask does not have the shape of its group.
    """
    masks = (None,) * len(J.sizes) if held is None else held
    if [None if mask is None else mask.shape for mask in masks] != [
        None if mask is None else (size[0],) for mask, size in zip(masks, J.sizes, strict=False)
    ] or len(masks) != len(J.sizes):
        raise ValueError(
            f"`block_scaling(held=...)`: expected one mask per variable group, of "
            f"{[size[0] for size in J.sizes]} variables, got "
            f"{[None if mask is None else mask.shape for mask in masks]}"
        )
    return tuple(
        _inverse_factor(_wide(gram), mask).astype(gram.dtype)
        for gram, mask in zip(J.gram_diagonal(), masks, strict=True)
    )


def _wide(gram: Array) -> Array:
    """In a dtype that small factorisations exist in; what has overflowed stays infinite."""
    return gram.astype(jnp.float32) if gram.dtype.itemsize < 4 else gram


def _inverse_factor(gram: Array, held: Array | None) -> Array:
    d = gram.shape[-1]
    eye = jnp.eye(d, dtype=gram.dtype)[None]
    size = jnp.diagonal(gram, axis1=1, axis2=2)
    touched = size > 0
    inverse = jnp.where(touched, 1 / jnp.sqrt(jnp.where(touched, size, 1)), 0)
    # Equilibrated first: units of metres and radians must not look like rank deficiency.
    unit = gram * inverse[:, :, None] * inverse[:, None, :]
    shift = jnp.where(touched, 4 * d * jnp.finfo(gram.dtype).eps, 1)
    factor = inverse_cholesky(unit + shift[:, :, None] * eye)
    # Where even that is not positive definite the columns are scaled one by one.
    factor = jnp.where(all_finite(factor, (1, 2))[:, None, None], factor, eye)
    scale = factor.swapaxes(1, 2) * inverse[:, :, None]
    return scale if held is None else jnp.where(held[:, None, None], 0, scale)
