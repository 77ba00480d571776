"""`jaxsci export`: from a checkpoint, or the folder of a run, to a file for elsewhere."""

import contextlib
import dataclasses
import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FunctionType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxsci.checkpoints import load_checkpoint, read_checkpoint
from jaxsci.constraining import ConstrainedSurrogate
from jaxsci.errors import lookup
from jaxsci.export import (
    export_onnx,
    export_stablehlo,
    input_names,
    moments,
    operator_arguments,
    plain,
)
from jaxsci.operators.boundary import BoundaryConditions
from jaxsci.operators.fno import FNO

from ._export_settings import ExportSettings

MODELS = "models"
"""The folder of a run in which its models are."""
_BATCH, _ALLOWED = 2, 1e-4


@dataclasses.dataclass(frozen=True)
class ExportResult:
    """What was exported; `print` it for the report.

    - `source`, `file`, `bytes`: the checkpoint, what was written, and how large it is.
    - `inputs`: name and shape of each, with names for sizes that are open.
    - `difference`: the largest between the file's output and the live model's for random inputs,
        relative to the largest output; `None` where nothing is installed that runs the file.
    """

    source: str
    file: str
    format: str
    bytes: int
    inputs: dict[str, str]
    difference: float | None

    def __str__(self) -> str:
        lines = [f"{self.source} as {self.format}: {self.file}, {self.bytes} bytes"]
        lines += [f"input {name}: {shape}" for name, shape in self.inputs.items()]
        if self.difference is None:
            lines.append("not compared with the live model: onnxruntime is not installed")
        else:
            lines.append(
                f"differs from the live model by {self.difference:.1e} of its largest value"
            )
        return "\n".join(lines)


def export_file(
    settings: ExportSettings, *, progress: Callable[[str], Any] | None = None
) -> ExportResult:
    """Exports a model that was saved, and compares what the file gives with the live model.

    Axes of operators with boundary conditions, of surrogates whose `shape` is a function of the
    inputs, and of Fourier neural operators stay open in StableHLO; other models, and ONNX, have the
    sizes with which the checkpoint was saved.

    **Arguments:**

    - `settings`: an [`jaxsci.experiments.ExportSettings`][].
    - `progress`: called with a line of text now and then.

    **Raises:** `ValueError` if there is no such model, if it was saved without the arguments of a
    call, if it cannot be loaded (as [`jaxsci.checkpoints.load_checkpoint`][]) or exported, or if
    the file's numbers differ by more than 1e-4; `OSError` for a file that exists already.
    """
    say = progress or (lambda line: None)
    kind = settings.resolved_format()
    source = find_checkpoint(settings)
    output = settings.output or source.with_suffix(f".{kind}")
    if output.exists() and not settings.overwrite:
        raise FileExistsError(f"{output} exists already; --overwrite replaces it")
    said = read_checkpoint(source)
    if said["args"] is None:
        raise ValueError(
            f"{source} was saved without the arguments of a call, whose shapes an export needs; "
            "save it with `save_checkpoint(..., args=(x, ...))`"
        )
    say(f"loading {source}")
    with _importing_from_here():
        like = None if settings.like is None else _named(settings.like)
        model = load_checkpoint(source, like, trusted=settings.trusted)
    args, shapes = _arguments(model, said["args"])
    given = jax.tree.map(_random, args)
    say(f"exporting to {output}")
    if kind == "stablehlo":
        exported = export_stablehlo(output, model, args, shapes)
        sizes = dict(zip(input_names(args), exported.in_avals, strict=True))
        inputs = {name: str(aval.str_short(short_dtypes=True)) for name, aval in sizes.items()}
        found = jax.tree.leaves(jax.jit(exported.call)(*plain(given)))
    else:
        content = export_onnx(output, model, args)
        found, inputs = _run_onnx(content, given)
    expected = jax.tree.leaves(plain(jax.jit(jax.vmap(_moments_of(model)))(*given)))
    difference = None if found is None else _difference(found, expected)
    if difference is not None and not difference <= _ALLOWED:
        output.unlink()
        raise ValueError(
            f"the exported {source} differs from the live model by {difference:.1e} of its largest "
            f"value, more than {_ALLOWED:.0e}; {output} was removed"
        )
    size = output.stat().st_size
    return ExportResult(str(source), str(output), kind, size, inputs, difference)


