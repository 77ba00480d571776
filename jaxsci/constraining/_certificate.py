"""What was imposed on a prediction, and whether it holds."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from jaxsci.operators.boundary import FaceName, FaceResidual


class CONSTRAIN_RESULTS(eqx.Enumeration):
    """How imposing conditions on a prediction ended."""

    successful = ""
    non_finite = "The prediction, a condition or a law holds a number that is not finite."
    no_variance = (
        "What is conserved cannot be reached: the points that it counts have no variance, or "
        "their values are prescribed. Correct the law or the conditions, or give the points a "
        "variance."
    )
    contradictory = (
        "The laws and the conditions contradict each other: no field satisfies all of them. "
        "Correct one of them, or give the law a noise."
    )
    not_reached = (
        "No field that the covariance can reach was found on the nonlinear laws. Correct them, "
        "raise their `max_steps`, or give the points a larger variance."
    )
    excluded = (
        "No field that the covariance can reach was found that obeys the inequality beside the "
        "laws and the conditions. Correct one of them, or give the points a larger variance; a "
        "nonlinear law holds beside an inequality only where that leaves it alone."
    )
    unbalanced = (
        "The flux through the faces does not match the change of what is conserved. Correct the "
        "law, the derivatives on the faces or the diffusivity."
    )


class JointCertificate(eqx.Module):
    """Evidence on a constrained prediction; arrays throughout, so that it works inside `jit`.

    - `boundary`: by face, a [`jaxsci.operators.boundary.FaceResidual`][]; `{}` without conditions.
    - `residual_before`, `residual_after`: `G mean - b` of each law, in order, each `(k,)`;
        `h(mean) - b` of a nonlinear one.
    - `rounding`: `4 eps sum_i |g_i mean_i|` for each, which an exact law's residual is within; of a
        nonlinear one `64 eps (sum_i |dh/du_i mean_i| + |b|)`.
    - `unreachable`: what of the residuals the covariance cannot remove: the largest of the
        conditions on the faces first, then `(k,)` for each linear law; more than rounding where
        they contradict what holds already.
    - `violation`: of the inequality, in the unit of the field; 0 if it holds, or there is none.
    - `noisy`: for each law whether it was given a noise, and so need not hold exactly.
    - `moved`: the largest change of the mean in standard deviations of the prediction, over its
        points with a variance.
    - `imbalance`: what the law says of the change between neighbouring times less what the faces
        let through; `(nt - 1,)`, or `None` where it was not asked for.
    - `result`: a member of [`jaxsci.constraining.CONSTRAIN_RESULTS`][].
    """

    boundary: dict[FaceName, FaceResidual]
    residual_before: tuple[Float[Array, " k"], ...]
    residual_after: tuple[Float[Array, " k"], ...]
    rounding: tuple[Float[Array, " k"], ...]
    noisy: tuple[bool, ...] = eqx.field(static=True)
    unreachable: tuple[Float[Array, "..."], ...]
    violation: Float[Array, ""]
    moved: Float[Array, ""]
    imbalance: Float[Array, " intervals"] | None
    result: CONSTRAIN_RESULTS

    @property
    def holds(self) -> Bool[Array, ""]:
        """Whether every condition and every exact law holds to rounding; of a batch, for all."""
        parts = [face.holds for face in self.boundary.values()]
        for residual, rounding, noisy in zip(
            self.residual_after, self.rounding, self.noisy, strict=True
        ):
            if not noisy:
                parts.append(jnp.all(jnp.abs(residual) <= rounding))
        success = jnp.all(jnp.asarray(self.result == CONSTRAIN_RESULTS.successful))
        kept = jnp.all(self.violation <= 0)
        return jnp.all(jnp.stack([success, kept, *parts]))
