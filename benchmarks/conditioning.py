"""What a conservation law costs: `python benchmarks/conditioning.py`.

1. 5 x 201 time slices of 201 points, as in the published experiments: `condition` against the dense
   update as published (matrices of all pairs of points), and against the closed form in numpy.
2. One field of n points, n = 2^8 ... 2^20: growth, memory at 10^6.
3. Four devices (forced CPU devices): the same numbers when the slices are spread over them.
"""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from timing import Measurement, interleaved, interleaved_samples, report

from jaxsci.conservation import LinearConstraint, condition
from jaxsci.gaussians import Gaussian, WeightedSums
from jaxsci.grids import Grid

SLICES, POINTS = 5 * 201, 201


@jax.jit
def ours(mean, variance, b, weights):
    """Conditioned mean and variance of a batch of slices."""

    def one(mean, variance, b):
        total = LinearConstraint(WeightedSums(weights), b)  # what `integral` makes of a grid
        gaussian = condition(Gaussian.diagonal(mean, variance), total)
        return gaussian.mean, gaussian.marginal_var

    return jax.vmap(one)(mean, variance, b)


def closed_form(mean, variance, b, weights):
    """The same in numpy: one row, diagonal covariance, float32 throughout."""
    scaled = variance * weights
    total = scaled @ weights
    residual = mean @ weights - b
    moved = mean - scaled * (residual / total)[:, None]
    return moved, variance - scaled**2 / total[:, None]


def dense(mean, variance, b, weights):
    """The update as published: dense covariances, a matrix inverse, batched."""
    n = mean.shape[1]
    sigma = variance[:, :, None] * np.eye(n, dtype=mean.dtype)
    g = np.broadcast_to(weights, (len(mean), 1, n))
    gt = g.transpose(0, 2, 1)
    inverse = np.linalg.inv(g @ sigma @ gt)
    gain = sigma @ gt @ inverse
    moved = mean[:, :, None] - gain @ (g @ mean[:, :, None] - b[:, None, None])
    cov = sigma - gain @ g @ sigma
    return moved[:, :, 0], np.diagonal(cov, axis1=1, axis2=2)


def _inputs(slices: int, n: int):
    rng = np.random.default_rng(0)
    mean = rng.normal(size=(slices, n)).astype(np.float32)
    variance = (rng.normal(size=(slices, n)) ** 2 + 0.01).astype(np.float32)
    return mean, variance, rng.normal(size=slices).astype(np.float32)


def _weights(n: int) -> np.ndarray:
    return np.asarray(Grid.uniform(x=(0.0, 1.0, n)).weights())


def slices() -> list[Measurement]:
    mean, variance, b = _inputs(SLICES, POINTS)
    weights = _weights(POINTS)
    on_device = jax.tree.map(jnp.asarray, (mean, variance, b, weights))
    wall, processors = _medians(
        {
            "ours": lambda: ours(*on_device),
            "numpy": lambda: closed_form(mean, variance, b, weights),
        }
    )
    slow = interleaved(
        {
            "ours": lambda: ours(*on_device),
            "dense": lambda: dense(mean, variance, b, weights),
        },
        repeats=5,
    )
    got = ours(*on_device)
    reference = dense(mean.astype(float), variance.astype(float), b.astype(float), weights)
    error = max(float(np.abs(g - r).max()) for g, r in zip(got, reference, strict=True))
    exact = weights.astype(float)
    residual = np.abs(np.asarray(got[0], float) @ exact - b)
    bound = np.finfo(np.float32).eps * (np.abs(got[0]) @ np.abs(weights))
    other, _ = closed_form(mean, variance, b, weights)
    other_residual = np.abs(other.astype(float) @ exact - b)
    what = f"{SLICES} slices of {POINTS}"
    return [
        *_against_numpy(what, wall, processors),
        Measurement(
            f"{what}: dense update / ours", slow["dense"] / slow["ours"], "x", "higher", 100.0
        ),
        Measurement(f"{what}: largest error against float64", error, "", "lower", 1e-5),
        Measurement(
            f"{what}: ours, residual / (eps sum |g u|)", float((residual / bound).max()), "",
            "lower", 4.0,
        ),
        Measurement(
            f"{what}: closed form, residual / (eps sum |g u|)",
            float((other_residual / bound).max()), "", "lower",
        ),
    ]  # fmt: skip


def _medians(functions) -> list[dict[str, float]]:
    """Of the time by the wall and of that of all processors."""
    samples = interleaved_samples(functions)
    return [{name: float(np.median(s[:, i])) for name, s in samples.items()} for i in (0, 1)]


