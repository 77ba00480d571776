"""Hyper-parameters of a Gaussian process by maximum marginal likelihood."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optimistix as optx
from jaxtyping import Array, Float, Int

from jaxsci.errors import is_concrete

from ._gaussian_process import GaussianProcess
from ._gaussian_process_parameters import FreeParameters, free_parameters
from ._protocol import Task


class GaussianProcessFit(eqx.Module):
    """What [`jaxsci.surrogates.fit_gaussian_process`][] found.

    - `surrogate`: the Gaussian process with the fitted hyper-parameters.
    - `log_likelihood`: the log marginal likelihood there, summed over the tasks.
    - `initial_log_likelihood`: the same before the fit.
    - `gradient_norm`: largest absolute derivative of the log-likelihood per value, by the logs of
        the hyper-parameters; near 0 at an optimum.
    - `steps`: BFGS steps taken.
    - `converged`: whether the tolerance was met before `max_steps`.
    """

    surrogate: GaussianProcess
    log_likelihood: Float[Array, ""]
    initial_log_likelihood: Float[Array, ""]
    gradient_norm: Float[Array, ""]
    steps: Int[Array, ""]
    converged: Array


def fit_gaussian_process(
    surrogate: GaussianProcess,
    task: Task,
    *,
    trainable: Callable[[GaussianProcess], Any] | None = None,
    tolerance: float | None = None,
    max_steps: int = 256,
) -> GaussianProcessFit:
    """The hyper-parameters that maximise the marginal likelihood of the context values.

    `argmax sum_f log N(y_f; m(X_f), k(X_f, X_f) + diag(noise))`, by BFGS in the logarithms of the
    hyper-parameters that are positive at the start (others are free; a noise of 0 is held). The
    surface may have several maxima: the one found is the one downhill of `surrogate`'s own values.

    **Arguments:**

    - `surrogate`: the start.
    - `task`: one task, or a batch of them (arrays with one leading axis `f` more) that share their
        hyper-parameters. For hyper-parameters of their own, `vmap` over the tasks.
    - `trainable`: selects what is fitted, e.g. `lambda gp: (gp.kernel, gp.noise)`; by default
        every floating array.
    - `tolerance`: on the log-likelihood per value and on the step; by default the square root of
        `eps`.
    - `max_steps`: bound on the BFGS steps.

    **Returns:** a [`jaxsci.surrogates.GaussianProcessFit`][].

    **Raises:** `ValueError` for a task without values, a start whose likelihood is not finite, or
    nothing to fit.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.surrogates import GaussianProcess, Task
        >>> from jaxsci.surrogates import fit_gaussian_process, stationary_kernel
        >>> x = jnp.linspace(0.0, 1.0, 12)[:, None]
        >>> task = Task(x, jnp.sin(6.0 * x[:, 0]), x)
        >>> start = GaussianProcess(stationary_kernel("squared-exponential", 1.0), noise=0.1)
        >>> fit = fit_gaussian_process(start, task)
        >>> bool(fit.log_likelihood > fit.initial_log_likelihood)
        True
    """
    batched = task.context_values.ndim == 2
    values = task.context_values.size
    dtype = task.context_values.dtype
    if values == 0 or task.context_values.ndim > 2:
        raise ValueError(
            "`fit_gaussian_process(task.context_values=...)`: expected at least one value, of "
            f"shape (nc,) or (f, nc), got shape {task.context_values.shape}"
        )
    free = free_parameters("fit_gaussian_process", surrogate, dtype, trainable)
    default = float(jnp.finfo(dtype).eps) ** 0.5
    small = default if tolerance is None else tolerance
    z, first, steps, converged = _maximise(free, task, batched, values, small, max_steps)
    last, gradient = _value_and_gradient(free, z, task, batched, values)
    if is_concrete(first) and not bool(jnp.isfinite(first)):
        raise ValueError(
            "`fit_gaussian_process(surrogate=...)`: expected a start with a finite likelihood, got "
            "a context covariance that is singular to rounding; raise `noise` or shorten the "
            "length scales, or use float64"
        )
    return GaussianProcessFit(
        free.rebuild(z), -values * last, -values * first, jnp.abs(gradient).max(), steps, converged
    )


def total_log_likelihood(surrogate: GaussianProcess, task: Task, batched: bool) -> Float[Array, ""]:
    """The log marginal likelihood, summed over a batch of tasks."""
    if not batched:
        return surrogate.log_marginal_likelihood(task)
    return jnp.sum(jax.vmap(surrogate.log_marginal_likelihood)(task))


def _loss(free: FreeParameters, z: Array, task: Task, batched: bool, values: int) -> Array:
    # Per value, so that one tolerance suits any number of contexts.
    return -total_log_likelihood(free.rebuild(z), task, batched) / values


@eqx.filter_jit
def _value_and_gradient(
    free: FreeParameters, z: Array, task: Task, batched: bool, values: int
) -> tuple[Array, Array]:
    return jax.value_and_grad(lambda p: _loss(free, p, task, batched, values))(z)


@eqx.filter_jit
def _maximise(
    free: FreeParameters, task: Task, batched: bool, values: int, tolerance: float, max_steps: int
) -> tuple[Array, Array, Array, Array]:
    def loss(z: Array, args: Any) -> Array:
        del args
        return _loss(free, z, task, batched, values)

    solution = optx.minimise(
        loss,
        optx.BFGS(rtol=tolerance, atol=tolerance),
        free.start,
        max_steps=max_steps,
        throw=False,
    )
    return (
        solution.value,
        loss(free.start, None),
        solution.stats["num_steps"],
        solution.result == optx.RESULTS.successful,
    )
