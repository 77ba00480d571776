"""Laws and boundary conditions imposed on a Gaussian, together and exactly."""

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jaxtyping import Array

from jaxsci.conservation import (
    INEQUALITY_RESULTS,
    RESULTS,
    AbstractInequality,
    LinearConstraint,
    condition_with_certificate,
    project_inequality_with_certificate,
)
from jaxsci.errors import is_concrete, lookup
from jaxsci.gaussians import Conditioned, DisjointRows, EnclosingRows, Gaussian, LowRank
from jaxsci.operators.boundary import BoundaryConditions, Values, residuals
from jaxsci.precision import all_finite, largest, matmul

from ._balance import DiffusiveFlux
from ._certificate import CONSTRAIN_RESULTS, JointCertificate
from ._faces import Faces, check_dense, chosen_of, enclosed, owners
from ._laws import Law, Laws, as_laws
from ._nonlinear import NonlinearLaw, project_nonlinear
from ._sentences import complaint

BoundaryUpdate = Literal["condition", "enforce"]
"""What a prediction's own values on the faces count for."""
BOUNDARY_UPDATES: dict[str, None] = {"condition": None, "enforce": None}


def impose(
    gaussian: Gaussian,
    *,
    conservation: Laws = None,
    boundary: BoundaryConditions | None = None,
    values: Values | None = None,
    shape: Sequence[int] | None = None,
    boundary_update: BoundaryUpdate = "condition",
    inequality: AbstractInequality | None = None,
    balance: DiffusiveFlux | None = None,
) -> Gaussian:
    """The Gaussian given that laws and boundary conditions hold, all of them, to rounding.

    Every field `u` that obeys the conditions is `E v + e`, with `E` and `e` those of
    [`jaxsci.operators.boundary.enforce`][]; the rest is Bayes' rule for `v`:

    ```
    u = E v + e,      G E v = b - G e,      mean = E mean_v + e,      cov = E cov_v E'
    ```

    The new mean obeys each condition as after `enforce` (a value bit for bit) and each exact law
    within `4 eps sum_i |g_i mean_i|`; the covariance has no variance where a value is prescribed,
    along the stencil of a derivative, and of what is conserved. All of it is differentiable and
    keeps the structure of the covariance: for independent points, O(n) where faces with derivatives
    do not meet.

    **Arguments:**

    - `gaussian`: over the flat field, C order of `(C, N_1, ..., N_d)`. `vmap` for a batch.
    - `conservation`: a [`jaxsci.conservation.LinearConstraint`][] over the whole field, or a
        [`jaxsci.constraining.NonlinearLaw`][]; several of them; or `{channel: one or several}`,
        linear ones over single channels.
    - `boundary`, `values`: as in [`jaxsci.operators.boundary.enforce`][].
    - `shape`: `(C, N_1, ..., N_d)`, or without `C` for one channel. Needed with `boundary`, and
        with laws by channel.
    - `boundary_update`: what the prediction says of the points on the faces is evidence on those
        inside (`"condition"`: Bayes' rule), or is dropped (`"enforce"`). They agree on prescribed
        values where points are independent. A derivative conditioned on independent points moves
        the few points of its stencil to and fro; `"enforce"` leaves all points inside alone. An
        ensemble has as many degrees of freedom as members: on more conditions than these it can
        only be enforced. A prescribed value replaces that of an independent point even where this
        had no variance.
    - `inequality`: a [`jaxsci.conservation.Nonnegative`][] or another that the mean must obey, too,
        by [`jaxsci.conservation.project_inequality`][], which keeps conditions and exact linear
        laws, and makes the covariance dense. A nonlinear law is imposed before: where the
        inequality then moves the mean off it, that is an error, not a result.
    - `balance`: what to check the law against, see [`jaxsci.constraining.DiffusiveFlux`][].

    **Returns:** a Gaussian; its covariance is a [`jaxsci.gaussians.Pushforward`][] where there are
    conditions.

    **Raises:** `ValueError` if shapes do not fit, and outside `jit` if the conditions or laws
    contradict each other, with which and by how much; `TypeError` for dtypes that differ. Under
    `jit` the mean is then NaN, and [`jaxsci.constraining.impose_with_certificate`][] tells why.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import integral
        >>> from jaxsci.constraining import impose
        >>> from jaxsci.gaussians import Conditioned, DisjointRows, EnclosingRows, Gaussian
        >>> from jaxsci.grids import Grid
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
        >>> grid = Grid.uniform(x=(0.0, 1.0, 5))
        >>> ends = BoundaryConditions.on(grid, {"x": Dirichlet(0.0)})
        >>> prediction = Gaussian.diagonal(jnp.full(5, 0.5), jnp.ones(5))
        >>> impose(prediction, conservation=integral(grid, 0.75), boundary=ends, shape=(5,)).mean
        Array([0., 1., 1., 1., 0.], dtype=float32)

    Reference: Hansen, Maddix, Alizadeh, Gupta, Mahoney, *Learning Physical Models that Can Respect
    Conservation Laws*, ICML 2023, eq. 7, and Saad, Gupta, Alizadeh, Maddix, *Guiding continuous
    operator learning through physics-based boundary constraints*, ICLR 2023. Neither imposes both.
    """
    updated, certificate, about = impose_checked(
        "impose",
        gaussian,
        conservation,
        boundary,
        values,
        shape,
        boundary_update,
        inequality,
        balance,
    )
    if is_concrete(updated, certificate):
        raise_unless_successful("impose(gaussian, ...)", certificate, *about)
    return updated


