"""A Kronecker-product covariance, as a separable space-time prior has."""

import functools
import math

import jax
import jax.numpy as jnp
import lineax as lx
from jax import lax
from jaxtyping import Array, Float

from jaxsci.errors import require_symmetric

from ._register import register_covariance


def kronecker_mv(factors: tuple[Array, ...], vector: Float[Array, " n"]) -> Array:
    """`(A_1 x A_2 x ...) v` one factor at a time, C order: O(n (n_1 + n_2 + ...))."""
    sizes = tuple(f.shape[1] for f in factors)
    array = vector.reshape(sizes)
    for factor in factors:  # contracts the first axis and puts the result last: one full turn
        array = jnp.tensordot(array, factor, axes=((0,), (1,)), precision=lax.Precision.HIGHEST)
    return array.ravel()


class Kronecker(lx.AbstractLinearOperator):
    """`K_1 x K_2 x ...` for symmetric positive semidefinite factors.

    **Arguments:**

    - `factors`: one matrix per axis of the grid, in the order of its axes; shapes `(n_i, n_i)`.

    **Raises:** `ValueError` if a factor is not square or not symmetric, or if there is none.
    """

    factors: tuple[Float[Array, "_ _"], ...]

    def __init__(self, *factors: Float[Array, "_ _"]):
        if not factors:
            raise ValueError("`Kronecker(...)`: expected at least one factor, got none")
        for i, factor in enumerate(factors):
            if factor.ndim != 2 or factor.shape[0] != factor.shape[1]:
                raise ValueError(
                    f"`Kronecker(...)`: expected square factors, got shape {factor.shape} for "
                    f"factor {i}"
                )
            require_symmetric("Kronecker", f"factors[{i}]", factor)
        self.factors = tuple(factors)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The number of points along each axis."""
        return tuple(f.shape[0] for f in self.factors)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return kronecker_mv(self.factors, vector)

    def as_matrix(self) -> Float[Array, "n n"]:
        return functools.reduce(jnp.kron, self.factors)

    def transpose(self) -> "Kronecker":
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((math.prod(self.sizes),), self.factors[0].dtype)

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return self.in_structure()


register_covariance(Kronecker)


@lx.diagonal.register(Kronecker)
def _(operator: Kronecker) -> Array:
    outer = functools.reduce(jnp.multiply.outer, [jnp.diagonal(f) for f in operator.factors])
    return outer.ravel()
