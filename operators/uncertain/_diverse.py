"""One operator with many last layers that are kept apart: the spread of an ensemble, at a tenth."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxsci.gaussians import Gaussian
from jaxsci.metrics import relative_l2
from jaxsci.operators.layers import Pointwise

from ._last_layer import checked_layer, last_layer
from ._unpack import call_operator


class DiverseOperator(eqx.Module):
    """An operator whose last layer has several heads; their mean and spread as a Gaussian.

    With `u_i` the output by head `i`, a linear layer without bias after the same features,

    ```
    mean = avg(u_i)
    cov  = 1/(M - 1) sum_i (u_i - mean)(u_i - mean)' + variance_floor I
    ```

    All else is shared, so that it costs one operator and `M` last layers. Where the operator
    enforces a condition, each head obeys it: the mean does, and the covariance is 0 there. Trained
    with [`jaxsci.operators.uncertain.diverse_loss`][], which keeps the heads apart: they then agree
    where the data decide and differ where not. What
    [`jaxsci.surrogates.DeepEnsemble`][] says of a `variance_floor` of 0 holds here too.

    **Arguments:**

    - `operator`: called as `operator(x)`, or for several arguments with a tuple of them. The
        weights of its last layer are not used.
    - `heads`: how many, `M`, at least 2.
    - `where`: from the operator to its last layer.
    - `variance_floor`: variance at each point besides, in the unit of the field squared.
    - `key`: of the heads, which are drawn as [`jaxsci.operators.layers.Pointwise`][] draws weights.

    **Raises:** `ValueError` for fewer than two heads or a negative floor; as `where`.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.fno import FNO
        >>> from jaxsci.operators.uncertain import DiverseOperator
        >>> fno_key, head_key = jax.random.split(jax.random.key(0))
        >>> fno = FNO(1, 1, modes=4, width=8, layers=1, key=fno_key)
        >>> model = DiverseOperator(fno, key=head_key)
        >>> model.heads(jnp.ones((1, 12))).shape
        (10, 1, 12)
        >>> model(jnp.ones((1, 12))).cov.factor.shape
        (12, 10)

    Reference: Mouli et al., *Using Uncertainty Quantification to Characterize and Improve
    Out-of-Domain Learning for PDEs*, ICML 2024 (DiverseNO). Differs from the paper in: 1. the
    covariance between points is kept; 2. any operator, whatever follows its last layer.
    """

    operator: Callable[..., Array]
    where: Callable[[Any], Pointwise] = eqx.field(static=True)
    variance_floor: float = eqx.field(static=True)

    def __init__(
        self,
        operator: Callable[..., Array],
        heads: int = 10,
        *,
        where: Callable[[Any], Pointwise] = last_layer,
        variance_floor: float = 0.0,
        key: PRNGKeyArray,
    ):
        if isinstance(heads, bool) or not isinstance(heads, int) or heads < 2:
            raise ValueError(f"`DiverseOperator(heads=...)`: expected at least 2, got {heads!r}")
        if not 0 <= variance_floor < float("inf"):
            raise ValueError(
                "`DiverseOperator(variance_floor=...)`: expected a number >= 0, got "
                f"{variance_floor!r}"
            )
        layer = checked_layer("DiverseOperator", operator, where)

        def draw(key: PRNGKeyArray) -> Array:
            sizes = layer.in_channels, layer.out_channels
            made = Pointwise(*sizes, use_bias=False, dtype=layer.weight.dtype, key=key)
            return made.weight

        weights = jax.vmap(draw)(jax.random.split(key, heads))
        many = eqx.tree_at(
            lambda m: (m.weight, m.bias), layer, (weights, None), is_leaf=lambda leaf: leaf is None
        )
        self.operator = eqx.tree_at(where, operator, many)
        self.where, self.variance_floor = where, float(variance_floor)

    @property
    def weights(self) -> Float[Array, "M out hidden"]:
        """The weights of the heads."""
        return self.where(self.operator).weight

    def heads(
        self, inputs: Any, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "M out *points"]:
        """The output by each head; features are computed once."""

        def one(weight: Array) -> Array:
            operator = eqx.tree_at(lambda m: self.where(m).weight, self.operator, weight)
            return call_operator(operator, inputs, key)

        return jax.vmap(one)(self.weights)

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The Gaussian over the flattened output, channels first, with a factor `(n, M)`.

        - `inputs`: an array, or a tuple of the operator's arguments.
        - `key`: handed to the operator, for its dropout.
        """
        samples = self.heads(inputs, key=key)
        samples = samples.reshape(len(samples), -1)
        floor = jnp.full(samples.shape[1], self.variance_floor, samples.dtype)
        return Gaussian.from_samples(samples, floor)