def impose_with_certificate(
    gaussian: Gaussian,
    *,
    conservation: Laws = None,
    boundary: BoundaryConditions | None = None,
    values: Values | None = None,
    shape: Sequence[int] | None = None,
    boundary_update: BoundaryUpdate = "condition",
    inequality: AbstractInequality | None = None,
    balance: DiffusiveFlux | None = None,
) -> tuple[Gaussian, JointCertificate]:
    """As [`jaxsci.constraining.impose`][], with evidence; never raises on what contradicts.

    **Returns:** the Gaussian, whose mean is NaN unless `certificate.result` is
    `CONSTRAIN_RESULTS.successful`, and the [`jaxsci.constraining.JointCertificate`][].
    """
    return impose_checked(
        "impose",
        gaussian,
        conservation,
        boundary,
        values,
        shape,
        boundary_update,
        inequality,
        balance,
    )[:2]


def impose_checked(
    where: str,
    gaussian: Gaussian,
    conservation: Laws,
    boundary: BoundaryConditions | None,
    values: Values | None,
    shape: Sequence[int] | None,
    boundary_update: BoundaryUpdate,
    inequality: AbstractInequality | None,
    balance: DiffusiveFlux | None,
) -> tuple[Gaussian, JointCertificate, tuple[tuple[Law, ...], int | None]]:
    """The Gaussian, the evidence, and what a complaint would be about.

    The laws as rows over the whole field, and `_directions` of the prediction.
    """
    lookup("choice for the update at the boundary", boundary_update, BOUNDARY_UPDATES)
    check_kinds(where, boundary, values, inequality, balance)
    full = field_shape(where, gaussian, boundary, shape)
    laws = as_laws(where, conservation, full, gaussian.mean.dtype)
    if not laws and boundary is None and inequality is None:
        raise ValueError(
            f"`{where}(...)`: expected a conservation law, boundary conditions or an inequality, "
            "got none"
        )
    if boundary is not None:  # what is wrong with the data is said here, where it is known
        boundary.values(full, gaussian.mean.dtype, values, where=where)
    imbalance = None
    if balance is not None:
        imbalance = balance.imbalance(where, laws, boundary, values, full, gaussian.mean.dtype)
    if inequality is not None and inequality.ordered and sum(n != 1 for n in full) > 1:
        raise ValueError(
            f"`{where}(inequality={type(inequality).__name__}(...))`: expected a field along one "
            f"axis, whose points have an order, got shape {full}; one for each time is as many "
            "predictions, for `jax.vmap`"
        )
    open_size = jax.export.is_symbolic_dim(gaussian.size)
    if open_size and not isinstance(gaussian.cov, lx.DiagonalLinearOperator):
        check_dense(1, gaussian.size)
    given = None if shape is None else sizes_of(where, shape)
    updated, certificate = _joint(
        gaussian, laws, inequality, boundary, values, full, given, boundary_update, imbalance
    )
    return updated, certificate, (laws, _directions(gaussian.cov))


