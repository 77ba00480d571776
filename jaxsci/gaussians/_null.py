"""The directions in which a symmetric matrix is negligible."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from jaxsci.precision import matmul


def null_projector(matrix: Float[Array, "k k"], negligible: ArrayLike) -> Float[Array, "k k"]:
    """The projector on the eigenvectors of `matrix` whose eigenvalues are at most `negligible`.

    The directions are chosen, not differentiated: the derivative is 0. Adding the projector to a
    singular matrix makes it regular, and leaves it as it was on its range.

    **Arguments:**

    - `matrix`: shape `(k, k)`, symmetric positive semidefinite up to rounding.
    - `negligible`: in the unit of the matrix; about `k eps` times its largest entry is rounding.

    !!! example
        >>> import jax.numpy as jnp
        >>> null_projector(jnp.diag(jnp.array([1.0, 0.0])), 1e-6)
        Array([[0., 0.],
               [0., 1.]], dtype=float32)
    """
    values, vectors = jnp.linalg.eigh(jax.lax.stop_gradient(matrix))
    null = (values <= jax.lax.stop_gradient(negligible)).astype(matrix.dtype)
    return matmul(vectors * null[None, :], vectors.T)
