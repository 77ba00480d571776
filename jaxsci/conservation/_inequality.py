"""The nearest field, in the Gaussian's own metric, that obeys an inequality."""

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from jaxsci.errors import is_concrete
from jaxsci.gaussians import Conditioned, Gaussian
from jaxsci.precision import largest, matmul

from ._constraint import LinearConstraint
from ._inequality_sets import AbstractInequality, Nonnegative
from ._qp import interior_point
from ._qp_refine import refine


class INEQUALITY_RESULTS(eqx.Enumeration):
    """How a projection on an inequality ended."""

    successful = ""
    infeasible = (
        "No field that the covariance can reach satisfies the inequality together with the "
        "equality: points of variance zero cannot move, a nonnegative field has no negative "
        "total, a total variation of zero leaves only constants. Loosen one of them, or give the "
        "points a variance."
    )
    max_steps_reached = (
        "The interior point did not converge within its steps. Raise `max_steps`, or use float64 "
        "if the covariance is nearly singular."
    )
    non_finite = (
        "The mean, the covariance, the inequality or the equality holds a number that is not "
        "finite."
    )


class InequalityCertificate(eqx.Module):
    """Evidence on a projected mean; every field is an array, so it works inside `jit`.

    - `violation`: by how much the inequality is missed, in the unit of the field; 0 if it holds.
    - `residual`: `G mean - b` of the equality, shape `(k,)`; `(0,)` without one.
    - `rounding`: `4 eps sum_i |g_i mean_i|`, which `|residual|` should not exceed.
    - `optimality`: the largest violation of the Karush-Kuhn-Tucker conditions, in standard
        deviations of the rows: 0 at the nearest field.
    - `distance`: `sqrt((v - mean)' cov^+ (v - mean))`, how far the mean was moved.
    - `active`: which rows of the inequality are zero, shape `(m,)`: points at zero, steps that
        are flat.
    - `steps`: interior-point steps.
    - `result`: a member of [`jaxsci.conservation.INEQUALITY_RESULTS`][].
    """

    violation: Float[Array, ""]
    residual: Float[Array, " k"]
    rounding: Float[Array, " k"]
    optimality: Float[Array, ""]
    distance: Float[Array, ""]
    active: Bool[Array, " m"]
    steps: Int[Array, ""]
    result: INEQUALITY_RESULTS


