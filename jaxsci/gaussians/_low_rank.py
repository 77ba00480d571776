"""A diagonal plus a low-rank covariance, as an ensemble leaves it."""

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from jaxsci.precision import matmul

from ._register import register_covariance


class LowRank(lx.AbstractLinearOperator):
    """`diag(d) + U U'`: O(n r) storage and products for a factor of rank `r`.

    **Arguments:**

    - `diag`: `d`, shape `(n,)`, nonnegative.
    - `factor`: `U`, shape `(n, r)`.

    **Raises:** `ValueError` if the shapes do not fit.
    """

    diag: Float[Array, " n"]
    factor: Float[Array, "n r"]

    def __init__(self, diag: Float[Array, " n"], factor: Float[Array, "n r"]):
        if factor.ndim != 2 or diag.shape != factor.shape[:1]:
            raise ValueError(
                "`LowRank(diag, factor)`: expected shapes (n,) and (n, r), got "
                f"{diag.shape} and {factor.shape}"
            )
        self.diag = diag
        self.factor = factor

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return self.diag * vector + matmul(self.factor, matmul(self.factor.T, vector))

    def as_matrix(self) -> Float[Array, "n n"]:
        return jnp.diag(self.diag) + matmul(self.factor, self.factor.T)

    def transpose(self) -> "LowRank":
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(self.diag.shape, self.diag.dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return self.in_structure()


register_covariance(LowRank)
lx.diagonal.register(LowRank, lambda op: op.diag + jnp.sum(op.factor**2, axis=1))
