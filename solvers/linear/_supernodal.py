"""Sparse Cholesky factorisation in pure JAX: dense fronts in batches, by the height of a tree."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, Bool, Float, UInt

from jaxsci.precision import all_finite
from jaxsci.solvers.sparse import BlockSymmetric, register_positive

from ._results import DIRECT_RESULTS
from ._symbolic import Symbolic

# Of the diagonal blocks of a corner: those are inverted together, the rest row by row of them.
_WIDTH = 8


class Fronts(eqx.Module):
    """The places of one band of fronts, see `Band`.

    All places are unsigned: those that may be negative take operations of their own to compile.
    """

    panel: UInt[Array, "S B cr c"]
    update: UInt[Array, "S B r r"]
    slot: UInt[Array, " S"]
    below: UInt[Array, "S B r"]

    def shapes(self, d: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Of the inverses of the corners, and of the panels below, for blocks of size `d`."""
        S, B, rows, c = self.panel.shape
        return (S, B, c * d, c * d), (S, B, (rows - c) * d, c * d)


class SupernodalPlan(eqx.Module):
    """The symbolic phase of a sparse Cholesky factorisation; arrays and sizes only.

    Made by [`jaxsci.solvers.linear.SparseCholesky`][]`.plan`.
    """

    bands: tuple[Fronts, ...]
    diagonal: UInt[Array, " N"]
    lower: UInt[Array, " E"]
    turned: Bool[Array, " E"]
    slots: UInt[Array, " N"]
    variables: UInt[Array, " slots"]
    storage: int = eqx.field(static=True)

    def factor(
        self,
        H: BlockSymmetric,
        *,
        damping: Float[Array, ""] | float = 0.0,
        stored: DTypeLike | None = None,
    ) -> "SupernodalFactor":
        """The numeric phase, in `jit`: `L L' = H + damping`, in the dtype of `H`.

        **Arguments:** `stored`: the dtype to store the factor in, if another; a number too large
        for it counts as a lost pivot.

        **Raises:** `ValueError` if `H` does not have the size of the plan.
        """
        count, lower = len(self.diagonal), len(self.lower)
        if H.diagonal.shape[0] != count or len(H.lower) != lower:
            raise ValueError(
                f"`factor(H=...)`: expected {count} diagonal blocks and {lower} below, as in the "
                f"plan, got {H.diagonal.shape[0]} and {len(H.lower)}"
            )
        d, dtype = H.diagonal.shape[-1], H.diagonal.dtype
        H = H.shifted(damping)
        below = jnp.where(self.turned[:, None, None], H.lower.swapaxes(1, 2), H.lower)
        blocks = jnp.zeros((self.storage + 2, d, d), dtype)
        blocks = blocks.at[self.storage + 1].set(jnp.eye(d, dtype=dtype))
        blocks = blocks.at[self.diagonal].set(H.diagonal).at[self.lower].set(below)
        factors = []
        for band in self.bands:
            blocks, factor = _eliminate(blocks, band, dtype if stored is None else stored)
            factors.append(factor)
        positive = jnp.concatenate([sound for _, _, sound in factors]).all()
        finite = all_finite(H.diagonal) & all_finite(H.lower)
        result = DIRECT_RESULTS.where(
            positive, DIRECT_RESULTS.successful, DIRECT_RESULTS.not_positive_definite
        )
        result = DIRECT_RESULTS.where(finite, result, DIRECT_RESULTS.non_finite_input)
        return SupernodalFactor(self, tuple(factor[:2] for factor in factors), result, d)