def _directions(cov: lx.AbstractLinearOperator) -> int | None:
    """In how many an ensemble without a floor can move; `None` for any other covariance."""
    if isinstance(cov, LowRank) and is_concrete(cov.diag) and not bool(cov.diag.any()):
        return cov.factor.shape[1]
    return None


def field_shape(
    where: str,
    gaussian: Gaussian,
    boundary: BoundaryConditions | None,
    shape: Sequence[int] | None,
) -> tuple[int, ...]:
    """`(C, N_1, ..., N_d)`."""
    if gaussian.mean.ndim != 1:
        raise ValueError(
            f"`{where}(gaussian)`: expected one Gaussian, mean of shape (n,), got a batch, "
            f"{gaussian.mean.shape}; use `jax.vmap`"
        )
    if shape is None:
        if boundary is not None:
            raise ValueError(
                f"`{where}(shape=...)`: expected the shape of the field, (C, "
                f"{', '.join(boundary.axes)}), for a Gaussian is flat; got none"
            )
        return (1, gaussian.size)
    full = sizes_of(where, shape)
    if boundary is not None and len(full) == len(boundary.axes):
        full = (1, *full)
    if math.prod(full) != gaussian.size:
        raise ValueError(
            f"`{where}(shape=...)`: expected the shape of a field of {gaussian.size} points, got "
            f"{tuple(shape)}"
        )
    return full


def sizes_of(where: str, shape: Sequence[Any]) -> tuple[Any, ...]:
    """As Python's numbers, or, in an export, the symbols that they are."""
    try:
        return tuple(n if jax.export.is_symbolic_dim(n) else operator.index(n) for n in shape)
    except TypeError:
        raise TypeError(
            f"`{where}(shape=...)`: expected whole numbers, (C, N_1, ..., N_d), got {shape!r}"
        ) from None


def check_kinds(where: str, boundary: Any, values: Any, inequality: Any, balance: Any) -> None:
    """Raises `TypeError` for an argument of another kind, `ValueError` for values of no faces."""
    for name, given, kind, what in (
        ("boundary", boundary, BoundaryConditions, "BoundaryConditions"),
        ("values", values, Mapping, "a mapping from faces to values"),
        ("inequality", inequality, AbstractInequality, "Nonnegative() or another inequality"),
        ("balance", balance, DiffusiveFlux, "a DiffusiveFlux"),
    ):
        if given is not None and not isinstance(given, kind):
            raise TypeError(
                f"`{where}({name}=...)`: expected {what}, got {type(given).__name__} {given!r}"
            )
    if values is not None and boundary is None:
        raise ValueError(
            f"`{where}(values=...)`: expected values only beside `boundary`, whose faces they are "
            "of; got no boundary conditions"
        )


