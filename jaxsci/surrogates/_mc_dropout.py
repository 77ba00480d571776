"""Monte Carlo dropout: one model, many masks, one Gaussian."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.random as jr
import numpy as np
from jaxtyping import Array, PRNGKeyArray

from jaxsci.errors import is_concrete
from jaxsci.gaussians import Gaussian
from jaxsci.interop import takes_key

from ._anp import AttentiveNeuralProcess
from ._model_call import checked_floor, moments, pooled


class MCDropout(eqx.Module):
    """The mean and the spread of a model over its own randomness, as a low-rank Gaussian.

    With `m_i = model(inputs, key=key_i)`, the covariance is that of
    [`jaxsci.surrogates.DeepEnsemble`][] with samples in place of members, and so is what its
    documentation says of a `variance_floor` of 0.

    Every `eqx.nn.Dropout` in the model is switched on, also if the model was put in inference
    mode. A model of another library brings its own switch (Flax nnx: `model.train()`).

    **Arguments:**

    - `model`: called as `model(inputs, key=key)`; returns an array, which is flattened, or a
        [`jaxsci.gaussians.Gaussian`][], of which the marginal variance is used.
    - `samples`: number of masks, at least 2. The covariance has rank `samples - 1`.
    - `variance_floor`: least diagonal variance, in the unit of the field squared.
    - `batch_size`: masks evaluated at a time; `None` evaluates all at once.

    **Raises:** `TypeError` for a model that takes no `key`, `ValueError` for too few samples.

    !!! example
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from jaxsci.surrogates import MCDropout
        >>> layers = [eqx.nn.Linear(2, 8, key=jax.random.key(0)), eqx.nn.Dropout(0.5)]
        >>> prediction = MCDropout(eqx.nn.Sequential(layers), 16)(
        ...     jnp.ones(2), key=jax.random.key(1)
        ... )
        >>> prediction.size
        8

    Reference: Gal and Ghahramani, *Dropout as a Bayesian Approximation*, ICML 2016. Differs from
    the paper in: 1. the covariance between points is kept; 2. the spread is unbiased.
    """

    model: Callable[..., Any]
    variance_floor: float = eqx.field(static=True)
    samples: int = eqx.field(static=True)
    batch_size: int | None = eqx.field(static=True)

    def __init__(
        self,
        model: Callable[..., Any],
        samples: int = 100,
        *,
        variance_floor: float = 0.0,
        batch_size: int | None = None,
    ):
        if not (callable(model) and takes_key(model)):
            raise TypeError(
                "`MCDropout(model)`: expected a model that is called as `model(inputs, key=key)`, "
                f"got {type(model).__name__}, which takes no `key`"
            )
        if isinstance(samples, bool) or not isinstance(samples, int) or samples < 2:
            raise ValueError(f"`MCDropout(samples=...)`: expected at least 2, got {samples!r}")
        if batch_size is not None and batch_size < 1:
            raise ValueError(f"`MCDropout(batch_size=...)`: expected at least 1, got {batch_size}")
        self.model = model
        self.samples = samples
        self.variance_floor = checked_floor("MCDropout", variance_floor)
        self.batch_size = batch_size

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The Gaussian over the model's flattened output.

        **Arguments:** `inputs`: whatever the model takes; `key`: a JAX random key.

        **Returns:** a [`jaxsci.gaussians.Gaussian`][] with a factor of shape `(n, samples)`.

        **Raises:** `ValueError` without a key or (outside `jit`) if all samples are equal, i.e.
        there is no dropout.
        """
        if key is None:
            raise ValueError(
                "`MCDropout(...)(inputs, key=...)`: expected a random key, got None; this surrogate"
                " has no deterministic prediction, pass `key=jax.random.key(0)` or call the model"
            )
        model = _with_dropout(self.model)

        def one(sample_key: PRNGKeyArray) -> tuple[Array, Array | None]:
            return moments("MCDropout(model)", model(inputs, key=sample_key))

        batch = self.samples if self.batch_size is None else min(self.batch_size, self.samples)
        keys = jr.split(key, self.samples)
        if batch == self.samples:
            means, variances = jax.vmap(one)(keys)
        else:
            means, variances = jax.lax.map(one, keys, batch_size=batch)
        if is_concrete(means) and means.size and not np.ptp(np.asarray(means), axis=0).any():
            raise ValueError(
                f"`MCDropout(model)`: expected samples that differ, got {self.samples} equal ones; "
                "the model ignores its key or its dropout is off (Flax nnx: `model.train()`)"
            )
        return pooled(means, variances, self.variance_floor)


def _with_dropout(model: Any) -> Any:
    def is_dropout(node: Any) -> bool:
        # The neural process draws its masks itself, under a switch of the same name.
        return isinstance(node, eqx.nn.Dropout | AttentiveNeuralProcess)

    def switch_on(node: Any) -> Any:
        return eqx.tree_at(lambda d: d.inference, node, False) if is_dropout(node) else node

    return jax.tree.map(switch_on, model, is_leaf=is_dropout)
