"""Sines and cosines: functions that satisfy a homogeneous condition at each end by themselves."""

import abc
import dataclasses
from typing import Any, Literal, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ._basis import (
    AbstractSpectralBasis,
    along_last,
    as_float,
    quotient,
    real_inverse_fft,
    turned,
)

Samples: TypeAlias = Literal["ends", "centres"]


class _AbstractTrigonometric(AbstractSpectralBasis):
    """`sin(q pi x / 2)` or `cos(q pi x / 2)`, for whole numbers `q` of quarter waves."""

    samples: Samples

    @property
    @abc.abstractmethod
    def even(self) -> bool:
        """Whether the functions are cosines."""

    @abc.abstractmethod
    def quarters(self, modes: int) -> np.ndarray:
        """The `q` of as many functions."""

    def coordinates(self, points: Any, xp: Any = np) -> Any:
        j = xp.arange(points)
        if self.samples == "ends":
            return quotient(j, xp.asarray(points) - 1, xp)
        return quotient(2 * j + 1, 2 * xp.asarray(points), xp)

    def analysis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        return _projection(self.samples, self.quarters(modes), self.even, points, xp)

    def synthesis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        return _functions(self.samples, self.quarters(modes), self.even, points, xp).T

    def fast_analysis(self, values: Array, modes: int, half: bool = False) -> Array:
        return _fast_analysis(self.samples, self.quarters(modes), self.even, values)

    def fast_synthesis(self, coefficients: Array, points: int, half: bool = False) -> Array:
        quarters = self.quarters(coefficients.shape[-1])
        return _fast_synthesis(self.samples, quarters, self.even, coefficients, points)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Sine(_AbstractTrigonometric):
    """`sin(k pi x)`, `k = 1 .. n`: functions that are 0 at both ends (homogeneous Dirichlet).

    **Arguments:**

    - `samples`: the points are `j / (N - 1)`, both ends among them (`"ends"`), or the centres
        `(j + 1/2) / N` of `N` cells (`"centres"`). With `"ends"` the values at the two ends are
        ignored, and come out as 0.

    **Raises:** `ValueError` for another name of `samples`.

    !!! example
        >>> from jaxsci.operators.spectral import Sine
        >>> Sine().wavenumbers(3), Sine().limit(10)
        (array([1, 2, 3]), 8)
    """

    samples: Samples = "ends"

    def __post_init__(self):
        _check_samples(self)

    def limit(self, points: Any) -> Any:
        return points - 2 if self.samples == "ends" else points

    def wavenumbers(self, modes: int, half: bool = False) -> np.ndarray:
        return np.arange(1, modes + 1)

    @property
    def even(self) -> bool:
        return False

    def quarters(self, modes: int) -> np.ndarray:
        return 2 * self.wavenumbers(modes)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Cosine(_AbstractTrigonometric):
    """`cos(k pi x)`, `k = 0 .. n - 1`: functions of slope 0 at both ends (homogeneous Neumann).

    **Arguments:** `samples`, **raises:** as [`jaxsci.operators.spectral.Sine`][].

    !!! example
        >>> from jaxsci.operators.spectral import Cosine
        >>> Cosine().synthesis(3, 2)
        array([[ 1.,  1.],
               [ 1.,  0.],
               [ 1., -1.]])
    """

    samples: Samples = "ends"

    def __post_init__(self):
        _check_samples(self)

    def limit(self, points: Any) -> Any:
        return points

    def wavenumbers(self, modes: int, half: bool = False) -> np.ndarray:
        return np.arange(modes)

    @property
    def even(self) -> bool:
        return True

    def quarters(self, modes: int) -> np.ndarray:
        return 2 * self.wavenumbers(modes)


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class QuarterWave(_AbstractTrigonometric):
    """Functions that are 0 at one end and of slope 0 at the other, `k = 0 .. n - 1`.

    `sin((k + 1/2) pi x)` where `zero` is `"left"`, `cos((k + 1/2) pi x)` where it is `"right"`.

    **Arguments:**

    - `zero`: the end at which the function is 0 (homogeneous Dirichlet); the slope is 0 (Neumann)
        at the other.
    - `samples`: as [`jaxsci.operators.spectral.Sine`][].

    **Raises:** `ValueError` for another name of an end, or of `samples`.

    !!! example
        >>> from jaxsci.operators.spectral import QuarterWave
        >>> QuarterWave(zero="right").synthesis(3, 1).round(3)
        array([[1.   ],
               [0.707],
               [0.   ]])
    """

    zero: Literal["left", "right"] = "left"
    samples: Samples = "ends"

    def __post_init__(self):
        if self.zero not in ("left", "right"):
            raise ValueError(
                f"`QuarterWave(zero=...)`: expected 'left' or 'right', got {self.zero!r}"
            )
        _check_samples(self)

    def limit(self, points: Any) -> Any:
        return points - 1 if self.samples == "ends" else points

    def wavenumbers(self, modes: int, half: bool = False) -> np.ndarray:
        return np.arange(modes)

    @property
    def even(self) -> bool:
        return self.zero == "right"

    def quarters(self, modes: int) -> np.ndarray:
        return 2 * self.wavenumbers(modes) + 1


