"""Regression tasks (context and target points of one solution each), drawn as published."""

from functools import partial
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxsci.errors import require_finite

from ._abstract import AbstractEquation
from ._numbers import real


class TaskBatch(eqx.Module):
    """Context and target points of many functions; index the leading axis, or `vmap` over it.

    Points are `(t, x)` pairs of a tensor grid, time slowest: reshaped to
    `(functions, times, positions)` they are constant along the last axis in `t`.
    """

    context_points: Float[Array, "functions context 2"]
    context_values: Float[Array, "functions context"]
    target_points: Float[Array, "functions target 2"]
    target_values: Float[Array, "functions target"]
    parameters: Float[Array, " functions"]
    target_times: Float[Array, "functions times"]
    target_mass: Float[Array, "functions times"]


def sample_tasks(
    equation_cls: type[AbstractEquation],
    key: PRNGKeyArray,
    functions: int,
    parameters: ArrayLike | None = None,
    *,
    times: int = 10,
    positions: int = 10,
) -> TaskBatch:
    """Draws context and target points of exact solutions, without noise.

    Both are tensor grids of `times * positions` points in `t_bounds * x_bounds`. Context times:
    one uniform draw in each of `times` equal parts of the range. Target times and all positions:
    sorted uniform draws.

    **Arguments:**

    - `equation_cls`: a class of [`jaxsci.equations.EQUATIONS`][].
    - `key`: a random key; the same key gives the same tasks.
    - `functions`: how many functions to draw.
    - `parameters`: a scalar or shape `(functions,)`; by default drawn uniformly from
        `equation_cls.train_range`. Its dtype is the dtype of the tasks.
    - `times`, `positions`: the size of the grids.

    **Returns:** a [`jaxsci.equations.TaskBatch`][]; `target_mass` is the exact mass at
    `target_times`.

    **Raises:** `TypeError` if `equation_cls` is not a class of equations, `ValueError` for a
    number below 1, parameters of another shape or some that are not finite.

    !!! example
        >>> import jax
        >>> from jaxsci.equations import Stefan, sample_tasks
        >>> training = sample_tasks(Stefan, jax.random.key(0), 500)
        >>> training.context_points.shape, training.target_mass.shape
        ((500, 100, 2), (500, 10))
        >>> values = Stefan.test_parameters(functions=50)
        >>> test = sample_tasks(Stefan, jax.random.key(1), values.size, values)
        >>> test.parameters[0], test.parameters[-1]
        (Array(0.5, dtype=float32), Array(0.6, dtype=float32))
    """
    if not (isinstance(equation_cls, type) and issubclass(equation_cls, AbstractEquation)):
        raise TypeError(
            f"`sample_tasks(equation_cls=...)`: expected a class such as `Stefan`, got "
            f"{equation_cls!r}; fixed parameters go into `parameters=...`"
        )
    for name, count in (("functions", functions), ("times", times), ("positions", positions)):
        if count < 1:
            raise ValueError(f"`sample_tasks({name}=...)`: expected at least 1, got {count}")
    parameter_key, key = jax.random.split(key)
    if parameters is None:
        chosen = equation_cls.sample_parameters(parameter_key, functions)
    else:
        (chosen,) = real(parameters)
        # The extremes of many numbers pass NaN over on a CPU (jaxlib 0.10).
        require_finite("sample_tasks", "parameters", chosen)
        if chosen.shape not in ((), (functions,)):
            raise ValueError(
                f"`sample_tasks(parameters=...)`: expected a scalar or shape ({functions},), got "
                f"shape {chosen.shape}"
            )
        constructor: Any = equation_cls
        for extreme in (chosen.min(), chosen.max()):
            constructor(extreme)  # raises if the parameter is impossible
        chosen = jnp.broadcast_to(chosen, (functions,))
    return _draw(equation_cls, times, positions, jax.random.split(key, functions), chosen)


@partial(jax.jit, static_argnums=(0, 1, 2))
def _draw(cls: Any, times: int, positions: int, keys: Array, parameters: Array) -> TaskBatch:
    def one(key: Array, value: Array) -> TaskBatch:
        uniform = partial(jax.random.uniform, dtype=value.dtype)
        strata, context_x, target_t, target_x = jax.random.split(key, 4)
        stratified = (jnp.arange(times, dtype=value.dtype) + uniform(strata, (times,))) / times
        context_t = _scaled(stratified, cls.t_bounds)
        context_x = _scaled(jnp.sort(uniform(context_x, (positions,))), cls.x_bounds)
        target_t = _scaled(jnp.sort(uniform(target_t, (times,))), cls.t_bounds)
        target_x = _scaled(jnp.sort(uniform(target_x, (positions,))), cls.x_bounds)
        equation = cls(value)
        context, target = _tensor(context_t, context_x), _tensor(target_t, target_x)
        return TaskBatch(
            context,
            equation.solution(context[:, 0], context[:, 1]),
            target,
            equation.solution(target[:, 0], target[:, 1]),
            value,
            target_t,
            equation.mass(target_t),
        )

    return jax.vmap(one)(keys, parameters)


def _scaled(unit: Array, bounds: tuple[float, float]) -> Array:
    low, high = bounds
    return low + (high - low) * unit


def _tensor(t: Array, x: Array) -> Array:
    return jnp.stack([m.ravel() for m in jnp.meshgrid(t, x, indexing="ij")], axis=-1)
