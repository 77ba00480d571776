"""What `jaxsci run` can be told of an experiment with operators, and what a budget buys."""

import dataclasses
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxsci.equations import EQUATIONS
from jaxsci.equations.families import FAMILIES, AbstractFamily
from jaxsci.errors import lookup
from jaxsci.operators.constrained import DEFAULT_RECIPE, RECIPES

from ._operators_training import OperatorTraining

TABLE_MODELS = (
    "fno",
    "fno-matched",
    "fno-enforced",
    "fno-matched-enforced",
    "boon",
    "boon-t1",
    "fno-matched-padded-blended",
    DEFAULT_RECIPE,
)
"""The operators of the committed tables: `--model all`."""


@dataclasses.dataclass(frozen=True)
class OperatorBudget:
    """How much is made, trained and tested; every number can be overridden by an option.

    - `family`: options of the family: its resolution.
    - `functions`, `held_out`: for training; for choosing, and as many for testing (at most as many
        as for training).
    - `training`: an [`jaxsci.experiments.OperatorTraining`][].
    - `finer`: times the points at which it is tested as well.
    """

    family: Mapping[str, float]
    functions: int
    held_out: int
    training: OperatorTraining
    finer: tuple[int, ...] = (2, 4)


Sizes = tuple[Mapping[str, float], tuple[int, ...]]  # options of the family, and modes


def _budgets(
    quick: Sizes, cpu: Sizes, paper: Sizes, finer: tuple[int, ...] = (2, 4)
) -> dict[str, OperatorBudget]:
    """Those of one experiment: resolution and modes differ, the rest is the same for all."""

    def budget(
        sizes: Sizes, functions: int, held_out: int, epochs: int, width: int
    ) -> OperatorBudget:
        family, modes = sizes
        training = OperatorTraining(epochs, width, modes)
        return OperatorBudget(family, functions, held_out, training, finer)

    return {
        # Minutes on two cores for one model.
        "quick": budget(quick, 512, 64, epochs=60, width=24),
        # Half an hour there for all models of the table, three times; hours for wave and cavity.
        "cpu": budget(cpu, 256, 64, epochs=40, width=16),
        "paper": budget(paper, 1000, 200, epochs=200, width=64),
    }


_LINE = {"points": 64, "steps": 16}
_SQUARE = {"points": 16, "steps": 8}
# A whole wave of the flux through the end of the rod.
_HEAT = {"time": 2.0}
OPERATOR_BUDGETS: dict[str, dict[str, OperatorBudget]] = {
    "heat": _budgets(
        (_LINE | _HEAT, (8, 12)),
        (_LINE | _HEAT, (8, 12)),
        ({"points": 500, "steps": 25} | _HEAT, (12, 16)),
    ),
    "stokes": _budgets(
        (_LINE, (8, 12)), (_LINE, (8, 12)), ({"points": 500, "steps": 25}, (12, 16))
    ),
    "burgers-dirichlet": _budgets(
        (_LINE, (8, 16)), (_LINE, (8, 16)), ({"points": 500, "steps": 25}, (12, 24))
    ),
    "burgers-periodic": _budgets(
        ({"points": 129}, (24,)), ({"points": 129}, (24,)), ({"points": 257}, (32,))
    ),
    "wave": _budgets(
        (_SQUARE, (4, 6, 6)),
        (_SQUARE, (4, 6, 6)),
        ({"points": 48, "steps": 25}, (8, 12, 12)),
        finer=(2,),
    ),
    # No finer data: how wide the lid's corners are depends on the spacing.
    "cavity": _budgets(
        ({"points": 17, "steps": 8}, (4, 8, 8)),
        ({"points": 17, "steps": 8}, (4, 8, 8)),
        ({"points": 65, "steps": 25}, (8, 16, 16)),
        finer=(),
    ),
}
"""Budgets by experiment and name."""


