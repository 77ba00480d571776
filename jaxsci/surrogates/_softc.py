"""Soft constraints (SoftC): the residual of the equation as a penalty in training."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxsci.equations import AbstractEquation

from ._anp import AttentiveNeuralProcess
from ._anp_loss import loss_and_latent
from ._protocol import Task


def equation_residual(
    field: Callable[[Float[Array, "n 2"]], Float[Array, " n"]],
    points: Float[Array, "n 2"],
    equation: AbstractEquation,
) -> Float[Array, " n"]:
    """By how much a field fails an equation at points, by automatic differentiation.

    ```
    r = u_t + d/dx (f(u) - k(u) u_x)
    ```

    **Arguments:**

    - `field`: `u` at points `(n, 2)` in the order (t, x), to shape `(n,)`. It must treat points
        independently: all are differentiated in one forward sweep (two for the flux).
    - `points`: shape `(n, 2)`.
    - `equation`: gives the convection `f` and the conductivity `k`.

    **Returns:** shape `(n,)`, in units of the field per unit of time.

    **Raises:** `ValueError` for points of another shape.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.equations import Advection
        >>> from jaxsci.surrogates import equation_residual
        >>> points = jnp.array([[0.1, 0.2], [0.3, 0.4]])
        >>> equation_residual(lambda p: p[:, 1] - 2 * p[:, 0], points, Advection(2.0))
        Array([0., 0.], dtype=float32)
    """
    if points.ndim != 2 or points.shape[1] != 2:
        raise ValueError(
            f"`equation_residual(points=...)`: expected shape (n, 2) of (t, x), got {points.shape}"
        )
    along_t = jnp.zeros_like(points).at[:, 0].set(1)
    along_x = jnp.zeros_like(points).at[:, 1].set(1)

    def flux(at: Array) -> Array:
        u, u_x = jax.jvp(field, (at,), (along_x,))
        return equation.convection(u) - equation.conductivity(u) * u_x

    _, u_t = jax.jvp(field, (points,), (along_t,))
    _, flux_x = jax.jvp(flux, (points,), (along_x,))
    return u_t + flux_x


def softc_loss(
    model: AttentiveNeuralProcess,
    task: Task,
    target_values: Float[Array, " target"],
    equation: AbstractEquation,
    *,
    weight: ArrayLike = 1.0,
    key: PRNGKeyArray | None = None,
    inference: bool | None = None,
) -> Float[Array, ""]:
    """The objective of the SoftC baseline, both terms *per target* of one function.

    ```
    L = anp_loss / nt + weight mean_i r_i^2
    ```

    `r` is the residual of the predicted mean at the targets ([`equation_residual`][
    jaxsci.surrogates.equation_residual]), under the `z` and the dropout masks of the first term.
    The mean over a batch of functions is then the mean over all of its points, and `weight` means
    the same whatever the batch and the number of targets. Published code adds `lambda mean r^2` to
    a loss *summed* over the batch: its `lambda` is `weight * functions * nt`, so that its 1 is a
    `weight` of 4e-5 (250 functions, 100 targets).

    A soft constraint is met neither exactly nor away from where it was trained; it is here as the
    baseline that [`jaxsci.conservation.condition`][] is compared with.

    **Arguments:**

    - `model`, `task`, `target_values`, `key`, `inference`: as for
        [`jaxsci.surrogates.anp_loss`][].
    - `equation`: of this function; under `vmap` a batch of equations, one per function.
    - `weight`: of the residual, at least 0.

    **Raises:** `ValueError` if `target_values` does not fit the task.

    Reference: Raissi, Perdikaris and Karniadakis, *Physics-informed neural networks*, J. Comput.
    Phys. 378 (2019); as a baseline for neural processes in Hansen et al., ICML 2023.
    """
    loss, (z, mask_key) = loss_and_latent(model, task, target_values, key, inference, "softc_loss")
    points = task.target_points.astype(model.dtype)

    def mean(at: Array) -> Array:
        return model.predict(Task(task.context_points, task.context_values, at), z, key=mask_key)[0]

    residual = equation_residual(mean, points, equation)
    weight = jnp.asarray(weight, loss.dtype)
    return loss / target_values.size + weight * jnp.mean(residual**2)
