"""Chebyshev polynomials combined so that each satisfies the boundary conditions."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._basis import AbstractSpectralBasis, as_float
from ._trigonometric import Cosine

Condition = tuple[float, float]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ChebyshevShen(AbstractSpectralBasis):
    """`phi_k = T_k + a_k T_(k+1) + b_k T_(k+2)`, each with `alpha u + beta du/dx = 0` at both ends.

    `T_k(2 x - 1)` are Chebyshev polynomials; `a_k` and `b_k` follow from the two conditions, so
    that any sum of the functions satisfies them: Dirichlet, Neumann, Robin, or one at each end.
    A smooth function that satisfies them is approached exponentially fast, without the Gibbs
    ring that sines and cosines leave at an end.

    The points are Chebyshev's, `x_j = (1 - cos(pi j / (N - 1))) / 2`, dense at the ends: data on
    uniform points has to be interpolated to them.

    **Arguments:**

    - `left`, `right`: `(alpha, beta)` of the condition at `x = 0` and at `x = 1`, or `None` for no
        condition; `(1, 0)` is Dirichlet, `(0, 1)` Neumann. The derivative is along `x`, at both
        ends, on the interval [0, 1]: on one of length `L` pass `beta / L`.

    **Raises:** `ValueError` for a condition that is 0 = 0, and (from the matrices) where some
    `phi_k` does not exist, as two Robin conditions of the wrong sign can have it.

    !!! example
        >>> from jaxsci.operators.spectral import ChebyshevShen
        >>> ChebyshevShen(left=(1, 0), right=(1, 0)).synthesis(3, 1)  # T_0 - T_2
        array([[0.],
               [2.],
               [0.]])

    Reference: Shen, *Efficient spectral-Galerkin method II*, SIAM J. Sci. Comput. 16 (1995); as
    layers of an operator: Liu et al., *Render unto Numerics*.
    """

    left: Condition | None = (1.0, 0.0)
    right: Condition | None = (1.0, 0.0)

    def __post_init__(self):
        for side in ("left", "right"):
            condition = getattr(self, side)
            if condition is None:
                continue
            values = np.asarray(condition, float)
            if values.shape != (2,) or not np.isfinite(values).all() or not values.any():
                raise ValueError(
                    f"`ChebyshevShen({side}=...)`: expected (alpha, beta), finite and not both 0, "
                    f"or None, got {condition!r}"
                )
            object.__setattr__(self, side, (float(values[0]), float(values[1])))

    def coordinates(self, points: Any, xp: Any = np) -> Any:
        return (1 - xp.cos(np.pi * Cosine().coordinates(points, xp))) / 2

    def limit(self, points: Any) -> Any:
        return points - self._conditions

    def wavenumbers(self, modes: int, half: bool = False) -> np.ndarray:
        return np.arange(modes)

    def analysis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        inverse = as_float(self._from_chebyshev(modes) * _signs(modes)[None, :], xp)
        return inverse @ Cosine().analysis(points, modes, xp=xp)

    def synthesis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        combined = self.combination(modes)
        cosines = Cosine().synthesis(points, len(combined), xp=xp)
        values = cosines @ as_float(_signs(len(combined))[:, None] * combined, xp)
        # The value at an end of Dirichlet is 0 to rounding; it is made 0.
        j, count = xp.arange(points), xp.asarray(points)
        for end, condition in ((0, self.left), (count - 1, self.right)):
            if condition is not None and condition[1] == 0:
                values = xp.where((j == end)[:, None], 0.0, values)
        return values

    def fast_analysis(self, values: Array, modes: int, half: bool = False) -> Array:
        inverse = jnp.asarray(self._from_chebyshev(modes) * _signs(modes)[None, :], values.dtype)
        cosines = Cosine().fast_analysis(values, modes)
        return jnp.matmul(cosines, inverse.T, precision=jax.lax.Precision.HIGHEST)

    def fast_synthesis(self, coefficients: Array, points: int, half: bool = False) -> Array:
        combined = self.combination(coefficients.shape[-1])
        combined = jnp.asarray(_signs(len(combined))[:, None] * combined, coefficients.dtype)
        cosines = jnp.matmul(coefficients, combined.T, precision=jax.lax.Precision.HIGHEST)
        values = Cosine().fast_synthesis(cosines, points)
        for end, condition in ((0, self.left), (points - 1, self.right)):
            if condition is not None and condition[1] == 0:
                values = values.at[..., end].set(0)
        return values

    def combination(self, modes: int) -> np.ndarray:
        """The Chebyshev coefficients of each `phi_k`, as columns: shape `(n + conditions, n)`."""
        matrix = np.zeros((modes + self._conditions, modes))
        for k in range(modes):
            degree = np.arange(k, k + self._conditions + 1)
            # T_m(+-1) = (+-1)^m and dT_m/ds = (+-1)^(m+1) m^2, with s = 2 x - 1.
            rows = [
                alpha * side**degree + 2 * beta * side ** (degree + 1) * degree**2
                for side, (alpha, beta) in self._sides
            ]
            system = np.array(rows).reshape(len(rows), len(degree))
            scale = np.abs(system).max(initial=0, axis=1, keepdims=True)
            system = system / np.where(scale > 0, scale, 1)
            if self._conditions and np.linalg.cond(system[:, 1:]) > 1e10:
                raise ValueError(
                    f"`ChebyshevShen(left={self.left}, right={self.right})`: expected conditions "
                    f"that some T_{k} + a T_{k + 1} + ... satisfies, and none does; change one of "
                    "them a little, or take a condition of the physical sign"
                )
            rest = np.linalg.solve(system[:, 1:], -system[:, 0])
            matrix[degree, k] = np.concatenate([[1.0], rest])
        return matrix

    def _from_chebyshev(self, modes: int) -> np.ndarray:
        """The first `n` coefficients of Chebyshev to ours: a lower triangular matrix's inverse."""
        return np.linalg.inv(self.combination(modes)[:modes])

    @property
    def _sides(self) -> list[tuple[int, Condition]]:
        sides = ((-1, self.left), (1, self.right))
        return [(side, condition) for side, condition in sides if condition is not None]

    @property
    def _conditions(self) -> int:
        return len(self._sides)


def _signs(count: int) -> np.ndarray:
    """`(-1)^k`: our points run from 0 to 1, those of the cosines from 1 to -1."""
    return np.where(np.arange(count) % 2, -1.0, 1.0)
