"""Regularised inverses of many small blocks, without a call to LAPACK and without its derivatives.

As array operations they neither wait for each other (see
[`jaxsci.solvers.sparse.inverse_cholesky`][]) nor take their derivatives from every step of a
factorisation.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Inexact

from jaxsci.precision import matmul
from jaxsci.solvers.sparse import inverse_cholesky


def regularised_solve(
    A: Inexact[Array, "*batch p q"], r: Inexact[Array, "*batch p"], tikhonov: float | None
) -> Inexact[Array, "*batch q"]:
    """`z = A' (A A' + eps^2 I)^-1 r`, i.e. the minimiser of `|A z - r|^2 + eps^2 |z|^2`.

    `eps` is `tikhonov` times the largest Frobenius norm among the blocks `A`, by default the square
    root of the machine epsilon: what is singular in this precision is left alone instead of blown
    up. `|z| <= |r| / (2 eps)`, whatever `A`, and `z = 0` for `A = 0`.
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
    # The smaller of the two Gram matrices is inverted, so that none has directions of no weight.
    # The inverse itself depends on the weights only: a batch of `r` shares it.
    if p <= q:
        inverse, _ = _wide_inverse(tikhonov, A)
    else:
        inverse = _adjoint(_wide_inverse(tikhonov, _adjoint(A))[0])
    return matmul(inverse, r[..., None])[..., 0]


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _wide_inverse(tikhonov: float, A: Array) -> tuple[Array, Array]:
    """`A' M^-1` and `M^-1`, where `M = A A' + tikhonov^2 I`.

    By a QR factorisation of `[A'; tikhonov I]`, which does not square its condition number.
    """
    p = A.shape[-2]
    eye = jnp.broadcast_to(tikhonov * jnp.eye(p, dtype=A.dtype), (*A.shape[:-2], p, p))
    Q, X = _qr(jnp.concatenate([_adjoint(A), eye], axis=-2))
    X_adjoint = _adjoint(X)
    return matmul(Q[..., : A.shape[-1], :], X_adjoint), matmul(X, X_adjoint)


@_wide_inverse.defjvp
def _wide_inverse_jvp(tikhonov, primals, tangents):
    (A,), (dA,) = primals, tangents
    P, inverse = _wide_inverse(tikhonov, A)
    dA_adjoint = _adjoint(dA)
    moved = matmul(dA_adjoint, inverse)
    dP = moved - matmul(P, matmul(A, moved)) - matmul(P, matmul(dA, P))
    # M^-1 (dA A' + A dA') M^-1, its second half the adjoint of its first.
    half = matmul(inverse, matmul(dA, P))
    return (P, inverse), (dP, -half - _adjoint(half))


def _qr(B: Array) -> tuple[Array, Array]:
    """`Q` and `R^-1` for tall blocks `B = Q R`, by shifted Cholesky QR in three passes.

    The shift is above the rounding of the Gram matrix, so that the first factor exists; it leaves a
    condition number near the square root of the number of columns where that of `B` is at most the
    inverse square root of the machine epsilon. Two passes more make `Q` orthonormal to rounding
    (Fukaya et al., Shifted Cholesky QR for computing the QR factorization of ill-conditioned
    matrices, SIAM J. Sci. Comput. 42, 2020).
    """
    n = B.shape[-1]
    G = matmul(_adjoint(B), B)
    i, eps = jnp.arange(n), float(jnp.finfo(B.dtype).eps)
    shift = 2 * n * eps * jnp.trace(G, axis1=-2, axis2=-1)[..., None]
    X = _adjoint(inverse_cholesky(G.at[..., i, i].add(shift)))
    Q = matmul(B, X)
    for _ in range(2):
        Y = _adjoint(inverse_cholesky(matmul(_adjoint(Q), Q)))
        Q, X = matmul(Q, Y), matmul(X, Y)
    return Q, X


def _adjoint(A: Array) -> Array:
    return jnp.conj(jnp.swapaxes(A, -1, -2))
