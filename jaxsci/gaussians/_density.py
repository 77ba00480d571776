"""Log-densities of structured Gaussians, singular ones included."""

import functools as ft
from typing import NamedTuple

import equinox as eqx
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lineax as lx
from jaxtyping import Array, Bool, Float

from jaxsci.precision import matmul

from ._conditioned import Conditioned
from ._disjoint import DisjointRows
from ._kronecker import Kronecker, kronecker_mv
from ._low_rank import LowRank
from ._null import null_projector
from ._pushforward import Pushforward, alone, reachable
from ._sample import safe_sqrt


class Density(NamedTuple):
    """What a log-density is made of.

    - `quadratic`: `d' C^+ d`.
    - `log_det`: the log-determinant of `C` on its range.
    - `rank`: the dimension of that range.
    - `inside`: whether `d` lies in it, up to rounding.
    """

    quadratic: Float[Array, ""]
    log_det: Float[Array, ""]
    rank: Float[Array, ""]
    inside: Bool[Array, ""]


# Compiled as a whole, for callers that are not.
@eqx.filter_jit
def log_density(operator: lx.AbstractLinearOperator, mean: Array, value: Array) -> Array:
    """`log N(value; mean, operator)`.

    Where the covariance is singular because observations were exact, this is the density on
    the subspace that satisfies them, with respect to its own Lebesgue measure, and minus infinity
    off it.
    """
    scale = jnp.abs(value) + jnp.abs(mean)
    q, log_det, rank, inside = density(operator, value - mean, scale)
    log_two_pi = 1.8378770664093453
    return jnp.where(inside | jnp.isnan(q), -(q + log_det + rank * log_two_pi) / 2, -jnp.inf)


@ft.singledispatch
def density(operator: lx.AbstractLinearOperator, d: Array, scale: Array) -> Density:
    """The parts for the residual `d` of numbers of size `scale` (which sets the rounding)."""
    del scale
    return _from_cholesky(jnp.linalg.cholesky(operator.as_matrix()), d)


def _from_cholesky(lower: Array, d: Array) -> Density:
    white = jsl.solve_triangular(lower, d, lower=True)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(lower)))
    return _full(white @ white, log_det, d.size)


def _full(quadratic: Array, log_det: Array, n: int) -> Density:
    return Density(quadratic, log_det, jnp.asarray(n, quadratic.dtype), jnp.asarray(True))


@density.register
def _(operator: lx.TaggedLinearOperator, d: Array, scale: Array) -> Density:
    return density(operator.operator, d, scale)


@density.register
def _(operator: lx.DiagonalLinearOperator, d: Array, scale: Array) -> Density:
    # A point without variance is known: it has no density, but a value that it must take.
    variance = operator.diagonal
    known = variance <= 0
    safe = jnp.where(known, 1, variance)
    eps = jnp.finfo(d.dtype).eps
    return Density(
        jnp.sum(jnp.where(known, 0, d**2 / safe)),
        jnp.sum(jnp.where(known, 0, jnp.log(safe))),
        jnp.sum(~known).astype(d.dtype),
        jnp.all(~known | (jnp.abs(d) <= 8 * eps * scale)),
    )


@density.register
def _(operator: LowRank, d: Array, scale: Array) -> Density:
    # Woodbury in the whitened coordinates D^-1/2: all sums are of positive terms.
    del scale
    root = jnp.sqrt(operator.diag)
    v, white = operator.factor / root[:, None], d / root
    inner = jnp.eye(v.shape[1], dtype=v.dtype) + matmul(v.T, v)
    lower = jnp.linalg.cholesky(inner)
    across = jsl.solve_triangular(lower, matmul(v.T, white), lower=True)
    log_det = 2 * jnp.sum(jnp.log(root)) + 2 * jnp.sum(jnp.log(jnp.diagonal(lower)))
    return _full(white @ white - across @ across, log_det, d.size)


@density.register
def _(operator: Kronecker, d: Array, scale: Array) -> Density:
    del scale
    lowers = [jnp.linalg.cholesky(f) for f in operator.factors]
    inverses = tuple(
        jsl.solve_triangular(low, jnp.eye(len(low), dtype=low.dtype), lower=True) for low in lowers
    )
    white = kronecker_mv(inverses, d)
    log_dets = [2 * jnp.sum(jnp.log(jnp.diagonal(low))) * (d.size / len(low)) for low in lowers]
    return _full(white @ white, jnp.sum(jnp.stack(log_dets)), d.size)


