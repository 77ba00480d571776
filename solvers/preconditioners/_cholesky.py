"""Block incomplete Cholesky: symbolic on the host once, numeric and solves inside `jit`."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsci.errors import lookup
from jaxsci.precision import Policy, all_finite

from ._base import AbstractPreconditioner, dtypes
from ._blocks import BlockMatrix, check_matrix, regular_diagonal
from ._elimination import Elimination, elimination
from ._orders import ORDERS, elimination_order
from ._pattern import check_pattern, fill_pattern, inverse, levels
from ._rounding import block_product, is_narrow, stored_blocks, unit
from ._sweep import Sweep, padded_size, slots_for, sweep


class PRECONDITIONER_RESULTS(eqx.Enumeration):
    """How a factorisation ended."""

    successful = ""
    by_levels = (
        "Jacobi sweeps do not come near the solution of the triangular systems, as on long chains, "
        "so that they are solved level by level. The preconditioner is exact, if slower."
    )
    shifted = (
        "A pivot was not positive definite, so that a multiple of the matrix's diagonal was added "
        "(see `shift`). The preconditioner works, if less well; try more `fill` or another `order`."
    )
    breakdown = (
        "No shift made the pivots positive definite, so that the identity is used instead: the "
        "matrix holds a number that is not finite, or is far from positive semidefinite. Check "
        "the Jacobian and its weights."
    )


class IncompleteCholesky(eqx.Module):
    """Block incomplete Cholesky, IC(`fill`): `H ~ C (I + L) (I + L') C'`, `C` block diagonal.

    Fill is kept where it comes from at most `fill` steps of elimination. A factor that breaks down
    is tried again with a growing multiple of the diagonal of `H` added.

    **Arguments:**

    - `order`: `"rcm"` (reverse Cuthill-McKee: fewest iterations for `fill=0`, but many levels),
        `"amd"` (minimum degree) or `"nested"` (nested dissection: fewest levels; both want
        `fill=1`), `"colour"` (a level per colour, more iterations), `"natural"`.
    - `fill`: the level of fill; 0 keeps the pattern of `H`.
    - `solve`: `"levels"`, exact; or `"sweeps"`, that many Jacobi `sweeps` with all rows at once
        (for accelerators), unless a trial finds that these do not converge (`by_levels`).
    - `vectors`: what a factor stored in 16 bits is multiplied with. `"wide"`: the vector as it is;
        `M` is then symmetric and linear to the rounding of wide numbers, and CG takes as many
        steps as with the wide factor. `"narrow"`: the vector rounded to 16 bits too (scaled to a
        largest entry of 1 before), as a tensor core would have it: a tenth more steps at 1e-6.
    - `width`: rows per step of a solve: small on a CPU, where steps are cheap; large on a GPU.

    **Raises:** `ValueError` for an unknown order, solve or kind of vectors, or for negative or zero
    numbers.

    !!! example
        >>> import jax.numpy as jnp
        >>> import numpy as np
        >>> from jaxsci.solvers.preconditioners import IncompleteCholesky
        >>> from jaxsci.solvers.sparse import BlockSymmetric
        >>> rows, cols = np.array([1, 2]), np.array([0, 1])
        >>> blocks = 2 * jnp.ones((3, 1, 1)), -jnp.ones((2, 1, 1))
        >>> H = BlockSymmetric(*blocks, jnp.asarray(rows), jnp.asarray(cols))
        >>> plan = IncompleteCholesky().plan(rows, cols, 3, 1)
        >>> plan.factor(H).mv(jnp.array([1.0, 0.0, 1.0])).round(3)
        Array([1., 1., 1.], dtype=float32)

    References: Meijerink, van der Vorst, *An Iterative Solution Method for Linear Systems of Which
    the Coefficient Matrix is a Symmetric M-Matrix*, 1977; Manteuffel, *An Incomplete Factorization
    Technique for Positive Definite Linear Systems*, 1980 (shift); Chow, Patel, *Fine-Grained
    Parallel Incomplete LU Factorization*, 2015 (sweeps). Differs from them in: 1. blocks; 2. sweeps
    are tried on a probe at each factorisation.
    """

    order: str = eqx.field(static=True, default="rcm")
    fill: int = eqx.field(static=True, default=0)
    solve: str = eqx.field(static=True, default="levels")
    sweeps: int = eqx.field(static=True, default=4)
    vectors: str = eqx.field(static=True, default="wide")
    width: int = eqx.field(static=True, default=16)

    def __check_init__(self):
        lookup("order", self.order, ORDERS)
        lookup("solve", self.solve, dict.fromkeys(("levels", "sweeps")))
        lookup("vectors", self.vectors, dict.fromkeys(("wide", "narrow")))
        for name, least in (("fill", 0), ("sweeps", 1), ("width", 1)):
            if getattr(self, name) < least:
                raise ValueError(
                    f"`IncompleteCholesky({name}=...)`: expected at least {least}, got "
                    f"{getattr(self, name)}"
                )

    def plan(self, rows: np.ndarray, cols: np.ndarray, N: int, d: int) -> "CholeskyPlan":
        """The symbolic phase, on the host, once per graph.

        **Arguments:** `rows > cols`: the strictly lower blocks of `H`, each once; `N` variables of
        dimension `d`.

        **Raises:** `ValueError` if the pattern is not of that kind.
        """
        rows, cols = np.asarray(rows), np.asarray(cols)
        check_pattern("IncompleteCholesky", rows, cols, N)
        rows, cols = rows.astype(np.int64), cols.astype(np.int64)
        order = elimination_order(self.order, rows, cols, N)
        rank = inverse(order)
        i, j = rank[rows], rank[cols]
        i, j = fill_pattern(np.maximum(i, j), np.minimum(i, j), N, self.fill)
        level, reverse_level = levels(i, j, N), levels(j, i, N)
        slots = slots_for(len(i), N)
        forward, first = sweep(i, j, N, level, self.width, slots)
        backward, second = sweep(j, i, N, reverse_level, self.width, slots)
        # The size of the pattern of H is part of its class; that of the fill is not.
        room = len(rows) if self.fill == 0 else padded_size(len(i))
        steps = elimination((rows, cols), order, i, j, level, self.width, room)
        orders = (order[first], inverse(first)[second], inverse(second)[rank])
        solves = TriangularSolves(
            forward,
            backward,
            *(jnp.asarray(array, jnp.int32) for array in orders),
            sweeps=self.sweeps if self.solve == "sweeps" else 0,
            rounds=self.vectors == "narrow",
        )
        return CholeskyPlan(steps, solves, count=N, dim=d, given=len(rows))


class TriangularSolves(eqx.Module):
    """Two schedules, and the orders into the first, between them, and out of the second."""

    forward: Sweep
    backward: Sweep
    into: Int[Array, " N"]
    between: Int[Array, " N"]
    out: Int[Array, " N"]
    sweeps: int = eqx.field(static=True)
    rounds: bool = eqx.field(static=True)

    def solve(
        self, schedule: Sweep, placed: Array, x: Float[Array, "N d"], sweeping: Array | None
    ) -> Float[Array, "N d"]:
        """One of the two solves, by levels or, where these are found to converge, by sweeps."""
        scale, rounds = None, self.rounds and is_narrow(placed.dtype.name, x.dtype.name)
        if rounds:
            x, scale = unit(x)
        if sweeping is None:
            x = schedule.solve(placed, x, rounds)
        else:
            x = jax.lax.cond(
                sweeping,
                lambda x: schedule.approximate(placed, x, self.sweeps, rounds),
                lambda x: schedule.solve(placed, x, rounds),
                x,
            )
        return x if scale is None else x * scale


class CholeskyPlan(eqx.Module):
    """The symbolic phase of [`jaxsci.solvers.preconditioners.IncompleteCholesky`][].

    Arrays of integers, in padded sizes: graphs of like size share what is compiled.
    """

    elimination: Elimination
    solves: TriangularSolves
    count: int = eqx.field(static=True)
    dim: int = eqx.field(static=True)
    given: int = eqx.field(static=True)

    def factor(
        self,
        H: BlockMatrix,
        *,
        policy: Policy | None = None,
        damping: Float[Array, ""] | float = 0.0,
    ) -> "CholeskyFactor":
        """The numeric phase, `M ~ (H + damping)^-1`, inside `jit`.

        Computed in the dtype of the role `krylov`, stored in that of `precondition`. A variable
        whose block is zero (held) keeps what it is given.

        **Raises:** `ValueError` if `H` does not have the sizes of the plan.
        """
        check_matrix("CholeskyPlan", H, self.count, self.dim, self.given)
        compute, wide, stored = dtypes(policy, H.diagonal.dtype)
        diagonal = regular_diagonal(H.diagonal.astype(compute), damping)
        lower = jax.lax.stop_gradient(H.lower.astype(compute))
        X, L, shift, result = _shifted(self.elimination, diagonal, lower, stored)
        blocks, scale = stored_blocks(X, stored, wide)
        solves, sweeping = self.solves, None
        forward = solves.forward.gather(L, stored)
        if solves.sweeps:
            sweeping = _sweeps_converge(solves.forward, forward, diagonal, solves.sweeps)
            results = PRECONDITIONER_RESULTS
            fine = (result == results.successful) & ~sweeping
            result = results.where(fine, results.by_levels, result)
        return CholeskyFactor(
            solves=solves,
            blocks=blocks,
            scale=scale,
            forward=forward,
            backward=solves.backward.gather(L.swapaxes(1, 2), stored),
            sweeping=sweeping,
            shift=shift,
            result=result,
            size=self.count * self.dim,
            dtype=wide,
        )


class CholeskyFactor(AbstractPreconditioner):
    """`M = C'^-1 (I + L')^-1 (I + L)^-1 C^-1`: two triangular solves, by levels or by sweeps.

    - `sweeping`: whether sweeps were found to converge; `None` if they were not asked for.
    - `shift`: the multiple of the diagonal of `H` that was added; 0 unless a pivot failed.
    - `result`: a member of [`jaxsci.solvers.preconditioners.PRECONDITIONER_RESULTS`][].
    """

    solves: TriangularSolves
    blocks: Float[Array, "N d d"]
    scale: Float[Array, " N"] | None
    forward: Float[Array, "S w d k d"]
    backward: Float[Array, "T w d k d"]
    sweeping: Bool[Array, ""] | None
    shift: Float[Array, ""]
    result: PRECONDITIONER_RESULTS
    size: int = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def mv(self, vector: Float[Array, " n"]) -> Float[Array, " n"]:
        solves, sweeping = self.solves, self.sweeping
        x = vector.astype(self.dtype).reshape(self.blocks.shape[:2])
        x = block_product(self.blocks, x, self.scale)
        x = solves.solve(solves.forward, self.forward, x[solves.into], sweeping)
        x = solves.solve(solves.backward, self.backward, x[solves.between], sweeping)[solves.out]
        return block_product(self.blocks.swapaxes(1, 2), x, self.scale).ravel()


# A larger error on a random vector means that what is far away matters: sweeps would not see it.
_SWEEP_ERROR = 0.3


def _sweeps_converge(schedule: Sweep, placed: Array, diagonal: Array, sweeps: int) -> Array:
    probe = jax.random.normal(jax.random.key(0), diagonal.shape[:2], diagonal.dtype)
    exact = schedule.solve(placed, probe, rounds=False)
    error = jnp.linalg.norm(schedule.approximate(placed, probe, sweeps, rounds=False) - exact)
    return error <= _SWEEP_ERROR * jnp.linalg.norm(exact)


_FIRST_SHIFT, _SHIFT_GROWTH, _TRIES = 1e-3, 4.0, 10


def _shifted(
    program: Elimination, diagonal: Float[Array, "N d d"], lower: Float[Array, "A d d"], stored: str
):
    """The first factor that does not break down, of those with growing shifts."""
    identity = jnp.eye(diagonal.shape[1], dtype=diagonal.dtype)[None]
    # Smaller pivots are rounding errors, or give entries that the stored dtype cannot hold.
    eps = jnp.finfo(diagonal.dtype).eps
    least = max(8 * float(eps), 8 / float(jnp.finfo(stored).max))
    size = jnp.diagonal(diagonal, axis1=1, axis2=2)

    def attempt(state):
        tried, shift = state[0], state[1]
        X, L = program.run(diagonal + shift * identity * diagonal, lower)
        pivots = jnp.diagonal(X, axis1=1, axis2=2) ** 2 * size
        ok = all_finite(X) & all_finite(L) & (pivots * least < 1).all()
        further = jnp.where(shift > 0, shift * _SHIFT_GROWTH, jnp.asarray(_FIRST_SHIFT, size.dtype))
        return tried + 1, jnp.where(ok, shift, further), ok, X, L

    start = (
        jnp.zeros((), jnp.int32),
        jnp.zeros((), size.dtype),
        jnp.zeros((), bool),
        jnp.zeros_like(diagonal),
        jnp.zeros((len(program.entries), *diagonal.shape[1:]), diagonal.dtype),
    )
    _, shift, ok, X, L = jax.lax.while_loop(
        lambda state: ~state[2] & (state[0] < _TRIES), attempt, start
    )
    X = jnp.where(ok, X, jnp.broadcast_to(identity, X.shape))
    L = jnp.where(ok, L, jnp.zeros_like(L))
    results = PRECONDITIONER_RESULTS
    result = results.where(shift > 0, results.shifted, results.successful)
    return X, L, shift, results.where(ok, result, results.breakdown)
