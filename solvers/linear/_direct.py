"""Direct factorisations of block-sparse symmetric matrices, behind one interface."""

from typing import Literal, Protocol, runtime_checkable

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lineax as lx
import numpy as np
from jaxtyping import Array, Float

from jaxsci.errors import is_concrete, lookup
from jaxsci.precision import all_finite
from jaxsci.solvers.sparse import BlockSymmetric, register_positive

from ._host import HostPlan
from ._results import DIRECT_RESULTS
from ._supernodal import SupernodalPlan, plan_supernodal


@runtime_checkable
class DirectPlan(Protocol):
    """What the `plan` of every direct method is: it factors matrices of one structure."""

    def factor(
        self, H: BlockSymmetric, *, damping: Float[Array, ""] | float = 0.0
    ) -> lx.AbstractLinearOperator:
        """The operator `(H + damping)^-1`, with a field `result`."""
        ...


class DenseFactor(lx.AbstractLinearOperator):
    """The inverse of a small symmetric matrix, by its dense Cholesky factor.

    `result` is a member of [`jaxsci.solvers.linear.DIRECT_RESULTS`][].
    """

    lower: Float[Array, "n n"]
    result: DIRECT_RESULTS

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        return jsl.cho_solve((self.lower, True), vector)

    def as_matrix(self) -> Float[Array, "n n"]:
        return jsl.cho_solve((self.lower, True), jnp.eye(len(self.lower), dtype=self.lower.dtype))

    def transpose(self) -> "DenseFactor":
        return self

    def in_structure(self):
        return eqx.filter_eval_shape(lambda lower: lower[0], self.lower)

    def out_structure(self):
        return self.in_structure()


register_positive(DenseFactor)


class DenseCholesky(eqx.Module):
    """Cholesky factorisation of the matrix made dense; for up to a few thousand columns.

    It has no symbolic phase, so that it is its own plan.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.linear import DenseCholesky
        >>> from jaxsci.solvers.sparse import BlockSymmetric
        >>> H = BlockSymmetric(
        ...     2 * jnp.ones((2, 1, 1)), -jnp.ones((1, 1, 1)), jnp.array([1]), jnp.array([0])
        ... )
        >>> DenseCholesky().factor(H).mv(jnp.array([1.0, 1.0]))
        Array([1., 1.], dtype=float32)
    """

    def plan(self, rows, cols, N: int, d: int) -> "DenseCholesky":
        """Itself, whatever the structure."""
        del rows, cols, N, d
        return self

    def factor(self, H: BlockSymmetric, *, damping: Float[Array, ""] | float = 0.0) -> DenseFactor:
        """The operator `(H + damping)^-1`; in `jit`."""
        matrix = H.shifted(damping).as_matrix()
        lower = jnp.linalg.cholesky(matrix)
        result = DIRECT_RESULTS.where(
            all_finite(lower),
            DIRECT_RESULTS.successful,
            DIRECT_RESULTS.not_positive_definite,
        )
        finite = all_finite(matrix)
        result = DIRECT_RESULTS.where(finite, result, DIRECT_RESULTS.non_finite_input)
        return DenseFactor(lower, result)


class SparseCholesky(eqx.Module):
    """Sparse Cholesky factorisation `L L' = H + damping`.

    The symbolic phase, `plan`, runs once on the host. With the backend `"jax"` the numeric phase
    and the solves are compiled: nested dissection gives a low tree of dense fronts, which are
    eliminated in batches, from the leaves to the root, in as few loops as pay off. It works under
    `jit` and `vmap`, on a GPU too, in float32 or float64.

    **Arguments:**

    - `backend`: `"jax"`; `"cholmod"`, by the optional package scikit-sparse; or `"scipy"`. The
        last two work on the host, outside `jit` only, in float64, for comparison and for matrices
        too large for the first.
    - `leaf`: parts of at most so many variables are not dissected any further; by default about
        24 columns.

    **Raises:** `ValueError` for an unknown backend; `ImportError`, with the remedy, from `plan`
    if scikit-sparse is asked for and missing.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.linear import SparseCholesky
        >>> from jaxsci.solvers.sparse import BlockSymmetric
        >>> H = BlockSymmetric(
        ...     2 * jnp.ones((2, 1, 1)), -jnp.ones((1, 1, 1)), jnp.array([1]), jnp.array([0])
        ... )
        >>> factor = SparseCholesky().factor(H)
        >>> factor.mv(jnp.array([1.0, 1.0]))
        Array([1., 1.], dtype=float32)

    Reference: George, *Nested dissection of a regular finite element mesh*, 1973; Davis, *Direct
    methods for sparse linear systems*, 2006, for supernodes.
    """

    backend: Literal["jax", "cholmod", "scipy"] = eqx.field(static=True, default="jax")
    leaf: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        lookup("backend", self.backend, dict.fromkeys(("jax", "cholmod", "scipy")))
        if self.leaf is not None and self.leaf < 1:
            raise ValueError(f"`SparseCholesky(leaf=...)`: expected at least 1, got {self.leaf}")

    def plan(self, rows, cols, N: int, d: int) -> SupernodalPlan | HostPlan:
        """The symbolic phase, on the host.

        **Arguments:**

        - `rows`, `cols`: the places of the blocks, as in
            [`jaxsci.solvers.sparse.BlockSymmetric`][].
        - `N`, `d`: the number of diagonal blocks, and their size.

        **Raises:** `ValueError` if a place is outside the matrix or not below its diagonal;
        `ImportError` if the backend is missing.
        """
        rows, cols = np.asarray(rows), np.asarray(cols)
        if len(rows) != len(cols) or np.any(cols < 0) or np.any(rows <= cols) or np.any(rows >= N):
            raise ValueError(
                f"`SparseCholesky.plan(rows, cols, N={N})`: expected {N} > rows > cols >= 0, each "
                "place once; make them with `gram_pattern`"
            )
        if self.backend == "jax":
            return plan_supernodal(rows, cols, N, d, self.leaf)
        return HostPlan(self.backend)

    def factor(
        self, H: BlockSymmetric, *, damping: Float[Array, ""] | float = 0.0
    ) -> lx.AbstractLinearOperator:
        """`plan` and `factor` in one, for a matrix whose structure has known values.

        **Raises:** `ValueError` inside `jit`: make the plan outside, and call its `factor` there.
        """
        if not is_concrete(H.rows, H.cols):
            raise ValueError(
                "`SparseCholesky.factor(H=...)`: the places of the blocks must be known on the "
                "host; call `plan` outside `jit`, and `plan.factor(H)` inside"
            )
        count, d = H.diagonal.shape[:2]
        return self.plan(H.rows, H.cols, count, d).factor(H, damping=damping)