def _overrides(metavar: str) -> Any:
    """How `--help` shows an option that a budget has a value for."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: that of the budget)")


@dataclasses.dataclass(frozen=True)
class OperatorSettings:
    """Settings of [`jaxsci.experiments.run_operators`][], and options of `jaxsci run`.

    **Raises:** `ValueError`, with the near misses, for an unknown experiment or model, and for
    numbers below 1 or a learning rate that is not positive.
    """

    experiment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPERIMENT")]
    """heat (an insulated rod), stokes, burgers-dirichlet, burgers-periodic, wave or cavity."""
    model: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = (DEFAULT_RECIPE,)
    """Names of operators, after the experiment; or all: those of the committed tables."""
    budget: Literal["quick", "cpu", "paper"] = "quick"
    """For one model, quick: minutes on two cores. cpu: small enough there for the whole table, but
    for wave and cavity. paper: the published sizes, for a GPU."""
    hard: Annotated[bool, tyro.conf.arg(help_behavior_hint="")] = False
    """Random fields, random boundary signals and several parameters at once, instead of the
    published families of one parameter."""
    seeds: int = 1
    """How often each model is trained, from other weights and in another order."""
    seed: int = 0
    """The first of these seeds, and that of the data."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder for results and checkpoints; by default runs/EXPERIMENT-BUDGET. What was trained
    there is not trained again; a run that was stopped goes on."""
    functions: Annotated[int | None, _overrides("INT")] = None
    """Training functions."""
    epochs: Annotated[int | None, _overrides("INT")] = None
    """Passes over the training functions."""
    batch_size: Annotated[int | None, _overrides("INT")] = None
    """Functions in a batch."""
    learning_rate: Annotated[float | None, _overrides("FLOAT")] = None
    """Adam's learning rate at the start."""
    schedule: Annotated[Literal["step", "cosine"] | None, _overrides("{step,cosine}")] = None
    """step: halved six times. cosine: falls to 0."""
    width: Annotated[int | None, _overrides("INT")] = None
    """Width of the network."""
    points: Annotated[int | None, _overrides("INT")] = None
    """Points along each axis of space."""
    figures: Annotated[
        bool, tyro.conf.arg(help="Do not draw the figures.", help_behavior_hint="")
    ] = True
    """Whether to draw the figures, which needs the extra `plot`."""

    def __post_init__(self):
        lookup("experiment", self.experiment, FAMILIES | _only_conservation(self.experiment))
        if self.experiment not in FAMILIES:
            raise ValueError(
                f"--model: {self.experiment!r} is an experiment with a conservation law and has "
                f"no operators; drop --model, or choose one of {', '.join(FAMILIES)}"
            )
        if not self.model:
            raise ValueError("--model: expected a name, got none")
        for name in self.model:
            lookup("operator", name, RECIPES | {"all": None})
        for name in ("seeds", "functions", "epochs", "batch_size", "width", "points"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: expected a number >= 1, got {value}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"--learning-rate: expected a number > 0, got {self.learning_rate}")

    @property
    def models(self) -> tuple[str, ...]:
        """The names without repetition, `all` spelled out."""
        names = [n for name in self.model for n in (TABLE_MODELS if name == "all" else (name,))]
        return tuple(dict.fromkeys(names))

    @property
    def folder(self) -> Path:
        """Where the results go."""
        hard = "-hard" if self.hard else ""
        return self.output or Path("runs") / f"{self.experiment}{hard}-{self.budget}"

    def resolved(self) -> OperatorBudget:
        """The budget with the overrides in place."""
        budget = OPERATOR_BUDGETS[self.experiment][self.budget]
        given = {
            field.name: getattr(self, field.name)
            for field in dataclasses.fields(OperatorTraining)
            if getattr(self, field.name, None) is not None
        }
        functions = self.functions or budget.functions
        return dataclasses.replace(
            budget,
            family={**budget.family, **({"points": self.points} if self.points else {})},
            functions=functions,
            held_out=min(budget.held_out, functions),
            training=dataclasses.replace(budget.training, **given),
        )

    def family(self, factor: int = 1) -> AbstractFamily:
        """The family, at so many times the points of the budget in space."""
        sizes = self.resolved().family
        sizes = {**sizes, "points": factor * int(sizes["points"])}
        return FAMILIES[self.experiment](hard=self.hard, **sizes)  # pyright: ignore


def is_for_operators(words: Sequence[str]) -> bool:
    """Whether the words after `jaxsci run` mean an experiment with operators.

    Those with `--model`, and those that name an experiment that only operators have.

    !!! example
        >>> from jaxsci.experiments import is_for_operators
        >>> [is_for_operators(w.split()) for w in ("heat", "heat --model fno", "stokes")]
        [False, True, True]
    """
    only = set(FAMILIES) - set(EQUATIONS)
    named = any(word in only and before != "--output" for before, word in pairwise(("", *words)))
    return named or any(word.split("=")[0] == "--model" for word in words)


def _only_conservation(name: str) -> dict[str, Any]:
    """So that its name is known, and the message says why it does not fit."""
    return {name: None} if name in EQUATIONS else {}