def _eliminate(
    blocks: Array, band: Fronts, stored: DTypeLike
) -> tuple[Array, tuple[Array, Array, Array]]:
    """A band of dense fronts: inverses of their corners, the panels below, whether all is finite.

    That is asked step by step, while the numbers are in the cache.
    """
    (_, batch, rows, c), d = band.panel.shape, blocks.shape[-1]
    r = rows - c

    def step(blocks: Array, places: tuple[Array, Array]):
        columns, update = places
        dense = blocks[columns].transpose(0, 1, 3, 2, 4).reshape(batch, rows * d, c * d)
        # The primitive: above the diagonal the corner is never filled, symmetrising would spoil it,
        # and nothing is read: to put zeros there took XLA 0.4 s for each band on a CPU.
        corner = jax.lax.linalg.cholesky_p.bind(dense[:, : c * d])
        inverse = _invert_lower(corner)
        panel = jnp.matmul(dense[:, c * d :], inverse.swapaxes(1, 2), precision="highest")
        if r:
            square = jnp.matmul(panel, panel.swapaxes(1, 2), precision="highest")
            square = square.reshape(batch, r, d, r, d).transpose(0, 1, 3, 2, 4)
            # What is dropped, half of it above the diagonal, costs next to nothing.
            blocks = blocks.at[update].add(-square, mode="drop")
        inverse, panel = inverse.astype(stored), panel.astype(stored)
        return blocks, (inverse, panel, all_finite(inverse) & all_finite(panel))

    return jax.lax.scan(step, blocks, (band.panel, band.update))


