"""Gaussian process regression as a surrogate."""

import contextlib
import math
from collections.abc import Callable, Iterator
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.scipy.linalg as jsl
import numpy as np
from jaxtyping import Array, ArrayLike, Float, PRNGKeyArray

from jaxsci.errors import is_concrete, require_finite
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.precision import matmul

from ._gaussian_process_kernels import SeparableKernel
from ._protocol import Task


class GaussianProcess(eqx.Module):
    """Exact Gaussian process regression: the prediction is the posterior of the field.

    With kernel `k`, mean function `m`, contexts `(X, y)` and targets `T`,

    ```
    A      = k(X, X) + diag(noise) + j_X I
    mean   = m(T) + k(T, X) A^-1 (y - m(X))
    cov    = k(T, T) - k(T, X) A^-1 k(X, T) + j_T I
    ```

    for the noise-free field at `T`. The jitter `j = jitter tr(k)` keeps the Cholesky factors
    real in the presence of rounding: `tr(k)` bounds the largest eigenvalue, `eps tr(k)` its
    rounding. One Cholesky factorisation: O(nc^3 + nc nt^2).

    **Arguments:**

    - `kernel`: a `tinygp.kernels.Kernel` (extra `gp`), a
        [`jaxsci.surrogates.SeparableKernel`][], or any callable that takes two sets of points,
        `(n, d)` and `(m, d)`, to their covariance `(n, m)`. Its arrays and Python floats are the
        hyper-parameters.
    - `noise`: variance (not standard deviation) of the context values, in the unit of the field
        squared; scalar or `(nc,)`.
    - `mean`: prior mean: `None` for zero, a number, or a callable of one point `(d,)`.
    - `jitter`: relative jitter; `None` stands for `eps` of the inputs' dtype (4 eps in `A`).

    The dtype of the points decides the dtype of everything; hyper-parameters are cast to it.

    **Raises:** `TypeError` for a kernel or a mean of the wrong kind, `ValueError` for a negative
    noise or jitter.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.surrogates import GaussianProcess, Task, stationary_kernel
        >>> surrogate = GaussianProcess(stationary_kernel("matern52", 0.5), noise=1e-4)
        >>> x = jnp.linspace(0.0, 1.0, 5)[:, None]
        >>> prediction = surrogate(Task(x, jnp.sin(x[:, 0]), x))
        >>> bool(jnp.abs(prediction.mean - jnp.sin(x[:, 0])).max() < 1e-2)
        True

    Reference: Rasmussen and Williams, *Gaussian Processes for Machine Learning*, 2006, ch. 2.
    """

    kernel: Any
    noise: Float[Array, "..."]
    mean: Any
    jitter: float | None = eqx.field(static=True)

    def __init__(
        self,
        kernel: Callable[[Array, Array], Array],
        *,
        noise: ArrayLike = 0.0,
        mean: ArrayLike | Callable[[Array], Array] | None = None,
        jitter: float | None = None,
    ):
        if not callable(kernel):
            raise TypeError(
                "`GaussianProcess(kernel=...)`: expected a callable of two sets of points, got "
                f"{type(kernel).__name__}; pass e.g. `stationary_kernel('matern52', 0.1)`"
            )
        variance = jnp.asarray(noise, None if _is_float(noise) else float)
        if variance.ndim > 1:
            raise ValueError(
                "`GaussianProcess(noise=...)`: expected a scalar or shape (nc,), got "
                f"{variance.shape}"
            )
        require_finite("GaussianProcess", "noise", variance)
        if is_concrete(variance) and (np.asarray(variance) < 0).any():
            raise ValueError(
                "`GaussianProcess(noise=...)`: expected a variance >= 0, got "
                f"{np.asarray(variance).min()}"
            )
        if not (mean is None or callable(mean)):
            mean = jnp.asarray(mean, None if _is_float(mean) else float)
            if mean.ndim:
                raise ValueError(
                    "`GaussianProcess(mean=...)`: expected None, a number or a callable of one "
                    f"point, got an array of shape {mean.shape}"
                )
        if jitter is not None and not 0 <= jitter < 1:
            raise ValueError(
                f"`GaussianProcess(jitter=...)`: expected None or a number in [0, 1), got {jitter}"
            )
        self.kernel = jax.tree.map(_as_parameter, kernel)
        self.noise = _as_parameter(variance)
        self.mean = jax.tree.map(_as_parameter, mean)
        self.jitter = jitter

    def __call__(self, task: Task, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The posterior of the field at the targets, with a dense covariance.

        **Arguments:**

        - `task`: contexts `(nc, d)`, `(nc,)` and targets `(nt, d)`; `nc = 0` gives the prior.
        - `key`: not used; the prediction is deterministic.

        **Returns:** a [`jaxsci.gaussians.Gaussian`][] of size `nt`.

        **Raises:** `ValueError` or `TypeError` if shapes or dtypes of the task do not fit, or
        (outside `jit`) if a number is not finite or the context covariance is singular.
        """
        del key
        task = _checked("GaussianProcess", task)
        this = self._cast(task.target_points.dtype)
        x, t = task.context_points, task.target_points
        factor, residual = this._context(task)
        across = _covariance(this.kernel, x, t)
        white = jsl.solve_triangular(factor, across, lower=True)
        mean = this._mean_at(t) + matmul(
            white.T, jsl.solve_triangular(factor, residual, lower=True)
        )
        prior = _covariance(this.kernel, t, t)
        cov = _symmetric(prior - matmul(white.T, white))
        return Gaussian.dense(mean, _add_to_diagonal(cov, this._jitter(prior, 1)))

    def log_marginal_likelihood(self, task: Task) -> Float[Array, ""]:
        """`log N(y; m(X), A)`, the log-evidence of the context values; -inf if `A` is singular."""
        task = _checked("GaussianProcess.log_marginal_likelihood", task)
        this = self._cast(task.context_points.dtype)
        factor, residual = this._context(task, strict=False)
        white = jsl.solve_triangular(factor, residual, lower=True)
        log_det = 2 * jnp.sum(jnp.log(jnp.diagonal(factor)))
        value = -(white @ white + log_det + white.size * math.log(2 * math.pi)) / 2
        return jnp.where(jnp.isfinite(value), value, -jnp.inf)

    def prior(self, where: Grid | Float[Array, "n d"]) -> Gaussian:
        """The prior of the field on a grid or at points.

        On a [`jaxsci.grids.Grid`][] a [`jaxsci.surrogates.SeparableKernel`][] gives a Kronecker
        covariance: O(sum n_i^2) memory in place of O(prod n_i^2). Any other kernel, and points
        given one by one, give a dense covariance. Each covariance matrix (each factor of a
        Kronecker one) has the jitter on its diagonal.

        **Arguments:** `where`: a grid, whose axes are the coordinates in order, or `(n, d)`.

        **Returns:** a [`jaxsci.gaussians.Gaussian`][] of size `n`.
        """
        points = where.points() if isinstance(where, Grid) else jnp.asarray(where)
        if points.ndim != 2 or not jnp.issubdtype(points.dtype, jnp.floating):
            raise ValueError(
                "`GaussianProcess.prior(where)`: expected a grid or floats of shape (n, d), got "
                f"{points.dtype} of shape {points.shape}"
            )
        this = self._cast(points.dtype)
        if isinstance(where, Grid) and isinstance(this.kernel, SeparableKernel):
            with _lenient():
                factors = this.kernel.factors([axis.points for axis in where.axes])
            factors = [_symmetric(f.astype(points.dtype)) for f in factors]
            factors = [_add_to_diagonal(f, this._jitter(f, 1)) for f in factors]
            return Gaussian.kronecker(this._mean_at(points), *factors)
        cov = _symmetric(_covariance(this.kernel, points, points))
        return Gaussian.dense(this._mean_at(points), _add_to_diagonal(cov, this._jitter(cov, 1)))

    def _cast(self, dtype: Any) -> "GaussianProcess":
        return jax.tree.map(lambda x: x.astype(dtype) if eqx.is_inexact_array(x) else x, self)

    def _mean_at(self, points: Float[Array, "n d"]) -> Float[Array, " n"]:
        if self.mean is None:
            return jnp.zeros(points.shape[0], points.dtype)
        if not callable(self.mean):
            return jnp.broadcast_to(self.mean, points.shape[:1])
        values = jnp.asarray(jax.vmap(self.mean)(points))
        if values.shape != points.shape[:1]:
            raise ValueError(
                "`GaussianProcess(mean=...)`: expected a callable of one point that returns a "
                f"scalar, got shape {values.shape[1:]}"
            )
        return values.astype(points.dtype)

    def _jitter(self, cov: Float[Array, "n n"], times: int) -> Float[Array, ""]:
        relative = float(jnp.finfo(cov.dtype).eps) if self.jitter is None else self.jitter
        return times * relative * jnp.trace(cov)

    def _context(self, task: Task, strict: bool = True) -> tuple[Array, Array]:
        """The Cholesky factor of `A`, and `y - m(X)`."""
        x, y = task.context_points, task.context_values
        if self.noise.ndim and self.noise.shape != y.shape:
            raise ValueError(
                f"`GaussianProcess(noise=...)`: expected a scalar or shape {y.shape}, one variance "
                f"per context value, got {self.noise.shape}"
            )
        prior = _covariance(self.kernel, x, x)
        added = self.noise + self._jitter(prior, 4 if self.jitter is None else 1)
        factor = jnp.linalg.cholesky(_add_to_diagonal(_symmetric(prior), added))
        if strict and is_concrete(factor) and not np.isfinite(np.asarray(factor)).all():
            raise ValueError(
                "`GaussianProcess(...)`: expected a positive definite covariance of the context "
                "points, got one that is singular to rounding; raise `noise` or `jitter`, or use "
                "float64"
            )
        return factor, y - self._mean_at(x)


def _covariance(kernel: Any, a: Float[Array, "n d"], b: Float[Array, "m d"]) -> Array:
    with _lenient():
        matrix = kernel(a, b)
    if matrix.shape != (a.shape[0], b.shape[0]):
        raise ValueError(
            "`GaussianProcess(kernel=...)`: expected a kernel that returns shape "
            f"{(a.shape[0], b.shape[0])} for points {a.shape} and {b.shape}, got {matrix.shape}"
        )
    return matrix.astype(a.dtype)


@contextlib.contextmanager
def _lenient() -> Iterator[None]:
    """Third-party kernels mix numpy scalars in: they run under JAX's ordinary promotion rules."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _symmetric(matrix: Float[Array, "n n"]) -> Float[Array, "n n"]:
    return (matrix + matrix.T) / 2


def _add_to_diagonal(matrix: Float[Array, "n n"], values: Array) -> Float[Array, "n n"]:
    return matrix + jnp.diag(jnp.broadcast_to(values, matrix.shape[:1]))


def _as_parameter(leaf: Any) -> Any:
    """Python floats and numpy arrays become JAX arrays, so that they count as parameters."""
    if isinstance(leaf, float | np.ndarray | np.floating) or eqx.is_inexact_array(leaf):
        # With the dtype stated, an array is not weakly typed, and a fit does not compile twice.
        return jnp.asarray(leaf, jnp.result_type(leaf))
    return leaf


def _is_float(value: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(value), jnp.floating)


def _checked(where: str, task: Task) -> Task:
    task = jax.tree.map(jnp.asarray, task)
    if task.context_values.ndim != 1:
        raise ValueError(
            f"`{where}(task)`: expected one task, context_values of shape (nc,), got "
            f"{task.context_values.shape}; `jax.vmap` over a batch"
        )
    for name in ("context_points", "context_values", "target_points"):
        array, dtype = getattr(task, name), task.target_points.dtype
        if not jnp.issubdtype(array.dtype, jnp.floating) or array.dtype != dtype:
            raise TypeError(
                f"`{where}(task)`: expected one floating dtype for the whole task, got "
                f"{name} {array.dtype} and target_points {dtype}"
            )
        require_finite(where, f"task.{name}", array)
    return task
