"""Schur-Jacobi for bundle adjustment: points eliminated exactly, cameras one by one."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from jaxsci.precision import Policy

from ._base import AbstractPreconditioner, dtypes
from ._blocks import regular_diagonal, safe_inverse_root, times, times_transpose
from ._jacobi import JacobiFactor
from ._rounding import block_product, stored_blocks


class SchurJacobi(eqx.Module):
    """For `H = [[B, E], [E', C]]` with block diagonal `B` (cameras) and `C` (points):

    ```
    M = [I, 0; -C^-1 E', I] [S^-1, 0; 0, C^-1] [I, -E C^-1; 0, I]
    S = the diagonal blocks of the Schur complement B - E C^-1 E'
    ```

    It is `H^-1` with the coupling of cameras through common points left out, so that CG on all
    variables converges as on the reduced system. That system's own preconditioner is
    `factor.reduced()`.
    """

    def plan(self, cameras: np.ndarray, points: np.ndarray, N: int, P: int) -> "SchurPlan":
        """The symbolic phase, on the host.

        **Arguments:** for each observation its camera (of `N`) and its point (of `P`), both of
        shape `(F,)`; a pair may occur several times.

        **Raises:** `ValueError` if these are not such indices.
        """
        cameras, points = np.asarray(cameras), np.asarray(points)
        for name, index, count in (("cameras", cameras, N), ("points", points, P)):
            fits = index.ndim == 1 and np.issubdtype(index.dtype, np.integer)
            if not fits or len(index) != len(cameras):
                raise ValueError(
                    f"`SchurJacobi.plan({name}=...)`: expected integers, one per observation, got "
                    f"{index.dtype} of shape {index.shape} beside {len(cameras)} cameras"
                )
            if len(index) and (index.min() < 0 or index.max() >= count):
                raise ValueError(
                    f"`SchurJacobi.plan({name}=...)`: expected 0 <= {name} < {count}, got "
                    f"{index.min()} to {index.max()}"
                )
        pairs, pair = np.unique(cameras.astype(np.int64) * P + points, return_inverse=True)
        # As many pairs as observations, so that their number is not part of what is compiled.
        spare = len(cameras) - len(pairs)
        camera, point = np.pad(pairs // P, (0, spare)), np.pad(pairs % P, (0, spare))
        return SchurPlan(
            *(jnp.asarray(array, jnp.int32) for array in (pair, camera, point)), count=N, points=P
        )


class SchurPlan(eqx.Module):
    """The symbolic phase of [`jaxsci.solvers.preconditioners.SchurJacobi`][].

    - `pair`: which distinct (camera, point) each observation has, `(F,)`.
    - `camera`, `point`: those of each distinct pair, `(F,)`; zero blocks belong to the spare ones.
    """

    pair: Int[Array, " F"]
    camera: Int[Array, " F"]
    point: Int[Array, " F"]
    count: int = eqx.field(static=True)
    points: int = eqx.field(static=True)

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

        A variable whose block is zero (held) keeps what it is given. Where a block of `S` is not
        positive definite, its diagonal is used.

        **Raises:** `ValueError` if the sizes are not those of the plan.
        """
        B, C = diagonal
        c, p = B.shape[-1], C.shape[-1]
        expected = ((self.count, c, c), (self.points, p, p), (len(self.pair), c, p))
        if (B.shape, C.shape, cross.shape) != expected:
            raise ValueError(
                f"`SchurPlan.factor(diagonal, cross)`: expected shapes {expected}, as planned, got "
                f"{(B.shape, C.shape, cross.shape)}; plan again for these observations"
            )
        compute, wide, stored = dtypes(policy, B.dtype)
        X = safe_inverse_root(regular_diagonal(B.astype(compute), damping))
        Y = safe_inverse_root(regular_diagonal(C.astype(compute), damping))
        cross = jax.lax.stop_gradient(cross.astype(compute))
        E = jax.ops.segment_sum(cross, self.pair, len(self.pair))
        # In variables with unit diagonal blocks, no entry of E is larger than one.
        E = times_transpose(times(X[self.camera], E), Y[self.point])
        S = jax.ops.segment_sum(times_transpose(E, E), self.camera, self.count)
        R = safe_inverse_root(jnp.eye(c, dtype=X.dtype)[None] - S)
        placed = [stored_blocks(blocks, stored, wide) for blocks in (X, R, Y)]
        return SchurFactor(
            plan=self,
            roots=tuple(blocks for blocks, _ in placed),
            scales=tuple(scale for _, scale in placed),
            cross=E.astype(stored),
            size=self.count * c + self.points * p,
            dtype=wide,
        )


class SchurFactor(AbstractPreconditioner):
    """`M` for cameras, then points; `roots` are `X` of `B`, `R` of `X S X'`, and `Y` of `C`."""

    plan: SchurPlan
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
        cameras, points = self._times(0, cameras), self._times(2, points)
        carried = block_product(self.cross, points[plan.point])
        cameras = cameras - jax.ops.segment_sum(carried, plan.camera, count)
        cameras = self._times(1, self._times(1, cameras), transposed=True)
        carried = block_product(self.cross.swapaxes(1, 2), cameras[plan.camera])
        points = points - jax.ops.segment_sum(carried, plan.point, plan.points)
        cameras = self._times(0, cameras, transposed=True)
        points = self._times(2, points, transposed=True)
        return jnp.concatenate([cameras.ravel(), points.ravel()])

    def reduced(self) -> JacobiFactor:
        """`S^-1` alone, for CG on the Schur complement in the cameras."""
        wide = "float64" if self.dtype == "float64" else "float32"
        X, R = (
            blocks.astype(wide) if scale is None else blocks.astype(wide) * scale[:, None, None]
            for blocks, scale in zip(self.roots[:2], self.scales[:2], strict=True)
        )
        root, scale = stored_blocks(times(R, X), self.cross.dtype.name, self.dtype)
        size = self.plan.count * X.shape[1]
        return JacobiFactor(blocks=(root,), scales=(scale,), size=size, dtype=self.dtype)

    def _times(self, which: int, x: Array, transposed: bool = False) -> Array:
        blocks = self.roots[which].swapaxes(1, 2) if transposed else self.roots[which]
        return block_product(blocks, x, self.scales[which])
