"""What `jaxsci run` can be told of uncertain operators, and what a budget buys."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxsci.errors import lookup

from ._operators_training import OperatorTraining
from ._uncertainty_models import UNCERTAINTIES
from ._uncertainty_problem import DOMAINS


@dataclasses.dataclass(frozen=True)
class UncertaintyBudget:
    """How much is made, trained and tested; some numbers can be overridden by an option.

    - `points`, `steps`: of the grid in space and time.
    - `functions`, `held_out`: for training; and as many each for choosing, for calibrating and for
        testing in each domain.
    - `training`: an [`jaxsci.experiments.OperatorTraining`][].
    - `members`: of the ensemble, heads, and masks of the dropout.
    """

    points: int
    steps: int
    functions: int
    held_out: int
    training: OperatorTraining
    members: int = 10


UNCERTAINTY_BUDGETS = {
    # Minutes on two cores for one equation and all methods.
    "quick": UncertaintyBudget(
        32, 16, 96, 40, OperatorTraining(60, 12, (6, 8), layers=3, learning_rate=3e-3), members=5
    ),
    # An hour there.
    "cpu": UncertaintyBudget(64, 32, 256, 64, OperatorTraining(100, 16, (8, 12))),
    # The published sizes (every fifth of 100 times), for a GPU.
    "paper": UncertaintyBudget(100, 20, 320, 200, OperatorTraining(500, 32, (10, 12))),
}
"""Budgets by name."""


def _overrides(metavar: str) -> Any:
    """How `--help` shows an option that a budget has a value for."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: that of the budget)")


@dataclasses.dataclass(frozen=True)
class UncertaintySettings:
    """Settings of [`jaxsci.experiments.run_uncertainty`][], and options of `jaxsci run`.

    **Raises:** `ValueError`, with the near misses, for an unknown experiment or method, and for
    numbers that are too small.
    """

    experiment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPERIMENT")]
    """heat, porous-medium, stefan or advection."""
    uncertainty: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME")] = ("all",)
    """ensemble, diverse, variance, laplace, dropout, after the experiment; or all."""
    budget: Literal["quick", "cpu", "paper"] = "quick"
    """quick: minutes on two cores. cpu: most of an hour there. paper: the published sizes, for a
    GPU."""
    seed: int = 0
    """Of the functions, the weights and the order of the functions."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder for results and checkpoints; by default runs/EXPERIMENT-uncertainty-BUDGET. What was
    trained there is not trained again; a run that was stopped goes on."""
    functions: Annotated[int | None, _overrides("INT")] = None
    """Training functions."""
    epochs: Annotated[int | None, _overrides("INT")] = None
    """Passes over the training functions."""
    width: Annotated[int | None, _overrides("INT")] = None
    """Width of the network."""
    members: Annotated[int | None, _overrides("INT")] = None
    """Members of the ensemble, heads, and masks of the dropout."""
    strength: float = 0.01
    """Of the diversity of heads, from the tenth epoch on."""
    dropout: float = 0.1
    """The rate of the dropout."""
    level: float = 0.95
    """Of the interval that is recalibrated on functions held back from the training range."""

    def __post_init__(self):
        lookup("experiment", self.experiment, DOMAINS)
        if not self.uncertainty:
            raise ValueError("--uncertainty: expected a name, got none")
        for name in self.uncertainty:
            lookup("uncertainty", name, UNCERTAINTIES | {"all": None})
        for name, least in (("functions", 2), ("epochs", 1), ("width", 1), ("members", 3)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ValueError(f"--{name}: expected a number >= {least}, got {value}")
        if not 0 <= self.strength < float("inf"):
            raise ValueError(f"--strength: expected a number >= 0, got {self.strength}")
        for name in ("dropout", "level"):
            if not 0 < getattr(self, name) < 1:
                raise ValueError(
                    f"--{name}: expected a number between 0 and 1, got {getattr(self, name)}"
                )

    @property
    def methods(self) -> tuple[str, ...]:
        """The names without repetition, `all` spelled out."""
        names = (UNCERTAINTIES if name == "all" else (name,) for name in self.uncertainty)
        return tuple(dict.fromkeys(n for several in names for n in several))

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.output or Path("runs") / f"{self.experiment}-uncertainty-{self.budget}"

    def resolved(self) -> UncertaintyBudget:
        """The budget with the overrides in place."""
        budget = UNCERTAINTY_BUDGETS[self.budget]
        own = {name: getattr(self, name) for name in ("functions", "members")}
        training = {name: getattr(self, name) for name in ("epochs", "width")}

        def given(numbers: dict[str, Any]) -> dict[str, Any]:
            return {name: number for name, number in numbers.items() if number is not None}

        return dataclasses.replace(
            budget,
            **given(own),
            training=dataclasses.replace(budget.training, **given(training)),
        )


def is_for_uncertainty(words: Sequence[str]) -> bool:
    """Whether the words after `jaxsci run` mean an experiment with uncertain operators.

    !!! example
        >>> from jaxsci.experiments import is_for_uncertainty
        >>> [is_for_uncertainty(w.split()) for w in ("heat", "heat --uncertainty all")]
        [False, True]
    """
    return any(word.split("=")[0] == "--uncertainty" for word in words)
