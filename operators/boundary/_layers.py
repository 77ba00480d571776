"""Dense matrices and arbitrary callables as layers whose boundary can be corrected."""

import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float

from jaxsci.operators.spectral import SpectralConv
from jaxsci.precision import matmul

from ._blocks import AbstractEndLayer, EndBlocks, Points, add_at, take
from ._spectral import SpectralEnds


class DenseLayer(eqx.Module):
    """`y = K x`, with the matrix written out.

    **Arguments:**

    - `matrix`: shape `(C_out, N_1, ..., C_in, N_1, ...)`; `(N, N)` stands for one channel.

    **Raises:** `ValueError` if the points of output and input differ or the number of axes is odd.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.boundary import DenseLayer
        >>> DenseLayer(2 * jnp.eye(3))(jnp.ones((1, 3)))
        Array([[2., 2., 2.]], dtype=float32)
    """

    matrix: Float[Array, "..."]

    def __init__(self, matrix: ArrayLike):
        array = jnp.asarray(matrix)
        half, odd = divmod(array.ndim, 2)
        if array.ndim == 2:
            array = array[None, :, None, :]
            half = 2
        if odd or half < 2 or array.shape[1:half] != array.shape[half + 1 :]:
            raise ValueError(
                "`DenseLayer(matrix=...)`: expected shape (C_out, N, C_in, N), (C_out, N_1, N_2, "
                f"C_in, N_1, N_2) etc. with the same points on both sides, got {array.shape}"
            )
        self.matrix = array

    def __call__(self, x: Float[Array, "channels *points"]) -> Float[Array, "out *points"]:
        half = self.matrix.ndim // 2
        if x.shape != self.matrix.shape[half:]:
            raise ValueError(
                f"`DenseLayer(x=...)`: expected shape {self.matrix.shape[half:]}, as the matrix, "
                f"got {x.shape}"
            )
        flat = matmul(self.matrix.reshape(-1, x.size), x.ravel())
        return flat.reshape(self.matrix.shape[:half])


class DenseEnds(AbstractEndLayer):
    """A dense matrix: blocks are read off."""

    layer: DenseLayer

    def apply(self, x: Array) -> Any:
        return self.layer(x)

    def output(self, state: Any) -> Array:
        return state

    def rows(self, state: Any, axis: int, rows: tuple[int, ...]) -> Array:
        return take(state, axis, rows)

    def bias_rows(self, state: Any, axis: int, rows: tuple[int, ...]) -> Array | float:
        return 0.0

    def shifted(self, state: Any, axis: int, columns: tuple[int, ...], delta: Array) -> Any:
        matrix, half = self.layer.matrix, self.layer.matrix.ndim // 2
        for j, d in zip(columns, delta, strict=True):
            part = matrix.take(j, axis=half + axis).reshape(-1, d.size)
            state = state + matmul(part, d.ravel()).reshape(state.shape)
        return state

    def blocks(
        self, state: Any, axis: int, rows: tuple[int, ...], columns: tuple[int, ...]
    ) -> EndBlocks:
        half = self.layer.matrix.ndim // 2
        part = self.layer.matrix.take(np.asarray(rows), axis=axis)
        part = part.take(np.asarray(columns), axis=half + axis)
        part = jnp.moveaxis(part, (axis, half + axis), (0, half))
        transverse = part.shape[2:half]
        m = math.prod(transverse)
        shape = (1, len(rows), part.shape[1], m, len(columns), part.shape[half + 1], m)
        return EndBlocks(part.reshape(shape), Points(transverse))


class CallableEnds(AbstractEndLayer):
    """Any function that is linear (or affine) in its input: blocks by one vmapped probe."""

    layer: Callable[[Array], Array]

    def apply(self, x: Array) -> Any:
        y = jax.eval_shape(self.layer, x)
        if not hasattr(y, "shape") or y.ndim != x.ndim or y.shape[1:] != x.shape[1:]:
            raise ValueError(
                f"`correct(layer=...)`: expected a layer that maps (C_in, N, ...) to (C_out, N, "
                f"...) at the same points, got {getattr(y, 'shape', type(y).__name__)} for "
                f"{x.shape}; use padding that keeps the size"
            )
        return x, self.layer(x)

    def output(self, state: Any) -> Array:
        return state[1]

    def rows(self, state: Any, axis: int, rows: tuple[int, ...]) -> Array:
        return take(state[1], axis, rows)

    def bias_rows(self, state: Any, axis: int, rows: tuple[int, ...]) -> Array | float:
        return take(self.layer(jnp.zeros_like(state[0])), axis, rows)

    def shifted(self, state: Any, axis: int, columns: tuple[int, ...], delta: Array) -> Any:
        x = add_at(state[0], axis, columns, delta)
        return x, self.layer(x)

    def blocks(
        self, state: Any, axis: int, rows: tuple[int, ...], columns: tuple[int, ...]
    ) -> EndBlocks:
        x = state[0]
        zero = jnp.zeros_like(x)
        face = take(x, axis, columns)
        transverse = face.shape[2:]
        m = math.prod(transverse)

        def probe(unit: Array) -> Array:
            put = add_at(zero, axis, columns, unit.reshape(face.shape))
            return take(self.layer(put), axis, rows) - self.bias_rows(state, axis, rows)

        found = jax.vmap(probe, out_axes=-1)(jnp.eye(face.size, dtype=x.dtype))
        shape = (1, len(rows), found.shape[1], m, *face.shape[:2], m)
        return EndBlocks(found.reshape(shape), Points(transverse))


def as_end_layer(layer: Any) -> AbstractEndLayer:
    """The layer in the form that the corrections work on."""
    if isinstance(layer, AbstractEndLayer):
        return layer
    if isinstance(layer, DenseLayer):
        return DenseEnds(layer)
    if isinstance(layer, SpectralConv) and not layer.complex_data:
        coupled = not all(basis.unique for basis in layer.bases)
        return CallableEnds(layer) if coupled else SpectralEnds(layer)
    return CallableEnds(layer)
