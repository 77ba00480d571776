"""Preconditioners of bundle adjustment: points eliminated exactly, and what is left of cameras."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.errors import is_concrete
from jaxsci.precision import Policy, matmul
from jaxsci.solvers.sparse import BlockSymmetric, small_matmul

from ._base import AbstractPreconditioner, Plannable, dtypes
from ._blocks import regular_diagonal, safe_inverse_root, times_transpose
from ._dense import DenseCholesky, DenseFactor, dense_factor
from ._jacobi import JacobiPlan
from ._rounding import block_product, stored_blocks


class SchurJacobi(eqx.Module):
    """For `H = [[B, E], [E', C]]` with block diagonal `B` (cameras) and `C` (points):

    ```
    M = [I, 0; -C^-1 E', I] [S^-1, 0; 0, C^-1] [I, -E C^-1; 0, I]
    S = the diagonal blocks of the Schur complement B - E C^-1 E'
    ```

    It is `H^-1` with the coupling of cameras through common points left out, so that CG on all
    variables converges as on the reduced system. That system's own preconditioner is
    `factor.reduced()`. [`jaxsci.solvers.preconditioners.SchurComplement`][] keeps the coupling.
    """

    def plan(self, cameras: np.ndarray, points: np.ndarray, N: int, P: int) -> "SchurPlan":
        """The symbolic phase, on the host.

        **Arguments:** for each observation its camera (of `N`) and its point (of `P`), both of
        shape `(F,)`; a pair may occur several times.

        **Raises:** `ValueError` if these are not such indices.
        """
        return _plan("SchurJacobi", cameras, points, N, P)[0]


class SchurComplement(eqx.Module):
    """As [`jaxsci.solvers.preconditioners.SchurJacobi`][], with all blocks of `S`.

    They are added up, two cameras at a time, and factored by any preconditioner of a block matrix.
    With a complete factor `M` is `H^-1` to rounding, and CG has to mend rounding alone: a few steps
    for each system, whatever the dtype of the products. It is for windows, and for scenes in which
    few cameras see the same points: time and memory are one product of blocks for each pair of
    observations of a point, and what the factor fills in.

    Limits: a program is compiled for each structure of who sees what, where that of
    [`jaxsci.solvers.preconditioners.SchurJacobi`][] serves all of the same sizes; so does that of a
    dense factor, for which `S` is a product of dense matrices, of all cameras by all points.

    **Arguments:**

    - `reduced`: of `S`, e.g. [`jaxsci.solvers.preconditioners.CompleteCholesky`][],
        [`jaxsci.solvers.preconditioners.IncompleteCholesky`][] or, for windows,
        [`jaxsci.solvers.preconditioners.DenseCholesky`][].
    """

    reduced: Plannable

    def __check_init__(self):
        if isinstance(self.reduced, type) or not isinstance(self.reduced, Plannable):
            raise TypeError(
                "`SchurComplement(reduced=...)`: expected settings of a preconditioner, e.g. "
                f"`CompleteCholesky()` or `DenseCholesky()`, got {self.reduced!r}"
            )

    def plan(
        self, cameras: np.ndarray, points: np.ndarray, N: int, P: int, dim: int
    ) -> "SchurPlan":
        """The symbolic phase, on the host; for a dense factor there is none.

        **Arguments:** as of [`jaxsci.solvers.preconditioners.SchurJacobi`][]; for a dense factor
        they may be traced. `dim`: how many numbers a camera has.

        **Raises:** `ValueError` if these are not such indices, as far as that is known.
        """
        if isinstance(self.reduced, DenseCholesky):
            if is_concrete((cameras, points)):
                cameras, points = np.asarray(cameras), np.asarray(points)
            _check("SchurComplement", cameras, points, N, P)
            camera, point = (jnp.asarray(index, jnp.int32) for index in (cameras, points))
            # What is added up in a dense matrix may come in several parts.
            return SchurPlan(None, camera, point, N, P, SchurDenseCoupling(dim))
        plan, pairs = _plan("SchurComplement", cameras, points, N, P)
        coupling = _couple(pairs // P, pairs % P, N, dim, self.reduced)
        return dataclasses.replace(plan, coupling=coupling)


class SchurDenseCoupling(eqx.Module):
    """All of `S` at once; `dim`: the numbers of a camera."""

    dim: int = eqx.field(static=True)

    def factor(
        self, whole: "SchurPlan", E: Float[Array, "F c p"], policy: Policy | None
    ) -> DenseFactor:
        """The factor of `1 - E E'`."""
        N, P, (c, p) = whole.count, whole.points, E.shape[1:]
        spread = jnp.zeros((N, c, P, p), E.dtype).at[whole.camera, :, whole.point].add(E)
        spread = spread.reshape(N * c, P * p)
        S = jnp.eye(N * c, dtype=E.dtype) - matmul(spread, spread.T)
        # Of what no other camera has a say in, there is rounding left.
        lost = jnp.diagonal(S) <= 16 * jnp.finfo(S.dtype).eps
        return dense_factor(S + jnp.diag(lost.astype(S.dtype)), policy)


class SchurCoupling(eqx.Module):
    """The blocks of `S` below its diagonal that are not zero, and what factors it.

    - `later`, `earlier`: two distinct pairs of one point, of different cameras, `(K,)`.
    - `place`: the block that this is a part of.
    - `rows`, `cols`: where the blocks are, `(E,)`.
    - `plan`: the symbolic phase of the factor; `dim`: the numbers of a camera that it is for.
    """

    later: Int[Array, " K"]
    earlier: Int[Array, " K"]
    place: Int[Array, " K"]
    rows: Int[Array, " E"]
    cols: Int[Array, " E"]
    plan: Any
    dim: int = eqx.field(static=True)

    def factor(
        self, whole: "SchurPlan", E: Float[Array, "F c p"], policy: Policy | None
    ) -> AbstractPreconditioner:
        """The factor of `1 - E E'`."""
        products = times_transpose(E[self.later], E[self.earlier])
        below = -jax.ops.segment_sum(products, self.place, len(self.rows))
        H = BlockSymmetric(_remaining(E, whole), below, self.rows, self.cols)
        return self.plan.factor(H, policy=policy)


class SchurPlan(eqx.Module):
    """The symbolic phase of both preconditioners that eliminate points.

    - `pair`: which distinct (camera, point) each observation has, `(F,)`; None if that
        does not matter.
    - `camera`, `point`: those of each distinct pair, `(F,)`, where zero blocks belong to the spare
        ones; without `pair` those of each observation.
    - `coupling`: of the cameras, unless it is left out.
    """

    pair: Int[Array, " F"] | None
    camera: Int[Array, " F"]
    point: Int[Array, " F"]
    count: int = eqx.field(static=True)
    points: int = eqx.field(static=True)
    coupling: SchurCoupling | SchurDenseCoupling | None = None

    def factor(
        self,
        diagonal: tuple[Float[Array, "N c c"], Float[Array, "P p p"]],
        cross: Float[Array, "F c p"],
        *,
        policy: Policy | None = None,
        damping: Float[Array, ""] | float = 0.0,
    ) -> "SchurFactor":
        """The numeric phase, `M ~ (H + damping)^-1`, inside `jit`.

        **Arguments:** `diagonal`: the blocks of `B` and of `C`, e.g. from
        `BlockJacobian.gram_diagonal()`; `cross`: `J_camera' J_point` of each observation.

        A variable whose block and damping are zero (held) keeps what it is given. Where a block of
        `S` is not positive definite, its diagonal is used; with a coupling, what the preconditioner
        of `S` does with such a matrix.

        **Raises:** `ValueError` if the sizes are not those of the plan.
        """
        B, C = diagonal
        c, p = B.shape[-1], C.shape[-1]
        expected = ((self.count, c, c), (self.points, p, p), (len(self.camera), c, p))
        if (B.shape, C.shape, cross.shape) != expected:
            raise ValueError(
                f"`SchurPlan.factor(diagonal, cross)`: expected shapes {expected}, as planned, got "
                f"{(B.shape, C.shape, cross.shape)}; plan again for these observations"
            )
        if self.coupling is not None and self.coupling.dim != c:
            raise ValueError(
                f"`SchurPlan.factor(diagonal, cross)`: expected cameras of {self.coupling.dim} "
                f"numbers, as planned, got {c}; plan again with dim={c}"
            )
        compute, wide, stored = dtypes(policy, B.dtype)
        X = safe_inverse_root(regular_diagonal(B.astype(compute), damping))
        Y = safe_inverse_root(regular_diagonal(C.astype(compute), damping))
        cross = jax.lax.stop_gradient(cross.astype(compute))
        E = cross
        if self.pair is not None:
            E = jax.ops.segment_sum(cross, self.pair, len(self.pair))
        # In variables with unit diagonal blocks, no entry of E is larger than one.
        E = times_transpose(small_matmul(X[self.camera], E, E.dtype), Y[self.point])
        if self.coupling is None:
            inner = JacobiPlan(point=False).factor((_remaining(E, self),), policy=policy)
        else:
            inner = self.coupling.factor(self, E, policy)
        placed = [stored_blocks(blocks, stored, wide) for blocks in (X, Y)]
        return SchurFactor(
            plan=self,
            inner=inner,
            roots=tuple(blocks for blocks, _ in placed),
            scales=tuple(scale for _, scale in placed),
            cross=E.astype(stored),
            size=self.count * c + self.points * p,
            dtype=wide,
        )


class SchurFactor(AbstractPreconditioner):
    """`M` for cameras, then points.

    `roots` are `X` of `B` and `Y` of `C`, so that `X B X' = I`; `inner` is close to the inverse of
    `X S X'`.
    """

    plan: SchurPlan
    inner: AbstractPreconditioner
    roots: tuple[Array, ...]
    scales: tuple[Array | None, ...]
    cross: Float[Array, "F c p"]
    size: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        plan = self.plan
        count, c, p = plan.count, *self.cross.shape[1:]
        x = vector.astype(self.dtype)
        cameras, points = x[: count * c].reshape(count, c), x[count * c :].reshape(-1, p)
        cameras, points = self._times(0, cameras), self._times(1, points)
        carried = block_product(self.cross, points[plan.point])
        cameras = cameras - jax.ops.segment_sum(carried, plan.camera, count)
        cameras = self.inner.mv(cameras.ravel()).reshape(count, c)
        carried = block_product(self.cross.swapaxes(1, 2), cameras[plan.camera])
        points = points - jax.ops.segment_sum(carried, plan.point, plan.points)
        cameras = self._times(0, cameras, transposed=True)
        points = self._times(1, points, transposed=True)
        return jnp.concatenate([cameras.ravel(), points.ravel()])

    def reduced(self) -> "SchurReduced":
        """`S^-1` alone, for CG on the Schur complement in the cameras."""
        size = self.plan.count * self.cross.shape[1]
        return SchurReduced(whole=self, size=size, dtype=self.dtype)

    def _times(self, which: int, x: Array, transposed: bool = False) -> Array:
        blocks = self.roots[which].swapaxes(1, 2) if transposed else self.roots[which]
        return block_product(blocks, x, self.scales[which])


class SchurReduced(AbstractPreconditioner):
    """`M` for cameras alone, where the points are eliminated beforehand."""

    whole: SchurFactor
    size: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        x = vector.astype(self.dtype).reshape(self.whole.plan.count, -1)
        x = self.whole.inner.mv(self.whole._times(0, x).ravel()).reshape(x.shape)
        return self.whole._times(0, x, transposed=True).ravel()


def _remaining(E: Float[Array, "F c p"], plan: SchurPlan) -> Float[Array, "N c c"]:
    """The diagonal blocks of `1 - E E'`, of distinct pairs."""
    S = jax.ops.segment_sum(times_transpose(E, E), plan.camera, plan.count)
    return jnp.eye(E.shape[1], dtype=E.dtype)[None] - S


def _plan(
    name: str, cameras: np.ndarray, points: np.ndarray, N: int, P: int
) -> tuple[SchurPlan, np.ndarray]:
    """The plan without a coupling, and the distinct pairs, `camera P + point`, sorted."""
    cameras, points = np.asarray(cameras), np.asarray(points)
    _check(name, cameras, points, N, P)
    pairs, pair = np.unique(cameras.astype(np.int64) * P + points, return_inverse=True)
    # As many pairs as observations, so that their number is not part of what is compiled.
    spare = len(cameras) - len(pairs)
    camera, point = np.pad(pairs // P, (0, spare)), np.pad(pairs % P, (0, spare))
    arrays = (jnp.asarray(array, jnp.int32) for array in (pair, camera, point))
    return SchurPlan(*arrays, count=N, points=P), pairs


def _check(name: str, cameras: Any, points: Any, N: int, P: int) -> None:
    """**Raises:** `ValueError` unless these are indices; traced ones may be too large."""
    for argument, index, count in (("cameras", cameras, N), ("points", points, P)):
        fits = index.ndim == 1 and np.issubdtype(index.dtype, np.integer)
        if not fits or len(index) != len(cameras):
            raise ValueError(
                f"`{name}.plan({argument}=...)`: expected integers, one per observation, got "
                f"{index.dtype} of shape {index.shape} beside {len(cameras)} cameras"
            )
        if is_concrete(index) and len(index) and (index.min() < 0 or index.max() >= count):
            raise ValueError(
                f"`{name}.plan({argument}=...)`: expected 0 <= {argument} < {count}, got "
                f"{index.min()} to {index.max()}"
            )


def _couple(
    camera: np.ndarray, point: np.ndarray, N: int, dim: int, reduced: Plannable
) -> SchurCoupling:
    """All twos of the distinct pairs of a point; these are sorted by camera."""
    order = np.argsort(point, kind="stable")
    _, start, size = np.unique(point[order], return_index=True, return_counts=True)
    rank = np.arange(len(order)) - np.repeat(start, size)
    later = np.repeat(np.arange(len(order)), rank)
    earlier = later - 1 - (np.arange(len(later)) - np.repeat(np.cumsum(rank) - rank, rank))
    later, earlier = order[later], order[earlier]
    places, place = np.unique(camera[later] * N + camera[earlier], return_inverse=True)
    rows, cols = places // N, places % N
    arrays = (jnp.asarray(array, jnp.int32) for array in (later, earlier, place, rows, cols))
    return SchurCoupling(*arrays, plan=reduced.plan(rows, cols, N, dim), dim=dim)
