"""What `jaxsci export` can be told."""

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclasses.dataclass(frozen=True)
class ExportSettings:
    """Settings of [`jaxsci.experiments.export_file`][], and the options of `jaxsci export`."""

    source: Annotated[tyro.conf.Positional[Path], tyro.conf.arg(metavar="SOURCE")]
    """A checkpoint (.jaxsci), or the folder of a run with operators, runs/EXPERIMENT-BUDGET."""
    output: Path | None = None
    """The file to write; by default the checkpoint's name with .stablehlo or .onnx, beside it."""
    format: Literal["stablehlo", "onnx"] | None = None
    """stablehlo: any batch, any grid, run by JAX alone. onnx: any batch, one grid. By default what
    the name of the output says, or stablehlo."""
    model: str | None = None
    """Which model of a run's folder, where there are several."""
    seed: int | None = None
    """Of which seed; by default the first."""
    like: str | None = None
    """MODULE:NAME of a model that was built as the saved one, or of a function without arguments
    that builds it: for what a file cannot describe, such as a lambda."""
    trusted: tuple[str, ...] = ()
    """Packages of yours whose classes and functions the checkpoint names: they are imported."""
    overwrite: bool = False
    """Replace the output if it exists already."""

    def resolved_format(self) -> Literal["stablehlo", "onnx"]:
        """The format, from the name of the output where it is not given."""
        if self.format is not None:
            return self.format
        return "onnx" if self.output is not None and self.output.suffix == ".onnx" else "stablehlo"
