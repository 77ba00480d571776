"""The FNO at sizes for a GPU: `python benchmarks/large_operators.py [--repeats 15] [--small]`.

Inference and a training step of the same network in float32 and with products in bfloat16, by
matrix products and by FFTs: time, memory, and rates against what the device does at best (a large
copy, a large matrix product in that dtype). Operations and bytes are counted from the network, not
by the compiler: four pointwise or spectral products per block, each array read and written once.
"""

import argparse
import math
from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from timing import Measurement, compiled, copy_rate, interleaved, report

from jaxsci.metrics import relative_l2
from jaxsci.operators.fno import FNO
from jaxsci.precision import Policy, contract

WIDTH, MODES, LAYERS = 64, 16, 4
CASES = {
    "1-D, N = 1024, 256 at once": ((1024,), 256),
    "2-D, 128 x 128, 64 at once": ((128, 128), 64),
}
SMALL = {"2-D, 32 x 32, 4 at once": ((32, 32), 4)}
DTYPES = {"float32": Policy(), "bfloat16": Policy(compute="bfloat16")}


def ceilings(n: int) -> dict[str, float]:
    """Bytes per second of a copy, and operations per second of products, by dtype."""
    jobs: dict[str, Callable[[], Any]] = {}
    for dtype in DTYPES:
        a, b = jax.random.normal(jax.random.key(0), (2, n, n), jnp.dtype(dtype))
        product = jax.jit(lambda a, b: contract(a, b, ([1], [0])))
        jobs[dtype] = lambda f=product, a=a, b=b: f(a, b)
    seconds = interleaved(jobs, 11)
    return {"copy": copy_rate()} | {dtype: 2.0 * n**3 / each for dtype, each in seconds.items()}


def training_step(model: FNO, x, y):
    """Loss, gradient and Adam."""
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    def loss(params):
        return jax.vmap(relative_l2)(jax.vmap(eqx.combine(params, rest))(x), y).mean()

    optimiser = optax.adam(1e-3)
    updates, _ = optimiser.update(jax.grad(loss)(params), optimiser.init(params))
    return optax.apply_updates(params, updates)


def least(grid: tuple[int, ...], batch: int, itemsize: int) -> tuple[float, float]:
    """Operations and bytes of inference at least: pointwise and spectral products of all blocks."""
    points, width = batch * math.prod(grid), WIDTH
    # Transforms as truncated matrix products, axis by axis; then the products of the modes.
    axes, spectral = list(grid), 0.0
    for axis in reversed(range(len(grid))):
        kept = MODES // 2 + 1 if axis == len(grid) - 1 else MODES
        spectral += 8 * batch * width * math.prod(axes) * kept / (2 if axis == len(grid) - 1 else 1)
        axes[axis] = kept
    spectral = 2 * spectral + 8 * batch * width**2 * math.prod(axes)
    skip, mlp, mlp_skip = width**2, 2 * width * (width // 2), width
    block = 2 * points * (skip + mlp + mlp_skip) + spectral
    ends = 2 * points * (2 * width * (1 + len(grid) + width) + 2 * width * (width + 1))
    # A block reads its input for the spectrum, and again for all that is pointwise; and writes.
    return LAYERS * block + ends, itemsize * points * width * 3 * LAYERS


def rows_of(case: str, repeats: int, best: dict[str, float], cases: Any) -> list[Measurement]:
    grid, batch = cases[case]
    key = jax.random.key(0)
    x = jax.random.normal(key, (batch, 1, *grid))
    y = jnp.sin(x)
    made = {
        (method, dtype): FNO(1, 1, MODES if len(grid) == 1 else (MODES,) * len(grid), WIDTH,
                             method=method, policy=policy, key=key)
        for method in ("matmul", "fft")
        for dtype, policy in DTYPES.items()
    }  # fmt: skip
    programs = compiled(
        {("inference", k): (lambda m, x: jax.vmap(m)(x), m, x) for k, m in made.items()}
        | {("training step", k): (training_step, m, x, y) for k, m in made.items()}
    )
    jobs = {job: {k: programs[job, k] for k in made} for job in ("inference", "training step")}
    exact = jax.vmap(made["fft", "float32"])(x)
    rows = []
    for (method, dtype), (run, _) in jobs["inference"].items():
        apart = float(jnp.sqrt(jnp.mean((run() - exact) ** 2) / jnp.mean(exact**2)))
        bar = 1e-5 if dtype == "float32" else 3e-2
        rows.append(Measurement(f"{case}, {method}, {dtype}: output, from that by FFTs in float32",
                                apart, "", "lower", bar))  # fmt: skip
    for job, programs in jobs.items():
        seconds = interleaved({k: run for k, (run, _) in programs.items()}, repeats)
        for (method, dtype), (_, program) in programs.items():
            temporary = program.compiled.memory_analysis().temp_size_in_bytes
            what = f"{case}, {job}, {method}, {dtype}"
            each = seconds[method, dtype]
            operations, moved = least(grid, batch, 4 if dtype == "float32" else 2)
            if job != "inference":  # backwards each product is two, and each array passes again
                operations, moved = 3 * operations, 3 * moved
            floor = max(operations / best[dtype], moved / best["copy"])
            rows += [
                Measurement(what, 1e3 * each, "ms", "lower"),
                Measurement(f"{what}: / float32's", each / seconds[method, "float32"], "x",
                            "lower"),
                Measurement(f"{what}: / that by FFTs", each / seconds["fft", dtype], "x", "lower"),
                Measurement(f"{what}: memory beside arguments", temporary / 1e6, "MB", "lower"),
                Measurement(f"{what}: least time by the roofline / time", floor / each, "x",
                            "higher"),
            ]  # fmt: skip
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--small", action="store_true", help="a size for a CPU, to try it")
    arguments = parser.parse_args()
    best = ceilings(512 if arguments.small else 8192)
    rows = [Measurement("a large copy", best["copy"] / 1e9, "GB/s", "higher")]
    rows += [
        Measurement(f"a large product in {d}", best[d] / 1e12, "TFLOP/s", "higher") for d in DTYPES
    ]
    cases = SMALL if arguments.small else CASES
    for case in cases:
        more = rows_of(case, arguments.repeats, best, cases)
        rows += more
        for row in more:
            print(f"{row.metric}: {row.value:.4g} {row.unit} {row.verdict}", flush=True)
        report(
            "large_operators",
            "The FNO at sizes for a GPU",
            f"python benchmarks/large_operators.py --repeats {arguments.repeats}"
            + (" --small" if arguments.small else ""),
            rows,
            f"Width {WIDTH}, {MODES} modes for each axis, {LAYERS} layers. `bfloat16`: products "
            "and activations; parameters, transforms' sums and outputs in float32.",
        )


if __name__ == "__main__":
    main()
