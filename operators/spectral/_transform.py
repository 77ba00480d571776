"""From values to retained coefficients and back, axis by axis, by matrix products or FFT."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal, TypeAlias

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxsci.precision import contract

from ._basis import AbstractSpectralBasis

Method: TypeAlias = Literal["auto", "matmul", "fft"]
"""How coefficients are had: by matrix products, by FFT, or by what was measured to be faster."""


class Expansion(eqx.Module):
    """In what a layer expands: a basis and a number of modes for each axis, and how.

    Real values need half of the wavenumbers of one axis only, the last that is complex: `half`.
    Coefficients are arrays of real numbers, with an axis for real and imaginary part if there is a
    complex basis or the values are complex.

    - `compute`, `output`: dtypes of the factors of products, and of everything that is kept.
    """

    bases: tuple[AbstractSpectralBasis, ...] = eqx.field(static=True)
    modes: tuple[int, ...] = eqx.field(static=True)
    complex_data: bool = eqx.field(static=True)
    methods: tuple[Method, ...] = eqx.field(static=True)
    compute: Any = eqx.field(static=True)
    output: Any = eqx.field(static=True)

    @classmethod
    def of(
        cls,
        bases: AbstractSpectralBasis | Sequence[AbstractSpectralBasis],
        modes: int | Sequence[int],
        *,
        complex_data: bool = False,
        method: Literal["matmul", "fft"] = "matmul",
        dtype: Any = jnp.float32,
    ) -> "Expansion":
        """An expansion in one dtype, by one method."""
        bases = (bases,) if isinstance(bases, AbstractSpectralBasis) else tuple(bases)
        modes = (modes,) if isinstance(modes, int) else tuple(modes)
        return cls(bases, modes, complex_data, (method,) * len(bases), dtype, dtype)

    def half(self, axis: int) -> bool:
        """Whether an axis is the one of which wavenumbers `k >= 0` alone are kept."""
        return axis == half_axis(self.bases, self.complex_data)

    @property
    def complex(self) -> bool:
        """Whether coefficients are complex."""
        return self.complex_data or any(basis.complex for basis in self.bases)


def half_axis(bases: Sequence[AbstractSpectralBasis], complex_data: bool) -> int | None:
    """The axis of which wavenumbers `k >= 0` alone are kept, if any."""
    with_sign = [axis for axis, basis in enumerate(bases) if basis.complex]
    return None if complex_data or not with_sign else with_sign[-1]


def mode_shape(
    bases: Sequence[AbstractSpectralBasis], modes: Sequence[int], complex_data: bool
) -> tuple[int, ...]:
    """How many coefficients each axis has."""
    half = half_axis(bases, complex_data)
    return tuple(
        len(basis.wavenumbers(n, axis == half))
        for axis, (basis, n) in enumerate(zip(bases, modes, strict=True))
    )


def to_modes(x: Array, expansion: Expansion) -> tuple[Array, list[Any]]:
    """The coefficients of `x`, shape `(channels, N1, .., Nd)`, and what their axes are.

    Axes are named `"c"`, the channels; 0, 1, ..; and `"p"`, real and imaginary part. They come in
    the order in which no product has to move them.
    """
    names: list[Any] = ["c", *range(x.ndim - 1)]
    if expansion.complex_data:
        x, names = jnp.stack([x.real, x.imag], -1), [*names, "p"]
    # From the last, which has half of the wavenumbers: what is left is the smallest soonest.
    for axis in reversed(range(len(expansion.bases))):
        basis, modes, half = expansion.bases[axis], expansion.modes[axis], expansion.half(axis)
        if expansion.methods[axis] == "fft":
            fast = partial(basis.fast_analysis, modes=modes, half=half)
            x, names = _by_fft(x, names, axis, basis, fast)
        else:
            points = x.shape[names.index(axis)]
            matrix = basis.analysis(points, modes, half, module(points))
            x, names = _by_matrix(x, names, axis, matrix, False, expansion)
    return x.astype(expansion.output), names


def from_modes(y: Array, names: list[Any], shape: Sequence[Any], expansion: Expansion) -> Array:
    """Values of shape `(channels, *shape)` of coefficients whose axes have these names."""
    for axis, points in enumerate(shape):
        basis, modes, half = expansion.bases[axis], expansion.modes[axis], expansion.half(axis)
        if expansion.methods[axis] == "fft":
            fast = partial(basis.fast_synthesis, points=points, half=half)
            y, names = _by_fft(y, names, axis, basis, fast)
        else:
            matrix = basis.synthesis(points, modes, half, module(points))
            y, names = _by_matrix(y, names, axis, matrix, half, expansion)
    y = y.astype(expansion.output)
    order = ["c", *range(len(shape))]
    if not expansion.complex_data:
        # Not even one that changes nothing: it would move a batch.
        return y if names == order else jnp.transpose(y, [names.index(name) for name in order])
    y = jnp.transpose(y, [names.index(name) for name in ["p", *order]])
    return lax.complex(y[0], y[1])


def analyse(x: Array, expansion: Expansion) -> Array:
    """The coefficients of values of shape `(channels, N1, .., Nd)`: `(channels, *coefficients)`.

    Complex where the expansion is. Of real values, the last complex axis has wavenumbers
    `0 .. n // 2` only.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.spectral import Cosine, Expansion, analyse, synthesise
        >>> expansion = Expansion.of(Cosine(), 2)
        >>> c = analyse(jnp.ones((1, 10)), expansion)
        >>> c, synthesise(c, (3,), expansion)
        (Array([[1., 0.]], dtype=float32), Array([[1., 1., 1.]], dtype=float32))
    """
    c, names = to_modes(x, expansion)
    order = ["c", *range(len(expansion.bases))]
    if not expansion.complex:
        return jnp.transpose(c, [names.index(name) for name in order])
    c = jnp.transpose(c, [names.index(name) for name in ["p", *order]])
    return lax.complex(c[0], c[1])


def synthesise(coefficients: Array, shape: Sequence[Any], expansion: Expansion) -> Array:
    """The values, `(channels, *shape)`, of what [`jaxsci.operators.spectral.analyse`][] returns."""
    names: list[Any] = ["c", *range(len(expansion.bases))]
    if expansion.complex:
        coefficients = jnp.stack([coefficients.real, coefficients.imag], -1)
        names = [*names, "p"]
    return from_modes(coefficients, names, shape, expansion)


def module(points: Any) -> Any:
    """What makes the matrices: numpy, or `jax.numpy` where the number of points is a symbol."""
    return np if isinstance(points, int) else jnp


def _by_matrix(
    x: Array, names: list[Any], axis: int, matrix: Any, real_part: bool, expansion: Expansion
) -> tuple[Array, list[Any]]:
    """The product with the matrix `(to, from)` of one axis, which comes out last.

    A complex one, `R + i I`, is the real one `[[R, -I], [I, R]]` of (real, imaginary). The axis
    `"w"` of products with the weights' parts is summed over here, as nothing else would keep the
    axes where they are.
    """
    summed, made = [axis], [axis]
    if "w" in names and "p" in names and not isinstance(matrix, tuple):
        xp = np if isinstance(matrix, np.ndarray) else jnp
        matrix = matrix, xp.zeros_like(matrix)
    if isinstance(matrix, tuple):
        real, imag = matrix
        xp = np if isinstance(real, np.ndarray) else jnp
        if "p" not in names:
            matrix, made = xp.stack([real, imag]), ["p", axis]
        elif real_part:
            matrix, summed = xp.stack([real, -imag], 1), ["p", axis]
        else:
            rows = xp.stack([real, -imag], 1), xp.stack([imag, real], 1)
            matrix, summed, made = xp.stack(rows), ["p", axis], ["p", axis]
        if "w" in names:
            # (a + ib)(c + id): beside [ac, ad] there is [bc, bd], which stands for [-bd, bc].
            real, imag = xp.moveaxis(matrix, -2, 0)
            turned = xp.stack([imag, -real], -2)
            matrix, summed = xp.stack([matrix, turned], -3), ["w", *summed]
    elif "w" in names:
        matrix, summed = matrix[:, None], ["w", *summed]
    where = [names.index(name) for name in summed]
    matrix = jnp.asarray(matrix, expansion.compute)
    x = contract(
        x,
        matrix,
        (where, range(len(made), matrix.ndim)),
        compute=expansion.compute,
        output=expansion.output,
    )
    return x, [name for name in names if name not in summed] + made


def _by_fft(
    x: Array, names: list[Any], axis: int, basis: AbstractSpectralBasis, fast: Any
) -> tuple[Array, list[Any]]:
    """The same by FFT, which knows no 16-bit numbers: in float32 at least."""
    if "w" in names:
        x, names = _product_of_parts(x, names), [name for name in names if name != "w"]
    if jnp.finfo(x.dtype).bits < 32:
        x = x.astype(jnp.float32)
    order = [name for name in names if name not in ("p", axis)]
    if basis.complex and "p" in names:
        x = jnp.transpose(x, [names.index(name) for name in ["p", *order, axis]])
        x = lax.complex(x[0], x[1])
    else:
        order = [name for name in names if name != axis]
        x = jnp.transpose(x, [names.index(name) for name in [*order, axis]])
    y = fast(x)
    if not jnp.iscomplexobj(y):
        return y, [*order, axis]
    return jnp.stack([y.real, y.imag], -2), [*order, "p", axis]


def _product_of_parts(x: Array, names: list[Any]) -> Array:
    """`(a + ib)(c + id)` from its four products; of real numbers, there is one."""
    part = names.index("w")
    if "p" not in names:
        return jnp.squeeze(x, part)
    c, d = (jnp.take(x, p, names.index("p")) for p in (0, 1))
    (ac, bc), (ad, bd) = ([jnp.take(z, w, part) for w in (0, 1)] for z in (c, d))
    where = [name for name in names if name != "w"].index("p")
    return jnp.stack([ac - bd, ad + bc], where)
