"""How an iterative solve ended, in sentences."""

import equinox as eqx
import lineax as lx


class CGNR_RESULTS(eqx.Enumeration):
    """How a solve by conjugate gradients ended; `CGNR_RESULTS[result]` is a sentence."""

    successful = ""
    max_steps_reached = (
        "The tolerance was not reached in `max_steps` steps: raise `max_steps` or `rtol`, add "
        "damping, or give a better preconditioner."
    )
    non_finite_input = (
        "The right-hand side, its product with the matrix, or the start holds a number that is "
        "not finite: look for it before the solve, or scale the columns of the matrix."
    )
    overflow = (
        "A number became infinite or NaN during the iteration, most likely by overflow of a "
        "narrow dtype: scale the columns of the matrix, or choose a policy with wider `product` "
        "and `krylov`."
    )
    indefinite_preconditioner = (
        "The preconditioner is not positive definite (a residual had a squared norm that is not "
        "positive): factor it with a larger shift, or in a wider dtype."
    )
    no_curvature = (
        "A search direction is annihilated by the matrix, so that the minimum is not unique in "
        "this precision: hold a variable, add a prior, or use damping."
    )


_LINEAX = {
    "successful": lx.RESULTS.successful,
    "max_steps_reached": lx.RESULTS.max_steps_reached,
    "non_finite_input": lx.RESULTS.nonfinite_input,
    "overflow": lx.RESULTS.breakdown,
    "indefinite_preconditioner": lx.RESULTS.breakdown,
    "no_curvature": lx.RESULTS.singular,
}


def to_lineax(result: CGNR_RESULTS) -> lx.RESULTS:
    """The member of `lineax.RESULTS` that comes nearest."""
    out = lx.RESULTS.breakdown
    for name, theirs in _LINEAX.items():
        out = lx.RESULTS.where(result == getattr(CGNR_RESULTS, name), theirs, out)
    return out


class DIRECT_RESULTS(eqx.Enumeration):
    """How a direct factorisation ended; `DIRECT_RESULTS[result]` is a sentence."""

    successful = ""
    non_finite_input = (
        "The matrix holds a number that is not finite: look for it before the factorisation."
    )
    not_positive_definite = (
        "The matrix is not positive definite in this precision: add damping, hold a variable or "
        "add a prior, or factor in float64."
    )


class REFINE_RESULTS(eqx.Enumeration):
    """How iterative refinement ended; `REFINE_RESULTS[result]` is a sentence."""

    successful = ""
    non_finite_input = "The right-hand side or its product with the matrix is not finite."
    inner_failed = (
        "No correction of the inner solver made the residual smaller: it does not solve this "
        "system, or in too low a precision; widen its dtypes."
    )
    stagnated = (
        "The residual stopped shrinking before the tolerance was reached: the system is "
        "ill conditioned for the precision inside, or `rtol` is below what rounding allows."
    )
    max_rounds_reached = (
        "The residual was still shrinking after `max_rounds` corrections: raise `max_rounds`, or "
        "make the inner solver more accurate."
    )
