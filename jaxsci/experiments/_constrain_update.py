"""The update of many slices, each at the cost of its covariance's structure."""

import dataclasses
import functools as ft
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from jaxsci.conservation import (
    RESULTS,
    LinearConstraint,
    condition_with_certificate,
    curvature,
    project,
)
from jaxsci.gaussians import Gaussian, WeightedSums

from ._constrain_law import Law
from ._constrain_layout import Prediction

# Numbers in flight at a time: slices are worked on in chunks of about this size.
_IN_FLIGHT = 2**24

_SUCCESSFUL, _NO_VARIANCE, _CONTRADICTORY, _NON_FINITE = range(4)
_SENTENCES = {
    _NO_VARIANCE: RESULTS[RESULTS.no_variance] + " Or use --method project.",
    _CONTRADICTORY: RESULTS[RESULTS.contradictory],
    _NON_FINITE: (
        RESULTS[RESULTS.non_finite] + " Finite input gives this if the covariance is not positive "
        "semidefinite, or if numbers overflow."
    ),
}


@dataclasses.dataclass(frozen=True)
class Settings:
    """What the update depends on besides arrays; hashable, so that it may be static."""

    method: str
    kind: str | None
    curvature: bool
    joint: bool
    samples: bool
    factor: bool
    cov: bool


