"""A multivariate Gaussian over the points of a field."""

import equinox as eqx
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.core import Tracer
from jaxtyping import Array, ArrayLike, Float, Int, PRNGKeyArray

from jaxsci.errors import is_concrete, require_finite, require_symmetric
from jaxsci.precision import safe_sqrt

from ._density import log_density
from ._kronecker import Kronecker
from ._low_rank import LowRank
from ._restrict import checked_indices, restrict
from ._sample import draws
from ._scale import scale


class Gaussian(eqx.Module):
    """`N(mean, cov)` over `n` points, with a covariance that keeps its structure.

    One Gaussian is one flat field; a batch is made, as everything in JAX, by `vmap`:
    `jax.vmap(Gaussian.diagonal)(means, variances)`.

    | made by | covariance | storage |
    |---|---|---|
    | `Gaussian.diagonal` | `diag(v)` | O(n) |
    | `Gaussian.low_rank` | `diag(d) + U U'` | O(n r) |
    | `Gaussian.from_samples` | that of M samples, plus `diag(d)` | O(n M) |
    | `Gaussian.kronecker` | `K_1 x K_2 x ...` | O(sum of n_i^2) |
    | `Gaussian.dense` | any | O(n^2) |
    | [`condition`][jaxsci.conservation.condition] | any of these, minus a low-rank one | + O(n k) |

    **Arguments:**

    - `mean`: shape `(n,)`, float32 or float64, in the unit of the field.
    - `cov`: a square lineax operator of size `n`, symmetric positive semidefinite, in the unit of
        the field squared.

    **Raises:** `ValueError` if the shapes do not fit, `TypeError` if the dtypes differ or are not
    floating.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.gaussians import Gaussian
        >>> gaussian = Gaussian.diagonal(jnp.zeros(3), jnp.array([1.0, 4.0, 9.0]))
        >>> gaussian.marginal_std
        Array([1., 2., 3.], dtype=float32)
    """

    mean: Float[Array, " n"]
    cov: lx.AbstractLinearOperator

    def __check_init__(self):
        mean, cov = self.mean, self.cov
        if not isinstance(cov, lx.AbstractLinearOperator):
            raise TypeError(
                f"`Gaussian(cov=...)`: expected a lineax operator, got {type(cov).__name__}; "
                "`Gaussian.diagonal` and `Gaussian.dense` take arrays"
            )
        if mean.ndim != 1:
            raise ValueError(
                f"`Gaussian(mean=...)`: expected shape (n,), got {mean.shape}; flatten the field, "
                "or `jax.vmap` over a batch"
            )
        if not jnp.issubdtype(mean.dtype, jnp.floating):
            raise TypeError(f"`Gaussian(mean=...)`: expected real floats, got {mean.dtype}")
        for structure in (cov.in_structure(), cov.out_structure()):
            if structure.shape != mean.shape:
                raise ValueError(
                    f"`Gaussian(cov=...)`: expected an operator of size {mean.size}, as the mean, "
                    f"got {cov.out_size()} x {cov.in_size()}"
                )
            if structure.dtype != mean.dtype:
                raise TypeError(
                    f"`Gaussian(mean, cov)`: expected one dtype, got mean {mean.dtype} and cov "
                    f"{structure.dtype}"
                )

    @classmethod
    def diagonal(cls, mean: ArrayLike, variance: ArrayLike) -> "Gaussian":
        """Independent points with the given variances (not standard deviations).

        **Arguments:** `mean`, `variance`: shape `(n,)`; the variance is nonnegative.

        **Raises:** `ValueError` for shapes that differ, non-finite numbers or negative variances
        (checked where values are known, i.e. outside `jit`).
        """
        mean, variance = _array("mean", mean), _array("variance", variance)
        _nonnegative("diagonal", "variance", variance)
        return cls(mean, lx.DiagonalLinearOperator(variance))

    @classmethod
    def low_rank(cls, mean: ArrayLike, diagonal: ArrayLike, factor: ArrayLike) -> "Gaussian":
        """Covariance `diag(diagonal) + factor factor'`.

        **Arguments:** `mean`, `diagonal`: shape `(n,)`; `factor`: shape `(n, r)`.

        **Raises:** as [`diagonal`][jaxsci.gaussians.Gaussian.diagonal].
        """
        mean, diag, factor = (
            _array("mean", mean),
            _array("diagonal", diagonal),
            _array("factor", factor),
        )
        _nonnegative("low_rank", "diagonal", diag)
        return cls(mean, LowRank(diag, factor))

    @classmethod
    def from_samples(cls, samples: ArrayLike, diagonal: ArrayLike | None = None) -> "Gaussian":
        """Mean and (unbiased) covariance of samples, kept as a low-rank factor.

        **Arguments:**

        - `samples`: shape `(M, n)`, `M >= 2` draws or ensemble members.
        - `diagonal`: shape `(n,)`, variance to add to each point, e.g. the members' own noise;
            0 by default, which leaves a covariance of rank `M - 1`.

        **Raises:** `ValueError` for fewer than two samples.
        """
        samples = _array("samples", samples)
        if samples.ndim != 2 or samples.shape[0] < 2:
            raise ValueError(
                "`Gaussian.from_samples(samples)`: expected shape (M, n) with M >= 2, got "
                f"{samples.shape}"
            )
        # Relative to the first, so that where all samples are equal (at a wall), so is the mean.
        mean = samples[0] + jnp.mean(samples - samples[:1], axis=0)
        factor = (samples - mean[None, :]).T / jnp.sqrt(
            jnp.asarray(len(samples) - 1, samples.dtype)
        )
        diag = jnp.zeros_like(mean) if diagonal is None else _array("diagonal", diagonal)
        _nonnegative("from_samples", "diagonal", diag)
        return cls(mean, LowRank(diag, factor))

    @classmethod
    def dense(cls, mean: ArrayLike, cov: ArrayLike) -> "Gaussian":
        """Any covariance matrix.

        **Arguments:** `mean`: shape `(n,)`; `cov`: shape `(n, n)`, symmetric.

        **Raises:** `ValueError` if the matrix is not finite or not symmetric to rounding (checked
        where values are known).
        """
        mean, matrix = _array("mean", mean), _array("cov", cov)
        require_finite("Gaussian.dense", "cov", matrix)
        if matrix.ndim != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(
                f"`Gaussian.dense(cov=...)`: expected a square matrix, got shape {matrix.shape}"
            )
        require_symmetric("Gaussian.dense", "cov", matrix)
        return cls(mean, lx.MatrixLinearOperator(matrix, lx.positive_semidefinite_tag))

    @classmethod
    def kronecker(cls, mean: ArrayLike, *factors: ArrayLike) -> "Gaussian":
        """Covariance `K_1 x K_2 x ...`, one factor per axis of the grid in C order.

        **Arguments:** `mean`: shape `(n,)`; `factors`: shapes `(n_i, n_i)`, product of sizes `n`.
        """
        return cls(_array("mean", mean), Kronecker(*(_array("factors", f) for f in factors)))

    @property
    def size(self) -> int:
        """The number of points."""
        return self.mean.shape[-1]

    @property
    def marginal_var(self) -> Float[Array, " n"]:
        """The variance of each point."""
        self._require_single("marginal_var")
        return _variances(self.cov)

    @property
    def marginal_std(self) -> Float[Array, " n"]:
        """The standard deviation of each point; its derivative is 0, not infinite, at 0."""
        return safe_sqrt(self.marginal_var)

    def log_prob(self, value: Float[Array, " n"]) -> Float[Array, ""]:
        """The joint log-density at `value`.

        Where observations were exact (a conserved total, a point of variance 0) the covariance is
        singular: the density is then the one on the subspace that satisfies them, with respect
        to its own Lebesgue measure, and `-inf` at a `value` off it. It is NaN for a covariance
        that is singular in another way (a dense matrix or low-rank factor without full rank).
        """
        self._require_single("log_prob")
        if value.shape != self.mean.shape:
            raise ValueError(
                f"`log_prob(value)`: expected shape {self.mean.shape}, got {value.shape}"
            )
        return log_density(self.cov, self.mean, value)

    def sample(self, key: PRNGKeyArray, shape: tuple[int, ...] = ()) -> Float[Array, "*shape n"]:
        """Independent draws from the joint distribution.

        **Arguments:** `key`: a JAX random key; `shape`: how many, `()` for one.

        **Returns:** shape `(*shape, n)`.
        """
        self._require_single("sample")
        noise = draws(self.cov, key, shape)
        return noise + jnp.broadcast_to(self.mean, noise.shape)

    def marginal(self, indices: Int[np.ndarray, " m"] | Array) -> "Gaussian":
        """The Gaussian of some of the points, in the structure of the whole.

        A diagonal covariance stays diagonal, low rank stays low rank, and a conditioned diagonal
        one stays diagonal minus low rank; a Kronecker, or otherwise conditioned, covariance
        becomes a dense `m x m` one.

        **Arguments:** `indices`: `m` different integers, or a mask of shape `(n,)`; concrete.

        **Raises:** `ValueError` for an index out of range, a repeated one, or a mask of the wrong
        shape.
        """
        if isinstance(indices, Tracer):
            raise TypeError(
                "`marginal(indices)`: expected known integers, got a traced array; pass a numpy "
                "array, or mark the argument static"
            )
        self._require_single("marginal")
        at = checked_indices(indices, self.size)
        return Gaussian(self.mean[at], restrict(self.cov, at))  # pyright: ignore[reportArgumentType]

    def scale_cov(self, factor: ArrayLike) -> "Gaussian":
        """`N(mean, factor cov)`, in the structure of the whole.

        Of a conditioned Gaussian too: what was exact (`G cov G' = 0`) stays exact.

        **Arguments:** `factor`: a positive scalar, of variances; for standard deviations its root.

        **Raises:** `ValueError` if `factor` is no scalar, or (outside `jit`) not positive and
        finite.

        !!! example
            >>> import jax.numpy as jnp
            >>> from jaxsci.gaussians import Gaussian
            >>> wider = Gaussian.diagonal(jnp.zeros(2), jnp.array([1.0, 4.0])).scale_cov(9.0)
            >>> wider.marginal_std
            Array([3., 6.], dtype=float32)
        """
        self._require_single("scale_cov")
        factor = jnp.asarray(factor, self.mean.dtype)
        if factor.ndim:
            raise ValueError(
                f"`Gaussian.scale_cov(factor)`: expected a scalar, got shape {factor.shape}"
            )
        if is_concrete(factor) and not (np.isfinite(factor) and factor > 0):
            raise ValueError(
                f"`Gaussian.scale_cov(factor)`: expected a positive finite number, got {factor}"
            )
        return Gaussian(self.mean, scale(self.cov, factor))  # pyright: ignore[reportArgumentType]

    def _require_single(self, what: str) -> None:
        """The answers of a batch that `vmap` made would be wrong, not merely of another shape."""
        if self.mean.ndim != 1:
            raise ValueError(
                f"`Gaussian.{what}`: expected one Gaussian, mean of shape (n,), got a batch, "
                f"{self.mean.shape}; use `jax.vmap(lambda gaussian: gaussian.{what}...)(batch)`"
            )


# Compiled as a whole, for callers that are not.
@eqx.filter_jit
def _variances(cov: lx.AbstractLinearOperator) -> Array:
    return lx.diagonal(cov)


def _array(name: str, values: ArrayLike) -> Array:
    array = jnp.asarray(values)
    require_finite("Gaussian", name, array)
    return array


def _nonnegative(where: str, name: str, values: Array) -> None:
    if is_concrete(values) and (np.asarray(values) < 0).any():
        i = int(np.argmin(np.asarray(values)))
        raise ValueError(
            f"`Gaussian.{where}({name}=...)`: expected variances >= 0, got {float(values[i])} at "
            f"index {i}"
        )
