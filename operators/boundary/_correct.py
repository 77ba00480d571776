"""Linear layers whose output obeys boundary conditions: kernel corrections `T1 K T2`."""

from collections.abc import Callable
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.errors import lookup, require_finite

from ._blocks import AbstractEndLayer, add_at, take
from ._boundary import BoundaryConditions, FaceName, Values, functional
from ._conditions import Periodic
from ._enforce import check_field, enforce_resolved
from ._layers import DenseLayer, as_end_layer
from ._regularised import regularised_solve
from ._stencils import SIDES

Correction = Literal["boon", "exact", "consistent", "t1"]
"""The methods of [`jaxsci.operators.boundary.correct`][]."""
METHODS: dict[str, None] = dict.fromkeys(("boon", "exact", "consistent", "t1"))


def correct(
    layer: Callable[[Array], Array] | Array | np.ndarray,
    conditions: BoundaryConditions,
    method: Correction = "boon",
    *,
    tikhonov: float | None = None,
) -> "CorrectedLayer":
    """The linear layer `K` with its kernel corrected so that its output obeys the conditions.

    `K~ = T1 K T2`: `T2` changes the boundary points of the input, `T1` sets those of the output, as
    [`jaxsci.operators.boundary.enforce`][] does. With `b` for the boundary points of an axis,
    `K_bb` for the blocks between them and `K_bb^+` for their regularised inverse:

    - `"boon"`: the published elimination, `z_b = x_b + K_bb^+ (K_bb x_b - (K x)_b)`
        (`2 x_0 - K_00^-1 (K x)_0` for an invertible block), for each face on its own: `K_bb` is
        the `C x C` block that mixes the channels at the point. Interior rows become
        `K_ij - K_i0 K_00^-1 K_0j`. A layer with one face has `(K z)_0 = K_00 x_0`, which depends
        on the boundary only; of two, each disturbs what the other achieved.
    - `"exact"`: the same for both faces of an axis at once: the blocks are `2C x 2C`, and
        `(K z)_b = K_bb x_b` on both. On a circle without padding they are neighbours, and the
        blocks ill conditioned.
    - `"consistent"`: `z_b = x_b + (B K)_b^+ (g - B (K x + bias))`, with which the unmodified
        layer obeys the condition `B y = g` by itself (a value, a stencil, a jump of 0 between
        periodic ends): no jump at the wall, and `T1` removes rounding only.
    - `"t1"`: `T2 = I`.

    Periodic axes have `T2 = I` in the first two. With conditions on several axes, `T2` is made axis
    by axis. For a face with `M` points, the blocks of a dense matrix or a callable couple these,
    so that they are `M` times as large; layers that act on transverse modes one by one, as
    spectral ones do, have a small block for each mode.

    **Arguments:**

    - `layer`: anything linear (or affine: the bias takes no part in `K`) from `(C_in, N_1, ...)`
        to `(C_out, N_1, ...)`: a matrix `(C_out, N_1, ..., C_in, N_1, ...)` (also `(N, N)`), a
        [`jaxsci.operators.spectral.SpectralConv`][], a convolution, any callable. Blocks of a
        callable are found by one vmapped probe, an evaluation for each channel and boundary point
        of the axis, at each call; those of a matrix are read off, and those of a spectral layer are
        sums over its retained modes, with no evaluation (but in
        [`jaxsci.operators.spectral.ExtendedFourier`][], whose modes it couples: it is probed).
    - `conditions`: numbers in it become constants; what is learned is passed at the call.
    - `method`: one of the above.
    - `tikhonov`: `K^+ = K' (K K' + eps^2 I)^-1` with `eps = tikhonov` times the largest Frobenius
        norm among the blocks; by default the square root of the machine epsilon. Where `K_bb` is
        nearly singular, `z` stays finite and tends to `x`, and the elimination is not complete;
        the condition holds all the same.

    **Returns:** a [`jaxsci.operators.boundary.CorrectedLayer`][].

    **Raises:** `ValueError` for an unknown method, a matrix of a wrong shape or a negative
    `tikhonov`; `TypeError` for a layer that cannot be called.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, correct
        >>> K = jnp.array([[2.0, 1.0, 0.0], [1.0, 2.0, 1.0], [0.0, 1.0, 2.0]])
        >>> wall = BoundaryConditions("x", {("x", "low"): Dirichlet(5.0)})
        >>> print(correct(K, wall)(jnp.ones((1, 3))))
        [[5.  3.5 3. ]]

    Reference: Saad, Gupta, Alizadeh, Maddix, *Guiding continuous operator learning through
    physics-based boundary constraints*, ICLR 2023. `"boon"` differs from the published code in: 1.
    `K_00` is the block of all channels, not a number read from channel 0 with all channels probed
    at once; 2. the
    inverse is regularised, instead of small entries overwritten with a tolerance that loses their
    sign; 3. the right-hand face of 2-D and 3-D fields uses its own blocks, not those of index 0; 4.
    no mollifier is applied to 2-D outputs; 5. Neumann outputs are not halved; 6. both sides have
    stencils of the same order, any from 1 to 4 (the published left one is of the first); 7. Neumann
    in 3-D, Robin, and different conditions on the faces of one field are there; 8. a face with
    several points is eliminated with the block that couples them, not with a single number.

    Limits: after `T2` of one axis, that of the next disturbs what the first achieved (C).
    """
    lookup("method", method, METHODS)
    if tikhonov is not None and not (isinstance(tikhonov, int | float) and 0 <= tikhonov < np.inf):
        raise ValueError(f"`correct(tikhonov=...)`: expected a number >= 0, got {tikhonov!r}")
    if not isinstance(conditions, BoundaryConditions):
        raise TypeError(
            "`correct(conditions=...)`: expected BoundaryConditions, which name the axes, got "
            f"{type(conditions).__name__}"
        )
    if eqx.is_array(layer):
        layer = DenseLayer(layer)  # pyright: ignore[reportArgumentType]
    if not callable(layer) and not isinstance(layer, AbstractEndLayer):
        raise TypeError(
            f"`correct(layer=...)`: expected a matrix or a callable, got {type(layer).__name__}"
        )
    return CorrectedLayer(layer, conditions.frozen(), method, tikhonov)