def _invert_lower(lower: Float[Array, "B n n"]) -> Float[Array, "B n n"]:
    """Inverses of lower triangular matrices: diagonal blocks first, then block row by block row.

    What is above the diagonal, finite numbers, is not read.

    A few batched products, most of them in loops, as the time to compile them counts as well. A
    triangular solve of this size took ten times as long on a CPU.
    """
    batch, n = lower.shape[:2]
    w, dtype = _WIDTH, lower.dtype
    size = -(-n // w) * w
    padded = lower
    if size > n:  # with the identity, to whole blocks
        padded = jnp.pad(lower, ((0, 0), (0, size - n), (0, size - n)))
        padded = padded + jnp.asarray(np.diag(np.arange(size) >= n), dtype)[None]
    blocks = padded.reshape(batch, size // w, w, size // w, w)
    blocks = jnp.moveaxis(jnp.diagonal(blocks, axis1=1, axis2=3), -1, 1)
    eye = jnp.eye(w, dtype=dtype)[None, None]

    def double(inverse: Array, below: Array) -> tuple[Array, None]:
        """From inverses of the halves of blocks to those of the blocks."""
        moved = jnp.matmul(blocks * below[None, None], inverse, precision="highest")
        return inverse - jnp.matmul(inverse, moved, precision="highest"), None

    diagonal = jnp.diagonal(blocks, axis1=2, axis2=3)[..., None]
    inverse, _ = jax.lax.scan(double, eye / diagonal, jnp.asarray(_halves(w), dtype))

    def row(X: Array, step: tuple[Array, Array]) -> tuple[Array, None]:
        at, corner = step
        left = jax.lax.dynamic_slice_in_dim(padded, at, w, axis=1)
        below = -jnp.matmul(left, X, precision="highest")
        below = jax.lax.dynamic_update_slice_in_dim(
            below, jnp.broadcast_to(eye[0], corner.shape), at, axis=2
        )
        new = jnp.matmul(corner, below, precision="highest")
        return jax.lax.dynamic_update_slice_in_dim(X, new, at, axis=1), None

    steps = jnp.arange(0, size, w), jnp.moveaxis(inverse, 1, 0)
    X, _ = jax.lax.scan(row, jnp.zeros_like(padded), steps)
    return X[:, :n, :n]


def _halves(w: int) -> np.ndarray:
    """Masks of what is below the first half of blocks of size 2, 4, .. `w`."""
    i, s = np.arange(w), 2 ** np.arange(w.bit_length() - 1)[:, None]
    same = (i // (2 * s))[:, :, None] == (i // (2 * s))[:, None, :]
    return same & ((i // s)[:, :, None] > (i // s)[:, None, :])


class SupernodalFactor(lx.AbstractLinearOperator):
    """The inverse of a block-sparse symmetric matrix, by its Cholesky factor.

    `mv(b)` is `(H + damping)^-1 b`; `result` is a member of
    [`jaxsci.solvers.linear.DIRECT_RESULTS`][].
    """

    plan: SupernodalPlan
    factors: tuple[tuple[Float[Array, "S B c c"], Float[Array, "S B r c"]], ...]
    result: DIRECT_RESULTS
    d: int = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        plan, d = self.plan, self.d
        # A row of zeros, which padding reads.
        x = vector.reshape(len(plan.slots), d)
        x = jnp.concatenate([x, jnp.zeros((1, d), vector.dtype)])[plan.variables]

        def columns(x: Array, slot: Array, batch: int, width: int) -> Array:
            return jax.lax.dynamic_slice_in_dim(x, slot, batch * width).reshape(batch, width * d)

        def forward(x, step):
            (inverse, panel), slot, below = step
            # A factor stored in fewer bits is widened as it is read.
            inverse, panel = inverse.astype(x.dtype), panel.astype(x.dtype)
            batch, width = len(inverse), inverse.shape[1] // d
            y = _apply("bij,bj->bi", inverse, columns(x, slot, batch, width))
            done = _apply("bij,bj->bi", panel, y)
            x = jax.lax.dynamic_update_slice_in_dim(x, y.reshape(-1, d), slot, 0)
            done = done.reshape(*below.shape, d)
            return x.at[below].add(-done, mode="promise_in_bounds"), None

        def backward(x, step):
            (inverse, panel), slot, below = step
            inverse, panel = inverse.astype(x.dtype), panel.astype(x.dtype)
            batch, width = len(inverse), inverse.shape[1] // d
            done = _apply("bij,bi->bj", panel, x[below].reshape(batch, -1))
            y = _apply("bij,bi->bj", inverse, columns(x, slot, batch, width) - done)
            return jax.lax.dynamic_update_slice_in_dim(x, y.reshape(-1, d), slot, 0), None

        bands = zip(self.factors, plan.bands, strict=True)
        steps = [(factor, band.slot, band.below) for factor, band in bands]
        for band in steps:
            x, _ = jax.lax.scan(forward, x, band)
        for band in reversed(steps):
            x, _ = jax.lax.scan(backward, x, band, reverse=True)
        return x[plan.slots].reshape(-1)

    def as_matrix(self) -> Float[Array, "n n"]:
        return jax.vmap(self.mv)(jnp.eye(self.in_size(), dtype=self.factors[0][0].dtype))

    def transpose(self) -> "SupernodalFactor":
        return self

    def in_structure(self):
        return jax.ShapeDtypeStruct((len(self.plan.slots) * self.d,), self.factors[0][0].dtype)

    def out_structure(self):
        return self.in_structure()


register_positive(SupernodalFactor)


def plan_supernodal(rows, cols, count: int, d: int, leaf: int | None) -> SupernodalPlan:
    """The plan for `N = count` blocks of size `d`, in parts of at most `leaf` blocks."""
    symbolic = Symbolic(rows, cols, count, d, max(1, 24 // d) if leaf is None else leaf)
    return SupernodalPlan(
        tuple(
            Fronts(*(jnp.asarray(places, jnp.uint32) for places in band)) for band in symbolic.bands
        ),
        jnp.asarray(symbolic.diagonal, jnp.uint32),
        jnp.asarray(symbolic.lower, jnp.uint32),
        jnp.asarray(symbolic.turned),
        jnp.asarray(symbolic.slots, jnp.uint32),
        jnp.asarray(symbolic.variables, jnp.uint32),
        symbolic.storage,
    )


def _apply(spec: str, matrix: Array, vector: Array) -> Array:
    return jnp.einsum(spec, matrix, vector, precision="highest")
