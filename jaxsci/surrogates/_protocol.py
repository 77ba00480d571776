"""What a surrogate is, and the inputs of those that interpolate between observations."""

from typing import Any, Protocol, runtime_checkable

import equinox as eqx
import jax
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.gaussians import Gaussian


@runtime_checkable
class Surrogate(Protocol):
    """Anything that maps inputs to a Gaussian over a flattened field.

    `surrogate(inputs, key=key)` is the whole protocol. An Equinox module, a plain function and an
    adapter around a model of another library meet it alike; there is nothing to inherit from.

    - `inputs`: any pytree, for one prediction; a batch is made with `jax.vmap`. Surrogates that
        interpolate take a [`jaxsci.surrogates.Task`][].
    - `key`: a random key for surrogates that sample (a latent variable, dropout masks). `None`
        asks for the deterministic prediction; a surrogate that has none raises `ValueError`.

    `isinstance(x, Surrogate)` can only see that `x` is callable.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.gaussians import Gaussian
        >>> from jaxsci.surrogates import Surrogate
        >>> def climatology(inputs, *, key=None):
        ...     return Gaussian.diagonal(jnp.zeros(inputs.shape[0]), jnp.ones(inputs.shape[0]))
        >>> isinstance(climatology, Surrogate)
        True
    """

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The prediction for one input."""
        ...


class Task(eqx.Module):
    """Observations of one field, and the points where it is to be predicted.

    Coordinates are ordered `(t, x, ...)`, as in [`jaxsci.grids.Grid`][], whose `points()` are the
    usual targets. Everything is dimensionless.

    **Arguments:**

    - `context_points`: shape `(nc, d)`, where the field was observed.
    - `context_values`: shape `(nc,)`, what was observed there.
    - `target_points`: shape `(nt, d)`, where to predict.

    **Raises:** `ValueError` if the shapes do not fit. A batch of tasks has one more leading axis
    on all three and is made by `vmap` (or `jax.tree.map(jnp.stack, ...)`).

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.surrogates import Task
        >>> Task(jnp.zeros((3, 2)), jnp.zeros(3), jnp.ones((5, 2))).target_points.shape
        (5, 2)
    """

    context_points: Float[Array, "*batch context d"]
    context_values: Float[Array, "*batch context"]
    target_points: Float[Array, "*batch target d"]

    def __check_init__(self):
        arrays = (self.context_points, self.context_values, self.target_points)
        if not all(isinstance(a, jax.Array | np.ndarray | jax.ShapeDtypeStruct) for a in arrays):
            return  # not data but, say, `in_axes` of a `vmap` in the shape of a task
        points, values, targets = (tuple(a.shape) for a in arrays)
        if len(points) < 2 or len(targets) < 2:
            raise ValueError(
                "`Task(context_points, target_points)`: expected shapes (nc, d) and (nt, d), got "
                f"{points} and {targets}; a single coordinate is a column, `x[:, None]`"
            )
        if values != points[:-1]:
            raise ValueError(
                f"`Task(context_values=...)`: expected shape {points[:-1]}, one value per context "
                f"point, got {values}"
            )
        if targets[-1] != points[-1] or targets[:-2] != points[:-2]:
            raise ValueError(
                f"`Task(target_points=...)`: expected as many coordinates (and batch axes) as "
                f"context_points, of shape {points}, got {targets}"
            )
