"""The covariance that a linear observation leaves: a structured covariance minus a low-rank one."""

import jax
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, Float

from jaxsci.precision import matmul

from ._disjoint import DisjointRows
from ._register import register_covariance
from ._selected import EnclosingRows


class Conditioned(lx.AbstractLinearOperator):
    """`P - P G' S^-1 G P` with `S = G P G' + R`, kept as its parts.

    The prior `P` keeps its structure and only a `k x k` factor is added, so that products,
    variances, samples and densities cost O(n k) for `k` rows on a diagonal prior. Nothing is
    subtracted that could be avoided: samples are made by Matheron's rule, and satisfy an exact
    observation (`R = 0`) to rounding.

    Made by [`jaxsci.conservation.condition`][]; the parts are

    - `prior`: the covariance before, `(n, n)`; it may be a `Conditioned` itself.
    - `rows`: `G`, `(k, n)`.
    - `noise`: `R`: `None` (exact), variances `(k,)`, or a matrix `(k, k)`.
    - `whiten`: `W` with `W S W' = I` on the observed directions and 0 on directions that had no
        variance left: `(k,)` if `S` is diagonal, else `(k, k)`.
    - `null`: the projector on the directions without variance, as `whiten` in shape.
    - `log_det`: the log-determinant of `S` on the observed directions.
    """

    prior: lx.AbstractLinearOperator
    rows: lx.AbstractLinearOperator
    noise: Float[Array, " k"] | Float[Array, "k k"] | None
    whiten: Float[Array, " k"] | Float[Array, "k k"]
    null: Float[Array, " k"] | Float[Array, "k k"]
    log_det: Float[Array, ""]

    def precision_mv(self, residual: Float[Array, " k"]) -> Float[Array, " k"]:
        """`S^-1 r`, with the pseudo-inverse on directions without variance."""
        if self.whiten.ndim == 1:
            return self.whiten * (self.whiten * residual)
        return matmul(self.whiten.T, matmul(self.whiten, residual))

    def gain_mv(self, residual: Float[Array, " k"]) -> Float[Array, " n"]:
        """`P G' S^-1 r`: how far the mean moves for a residual `r`."""
        return self.prior.mv(self.rows.T.mv(self.precision_mv(residual)))

    def root_gain(self) -> Float[Array, "n k"]:
        """`F = P G' W'`, the factor of what was subtracted: the covariance is `P - F F'`."""
        whiten = self.whiten
        if whiten.ndim == 1:
            rows = whiten[:, None] * self.rows.as_matrix()
        else:
            rows = matmul(whiten, self.rows.as_matrix())
        return jax.vmap(self.prior.mv)(rows).T

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        forward = self.prior.mv(vector)
        return forward - self.gain_mv(self.rows.mv(forward))

    def as_matrix(self) -> Float[Array, "n n"]:
        factor = self.root_gain()
        return self.prior.as_matrix() - matmul(factor, factor.T)

    def transpose(self) -> "Conditioned":
        return self

    def in_structure(self) -> jax.ShapeDtypeStruct:
        return self.prior.in_structure()

    def out_structure(self) -> jax.ShapeDtypeStruct:
        return self.prior.out_structure()


register_covariance(Conditioned)


@lx.diagonal.register(Conditioned)
def _(operator: Conditioned) -> Array:
    prior, rows, whiten = operator.prior, operator.rows, operator.whiten
    variance = lx.diagonal(prior)
    if isinstance(rows, DisjointRows) and separates(prior, rows):
        # A point loses (C g_j)_i^2 (S^-1)_jj to its own row j, and the C g_j do not overlap.
        precision = whiten**2 if whiten.ndim == 1 else jnp.sum(whiten**2, axis=0)
        lost = prior.mv(rows.flat_weights) ** 2 * rows.spread(precision)
    else:
        lost = jnp.sum(operator.root_gain() ** 2, axis=1)
    # Rounding may leave a variance that should be 0 at minus a few ulps.
    return jnp.maximum(variance - lost, 0)


def separates(cov: lx.AbstractLinearOperator, rows: DisjointRows) -> bool:
    """Whether the covariance has nothing between the points of two rows."""
    independent = cov
    while isinstance(independent, Conditioned):
        independent = independent.prior
    if not isinstance(independent, lx.DiagonalLinearOperator):
        return False
    return independent is cov or isinstance(rows, EnclosingRows)