@density.register
def _(operator: Conditioned, d: Array, scale: Array) -> Density:
    # log N(u; m~, C~) follows from p(u | b) = p(u) p(b | u) / p(b): the quadratic forms of prior
    # and noise add, and log det C~ = log det P + log det R - log det S. For exact rows the term
    # of R is replaced by log det G G', which turns the density in u into one on {G u = b}.
    levels: list[Conditioned] = []
    root: lx.AbstractLinearOperator = operator
    while isinstance(root, Conditioned):
        levels.append(root)
        root = root.prior
    prior = density(root, d, scale)
    quadratic, log_det, rank, inside = prior
    eps = jnp.finfo(d.dtype).eps
    length = jnp.linalg.norm(scale)
    exact_rows, single = [], len(levels) == 1
    for level in levels:
        residual = level.rows.mv(d)
        gram = _gram(level.rows)
        tolerance = 64 * eps * jnp.sqrt(gram if gram.ndim == 1 else jnp.diagonal(gram)) * length
        exact, null, off = jnp.ones_like(residual), level.null, residual
        log_det = log_det - level.log_det
        if level.noise is not None and level.noise.ndim == 1:
            exact = (level.noise <= 0).astype(d.dtype)
            safe = jnp.where(level.noise <= 0, 1, level.noise)
            quadratic = quadratic + jnp.sum((1 - exact) * residual**2 / safe)
            log_det = log_det + jnp.sum(jnp.log(safe))
        elif level.noise is not None:
            exact, noise = _singular(level.noise, residual)
            off = matmul(exact, residual)
            quadratic, log_det = quadratic + noise.quadratic, log_det + noise.log_det
            # Noise of the size of rounding cannot be told from none: a residual may be due to it.
            unseen = len(residual) * eps * jnp.diagonal(level.noise)
            tolerance = jnp.max(tolerance) + 8 * safe_sqrt(unseen)
            null = jnp.diag(null) if null.ndim == 1 else null
        observed = exact == 0 if exact.ndim == 1 else jnp.zeros_like(residual, bool)
        inside = inside & jnp.all(observed | (jnp.abs(off) <= tolerance))
        # Directions that had no variance left were fixed before: they do not count again.
        if null.ndim == 1:
            counted = exact * (1 - null)
            rank = rank - jnp.sum(counted)
            if single and gram.ndim == 1:
                log_det = log_det + jnp.sum(jnp.log(jnp.where(counted > 0, gram, 1)))
            else:
                exact_rows.append(counted[:, None] * level.rows.as_matrix())
        else:
            counted = (jnp.diag(exact) if exact.ndim == 1 else exact) - null
            rank = rank - jnp.trace(counted)
            exact_rows.append(matmul(counted, level.rows.as_matrix()))
    if exact_rows:
        log_det = log_det + _log_det_of_rows(jnp.concatenate(exact_rows))
    return Density(quadratic, log_det, rank, inside)


@density.register
def _(operator: Pushforward, d: Array, scale: Array) -> Density:
    free = operator.free
    prior = alone(operator.prior, free)
    if prior is None:
        matrix = operator.prior.as_matrix() * free[:, None] * free[None, :]
        found = _from_eigenvalues(matrix, free * d, free * scale)
    else:
        found = density(prior, free * d, scale)
        found = found._replace(rank=found.rank - jnp.sum(1 - free))
    return found._replace(inside=found.inside & reachable(operator, d, scale))


def _from_eigenvalues(matrix: Float[Array, "n n"], d: Array, scale: Array) -> Density:
    """Of a matrix that may be singular, on its range."""
    values, vectors = jnp.linalg.eigh(matrix)
    eps = jnp.finfo(d.dtype).eps
    spread = values > d.size * eps * jnp.max(jnp.abs(values))
    safe = jnp.where(spread, values, 1)
    coordinates = matmul(vectors.T, d)
    off = jnp.where(spread, 0, jnp.abs(coordinates))
    return Density(
        jnp.sum(jnp.where(spread, coordinates**2 / safe, 0)),
        jnp.sum(jnp.where(spread, jnp.log(safe), 0)),
        jnp.sum(spread).astype(d.dtype),
        jnp.all(off <= 64 * eps * jnp.linalg.norm(scale)),
    )


def _singular(noise: Float[Array, "k k"], residual: Array) -> tuple[Array, Density]:
    """The projector on the directions without noise, and the density on the others."""
    largest = jnp.max(jnp.diagonal(noise))
    unit = jnp.where(largest > 0, largest, 1)
    null = null_projector(noise, len(noise) * jnp.finfo(noise.dtype).eps * largest)
    lower = jnp.linalg.cholesky(noise + unit * null)
    seen = _from_cholesky(lower, residual - matmul(null, residual))
    return null, seen._replace(log_det=seen.log_det - jnp.trace(null) * jnp.log(unit))


def _gram(rows: lx.AbstractLinearOperator) -> Array:
    """`G G'`, as a vector where it is diagonal."""
    if isinstance(rows, DisjointRows):
        return jnp.sum(rows.group(rows.flat_weights**2), axis=1)
    matrix = rows.as_matrix()
    return matmul(matrix, matrix.T)


def _log_det_of_rows(rows: Float[Array, "k n"]) -> Array:
    """The log-determinant of `H H'` on its range; rows that were projected out count nothing."""
    gram = matmul(rows, rows.T)
    largest = jnp.max(jnp.diagonal(gram))
    spare = null_projector(gram, 8 * len(gram) * jnp.finfo(gram.dtype).eps * largest)
    unit = jnp.where(largest > 0, largest, 1)
    lower = jnp.linalg.cholesky(gram + unit * spare)
    return 2 * jnp.sum(jnp.log(jnp.diagonal(lower))) - jnp.trace(spare) * jnp.log(unit)
