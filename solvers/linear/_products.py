"""Products with a matrix in the dtypes of a policy, whatever the operator."""

import dataclasses
from collections.abc import Callable

import jax
import jax.flatten_util
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array

from jaxsci.precision import Policy
from jaxsci.solvers.sparse import BlockJacobian, BlockRows, SparseEntries, TransposedBlockJacobian


def natural_policy(operator: lx.AbstractLinearOperator) -> Policy:
    """The policy in which every solver role has the dtype of the operator."""
    dtype = operator_dtype(operator)
    roles = ("residual", "gradient", "matrix", "product", "krylov", "precondition", "update")
    return dataclasses.replace(Policy(), **dict.fromkeys(roles, dtype.name))


def operator_dtype(operator: lx.AbstractLinearOperator) -> jnp.dtype:
    """The widest dtype of what goes into an operator and comes out of it."""
    leaves = jax.tree.leaves((operator.in_structure(), operator.out_structure()))
    widest = max((leaf.dtype for leaf in leaves), key=lambda dtype: jnp.finfo(dtype).bits)
    return jnp.dtype(widest)


def flat_product(operator: lx.AbstractLinearOperator, out: jnp.dtype) -> Callable[[Array], Array]:
    """`operator.mv` from a flat vector of any dtype to a flat vector of dtype `out`."""
    structure = operator.in_structure()
    if isinstance(structure, jax.ShapeDtypeStruct) and structure.ndim == 1:
        return lambda vector: operator.mv(vector.astype(structure.dtype)).astype(out)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), structure)
    dtype, unravel = operator_dtype(operator), jax.flatten_util.ravel_pytree(zeros)[1]

    def product(vector: Array) -> Array:
        result = operator.mv(unravel(vector.astype(dtype)))
        return jax.flatten_util.ravel_pytree(result)[0].astype(out)

    return product


def lowered(operator: lx.AbstractLinearOperator, policy: Policy) -> lx.AbstractLinearOperator:
    """The operator with its numbers stored in `policy.matrix` and summed in `policy.product`.

    **Raises:** `TypeError` if this would lower the precision of an operator that cannot be cast.
    """
    stored, product = policy.dtype("matrix"), policy.dtype("product")
    if stored == product == operator_dtype(operator):
        return operator
    if isinstance(operator, (BlockJacobian, SparseEntries)):
        return operator.under(policy)
    if isinstance(operator, TransposedBlockJacobian):
        return operator.jacobian.under(policy).transpose()
    if isinstance(operator, lx.MatrixLinearOperator):
        # One factor that touches one variable: the same sums as any other.
        matrix = operator.as_matrix()
        rows = BlockRows((matrix[None],), (jnp.zeros((1,), jnp.int32),), (0,))
        return BlockJacobian((rows,), ((1, matrix.shape[1]),)).under(policy)
    if jnp.finfo(stored).bits < jnp.finfo(operator_dtype(operator)).bits:
        raise TypeError(
            f"`cgnr(policy=...)`: cannot store {type(operator).__name__} in {stored} for its "
            "products; use a BlockJacobian or a lineax.MatrixLinearOperator, or "
            f"`matrix={operator_dtype(operator).name!r}`"
        )
    return operator
