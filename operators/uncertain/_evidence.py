"""Bayesian linear regression with prior and noise that maximise the evidence."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, PyTree

from jaxsci.precision import matmul

_GRID = 65  # values of the ratio that are tried first
_GOLDEN_STEPS = 40  # each narrows the bracket by 0.62


class Evidence(NamedTuple):
    """What the regression found: the posterior `N(mean, root root')`, and what it rests on."""

    mean: Float[Array, " p"]
    root: Float[Array, "p p"]
    noise_variance: Float[Array, ""]
    prior_precision: Float[Array, ""]
    log_evidence: Float[Array, ""]


def linear_regression(
    rows: Callable[[PyTree], tuple[Array, Array]], data: PyTree, count: int
) -> Evidence:
    """The posterior of `w` in `y = F w + e`, `w ~ N(0, I/a)`, `e ~ N(0, I/b)`, `a`, `b` optimal.

    ```
    F = Q U diag(s) V',   z = U' Q' y,   c = a / b
    m = V (s / (s^2 + c)) z,      cov = V diag(1 / (s^2 + c)) V' / b
    1 / b = (|y|^2 - |z|^2 + sum z^2 c / (s^2 + c)) / count
    ```

    which leaves the evidence as a function of `c` alone: a grid of its logarithm, then a golden
    section around the best. At the ends of the grid the prior says nothing, or all.

    **Arguments:**

    - `rows`: from one entry of `data` to its `F` `(n, p)` and `y` `(n,)`.
    - `data`: a pytree of arrays with a leading axis.
    - `count`: the number of all rows.
    """
    shapes = jax.eval_shape(rows, jax.tree.map(lambda leaf: leaf[0], data))
    p, dtype = shapes[0].shape[1], shapes[0].dtype
    if count <= p:
        raise ValueError(
            f"`fit_last_layer_laplace(outputs=...)`: expected more numbers than the layer has "
            f"weights, got {count} for {p}; pass more functions"
        )

    def add(R: Array, entry: PyTree) -> tuple[Array, None]:
        features, target = rows(entry)
        block = jnp.concatenate([features, target[:, None]], axis=1)
        return jnp.linalg.qr(jnp.concatenate([R, block]), mode="r"), None

    R, _ = lax.scan(add, jnp.zeros((p + 1, p + 1), dtype), data)
    U, s, Vt = jnp.linalg.svd(R[:p, :p])
    z, rest = matmul(U.T, R[:p, p]), R[p, p] ** 2
    tiny = jnp.asarray(jnp.finfo(dtype).tiny, dtype)
    rest = jnp.maximum(rest, jnp.finfo(dtype).eps ** 2 * jnp.sum(z**2) + tiny)
    largest = jnp.maximum(s[0] ** 2, tiny)

    def off(c: Array) -> Array:
        """The misfit that the prior causes, over the misfit without it."""
        return jnp.sum(z**2 * c / (s**2 + c)) / rest

    def gain(log_c: Array) -> Array:
        """The log-evidence, apart from what does not depend on `c`; no large numbers cancel."""
        c = largest * jnp.exp(log_c)
        shrunk = jnp.sum(jnp.log(c / (s**2 + c)))
        return (shrunk - count * jnp.log1p(off(c))) / 2

    bound = -2 * jnp.log(jnp.finfo(dtype).eps)
    grid = jnp.linspace(-bound, bound / 2, _GRID).astype(dtype)
    best = jnp.clip(jnp.argmax(jax.vmap(gain)(grid)), 1, _GRID - 2)
    log_c = _golden(gain, grid[best - 1], grid[best + 1])
    c = largest * jnp.exp(log_c)
    noise = rest * (1 + off(c)) / count
    mean = matmul(Vt.T, s / (s**2 + c) * z)
    root = Vt.T * jnp.sqrt(noise / (s**2 + c))[None, :]
    level = -count / 2 * (jnp.log(2 * jnp.pi * rest / count) + 1)
    return Evidence(mean, root, noise, c / noise, level + gain(log_c))


def _golden(function: Callable[[Array], Any], low: Array, high: Array) -> Array:
    """Where a function of one maximum between two numbers has it."""
    ratio = jnp.asarray((5**0.5 - 1) / 2, low.dtype)

    def narrow(_: Any, ends: tuple[Array, Array]) -> tuple[Array, Array]:
        low, high = ends
        left, right = high - ratio * (high - low), low + ratio * (high - low)
        keep_left = function(left) >= function(right)
        return jnp.where(keep_left, low, left), jnp.where(keep_left, right, high)

    low, high = lax.fori_loop(0, _GOLDEN_STEPS, narrow, (low, high))
    return (low + high) / 2