class CorrectedLayer(eqx.Module):
    """What [`jaxsci.operators.boundary.correct`][] returns: call it as the layer, with values."""

    layer: Any
    conditions: BoundaryConditions
    method: Correction = eqx.field(static=True)
    tikhonov: float | None = eqx.field(static=True)

    def __call__(
        self, x: Float[Array, "channels *points"], values: Values | None = None
    ) -> Float[Array, "out *points"]:
        """The corrected layer's output.

        **Arguments:**

        - `x`: one sample; no condition is expected of it.
        - `values`: by face, for conditions that hold none; of the channels of the output.

        **Raises:** as [`jaxsci.operators.boundary.enforce`][]; `ValueError` if the layer changes
        the points.
        """
        check_field("correct", x)
        require_finite("correct", "x", x)
        self.conditions.check("correct", x.shape)
        ends = as_end_layer(self.layer)
        state = ends.apply(x)
        y = jax.eval_shape(ends.output, state)
        shape = y.shape
        resolved = self.conditions.values(shape, y.dtype, values, where="correct")
        for axis in self.conditions.constrained() if self.method != "t1" else ():
            at = self.conditions.along(axis)
            columns = _columns(self.conditions, axis)
            if self.method == "consistent":
                delta = _consistent(self, ends, state, axis, columns, resolved, x.shape[at])
            elif isinstance(self.conditions.pair(axis)[0], Periodic):
                continue
            else:
                delta = _eliminate(self, ends, state, at, columns, take(x, at, columns))
            state, x = ends.shifted(state, at, columns, delta), add_at(x, at, columns, delta)
        return enforce_resolved(ends.output(state), self.conditions, resolved)


def _columns(conditions: BoundaryConditions, axis: str) -> tuple[int, ...]:
    pair = conditions.pair(axis)
    return tuple(i for i, condition in zip((0, -1), pair, strict=True) if condition is not None)


