"""Optimality conditions of the nearest point under `A v >= c`, `G v = b`."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsci.precision import largest, matmul

from ._qp import AbstractComplementarity, Solve, factor_shifted, solve_masked
from ._qp_refine import proves_empty


class Polyhedral(AbstractComplementarity):
    """`gram = [A; G] cov [A; G]'` and `offset = [A mean - c; G mean - b]`, rows scaled.

    The point is `mean + cov [A; G]' multipliers`; the first `pairs` rows are inequalities.
    """

    gram: Float[Array, "rows rows"]
    offset: Float[Array, " rows"]
    pairs: int = eqx.field(static=True)

    @property
    def dtype(self):
        return self.gram.dtype

    def sizes(self) -> tuple[int, int]:
        return self.pairs, self.offset.shape[0] - self.pairs

    def residual(self, z: Array, x: Array) -> tuple[Array, Array]:
        value = self.offset + matmul(self.gram, jnp.concatenate([z, x]))
        return value[: self.pairs], value[self.pairs :]

    def factor(self, d: Array) -> Solve:
        shift = jnp.concatenate([d, jnp.zeros(self.sizes()[1], self.dtype)])
        solve = factor_shifted(self.gram, shift)

        def both(right_pairs, right_free):
            change = solve(jnp.concatenate([right_pairs, right_free]))
            return change[: self.pairs], change[self.pairs :]

        return both

    def multipliers(self, z: Array, x: Array) -> Array:
        return jnp.concatenate([z, x])

    def natural_residual(self, multipliers: Array) -> Float[Array, ""]:
        s, e = self.residual(multipliers[: self.pairs], multipliers[self.pairs :])
        both = jnp.minimum(s, multipliers[: self.pairs])
        return largest(jnp.concatenate([both, e]))

    def working(self, multipliers: Array) -> Bool[Array, " rows"]:
        z, x = multipliers[: self.pairs], multipliers[self.pairs :]
        s, _ = self.residual(z, x)
        return jnp.concatenate([z > s, jnp.ones(x.shape, bool)])

    def solve_working(self, working: Bool[Array, " rows"]) -> Array:
        return solve_masked(self.gram, -self.offset, working)

    def response(self, working: Bool[Array, " rows"], residual: Array) -> Array:
        offset = jnp.concatenate([jnp.zeros_like(self.offset[: self.pairs]), residual])
        return Polyhedral(self.gram, offset, self.pairs).solve_working(working)

    def row_multipliers(self, multipliers: Array) -> Array:
        return multipliers

    def contradicts(self, multipliers: Array) -> Bool[Array, ""]:
        return proves_empty(
            jnp.vdot(multipliers, matmul(self.gram, multipliers)),
            -jnp.vdot(self.offset, multipliers),
            jnp.vdot(jnp.abs(self.offset), jnp.abs(multipliers)),
            jnp.vdot(jnp.diagonal(self.gram), multipliers**2),
        )
