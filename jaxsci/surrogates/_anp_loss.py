"""The training objective of the attentive neural process."""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PRNGKeyArray

from ._anp import AttentiveNeuralProcess
from ._protocol import Task


def anp_loss(
    model: AttentiveNeuralProcess,
    task: Task,
    target_values: Float[Array, " target"],
    *,
    key: PRNGKeyArray | None = None,
    inference: bool | None = None,
) -> Float[Array, ""]:
    """The negative evidence lower bound of one task.

    ```
    L = -sum_i log N(u_i; m_i(z), s_i(z)^2) + KL(q(z | targets) || q(z | contexts))
    ```

    with `z ~ q(z | targets)`. In nats, *summed* over the targets of one function; the mean over a
    batch of functions is `jnp.mean(jax.vmap(...))`, which makes the loss independent of the batch
    size but proportional to the number of targets.

    **Arguments:**

    - `model`: an [`jaxsci.surrogates.AttentiveNeuralProcess`][].
    - `task`, `target_values`: one function; `target_values` has shape `(nt,)`.
    - `key`: for `z` and the dropout masks; `None` for `z` at its mean and no dropout, as in
        validation.
    - `inference`: overrides the model's; `True` draws `z` but no masks.

    **Raises:** `ValueError` if `target_values` does not fit the task.

    !!! example
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from jaxsci.surrogates import AttentiveNeuralProcess, Task, anp_loss
        >>> model = AttentiveNeuralProcess(width=8, heads=2, key=jax.random.key(0))
        >>> task = Task(jnp.zeros((5, 2)), jnp.zeros(5), jnp.ones((7, 2)))
        >>> loss, gradient = eqx.filter_value_and_grad(anp_loss)(
        ...     model, task, jnp.ones(7), key=jax.random.key(1))

    Reference: Kim et al., *Attentive Neural Processes*, ICLR 2019, eq. 3.
    """
    loss, _ = loss_and_latent(model, task, target_values, key, inference, "anp_loss")
    return loss


def loss_and_latent(
    model: AttentiveNeuralProcess,
    task: Task,
    target_values: Array,
    key: PRNGKeyArray | None,
    inference: bool | None,
    where: str,
) -> tuple[Array, tuple[Array, PRNGKeyArray | None]]:
    """The loss, and the `z` and key of the masks that it was evaluated with."""
    if target_values.shape != task.target_points.shape[:-1]:
        raise ValueError(
            f"`{where}(target_values=...)`: expected shape {task.target_points.shape[:-1]}, one "
            f"value per target, got {target_values.shape}"
        )
    values = target_values.astype(model.dtype)
    z_key = prior_key = posterior_key = mask_key = None
    if key is not None:
        z_key, prior_key, posterior_key, mask_key = jax.random.split(key, 4)
        if model.inference if inference is None else inference:
            prior_key = posterior_key = mask_key = None
    prior = model.latent(task, key=prior_key)
    posterior = model.encode(task.target_points, values, key=posterior_key)
    z = posterior.mean if z_key is None else posterior.sample(z_key)
    mean, std = model.predict(task, z, key=mask_key)
    log_density = log_normal(values, mean, std)
    return posterior.kl(prior) - jnp.sum(log_density), (z, mask_key)


def log_normal(value: Array, mean: Array, std: Array) -> Array:
    """Elementwise Gaussian log-density."""
    return -(((value - mean) / std) ** 2) / 2 - jnp.log(std) - math.log(2 * math.pi) / 2