def _eliminate(
    corrected: CorrectedLayer,
    ends: AbstractEndLayer,
    state: Any,
    at: int,
    columns: tuple[int, ...],
    x: Array,
) -> Array:
    """`z_b - x_b = K_bb^+ (K_bb x_b - (K x)_b)`, for the points `columns` of an array axis."""
    found = ends.blocks(state, at, columns, columns)
    K, transverse = found.array, found.transverse
    y = ends.rows(state, at, columns) - ends.bias_rows(state, at, columns)
    x, y = transverse.analyse(x), transverse.analyse(y)
    batch, e, c_out, m, _, c_in, _ = K.shape
    if corrected.method == "exact":
        A = K.reshape(batch, e * c_out * m, e * c_in * m)
        x, y = x.reshape(batch, -1), y.reshape(batch, -1)
    else:  # each face on its own
        A = jnp.einsum("becmedn->becmdn", K).reshape(batch, e, c_out * m, c_in * m)
        x, y = x.reshape(batch, e, -1), y.reshape(batch, e, -1)
    residual = jnp.einsum("...pq,...q->...p", A, x, precision="highest") - y
    delta = regularised_solve(A, residual, corrected.tikhonov)
    return transverse.synthesise(delta.reshape(batch, e, c_in, m))


def _consistent(
    corrected: CorrectedLayer,
    ends: AbstractEndLayer,
    state: Any,
    axis: str,
    columns: tuple[int, ...],
    resolved: dict[FaceName, Array],
    n: int,
) -> Array:
    """`z_b - x_b` for the input with which the layer obeys the conditions of an axis by itself."""
    conditions, at = corrected.conditions, corrected.conditions.along(axis)
    rows, weights, targets = _functionals(conditions, axis, n, resolved)
    found = ends.blocks(state, at, rows, columns)
    y = ends.rows(state, at, rows)
    weights = weights.astype(y.dtype)
    wide = weights.astype(found.array.dtype)
    BK = jnp.einsum("fr,br...->bf...", wide, found.array, precision="highest")
    left = -jnp.einsum("fr,r...->f...", weights, y, precision="highest")
    left = left + jnp.stack([jnp.zeros_like(left[0]) if g is None else g for g in targets])
    right = found.transverse.analyse(left)
    batch, f, c_out, m, e, c_in, _ = BK.shape
    A = BK.reshape(batch, f * c_out * m, e * c_in * m)
    delta = regularised_solve(A, right.reshape(batch, -1), corrected.tikhonov)
    return found.transverse.synthesise(delta.reshape(batch, e, c_in, m))


def _functionals(
    conditions: BoundaryConditions,
    axis: str,
    n: Any,
    resolved: dict[FaceName, Array],
) -> tuple[tuple[int, ...], Array, list[Array | None]]:
    """The conditions of an axis as rows of weights over some of its points, and their right sides.

    Each is divided by the weight of the end point, so that values and derivatives weigh alike.
    """
    if isinstance(conditions.pair(axis)[0], Periodic):
        return (0, -1), jnp.array([[1, -1]], dtype=jnp.float32), [None]
    # Of few points, two stencils share some; counted from the end they would be rows of their own.
    last = n - 1 if isinstance(n, int) else -1
    found: list[tuple[list[int], list[Array]]] = []
    targets: list[Array | None] = []
    for side in SIDES:
        condition = conditions.faces.get((axis, side))
        if condition is None:
            continue
        assert not isinstance(condition, Periodic)
        dtype = resolved[axis, side].dtype
        h = conditions.step(axis, n, dtype) if conditions.has_step(axis) else jnp.ones((), dtype)
        weights, m = functional(condition, side, h, dtype)
        points = [k if side == "low" else last - k for k in range(len(weights))]
        found.append((points, [w / weights[0] for w in weights]))
        targets.append(m * resolved[axis, side] / weights[0])
    rows = tuple(sorted({i for points, _ in found for i in points}))
    matrix = jnp.zeros((len(found), len(rows)), found[0][1][0].dtype)
    for f, (points, weights) in enumerate(found):
        for i, w in zip(points, weights, strict=True):
            matrix = matrix.at[f, rows.index(i)].set(w)
    return rows, matrix, targets
