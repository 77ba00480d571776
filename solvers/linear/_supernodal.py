"""Sparse Cholesky factorisation in pure JAX: dense fronts in batches, by the height of a tree."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Bool, Float, Int

from jaxsci.solvers.sparse import BlockSymmetric, register_positive

from ._results import DIRECT_RESULTS
from ._symbolic import Symbolic


class Fronts(eqx.Module):
    """The places of one band of fronts, see `Band`."""

    panel: Int[Array, "S B cr c"]
    update: Int[Array, "S B r r"]
    columns: Int[Array, "S B c"]
    below: Int[Array, "S B r"]


class SupernodalPlan(eqx.Module):
    """The symbolic phase of a sparse Cholesky factorisation; arrays and sizes only.

    Made by [`jaxsci.solvers.linear.SparseCholesky`][]`.plan`.
    """

    bands: tuple[Fronts, ...]
    diagonal: Int[Array, " N"]
    lower: Int[Array, " E"]
    turned: Bool[Array, " E"]
    count: int = eqx.field(static=True)
    storage: int = eqx.field(static=True)

    def factor(
        self, H: BlockSymmetric, *, damping: Float[Array, ""] | float = 0.0
    ) -> "SupernodalFactor":
        """The numeric phase, in `jit`: `L L' = H + damping`, in the dtype of `H`.

        **Raises:** `ValueError` if `H` does not have the size of the plan.
        """
        if H.diagonal.shape[0] != self.count or len(H.lower) != len(self.lower):
            raise ValueError(
                f"`factor(H=...)`: expected {self.count} diagonal blocks and {len(self.lower)} "
                f"below, as in the plan, got {H.diagonal.shape[0]} and {len(H.lower)}"
            )
        d, dtype = H.diagonal.shape[-1], H.diagonal.dtype
        H = H.shifted(damping)
        below = jnp.where(self.turned[:, None, None], H.lower.swapaxes(1, 2), H.lower)
        blocks = jnp.zeros((self.storage + 2, d, d), dtype)
        blocks = blocks.at[self.storage + 1].set(jnp.eye(d, dtype=dtype))
        blocks = blocks.at[self.diagonal].set(H.diagonal).at[self.lower].set(below)
        factors = []
        for band in self.bands:
            blocks, factor = jax.lax.scan(_eliminate, blocks, band)
            factors.append(factor)
        positive = jnp.stack([jnp.isfinite(factor[0]).all() for factor in factors]).all()
        finite = jnp.isfinite(H.diagonal).all() & jnp.isfinite(H.lower).all()
        result = DIRECT_RESULTS.where(
            positive, DIRECT_RESULTS.successful, DIRECT_RESULTS.not_positive_definite
        )
        result = DIRECT_RESULTS.where(finite, result, DIRECT_RESULTS.non_finite_input)
        return SupernodalFactor(self, tuple(factors), result, d)


def _eliminate(blocks: Array, places: Fronts) -> tuple[Array, tuple[Array, Array]]:
    """One batch of dense fronts: the inverse of the corner, and the panel below it."""
    batch, rows, c = places.panel.shape
    r, d = rows - c, blocks.shape[-1]
    dense = blocks[places.panel].transpose(0, 1, 3, 2, 4).reshape(batch, rows * d, c * d)
    # Above the diagonal the corner is never filled: symmetrising would spoil it.
    corner = jax.lax.linalg.cholesky(dense[:, : c * d], symmetrize_input=False)
    inverse = _invert_lower(corner)
    panel = jnp.matmul(dense[:, c * d :], inverse.swapaxes(1, 2), precision="highest")
    if r:
        square = jnp.matmul(panel, panel.swapaxes(1, 2), precision="highest")
        square = square.reshape(batch, r, d, r, d).transpose(0, 1, 3, 2, 4)
        blocks = blocks.at[places.update].add(-square, mode="drop")
    return blocks, (inverse, panel)


def _invert_lower(lower: Float[Array, "B n n"]) -> Float[Array, "B n n"]:
    """Inverses of lower triangular matrices, by doubling the size of inverted diagonal blocks.

    A few batched products: a triangular solve of this size took ten times as long on a CPU.
    """
    batch, n = lower.shape[:2]
    size = 1 << max(0, n - 1).bit_length()
    padded = jnp.pad(lower, ((0, 0), (0, size - n), (0, size - n)))
    filled = jnp.arange(size) < n
    diagonal = jnp.where(filled[None], jnp.diagonal(padded, axis1=1, axis2=2), 1)
    inverse = (1 / diagonal)[:, :, None, None]
    s = 1
    while s < size:
        pairs = padded.reshape(batch, size // (2 * s), 2 * s, size // (2 * s), 2 * s)
        pairs = jnp.moveaxis(jnp.diagonal(pairs, axis1=1, axis2=3), -1, 1)
        first, second = inverse[:, 0::2], inverse[:, 1::2]
        below = jnp.matmul(pairs[:, :, s:, :s], first, precision="highest")
        below = -jnp.matmul(second, below, precision="highest")
        top = jnp.concatenate([first, jnp.zeros_like(first)], axis=3)
        inverse = jnp.concatenate([top, jnp.concatenate([below, second], axis=3)], axis=2)
        s *= 2
    return inverse[:, 0, :n, :n]


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
        # One row more, which the padding reads and writes: it stays zero.
        x = jnp.concatenate([vector.reshape(plan.count, d), jnp.zeros((1, d), vector.dtype)])

        def forward(x, step):
            (inverse, panel), places = step
            # A factor stored in fewer bits is widened as it is read.
            inverse, panel = inverse.astype(x.dtype), panel.astype(x.dtype)
            y = _apply("bij,bj->bi", inverse, _gather(x, places.columns))
            done = _apply("bij,bj->bi", panel, y)
            x = x.at[places.columns].set(y.reshape(*places.columns.shape, d))
            return x.at[places.below].add(-done.reshape(*places.below.shape, d)), None

        def backward(x, step):
            (inverse, panel), places = step
            inverse, panel = inverse.astype(x.dtype), panel.astype(x.dtype)
            done = _apply("bij,bi->bj", panel, _gather(x, places.below))
            y = _apply("bij,bi->bj", inverse, _gather(x, places.columns) - done)
            return x.at[places.columns].set(y.reshape(*places.columns.shape, d)), None

        steps = list(zip(self.factors, plan.bands, strict=True))
        for band in steps:
            x, _ = jax.lax.scan(forward, x, band)
        for band in reversed(steps):
            x, _ = jax.lax.scan(backward, x, band, reverse=True)
        return x[: plan.count].reshape(-1)

    def as_matrix(self) -> Float[Array, "n n"]:
        return jax.vmap(self.mv)(jnp.eye(self.in_size(), dtype=self.factors[0][0].dtype))

    def transpose(self) -> "SupernodalFactor":
        return self

    def in_structure(self):
        return jax.ShapeDtypeStruct((self.plan.count * self.d,), self.factors[0][0].dtype)

    def out_structure(self):
        return self.in_structure()


register_positive(SupernodalFactor)


def plan_supernodal(rows, cols, count: int, d: int, leaf: int | None) -> SupernodalPlan:
    """The plan for `N = count` blocks of size `d`, in parts of at most `leaf` blocks."""
    symbolic = Symbolic(rows, cols, count, d, max(1, 24 // d) if leaf is None else leaf)
    return SupernodalPlan(
        tuple(Fronts(*(jnp.asarray(a) for a in arrays)) for arrays in symbolic.bands),
        jnp.asarray(symbolic.diagonal, jnp.int32),
        jnp.asarray(symbolic.lower, jnp.int32),
        jnp.asarray(symbolic.turned),
        count,
        symbolic.storage,
    )


def _apply(spec: str, matrix: Array, vector: Array) -> Array:
    return jnp.einsum(spec, matrix, vector, precision="highest")


def _gather(x: Array, index: Array) -> Array:
    return x[index].reshape(index.shape[0], -1)
