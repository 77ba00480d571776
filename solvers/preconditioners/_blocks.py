"""Small dense blocks: what is asked of a matrix of them, and their products and roots."""

from typing import Protocol, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.precision import all_finite
from jaxsci.solvers.sparse import inverse_cholesky, small_matmul


@runtime_checkable
class BlockMatrix(Protocol):
    """What is needed of [`jaxsci.solvers.sparse.BlockSymmetric`][]."""

    @property
    def diagonal(self) -> Float[Array, "N d d"]: ...
    @property
    def lower(self) -> Float[Array, "E d d"]: ...


def check_matrix(name: str, H: BlockMatrix, count: int, dim: int, given: int) -> None:
    """**Raises:** `ValueError` unless the blocks have the sizes of the plan."""
    expected = ((count, dim, dim), (given, dim, dim))
    if (H.diagonal.shape, H.lower.shape) != expected:
        raise ValueError(
            f"`{name}.factor(H)`: expected blocks of shapes {expected[0]} and {expected[1]}, as "
            f"planned, got {H.diagonal.shape} and {H.lower.shape}; plan again for this graph"
        )


def regular_diagonal(
    diagonal: Float[Array, "N d d"], damping: Float[Array, ""] | float
) -> Float[Array, "N d d"]:
    """The damped diagonal blocks, with a 1 where a variable does not act at all."""
    identity = jnp.eye(diagonal.shape[1], dtype=diagonal.dtype)[None]
    # What solves a system approximately is not to be differentiated; the solution is.
    diagonal, damping = jax.lax.stop_gradient((diagonal, damping))
    damped = diagonal + jnp.asarray(damping, diagonal.dtype) * identity
    idle = jnp.diagonal(damped, axis1=1, axis2=2) <= 0
    return damped + jnp.where(idle[:, :, None], identity, jnp.zeros_like(damped))


def times_transpose(a: Array, b: Array) -> Array:
    """`A B'` for batches of small matrices of one dtype."""
    return small_matmul(a, b.swapaxes(-1, -2), a.dtype)


def safe_inverse_root(blocks: Float[Array, "N d d"]) -> Float[Array, "N d d"]:
    """`X` with `X S X' = I`; that of the diagonal of `S` where `S` is not positive definite."""
    identity = jnp.eye(blocks.shape[1], dtype=blocks.dtype)[None]
    single = identity / jnp.sqrt(jnp.where(identity > 0, jnp.abs(blocks), jnp.ones_like(blocks)))
    X = inverse_cholesky(blocks)
    return jnp.where(all_finite(X, (1, 2))[:, None, None], X, single)
