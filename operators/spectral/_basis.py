"""What a basis of a spectral layer is, and the Fourier basis."""

import abc
import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from jaxsci.precision import two_product


class AbstractSpectralBasis(abc.ABC):
    """Functions `phi_k` of one axis of length 1, known at `N` points, of which `n` are kept.

    A concrete basis is a frozen, hashable set of settings, static under `jit`, and gives two
    matrices. `analysis` takes the values at the points to the coefficients, `c = A u`;
    `synthesis` takes coefficients to values, `u = S c`, on any number of points: that of another
    resolution too. There are at most `limit(N)` of them. They are scaled so that they do not
    depend on `N`: those of a fine grid and of a coarse one are those of the function.
    `fast_analysis` and `fast_synthesis` are the same maps by FFT.

    `complex` says whether the coefficients are complex; both matrices are then pairs (real,
    imaginary). `half` asks for wavenumbers `k >= 0` alone, which is all that real values need; the
    values are then the real part of `S c`. `unique` says that `A S` is the identity: that the
    functions are a basis, and no frame. More coefficients than `matmul_coefficients` are quicker to
    have by FFT: on a CPU, `benchmarks/results/neural_operators_transforms.md`.

    Matrices are made by the module `xp`: numpy, in float64 and as constants, or `jax.numpy`, where
    the number of points is a symbol of `jax.export`.
    """

    complex: ClassVar[bool] = False
    unique: ClassVar[bool] = True
    matmul_coefficients: ClassVar[int] = 24

    @abc.abstractmethod
    def coordinates(self, points: Any, xp: Any = np) -> Any:
        """The coordinates of the `N` points in [0, 1], shape `(N,)`."""

    @abc.abstractmethod
    def limit(self, points: Any) -> Any:
        """The most modes that `N` points can hold."""

    @abc.abstractmethod
    def wavenumbers(self, modes: int, half: bool = False) -> np.ndarray:
        """The wavenumber of each coefficient, in order: integers, shape `(coefficients,)`."""

    @abc.abstractmethod
    def analysis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        """Values to coefficients, shape `(coefficients, N)`, or a pair (real, imaginary)."""

    @abc.abstractmethod
    def synthesis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        """Coefficients to values, shape `(N, coefficients)`, or a pair (real, imaginary)."""

    @abc.abstractmethod
    def fast_analysis(self, values: Array, modes: int, half: bool = False) -> Array:
        """`A u` along the last axis of `values`, by FFT."""

    @abc.abstractmethod
    def fast_synthesis(self, coefficients: Array, points: int, half: bool = False) -> Array:
        """`S c` along the last axis of `coefficients`, by FFT."""


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Fourier(AbstractSpectralBasis):
    """`exp(2 pi i k x)` at `x_j = j / N`: periodic functions.

    `n` modes are the wavenumbers `-(n // 2) .. n - n // 2 - 1` in this order or, where real values
    make the negative ones superfluous, `0 .. n // 2`. For even `n` that keeps `-n / 2` but not
    `+n / 2` along the axes that have both.

    !!! example
        >>> from jaxsci.operators.spectral import Fourier
        >>> Fourier().wavenumbers(4), Fourier().wavenumbers(4, half=True)
        (array([-2, -1,  0,  1]), array([0, 1, 2]))
    """

    complex: ClassVar[bool] = True

    def coordinates(self, points: Any, xp: Any = np) -> Any:
        return quotient(xp.arange(points), points, xp)

    def limit(self, points: Any) -> Any:
        return points

    def wavenumbers(self, modes: int, half: bool = False) -> np.ndarray:
        return np.arange(modes // 2 + 1) if half else np.arange(modes) - modes // 2

    def analysis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        cos, sin = circle(self.wavenumbers(modes, half), points, points, xp)
        count = as_float(points, xp)
        return cos / count, -sin / count

    def synthesis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        k = self.wavenumbers(modes, half)
        cos, sin = circle(k, points, points, xp)
        if half:
            # Each stands for its negative too, except 0 and the highest that an even N holds.
            alone = 2 * xp.asarray(k) % xp.asarray(points) == 0
            weight = xp.where(alone, 1.0, 2.0)[:, None]
            cos, sin = weight * cos, weight * sin
        return cos.T, sin.T

    def fast_analysis(self, values: Array, modes: int, half: bool = False) -> Array:
        k = self.wavenumbers(modes, half)
        points = values.shape[-1]
        if half:
            return jnp.fft.rfft(values)[..., : len(k)] / points
        return jnp.take(jnp.fft.fft(values), k % points, axis=-1) / points

    def fast_synthesis(self, coefficients: Array, points: int, half: bool = False) -> Array:
        if half:
            return real_inverse_fft(coefficients, points) * points
        k = self.wavenumbers(coefficients.shape[-1])
        negative, rest = coefficients[..., : (k < 0).sum()], coefficients[..., (k < 0).sum() :]
        gap = jnp.zeros((*coefficients.shape[:-1], points - len(k)), coefficients.dtype)
        return jnp.fft.ifft(jnp.concatenate([rest, gap, negative], -1)) * points


def real_inverse_fft(spectrum: Array, points: int) -> Array:
    """The real part of the inverse FFT of a spectrum `(..., k)` of which `k >= 0` are given.

    The result has the shape `(..., points)`. `irfft` is told nothing that a real function cannot
    have: an imaginary part at `k = 0`, or at the highest of an even `N`, is ignored on a CPU, but
    not always on a GPU (cuFFT, in float32, for many transforms at once), where the values then
    change by as much.
    """
    k = np.arange(spectrum.shape[-1])
    alone = jnp.asarray(2 * k % points == 0)
    spectrum = jax.lax.complex(spectrum.real, jnp.where(alone, 0, spectrum.imag))
    return jnp.fft.irfft(spectrum, points)


def circle(k: np.ndarray, points: Any, period: Any, xp: Any) -> Any:
    """Cosine and sine of `2 pi k j / period`, shape `(len(k), N)`, for integers."""
    turn = xp.asarray(np.abs(k))[:, None] * xp.arange(points)[None, :]
    cos, sin = turned(turn, xp.asarray(period), xp)
    return cos, xp.asarray(np.where(k < 0, -1.0, 1.0))[:, None] * sin


def turned(turn: Any, period: Any, xp: Any) -> tuple[Any, Any]:
    """Cosine and sine of `2 pi turn / period`, for integers `turn >= 0` and `period`.

    The angle is reduced to an eighth of a turn as integers: float32 would round an angle by its
    size, and the matrices that an exported file makes for itself with it. What is 0 is 0, not
    1e-16: a function of the basis keeps its boundary value exactly.
    """
    turn = turn % period
    quarter = (8 * turn + period) // (2 * period)
    angle = quotient(4 * turn - quarter * period, period, xp) * (np.pi / 2)
    quarter, c, s = quarter % 4, xp.cos(angle), xp.sin(angle)
    cos = xp.where(quarter % 2 == 0, c, s)
    sin = xp.where(quarter % 2 == 0, s, c)
    # Subtracted from 0, of which no minus is left.
    cos = xp.where((quarter == 1) | (quarter == 2), 0 - cos, cos)
    return cos, xp.where(quarter >= 2, 0 - sin, sin)


def as_float(number: Any, xp: Any) -> Any:
    """A number, a symbol of `jax.export` or an array, in the default float of `xp`."""
    return xp.asarray(number).astype(xp.result_type(float))


def quotient(a: Any, b: Any, xp: Any) -> Any:
    """Of integers, correctly rounded as float32 too, in a file as by numpy.

    Where all divisors are the same, XLA multiplies by the rounded inverse.
    """
    a, b = as_float(a, xp), as_float(b, xp)
    q = a / b
    if xp is np:
        return q
    product, error = two_product(q, jnp.broadcast_to(b, q.shape))
    return q + ((a - product) - error) / b


def along_last(numbers: ArrayLike, like: Array) -> Array:
    """Constants for a product with an array, along its last axis."""
    return jnp.broadcast_to(jnp.asarray(numbers, like.dtype), like.shape)