def _against_numpy(what: str, wall: dict, processors: dict) -> list[Measurement]:
    # On a busy machine two threads wait for the slower one: processor time says more there.
    ratio, work = (t["ours"] / t["numpy"] for t in (wall, processors))
    name = f"{what}: ours / numpy closed form"
    return [
        Measurement(f"{what}: ours", 1e3 * wall["ours"], "ms", "lower"),
        Measurement(name, ratio, "x", "lower", 2.0),
        Measurement(f"{name}, processor time", work, "x", "lower", 2.0),
    ]


def growth() -> list[Measurement]:
    sizes, times, measurements = 2 ** np.arange(8, 21), [], []
    for n in sizes:
        arrays = (*_inputs(1, int(n)), _weights(int(n)))
        on_device = jax.tree.map(jnp.asarray, arrays)
        wall, processors = _medians(
            {
                "ours": lambda d=on_device: ours(*d),
                "numpy": lambda a=arrays: closed_form(*a),
            }
        )
        times.append(wall["ours"])
        if n == sizes[-1]:
            measurements = _against_numpy(f"n = {n}", wall, processors)
    # Small sizes are all overhead; the slope that matters is the steepest between 16-fold sizes.
    logs = np.log2(times)
    slope = np.polyfit(np.log2(sizes), logs, 1)[0]
    steepest = float(((logs[4:] - logs[:-4]) / 4).max())
    return [
        Measurement("growth exponent, 2^8 to 2^20 (fit)", float(slope), "", "lower", 1.1),
        Measurement("growth exponent, steepest 16-fold step", steepest, "", "lower"),
        *measurements,
    ]


def memory() -> list[Measurement]:
    """Peak memory of a fresh process that conditions 10^6 points, above one that only imports."""
    peak = _in_fresh_process("--peak-memory")
    return [Measurement("n = 10^6: memory for it", peak, "MB", "lower", 200.0)]


def _in_fresh_process(argument: str, **environment: str) -> float:
    command = [sys.executable, __file__, argument]
    env = os.environ | environment
    return float(subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout)


def _peak_memory() -> None:
    n = 1_000_000
    warm = jax.block_until_ready(
        ours(jnp.ones((1, 4)), jnp.ones((1, 4)), jnp.zeros(1), jnp.ones(4))
    )
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak of importing (Linux)
    before = _status("VmRSS")
    mean, variance = jnp.ones((1, n)), jnp.full((1, n), 0.5)
    jax.block_until_ready((warm, ours(mean, variance, jnp.zeros(1), mean[0] / n)))
    print(_status("VmHWM") - before)


def _status(field: str) -> float:
    """A field of the process's status, in MB."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return float(line.split()[1]) / 1024
    raise RuntimeError(f"this system does not tell {field}")


def sharded() -> list[Measurement]:
    """In a process of its own, as forced devices share the cores that are timed above."""
    flags = "--xla_force_host_platform_device_count=4"
    difference = _in_fresh_process("--sharded", XLA_FLAGS=flags)
    name = "4 devices against 1: largest relative difference"
    return [Measurement(name, difference, "", "lower", 1e-6)]


def _sharded() -> None:
    mean, variance, b = _inputs(1004, POINTS)
    mesh = Mesh(np.array(jax.devices()), ("batch",))
    spread = NamedSharding(mesh, PartitionSpec("batch"))
    parts = jax.tree.map(lambda a: jax.device_put(a, spread), (mean, variance, b))
    weights = jnp.asarray(_weights(POINTS))
    one, many = ours(*map(jnp.asarray, (mean, variance, b)), weights), ours(*parts, weights)
    difference = max(
        float(np.abs(np.asarray(a) - np.asarray(c)).max() / np.abs(np.asarray(a)).max())
        for a, c in zip(one, many, strict=True)
    )
    assert len(jax.devices()) == 4
    print(difference)


if __name__ == "__main__":
    if "--peak-memory" in sys.argv:
        _peak_memory()
    elif "--sharded" in sys.argv:
        _sharded()
    else:
        print(
            report(
                "conditioning",
                "The cost of a conservation law",
                "python benchmarks/conditioning.py",
                [*slices(), *growth(), *memory(), *sharded()],
                f"Load of the machine: {os.getloadavg()[1]:.0f} on {os.cpu_count()} cores. "
                "Where it is the larger number, processor time is the one to read.",
            )
        )
