"""Hyper-parameters of a Gaussian process by Hamiltonian Monte Carlo."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int, PRNGKeyArray

from jaxsci.errors import is_concrete
from jaxsci.gaussians import Gaussian
from jaxsci.precision import matmul

from ._gaussian_process import GaussianProcess
from ._gaussian_process_fit import total_log_likelihood
from ._gaussian_process_parameters import free_parameters
from ._protocol import Task


class PooledGaussianProcess(eqx.Module):
    """The predictive distribution pooled over draws of the hyper-parameters, as a Gaussian.

    The mixture `1/M sum_i N(mu_i, C_i)` is not a Gaussian; returned is the Gaussian with its
    moments, `mean = avg(mu_i)` and `cov = avg(C_i) + avg((mu_i - mean)(mu_i - mean)')`.

    **Arguments:**

    - `draws`: a [`jaxsci.surrogates.GaussianProcess`][] whose arrays have one leading axis, the
        `M` draws.
    """

    draws: GaussianProcess

    def __call__(self, task: Task, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The pooled prediction at the targets; one `nt x nt` matrix is held at a time.

        **Arguments:** `task`, `key`: as [`jaxsci.surrogates.GaussianProcess`][].

        **Returns:** a dense [`jaxsci.gaussians.Gaussian`][] of size `nt`.
        """
        arrays, rest = eqx.partition(self.draws, eqx.is_array)
        n, dtype = task.target_points.shape[0], task.target_points.dtype

        def add(total: Array, draw: Any) -> tuple[Array, Array]:
            prediction = eqx.combine(draw, rest)(task, key=key)
            return total + prediction.cov.as_matrix(), prediction.mean

        total, means = jax.lax.scan(add, jnp.zeros((n, n), dtype), arrays)
        mean = jnp.mean(means, axis=0)
        spread = means - mean[None, :]
        return Gaussian.dense(mean, (total + matmul(spread.T, spread)) / means.shape[0])


class GaussianProcessDraws(eqx.Module):
    """What [`jaxsci.surrogates.sample_gaussian_process`][] drew.

    - `surrogate`: the pooled predictive; its `draws` are the hyper-parameters.
    - `names`: one name per free hyper-parameter (k of them).
    - `values`: the draws, shape `(chains, draws, k)`, on their own (not a logarithmic) scale.
    - `r_hat`: split potential scale reduction of each, 1 at convergence.
    - `effective_samples`: effective number of draws of each.
    - `divergences`: number of divergent transitions; 0 in a sound run.
    """

    surrogate: PooledGaussianProcess
    names: tuple[str, ...] = eqx.field(static=True)
    values: Float[Array, "chains draws k"]
    r_hat: Float[np.ndarray, " k"]
    effective_samples: Float[np.ndarray, " k"]
    divergences: Int[Array, ""]


def sample_gaussian_process(
    surrogate: GaussianProcess,
    task: Task,
    *,
    key: PRNGKeyArray,
    draws: int = 100,
    warmup: int = 200,
    chains: int = 1,
    spread: float = 1.0,
    trainable: Callable[[GaussianProcess], Any] | None = None,
) -> GaussianProcessDraws:
    """Draws of the hyper-parameters from their posterior, by the No-U-Turn sampler.

    `p(theta | y) ~ N(y; m(X), k(X, X) + diag(noise)) prod_j N(z_j; z_j0, spread^2)` where `z_j` is
    the logarithm of a hyper-parameter that is positive (itself for another), and `z_j0` its value
    in `surrogate`.

    **Arguments:**

    - `surrogate`: centre of the prior and start of the chains.
    - `task`: as in [`jaxsci.surrogates.fit_gaussian_process`][].
    - `key`: a JAX random key.
    - `draws`, `warmup`: numbers per chain; `chains`: run side by side.
    - `spread`: standard deviation of the log hyper-parameters a priori; 1 allows a factor of e.
    - `trainable`: as in [`jaxsci.surrogates.fit_gaussian_process`][].

    **Returns:** a [`jaxsci.surrogates.GaussianProcessDraws`][].

    **Raises:** `ValueError` for counts below 1 or a spread that is not positive.

    Reference: Hoffman and Gelman, *The No-U-Turn Sampler*, JMLR 15, 2014.
    """
    # numpyro takes a second to import, and only this function needs it.
    import numpyro
    from numpyro import diagnostics
    from numpyro import distributions as dist
    from numpyro.infer import MCMC, NUTS, init_to_value

    for name, count, least in (("draws", draws, 4), ("warmup", warmup, 1), ("chains", chains, 1)):
        if count < least:
            raise ValueError(
                f"`sample_gaussian_process({name}=...)`: expected at least {least}, got {count}"
            )
    if not spread > 0:
        raise ValueError(
            f"`sample_gaussian_process(spread=...)`: expected a positive number, got {spread}"
        )
    if not is_concrete(task, key):
        raise ValueError(
            "`sample_gaussian_process(task, key=...)`: expected known arrays, got traced ones; "
            "call it outside `jit` and `vmap` (for several tasks, give a batch or a loop)"
        )
    batched = task.context_values.ndim == 2
    dtype = task.context_values.dtype
    free = free_parameters("sample_gaussian_process", surrogate, dtype, trainable)

    def model() -> None:
        width = jnp.full_like(free.start, spread)
        z = numpyro.sample("z", dist.Normal(free.start, width).to_event(1))
        likelihood = total_log_likelihood(free.rebuild(jnp.asarray(z)), task, batched)
        # A covariance that is singular to rounding is a rejected proposal, not an infinite energy.
        numpyro.factor("likelihood", jnp.maximum(likelihood, jnp.finfo(dtype).min / 4))

    nuts = NUTS(model, init_strategy=init_to_value(values={"z": free.start}))
    sampler = MCMC(
        nuts,
        num_warmup=warmup,
        num_samples=draws,
        num_chains=chains,
        chain_method="vectorized",
        progress_bar=False,
    )
    # numpyro mixes dtypes and ranks under JAX's ordinary rules.
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        sampler.run(key, extra_fields=("diverging",))
        z = sampler.get_samples(group_by_chain=True)["z"].astype(dtype)
        divergences = jnp.sum(sampler.get_extra_fields()["diverging"])
    pooled = eqx.filter_vmap(free.rebuild)(z.reshape(-1, z.shape[-1]))
    values = jnp.where(jnp.asarray(free.positive)[None, None, :], jnp.exp(z), z)
    return GaussianProcessDraws(
        PooledGaussianProcess(pooled),
        free.names,
        values,
        np.asarray(diagnostics.split_gelman_rubin(np.asarray(z))),
        np.asarray(diagnostics.effective_sample_size(np.asarray(z))),
        divergences,
    )
