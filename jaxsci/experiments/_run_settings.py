"""What `jaxsci run` can be told, and what a budget buys."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from jaxsci.equations import EQUATIONS
from jaxsci.equations.families import FAMILIES
from jaxsci.errors import lookup


@dataclasses.dataclass(frozen=True)
class Budget:
    """How much is trained and evaluated; every number can be overridden by an option.

    - `functions`, `epochs`, `batch_size`, `learning_rate`, `dropout`, `width`: of the training.
    - `decay`: whether the learning rate is warmed up and decays to 1 % along a cosine, or constant.
    - `mode`, `samples`: of the evaluation, as in [`jaxsci.surrogates.pooled_moments`][].
    """

    functions: int
    epochs: int
    batch_size: int
    learning_rate: float
    decay: bool
    dropout: float
    width: int
    mode: Literal["zmean", "eval", "dropout"]
    samples: int


BUDGETS = {
    # Minutes on two cores: many small steps of a small network, and no dropout, whose random
    # numbers would cost half of the time.
    "quick": Budget(2048, 30, 8, 1e-3, True, 0.0, 32, "zmean", 1),
    # All of the published data, at a size for two cores: most of an hour.
    "cpu": Budget(10_000, 10, 8, 1e-3, True, 0.0, 64, "eval", 100),
    # The published protocol, evaluated with dropout on.
    "paper": Budget(10_000, 500, 250, 1e-4, False, 0.1, 128, "dropout", 100),
}
"""Budgets by name."""


def _overrides(metavar: str) -> Any:
    """How `--help` shows an option that a budget has a value for."""
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="(default: that of the budget)")


@dataclasses.dataclass(frozen=True)
class RunSettings:
    """Settings of [`jaxsci.experiments.run_experiment`][], and the options of `jaxsci run`.

    **Raises:** `ValueError`, with the near misses, for an unknown experiment, and for numbers
    below 1 or a learning rate that is not positive.
    """

    experiment: Annotated[tyro.conf.Positional[str], tyro.conf.arg(metavar="EXPERIMENT")]
    """porous-medium, stefan, heat, advection or burgers; those with operators are named above."""
    budget: Literal["quick", "cpu", "paper"] = "quick"
    """quick: minutes on two cores. cpu: most of an hour there. paper: the published protocol, for
    a GPU (a day on two cores)."""
    surrogate: Literal["anp", "softc"] = "anp"
    """anp: attentive neural process. softc: the same with the equation's residual in its loss."""
    seed: int = 0
    """Seed of data, weights, training and evaluation."""
    output: Annotated[Path | None, tyro.conf.arg(metavar="PATH", help_behavior_hint="")] = None
    """Folder for results and checkpoints; by default runs/EXPERIMENT-BUDGET. A run that was
    stopped there goes on; a finished one is evaluated again, not trained again."""
    functions: Annotated[int | None, _overrides("INT")] = None
    """Training functions."""
    epochs: Annotated[int | None, _overrides("INT")] = None
    """Passes over the training functions."""
    batch_size: Annotated[int | None, _overrides("INT")] = None
    """Functions in a batch."""
    learning_rate: Annotated[float | None, _overrides("FLOAT")] = None
    """Adam's learning rate (its maximum, where it decays)."""
    width: Annotated[int | None, _overrides("INT")] = None
    """Width of the neural process, a multiple of 4."""
    mode: Annotated[
        Literal["zmean", "eval", "dropout"] | None, _overrides("{zmean,eval,dropout}")
    ] = None
    """Evaluation: zmean is deterministic; eval draws latent samples; dropout draws masks too."""
    samples: Annotated[int | None, _overrides("INT")] = None
    """Draws in the modes eval and dropout."""
    softc_weight: float = 1.0
    """Weight of the mean squared residual against the loss per target (softc only)."""
    figures: Annotated[
        bool, tyro.conf.arg(help="Do not draw the figures.", help_behavior_hint="")
    ] = True
    """Whether to draw the figures, which needs the extra `plot`."""

    def __post_init__(self):
        lookup("experiment", self.experiment, dict(EQUATIONS) | FAMILIES)
        if self.experiment not in EQUATIONS:
            raise ValueError(
                f"`RunSettings(experiment={self.experiment!r})`: that is an experiment with "
                "operators; use `OperatorSettings` and `run_operators`"
            )
        for name in ("functions", "epochs", "batch_size", "width", "samples"):
            value = getattr(self, name)
            if value is not None and value < 1:
                option = name.replace("_", "-")
                raise ValueError(f"--{option}: expected a number >= 1, got {value}")
        if self.learning_rate is not None and not self.learning_rate > 0:
            raise ValueError(f"--learning-rate: expected a number > 0, got {self.learning_rate}")
        if not self.softc_weight >= 0:
            raise ValueError(f"--softc-weight: expected a number >= 0, got {self.softc_weight}")

    def resolved(self) -> Budget:
        """The budget with the overrides in place."""
        budget = BUDGETS[self.budget]
        fields = [field.name for field in dataclasses.fields(Budget)]
        given = {name: getattr(self, name, None) for name in fields}
        return dataclasses.replace(budget, **{k: v for k, v in given.items() if v is not None})

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.output or Path("runs") / f"{self.experiment}-{self.budget}"
