"""The blocks of a linear layer between its boundary points."""

import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact


class AbstractTransverse(eqx.Module):
    """How a function on a face is expanded so that blocks do not couple what is expanded."""

    @abstractmethod
    def analyse(self, face: Array) -> Array:
        """`(K, C, *transverse)` to `(batch, K, C, points)`."""

    @abstractmethod
    def synthesise(self, coefficients: Array) -> Array:
        """Back; what is not represented is 0."""


class Points(AbstractTransverse):
    """Every point of the face is coupled with every other: one block for all."""

    shape: tuple[int, ...] = eqx.field(static=True)

    def analyse(self, face: Array) -> Array:
        return face.reshape(1, *face.shape[:2], math.prod(self.shape))

    def synthesise(self, coefficients: Array) -> Array:
        return coefficients.reshape(*coefficients.shape[1:3], *self.shape)


class EndBlocks(eqx.Module):
    """`K_ij` for points `i` near the ends of an axis and points `j` at its ends.

    - `array`: shape `(batch, rows, C_out, M, columns, C_in, M)`; `batch` counts transverse modes
        that the layer does not couple, `M` the transverse points that it does.
    - `transverse`: how functions on the face are brought to this form.
    """

    array: Inexact[Array, "batch rows out M columns in M"]
    transverse: AbstractTransverse


class AbstractEndLayer(eqx.Module):
    """A linear layer as the corrections see it: the protocol behind `correct`.

    A `state` is whatever the layer keeps between its input and its output: the output itself, or
    the coefficients of a spectral layer, from which a few rows of the output are had for little.
    """

    @abstractmethod
    def apply(self, x: Array) -> Any:
        """The state for an input `(C_in, N_1, ...)`."""

    @abstractmethod
    def output(self, state: Any) -> Array:
        """The output `(C_out, N_1, ...)`, with the bias if there is one."""

    @abstractmethod
    def rows(self, state: Any, axis: int, rows: tuple[int, ...]) -> Array:
        """The output at some indices of an array axis, shape `(len(rows), C_out, *transverse)`."""

    @abstractmethod
    def bias_rows(self, state: Any, axis: int, rows: tuple[int, ...]) -> Array | float:
        """The same for the input 0; `0.0` for a layer without bias."""

    @abstractmethod
    def shifted(self, state: Any, axis: int, columns: tuple[int, ...], delta: Array) -> Any:
        """The state when `delta`, `(columns, C_in, *transverse)`, is added to the input there."""

    @abstractmethod
    def blocks(
        self, state: Any, axis: int, rows: tuple[int, ...], columns: tuple[int, ...]
    ) -> EndBlocks:
        """The blocks between `columns` of the input and `rows` of the output."""


def take(u: Array, axis: int, points: tuple[int, ...]) -> Array:
    """`(C, N_1, ...)` at some points of an array axis: `(len(points), C, *transverse)`."""
    return jnp.stack([lax.index_in_dim(u, i, axis, keepdims=False) for i in points])


def add_at(u: Array, axis: int, points: tuple[int, ...], delta: Array) -> Array:
    """`u` with `delta`, `(len(points), C, *transverse)`, added at some points of an array axis."""
    index: list[Any] = [slice(None)] * u.ndim
    for i, d in zip(points, delta, strict=True):
        index[axis] = i
        u = u.at[tuple(index)].add(d)
    return u
