"""Fourier functions of a circle that is longer than the axis: of functions that have two ends."""

import dataclasses
from fractions import Fraction
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array
from scipy.fft import next_fast_len

from ._basis import AbstractSpectralBasis, along_last, circle, quotient, turned


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class ExtendedFourier(AbstractSpectralBasis):
    """`exp(2 pi i k x / L)`, `L = 1 + extension`, at `x_j = j / (N - 1)`: both ends are points.

    Functions of the circle of length `L`, of which the axis is a part, so that its two ends are no
    neighbours and need not agree. Padding does that with points beside the axis, on which a
    network has values of its own; here each layer continues what it gets by 0. The functions are a
    frame, not a basis: `A` takes the integrals over the axis, by the trapezoidal rule, so that
    `A S` is not the identity, and `A` is a multiple of the adjoint of `S` but for the ends. Modes
    are numbered as those of [`jaxsci.operators.spectral.Fourier`][].

    **Arguments:**

    - `extension`: the length added to that of the axis, above 0 and at most 4, a ratio of whole
        numbers of which the lower one is at most 64: angles are then whole numbers of 32 bits in
        an exported file, up to 3e7 wavenumbers times points.

    **Raises:** `ValueError` for another extension.

    !!! example
        >>> from jaxsci.operators.spectral import ExtendedFourier
        >>> ExtendedFourier(1.0).synthesis(3, 2, half=True)[0].round(3)  # 1 and 2 cos(pi x)
        array([[ 1.,  2.],
               [ 1.,  0.],
               [ 1., -2.]])

    Reference: Huybrechs, *On the Fourier extension of nonperiodic functions*, SIAM Journal on
    Numerical Analysis 47 (2010), for the functions.
    """

    complex: ClassVar[bool] = True
    unique: ClassVar[bool] = False
    matmul_coefficients: ClassVar[int] = 64

    extension: float = 0.25

    def __post_init__(self):
        object.__setattr__(self, "extension", float(self.extension))
        known = 0 < self.extension <= 4
        if not known or abs(float(self._ratio) / self.extension - 1) > 1e-12:
            raise ValueError(
                "`ExtendedFourier(extension=...)`: expected a ratio of whole numbers, the lower at "
                f"most 64, above 0 and at most 4, got {self.extension}"
            )

    @property
    def _ratio(self) -> Fraction:
        return Fraction(self.extension).limit_denominator(64)

    def coordinates(self, points: Any, xp: Any = np) -> Any:
        return quotient(xp.arange(points), xp.asarray(points) - 1, xp)

    def limit(self, points: Any) -> Any:
        period, each = self._period(points)
        return period // each

    def wavenumbers(self, modes: int, half: bool = False) -> np.ndarray:
        return np.arange(modes // 2 + 1) if half else np.arange(modes) - modes // 2

    def analysis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        cos, sin = self._circle(points, modes, half, xp)
        weight = self._weights(points, xp)[None]
        return weight * cos, -weight * sin

    def synthesis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        cos, sin = self._circle(points, modes, half, xp)
        if half:
            weight = xp.asarray(_multiplicity(len(cos)))[:, None]
            cos, sin = weight * cos, weight * sin
        return cos.T, sin.T

    def fast_analysis(self, values: Array, modes: int, half: bool = False) -> Array:
        points, k = values.shape[-1], self.wavenumbers(modes, half)
        weighted = values * along_last(self._weights(points, np), values)
        return self._chirped(weighted, np.arange(points), k, points, -1)

    def fast_synthesis(self, coefficients: Array, points: int, half: bool = False) -> Array:
        count, j = coefficients.shape[-1], np.arange(points)
        if not half:
            return self._chirped(coefficients, self.wavenumbers(count), j, points, 1)
        weighted = coefficients * along_last(_multiplicity(count), coefficients)
        return self._chirped(weighted, np.arange(count), j, points, 1).real

    def _period(self, points: Any) -> tuple[Any, int]:
        """Whole numbers: the points of the circle are the first over the second."""
        p, q = self._ratio.numerator, self._ratio.denominator
        return (points - 1) * (p + q), q

    def _circle(self, points: Any, modes: int, half: bool, xp: Any) -> Any:
        """Cosine and sine of `2 pi k x / L`, shape `(coefficients, N)`."""
        period, each = self._period(points)
        return circle(each * self.wavenumbers(modes, half), points, period, xp)

    def _weights(self, points: Any, xp: Any) -> Any:
        """Of the trapezoidal rule, divided by `L`."""
        period, each = self._period(points)
        j = xp.arange(points)
        end = (j == 0) | (j == xp.asarray(points) - 1)
        return xp.where(end, 0.5, 1.0) * quotient(xp.asarray(each), xp.asarray(period), xp)

    def _chirped(self, x: Array, a: np.ndarray, b: np.ndarray, points: int, sign: int) -> Array:
        """`sum_j exp(2 pi i sign a_j b_k / P) x_j` for consecutive `a` and `b`, by Bluestein.

        `2 a b = a^2 + b^2 - (b - a)^2` makes it a convolution, whose FFT has any length.
        """
        period, each = self._period(points)

        def chirp(m: np.ndarray) -> np.ndarray:
            cos, sin = turned(each * m**2, 2 * period, np)
            return cos + sign * 1j * sin

        m = np.arange(b[0] - a[-1], b[-1] - a[0] + 1)
        length = next_fast_len(len(m))
        x = x if jnp.iscomplexobj(x) else lax.complex(x, jnp.zeros_like(x))
        kernel = np.fft.fft(chirp(m).conj(), length)
        spectrum = jnp.fft.fft(x * along_last(chirp(a), x), length)
        # What is cyclic ends before the first overlap of all.
        whole = jnp.fft.ifft(spectrum * along_last(kernel, spectrum))
        y = whole[..., len(a) - 1 : len(a) - 1 + len(b)]
        return y * along_last(chirp(b), y)


def _multiplicity(count: int) -> np.ndarray:
    """Of real functions, a wavenumber stands for its negative too, but 0."""
    return np.where(np.arange(count) == 0, 1.0, 2.0)