def project_inequality(
    gaussian: Gaussian,
    inequality: AbstractInequality,
    *,
    equality: LinearConstraint | None = None,
    max_steps: int = 60,
) -> Gaussian:
    """The Gaussian whose mean is moved to the nearest field that obeys the inequality.

    ```
    mean~ = argmin_v (v - mean)' C^+ (v - mean)   subject to  v - mean in range(C),
                                                              v in the set, G v = b
    ```

    The inequality then holds to rounding (signs and order exactly), the equality within
    `4 eps sum_i |g_i v_i|`. A mean that obeys both already is returned as it is. The covariance
    is unchanged, as published: it is the prediction's uncertainty, not that of a truncated
    Gaussian.

    A covariance may be singular: an exactly conditioned one has no variance along its
    constraint, so that the mean is moved in the null space of `G` only, and keeps `G v = b` with
    or without `equality`. Points of variance zero do not move.

    Differentiable (forward and reverse) in the mean, the covariance, `b`, `G` and the
    bound of [`jaxsci.conservation.TotalVariation`][], through the optimality conditions with the
    rows that bind held fixed; where the set of binding rows is about to change, the derivative
    is one-sided.

    **Arguments:**

    - `gaussian`: over `n` points; its covariance is made dense. (C) Time O(n^3) for each of some
        20 steps and memory O(n^2): a few thousand points.
    - `inequality`: [`jaxsci.conservation.Nonnegative`][], [`jaxsci.conservation.Monotone`][] or
        [`jaxsci.conservation.TotalVariation`][].
    - `equality`: an exact [`jaxsci.conservation.LinearConstraint`][] to keep; the published
        version has none.
    - `max_steps`: of the interior point; static.

    **Returns:** a Gaussian with the new mean and the old covariance.

    **Raises:** `ValueError` if sizes do not fit or the equality has a noise, `TypeError` if
    dtypes differ; outside `jit`, `ValueError` with the sentence of
    [`jaxsci.conservation.INEQUALITY_RESULTS`][] if there is no such field. Under `jit` the mean
    is then NaN, and [`jaxsci.conservation.project_inequality_with_certificate`][] tells why.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import LinearConstraint, Nonnegative, project_inequality
        >>> from jaxsci.gaussians import Conditioned, Gaussian
        >>> prediction = Gaussian.diagonal(jnp.array([1.0, 0.5, -0.5]), jnp.array([1.0, 1.0, 1.0]))
        >>> project_inequality(prediction, Nonnegative()).mean
        Array([1. , 0.5, 0. ], dtype=float32)
        >>> total = LinearConstraint(jnp.ones(3), 1.0)
        >>> project_inequality(prediction, Nonnegative(), equality=total).mean
        Array([0.75, 0.25, 0.  ], dtype=float32)

    Reference: Hansen, Maddix, Alizadeh, Gupta, Mahoney, *Learning Physical Models that Can
    Respect Conservation Laws*, ICML 2023. Differs from the paper in: 1. the equality can be kept;
    2. no inverse of the covariance is formed, which may be singular; 3. an interior point with
    an active-set finish, to rounding.
    """
    updated, certificate = project_inequality_with_certificate(
        gaussian, inequality, equality=equality, max_steps=max_steps
    )
    if is_concrete(updated, certificate):
        result = certificate.result
        if not bool(result == INEQUALITY_RESULTS.successful):
            raise ValueError(
                f"`project_inequality(gaussian, {type(inequality).__name__})`: "
                f"{INEQUALITY_RESULTS[result]} (optimality {float(certificate.optimality):.3g} "
                f"after {int(certificate.steps)} steps)"
            )
    return updated


def project_inequality_with_certificate(
    gaussian: Gaussian,
    inequality: AbstractInequality,
    *,
    equality: LinearConstraint | None = None,
    max_steps: int = 60,
) -> tuple[Gaussian, InequalityCertificate]:
    """As [`jaxsci.conservation.project_inequality`][], with evidence; never raises on values.

    **Returns:** the Gaussian (its mean is NaN unless `certificate.result` is
    `INEQUALITY_RESULTS.successful`) and the [`jaxsci.conservation.InequalityCertificate`][].

    **Raises:** `ValueError` or `TypeError` if sizes or dtypes do not fit.
    """
    _check(gaussian, inequality, equality)
    return _project(gaussian, inequality, equality, max_steps)


