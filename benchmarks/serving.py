"""What an exported file costs to serve: `python benchmarks/serving.py`.

The same operator, alone and constrained, as the live model under `jit`, as a StableHLO file with an
open batch and an open grid, reloaded, and, where onnxruntime and jax2onnx are installed, as ONNX.
Latency of one sample and throughput of batches, on several grids.
"""

import importlib
import importlib.util
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from timing import Measurement, interleaved, report

from jaxsci import constrain
from jaxsci.conservation import LinearConstraint, integral
from jaxsci.export import export_onnx, export_stablehlo, load_stablehlo
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Neumann
from jaxsci.operators.constrained import DEFAULT_RECIPE, make_operator

GRIDS = (16, 64), (32, 256)
BATCHES = 1, 16
ONNX = all(importlib.util.find_spec(name) for name in ("jax2onnx", "onnxruntime"))


class Mean(eqx.Module):
    """The mean of a surrogate's prediction."""

    surrogate: Callable[..., Any]

    def __call__(self, x: Array) -> Array:
        return self.surrogate(x).mean


def total(x: Array) -> LinearConstraint:
    """That of the first state, at all times."""
    _, n, m = x.shape
    grid = Grid.uniform(t=(0.0, 1.0, n), x=(0.0, 1.0, m))
    return integral(grid, jnp.repeat(grid.spatial.weights() @ x[0, 0], n), over="x")


def models() -> dict[str, Callable[..., Any]]:
    walls = BoundaryConditions(("t", "x"), {"x": Neumann(0.0)}, length={"x": 1.0})
    operator = make_operator(
        DEFAULT_RECIPE, 1, 1, walls, modes=(8, 16), width=32, layers=4, key=jax.random.key(0)
    )
    surrogate = constrain(
        operator,
        variance=1.0,
        conservation=total,
        boundary=walls,
        shape=jnp.shape,
        boundary_update="enforce",
    )
    return {"operator": operator, "constrained operator": Mean(surrogate)}


def session(content: bytes) -> Callable[[np.ndarray], Any]:
    """The ONNX file in onnxruntime, with as many threads as it takes by itself."""
    runtime: Any = importlib.import_module("onnxruntime")
    found = runtime.InferenceSession(content)
    return lambda x: found.run(None, {"x0": x})[0]


def served(name: str, model: Callable[..., Any], folder: Path) -> list[Measurement]:
    """Each way's time over the live model's, and how far its numbers are from it."""
    live, rows = jax.jit(jax.vmap(model)), []
    path = folder / f"{name}.stablehlo"
    export_stablehlo(path, model, (jnp.zeros((1, *GRIDS[0])),), ("_, t, x",))
    file = jax.jit(load_stablehlo(path).call)
    rows.append(Measurement(f"{name}: StableHLO file", path.stat().st_size / 2**20, "MiB", "lower"))
    for grid in GRIDS:
        ways: dict[str, Callable[[Any], Any]] = {"live": live, "StableHLO": file}
        if ONNX:
            try:
                ways["ONNX"] = session(export_onnx(None, model, (jnp.zeros((1, *grid)),)))
            except ValueError as refused:
                print(refused)
        for batch in BATCHES:
            x = np.random.default_rng(0).standard_normal((batch, 1, *grid)).astype(np.float32)
            calls = {
                way: partial(call, x if way == "ONNX" else jnp.asarray(x))
                for way, call in ways.items()
            }
            found = {way: np.asarray(call()) for way, call in calls.items()}
            seconds = interleaved(calls, 15)
            case = f"{name}, {grid[0]} x {grid[1]}, batch {batch}"
            rows.append(Measurement(f"{case}: live", 1e3 * seconds["live"], "ms", "lower"))
            rows.append(
                Measurement(f"{case}: live", batch / seconds["live"], "samples/s", "higher")
            )
            largest = float(np.abs(found["live"]).max())
            for way in list(ways)[1:]:
                off = float(np.abs(found[way] - found["live"]).max()) / largest
                ratio = seconds[way] / seconds["live"]
                rows.append(Measurement(f"{case}: {way} / live, time", ratio, "x", "lower"))
                rows.append(
                    Measurement(
                        f"{case}: {way}, largest difference", off, "of the largest value", "lower",
                        1e-6 if way == "StableHLO" else 1e-5,
                    )
                )  # fmt: skip
    return rows


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = [
            row for name, model in models().items() for row in served(name, model, Path(folder))
        ]
    print(
        report(
            "serving",
            "Exported files and the live model",
            "python benchmarks/serving.py",
            rows,
            "The default operator of width 32 with modes (8, 16), four layers and insulated walls, "
            "alone and with the total of its first state imposed (mean only). One StableHLO file "
            "for all grids and batches; ONNX, where installed, one file for each grid. Medians of "
            "calls in turn, compilation apart; times on two cores, a rough guide.",
        )
    )


if __name__ == "__main__":
    main()
