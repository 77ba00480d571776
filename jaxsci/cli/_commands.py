"""The subcommands: what each is for, and where the settings and the function behind it are.

Nothing is imported before a subcommand is chosen, so that `jaxsci --help` is immediate.
"""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from typing import Any


@dataclasses.dataclass(frozen=True)
class Command:
    """A subcommand `jaxsci NAME`, and the names in `jaxsci.experiments` that it stands for.

    - `settings`: a frozen dataclass; its fields are the options, their docstrings the help.
    - `function`: called as `function(settings, progress=say)`, where `say` takes a line of text.
        It returns a dataclass whose `str` is the report, or a mapping whose entry `"report"` is.
    - `others`: other kinds of work under the same name, the first that applies being meant.
    """

    summary: str
    description: str
    examples: tuple[str, ...]
    settings: str
    function: str
    others: "tuple[Other, ...]" = ()

    def load(self) -> tuple[type, Callable[..., Any]]:
        """The settings class and the function."""
        return _experiments(self.settings), _experiments(self.function)

    def for_words(self, words: Sequence[str]) -> "Command":
        """This command, or another one that has its name, if the words are meant for that."""
        meant = (other.command for other in self.others if _experiments(other.applies)(words))
        return next(meant, self)


@dataclasses.dataclass(frozen=True)
class Other:
    """Another kind of work under the same name; `applies(words)` says whether it is meant."""

    applies: str
    command: Command


def _experiments(name: str) -> Any:
    module = importlib.import_module("jaxsci.experiments")
    try:
        return getattr(module, name)
    except AttributeError as error:
        raise ImportError(f"this version of jaxsci does not have it ({error})") from error


_OPERATORS = Command(
    summary="run an experiment with operators",
    description=(
        "Train neural operators on functions with boundary conditions, and compare them inside, on "
        "the boundary and at finer resolution. Without --model, `jaxsci run heat` is the "
        "experiment with a conservation law."
    ),
    examples=(
        "jaxsci run stokes --budget quick",
        "jaxsci run heat --model fno boon --seeds 3",
        "jaxsci run cavity --model all --budget paper",
    ),
    settings="OperatorSettings",
    function="run_operators",
)

_UNCERTAINTY = Command(
    summary="run an experiment with operators that say how sure they are",
    description=(
        "Train operators with uncertainty (an ensemble, diverse heads, an output variance, a "
        "Laplace posterior, dropout) from the parameter of an equation to its solution; impose the "
        "conserved mass, recalibrate, and compare within the range of training and outside."
    ),
    examples=(
        "jaxsci run heat --uncertainty all",
        "jaxsci run stefan --uncertainty diverse ensemble --budget cpu",
    ),
    settings="UncertaintySettings",
    function="run_uncertainty",
)


COMMANDS = {
    "run": Command(
        summary="run an experiment: train a surrogate or operators, and compare",
        description=(
            "Run an experiment. With a conservation law (the options below): train a surrogate, "
            "constrain it, and compare both. With boundary conditions (heat, stokes, "
            "burgers-dirichlet, burgers-periodic, wave, cavity): train operators and compare them; "
            "`jaxsci run stokes --help` has their options. `heat` is in both, and with operators "
            "where --model is given. With --uncertainty (heat, porous-medium, stefan, advection): "
            "operators that say how sure they are; `jaxsci run heat --uncertainty all --help`."
        ),
        examples=("jaxsci run stefan --budget quick", "jaxsci run stokes --model fno boon"),
        settings="RunSettings",
        function="run_experiment",
        others=(
            Other("is_for_uncertainty", _UNCERTAINTY),
            Other("is_for_operators", _OPERATORS),
        ),
    ),
    "constrain": Command(
        summary="make the predictions in FILE obey a conservation law",
        description=(
            "Make predictions obey a conservation law: FILE (npz or HDF5) holds `mean`, its "
            "uncertainty (`std`, `variance`, `samples` or `cov`), coordinates (`x`, `t`, ...), and "
            "the conserved integral `b` or the fluxes that change it. docs/command-line.md has "
            "all names and shapes."
        ),
        examples=(
            "jaxsci constrain prediction.npz",
            "jaxsci constrain prediction.h5 --noise 1e-3 --figure moved.png",
            "jaxsci constrain prediction.npz --domain x=0:0.5 --output half.npz --json",
        ),
        settings="ConstrainSettings",
        function="constrain_file",
    ),
    "export": Command(
        summary="write a trained model as StableHLO or ONNX",
        description=(
            "Export a model that was saved (a .jaxsci file, or the folder of a run with operators) "
            "as one file that runs without this library: StableHLO for JAX on CPU, CUDA and TPU, "
            "with any batch and grid, or ONNX for one grid. The file is compared with the live "
            "model. Needs jaxsci[export]."
        ),
        examples=(
            "jaxsci export runs/stokes-quick --model boon",
            "jaxsci export model.jaxsci --output model.onnx --json",
            "jaxsci export surrogate.jaxsci --like mymodels:build",
        ),
        settings="ExportSettings",
        function="export_file",
    ),
    "slam": Command(
        summary="find the most likely poses of the pose graph in FILE",
        description=(
            "Optimise a pose graph: FILE is in g2o format, in the plane or in space, with or "
            "without landmarks. Writes the optimised graph and a picture, and reports cost, "
            "iterations, time and memory. Each step has a dtype of its own (--policy)."
        ),
        examples=(
            "jaxsci slam sphere2500.g2o",
            "jaxsci slam intel.g2o --policy pose_graph --method gn --json",
            "jaxsci slam torus3D.g2o --init chordal --linear cholesky --output torus.g2o",
        ),
        settings="SlamSettings",
        function="optimise_graph_file",
    ),
    "slam bench": Command(
        summary="optimise every pose graph in FOLDER under several policies",
        description=(
            "Compare dtype policies: every g2o file in FOLDER is optimised under each policy, and "
            "a table of cost, iterations and time is printed. Nothing is written."
        ),
        examples=("jaxsci slam bench graphs --policies double pose_graph",),
        settings="SlamBenchSettings",
        function="benchmark_graphs",
    ),
}
