"""Block Jacobi and, over it, motions of whole clusters: what errors of long waves need."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsci.precision import Policy, all_finite, matmul
from jaxsci.solvers.sparse import small_matmul

from ._base import AbstractPreconditioner, dtypes
from ._blocks import BlockMatrix, check_matrix
from ._clusters import clusters
from ._jacobi import JacobiFactor, JacobiPlan
from ._pattern import check_pattern
from ._rounding import block_product, unit

# The coarse system has no more unknowns than this unless it is asked for.
_UNKNOWNS = 1500


class TwoLevel(eqx.Module):
    """`M = D^-1 + P (P'HP)^-1 P'`: block Jacobi, and a small dense system for clusters.

    Conjugate gradients with block Jacobi take many steps where errors vary slowly over a long chain
    or a large mesh. Here the variables of a cluster also move together, by the columns of `P`, and
    how far is solved for exactly: for pose graphs a tenth of the steps. All of it is products with
    all rows at once, for CPUs and accelerators.

    **Arguments:**

    - `clusters`: how many. By default so many that the dense system's two factors have as many
        numbers as `H`, and at most 1500 unknowns.

    **Raises:** `ValueError` for fewer than 1.

    !!! example
        >>> import jax.numpy as jnp
        >>> import lineax as lx
        >>> import numpy as np
        >>> from jaxsci.solvers.preconditioners import TwoLevel
        >>> from jaxsci.solvers.sparse import BlockSymmetric
        >>> n = 200
        >>> rows = np.arange(1, n)
        >>> blocks = 2.01 * jnp.ones((n, 1, 1)), -jnp.ones((n - 1, 1, 1))
        >>> H = BlockSymmetric(*blocks, jnp.asarray(rows), jnp.asarray(rows - 1))
        >>> M = TwoLevel().plan(rows, rows - 1, n, 1).factor(H)
        >>> cg, b = lx.CG(1e-3, 1e-3), jnp.ones(n)
        >>> alone = lx.linear_solve(H, b, cg)
        >>> helped = lx.linear_solve(H, b, cg, options={"preconditioner": M})
        >>> int(helped.stats["num_steps"]) < int(alone.stats["num_steps"]) / 2
        True

    Reference: Nicolaides, *Deflation of conjugate gradients with applications to boundary value
    problems*, 1987, for the coarse space; Dryja and Widlund, 1987, for adding the two levels.
    """

    clusters: int | None = eqx.field(static=True, default=None)

    def __check_init__(self):
        if self.clusters is not None and self.clusters < 1:
            raise ValueError(f"`TwoLevel(clusters=...)`: expected at least 1, got {self.clusters}")

    def plan(self, rows: np.ndarray, cols: np.ndarray, N: int, d: int) -> "TwoLevelPlan":
        """The symbolic phase, on the host, once per graph.

        **Arguments, Raises:** as
        [`jaxsci.solvers.preconditioners.IncompleteCholesky.plan`][].
        """
        rows, cols = np.asarray(rows), np.asarray(cols)
        check_pattern("TwoLevel", rows, cols, N)
        wanted = self.clusters
        if wanted is None:
            wanted = max(1, min(int((N / 2 + len(rows)) ** 0.5), _UNKNOWNS // d))
        # Sizes that do not depend on where edges are: one program for graphs of one size.
        wanted = min(wanted, N)
        index = (*clusters(rows, cols, N, wanted), rows, cols)
        return TwoLevelPlan(
            *(jnp.asarray(a, jnp.int32) for a in index), count=N, dim=d, clusters=wanted
        )


class TwoLevelPlan(eqx.Module):
    """The symbolic phase of [`jaxsci.solvers.preconditioners.TwoLevel`][].

    - `cluster`: that of each variable; `middle`: a variable in the middle of each.
    """

    cluster: Int[Array, " N"]
    middle: Int[Array, " clusters"]
    rows: Int[Array, " E"]
    cols: Int[Array, " E"]
    count: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    clusters: int = eqx.field(static=True)

    def factor(
        self,
        H: BlockMatrix,
        *,
        modes: Float[Array, "N d k"] | None = None,
        scaled: bool = False,
        policy: Policy | None = None,
        damping: Float[Array, ""] | float = 0.0,
    ) -> "TwoLevelFactor":
        """The numeric phase, `M ~ (H + damping)^-1`, inside `jit`.

        A variable whose block is zero (held) keeps what it is given, but for a factor. Where the
        coarse system cannot be factored, with a hundredth added to its diagonal (1 by scaling)
        neither, block Jacobi is left.

        **Arguments:**

        - `modes`: how each variable moves with its cluster; by default each component by itself,
            all alike, which `H` hardly resists if it is made of differences.
        - `scaled`: whether the diagonal blocks of `H` are 1 (held: 0), so that block Jacobi is no
            work. Not checked.

        **Raises:** `ValueError` if `H` or the modes do not have the sizes of the plan.
        """
        check_matrix("TwoLevelPlan", H, self.count, self.dim, len(self.rows))
        compute, wide, stored = dtypes(policy, H.diagonal.dtype)
        if modes is None:
            eye = jnp.eye(self.dim, dtype=compute)[None]
            modes = jnp.broadcast_to(eye, (self.count, self.dim, self.dim))
        if modes.ndim != 3 or modes.shape[:2] != (self.count, self.dim):
            raise ValueError(
                f"`TwoLevelPlan.factor(modes=...)`: expected shape ({self.count}, {self.dim}, k), "
                f"got {modes.shape}"
            )
        # What solves a system approximately is not to be differentiated; the solution is.
        modes, diagonal, lower, damping = jax.lax.stop_gradient(
            (modes.astype(compute), H.diagonal.astype(compute), H.lower.astype(compute), damping)
        )
        # What is held moves with no cluster.
        acts = jnp.diagonal(diagonal, axis1=1, axis2=2) > 0
        modes = jnp.where(acts[:, :, None], modes, 0)
        fine = None
        if not scaled:
            fine = JacobiPlan(point=False).factor((H.diagonal,), policy=policy, damping=damping)
        shift = jnp.asarray(damping, compute) * jnp.eye(self.dim, dtype=compute)[None]
        coarse, scales = self._coarse(modes, diagonal + shift, lower)
        root, sound = _inverse_root(coarse)
        modes = jnp.where(sound, modes * scales[self.cluster][:, None, :], 0)
        # To largest entries of about 1, which neither overflow nor underflow as they are stored.
        (modes, size), (root, length) = unit(modes), unit(root)
        return TwoLevelFactor(
            fine=fine,
            level=(1 / (1 + jnp.asarray(damping))).astype(wide),
            cluster=self.cluster,
            modes=modes.astype(stored),
            root=root.astype(stored),
            scale=jnp.square(size * length).astype(wide),
            sound=sound,
            size=self.count * self.dim,
            dtype=wide,
        )

    def _coarse(self, modes: Array, diagonal: Array, lower: Array) -> tuple[Array, Array]:
        """`P'HP` with a diagonal of 1, and the scales `(clusters, k)` that make it so."""
        k, at, dtype = modes.shape[2], self.cluster, modes.dtype
        along = modes.swapaxes(1, 2)
        own = small_matmul(along, small_matmul(diagonal, modes, dtype), dtype)
        pull = small_matmul(lower, modes[self.cols], dtype)
        pair = small_matmul(along[self.rows], pull, dtype)
        above, left = at[self.rows], at[self.cols]
        total = jnp.zeros((self.clusters, self.clusters, k, k), dtype)
        total = total.at[at, at].add(own).at[above, left].add(pair)
        total = total.at[left, above].add(pair.swapaxes(1, 2))
        size = self.clusters * k
        matrix = total.transpose(0, 2, 1, 3).reshape(size, size)
        apart = jnp.zeros((self.clusters, k, k), dtype).at[at].add(own)
        apart = jnp.diagonal(apart, axis1=1, axis2=2).reshape(size)
        # What nothing resists, as a part of the graph that is tied to no other, is left to CG, and
        # what is held: there is only rounding to divide by.
        least = _LOST * float(jnp.finfo(dtype).eps) * apart
        resisted = jnp.diagonal(matrix) > least
        scales = jnp.where(resisted, 1 / jnp.sqrt(jnp.where(resisted, jnp.diagonal(matrix), 1)), 0)
        matrix = scales[:, None] * matrix * scales[None]
        matrix = matrix + jnp.diag(jnp.where(resisted, 0, jnp.ones_like(scales)))
        return matrix, scales.reshape(self.clusters, k)


# Of a sum that cancels, in roundings: what is less is rounding alone.
_LOST = 128
# The first shift is a few roundings of the compute dtype.
_FIRST_SHIFT, _LAST_SHIFT, _TRIES = 8.0, 1e-2, 5


def _inverse_root(matrix: Float[Array, "n n"]) -> tuple[Float[Array, "n n"], Bool[Array, ""]]:
    """`R` with `R (A + shift) R' = I`, for the first shift that makes it one; else zero."""
    eye = jnp.eye(len(matrix), dtype=matrix.dtype)
    least = _FIRST_SHIFT * float(jnp.finfo(matrix.dtype).eps)
    first = jnp.asarray(least, matrix.dtype)
    growth = (_LAST_SHIFT / least) ** (1 / (_TRIES - 1))

    def attempt(state):
        tried, shift, _, _ = state
        # By LAPACK: it is one matrix, and large.
        lower = jax.lax.linalg.cholesky(matrix + shift * eye, symmetrize_input=False)
        root = jax.lax.linalg.triangular_solve(lower, eye, left_side=True, lower=True)
        ok = all_finite(root)
        return tried + 1, shift * growth, ok, jnp.where(ok, root, 0)

    start = jnp.zeros((), jnp.int32), first, jnp.asarray(False), jnp.zeros_like(matrix)
    last = jax.lax.while_loop(lambda s: ~s[2] & (s[0] < _TRIES), attempt, start)
    return last[3], last[2]


class TwoLevelFactor(AbstractPreconditioner):
    """`M = X'X + P R'R P'`, or `level + P R'R P'` where the matrix has unit blocks.

    - `sound`: whether there is a coarse level.
    """

    fine: JacobiFactor | None
    level: Float[Array, ""]
    cluster: Int[Array, " N"]
    modes: Float[Array, "N d k"]
    root: Float[Array, "n n"]
    scale: Float[Array, ""]
    sound: Bool[Array, ""]
    size: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        x = vector.astype(self.dtype)
        count, dim, k = self.modes.shape
        pulled = block_product(self.modes.swapaxes(1, 2), x.reshape(count, dim))
        clusters = self.root.shape[0] // k
        totals = jnp.zeros((clusters, k), x.dtype).at[self.cluster].add(pulled).reshape(-1)
        root = self.root.astype(x.dtype)
        moved = matmul(matmul(root, totals), root).reshape(clusters, k)
        together = block_product(self.modes, moved[self.cluster]).reshape(-1)
        alone = self.level * x if self.fine is None else self.fine.mv(x)
        return alone + self.scale * together
