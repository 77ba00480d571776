"""One residual function of all variables, whose Jacobian is sparse, as factors of one row each."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import scipy.sparse as sp
from jaxtyping import Array, Bool, Float, Int, PyTree

from jaxsci.errors import is_concrete
from jaxsci.solvers.sparse import colour_columns, detect_sparsity

from ._kernel import AbstractKernel
from ._manifold import AbstractManifold, retract


class SparseResidual(eqx.Module):
    """A residual function of a whole variable group, each row of which depends on a few variables.

    What a discretised equation is, or a smoothness prior: `r(x, measurement)` for all points at
    once, as for `optimistix.least_squares`. Its rows count as factors of one number each. The
    Jacobian takes as many forward derivatives as its pattern has colours, whatever its size.

    **Arguments:**

    - `residual`: `r(points, measurement)`, from `(N, ambient)` to an array of `m` numbers, of any
        shape; the rows are in C order.
    - `variable`: the name of the variable group.
    - `at`: points at which the pattern is found and shapes are checked, `(N, ambient)`, e.g. the
        start.
    - `measurement`: any pytree of arrays, or `None`; handed to `residual` as it is.
    - `sqrt_information`: the weight of each row, `(m,)`; `None` for 1.
    - `kernel`: as of [`jaxsci.solvers.nonlinear.Factors`][], row by row.
    - `dim`: of a step of the variables; that of a point by default.
    - `sparsity`: a scipy sparse matrix, `(m, N)`, of which row depends on which variable; or
        `"detect"`: by one derivative per number of `at`. What a `where` does not choose there is
        not found, and an entry outside the pattern is not noticed.

    **Raises:** `ValueError` for a pattern or weights whose shape does not fit, or inside `jit`,
    where the pattern cannot be found.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.solvers.nonlinear import Euclidean, Problem, SparseResidual, Variables
        >>> from jaxsci.solvers.nonlinear import minimise
        >>> def smooth(x, data):
        ...     return jnp.concatenate([jnp.diff(x[:, 0]), x[:, 0] - data])
        >>> x0 = jnp.zeros((3, 1))
        >>> residual = SparseResidual(smooth, "x", x0, jnp.array([0.0, 4.0, 0.0]))
        >>> problem = Problem({"x": Variables(Euclidean(1), 3)}, [residual])
        >>> minimise(problem, {"x": x0}, linear="cholesky").values["x"].ravel().round(3)
        Array([1., 2., 1.], dtype=float32)
    """

    residual: Callable[[Array, Any], Array]
    variables: tuple[str, ...] = eqx.field(static=True)
    indices: Int[Array, "rows slots"]
    present: Bool[Array, "rows slots"]
    colours: Int[Array, " columns"]
    number: int = eqx.field(static=True)
    measurement: PyTree
    sqrt_information: Float[Array, " rows"] | None
    kernel: AbstractKernel | None
    jacobian_at_zero: None

    def __init__(
        self,
        residual: Callable[[Array, Any], Array],
        variable: str,
        at: Float[Array, "N ambient"],
        measurement: PyTree = None,
        sqrt_information: Any = None,
        kernel: AbstractKernel | None = None,
        *,
        dim: int | None = None,
        sparsity: Any | Literal["detect"] = "detect",
    ):
        at = jnp.asarray(at)
        if at.ndim != 2:
            raise ValueError(
                f"`SparseResidual(at=...)`: expected points (N, ambient), got shape {at.shape}"
            )
        self.residual = residual
        self.measurement = jax.tree.map(jnp.asarray, measurement)
        size = jax.eval_shape(residual, at, self.measurement).size
        self.sqrt_information = None
        if sqrt_information is not None:
            self.sqrt_information = jnp.asarray(sqrt_information)
            if self.sqrt_information.shape != (size,):
                raise ValueError(
                    f"`SparseResidual(sqrt_information=...)`: expected shape ({size},), one "
                    f"weight for each row, got {self.sqrt_information.shape}"
                )
        self.kernel = kernel
        self.jacobian_at_zero = None
        rows, touched = _pattern(residual, at, self.measurement, size, sparsity)
        slots = max(1, int(np.bincount(rows, minlength=1).max(initial=0)))
        first = np.searchsorted(rows, np.arange(size))
        slot = np.arange(len(rows)) - first[rows]
        indices = np.zeros((size, slots), np.int32)
        present = np.zeros((size, slots), bool)
        indices[rows, slot], present[rows, slot] = touched, True
        # A slot that a row does not need repeats its first variable, with a derivative of zero.
        indices = np.where(present, indices, indices[:, :1])
        self.variables = (variable,) * slots
        self.indices, self.present = jnp.asarray(indices), jnp.asarray(present)
        steps = at.shape[1] if dim is None else dim
        ones = sp.coo_matrix((np.ones(len(rows)), (rows, touched)), shape=(size, len(at)))
        colouring = colour_columns(sp.csr_matrix(sp.kron(ones, np.ones((1, steps)))))
        self.colours, self.number = colouring.colours, colouring.number

    @property
    def count(self) -> int:
        """How many rows there are."""
        return self.indices.shape[0]

    def rows(self, points: Array, measurement: PyTree) -> Array:
        """The residuals as factors of one number each, `(m, 1)`."""
        return self.residual(points, measurement).reshape(-1, 1)

    def blocks(
        self, manifold: AbstractManifold, points: Array, measurement: PyTree
    ) -> Sequence[Array]:
        """The derivatives `(m, 1, dim)` along steps of each slot."""
        count, dim = len(points), manifold.dim
        if len(self.colours) != count * dim:
            raise ValueError(
                f"`SparseResidual(dim=...)`: expected {dim}, the dimension of a step of the "
                f"variables, got {len(self.colours) // count}"
            )

        def moved(delta):
            return self.rows(retract(manifold, points, delta.reshape(count, dim)), measurement)

        _, push = jax.linearize(moved, jnp.zeros((count * dim,), points.dtype))
        numbers = jnp.arange(self.number, dtype=self.colours.dtype)
        compressed = jax.vmap(
            lambda number: push((self.colours == number).astype(points.dtype))[:, 0]
        )(numbers)
        colours = self.colours.reshape(count, dim)
        row = jnp.arange(self.count, dtype=self.indices.dtype)[:, None]
        return tuple(
            jnp.where(present[:, None], compressed[colours[index], row], 0)[:, None, :]
            for index, present in zip(self.indices.T, self.present.T, strict=True)
        )


def _pattern(
    residual: Callable, at: Array, measurement: PyTree, size: int, sparsity: Any
) -> tuple[np.ndarray, np.ndarray]:
    """Row and variable of each entry, sorted by row."""
    count, ambient = at.shape
    if isinstance(sparsity, str):
        if sparsity != "detect":
            raise ValueError(
                "`SparseResidual(sparsity=...)`: expected 'detect' or a scipy sparse matrix, got "
                f"{sparsity!r}"
            )
        if not is_concrete(at, measurement):
            raise ValueError(
                "`SparseResidual(sparsity='detect')` works on the host: make it outside `jit`, and "
                "put another measurement into it there by `equinox.tree_at`"
            )
        entries = detect_sparsity(lambda x: residual(x, measurement), at).tocoo()
        rows, variables = entries.row, entries.col // ambient
    else:
        if not sp.issparse(sparsity) or sparsity.shape != (size, count):
            raise ValueError(
                "`SparseResidual(sparsity=...)`: expected a scipy sparse matrix of shape "
                f"({size}, {count}), rows by variables, got {type(sparsity).__name__} of shape "
                f"{np.shape(sparsity)}"
            )
        entries = sp.coo_matrix(sparsity)
        rows, variables = entries.row, entries.col
    keys = np.unique(rows.astype(np.int64) * count + variables)
    return keys // count, keys % count
