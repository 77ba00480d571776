"""A complete Cholesky factor in few bits: conjugate gradients mend it in a handful of steps."""

from typing import TypeAlias

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from jaxsci.precision import Policy
from jaxsci.solvers.linear import DIRECT_RESULTS, SupernodalFactor, SupernodalPlan, plan_supernodal
from jaxsci.solvers.sparse import BlockSymmetric

from ._base import AbstractPreconditioner, dtypes
from ._blocks import BlockMatrix, check_matrix, regular_diagonal
from ._cholesky import PRECONDITIONER_RESULTS
from ._pattern import check_pattern
from ._shift import shifted

Fronts: TypeAlias = tuple[tuple[Float[Array, "S B c c"], Float[Array, "S B r c"]], ...]


class CompleteCholesky(eqx.Module):
    """The whole Cholesky factor `L L' = H + shift`, in the dtype of the role `precondition`.

    The factor that a direct solver would use, computed in float32 (or float64, if that is the
    role's) and stored in 32 or 16 bits: what rounding spoils, conjugate gradients mend in a few
    steps, so that the answer is that of the wide Jacobian. It costs a few times the memory of `H`
    and as much time as ten to a hundred steps with [`IncompleteCholesky`][
    jaxsci.solvers.preconditioners.IncompleteCholesky], and is worth it where these would take
    more: on graphs of thousands of poses, or badly scaled ones, on a CPU.

    A matrix that has no factor in so few bits is tried again with a growing multiple of its
    diagonal added.

    **Arguments:**

    - `leaf`: as in [`jaxsci.solvers.linear.SparseCholesky`][].

    **Raises:** `ValueError` for a `leaf` below 1.

    !!! example
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxsci.solvers.preconditioners import CompleteCholesky
        >>> from jaxsci.solvers.sparse import BlockSymmetric
        >>> rows, cols = np.array([1, 2, 2]), np.array([0, 0, 1])
        >>> blocks = 3 * jnp.ones((3, 1, 1)), -jnp.ones((3, 1, 1))
        >>> H = BlockSymmetric(*blocks, jnp.asarray(rows), jnp.asarray(cols))
        >>> plan = CompleteCholesky().plan(rows, cols, 3, 1)
        >>> plan.factor(H).mv(jnp.array([1.0, 1.0, 1.0])).round(3)
        Array([1., 1., 1.], dtype=float32)

    Reference: Carson and Higham, *Accelerating the solution of linear systems by iterative
    refinement in three precisions*, 2018, for a factor in few bits as a preconditioner.
    """

    leaf: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.leaf is not None and self.leaf < 1:
            raise ValueError(f"`CompleteCholesky(leaf=...)`: expected at least 1, got {self.leaf}")

    def plan(self, rows: np.ndarray, cols: np.ndarray, N: int, d: int) -> "CompletePlan":
        """The symbolic phase, on the host, once per graph.

        **Arguments:** `rows > cols`: the strictly lower blocks of `H`, each once; `N` variables of
        dimension `d`.

        **Raises:** `ValueError` if the pattern is not of that kind.
        """
        rows, cols = np.asarray(rows), np.asarray(cols)
        check_pattern("CompleteCholesky", rows, cols, N)
        return CompletePlan(plan_supernodal(rows, cols, N, d, self.leaf), count=N, dim=d)


class CompletePlan(eqx.Module):
    """The symbolic phase of [`jaxsci.solvers.preconditioners.CompleteCholesky`][]."""

    symbolic: SupernodalPlan
    count: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)

    @property
    def blocks(self) -> int:
        """How many blocks the factor has: against those of `H`, what fill costs."""
        return self.symbolic.storage

    def factor(
        self,
        H: BlockMatrix,
        *,
        policy: Policy | None = None,
        damping: Float[Array, ""] | float = 0.0,
    ) -> "CompleteFactor":
        """The numeric phase, `M ~ (H + damping)^-1`, inside `jit`.

        Computed in float64 if the role `precondition` has that dtype, else in float32; stored in
        the role's. A variable whose block is zero (held) keeps what it is given.

        **Raises:** `ValueError` if `H` does not have the sizes of the plan.
        """
        check_matrix("CompletePlan", H, self.count, self.dim, len(self.symbolic.lower))
        _, wide, stored = dtypes(policy, H.diagonal.dtype)
        compute = jnp.dtype("float64" if stored == "float64" else "float32")
        diagonal = regular_diagonal(H.diagonal.astype(compute), damping)
        lower = jax.lax.stop_gradient(H.lower.astype(compute))
        fronts, shift, ok = _shifted(self.symbolic, diagonal, lower, stored)
        results = PRECONDITIONER_RESULTS
        result = results.where(shift > 0, results.shifted, results.successful)
        return CompleteFactor(
            plan=self.symbolic,
            fronts=fronts,
            sound=ok,
            shift=shift,
            result=results.where(ok, result, results.breakdown),
            compute=compute.name,
            dim=self.dim,
            size=self.count * self.dim,
            dtype=wide,
        )


class CompleteFactor(AbstractPreconditioner):
    """`M = L'^-1 L^-1`, or the identity after a breakdown.

    - `sound`: whether there is a factor.
    - `shift`: the multiple of the diagonal of `H` that was added; 0 unless a pivot failed.
    - `result`: a member of [`jaxsci.solvers.preconditioners.PRECONDITIONER_RESULTS`][].
    """

    plan: SupernodalPlan
    fronts: Fronts
    sound: Bool[Array, ""]
    shift: Float[Array, ""]
    result: PRECONDITIONER_RESULTS
    compute: str = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    size: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        x = vector.astype(self.dtype)
        # To a largest entry of 1, so that no gradient is too small for the factor's dtype.
        largest = jnp.max(jnp.abs(x), initial=0)
        scale = jnp.where(largest > 0, largest, 1)
        solve = SupernodalFactor(self.plan, self.fronts, DIRECT_RESULTS.successful, self.dim).mv
        y = solve((x / scale).astype(self.compute)).astype(self.dtype) * scale
        return jnp.where(self.sound, y, x)


def _shifted(
    plan: SupernodalPlan, diagonal: Float[Array, "N d d"], lower: Float[Array, "E d d"], stored: str
) -> tuple[Fronts, Array, Array]:
    """The first factor that does not break down, of those with growing shifts."""
    identity = jnp.eye(diagonal.shape[1], dtype=diagonal.dtype)[None]
    places = jnp.zeros((len(lower),), jnp.int32)

    def attempt(shift: Array) -> tuple[Fronts, Array]:
        # Only the numbers are read: where they belong is in the plan.
        H = BlockSymmetric(diagonal + shift * identity * diagonal, lower, places, places)
        factor = plan.factor(H, stored=stored)
        return factor.factors, factor.result == DIRECT_RESULTS.successful

    empty = tuple(
        tuple(jnp.zeros(shape, stored) for shape in band.shapes(diagonal.shape[1]))
        for band in plan.bands
    )
    return shifted(attempt, empty, diagonal.dtype)