# Compiled as a whole: its loops, run one by one, would be compiled anew at every call.
@eqx.filter_jit
def _project(
    gaussian: Gaussian,
    inequality: AbstractInequality,
    equality: LinearConstraint | None,
    max_steps: int,
) -> tuple[Gaussian, InequalityCertificate]:
    mean, cov = gaussian.mean, gaussian.cov.as_matrix()
    n, dtype = mean.shape[0], mean.dtype
    eps = float(jnp.finfo(dtype).eps)

    # Rows in units of their standard deviations, but not finer than rounding allows.
    A = inequality.rows(n, dtype)
    m = A.shape[0]
    rows, start, target = A, matmul(A, mean), jnp.zeros(m, dtype)
    magnitude = matmul(jnp.abs(A), jnp.abs(mean))
    if equality is not None:
        G = equality.G.as_matrix()
        rows = jnp.concatenate([A, G])
        start = jnp.concatenate([start, equality.residual(mean)])
        target = jnp.concatenate([target, equality.b])
        magnitude = jnp.concatenate([magnitude, equality.magnitude(mean)])
    magnitude = lax.stop_gradient(magnitude + jnp.abs(target))
    size, fixed = _deviations(lax.stop_gradient(rows), *lax.stop_gradient((cov, _root(gaussian))))
    unit = jnp.maximum(size, eps**0.5 * magnitude)
    unit = jnp.where(unit > 0, unit, 1.0)
    unit = jnp.concatenate([inequality.row_scales(unit[:m]), unit[m:]])
    # Rows that cannot vary must hold already; they then leave the problem.
    limit = -32.0 * eps * magnitude
    missed = -jnp.abs(start)
    if inequality.limits_each_row:
        missed = jnp.concatenate([start[:m], missed[m:]])
    else:
        missed = jnp.concatenate([jnp.zeros(m, dtype), missed[m:]])
    stuck = jnp.any(fixed & (missed < limit))
    all_rows = lax.stop_gradient(rows / unit[:, None])
    rows = jnp.where(fixed, 0.0, 1.0 / unit)[:, None] * rows
    offset = start / unit
    offset = jnp.concatenate([offset[:m], jnp.where(fixed[m:], 0.0, offset[m:])])

    spread = matmul(cov, rows.T)
    gram = matmul(rows, spread)
    problem = inequality.problem((gram + gram.T) / 2, offset, unit[:m], fixed[:m])

    # The search is not differentiated; the solve on what binds is, which is all that matters.
    frozen = lax.stop_gradient(problem)
    iterate = interior_point(frozen, max_steps=max_steps)
    guess = frozen.multipliers(iterate.z, iterate.x)
    working, best, optimality = refine(frozen, guess)
    smooth = problem.row_multipliers(problem.solve_working(working))
    final = problem.row_multipliers(best)
    value = mean + matmul(spread, smooth)
    chosen = lax.stop_gradient(mean + matmul(spread, final))
    active = inequality.zero_rows(working)[:m]
    chosen = inequality.snap(chosen, active)
    if equality is not None:
        # Rounding is corrected in the metric of the marginal variances: an exactly conditioned
        # covariance has no variance along the equality, so that nothing could move in its own.
        loose = jnp.diagonal(lax.stop_gradient(cov))[:, None] * all_rows.T
        simple = inequality.problem(matmul(all_rows, loose), offset, unit[:m], fixed[:m])
        simple = lax.stop_gradient(simple)

        def correction(residual):
            return matmul(loose, simple.response(working, residual / unit[m:]))

        noise = eps**2 * jnp.sqrt(jnp.maximum(0.0, lax.stop_gradient(jnp.diagonal(cov))))
        chosen = _restore(
            chosen, inequality, equality, correction, active, lax.stop_gradient(unit[m:]), noise
        )
    # The value of the one, the derivative of the other (snapping, too, depends on the bound).
    value = lax.stop_gradient(chosen) + (value - lax.stop_gradient(value))

    kept = jnp.asarray(True)
    if equality is not None:
        left, rounding = equality.residual(chosen), 4.0 * eps * equality.magnitude(chosen)
        rounding = rounding + 4.0 * eps * equality.magnitude(mean)
        kept = jnp.all(jnp.abs(left) <= 4.0 * rounding)
    # Where the set has no interior the multipliers are large and drown optimality in rounding:
    # then a field that holds exactly need be optimal only as far as can be told.
    noise = 32.0 * eps * jnp.max(jnp.abs(offset) + matmul(jnp.abs(frozen.gram), jnp.abs(final)))
    inside = jnp.all(inequality.slack(chosen) >= 0.0)
    near = (optimality <= 8.0 * eps**0.5) | inside & (optimality <= noise)
    converged = near & kept
    result = INEQUALITY_RESULTS.where(
        converged, INEQUALITY_RESULTS.successful, INEQUALITY_RESULTS.max_steps_reached
    )
    # The nearest point of the set, to within its accuracy, misses the equality: so do all.
    empty = near & ~kept | ~converged & frozen.contradicts(guess)
    result = INEQUALITY_RESULTS.where(stuck | empty, INEQUALITY_RESULTS.infeasible, result)
    finite = jnp.isfinite(mean).all() & jnp.isfinite(cov).all() & jnp.isfinite(offset).all()
    result = INEQUALITY_RESULTS.where(finite, result, INEQUALITY_RESULTS.non_finite)
    good = result == INEQUALITY_RESULTS.successful
    value = jnp.where(good, value, jnp.nan)

    k = 0 if equality is None else equality.rows
    none = jnp.zeros(k, dtype)
    still = lax.stop_gradient(value)
    certificate = InequalityCertificate(
        violation=largest(jnp.minimum(inequality.slack(still), 0.0)),
        residual=none if equality is None else equality.residual(still),
        rounding=none if equality is None else 4.0 * eps * equality.magnitude(still),
        optimality=optimality,
        distance=jnp.sqrt(jnp.maximum(0.0, jnp.vdot(final, matmul(frozen.gram, final)))),
        active=active,
        steps=iterate.steps,
        result=result,
    )
    return Gaussian(value, gaussian.cov), certificate


