"""What must hold: `G u = b`, exactly or up to Gaussian noise."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
from jax.typing import DTypeLike
from jaxtyping import Array, ArrayLike, Float

from jaxsci.errors import is_concrete, require_finite, require_symmetric
from jaxsci.gaussians import DisjointRows
from jaxsci.precision import compensated_dot


class LinearConstraint(eqx.Module):
    """`G u = b + e` with `e ~ N(0, R)`; `R = None` says that it holds exactly.

    **Arguments:**

    - `G`: a lineax operator from fields `(n,)` to `(k,)`, or an array `(k, n)`, or `(n,)` for one
        row.
    - `b`: shape `(k,)`, or a scalar for one row.
    - `R`: `None` or 0 (exact), a variance for all rows, variances `(k,)`, or a covariance
        `(k, k)`.

    **Raises:** `ValueError` for shapes that do not fit, non-finite numbers, negative variances or
    a row of zeros (values are checked where they are known, i.e. outside `jit`); `TypeError` for
    dtypes that differ.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.conservation import LinearConstraint
        >>> total = LinearConstraint(jnp.ones(4), 1.0)
        >>> total.residual(jnp.array([0.5, 0.5, 0.5, 0.0]))
        Array([0.5], dtype=float32)
    """

    G: lx.AbstractLinearOperator
    b: Float[Array, " k"]
    R: Float[Array, " k"] | Float[Array, "k k"] | None

    def __init__(
        self,
        G: lx.AbstractLinearOperator | ArrayLike,
        b: ArrayLike,
        R: ArrayLike | None = None,
    ):
        if not isinstance(G, lx.AbstractLinearOperator):
            matrix = jnp.asarray(G)
            if matrix.ndim not in (1, 2):
                raise ValueError(
                    "`LinearConstraint(G=...)`: expected an array (k, n), or (n,) for one row, "
                    f"got shape {matrix.shape}"
                )
            require_finite("LinearConstraint", "G", matrix)
            G = lx.MatrixLinearOperator(matrix if matrix.ndim == 2 else matrix[None, :])
        if not all(isinstance(s, jax.ShapeDtypeStruct) and len(s.shape) == 1 for s in _ends(G)):
            raise ValueError(
                "`LinearConstraint(G=...)`: expected an operator from flat fields (n,) to (k,), "
                f"got one from {G.in_structure()} to {G.out_structure()}"
            )
        self.G = G
        dtype = G.out_structure().dtype
        self.b = _rows("b", b, G.out_size(), dtype)
        self.R = _noise(R, G.out_size(), dtype)
        _no_zero_row(G)

    @property
    def rows(self) -> int:
        """The number of scalar constraints, `k`."""
        return self.G.out_size()

    def astype(self, dtype: DTypeLike) -> "LinearConstraint":
        """The same constraint in another floating dtype, e.g. that of a model's predictions."""
        return jax.tree.map(lambda leaf: leaf.astype(dtype), self)

    def residual(self, value: Float[Array, " n"]) -> Float[Array, " k"]:
        """`G u - b`, summed in twice the working precision where the rows are explicit.

        For rows given as weights or as a matrix, cancellation costs nothing; another operator is
        applied as it is, in its own precision.
        """
        return _residual(self.G, self.b, jnp.asarray(value))

    def magnitude(self, value: Float[Array, " n"]) -> Float[Array, " k"]:
        """`sum_i |g_i u_i|`, row by row: the size that rounding errors are measured against."""
        if isinstance(self.G, DisjointRows):
            return self.G.abs_mv(value)
        return jnp.sum(jnp.abs(self.G.as_matrix() * value[None, :]), axis=1)