# Compiled as a whole: run step by step, the first call would compile dozens of small programs.
@eqx.filter_jit
def _joint(
    start: Gaussian,
    laws: tuple[Law, ...],
    inequality: AbstractInequality | None,
    conditions: BoundaryConditions | None,
    values: Values | None,
    shape: tuple[int, ...],
    given: tuple[int, ...] | None,
    update: str,
    imbalance: tuple[Array, Array] | None,
) -> tuple[Gaussian, JointCertificate]:
    gaussian, result, faces = start, CONSTRAIN_RESULTS.successful, None
    zero = jnp.zeros((), start.mean.dtype)
    unreachable: list[Array] = [zero]
    earlier: list[np.ndarray | None] = []
    if conditions is not None:
        faces = Faces(conditions, values, shape, start.mean.dtype)
        seen, rows = _evidence(gaussian, faces, update)
        if seen is not None:
            gaussian, result, off = _condition(gaussian, seen, result)
            unreachable, earlier = [jnp.max(jnp.abs(off))], [rows]
    before, linear = gaussian.cov, []
    for law in laws:
        off = zero
        if isinstance(law, LinearConstraint):
            rows = owners(law.G, {} if faces is None else faces.numbers)
            law = law if faces is None else faces.pull_constraint(law)
            if isinstance(law.G, DisjointRows) and enclosed(earlier, rows):
                law = eqx.tree_at(lambda law: law.G, law, EnclosingRows(law.G))
            gaussian, result, off = _condition(gaussian, law, result)
            earlier.append(rows)
            linear.append(law)
        unreachable.append(off)
    if len(linear) > 1 and not isinstance(start.cov, lx.DiagonalLinearOperator):
        gaussian = Gaussian(_again(gaussian.mean, before, linear), gaussian.cov)
    if faces is not None:
        gaussian = Gaussian(faces.enforce(gaussian.mean), faces.push(gaussian.cov, earlier))
    field = (start.size,) if given is None else given
    nonlinear = tuple(law for law in laws if isinstance(law, NonlinearLaw))
    if nonlinear:
        spread = jnp.sqrt(lx.diagonal(start.cov))
        gaussian, settled = project_nonlinear(gaussian, nonlinear, field, spread)
        if faces is not None:
            gaussian = Gaussian(faces.enforce(gaussian.mean), gaussian.cov)
        result = _unless(settled, result, CONSTRAIN_RESULTS.not_reached)
    violation = jnp.zeros((), start.mean.dtype)
    if inequality is not None:
        gaussian, found = project_inequality_with_certificate(
            gaussian, inequality, equality=_to_keep(laws, faces)
        )
        met = found.result == INEQUALITY_RESULTS.successful
        for law in nonlinear:  # nothing has kept these
            left, rounding = law.missed(gaussian.mean, field)
            met = met & (jnp.abs(left) <= 16 * rounding).all()
        result = _unless(met, result, CONSTRAIN_RESULTS.excluded)
        violation = found.violation
    mean = gaussian.mean
    variance = lx.diagonal(start.cov)
    finite = all_finite(mean) & all_finite(variance)
    result = _unless(finite, result, CONSTRAIN_RESULTS.non_finite)
    if imbalance is not None:
        balanced = (jnp.abs(imbalance[0]) <= imbalance[1]).all()
        result = CONSTRAIN_RESULTS.where(balanced, result, CONSTRAIN_RESULTS.unbalanced)

    known = variance <= 0
    spread = jnp.sqrt(jnp.where(known, 1, variance))
    after = [_missed(law, mean, field) for law in laws]
    certificate = JointCertificate(
        boundary={} if conditions is None else residuals(mean.reshape(shape), conditions, values),
        residual_before=tuple(_missed(law, start.mean, field)[0] for law in laws),
        residual_after=tuple(residual for residual, _ in after),
        rounding=tuple(rounding for _, rounding in after),
        noisy=tuple(isinstance(law, LinearConstraint) and law.R is not None for law in laws),
        unreachable=tuple(unreachable),
        violation=violation,
        moved=largest(jnp.where(known, 0, (mean - start.mean) / spread)),
        imbalance=None if imbalance is None else imbalance[0],
        result=result,
    )
    mean = jnp.where(result == CONSTRAIN_RESULTS.successful, mean, jnp.nan)
    return Gaussian(mean, gaussian.cov), certificate


