"""What an operator is to learn: functions for training, choosing and testing, and conditions."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxsci.equations.families import AbstractFamily, Sample, make_dataset
from jaxsci.operators.boundary import BoundaryConditions, Condition, Dirichlet, Neumann, Periodic

_CONDITIONS = {"dirichlet": Dirichlet, "neumann": Neumann}


@dataclasses.dataclass(frozen=True)
class Problem:
    """Functions to learn an operator from, and what must hold on their faces.

    - `name`: for reports.
    - `conditions`: of the outputs.
    - `train`, `validation`, `test`: stacked [`jaxsci.equations.families.Sample`][]s. Without
        `validation`, nothing is chosen and the last weights count.
    - `finer`: the functions of `test` at so many times the resolution, by that number.
    - `coordinates`: of the points, by axis.
    """

    name: str
    conditions: BoundaryConditions
    train: Sample
    validation: Sample | None
    test: Sample
    finer: dict[int, Sample] = dataclasses.field(default_factory=dict)
    coordinates: dict[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def channels(self) -> tuple[int, int]:
        """Of inputs and outputs."""
        return self.train.inputs.shape[1], self.train.outputs.shape[1]


def conditions_of(family: AbstractFamily) -> BoundaryConditions:
    """What holds on the faces of the outputs of a family, as operators take it.

    !!! example
        >>> from jaxsci.equations.families import FAMILIES
        >>> from jaxsci.experiments import conditions_of
        >>> conditions_of(FAMILIES["stokes"]()).constrained()
        ('x',)
    """
    faces: dict[Any, Condition] = {}
    for face, kind in family.faces.items():
        if kind.kind == "periodic":
            faces[face[0]] = Periodic()
        else:
            faces[face] = _CONDITIONS[kind.kind](kind.value)
    return BoundaryConditions(family.axes, faces, length=family.lengths)


def make_problem(
    family: AbstractFamily,
    functions: int,
    held_out: int,
    *,
    seed: int = 0,
    finer: Mapping[int, AbstractFamily] | None = None,
    progress: bool = True,
) -> Problem:
    """Functions of a family for training, choosing and testing, from independent seeds.

    **Arguments:**

    - `functions`, `held_out`: for training; for choosing, and as many for testing.
    - `seed`: the functions for training are those of `3 seed`, the others follow.
    - `finer`: the same family at so many times the resolution.
    - `progress`: of what takes long to make, see [`jaxsci.equations.families.make_dataset`][].
    """
    train, validation, test = (
        make_dataset(family, count, seed=3 * seed + part, progress=progress)
        for part, count in enumerate((functions, held_out, held_out))
    )
    at_finer = {
        factor: make_dataset(each, held_out, seed=3 * seed + 2, progress=progress)
        for factor, each in (finer or {}).items()
    }
    return Problem(
        family.name,
        conditions_of(family),
        train,
        validation,
        test,
        at_finer,
        {name: np.asarray(points) for name, points in family.coordinates().items()},
    )