def stack(*constraints: LinearConstraint) -> LinearConstraint:
    """All of the constraints at once, e.g. two conserved quantities, or mass and a known value.

    Conditioning on the stack is conditioning on each in turn, in any order, with the residuals
    of all at rounding.

    **Raises:** `ValueError` if there are none, or if they act on fields of different sizes.
    """
    if not constraints:
        raise ValueError("`stack(...)`: expected at least one constraint, got none")
    sizes = [c.G.in_size() for c in constraints]
    if len(set(sizes)) > 1:
        raise ValueError(f"`stack(...)`: expected fields of one size, got {sizes}")
    dtypes = [c.b.dtype.name for c in constraints]
    if len(set(dtypes)) > 1:
        raise TypeError(f"`stack(...)`: expected one dtype, got {dtypes}; use `astype`")
    G = jnp.concatenate([c.G.as_matrix() for c in constraints])
    b = jnp.concatenate([c.b for c in constraints])
    noises = [c.R for c in constraints if c.R is not None]
    if not noises:
        return LinearConstraint(G, b)
    if len(noises) == len(constraints) and all(R.ndim == 1 for R in noises):
        return LinearConstraint(G, b, jnp.concatenate(noises))
    # Exact rows among noisy ones: as a matrix, for which dependent exact rows are told apart.
    full = [jnp.zeros_like(c.b) if c.R is None else c.R for c in constraints]
    blocks = [jnp.diag(R) if R.ndim == 1 else R for R in full]
    return LinearConstraint(G, b, jax.scipy.linalg.block_diag(*blocks))


# Compiled as a whole, for callers that are not.
@eqx.filter_jit
def _residual(G: lx.AbstractLinearOperator, b: Array, value: Array) -> Array:
    if isinstance(G, DisjointRows):
        return jax.vmap(compensated_dot)(G.group(G.flat_weights), G.group(value), -b)
    if isinstance(G, lx.MatrixLinearOperator):
        return jax.vmap(compensated_dot, in_axes=(0, None, 0))(G.matrix, value, -b)
    return G.mv(value) - b


def _ends(G: lx.AbstractLinearOperator) -> tuple[object, object]:
    return G.in_structure(), G.out_structure()


def _rows(name: str, values: ArrayLike, k: int, dtype: jnp.dtype) -> Array:
    require_finite("LinearConstraint", name, values)
    array = _cast(name, values, dtype)
    if array.ndim == 0 and k == 1:
        array = array[None]
    if array.shape != (k,):
        raise ValueError(
            f"`LinearConstraint({name}=...)`: expected one number for each of {k} rows, got shape "
            f"{array.shape}"
        )
    return array


def _cast(name: str, values: ArrayLike, dtype: jnp.dtype) -> Array:
    """Python and numpy numbers take the dtype of `G`; a jax array must have it."""
    if isinstance(values, jax.Array) and not values.weak_type and values.dtype != dtype:
        raise TypeError(
            f"`LinearConstraint({name}=...)`: expected {dtype}, as `G`, got {values.dtype}; cast "
            "one of them"
        )
    return jnp.asarray(values, dtype)


def _noise(R: ArrayLike | None, k: int, dtype: jnp.dtype) -> Array | None:
    if R is None:
        return None
    require_finite("LinearConstraint", "R", R)
    array = _cast("R", R, dtype)
    if array.ndim == 0:
        array = jnp.broadcast_to(array, (k,))
    if array.shape not in ((k,), (k, k)):
        raise ValueError(
            f"`LinearConstraint(R=...)`: expected a variance, shape ({k},) or ({k}, {k}), got "
            f"shape {array.shape}"
        )
    if is_concrete(array):
        values = np.asarray(array)
        variances = values if values.ndim == 1 else np.diagonal(values)
        if (variances < 0).any():
            raise ValueError(
                f"`LinearConstraint(R=...)`: expected variances >= 0, got {variances.min()} for "
                f"row {int(variances.argmin())}"
            )
        if values.ndim == 2:
            _covariance(values)
        if not values.any():
            return None
    return array


def _covariance(R: np.ndarray) -> None:
    require_symmetric("LinearConstraint", "R", R)
    slack = 1e3 * float(np.finfo(R.dtype).eps) * float(np.abs(R).max(initial=0))
    if (lowest := float(np.linalg.eigvalsh(R.astype(np.float64)).min())) < -slack:
        raise ValueError(
            "`LinearConstraint(R=...)`: expected a covariance, got a matrix with the negative "
            f"eigenvalue {lowest:.3g}"
        )


def _no_zero_row(G: lx.AbstractLinearOperator) -> None:
    if isinstance(G, DisjointRows):
        size = G.group(jnp.abs(G.flat_weights))
    elif isinstance(G, lx.MatrixLinearOperator):
        size = jnp.abs(G.matrix)
    else:
        return
    if is_concrete(size):
        empty = ~np.asarray(size).any(axis=1)
        if empty.any():
            raise ValueError(
                f"`LinearConstraint(G=...)`: row {int(empty.argmax())} is all zeros, which "
                "constrains nothing; drop it, or check the domain of the integral"
            )
