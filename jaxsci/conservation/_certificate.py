"""What an update did, and whether it could."""

import equinox as eqx
from jaxtyping import Array, Float


class RESULTS(eqx.Enumeration):
    """How conditioning on a constraint ended."""

    successful = ""
    non_finite = "The mean, the covariance, or the constraint holds a number that is not finite."
    no_variance = (
        "A row of the constraint has no variance (its points have none, or every sample has the "
        "same total) and does not hold already: nothing can move. Give the points a variance of "
        "their own, or leave them out of the row."
    )
    contradictory = (
        "The exact constraints contradict each other (or earlier exact ones): their rows are "
        "linearly dependent, to the rounding of their dtype, and no field satisfies all of them. "
        "Drop a row, correct b, give the constraint a noise R, or use float64 if the rows do "
        "differ."
    )


class Certificate(eqx.Module):
    """Evidence on a conditioned prediction; every field is an array, so it works inside `jit`.

    - `residual_before`, `residual_after`: `G mean - b`, shape `(k,)`.
    - `rounding`: `4 eps sum_i |g_i mean_i|` of the new mean, shape `(k,)`: an exact constraint
        holds to rounding if `|residual_after| <= rounding`.
    - `moved`: the largest change of the mean in prior standard deviations, a scalar.
    - `result`: a member of [`jaxsci.conservation.RESULTS`][]; `RESULTS[result]` is a sentence.
    """

    residual_before: Float[Array, " k"]
    residual_after: Float[Array, " k"]
    rounding: Float[Array, " k"]
    moved: Float[Array, ""]
    result: RESULTS
