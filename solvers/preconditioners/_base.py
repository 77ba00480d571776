"""What all preconditioners are: symmetric positive operators on flat vectors."""

import abc
from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from jaxsci.precision import Policy


@runtime_checkable
class Plannable(Protocol):
    """Settings of a preconditioner of [`jaxsci.solvers.preconditioners`][]."""

    def plan(self, rows: np.ndarray, cols: np.ndarray, N: int, d: int) -> Any:
        """The symbolic phase, on the host."""
        ...


class AbstractPreconditioner(lx.AbstractLinearOperator):
    """`M ~ H^-1`: a symmetric positive operator, given by its product with a flat vector.

    Lineax's CG takes it as `options={"preconditioner": M}`. Vectors, and the sums of products,
    are in the dtype of the role `krylov`; what is multiplied is stored in that of `precondition`.
    """

    size: eqx.AbstractVar[int]
    dtype: eqx.AbstractVar[str]

    @abc.abstractmethod
    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        """`M v`."""

    def as_matrix(self) -> Float[Array, "n n"]:
        return jax.vmap(self.mv, out_axes=1)(jnp.eye(self.size, dtype=self.dtype))

    def transpose(self) -> "AbstractPreconditioner":
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.size,), jnp.dtype(self.dtype))

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((self.size,), jnp.dtype(self.dtype))


def dtypes(policy: Policy | None, given: jnp.dtype) -> tuple[str, str, str]:
    """The names of the dtypes of the numeric phase, of vectors, and of what is stored.

    Without a policy all are the given dtype (float32 if that is narrower).
    """
    if policy is None:
        wide = "float64" if given == jnp.float64 else "float32"
        return wide, wide, wide
    # `Policy.dtype` refuses float64 while 64-bit types are off.
    vectors, stored = policy.dtype("krylov").name, policy.dtype("precondition").name
    # There is no factorisation in 16 bits, and no use for one: it is done rarely.
    return "float64" if vectors == "float64" else "float32", vectors, stored


for _question in (lx.is_symmetric, lx.is_positive_semidefinite):
    _question.register(AbstractPreconditioner, lambda _: True)
for _question in (
    lx.is_diagonal,
    lx.is_tridiagonal,
    lx.has_unit_diagonal,
    lx.is_lower_triangular,
    lx.is_upper_triangular,
    lx.is_negative_semidefinite,
):
    _question.register(AbstractPreconditioner, lambda _: False)
for _change in (lx.linearise, lx.conj):
    _change.register(AbstractPreconditioner, lambda operator: operator)


@lx.materialise.register(AbstractPreconditioner)
def _(operator: AbstractPreconditioner):
    return lx.MatrixLinearOperator(operator.as_matrix(), lx.positive_semidefinite_tag)


@lx.diagonal.register(AbstractPreconditioner)
def _(operator: AbstractPreconditioner):
    return jnp.diagonal(operator.as_matrix())
