"""How far predictions are off, inside and on the boundary."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, ArrayLike

from jaxsci.equations.families import Sample
from jaxsci.operators.boundary import (
    BoundaryConditions,
    Dirichlet,
    FaceName,
    FaceResidual,
    Periodic,
    residuals,
)
from jaxsci.precision import largest

from ._operators_baselines import relative_errors
from ._operators_training import ScaledOperator

SCORES = {
    "error": "relative L2 error, mean over the functions",
    "boundary": "largest residual of a condition as it is enforced, mean over the functions",
    "independent": "the same by a stencil of order 6; for periodic axes, the jump of the slope",
    "holds": "fraction of the functions on which all conditions hold to rounding",
}
"""The scores of `score_operator`, and what they are."""

_PART = 20  # functions at a time, so that memory does not grow with their number


def score_operator(
    operator: ScaledOperator, batch: Sample, conditions: BoundaryConditions
) -> dict[str, float]:
    """The `SCORES` of an operator on functions that it has not seen.

    Residuals are in the units of the conditions: those of `u` for values and periodic axes, those
    of `du/dx` for derivatives.

    **Arguments:**

    - `operator`: called as `operator(inputs, values)` for one sample.
    - `batch`: a stacked sample, at any resolution that the operator takes.
    - `conditions`: what should hold.
    """
    return score_predictions(predict_in_parts(operator, batch), batch, conditions)


def score_predictions(
    predictions: ArrayLike, batch: Sample, conditions: BoundaryConditions
) -> dict[str, float]:
    """The `SCORES` of predictions, however they were made, of shape `(batch, C, *points)`."""
    u = jnp.asarray(predictions, batch.outputs.dtype)
    boundary, independent, holds = _boundary(u, batch, conditions)
    means = {
        "error": relative_errors(np.asarray(predictions), batch).mean(),
        "boundary": np.mean(np.asarray(boundary, np.float64)),
        "independent": np.mean(np.asarray(independent, np.float64)),
        "holds": np.mean(np.asarray(holds, np.float64)),
    }
    return {name: float(value) for name, value in means.items()}


@eqx.filter_jit
def predict_in_parts(operator: ScaledOperator, batch: Sample) -> Array:
    """The outputs for a stacked sample."""
    pairs = batch.inputs, batch.values
    return lax.map(lambda pair: operator(*pair), pairs, batch_size=_PART)


@eqx.filter_jit
def _boundary(
    u: Array, batch: Sample, conditions: BoundaryConditions
) -> tuple[Array, Array, Array]:
    def one(pair: tuple[Array, dict[FaceName, Array]]) -> tuple[Array, Array, Array]:
        u, values = pair
        found = residuals(u, conditions, values)
        given = conditions.values(u.shape, u.dtype, values)
        zero = jnp.zeros((), u.dtype)
        enforced = [_largest(each.residual, each) for each in found.values()]
        other = [
            _largest(_independent(conditions, face, found, given), found[face]) for face in found
        ]
        holds = [each.holds for each in found.values()]
        return (
            jnp.max(jnp.stack([zero, *enforced])),
            jnp.max(jnp.stack([zero, *other])),
            jnp.all(jnp.stack([jnp.asarray(True), *holds])),
        )

    return lax.map(one, (u, batch.values), batch_size=_PART)


def _largest(off: Array, face: FaceResidual) -> Array:
    return largest(jnp.where(face.owned, off, 0))


def _independent(
    conditions: BoundaryConditions,
    face: FaceName,
    found: dict[FaceName, FaceResidual],
    given: dict[FaceName, Array],
) -> Array:
    """The residual by another stencil than the enforced one, where there is any."""
    condition, here = conditions.faces[face], found[face]
    if isinstance(condition, Dirichlet) or here.derivative is None:
        return here.residual
    if isinstance(condition, Periodic):
        axis, side = face
        other: Any = found[axis, "high" if side == "low" else "low"].derivative
        return here.derivative - other
    return here.derivative - given[face]