def _to_keep(laws: tuple[Law, ...], faces: Faces | None) -> LinearConstraint | None:
    """The exact linear laws and the conditions as rows of the field."""
    exact = [law for law in laws if isinstance(law, LinearConstraint) and law.R is None]
    rows, b = [law.G.as_matrix() for law in exact], [law.b for law in exact]
    if faces is not None:
        held = faces.exact(np.ones(len(faces.known.at), bool), fixed=True)
        rows, b = [*rows, held.G.as_matrix()], [*b, held.b]
    if not rows:
        return None
    return LinearConstraint(jnp.concatenate(rows), jnp.concatenate(b))


def _missed(law: Law, mean: Array, shape: tuple[int, ...]) -> tuple[Array, Array]:
    """The residual of a law, and what of it is rounding."""
    if isinstance(law, NonlinearLaw):
        return law.missed(mean, shape)
    return law.residual(mean), 4 * jnp.finfo(mean.dtype).eps * law.magnitude(mean)


def _unless(
    met: Array, result: CONSTRAIN_RESULTS, otherwise: CONSTRAIN_RESULTS
) -> CONSTRAIN_RESULTS:
    """The result so far, or, if that was well, what has gone wrong now."""
    return CONSTRAIN_RESULTS.where(
        met | (result != CONSTRAIN_RESULTS.successful), result, otherwise
    )


def _evidence(
    gaussian: Gaussian, faces: Faces, update: str
) -> tuple[LinearConstraint | None, np.ndarray | None]:
    """What the prediction's values on the faces say of the free points; the rows as `owners`."""
    learns = update == "condition"
    # Both ends of a circle were predicted: neither is dropped.
    known = faces.known
    some = np.ones(len(known.at), bool) if learns else np.asarray(known.periodic)
    independent = isinstance(gaussian.cov, lx.DiagonalLinearOperator)
    if not some.any() and (independent or not (learns and known.fixed.any())):
        return None, None
    if not independent:
        return faces.exact(some, fixed=learns), None
    # `u_i = (E v + e)_i` was predicted with its variance: an observation of `v` with noise.
    at, cov = faces.at[chosen_of(some)], gaussian.cov
    assert isinstance(cov, lx.DiagonalLinearOperator)
    off = gaussian.mean[at] - faces.data[at]
    return LinearConstraint(faces.observed(some), off, cov.diagonal[at]), faces.owners(some)


def _condition(
    gaussian: Gaussian, law: LinearConstraint, result: CONSTRAIN_RESULTS
) -> tuple[Gaussian, CONSTRAIN_RESULTS, Array]:
    """The update, the first of the failures, and what of the residual cannot be removed."""
    residual = law.residual(gaussian.mean)
    updated, certificate = condition_with_certificate(gaussian, law)
    cov = updated.cov
    assert isinstance(cov, Conditioned)
    stuck = cov.null * residual if cov.null.ndim == 1 else matmul(cov.null, residual)
    new = CONSTRAIN_RESULTS.successful
    for name in ("non_finite", "no_variance", "contradictory"):
        met = certificate.result == getattr(RESULTS, name)
        new = CONSTRAIN_RESULTS.where(met, getattr(CONSTRAIN_RESULTS, name), new)
    first = CONSTRAIN_RESULTS.where(result == CONSTRAIN_RESULTS.successful, new, result)
    return updated, first, stuck


def _again(mean: Array, cov: lx.AbstractLinearOperator, laws: list[LinearConstraint]) -> Array:
    """The mean without what each law's update, by its rounding, has left of those before it."""
    for law in laws:
        updated, _ = condition_with_certificate(Gaussian(mean, cov), law)
        # What a noise leaves of a residual is to stay.
        mean = updated.mean if law.R is None else mean
        cov = updated.cov
    return mean


def raise_unless_successful(
    where: str, certificate: JointCertificate, laws: tuple[Law, ...], directions: int | None
) -> None:
    """Raises `ValueError` with what went wrong."""
    if not bool(certificate.result == CONSTRAIN_RESULTS.successful):
        raise ValueError(f"`{where}`: {complaint(certificate, laws, directions)}")
