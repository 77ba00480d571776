"""Predictive moments of an attentive neural process: a mixture over latent samples."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxsci.errors import lookup
from jaxsci.metrics import pool_moments

from ._anp import AttentiveNeuralProcess
from ._protocol import Task

_MODES = {
    "zmean": "z at its mean, dropout off: deterministic",
    "eval": "z sampled, dropout off",
    "dropout": "z and dropout masks sampled, as in the published tables",
}

Update = Callable[..., tuple[Array, Array]]


def pooled_moments(
    model: AttentiveNeuralProcess,
    tasks: Task,
    *,
    mode: str = "eval",
    samples: int = 100,
    key: PRNGKeyArray | None = None,
    update: Update | None = None,
    given: Any = None,
    slices: int = 1,
    min_var: float = 1e-8,
    at_once: int = 10,
) -> tuple[Float[Array, "functions target"], Float[Array, "functions target"]]:
    """Marginal mean and variance of the predictive mixture, for many functions.

    ```
    (m_j, v_j) = update(model(task | z_j))          for each sample j
    mean = mean_j m_j,   var = max(mean_j v_j + var_j m_j, min_var)
    ```

    Metrics that are reported at one time need only the targets of that time
    ([`jaxsci.surrogates.slice_tasks`][]): targets are predicted independently given `z`.

    **Arguments:**

    - `tasks`: a batch: arrays with a leading axis `functions`.
    - `mode`: `"zmean"` (z at its mean, no dropout; one sample, no key), `"eval"` (z sampled, no
        dropout; the attention is computed once for all samples) or `"dropout"` (z and masks
        sampled).
    - `samples`, `key`: how many samples, and a random key; not used by `"zmean"`.
    - `update`: what is done to the Gaussian of each slice of each sample before pooling, e.g. a
        conservation update: `update(mean, var)` or, if `given` is not None,
        `update(mean, var, given_of_the_slice)`, from and to arrays of shape `(nt / slices,)`.
    - `given`: pytree of arrays with leading axes `(functions, slices)`, e.g. the masses.
    - `slices`: in how many slices (times) the targets fall, in order and of equal size.
    - `min_var`: floor of the variance.
    - `at_once`: samples evaluated together; bounds memory.

    **Returns:** mean and variance, each of shape `(functions, nt)`.

    **Raises:** `ValueError` for an unknown mode, a missing key, fewer than 1 sample or slice,
    shapes that do not fit.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.surrogates import AttentiveNeuralProcess, Task, pooled_moments
        >>> model = AttentiveNeuralProcess(width=8, heads=2, key=jax.random.key(0))
        >>> tasks = Task(jnp.zeros((3, 5, 2)), jnp.zeros((3, 5)), jnp.ones((3, 7, 2)))
        >>> mean, var = pooled_moments(model, tasks, mode="eval", samples=4, key=jax.random.key(1))
        >>> mean.shape, bool(jnp.all(var >= 1e-8))
        ((3, 7), True)

    Reference: Hansen et al., *Learning Physical Models that Can Respect Conservation Laws*,
    ICML 2023.
    """
    lookup("mode", mode, _MODES)
    if tasks.target_points.ndim != 3:
        raise ValueError(
            "`pooled_moments(tasks)`: expected target_points of shape (functions, nt, d), got "
            f"{tasks.target_points.shape}; add an axis for a single function"
        )
    functions, targets, _ = tasks.target_points.shape
    for name, value in (("samples", samples), ("slices", slices), ("at_once", at_once)):
        if value < 1:
            raise ValueError(f"`pooled_moments({name}=...)`: expected at least 1, got {value}")
    if targets % slices:
        raise ValueError(
            f"`pooled_moments(slices={slices})`: expected a divisor of the {targets} targets"
        )
    for leaf in jax.tree.leaves(given):
        if jnp.shape(leaf)[:2] != (functions, slices):
            raise ValueError(
                "`pooled_moments(given=...)`: expected arrays with leading axes (functions, "
                f"slices) = ({functions}, {slices}), got shape {jnp.shape(leaf)}"
            )
    if given is not None and update is None:
        raise ValueError("`pooled_moments(given=...)`: expected an `update` that takes it")
    if mode == "zmean":
        samples, key = 1, jax.random.key(0)  # the key is not used
    elif key is None:
        raise ValueError(f"`pooled_moments(key=...)`: expected a random key for mode {mode!r}")
    keys = jax.random.split(key, (functions, samples))
    settings = (mode, slices, min_var, min(at_once, samples))
    return _pooled(model, tasks, keys, given, update, *settings)


@eqx.filter_jit
def _pooled(
    model: AttentiveNeuralProcess,
    tasks: Task,
    keys: Array,
    given: Any,
    update: Update | None,
    mode: str,
    slices: int,
    min_var: float,
    at_once: int,
) -> tuple[Array, Array]:
    def function(arguments: tuple[Task, Array, Any]) -> tuple[Array, Array]:
        task, sample_keys, known = arguments
        prior = model.latent(task)
        shared = None if mode == "dropout" else model.represent(task)

        def moments(key: Array) -> tuple[Array, Array]:
            if mode == "dropout":
                gaussian = model(task, key=key, inference=False)
                mean, var = gaussian.mean, gaussian.marginal_var
            else:
                z = prior.mean if mode == "zmean" else prior.sample(key)
                mean, std = model.decode(task.target_points, shared, z)  # pyright: ignore[reportArgumentType]
                var = std * std
            return _updated(update, mean, var, known, slices)

        means, variances = lax.map(moments, sample_keys, batch_size=at_once)
        return pool_moments(means, variances, min_var=min_var)

    return lax.map(function, (tasks, keys, given))


def _updated(
    update: Update | None, mean: Array, var: Array, known: Any, slices: int
) -> tuple[Array, Array]:
    if update is None:
        return mean, var
    each = (mean.reshape(slices, -1), var.reshape(slices, -1))
    results = jax.vmap(update)(*each) if known is None else jax.vmap(update)(*each, known)
    for name, result in zip(("mean", "variance"), results, strict=True):
        if result.shape != each[0].shape:
            raise ValueError(
                f"`pooled_moments(update=...)`: expected a {name} of shape {each[0].shape[1:]} for "
                f"each slice, got {result.shape[1:]}"
            )
    new_mean, new_var = results
    return new_mean.reshape(mean.shape), new_var.reshape(var.shape)


def slice_tasks(
    context_points: Float[Array, "functions context 2"],
    context_values: Float[Array, "functions context"],
    time: ArrayLike,
    positions: Float[Array, " positions"],
) -> Task:
    """A batch of tasks whose targets are one time and the same positions for every function.

    **Arguments:** `context_points` `(functions, nc, 2)` in the order (t, x), `context_values`
    `(functions, nc)`; `time`, a scalar; `positions` `(nx,)`.

    **Returns:** a [`jaxsci.surrogates.Task`][] with `target_points` `(functions, nx, 2)`.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.surrogates import slice_tasks
        >>> tasks = slice_tasks(jnp.zeros((3, 5, 2)), jnp.zeros((3, 5)), 0.5, jnp.arange(4.0))
        >>> tasks.target_points.shape
        (3, 4, 2)
    """
    positions = jnp.asarray(positions)
    times = jnp.full_like(positions, jnp.asarray(time, positions.dtype))
    points = jnp.stack([times, positions], axis=-1)
    batch = context_points.shape[:-2]
    return Task(context_points, context_values, jnp.broadcast_to(points, (*batch, *points.shape)))
