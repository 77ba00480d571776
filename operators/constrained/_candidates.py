"""Operators by name: the published ones, fair baselines, and candidates for better than both."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from jaxtyping import PRNGKeyArray

from jaxsci.errors import lookup
from jaxsci.operators.boundary import (
    BoundaryConditions,
    Condition,
    Correction,
    Dirichlet,
    Neumann,
    Periodic,
)
from jaxsci.operators.fno import FNO
from jaxsci.operators.spectral import (
    AbstractSpectralBasis,
    Cosine,
    ExtendedFourier,
    Fourier,
    QuarterWave,
    Sine,
)

from ._boon import BOON
from ._constrained import ConstrainedOperator, Enforcement
from ._features import Information, count_channels


@dataclasses.dataclass(frozen=True)
class Recipe:
    """How an operator is told of its boundary and made to obey: a row of `RECIPES`.

    - `summary`: what it is, in a few words.
    - `information`, `lifted`, `enforcement`: of the
        [`jaxsci.operators.constrained.ConstrainedOperator`][].
    - `correction`: of the layers ([`jaxsci.operators.constrained.BOON`][]); `None` for a plain FNO.
    - `adapted`: whether the bases satisfy the homogeneous conditions by themselves.
    - `padding`: the fraction of points that the FNO's blocks have besides, on both sides.
    - `extension`: by how much the circle of the Fourier functions is longer than an axis with ends.
        Where both of these have slope 0, it is as long again, and the functions are even: cosines.
        The slopes must be known to be 0 when the operator is made, not passed at a call or traced.
    """

    summary: str
    information: Information = "none"
    enforcement: Enforcement = "strict"
    lifted: bool = False
    correction: Correction | None = None
    adapted: bool = False
    padding: float | None = None
    extension: float | None = None


RECIPES: dict[str, Recipe] = {
    "fno": Recipe("FNO, told nothing", enforcement="none"),
    "fno-enforced": Recipe("the same, its output enforced"),
    "fno-matched": Recipe("FNO, told the boundary data", "faces", "none"),
    "fno-matched-enforced": Recipe("the same, its output enforced", "faces"),
    "fno-matched-blended": Recipe("the same, the change faded inwards", "faces", "blend"),
    "fno-matched-learned": Recipe("the same, over a learned width", "faces", "learned"),
    "fno-matched-padded": Recipe("told, padded, enforced", "faces", padding=0.125),
    "fno-matched-padded-blended": Recipe(
        "told, padded, the change faded inwards", "faces", "blend", padding=0.125
    ),
    "fno-matched-extended-blended": Recipe(
        "told, on longer circles, the change faded inwards", "faces", "blend", extension=0.25
    ),
    "fno-lifted": Recipe("a lift of the data and an FNO's addition to it", "lift", lifted=True),
    "fno-lifted-blended": Recipe(
        "the same, the change faded inwards", "lift", "blend", lifted=True
    ),
    "fno-lifted-padded": Recipe(
        "a lift and a padded FNO's addition, the change faded inwards",
        "lift",
        "blend",
        lifted=True,
        padding=0.125,
    ),
    "fno-cosine": Recipe("told, in cosines along the constrained axes", "faces", adapted=True),
    "fno-adapted": Recipe(
        "a lift, and an addition in the basis of the conditions", "lift", lifted=True, adapted=True
    ),
    "boon": Recipe("the published corrections", correction="boon"),
    "boon-exact": Recipe("exact multi-channel elimination", correction="exact"),
    "boon-consistent": Recipe("layers that meet the values by themselves", correction="consistent"),
    "boon-t1": Recipe("values set in each layer", correction="t1"),
    "boon-t1-matched": Recipe("the same, told the data as well", "faces", correction="t1"),
    "boon-consistent-matched": Recipe(
        "consistent layers, told the data as well", "faces", correction="consistent"
    ),
}
"""Every operator that [`jaxsci.operators.constrained.make_operator`][] knows, by name."""

DEFAULT_RECIPE = "fno-matched-extended-blended"
"""The one to take where nothing speaks for another."""


def make_operator(
    name: str,
    in_channels: int,
    out_channels: int,
    conditions: BoundaryConditions,
    *,
    modes: int | Sequence[int],
    width: int = 32,
    free_channels: int = 0,
    key: PRNGKeyArray,
    **options: Any,
) -> ConstrainedOperator:
    """An operator of one of the `RECIPES`, called as `model(x, values)` for one sample.

    All are made of one [`jaxsci.operators.fno.FNO`][] of the same modes, width and layers, so that
    their numbers of parameters differ by what they are told. Modes are counted fairly: a sine or a
    cosine spans half the wavenumber of a Fourier pair, so that an adapted basis gets as many
    functions as the Fourier basis has real ones. (Where the last of several axes is adapted, the
    one that is stored by half is another: a tenth of the weights more or less.)

    **Arguments:**

    - `name`: see [`jaxsci.operators.constrained.RECIPES`][].
    - `in_channels`: of `x`, without what the operator is told of the boundary.
    - `out_channels`, `modes`, `width`, `key`, `options`: as in [`jaxsci.operators.fno.FNO`][].
    - `conditions`: those of the output.
    - `free_channels`: as in [`jaxsci.operators.constrained.ConstrainedOperator`][].

    **Raises:** `ValueError` for an unknown name, with the near misses; as the FNO.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.boundary import BoundaryConditions, Neumann
        >>> from jaxsci.operators.constrained import make_operator
        >>> flux = BoundaryConditions(
        ...     "x", {("x", "low"): Neumann(0.0), ("x", "high"): Neumann()}, length={"x": 1.0})
        >>> model = make_operator("fno-matched-enforced", 1, 1, flux, modes=8, width=8,
        ...                       key=jax.random.key(0))
        >>> model(jnp.ones((1, 32)), {("x", "high"): 5.0}).shape
        (1, 32)
    """
    recipe = lookup("operator", name, RECIPES)
    told = count_channels(conditions, out_channels, recipe.information)
    if recipe.adapted:
        options = {"bases": adapted_bases(conditions, exact=recipe.lifted), **options}
    if recipe.extension is not None:
        options = {"bases": _extended(conditions, recipe.extension), **options}
    if recipe.padding is not None:
        options = {"padding": _padding(conditions, recipe.padding), **options}
    if recipe.correction is not None:
        options = {"mlp_expansion": None, **options}
    outputs = out_channels + free_channels
    fno = FNO(in_channels + told, outputs, modes, width, key=key, **options)
    operator = fno if recipe.correction is None else BOON(fno, conditions, recipe.correction)
    return ConstrainedOperator(
        operator,
        conditions,
        out_channels=out_channels,
        information=recipe.information,
        lifted=recipe.lifted,
        enforcement=recipe.enforcement,
        free_channels=free_channels,
    )


def adapted_bases(
    conditions: BoundaryConditions, *, exact: bool = True
) -> tuple[AbstractSpectralBasis, ...]:
    """For each axis a basis on points that include the ends, without the jump of a circle.

    Functions that satisfy the homogeneous conditions: sines for two values, cosines for two
    derivatives, quarter waves for one of each. Cosines where an end is free or has a Robin
    condition, and on every constrained axis if not `exact`; Fourier where the axis is periodic.

    !!! example
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
        >>> from jaxsci.operators.constrained import adapted_bases
        >>> adapted_bases(BoundaryConditions(("t", "x"), {"x": Dirichlet(0.0)}))
        (Cosine(samples='ends'), Sine(samples='ends'))
    """
    return tuple(_basis(*conditions.pair(axis), exact=exact) for axis in conditions.axes)


def _basis(low: Condition | None, high: Condition | None, *, exact: bool) -> AbstractSpectralBasis:
    match (low, high) if exact else (None, None):
        case (Dirichlet(), Dirichlet()):
            return Sine()
        case (Dirichlet(), Neumann()):
            return QuarterWave(zero="left")
        case (Neumann(), Dirichlet()):
            return QuarterWave(zero="right")
    return Fourier() if isinstance(low, Periodic) else Cosine()


def _extended(
    conditions: BoundaryConditions, extension: float
) -> tuple[AbstractSpectralBasis, ...]:
    def basis(pair: tuple[Condition | None, Condition | None]) -> AbstractSpectralBasis:
        if isinstance(pair[0], Periodic):
            return Fourier()
        # Pointwise functions of even ones are even: what a layer makes of them is smooth at the
        # mirror, as the output. (Odd ones, of values 0, become even by a bias or an activation; the
        # coordinates, an input, are neither.)
        if all(isinstance(end, Neumann) and end.homogeneous for end in pair):
            return Cosine()
        return ExtendedFourier(extension)

    return tuple(basis(conditions.pair(axis)) for axis in conditions.axes)


def _padding(conditions: BoundaryConditions, fraction: float) -> tuple[float, ...]:
    circles = (isinstance(conditions.pair(axis)[0], Periodic) for axis in conditions.axes)
    return tuple(0.0 if circle else fraction for circle in circles)
