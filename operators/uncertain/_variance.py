"""An operator that predicts its own variance."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, PRNGKeyArray

from jaxsci.errors import lookup
from jaxsci.gaussians import Gaussian

from ._unpack import call_operator

Transform = Literal["softplus", "exp"]
"""How a real number becomes a variance."""

_TRANSFORMS: dict[str, Callable[[Array], Array]] = {"softplus": jax.nn.softplus, "exp": jnp.exp}


class OutputVariance(eqx.Module):
    """An operator of twice the channels: the first half is the mean, the other the variance.

    ```
    (mean, raw) = operator(x),    cov = diag(transform(raw) + variance_floor)
    ```

    Trained by the negative log-likelihood, `-gaussian_log_likelihood(g.mean, g.marginal_var,
    truth)` ([`jaxsci.metrics.gaussian_log_likelihood`][]). Of an operator with conditions at the
    boundary the second half are `free_channels`
    ([`jaxsci.operators.constrained.ConstrainedOperator`][]): a value that is prescribed for the
    field is none for its variance.

    **Arguments:**

    - `operator`: returns `(2 C, N_1, ..., N_d)`; called as `operator(x)`, or for several arguments
        with a tuple of them.
    - `transform`: `"softplus"`, or `"exp"` for channels that are log-variances.
    - `variance_floor`: added to the variance, in the unit of the field squared. Without one the
        likelihood has no maximum: a point that is predicted exactly has as much as one likes.

    **Raises:** `ValueError` for an unknown transform or a floor that is not positive, and when
    called for an odd number of channels.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.metrics import gaussian_log_likelihood
        >>> from jaxsci.operators.fno import FNO
        >>> from jaxsci.operators.uncertain import OutputVariance
        >>> model = OutputVariance(FNO(1, 2, modes=4, width=8, layers=1, key=jax.random.key(0)))
        >>> def loss(model, x, truth):
        ...     g = model(x)
        ...     return -gaussian_log_likelihood(g.mean, g.marginal_var, truth)
        >>> bool(jnp.isfinite(loss(model, jnp.ones((1, 8)), jnp.zeros(8))))
        True

    Reference: Nix and Weigend, *Estimating the mean and variance of the target probability
    distribution*, ICNN 1994; for operators Mouli et al., ICML 2024.
    """

    operator: Callable[..., Array]
    transform: Transform = eqx.field(static=True)
    variance_floor: float = eqx.field(static=True)

    def __init__(
        self,
        operator: Callable[..., Array],
        *,
        transform: Transform = "softplus",
        variance_floor: float = 1e-6,
    ):
        lookup("transform", transform, _TRANSFORMS)
        if not 0 < variance_floor < float("inf"):
            raise ValueError(
                "`OutputVariance(variance_floor=...)`: expected a positive number, got "
                f"{variance_floor!r}"
            )
        self.operator, self.transform = operator, transform
        self.variance_floor = float(variance_floor)

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The Gaussian over the flattened first half of the channels, points independent.

        - `inputs`: an array, or a tuple of the operator's arguments.
        - `key`: handed to the operator, for its dropout.
        """
        output = call_operator(self.operator, inputs, key)
        if output.shape[0] % 2:
            raise ValueError(
                "`OutputVariance(operator)`: expected an operator of an even number of channels, "
                f"means and variances, got output of shape {output.shape}"
            )
        mean, raw = jnp.split(output, 2)
        variance = _TRANSFORMS[self.transform](raw) + self.variance_floor
        return Gaussian.diagonal(mean.ravel(), variance.ravel())
