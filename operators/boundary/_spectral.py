"""Spectral layers, whose blocks are sums over retained modes and whose corrections cost little."""

import dataclasses
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsci.operators.spectral import (
    AbstractSpectralBasis,
    Expansion,
    SpectralConv,
    analyse,
    kernel_blocks,
    synthesise,
)
from jaxsci.operators.spectral._conv import _mix
from jaxsci.operators.spectral._transform import from_modes, module, to_modes

from ._blocks import AbstractEndLayer, AbstractTransverse, EndBlocks, Points


@dataclasses.dataclass(frozen=True)
class _Picked(AbstractSpectralBasis):
    """A basis on some points of a grid only: rows of its synthesis, columns of its analysis."""

    inner: AbstractSpectralBasis
    points: Any
    picked: tuple[int, ...]

    @property
    def _index(self) -> np.ndarray:
        return np.asarray(self.picked, np.int32)

    @property
    def complex(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.complex

    def coordinates(self, points: Any, xp: Any = np) -> Any:
        return self.inner.coordinates(self.points, module(self.points))[self._index]

    def limit(self, points: Any) -> Any:
        return self.inner.limit(self.points)

    def wavenumbers(self, modes: int, half: bool = False) -> np.ndarray:
        return self.inner.wavenumbers(modes, half)

    def analysis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        whole = self.inner.analysis(self.points, modes, half, module(self.points))
        return jax.tree.map(lambda matrix: matrix[:, self._index], whole)

    def synthesis(self, points: Any, modes: int, half: bool = False, xp: Any = np) -> Any:
        whole = self.inner.synthesis(self.points, modes, half, module(self.points))
        return jax.tree.map(lambda matrix: matrix[self._index], whole)

    def fast_analysis(self, values: Array, modes: int, half: bool = False) -> Array:
        raise NotImplementedError("a few points are no matter for an FFT")

    def fast_synthesis(self, coefficients: Array, points: int, half: bool = False) -> Array:
        raise NotImplementedError("a few points are no matter for an FFT")


class Modes(AbstractTransverse):
    """The transverse modes that a spectral layer keeps, none of which it couples."""

    expansion: Expansion
    shape: tuple[int, ...] = eqx.field(static=True)

    def analyse(self, face: Array) -> Array:
        c = jax.vmap(lambda u: analyse(u, self.expansion))(face)
        return jnp.moveaxis(c.reshape(*c.shape[:2], -1), -1, 0)[..., None]

    def synthesise(self, coefficients: Array) -> Array:
        c = jnp.moveaxis(coefficients[..., 0], 0, -1)
        sizes = (
            len(b.wavenumbers(n, self.expansion.half(axis)))
            for axis, (b, n) in enumerate(
                zip(self.expansion.bases, self.expansion.modes, strict=True)
            )
        )
        c = c.reshape(*c.shape[:2], *sizes)
        return jax.vmap(lambda u: synthesise(u, self.shape, self.expansion))(c)


class _State(eqx.Module):
    """The coefficients of the output, and the grid and the dtype of the input."""

    mixed: Array
    names: tuple[Any, ...] = eqx.field(static=True)
    points: tuple[int, ...] = eqx.field(static=True)
    dtype: Any = eqx.field(static=True)


class SpectralEnds(AbstractEndLayer):
    """A spectral layer: nothing is probed, and the input's boundary costs a few products more."""

    layer: SpectralConv

    def apply(self, x: Array) -> Any:
        jax.eval_shape(self.layer, x)  # its own words where the input does not fit
        return self._mixed(x, self.layer.expansion(x.dtype, x.shape[1:]), x.shape[1:])

    def output(self, state: Any) -> Array:
        expansion = self.layer.expansion(state.dtype, state.points)
        y = from_modes(state.mixed, list(state.names), state.points, expansion)
        return y if self.layer.bias is None else y + self._bias(y.ndim - 1, y.dtype)

    def rows(self, state: Any, axis: int, rows: tuple[int, ...]) -> Array:
        expansion = self._picked(state.dtype, state.points, axis, rows)
        points = [len(rows) if i + 1 == axis else n for i, n in enumerate(state.points)]
        y = from_modes(state.mixed, list(state.names), points, expansion)
        y = jnp.moveaxis(y, axis, 0)
        return y if self.layer.bias is None else y + self._bias(y.ndim - 2, y.dtype)[None]

    def bias_rows(self, state: Any, axis: int, rows: tuple[int, ...]) -> Array | float:
        if self.layer.bias is None:
            return 0.0
        dtype = self.layer.expansion(state.dtype, state.points).output
        return self._bias(len(state.points) - 1, dtype)[None]

    def shifted(self, state: Any, axis: int, columns: tuple[int, ...], delta: Array) -> Any:
        expansion = self._picked(state.dtype, state.points, axis, columns)
        more = self._mixed(jnp.moveaxis(delta, 0, axis), expansion, state.points)
        return eqx.tree_at(lambda s: s.mixed, state, state.mixed + more.mixed)

    def blocks(
        self, state: Any, axis: int, rows: tuple[int, ...], columns: tuple[int, ...]
    ) -> EndBlocks:
        real = self.layer.expansion(state.dtype, state.points).output
        real = jnp.float32 if jnp.finfo(real).bits < 32 else real
        found = kernel_blocks(
            self.layer, state.points, axis - 1, rows=rows, columns=columns, dtype=real
        )
        K = found.blocks.reshape(*found.blocks.shape[:4], -1)  # rows, columns, out, in, modes
        K = jnp.transpose(K, (4, 0, 2, 1, 3))[:, :, :, None, :, :, None]
        if found.transverse is None:
            return EndBlocks(K, Points(()))
        others = tuple(n for i, n in enumerate(state.points) if i != axis - 1)
        return EndBlocks(K, Modes(found.transverse, others))

    def _mixed(self, x: Array, expansion: Expansion, points: tuple[int, ...]) -> _State:
        coefficients, names = to_modes(x, expansion)
        mixed, names = _mix(self.layer.weight.tensor, coefficients, names, expansion)
        return _State(mixed, tuple(names), tuple(points), x.dtype)

    def _picked(
        self, dtype: Any, points: tuple[int, ...], axis: int, picked: tuple[int, ...]
    ) -> Expansion:
        """The layer's expansion, with some points of one axis only."""
        whole = self.layer.expansion(dtype, points)
        at = axis - 1
        basis = _Picked(whole.bases[at], points[at], picked)
        return Expansion(
            (*whole.bases[:at], basis, *whole.bases[at + 1 :]),
            whole.modes,
            whole.complex_data,
            (*whole.methods[:at], "matmul", *whole.methods[at + 1 :]),
            whole.compute,
            whole.output,
        )

    def _bias(self, axes: int, dtype: Any) -> Array:
        assert self.layer.bias is not None
        return self.layer.bias.astype(dtype).reshape(-1, *[1] * axes)
