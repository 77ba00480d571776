"""Timing as the tables report it: medians of repeated calls, after a warm-up, as ratios."""

import json
import platform
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np

RESULTS = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True)
class Measurement:
    """One line of a table.

    - `value`, `unit`: the metric; `better`: `"lower"` or `"higher"`.
    - `bar`: what it should reach, `None` if nothing was asked.
    """

    metric: str
    value: float
    unit: str
    better: str
    bar: float | None = None

    @property
    def verdict(self) -> str:
        """Whether the bar is reached."""
        if self.bar is None:
            return ""
        reached = self.value <= self.bar if self.better == "lower" else self.value >= self.bar
        return "reached" if reached else "MISSED"


def interleaved(functions: dict[Any, Callable[[], Any]], repeats: int = 21) -> dict[Any, float]:
    """Median times of several functions, called in turn so that noise meets them alike."""
    samples = interleaved_samples(functions, repeats)
    return {name: float(np.median(each[:, 0])) for name, each in samples.items()}


def interleaved_samples(
    functions: dict[Any, Callable[[], Any]], repeats: int = 21
) -> dict[Any, np.ndarray]:
    """Seconds by the wall and of all processors, `(repeats, 2)`, of functions called in turn."""
    samples: dict[Any, list[tuple[float, float]]] = {name: [] for name in functions}
    for function in functions.values():
        jax.block_until_ready(function())
    for _ in range(repeats):
        for name, function in functions.items():
            wall, cpu = time.perf_counter(), time.process_time()
            jax.block_until_ready(function())
            samples[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    return {name: np.array(each) for name, each in samples.items()}


def compiled(jobs: dict[Any, tuple[Any, ...]]) -> dict[Any, tuple[Callable[[], Any], Any]]:
    """Functions with their arguments, as calls of a program on these, and the program.

    Compiled side by side.
    """
    jit: Any = eqx.filter_jit
    lowered = [jit(function).lower(*given) for function, *given in jobs.values()]
    with ThreadPoolExecutor(8) as pool:
        programs = list(pool.map(lambda each: each.compile(), lowered))
    return {
        name: (lambda program=program, given=given: program(*given), program)
        for (name, (_, *given)), program in zip(jobs.items(), programs, strict=True)
    }


def copy_rate() -> float:
    """Bytes per second, read and written, of a large copy."""
    big = jnp.ones(2**28, jnp.float32)
    copy = jax.jit(lambda x: x + 1)
    return 2 * big.nbytes / interleaved({"": lambda: copy(big)}, 11)[""]


def report(
    name: str, title: str, command: str, measurements: Sequence[Measurement], note: str = ""
) -> str:
    """Writes `results/NAME.md` and `.json`, `NAME-gpu` on a GPU; returns the table."""
    device = jax.devices()[0].device_kind
    name += "" if jax.default_backend() == "cpu" else f"-{jax.default_backend()}"
    lines = [f"# {title}", "", f"`{command}` on {device}, jax {jax.__version__}, numpy "]
    lines[-1] += f"{np.__version__}, Python {platform.python_version()}."
    lines += ["", note] if note else []
    lines += ["", "| metric | value | better | bar | |", "|---|---|---|---|---|"]
    for m in measurements:
        bar = "" if m.bar is None else f"{m.bar:g}"
        lines.append(f"| {m.metric} | {m.value:.3g} {m.unit} | {m.better} | {bar} | {m.verdict} |")
    text = "\n".join(lines) + "\n"
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text)
    rows = [asdict(m) for m in measurements]
    (RESULTS / f"{name}.json").write_text(json.dumps(rows, indent=1) + "\n")
    return text
