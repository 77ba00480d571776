"""The blocks of a linear layer between its boundary points, and their regularised inverse."""

import math
from abc import abstractmethod
from typing import Any

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from jaxsci.precision import matmul


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


def regularised_solve(
    A: Inexact[Array, "*batch p q"], r: Inexact[Array, "*batch p"], tikhonov: float | None
) -> Inexact[Array, "*batch q"]:
    """`z = A' (A A' + eps^2 I)^-1 r`, i.e. the minimiser of `|A z - r|^2 + eps^2 |z|^2`.

    `eps` is `tikhonov` times the largest Frobenius norm among the blocks `A`, by default the square
    root of the machine epsilon: what is singular in this precision is left alone instead of blown
    up. `|z| <= |r| / (2 eps)`, whatever `A`, and `z = 0` for `A = 0`. By a QR factorisation of
    `[A; eps I]`, which does not square the condition number.
    """
    if tikhonov is None:
        tikhonov = math.sqrt(float(jnp.finfo(A.dtype).eps))
    # Brought to size 1 first, so that no square under- or overflows. The level of the noise is no
    # function of the weights that one would want to differentiate.
    size = jnp.abs(lax.stop_gradient(A))
    largest = jnp.max(size, initial=0)
    largest = jnp.where(largest > 0, largest, 1)
    squares = jnp.sum((size / largest) ** 2, axis=(-2, -1))
    norm = jnp.sqrt(jnp.max(squares, initial=0))
    norm = largest * jnp.where(norm > 0, norm, 1)
    A, r = A / norm.astype(A.dtype), r / norm.astype(r.dtype)
    p, q = A.shape[-2:]
    if p == q == 1:
        a = A[..., 0]
        return jnp.conj(a) * r / (jnp.real(a * jnp.conj(a)) + tikhonov**2).astype(a.dtype)
    # The smaller of the two Gram matrices is factorised, so that none has directions of no weight.
    wide, n = p <= q, min(p, q)
    eye = jnp.broadcast_to(tikhonov * jnp.eye(n, dtype=A.dtype), (*A.shape[:-2], n, n))
    top = _adjoint(A) if wide else A
    Q, R = jnp.linalg.qr(jnp.concatenate([top, eye], axis=-2))
    Q = Q[..., : top.shape[-2], :]
    # The inverse itself, which depends on the weights only: a batch of `r` shares all of this.
    if wide:  # A' (R' R)^-1 = Q R'^-1
        solved = lax.linalg.triangular_solve(R, Q, transpose_a=True, conjugate_a=True)
    else:
        solved = lax.linalg.triangular_solve(R, _adjoint(Q), left_side=True)
    return matmul(solved, r[..., None])[..., 0]


def _adjoint(A: Array) -> Array:
    return jnp.conj(jnp.swapaxes(A, -1, -2))
