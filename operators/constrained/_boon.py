"""The boundary enforcing operator network, and its relatives by other corrections."""

from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.operators.boundary import (
    BoundaryConditions,
    Correction,
    FaceName,
    Values,
    correct,
    enforce,
)
from jaxsci.operators.fno import FNO, FNOBlock
from jaxsci.operators.layers import append_coordinates


class BOON(eqx.Module):
    """A Fourier neural operator with every linear layer of every block corrected for a boundary.

    The output obeys the conditions to rounding, before and after training, and hidden channels obey
    them too (the channel `j` those of the output channel `j mod C`): in each block the spectral
    layer is [`correct`][jaxsci.operators.boundary.correct]ed with the values, the pointwise branch
    beside it has values 0 enforced, and activations leave out the points on the faces. The last
    layer's output is enforced. The operator has the parameters of the FNO that it is made of.

    **Arguments:**

    - `fno`: a [`jaxsci.operators.fno.FNO`][] of real data, without padding, norms,
        `preactivation` or dropout. The network of the paper has `mlp_expansion=None`.
    - `conditions`: their numbers become constants, which no optimiser sees.
    - `method`: of the corrections; `"boon"` is the paper's.
    - `tikhonov`: as in [`correct`][jaxsci.operators.boundary.correct]. Blocks come near singular
        ones at times in training, and a bare inverse (`None` is close to it) then blows up; the
        default bounds its gain to 5.

    **Raises:** `ValueError` for an FNO of another kind or as many axes as it has not.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
        >>> from jaxsci.operators.constrained import BOON
        >>> from jaxsci.operators.fno import FNO
        >>> fno = FNO(1, 1, 6, width=8, layers=2, mlp_expansion=None, key=jax.random.key(0))
        >>> model = BOON(fno, BoundaryConditions("x", {"x": Dirichlet()}))
        >>> y = model(jnp.ones((1, 24)), {("x", "low"): 2.0, ("x", "high"): -1.0})
        >>> float(y[0, 0]), float(y[0, -1])
        (2.0, -1.0)

    Reference: Saad, Gupta, Alizadeh, Maddix, *Guiding continuous operator learning through
    physics-based boundary constraints*, ICLR 2023. Differs from the published code in what
    [`correct`][jaxsci.operators.boundary.correct] lists and: 1. all spectral layers are used (the
    published 1-D network discards its last); 2. each value is used once (the published network
    gives it to both branches, so that hidden boundary values are doubled); 3. several output
    channels; 4. `tikhonov`.
    """

    fno: FNO
    conditions: BoundaryConditions
    method: Correction = eqx.field(static=True)
    tikhonov: float | None = eqx.field(static=True)

    def __init__(
        self,
        fno: FNO,
        conditions: BoundaryConditions,
        method: Correction = "boon",
        *,
        tikhonov: float | None = 0.1,
    ):
        if len(fno.bases) != len(conditions.axes):
            raise ValueError(
                f"`BOON(conditions=...)`: expected {len(fno.bases)} axes, as the FNO has, got "
                f"{conditions.axes}"
            )
        wrong = {
            "complex_data=True": fno.complex_data,
            "padding": any(fno.padding),
            "norm": any(block.norms for block in fno.blocks),
            "preactivation=True": any(block.preactivation for block in fno.blocks),
            "dropout": any(block.dropout for block in fno.blocks),
        }
        for name, has in wrong.items():
            if has:
                raise ValueError(
                    f"`BOON(fno=...)`: expected an FNO without `{name}`: its blocks act on the "
                    "grid of the faces, and their output is what obeys"
                )
        correct(fno.blocks[0].conv, conditions, method, tikhonov=tikhonov)
        self.fno, self.conditions = fno, conditions.frozen()
        self.method, self.tikhonov = method, tikhonov

    def __call__(
        self,
        x: Float[Array, "channels *points"],
        values: Values | None = None,
        parameters: Float[Array, " parameters"] | None = None,
    ) -> Float[Array, "out *points"]:
        """`(in_channels, N_1, ..., N_d)` to `(out_channels, N_1, ..., N_d)`.

        - `values`: by face, for conditions that hold none.
        - `parameters`: as in [`jaxsci.operators.fno.FNO`][].
        """
        fno, dtype = self.fno, x.dtype
        y = eqx.filter_eval_shape(fno, x, parameters)
        resolved = self.conditions.values(y.shape, y.dtype, values, where="BOON")
        if fno.policy is not None:
            x = x.astype(y.dtype)
        if parameters is not None:
            numbers = parameters.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
            x = jnp.concatenate([x, jnp.broadcast_to(numbers, (len(numbers), *x.shape[1:]))])
        x = fno.lifting(append_coordinates(x, fno.bases) if fno.positional_grid else x)
        index = np.arange(x.shape[0]) % y.shape[0]
        hidden = {face: value[index].astype(x.dtype) for face, value in resolved.items()}
        inside = _inside(x.shape, self.conditions)
        for block in fno.blocks:
            x = self._block(block, x, hidden, inside)
        return enforce(fno.projection(x), self.conditions, values).astype(
            dtype if fno.policy is None else y.dtype
        )

    def _block(
        self, block: FNOBlock, x: Array, hidden: dict[FaceName, Array], inside: Array
    ) -> Array:
        conditions = self.conditions.opened()
        zeros = {face: jnp.zeros_like(value) for face, value in hidden.items()}

        def activated(z: Array) -> Array:
            return jnp.where(inside, block.activation(z), z)

        conv = correct(block.conv, conditions, self.method, tikhonov=self.tikhonov)
        y = conv(jnp.tanh(x) if block.stabilizer else x, hidden)
        if block.skip is not None:
            y = y + enforce(block.skip(x), conditions, zeros)
        y = y if block.last else activated(y)
        if block.mlp is None:
            return y
        z = block.mlp(y)
        z = z if block.mlp_skip is None else z + block.mlp_skip(x)
        z = enforce(z, conditions, hidden)
        return z if block.last else activated(z)


def _inside(shape: tuple[Any, ...], conditions: BoundaryConditions) -> Array:
    """Where no condition is."""
    # Constants where sizes are numbers, which they are not in an export.
    known = all(isinstance(n, int) for n in shape)
    inside: Any = (np if known else jnp).ones((1, *shape[1:]), bool)
    for axis, side in conditions.faces:
        index: list[slice | int] = [slice(None)] * len(shape)
        index[conditions.along(axis)] = 0 if side == "low" else -1
        if known:
            inside[tuple(index)] = False
        else:
            inside = inside.at[tuple(index)].set(False)
    return jnp.asarray(inside)