def update(prediction: Prediction, law: Law, weights: np.ndarray, settings: Settings) -> dict:
    """Constrained slices.

    **Arguments:** `weights`: of the integral, `(*space)`.

    **Returns:** a dictionary of numpy arrays: `mean`, `variance` `(batch, nt, *space)`;
    `residual_before`, `residual_after`, `rounding` `(batch, nt)`; and, as `settings` say,
    `samples` `(batch, nt, M, *space)`, `cov_factor` as `mean`, `cov`.

    **Raises:** `ValueError` with the first slice that cannot be updated, and why.
    """
    batch, times, *space = prediction.mean.shape
    ns, joint = int(np.prod(space)), settings.joint
    n = times * ns if joint else ns
    slices = batch if joint else batch * times
    mean = prediction.mean.reshape(slices, n)
    spread = prediction.spread
    if spread is not None:
        if settings.kind == "variance":
            spread = spread.reshape(slices, n)
        elif settings.kind == "samples":
            spread = np.moveaxis(spread, 2, 1) if joint else spread
            spread = spread.reshape(slices, -1, n)
        else:
            spread = spread.reshape(slices, n, n)
    R = law.R if joint else law.variances
    if R is not None:
        R = R.reshape(slices, times, *([times] if R.ndim == 3 else [])) if joint else R.reshape(-1)
    b = law.b.reshape(slices, times) if joint else law.b.reshape(slices, 1)
    if joint:
        weights = np.broadcast_to(weights, (times, *space))
        over = tuple(range(1, 1 + len(space)))
    else:
        over = tuple(range(len(space)))

    one = ft.partial(_one, settings=settings, weights=jnp.asarray(weights), over=over)
    cost = n if spread is None else int(np.prod(spread.shape[1:]))
    cost = max(cost, 4 * n * n if settings.curvature or settings.cov else times * n * joint, n)
    at_once = max(1, min(slices, _IN_FLIGHT // (8 * cost)))
    out = _in_chunks(jax.jit(jax.vmap(one)), (mean, spread, b, R), at_once)
    _raise(prediction, out, joint)

    full = prediction.mean.shape
    shapes: dict[str, tuple[int, ...]] = {}
    shapes |= dict.fromkeys(("residual_before", "residual_after", "rounding"), (batch, times))
    shapes |= dict.fromkeys(("mean", "variance", "cov_factor"), full)
    shapes["cov"] = (batch, n, n) if joint else (batch, times, n, n)
    if "samples" in out:
        members = out["samples"].shape[1]
        shapes["samples"] = (
            (batch, members, times, *space) if joint else (batch, times, members, *space)
        )
    out = {name: out[name].reshape(shape) for name, shape in shapes.items() if name in out}
    if joint and "samples" in out:
        out["samples"] = np.moveaxis(out["samples"], 1, 2)
    return out


def _in_chunks(function: Any, arrays: tuple[Any, ...], size: int) -> dict[str, np.ndarray]:
    """The function of all slices, `size` at a time; the last chunk is filled up, so that one
    compiled program serves all."""
    parts = []
    for start in range(0, len(arrays[0]), size):
        chunk = [None if a is None else a[start : start + size] for a in arrays]
        count = min(size, len(arrays[0]) - start)
        fill = [
            None if a is None else np.concatenate([a, a[-1:].repeat(size - count, 0)])
            for a in chunk
        ]
        parts.append({name: np.asarray(v)[:count] for name, v in function(*fill).items()})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _one(
    mean: Array,
    spread: Array | None,
    b: Array,
    R: Array | None,
    *,
    settings: Settings,
    weights: Array,
    over: tuple[int, ...],
) -> dict[str, Array]:
    gaussian = _gaussian(settings.kind, mean, spread)
    constraint = LinearConstraint(WeightedSums(weights, over), b, R)
    out: dict[str, Array] = {}
    if settings.method == "project":
        updated = project(gaussian, constraint)
        code = jnp.where(jnp.isfinite(updated.mean).all(), _SUCCESSFUL, _NON_FINITE)
    else:
        updated, code = _condition(gaussian, constraint, settings.curvature)
        if spread is not None and settings.samples:
            moved = lambda m: _condition(Gaussian(m, gaussian.cov), constraint, False)[0].mean  # noqa: E731
            out["samples"] = jax.vmap(moved)(spread)
        if settings.factor:
            out["cov_factor"] = _factor(updated.cov)
    if settings.kind is not None:
        out["variance"] = updated.marginal_var
        if settings.cov:
            out["cov"] = updated.cov.as_matrix()
    eps = jnp.finfo(mean.dtype).eps
    return out | {
        "mean": updated.mean,
        "residual_before": constraint.residual(mean),
        "residual_after": constraint.residual(updated.mean),
        "rounding": 4 * eps * constraint.magnitude(updated.mean),
        "code": code,
    }


def _gaussian(kind: str | None, mean: Array, spread: Array | None) -> Gaussian:
    match kind:
        case "variance":
            return Gaussian.diagonal(mean, spread)  # pyright: ignore[reportArgumentType]
        case "samples":
            cov = Gaussian.from_samples(spread).cov  # pyright: ignore[reportArgumentType]
            return Gaussian(mean, cov)
        case "cov":
            return Gaussian.dense(mean, spread)  # pyright: ignore[reportArgumentType]
        case _:
            return Gaussian.diagonal(mean, jnp.ones_like(mean))


def _condition(
    gaussian: Gaussian, constraint: LinearConstraint, bend: bool
) -> tuple[Gaussian, Array]:
    code = jnp.asarray(_SUCCESSFUL)
    if bend:
        gaussian, smooth = condition_with_certificate(gaussian, curvature(gaussian))
        code = _code(smooth.result)
    updated, certificate = condition_with_certificate(gaussian, constraint)
    code = jnp.where(code == _SUCCESSFUL, _code(certificate.result), code)
    return updated, code


def _code(result: Any) -> Array:
    code = jnp.where(result == RESULTS.successful, _SUCCESSFUL, _NON_FINITE)
    code = jnp.where(result == RESULTS.contradictory, _CONTRADICTORY, code)
    return jnp.where(result == RESULTS.no_variance, _NO_VARIANCE, code)


def _factor(cov: Any) -> Array:
    return cov.root_gain()[:, 0]


def _raise(prediction: Prediction, out: dict[str, np.ndarray], joint: bool) -> None:
    """`ValueError` for the first slice (all slices of a prediction, if joint) that failed."""
    code = out.pop("code").ravel()
    bad = np.flatnonzero(code)
    if not bad.size:
        return
    batch, times = prediction.mean.shape[:2]
    residual = np.abs(out["residual_before"]).reshape(batch, times)
    i, j = (bad[0], residual[bad[0]].argmax()) if joint else divmod(int(bad[0]), times)
    where = [f"prediction {i} of the batch"] if prediction.batched else []
    if prediction.timed and not joint:
        where.append(f"time slice {j} (t = {prediction.coordinates['t'][j]:.6g})")
    what = f"{', '.join(where)}: " if where else ""
    count = f"{bad.size} of {code.size} updates failed; the first is " if code.size > 1 else ""
    raise ValueError(f"{count}{what}residual {residual[i, j]:.3g}. {_SENTENCES[int(code[bad[0]])]}")