def head_diversity(
    model: DiverseOperator, *, sampled: int | None = None, key: PRNGKeyArray | None = None
) -> Float[Array, ""]:
    """`R`: the mean of `|w_i - w_j|^2` over pairs of heads.

    **Arguments:**

    - `sampled`: how many heads, all different, are drawn; their pairs count. `None` for all heads,
        of which it is `2 sum_i |w_i - avg(w)|^2 / (M - 1)`. The expectation is the same.
    - `key`: for the draw.

    **Raises:** `ValueError` for fewer than two heads or more than there are, or a missing key.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.fno import FNO
        >>> from jaxsci.operators.uncertain import DiverseOperator, head_diversity
        >>> fno = FNO(1, 1, 4, width=4, layers=1, key=jax.random.key(0))
        >>> model = DiverseOperator(fno, 2, key=jax.random.key(1))
        >>> first, second = model.weights
        >>> bool(jnp.isclose(head_diversity(model), jnp.sum((first - second) ** 2)))
        True
    """
    weights = model.weights
    if sampled is not None:
        if not 2 <= sampled <= len(weights):
            raise ValueError(
                f"`head_diversity(sampled=...)`: expected 2 to {len(weights)} heads, got {sampled}"
            )
        if key is None:
            raise ValueError("`head_diversity(key=...)`: expected a random key to draw heads with")
        weights = jax.random.choice(key, weights, (sampled,), replace=False)
    off = weights - jnp.mean(weights, axis=0, keepdims=True)
    return 2 * jnp.sum(off**2) / (len(weights) - 1)


def diverse_loss(
    model: DiverseOperator,
    inputs: Any,
    outputs: Float[Array, "batch out *points"],
    *,
    strength: ArrayLike,
    sampled: int | None = 5,
    key: PRNGKeyArray | None = None,
) -> Float[Array, ""]:
    """Every head is to predict well, and the heads are to differ: the loss of DiverseNO.

    ```
    L = mean over batch and heads of |u_i - u| / |u|  -  strength R
    ```

    `R` grows without bound with the heads' weights, and only the first term holds it: a `strength`
    that is too large diverges. In the paper it is 0 for ten epochs, then the largest of several
    powers of ten that does not make the predictions within the training range worse:
    [`jaxsci.training.fit`][] hands the epoch to a loss that asks for it.

    **Arguments:**

    - `inputs`: of a batch: arrays with a leading axis, or a tuple of pytrees of these.
    - `outputs`: what should come out.
    - `strength`: of `R`; may depend on the epoch.
    - `sampled`, `key`: as in [`jaxsci.operators.uncertain.head_diversity`][]; the key is also the
        operator's, for dropout. Without a key all heads count and there is no dropout.

    !!! example
        >>> import jax, jax.numpy as jnp, optax
        >>> from jaxsci.operators.fno import FNO
        >>> from jaxsci.operators.uncertain import DiverseOperator, diverse_loss
        >>> from jaxsci.training import fit
        >>> a = jnp.linspace(0.5, 1.5, 16)[:, None, None] * jnp.ones((16, 1, 8))
        >>> fno = FNO(1, 1, 4, width=8, layers=1, key=jax.random.key(0))
        >>> def loss(model, batch, *, key, epoch):
        ...     strength = jnp.where(epoch < 10, 0.0, 0.01)
        ...     return diverse_loss(model, *batch, strength=strength, key=key)
        >>> result = fit(DiverseOperator(fno, key=jax.random.key(1)), loss, (a, a**2),
        ...              optimiser=optax.adam(1e-2), epochs=20, batch_size=8,
        ...              key=jax.random.key(2), progress=False)
        >>> prediction = result.model(a[0])

    Reference: Mouli et al., ICML 2024. Differs from the published code in: heads are drawn without
    repetition (there with, so that some pairs are a head with itself).
    """
    dropout_key, pair_key = (None, None) if key is None else jax.random.split(key)
    keys = None if dropout_key is None else jax.random.split(dropout_key, len(outputs))

    def one(inputs: Any, truth: Array, key: PRNGKeyArray | None) -> Array:
        heads = model.heads(inputs, key=key)
        return jnp.mean(jax.vmap(relative_l2, in_axes=(0, None))(heads, truth))

    errors = jax.vmap(one)(inputs, outputs, keys)
    drawn = None if pair_key is None or sampled is None else min(sampled, len(model.weights))
    diversity = head_diversity(model, sampled=drawn, key=pair_key)
    return jnp.mean(errors) - jnp.asarray(strength, errors.dtype) * diversity.astype(errors.dtype)
