"""A conservation law on cells: numerical fluxes through faces, and their derivatives."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ._averages import gauss_legendre
from ._boundary import Boundary, Dirichlet, Flux, Outflow, Periodic, at
from ._law import ConservationLaw


class State(NamedTuple):
    """Averages over cells, and what has passed the ends and been produced so far."""

    averages: Float[Array, " cells"]
    inflow: Float[Array, ""]
    outflow: Float[Array, ""]
    produced: Float[Array, ""]


class Bands(NamedTuple):
    """The Jacobian of the diffusive part; row `i` couples cells `i - 1`, `i` and `i + 1`.

    `lower[0]` and `upper[-1]` couple the two ends of a circle; else they are 0.
    """

    lower: Float[Array, " cells"]
    main: Float[Array, " cells"]
    upper: Float[Array, " cells"]


class SemiDiscrete(eqx.Module):
    """The law on cells between `edges`: `explicit` + `implicit` is the rate of a `State`.

    All fluxes are evaluated once a face and shared by its two cells, so that whatever one cell
    loses its neighbour gains, to rounding.
    """

    law: ConservationLaw
    edges: Float[Array, " cells+1"]
    low: Boundary
    high: Boundary
    average: str = eqx.field(static=True)
    nodes: int = eqx.field(static=True)
    limiter: str = eqx.field(static=True)

    @property
    def periodic(self) -> bool:
        return isinstance(self.low, Periodic)

    @property
    def widths(self) -> Array:
        return jnp.diff(self.edges)

    @property
    def centres(self) -> Array:
        return (self.edges[:-1] + self.edges[1:]) / 2

    def explicit(self, t: Array, u: Array) -> State:
        """The rate due to convection and to fluxes given at the ends."""
        fluxes = self._convective_fluxes(t, u)
        if isinstance(self.low, Flux):
            fluxes = fluxes.at[0].set(at(self.low.flux, t))
        if isinstance(self.high, Flux):
            fluxes = fluxes.at[-1].set(at(self.high.flux, t))
        return self._rate(fluxes, jnp.zeros_like(u))

    def implicit(self, t: Array, u: Array) -> State:
        """The rate due to diffusion and to the source, which may be stiff."""
        fluxes = jnp.zeros_like(self.edges)
        if self.law.diffusive:
            left, right = self._neighbours(t, u)
            fluxes = self._diffusive_flux(left, right) / self._distances() * self._open_faces()
        return self._rate(fluxes, self._source(t, u))

    def bands(self, t: Array, u: Array) -> Bands:
        """The Jacobian of `implicit` in the averages, from two derivatives a face."""
        n = u.size
        main = jnp.zeros_like(u)
        lower, upper = jnp.zeros_like(u), jnp.zeros_like(u)
        if self.law.source is not None:
            _, main = jax.jvp(lambda v: self._source(t, v), (u,), (jnp.ones_like(u),))
        if self.law.diffusive:
            left, right = self._neighbours(t, u)
            one, zero = jnp.ones_like(left), jnp.zeros_like(left)
            scale = self._open_faces() / self._distances()
            _, by_left = jax.jvp(self._diffusive_flux, (left, right), (one, zero))
            _, by_right = jax.jvp(self._diffusive_flux, (left, right), (zero, one))
            by_left, by_right = by_left * scale, by_right * scale
            if not self.periodic:  # the ends' outer neighbours are not unknowns
                by_left, by_right = by_left.at[0].set(0), by_right.at[n].set(0)
            h = self.widths
            main = main + (by_right[:-1] - by_left[1:]) / h
            lower, upper = by_left[:-1] / h, -by_right[1:] / h
        return Bands(lower, main, upper)

    def _rate(self, fluxes: Array, source: Array) -> State:
        h = self.widths
        rate = (fluxes[:-1] - fluxes[1:]) / h + source
        return State(rate, fluxes[0], fluxes[-1], (h * source).sum())

    def _source(self, t: Array, u: Array) -> Array:
        if self.law.source is None:
            return jnp.zeros_like(u)
        return jnp.broadcast_to(self.law.source(t, self.centres, u), u.shape)

    def _neighbours(self, t: Array, u: Array) -> tuple[Array, Array]:
        """The values left and right of each face; a given value stands outside its end."""
        if self.periodic:
            before, after = u[-1], u[0]
        else:
            before = at(self.low.value, t) if isinstance(self.low, Dirichlet) else u[0]
            after = at(self.high.value, t) if isinstance(self.high, Dirichlet) else u[-1]
        left = jnp.concatenate([before[None], u])
        right = jnp.concatenate([u, after[None]])
        return left, right

    def _distances(self) -> Array:
        """From the point left of each face, where its value belongs, to the point right of it."""
        h = self.widths
        inner = (h[:-1] + h[1:]) / 2
        if self.periodic:
            seam = ((h[0] + h[-1]) / 2)[None]
            return jnp.concatenate([seam, inner, seam])
        return jnp.concatenate([h[:1] / 2, inner, h[-1:] / 2])

    def _open_faces(self) -> Array:
        """1 for faces through which the scheme computes the diffusive flux, else 0."""
        mask = jnp.ones_like(self.edges)
        if isinstance(self.low, Flux | Outflow):
            mask = mask.at[0].set(0)
        if isinstance(self.high, Flux | Outflow):
            mask = mask.at[-1].set(0)
        return mask

    def _diffusive_flux(self, left: Array, right: Array) -> Array:
        """Minus the integral of `k` from `left` to `right`, or what stands for it."""
        if self.law.kirchhoff is not None and self.average == "integral":
            return self.law.kirchhoff(left) - self.law.kirchhoff(right)
        k: Any = self.law.conductivity  # present: `solve_finite_volume` has checked the law
        if self.average == "integral":
            x, w = gauss_legendre(self.nodes, left.dtype)
            between = left[None, :] + x[:, None] * (right - left)[None, :]
            mean = (w[:, None] * k(between)).sum(axis=0)
        elif self.average == "arithmetic":
            mean = (k(left) + k(right)) / 2
        else:
            a, b = k(left), k(right)
            total = a + b
            # Double where: 0 / 0 where the conductivity vanishes on both sides.
            safe = jnp.where(total > 0, total, jnp.ones_like(total))
            mean = jnp.where(total > 0, 2 * a * b / safe, jnp.zeros_like(total))
        return mean * (left - right)

    def _convective_fluxes(self, t: Array, u: Array) -> Array:
        f = self.law.convection
        if f is None:
            return jnp.zeros_like(self.edges)
        left, right = self._reconstruct(t, u)
        f_left, speed_left = jax.jvp(f, (left,), (jnp.ones_like(left),))
        f_right, speed_right = jax.jvp(f, (right,), (jnp.ones_like(right),))
        fastest = jnp.maximum(jnp.abs(speed_left), jnp.abs(speed_right))
        return (f_left + f_right - fastest * (right - left)) / 2

    def _reconstruct(self, t: Array, u: Array) -> tuple[Array, Array]:
        """Both values at each face, from lines in the cells whose slopes are limited."""
        left, right = self._neighbours(t, u)
        if self.limiter == "none":
            return left, right
        slopes = (right - left) / self._distances()
        rise = _minmod(slopes[:-1], slopes[1:]) * self.widths / 2
        down, up = u - rise, u + rise
        if self.periodic:
            before, after = up[-1], down[0]
        else:
            # Beyond an open end there is what has just arrived at it.
            before = left[0] if isinstance(self.low, Dirichlet) else down[0]
            after = right[-1] if isinstance(self.high, Dirichlet) else up[-1]
        return jnp.concatenate([before[None], up]), jnp.concatenate([down, after[None]])


def _minmod(a: Array, b: Array) -> Array:
    smaller = jnp.where(jnp.abs(a) < jnp.abs(b), a, b)
    return jnp.where(a * b > 0, smaller, jnp.zeros_like(a))
