"""The posterior of the weights of an operator's last layer, in closed form."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PyTree

from jaxsci.gaussians import Gaussian
from jaxsci.operators.layers import Pointwise

from ._evidence import Evidence, linear_regression
from ._last_layer import checked_layer, last_layer
from ._unpack import call_operator


class LastLayerLaplace(eqx.Module):
    """An operator whose last layer's weights have a Gaussian posterior, and so its output.

    With `J` the derivative of the output in these weights (the features, after whatever follows
    the layer),

    ```
    w ~ N(m, A^-1),    A = prior_precision I + sum J'J / noise_variance
    mean = u(m),       cov = J A^-1 J' + noise_variance I
    ```

    Made by [`jaxsci.operators.uncertain.fit_last_layer_laplace`][]. The output is affine in `w` if
    what follows the layer is, as it is for the operators here; `u` is then exact, and otherwise its
    linearisation at the trained weights.

    - `operator`: as it was trained.
    - `weights`: `m`, of shape `(p,)`: weights, then biases.
    - `root`: `B` of shape `(p, p)` with `B B' = A^-1`.
    - `noise_variance`: in the unit of the field squared; the same at every point, also where the
        operator enforces a value (C).
    - `prior_precision`, `log_evidence`: of the weights, and `log p(data)` at both numbers.
    """

    operator: Callable[..., Array]
    weights: Float[Array, " p"]
    root: Float[Array, "p p"]
    noise_variance: Float[Array, ""]
    prior_precision: Float[Array, ""]
    log_evidence: Float[Array, ""]
    where: Callable[[Any], Pointwise] = eqx.field(static=True)

    def __call__(self, inputs: Any, *, key: Any = None) -> Gaussian:
        """The Gaussian over the flattened output, with a factor of shape `(n, p)`.

        - `inputs`: an array, or a tuple of the operator's arguments.
        - `key`: not used; nothing is random.
        """
        del key
        trained, output, push = _linearised(self.operator, self.where, inputs)
        mean = output + push((self.weights - trained).astype(trained.dtype))
        factor = jax.vmap(push, in_axes=1, out_axes=1)(self.root.astype(trained.dtype))
        noise = jnp.broadcast_to(self.noise_variance.astype(mean.dtype), mean.shape)
        return Gaussian.low_rank(mean, noise, factor)


def fit_last_layer_laplace(
    operator: Callable[..., Array],
    inputs: PyTree,
    outputs: Float[Array, "functions out *points"],
    *,
    where: Callable[[Any], Pointwise] = last_layer,
) -> LastLayerLaplace:
    """The posterior of an operator's last layer given functions, and nothing to be tuned.

    Bayesian linear regression on the features that the operator has learned: `w ~ N(0, I / a)`,
    `outputs = u(w) + e`, `e ~ N(0, I / b)`, with `a` and `b` those that make the outputs most
    likely. The features of all points are reduced to a triangular factor, function by function, so
    that memory is O(p^2) and small singular values survive (a sum of `J'J` would square them).

    All points count as independent observations: with many of them the posterior is narrow, and
    most of the variance is noise. That is what the model says, not that the operator is right far
    from its training functions.

    **Arguments:**

    - `operator`: after training; dropout is off.
    - `inputs`: of the training functions: arrays with a leading axis, or a tuple of pytrees of
        these, one for each argument of the operator.
    - `outputs`: of the training functions.
    - `where`: from the operator to its last layer.

    **Raises:** `ValueError` for outputs of another shape than the operator's, or fewer numbers
    than the layer has weights; as `where`.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.fno import FNO
        >>> from jaxsci.operators.uncertain import fit_last_layer_laplace
        >>> fno = FNO(1, 1, modes=4, width=4, layers=1, key=jax.random.key(0))
        >>> x = jax.random.normal(jax.random.key(1), (10, 1, 16))
        >>> model = fit_last_layer_laplace(fno, x, jnp.cumsum(x, -1) / 16)
        >>> model(x[0]).cov.factor.shape, bool(model.noise_variance > 0)
        ((16, 9), True)

    Reference: MacKay, *Bayesian Interpolation*, Neural Computation 4 (1992); Daxberger et al.,
    *Laplace Redux - Effortless Bayesian Deep Learning*, NeurIPS 2021; for operators Mouli et al.,
    ICML 2024. Differs from these in: 1. the mean is that of the posterior and not the trained
    weights, which minimise another loss; 2. the full posterior of the layer, not its diagonal;
    3. the evidence is maximised in one variable, the other being known in closed form.
    """
    checked_layer("fit_last_layer_laplace", operator, where)
    first = jax.tree.map(lambda leaf: leaf[0], (inputs, outputs))
    made = eqx.filter_eval_shape(lambda x: call_operator(operator, x, None), first[0])
    if made.shape != first[1].shape:
        raise ValueError(
            "`fit_last_layer_laplace(outputs=...)`: expected shape (functions, "
            f"{', '.join(map(str, made.shape))}), as the operator returns, got {outputs.shape}"
        )
    return _fitted(operator, where, inputs, outputs)


@eqx.filter_jit
def _fitted(
    operator: Callable[..., Array],
    where: Callable[[Any], Pointwise],
    inputs: PyTree,
    outputs: Array,
) -> LastLayerLaplace:
    def rows(pair: Any) -> tuple[Array, Array]:
        """The features of one function, `(n, p)`, and what they are to make of it, `(n,)`."""
        x, truth = pair
        trained, output, push = _linearised(operator, where, x)
        features = jax.vmap(push, out_axes=1)(jnp.eye(trained.size, dtype=trained.dtype))
        return features, truth.ravel().astype(output.dtype) - (output - push(trained))

    found: Evidence = linear_regression(rows, (inputs, outputs), outputs.size)
    return LastLayerLaplace(
        operator,
        found.mean,
        found.root,
        found.noise_variance,
        found.prior_precision,
        found.log_evidence,
        where,
    )


def _linearised(
    operator: Callable[..., Array], where: Callable[[Any], Pointwise], inputs: Any
) -> tuple[Array, Array, Callable[[Array], Array]]:
    """The flat weights, the flat output at them, and its derivative in them as a function."""
    layer = where(operator)
    trained, unravel = ravel_pytree((layer.weight, layer.bias))

    def output(flat: Array) -> Array:
        weight, bias = unravel(flat)
        put = eqx.tree_at(
            lambda m: (m.weight, m.bias), layer, (weight, bias), is_leaf=lambda leaf: leaf is None
        )
        return call_operator(eqx.tree_at(where, operator, put), inputs, None).ravel()

    value, push = jax.linearize(output, trained)
    return trained, value, push