def find_checkpoint(settings: ExportSettings) -> Path:
    """The checkpoint that is meant.

    **Raises:** `ValueError` if there is none, or several that the settings do not tell apart.
    """
    source = settings.source
    if not source.exists():
        raise ValueError(f"{source}: there is no such file or folder")
    if source.is_file() or (source / "about.jaxsci").exists():
        return source
    folder = source / MODELS
    files = sorted(folder.glob("*.jaxsci"))
    if not files:
        raise ValueError(
            f"{source}: expected the folder of a run with operators, which has its models in "
            f"{MODELS}, got none there; run `jaxsci run EXPERIMENT --model ...` first"
        )
    found: dict[str, list[tuple[int, Path]]] = {}
    for file in files:
        name, _, seed = file.stem.rpartition("-")
        found.setdefault(name, []).append((int(seed), file))
    if settings.model is None and len(found) > 1:
        raise ValueError(
            f"{source} has several models; choose one with --model: {', '.join(found)}"
        )
    name = settings.model or next(iter(found))
    seeds = dict(sorted(lookup(f"model in {source}", name, found)))
    if settings.seed is not None and settings.seed not in seeds:
        raise ValueError(
            f"--seed: {source} has {name} for the seeds {', '.join(map(str, seeds))}, not for "
            f"{settings.seed}"
        )
    return seeds[next(iter(seeds)) if settings.seed is None else settings.seed]


@contextlib.contextmanager
def _importing_from_here() -> Iterator[None]:
    """Modules of the working folder can be imported, as with `python -m`."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _named(path: str) -> Any:
    """The model that `MODULE:NAME` is or builds.

    **Raises:** `ValueError` if there is none.
    """
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"--like: expected MODULE:NAME, got {path!r}: {error}") from error
    return found() if isinstance(found, FunctionType) else found


def _moments_of(model: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args: moments(model(*args))


def _arguments(model: Any, args: tuple[Any, ...]) -> tuple[tuple[Any, ...], Any]:
    """The arguments, and names for the sizes that may stay open."""
    dimensions = len(args[0].shape) - 1 if hasattr(args[0], "shape") else -1
    found = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, BoundaryConditions))
    conditions = next((node for node in found if isinstance(node, BoundaryConditions)), None)
    if isinstance(model, ConstrainedSurrogate):
        if any(each is not None and not callable(each) for each in _sized(model)):
            return args, None
        model = getattr(model.surrogate, "function", None)
    if isinstance(model, FNO) and conditions is None:
        names = ", ".join(["_", *(f"n{axis + 1}" for axis in range(dimensions))])
        return args, (names, *[None] * (len(args) - 1))
    if conditions is not None and dimensions == len(conditions.axes) and len(args) <= 2:
        return operator_arguments(conditions, *args)
    return args, None


def _sized(surrogate: ConstrainedSurrogate) -> tuple[Any, ...]:
    """What has the size of one grid, unless it is a function of the inputs."""
    return surrogate.shape, surrogate.conservation, surrogate.inequality, surrogate.balance


def _random(like: jax.ShapeDtypeStruct) -> jax.Array:
    numbers = np.random.default_rng(0).standard_normal((_BATCH, *like.shape))
    return jnp.asarray(numbers, like.dtype)


def _run_onnx(content: bytes, given: tuple[Any, ...]) -> tuple[Any, dict[str, str]]:
    names = input_names(given)
    arrays = [np.asarray(leaf) for leaf in jax.tree.leaves(plain(given))]
    inputs = {
        name: f"{array.dtype}[batch{''.join(f',{n}' for n in array.shape[1:])}]"
        for name, array in zip(names, arrays, strict=True)
    }
    try:
        onnxruntime: Any = importlib.import_module("onnxruntime")
    except ImportError:
        return None, inputs
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, dict(zip(names, arrays, strict=True))), inputs


def _difference(found: Any, expected: Any) -> float:
    pairs = [(np.asarray(a), np.asarray(b)) for a, b in zip(found, expected, strict=True)]
    return max(float(np.abs(a - b).max() / max(np.abs(b).max(), 1e-30)) for a, b in pairs)
