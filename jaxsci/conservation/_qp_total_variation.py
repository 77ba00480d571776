"""Optimality conditions of the nearest point under `sum_i |v_i+1 - v_i| <= bound`, `G v = b`."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsci.precision import largest, matmul

from ._qp import AbstractComplementarity, Solve, factor_shifted, solve_masked
from ._qp_refine import proves_empty

Multipliers = tuple[Array, Array]
Working = tuple[Array, Array, Array]


class BoundedVariation(AbstractComplementarity):
    """`gram = [D; G] cov [D; G]'`, `offset = [D mean; G mean - b]` for differences `D`, scaled.

    With auxiliary bounds `t` the set is `t - D v >= 0`, `t + D v >= 0`, `bound - sum t >= 0`; the
    pairs are the slacks and multipliers of these `2 d + 1` rows in this order, and `x = [t, y]`.
    Multipliers are `p` (for `D`) with `y` (for `G`), and `tau` (for the bound): the point is
    `mean + cov [D; G]' [p; y]`, with `|p_i| <= tau`, and `p_i = -tau sign(D_i v)` off the flats.
    """

    gram: Float[Array, "rows rows"]
    offset: Float[Array, " rows"]
    bound: Float[Array, ""]
    differences: int = eqx.field(static=True)

    @property
    def dtype(self):
        return self.gram.dtype

    def sizes(self) -> tuple[int, int]:
        return 2 * self.differences + 1, self.offset.shape[0]

    def residual(self, z: Array, x: Array) -> tuple[Array, Array]:
        d = self.differences
        t, y = x[:d], x[d:]
        up, down, tau = z[:d], z[d : 2 * d], z[2 * d]
        value = self.offset + matmul(self.gram, jnp.concatenate([down - up, y]))
        u = value[:d]
        pairs = jnp.concatenate([t - u, t + u, (self.bound - jnp.sum(t))[None]])
        # Stationarity in t comes with a minus sign: the whole map is then monotone.
        return pairs, jnp.concatenate([tau - up - down, value[d:]])

    def factor(self, d: Array) -> Solve:
        """By eliminating `t` and the sum of the two multipliers of each difference.

        What remains has one row for each difference and one for the bound, `-theta' D`, where
        `theta` tends to the sign of the difference where it is not zero. Written this way nothing
        cancels as the shifts of the pairs tend to 0 or infinity.
        """
        m = self.differences
        plus, minus, last = d[:m], d[m : 2 * m], d[2 * m]
        total = plus + minus
        theta = (minus - plus) / total
        mean_shift, skew = total / 4, (minus - plus) / 4
        rows = self._with_bound_row(theta)[0]
        shift = jnp.concatenate(
            [
                mean_shift,
                (jnp.sum(plus * minus / total) + last)[None],
                jnp.zeros_like(self.offset[m:]),
            ]
        )
        solve = factor_shifted(rows, shift)

        def both(right_pairs, right_free):
            r_up, r_down, r_last = right_pairs[:m], right_pairs[m : 2 * m], right_pairs[2 * m]
            r_t, r_y = right_free[:m], right_free[m:]
            first = (r_down - r_up) / 2 + skew * r_t
            bound = r_last + jnp.sum(r_up + r_down) / 2 + jnp.vdot(mean_shift, r_t)
            bound = bound - jnp.vdot(theta, first)
            found = solve(jnp.concatenate([first, bound[None], r_y]))
            dtau, dy = found[m], found[m + 1 :]
            dp = found[:m] - theta * dtau
            q = dtau - r_t
            dt = (r_up + r_down) / 2 - mean_shift * q - skew * dp
            dz = jnp.concatenate([(q - dp) / 2, (q + dp) / 2, dtau[None]])
            return dz, jnp.concatenate([dt, dy])

        return both

    def _with_bound_row(self, signs: Array) -> tuple[Array, Array]:
        """Gram matrix and offset of the rows `[D; -signs' D; G]`."""
        m = self.differences
        row = -matmul(signs, self.gram[:m])
        corner = -jnp.vdot(row[:m], signs)
        wide = jnp.concatenate([self.gram[:m], row[None], self.gram[m:]])
        column = jnp.concatenate([row[:m], corner[None], row[m:]])
        gram = jnp.concatenate([wide[:, :m], column[:, None], wide[:, m:]], axis=1)
        last = self.bound - jnp.vdot(signs, self.offset[:m])
        return gram, jnp.concatenate([self.offset[:m], last[None], self.offset[m:]])

    def multipliers(self, z: Array, x: Array) -> Multipliers:
        d = self.differences
        return jnp.concatenate([z[d : 2 * d] - z[:d], x[d:]]), z[2 * d]

    def _values(self, multipliers: Multipliers) -> tuple[Array, Array]:
        value = self.offset + matmul(self.gram, multipliers[0])
        return value[: self.differences], value[self.differences :]

    def natural_residual(self, multipliers: Multipliers) -> Float[Array, ""]:
        (u, e), (lam, tau) = self._values(multipliers), multipliers
        p = lam[: self.differences]
        differences = p + jnp.clip(u - p, -tau, tau)
        bound = jnp.minimum(tau, self.bound - jnp.sum(jnp.abs(u)))
        return largest(jnp.concatenate([differences, bound[None], e]))

    def working(self, multipliers: Multipliers) -> Working:
        """Which differences are zero, the signs of the others, and whether the bound binds."""
        (u, _), (lam, tau) = self._values(multipliers), multipliers
        pull = u - lam[: self.differences]
        binds = tau > self.bound - jnp.sum(jnp.abs(u))
        flat = binds & (jnp.abs(pull) <= tau)
        return flat, jnp.where(flat, 0.0, jnp.sign(pull)), binds

    def solve_working(self, working: Working) -> Multipliers:
        flat, signs, binds = working
        gram, offset = self._with_bound_row(signs)
        m = self.differences
        mask = jnp.concatenate([flat, binds[None], jnp.ones(self.offset.shape[0] - m, bool)])
        found = solve_masked(gram, -offset, mask)
        p = found[:m] - signs * found[m]
        return jnp.concatenate([p, found[m + 1 :]]), found[m]

    def response(self, working: Working, residual: Array) -> Array:
        m = self.differences
        offset = jnp.concatenate([jnp.zeros_like(self.offset[:m]), residual])
        still = BoundedVariation(self.gram, offset, jnp.zeros_like(self.bound), m)
        return still.solve_working(working)[0]

    def row_multipliers(self, multipliers: Multipliers) -> Array:
        return multipliers[0]

    def contradicts(self, multipliers: Multipliers) -> Bool[Array, ""]:
        lam, tau = multipliers
        amount = -jnp.vdot(self.offset, lam) - self.bound * tau
        size = jnp.vdot(jnp.abs(self.offset), jnp.abs(lam)) + self.bound * tau
        variance = jnp.vdot(lam, matmul(self.gram, lam))
        inside = jnp.all(jnp.abs(lam[: self.differences]) <= tau * (1.0 + 1e-3))
        noise = jnp.vdot(jnp.diagonal(self.gram), lam**2)
        return inside & proves_empty(variance, amount, size, noise)