def _check_samples(basis: Any) -> None:
    if basis.samples not in ("ends", "centres"):
        raise ValueError(
            f"`{type(basis).__name__}(samples=...)`: expected 'ends' or 'centres', got "
            f"{basis.samples!r}"
        )


def _intervals(samples: Samples, points: Any) -> Any:
    return points - 1 if samples == "ends" else points


def _functions(samples: Samples, quarters: np.ndarray, even: bool, points: Any, xp: Any) -> Any:
    """`cos(q pi x / 2)` (`even`) or the sine at the points, for integers `q`: `(len(q), N)`."""
    j, count, q = xp.arange(points)[None, :], xp.asarray(points), xp.asarray(quarters)[:, None]
    if samples == "ends":
        cos, sin = turned(q * j, 4 * (count - 1), xp)
    else:
        cos, sin = turned(q * (2 * j + 1), 8 * count, xp)
    return cos if even else sin


def _multiplicity(samples: Samples, quarters: Any, even: bool, points: Any, xp: Any) -> Any:
    """1 / mean square of each function: 2, but 1 for a constant and for +1 and -1 in turn."""
    q = xp.asarray(quarters)
    alternating = q == 2 * _intervals(samples, xp.asarray(points))
    if even == (samples == "centres"):  # cos(N pi x) is 0 at the centres, the sine at the ends
        alternating = alternating & False
    return xp.where((q == 0) | alternating, 1.0, 2.0)


def _projection(samples: Samples, quarters: np.ndarray, even: bool, points: Any, xp: Any) -> Any:
    """`A` from the discrete orthogonality of the functions under trapezoid or midpoint weights."""
    functions = _functions(samples, quarters, even, points, xp)
    if samples == "ends":
        j = xp.arange(points)
        functions = (
            functions * xp.where((j == 0) | (j == xp.asarray(points) - 1), 0.5, 1.0)[None, :]
        )
    scale = _multiplicity(samples, quarters, even, points, xp)
    return scale[:, None] * functions / as_float(_intervals(samples, points), xp)


def _fast_analysis(samples: Samples, quarters: np.ndarray, even: bool, values: Array) -> Array:
    """The same coefficients from the FFT of the values continued to a whole period.

    The period of the functions is 4, or 2 where all `q` are even.
    """
    points, odd = values.shape[-1], bool(quarters[0] % 2)
    # Mirrored at x = 1, about which sines of even q and cosines of odd q are odd.
    mirrored = -1 if even == odd else 1
    if samples == "ends":
        inner, ends = values[..., 1:-1], [values[..., :1], values[..., -1:]]
        if not even:
            ends[0] = jnp.zeros_like(ends[0])
        if mirrored == -1:
            ends[1] = jnp.zeros_like(ends[1])
        parts = [ends[0], inner, ends[1], mirrored * inner[..., ::-1]]
    else:
        parts = [values, mirrored * values[..., ::-1]]
    if odd:  # of the opposite sign half a period later
        parts += [-part for part in parts]
    whole = jnp.concatenate(parts, -1)
    spectrum = jnp.take(jnp.fft.rfft(whole), quarters if odd else quarters // 2, axis=-1)
    if samples == "centres":
        spectrum = spectrum * along_last(_shift(quarters, points, -1), spectrum)
    scale = _multiplicity(samples, quarters, even, points, np) / whole.shape[-1]
    part = spectrum.real if even else -spectrum.imag
    return part * along_last(scale, part)


def _fast_synthesis(
    samples: Samples, quarters: np.ndarray, even: bool, coefficients: Array, points: int
) -> Array:
    """The first `N` values of the inverse FFT over a whole period."""
    odd = bool(quarters[0] % 2)
    length = (4 if odd else 2) * _intervals(samples, points)
    scale = length / _multiplicity(samples, quarters, even, points, np)
    part = coefficients * along_last(scale, coefficients)
    none = jnp.zeros_like(part)
    spectrum = jax.lax.complex(part, none) if even else jax.lax.complex(none, -part)
    if samples == "centres":
        spectrum = spectrum * along_last(_shift(quarters, points, 1), spectrum)
    k = quarters if odd else quarters // 2
    whole = jnp.zeros((*coefficients.shape[:-1], length // 2 + 1), spectrum.dtype)
    values = real_inverse_fft(whole.at[..., k].set(spectrum), length)[..., :points]
    if samples == "ends" and not even:
        values = values.at[..., 0].set(0)
    if samples == "ends" and even == odd:
        values = values.at[..., -1].set(0)
    return values


def _shift(quarters: np.ndarray, points: int, sign: int) -> np.ndarray:
    """The phase of half a cell."""
    return np.exp(sign * 1j * np.pi * quarters / (4 * points))
