"""The kernel of a spectral layer near the ends of an axis, from its retained modes."""

from collections.abc import Sequence
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array

from ._conv import SpectralConv
from ._transform import Expansion, module


class KernelBlocks(eqx.Module):
    """What [`jaxsci.operators.spectral.kernel_blocks`][] returns.

    - `blocks`: shape `(rows, columns, out, in, *transverse)`; `blocks[i, j, :, :, k]` is the
        channel matrix that takes the input at point `columns[j]`, transverse mode `k`, to the
        output at point `rows[i]`, same mode. Real where no transverse axis is complex.
    - `transverse`: the expansion of a face, along the other axes, in these modes: what
        [`jaxsci.operators.spectral.analyse`][] and `synthesise` take; `None` in one dimension.
    """

    blocks: Array
    transverse: Expansion | None


def kernel_blocks(
    layer: SpectralConv,
    shape: Sequence[int],
    axis: int = 0,
    *,
    rows: Sequence[int] = (0, -1),
    columns: Sequence[int] = (0, -1),
    dtype: Any = None,
) -> KernelBlocks:
    """Blocks of the kernel `K`, `y_i = sum_j K_ij x_j + bias`, along one axis of a grid.

    They are sums over the retained modes of that axis, `K_ij = sum_m S[i, m] W[m] A[m, j]`, so that
    no input is needed to probe the layer. Along the other axes the layer is diagonal in its modes,
    so that there is one block for each of these. For Fourier bases and real data, modes and their
    negatives are taken together first: `K(-k) = conj K(k)`, as a real layer has it. That adds
    `+n / 2` where only `-n / 2` had a weight.

    **Arguments:**

    - `layer`: a [`jaxsci.operators.spectral.SpectralConv`][].
    - `shape`: the grid, a size for each axis.
    - `axis`: the axis of the rows and columns.
    - `rows`, `columns`: which points of it; negative ones count from the end.
    - `dtype`: real dtype of the blocks, by default that of the layer's parameters.

    **Raises:** `ValueError` for a shape that cannot hold the modes, an axis that does not exist,
    a point outside the grid, or a basis whose coefficients are not unique.

    !!! example
        >>> import jax
        >>> from jaxsci.operators.spectral import SpectralConv, kernel_blocks
        >>> layer = SpectralConv(3, 2, (8, 6), key=jax.random.key(0))
        >>> found = kernel_blocks(layer, (40, 32), axis=1)
        >>> found.blocks.shape, found.transverse.modes  # -4 .. 4, of which 0 .. 4 are needed
        ((2, 2, 2, 3, 5), (9,))
    """
    count = len(layer.modes)
    if len(shape) != count:
        raise ValueError(f"`kernel_blocks(shape=...)`: expected {count} sizes, got {tuple(shape)}")
    if not -count <= axis < count:
        raise ValueError(f"`kernel_blocks(axis={axis})`: expected an axis of {count}")
    layer.check_grid(shape, "shape")
    for basis in layer.bases:
        if not basis.unique:
            raise ValueError(
                f"`kernel_blocks(layer=...)`: expected bases whose coefficients are unique, got "
                f"{basis}, whose modes the layer couples"
            )
    axis, points = axis % count, shape[axis]
    for name, chosen in (("rows", rows), ("columns", columns)):
        for point in chosen:
            if not -points <= point < points:
                raise ValueError(
                    f"`kernel_blocks({name}={tuple(chosen)})`: expected points of {points}"
                )
    parameters = layer.weight.tensor.dtype if dtype is None else jnp.dtype(dtype)
    if jnp.finfo(parameters).bits < 32:  # of which there are no complex numbers
        parameters = jnp.dtype(jnp.float32)
    kernel, signed = _signed_kernel(layer, shape, parameters)
    basis, modes = layer.bases[axis], signed[axis]
    xp = module(points)
    synthesis = _as_array(basis.synthesis(points, modes, xp=xp))[np.asarray(rows, np.int32)]
    analysis = _as_array(basis.analysis(points, modes, xp=xp))[:, np.asarray(columns, np.int32)]
    outer = jnp.asarray(synthesis[:, None, :] * analysis.T[None], kernel.dtype)
    blocks = jnp.tensordot(outer, jnp.moveaxis(kernel, 2 + axis, 0), 1, precision="highest")
    others = [i for i in range(count) if i != axis]
    bases = tuple(layer.bases[i] for i in others)
    if not layer.complex_data and not any(basis.complex for basis in bases):
        blocks = blocks.real
    if not others:
        return KernelBlocks(blocks, None)
    transverse = Expansion(
        bases,
        tuple(signed[i] for i in others),
        layer.complex_data,
        ("matmul",) * len(others),
        parameters,
        parameters,
    )
    for place, i in enumerate(others):
        if transverse.half(place):
            n = signed[i] // 2  # index n is wavenumber 0; that of -N/2 stands for +N/2
            keep = [(n + k) % signed[i] for k in range(n + 1)]
            blocks = jnp.take(blocks, jnp.asarray(keep), axis=4 + place)
    return KernelBlocks(blocks, transverse)


def _signed_kernel(layer: SpectralConv, shape: Sequence[int], dtype: Any) -> Any:
    """`(out, in, *modes)` with all signs of the wavenumbers, and the numbers of modes."""
    kernel = jnp.moveaxis(layer.weight.dense, 0, 1)
    if not jnp.iscomplexobj(kernel):
        return kernel.astype(dtype), layer.coefficients
    kernel = kernel.astype(np.result_type(dtype, np.complex64))
    if layer.complex_data:
        return kernel, layer.modes
    half = layer.half_axis or 0
    # y = Re(sum_k w_k R_k X_k e_k), so that each k and its negative share w_k R_k / 2; w_k is 2,
    # and 1 for 0 and the highest wavenumber of an even grid.
    k, xp = layer.wavenumbers[half], module(shape[half])
    weight = xp.where(2 * xp.asarray(k) % xp.asarray(shape[half]) == 0, 0.5, 1.0)
    shaped = [1] * kernel.ndim
    shaped[2 + half] = -1
    weight = jnp.asarray(weight, kernel.dtype).reshape(shaped)
    kernel = kernel * jnp.broadcast_to(weight, kernel.shape)
    signed, places = [], []
    for basis, k, n, points in zip(layer.bases, layer.wavenumbers, layer.modes, shape, strict=True):
        if not basis.complex:
            signed.append(len(k))
            places.append((np.arange(len(k)), np.arange(len(k))))
            continue
        # All of -n/2 .. n/2; where the grid holds no more than n points, +N/2 is -N/2.
        size = 2 * (n // 2) + 1
        size = points if points < size else size
        signed.append(size)
        places.append(tuple((sign * k + n // 2) % size for sign in (1, -1)))
    whole = jnp.zeros((*kernel.shape[:2], *signed), kernel.dtype)
    for sign, part in ((0, kernel), (1, kernel.conj())):
        index = np.ix_(*(place[sign] for place in places))
        whole = whole.at[(slice(None), slice(None), *index)].add(part)
    return whole, tuple(signed)


def _as_array(matrix: Any) -> Any:
    if not isinstance(matrix, tuple):
        return matrix
    real, imag = matrix
    return real + 1j * imag if isinstance(real, np.ndarray) else lax.complex(real, imag)
