"""A dense Cholesky factor, for small matrices and batches of them."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.precision import Policy, all_finite, matmul
from jaxsci.solvers.sparse import BlockSymmetric

from ._base import AbstractPreconditioner, dtypes
from ._blocks import BlockMatrix, check_matrix, regular_diagonal
from ._cholesky import PRECONDITIONER_RESULTS
from ._pattern import check_pattern
from ._rounding import stored_blocks
from ._shift import shifted


class DenseCholesky(eqx.Module):
    """The whole Cholesky factor as a dense matrix, whatever is zero in `H`.

    For up to about a thousand rows: a window of cameras, a small pose graph, batches of such. One
    program serves all matrices of as many blocks, where
    [`jaxsci.solvers.preconditioners.CompleteCholesky`][] has one for each pattern. A matrix that
    has no factor in so few bits is tried again with a growing multiple of its diagonal added.

    !!! example
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxsci.solvers.preconditioners import DenseCholesky
        >>> from jaxsci.solvers.sparse import BlockSymmetric
        >>> rows, cols = np.array([1, 2]), np.array([0, 1])
        >>> blocks = 2 * jnp.ones((3, 1, 1)), -jnp.ones((2, 1, 1))
        >>> H = BlockSymmetric(*blocks, jnp.asarray(rows), jnp.asarray(cols))
        >>> DenseCholesky().plan(rows, cols, 3, 1).factor(H).mv(jnp.array([1.0, 0.0, 1.0])).round(3)
        Array([1., 1., 1.], dtype=float32)
    """

    def plan(self, rows: np.ndarray, cols: np.ndarray, N: int, d: int) -> "DensePlan":
        """Where the blocks belong; on the host.

        **Arguments:** `rows > cols`: the strictly lower blocks of `H`, each once; `N` variables of
        dimension `d`.

        **Raises:** `ValueError` if the pattern is not of that kind.
        """
        rows, cols = np.asarray(rows), np.asarray(cols)
        check_pattern("DenseCholesky", rows, cols, N)
        return DensePlan(jnp.asarray(rows, jnp.int32), jnp.asarray(cols, jnp.int32), N, d)


class DensePlan(eqx.Module):
    """Of [`jaxsci.solvers.preconditioners.DenseCholesky`][]: where the blocks belong, `(E,)`."""

    rows: Int[Array, " E"]
    cols: Int[Array, " E"]
    count: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    def factor(
        self,
        H: BlockMatrix,
        *,
        policy: Policy | None = None,
        damping: Float[Array, ""] | float = 0.0,
    ) -> "DenseFactor":
        """The numeric phase, `M ~ (H + damping)^-1`, inside `jit`.

        Computed in float64 if the role `precondition` has that dtype, else in float32; stored in
        the role's. A variable whose block is zero (held) keeps what it is given.

        **Raises:** `ValueError` if `H` does not have the sizes of the plan.
        """
        check_matrix("DensePlan", H, self.count, self.dim, len(self.rows))
        compute = _computed(policy, H.diagonal.dtype)
        diagonal = regular_diagonal(H.diagonal.astype(compute), damping)
        lower = jax.lax.stop_gradient(H.lower.astype(compute))
        whole = BlockSymmetric(diagonal, lower, self.rows, self.cols).as_matrix()
        return dense_factor(whole, policy)


class DenseFactor(AbstractPreconditioner):
    """`M = X'X` with `X = L^-1`, lower triangular; after a breakdown the inverse of the diagonal.

    - `root`: `X`, its rows scaled to a largest entry of about 1 if it is stored in few bits.
    - `scale`: what its rows must be multiplied with, if that is so.
    - `shift`: the multiple of the diagonal of `H` that was added; 0 unless a pivot failed;
        after a breakdown, more than the last that was tried.
    - `result`: a member of [`jaxsci.solvers.preconditioners.PRECONDITIONER_RESULTS`][].
    """

    root: Float[Array, "n n"]
    scale: Float[Array, " n"] | None
    shift: Float[Array, ""]
    result: PRECONDITIONER_RESULTS
    size: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        root, x = self.root.astype(self.dtype), vector.astype(self.dtype)
        x = matmul(root, x)
        if self.scale is not None:
            # The scale of `X`, then that of its transpose.
            x = x * self.scale * self.scale
        return matmul(x, root)


def dense_factor(matrix: Float[Array, "n n"], policy: Policy | None) -> DenseFactor:
    """The factor of a dense matrix with positive diagonal, of which the lower triangle counts."""
    _, wide, stored = dtypes(policy, matrix.dtype)
    matrix = jax.lax.stop_gradient(matrix.astype(_computed(policy, matrix.dtype)))
    size, diagonal = len(matrix), jnp.diagonal(matrix)

    # By LAPACK on a CPU, in a fifth of the time that `inverse_cholesky` takes. Two such
    # factorisations of one program that do not depend on each other could wait for the same
    # threads (see there); the systems of a minimisation do.
    def attempt(shift: Array) -> tuple[Array, Array]:
        lower = jnp.linalg.cholesky(matrix + jnp.diag(shift * diagonal), symmetrize_input=False)
        root = jsl.solve_triangular(lower, jnp.eye(size, dtype=lower.dtype), lower=True)
        return root, all_finite(root)

    root, shift, sound = shifted(attempt, jnp.zeros_like(matrix), matrix.dtype)
    known = jnp.isfinite(diagonal) & (diagonal > 0)
    single = jnp.where(known, 1 / jnp.sqrt(jnp.where(known, diagonal, 1)), 1)
    root = jnp.where(sound, root, jnp.diag(single))
    rows, scale = stored_blocks(root[:, None], stored, wide)
    results = PRECONDITIONER_RESULTS
    result = results.where(shift > 0, results.shifted, results.successful)
    return DenseFactor(
        root=rows[:, 0],
        scale=scale,
        shift=shift,
        result=results.where(sound, result, results.breakdown),
        size=size,
        dtype=wide,
    )


def _computed(policy: Policy | None, given: jnp.dtype) -> jnp.dtype:
    """The dtype of the numeric phase."""
    stored = dtypes(policy, given)[2]
    return jnp.dtype("float64" if stored == "float64" else "float32")