def _restore(value, inequality, equality, correction, active, unit, noise) -> Array:
    """The equality to rounding without leaving the set.

    Taking violations of rounding size away leaves an equality residual of that size. It is spread
    over what is free to move, within the face of the set that the field lies on, so that what
    binds still binds; whatever that pushes out elsewhere, by less than rounding, is taken away
    again, and so on. The best field seen is returned.
    """

    held = lax.stop_gradient(equality)
    eps = float(jnp.finfo(value.dtype).eps)

    def off(v):
        residual = held.residual(v)
        reached = jnp.all(jnp.abs(residual) <= eps * held.magnitude(v))
        return residual, largest(residual / unit), reached

    def body(state):
        value, residual, best, least, _, count = state
        value = value + correction(residual)
        # Where the total is zero, so must be what is left of a point, not merely tiny.
        value = inequality.snap(jnp.where(jnp.abs(value) <= noise, 0.0, value), active)
        residual, now, reached = off(value)
        best = jnp.where(now < least, value, best)
        return value, residual, best, jnp.minimum(now, least), reached, count + 1

    # One round or two, but where the set has next to no interior.
    residual, least, reached = off(value)
    start = (value, residual, value, least, reached, jnp.zeros((), int))
    return lax.while_loop(lambda s: ~s[4] & (s[5] < 40), body, start)[2]


def _root(gaussian: Gaussian) -> Array:
    """What the covariance was before any conditioning: rounding errors are relative to it."""
    cov = gaussian.cov
    while isinstance(cov, Conditioned):
        cov = cov.prior
    return cov.as_matrix()


def _deviations(rows: Array, cov: Array, root: Array) -> tuple[Array, Array]:
    """Standard deviations of the rows' values, and which are zero to rounding."""
    variance = jnp.sum(rows * matmul(rows, cov), axis=1)
    magnitude = jnp.sum(jnp.abs(rows) * matmul(jnp.abs(rows), jnp.abs(root)), axis=1)
    fixed = variance <= 32.0 * float(jnp.finfo(rows.dtype).eps) * magnitude
    return jnp.sqrt(jnp.where(fixed, 0.0, variance)), fixed


def _check(
    gaussian: Gaussian, inequality: AbstractInequality, equality: LinearConstraint | None
) -> None:
    n, dtype = gaussian.size, gaussian.mean.dtype
    if not isinstance(inequality, AbstractInequality):
        raise TypeError(
            "`project_inequality(inequality=...)`: expected Nonnegative(), Monotone() or "
            f"TotalVariation(bound), got {inequality!r}"
        )
    if dtype not in (jnp.float32, jnp.float64):
        raise TypeError(
            f"`project_inequality(gaussian, ...)`: expected float32 or float64, got {dtype}; cast "
            "the prediction first"
        )
    if not isinstance(inequality, Nonnegative) and n < 2:
        raise ValueError(
            f"`project_inequality(gaussian, {type(inequality).__name__})`: expected at least 2 "
            f"points, whose order means something, got {n}"
        )
    if equality is None:
        return
    if equality.R is not None:
        raise ValueError(
            "`project_inequality(equality=...)`: expected an exact constraint, got one with noise "
            "R; condition on it first, then project with R = None, or without"
        )
    structure = equality.G.in_structure()
    if structure.shape != (n,):
        raise ValueError(
            f"`project_inequality(equality=...)`: expected rows over {n} points, as the Gaussian, "
            f"got {structure.shape[0]}"
        )
    if structure.dtype != dtype:
        raise TypeError(
            f"`project_inequality(equality=...)`: expected {dtype}, as the Gaussian, got "
            f"{structure.dtype}; cast one of them"
        )
