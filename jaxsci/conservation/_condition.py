"""The Bayesian update of a Gaussian by a linear constraint."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import lineax as lx
import numpy as np
from jax import lax
from jaxtyping import Array

from jaxsci.errors import is_concrete
from jaxsci.gaussians import Conditioned, DisjointRows, Gaussian, LowRank, null_projector, separates
from jaxsci.precision import compensated_sum, matmul

from ._certificate import RESULTS, Certificate
from ._constraint import LinearConstraint


def condition(gaussian: Gaussian, constraint: LinearConstraint) -> Gaussian:
    """The Gaussian given that the constraint holds: it conserves what the constraint says.

    With `S = R + G C G'`,

    ```
    mean~ = mean - C G' S^-1 (G mean - b)
    C~    = C    - C G' S^-1 G C
    ```

    For an exact constraint (`R = None`) the new mean satisfies it to rounding,
    `|G mean~ - b| <= 4 eps sum_i |g_i mean~_i|`, in float32 as in float64: residuals are summed
    in twice the working precision, and a second pass removes what the first one's rounding left.
    The covariance keeps its structure; for a diagonal one and `k` rows everything is O(n k), for
    [`jaxsci.conservation.integral`][]s over separate time slices O(n).

    Exact rows that repeat what holds already (conditioning twice) change nothing.

    **Arguments:**

    - `gaussian`: over `n` points; float32 or float64. `vmap` for a batch.
    - `constraint`: `k` rows over the same points, in the same dtype.

    **Returns:** a Gaussian with the new mean and a [`jaxsci.gaussians.Conditioned`][] covariance.

    **Raises:** `ValueError` if sizes differ; `TypeError` if dtypes do; and, outside `jit`,
    `ValueError` with the sentence of [`jaxsci.conservation.RESULTS`][] if the update is
    impossible. Under `jit`, where nothing can be raised, the mean is then NaN, and
    [`jaxsci.conservation.condition_with_certificate`][] tells why.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import LinearConstraint, condition
        >>> from jaxsci.gaussians import Gaussian
        >>> prediction = Gaussian.diagonal(jnp.array([0.5, 0.5, 0.5]), jnp.array([0.0, 1.0, 3.0]))
        >>> condition(prediction, LinearConstraint(jnp.ones(3), 1.0)).mean
        Array([0.5  , 0.375, 0.125], dtype=float32)

    Reference: Hansen, Maddix, Alizadeh, Gupta, Mahoney, *Learning Physical Models that Can
    Respect Conservation Laws*, ICML 2023, eq. 7. Differs from the paper in: 1. `R = 0` is reached
    exactly, not through a large precision; 2. the covariance is never made dense.
    """
    _check_fit(gaussian, constraint)
    updated, result = _without_evidence(gaussian, constraint)
    if is_concrete(updated, result) and not bool(result == RESULTS.successful):
        _raise(result, gaussian, constraint)
    return updated


def condition_with_certificate(
    gaussian: Gaussian, constraint: LinearConstraint
) -> tuple[Gaussian, Certificate]:
    """As [`jaxsci.conservation.condition`][], with evidence; never raises on values.

    **Returns:** the conditioned Gaussian (its mean is NaN unless `certificate.result` is
    `RESULTS.successful`) and the [`jaxsci.conservation.Certificate`][].

    **Raises:** `ValueError` if sizes differ, `TypeError` if dtypes do.
    """
    _check_fit(gaussian, constraint)
    return _with_evidence(gaussian, constraint)


# Compiled as a whole: run step by step, the first call would compile dozens of small programs.
@eqx.filter_jit
def _without_evidence(gaussian: Gaussian, constraint: LinearConstraint) -> tuple[Gaussian, RESULTS]:
    updated, certificate = _update(gaussian, constraint)
    return updated, certificate.result


@eqx.filter_jit
def _with_evidence(
    gaussian: Gaussian, constraint: LinearConstraint
) -> tuple[Gaussian, Certificate]:
    return _update(gaussian, constraint)


def _update(gaussian: Gaussian, constraint: LinearConstraint) -> tuple[Gaussian, Certificate]:
    cov, units = _observe(gaussian.cov, constraint)
    # A plain sum will do for the first pass: the second sees what its rounding left.
    residual = constraint.G.mv(gaussian.mean) - constraint.b
    result = _feasibility(cov, units, residual, constraint, gaussian.mean)
    weights = cov.precision_mv(units * residual)
    mean = gaussian.mean - cov.prior.mv(cov.rows.T.mv(weights))
    # What must remain of the residual is R S^-1 r, nothing for an exact row.
    left = units * _refining_residual(constraint, mean) - _noise_mv(cov.noise, weights)
    # Every point enters a residual, if only with weight 0: what is not finite shows there.
    finite = jnp.isfinite(left).all() & jnp.isfinite(cov.whiten).all()
    # A branch, so that there is one mean: computed again where its certificate reads it, it could
    # be rounded another way (XLA may fuse a product and a sum there, and not here).
    mean = lax.cond(finite, lambda: mean - cov.gain_mv(left), lambda: mean)

    before, after = constraint.residual(gaussian.mean), constraint.residual(mean)
    rounding = 4 * jnp.finfo(mean.dtype).eps * constraint.magnitude(mean)
    variance = lx.diagonal(gaussian.cov)
    known = variance <= 0
    spread = jnp.sqrt(jnp.where(known, 1, variance))
    moved = jnp.max(jnp.where(known, 0, jnp.abs(mean - gaussian.mean) / spread))
    result = RESULTS.where(finite | (result != RESULTS.successful), result, RESULTS.non_finite)
    mean = jnp.where(result == RESULTS.successful, mean, jnp.nan)
    return Gaussian(mean, cov), Certificate(before, after, rounding, moved, result)


def project(gaussian: Gaussian, constraint: LinearConstraint) -> Gaussian:
    """The nearest mean that satisfies the constraint exactly; the covariance stays as it was.

    `mean~ = mean - G' (G G')^-1 (G mean - b)`: every point moves alike, however sure the
    surrogate is of it. This is the ablation called HardC in the paper; a noise `R` is ignored.

    **Arguments, Raises:** as [`jaxsci.conservation.condition`][].
    """
    equal = Gaussian(gaussian.mean, lx.DiagonalLinearOperator(jnp.ones_like(gaussian.mean)))
    exact = eqx.tree_at(lambda c: c.R, constraint, None, is_leaf=lambda x: x is None)
    return Gaussian(condition(equal, exact).mean, gaussian.cov)


def _check_fit(gaussian: Gaussian, constraint: LinearConstraint) -> None:
    if gaussian.mean.ndim != 1:
        raise ValueError(
            "`condition(gaussian, constraint)`: expected one Gaussian, mean of shape (n,), got a "
            f"batch, {gaussian.mean.shape}; use `jax.vmap(condition)`"
        )
    n, structure = gaussian.size, constraint.G.in_structure()
    if structure.shape != (n,):
        raise ValueError(
            f"`condition(gaussian, constraint)`: expected rows over {n} points, as the Gaussian, "
            f"got {structure.shape[0]}"
        )
    if structure.dtype != gaussian.mean.dtype:
        raise TypeError(
            f"`condition(gaussian, constraint)`: expected one dtype, got {gaussian.mean.dtype} and "
            f"{structure.dtype}; use `constraint.astype(gaussian.mean.dtype)`"
        )
    if gaussian.mean.dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            "`condition(gaussian, ...)`: expected float32 or float64 (conservation to rounding "
            f"needs compensated sums), got {gaussian.mean.dtype}; cast the prediction first"
        )


def _refining_residual(constraint: LinearConstraint, mean: Array) -> Array:
    """`G mean - b`, with each product rounded before the sum in twice the precision.

    That is half of an eps of what the bound counts, for a third of the cost.
    """
    G, b = constraint.G, constraint.b
    if isinstance(G, DisjointRows):
        return jax.vmap(compensated_sum)(G.group(G.flat_weights * mean), -b)
    if isinstance(G, lx.MatrixLinearOperator):
        return jax.vmap(compensated_sum)(G.matrix * mean[None, :], -b)
    return constraint.residual(mean)


def _noise_mv(noise: Array | None, vector: Array) -> Array:
    if noise is None:
        return jnp.zeros_like(vector)
    return noise * vector if noise.ndim == 1 else matmul(noise, vector)


def _root(cov: lx.AbstractLinearOperator) -> lx.AbstractLinearOperator:
    while isinstance(cov, Conditioned):
        cov = cov.prior
    return cov


def _row_variances(cov: lx.AbstractLinearOperator, G: lx.AbstractLinearOperator) -> Array | None:
    """The diagonal of `G C G'` if that is all there is of it, at O(n); else `None`."""
    if isinstance(G, DisjointRows) and separates(cov, G):
        if isinstance(cov, lx.DiagonalLinearOperator):
            return G.squared_mv(cov.diagonal)
        return G.mv(cov.mv(G.flat_weights))
    if G.out_size() == 1:
        row = G.T.mv(jnp.ones((1,), G.in_structure().dtype))
        return jnp.sum(row * cov.mv(row))[None]
    return None


def _unseen(root: lx.AbstractLinearOperator, G: lx.AbstractLinearOperator) -> Array:
    """The variance of each row that rounding makes up where its terms cancel.

    It is 0 for a diagonal covariance, whose terms are all positive. But an ensemble whose members
    all have the same total has no variance of the total, and `g'Cg` is computed as noise.
    """
    eps = jnp.finfo(G.in_structure().dtype).eps
    if isinstance(root, lx.DiagonalLinearOperator):
        return jnp.zeros((G.out_size(),), root.diagonal.dtype)
    if isinstance(root, LowRank):
        parts = jnp.sum(matmul(_abs_rows(G), jnp.abs(root.factor)) ** 2, axis=1)
        return jax.lax.stop_gradient((32 * eps) ** 2 * parts)
    spread = jnp.sqrt(jnp.maximum(jax.lax.stop_gradient(lx.diagonal(root)), 0))
    return 32 * eps * jax.lax.stop_gradient(matmul(_abs_rows(G), spread) ** 2)


def _abs_rows(G: lx.AbstractLinearOperator) -> Array:
    if G.out_size() == 1:
        return jnp.abs(G.T.mv(jnp.ones((1,), G.in_structure().dtype)))[None, :]
    return jnp.abs(G.as_matrix())


def _observe(
    prior: lx.AbstractLinearOperator, constraint: LinearConstraint
) -> tuple[Conditioned, Array]:
    """The conditioned covariance, and the power of two by which each row was scaled for it."""
    G, R = constraint.G, constraint.R
    eps = jnp.finfo(G.in_structure().dtype).eps
    diagonal = _row_variances(prior, G)
    if diagonal is not None and (R is None or R.ndim == 1 or G.out_size() == 1):
        # A row has no variance left if what is left is the rounding of what there was at first.
        first = None if _root(prior) is prior else _row_variances(_root(prior), G)
        null = (diagonal <= 0) if first is None else (diagonal <= 32 * eps * first)
        null = null | (diagonal <= _unseen(_root(prior), G))
        if R is not None:
            R = R.ravel()
            diagonal, null = jnp.where(null, 0, diagonal) + R, null & (R <= 0)
        safe = jnp.where(null, 1, diagonal)
        whiten = jnp.where(null, 0, 1 / jnp.sqrt(safe))
        spare = null.astype(whiten.dtype)
        return Conditioned(prior, G, R, whiten, spare, jnp.sum(jnp.log(safe))), jnp.ones_like(
            whiten
        )

    # Rows of very different size are brought to one scale, so that what is negligible can be told;
    # by powers of two, which costs no rounding.
    rows = G.as_matrix()
    forward = jax.vmap(prior.mv)(rows)
    first = forward if _root(prior) is prior else jax.vmap(_root(prior).mv)(rows)
    size = jnp.sum(rows * first, axis=1)
    if R is not None:
        size = size + (R if R.ndim == 1 else jnp.diagonal(R))
    units = _power_of_two(size)
    alive = (jnp.sum(rows * forward, axis=1) > _unseen(_root(prior), G)).astype(size.dtype)
    gram = matmul(rows, forward.T) * alive[:, None] * alive[None, :]
    S = units[:, None] * ((gram + gram.T) / 2) * units[None, :]
    if R is not None:
        R = R * units**2 if R.ndim == 1 else units[:, None] * R * units[None, :]
        S = S + (R if R.ndim == 2 else jnp.diag(R))
    k = len(S)
    eye = jnp.eye(k, dtype=S.dtype)
    negligible = 8 * k * eps
    if R is None:
        null = null_projector(S, negligible)
    else:
        # A noise that S cannot hold beside its other entries is none: such rows may depend on
        # each other as exact ones may.
        if R.ndim == 1:
            exact = jnp.diag((k * eps >= R).astype(S.dtype))
        else:
            exact = null_projector(R, k * eps * jnp.maximum(1, jnp.max(jnp.diagonal(R))))
        null = null_projector(matmul(matmul(exact, S), exact) + eye - exact, negligible)
    lower = jnp.linalg.cholesky(S + null)
    whiten = jsl.solve_triangular(lower, eye - null, lower=True)
    log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(lower)))
    if isinstance(G, DisjointRows):
        scaled = G.reweighted(G.flat_weights * G.spread(units))
    else:
        scaled = lx.MatrixLinearOperator(rows * units[:, None])
    return Conditioned(prior, scaled, R, whiten, null, log_det), units


def _power_of_two(size: Array) -> Array:
    """The power of two nearest to `1 / sqrt(size)`; 1 where there is nothing to scale."""
    size = jax.lax.stop_gradient(size)
    usable = (size > 0) & jnp.isfinite(size)
    exponent = jnp.round(-0.5 * jnp.log2(jnp.where(usable, size, 1))).astype(jnp.int32)
    return jnp.ldexp(jnp.ones_like(size), exponent)


def _feasibility(
    cov: Conditioned, units: Array, residual: Array, constraint: LinearConstraint, mean: Array
) -> RESULTS:
    """Whether rows without variance left hold already, which they must."""
    # The null directions of k rows are known to about k eps of the residuals.
    tolerance = 8 * (3 + constraint.rows) * jnp.finfo(residual.dtype).eps
    size = constraint.magnitude(mean) + jnp.abs(constraint.b)
    if cov.null.ndim == 1:
        off = jnp.abs(cov.null * residual)
        bad = off > 32 * jnp.finfo(residual.dtype).eps * size
    else:
        off = jnp.abs(matmul(cov.null, units * residual))
        bad = off > tolerance * jnp.max(units * size)
    row_variance = _row_variances(_root(cov.prior), constraint.G)
    if row_variance is None:
        rows = constraint.G.as_matrix()
        row_variance = jnp.sum(rows * jax.vmap(_root(cov.prior).mv)(rows), axis=1)
    stuck = (row_variance <= _unseen(_root(cov.prior), constraint.G)) & bad
    result = RESULTS.where(bad.any(), RESULTS.contradictory, RESULTS.successful)
    return RESULTS.where(stuck.any(), RESULTS.no_variance, result)


def _raise(result: RESULTS, gaussian: Gaussian, constraint: LinearConstraint) -> None:
    residual = np.abs(np.asarray(constraint.residual(gaussian.mean)))
    row = int(residual.argmax())
    raise ValueError(
        f"`condition(gaussian, constraint)`: {RESULTS[result]} The largest residual "
        f"before the update is {residual[row]:.3g}, in row {row} of {constraint.rows}."
    )
