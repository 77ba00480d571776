"""The likelihood to train on when predictions will be conditioned."""

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.gaussians import Gaussian

from ._condition import condition_with_certificate
from ._constraint import LinearConstraint


def constrained_log_likelihood(
    gaussian: Gaussian, constraint: LinearConstraint, value: Float[Array, " n"]
) -> Float[Array, ""]:
    """The log-likelihood of a true field under the Gaussian conditioned on the field's own total.

    With `m = G u`, by Bayes' rule,

    ```
    log p(u | m) = log N(u; mean, C) + log N(m; m, R) - log N(m; G mean, G C G' + R)
    ```

    It is differentiable in the Gaussian and in `R`, which may be learned. For `R = None` it is the
    density on the fields with total `m`.

    **Arguments:**

    - `gaussian`: one prediction, `n` points.
    - `constraint`: gives `G` and `R`; its `b` is not used.
    - `value`: `u`, the true field, shape `(n,)`.

    **Returns:** a scalar; minus infinity where `value` is off what the covariance allows.

    **Raises:** `ValueError` if sizes differ; `TypeError` if dtypes do.

    Reference: Hansen et al., ICML 2023, section 3.2 (joint training).
    """
    total = jnp.zeros_like(constraint.b)
    centred = Gaussian(gaussian.mean - value, gaussian.cov)
    # Everything depends on u - mean only; taken relative to u, the observed total is 0.
    seen = eqx.tree_at(lambda c: c.b, constraint, total)
    posterior, _ = condition_with_certificate(centred, seen)
    return posterior.log_prob(jnp.zeros_like(value))
