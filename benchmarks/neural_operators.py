"""The Fourier neural operator against PyTorch's neuraloperator, and matrix products against FFTs.

`python benchmarks/neural_operators.py [--repeats 15] [--threads 2] [--only torch|transforms]`, with
`torch` and `neuraloperator` installed for the first half. Both networks hold the same weights;
outputs and losses of training steps are compared before anything is timed. Both have the same
number of threads; on a GPU, the same GPU, larger batches, and no TF32 in either.
"""

import argparse
import os
from functools import partial
from itertools import product

# Otherwise OpenMP's threads may wait by spinning, and longer the busier the machine is.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from timing import Measurement, interleaved_samples, report  # noqa: E402

from jaxsci.operators.fno import FNO, load_neuraloperator, neuraloperator_weights  # noqa: E402
from jaxsci.operators.spectral import ExtendedFourier, Fourier, SpectralConv  # noqa: E402
from jaxsci.training import value_and_grad_in_parts  # noqa: E402

WIDTH, MODES, LEARNING_RATE = 64, 16, 1e-3
# Grid and batch: as in the papers' experiments, and small enough for two cores.
# Last, in how many parts ours takes the batch.
GRIDS = {
    "1-D, N = 256": ((256,), 20, 4),
    "1-D, N = 1024": ((1024,), 20, 20),
    "2-D, 64 x 64": ((64, 64), 4, 4),
}
GPU_GRIDS = {
    "1-D, N = 256": ((256,), 20, 1),
    "1-D, N = 1024": ((1024,), 256, 1),
    "2-D, 64 x 64": ((64, 64), 20, 1),
    "2-D, 128 x 128": ((128, 128), 64, 1),
}


@eqx.filter_jit
def forward(model, x):
    return jax.vmap(model)(x)


@eqx.filter_jit
def forward_in_parts(model, x, parts):
    """The same a part of the batch at a time, so that what it needs stays in the cache."""
    return jax.lax.map(model, x, batch_size=len(x) // parts)


class OurTraining:
    """Loss, gradients and Adam in one jitted step; a call is a step.

    The gradient is that of the whole batch, summed over `parts` of it: on a CPU their arrays stay
    in the cache, and XLA's are then small enough for the allocator to keep.
    """

    def __init__(self, model, x, y, parts):
        self.params, rest = eqx.partition(model, eqx.is_inexact_array)
        self.params = jax.tree.map(jnp.copy, self.params)  # donated below
        optimiser = optax.adam(LEARNING_RATE)
        self.state = optimiser.init(self.params)

        def loss(params, x, y):
            return jnp.mean((jax.vmap(eqx.combine(params, rest))(x) - y) ** 2)

        gradients = value_and_grad_in_parts(loss, parts)

        def step(params, state, x, y):
            value, gradient = gradients(params, x, y)
            updates, state = optimiser.update(gradient, state)
            return optax.apply_updates(params, updates), state, value

        self.step, self.x, self.y = jax.jit(step, donate_argnums=(0, 1)), x, y

    def __call__(self):
        self.params, self.state, value = self.step(self.params, self.state, self.x, self.y)
        return value, self.params


def against_torch(repeats: int) -> list[Measurement]:
    """Inference and training of the same networks."""
    import torch  # pyright: ignore[reportMissingImports]
    from neuralop.models import FNO as TorchFNO  # pyright: ignore[reportMissingImports]

    on_gpu = jax.default_backend() == "gpu"
    device = "cuda" if on_gpu else "cpu"
    torch.backends.cudnn.allow_tf32 = False
    wait = torch.cuda.synchronize if on_gpu else (lambda: None)

    class TorchTraining:
        def __init__(self, model, x, y):
            self.model, self.x, self.y = model, x, y
            parameters = list(model.parameters())
            self.optimiser = torch.optim.Adam(parameters, LEARNING_RATE)

        def __call__(self):
            self.optimiser.zero_grad(set_to_none=True)
            value = torch.mean((self.model(self.x) - self.y) ** 2)
            value.backward()
            self.optimiser.step()
            wait()
            return value.detach()

    def peer(config, weights):
        model = TorchFNO(**config)
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
        return model.to(device)

    measurements = []
    for name, (grid, batch, parts) in (GPU_GRIDS if on_gpu else GRIDS).items():
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, batch, 1, *grid)).astype(np.float32)
        modes = (MODES,) * len(grid)
        config = {"n_modes": modes, "in_channels": 1, "out_channels": 1, "hidden_channels": WIDTH}
        weights = neuraloperator_weights(FNO(1, 1, modes, WIDTH, key=jax.random.key(0)))
        ours = load_neuraloperator(weights, config=config)
        on_device = [jnp.asarray(a) for a in (x, y)]
        tensors = [torch.from_numpy(a).to(device) for a in (x, y)]
        with torch.no_grad():
            # On a GPU its inverse FFT is given imaginary parts that cuFFT may not ignore.
            exact = peer(config, weights).cpu().eval()(tensors[0].cpu()).numpy()
            theirs = peer(config, weights).eval()
        size = np.sqrt(np.mean(exact**2))
        difference = float(np.abs(forward(ours, on_device[0]) - exact).max() / size)
        training = OurTraining(ours, on_device[0], on_device[1], parts)
        torch_training = TorchTraining(peer(config, weights), *tensors)
        losses = [(float(training()[0]), float(torch_training())) for _ in range(5)]
        apart = max(abs(a - b) / b for a, b in losses)
        checks = [
            Measurement(f"{name}: outputs, difference / rms", difference, "", "lower", 1e-5),
            Measurement(f"{name}: 5 losses of Adam, relative difference", apart, "", "lower", 1e-3),
        ]
        if any(m.verdict == "MISSED" for m in checks):
            raise SystemExit(f"the networks disagree, so their times say nothing: {checks}")
        measurements += checks

        @torch.no_grad()
        def torch_forward(theirs=theirs, x=tensors[0]):
            y = theirs(x)
            wait()
            return y

        jobs = {
            "inference": (partial(forward_in_parts, ours, on_device[0], parts), torch_forward),
            "inference, the batch at once": (partial(forward, ours, on_device[0]), torch_forward),
            "training step": (training, torch_training),
            "training step, the batch at once": (
                OurTraining(ours, on_device[0], on_device[1], 1),
                TorchTraining(peer(config, weights), *tensors),
            ),
        }
        for what, (us, them) in jobs.items():
            samples = interleaved_samples({"ours": us, "theirs": them}, repeats)
            wall, cpu = ({k: float(np.median(v[:, i])) for k, v in samples.items()} for i in (0, 1))
            ratio, in_cpu = wall["ours"] / wall["theirs"], cpu["ours"] / cpu["theirs"]
            label, bar = f"{name}, {what}", None if "at once" in what else 0.8
            measurements += [
                Measurement(f"{label}: ours", 1e3 * wall["ours"], "ms", "lower"),
                Measurement(f"{label}: neuraloperator", 1e3 * wall["theirs"], "ms", "lower"),
                Measurement(f"{label}: ours / neuraloperator", ratio, "x", "lower", bar),
                Measurement(f"{label}: the same in processor time", in_cpu, "x", "lower"),
            ]
            print(*(f"{m.metric}: {m.value:.3g}" for m in measurements[-4:]), sep="\n", flush=True)
    return measurements


def transforms(repeats: int) -> list[Measurement]:
    """Where an FFT becomes faster than matrix products: a spectral layer, forward and backward."""
    measurements = []
    bases = {"": Fourier(), "longer circle, ": ExtendedFourier()}
    for name, points in product(bases, (64, 256, 1024)):
        for modes in (8, 16, 32, 64) if name == "" else (32, 64, 96, 128):
            if modes > points:
                continue
            x = jnp.asarray(np.random.default_rng(0).normal(size=(8, 8, points)), jnp.float32)
            jobs = {}
            for method in ("matmul", "fft"):
                layer = SpectralConv(
                    8, 8, modes, bases=bases[name], method=method, key=jax.random.key(0)
                )
                gradient = jax.jit(jax.grad(lambda f, x: jnp.sum(jax.vmap(f)(x) ** 2), (0, 1)))
                jobs[method] = partial(gradient, layer, x)
            samples = interleaved_samples(jobs, repeats)
            cpu = {k: float(np.median(v[:, 1])) for k, v in samples.items()}
            label = (
                f"{name}N = {points}, {modes // 2 + 1} coefficients: matmul / FFT, processor time"
            )
            measurements.append(Measurement(label, cpu["matmul"] / cpu["fft"], "x", "lower"))
            print(f"{label}: {measurements[-1].value:.3g}", flush=True)
    return measurements


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("torch", "transforms"))
    arguments = parser.parse_args()
    threads, only = arguments.threads, arguments.only
    # XLA takes as many threads as the process has cores.
    if hasattr(os, "sched_setaffinity") and jax.default_backend() == "cpu":
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    measurements, versions = [], ""
    if only != "torch":
        measurements += transforms(arguments.repeats)
    if only != "transforms":
        import neuralop  # pyright: ignore[reportMissingImports]
        import torch  # pyright: ignore[reportMissingImports]

        torch.set_num_threads(threads)
        versions = f"torch {torch.__version__}, neuraloperator {neuralop.__version__}; "
        measurements += against_torch(arguments.repeats)
    text = report(
        "neural_operators" + (f"_{only}" if only else ""),
        "Neural operators: the FNO against neuraloperator, matrix products against FFTs",
        f"python benchmarks/neural_operators.py --repeats {arguments.repeats} --threads {threads}"
        + (f" --only {only}" if only else ""),
        measurements,
        f"{versions}{threads} thread(s) for both, load average {os.getloadavg()[0]:.0f}; width "
        f"{WIDTH}, {MODES} modes for each axis, 4 layers, float32; batches of 20 (1-D) and 4 "
        f"(2-D); median of {arguments.repeats} interleaved calls, compilation apart. Ours takes a "
        "batch in parts, of which gradients are summed, except where *at once* is said; both "
        "optimisers see the gradient of the whole batch. Processor time is summed over threads, "
        "and feels a busy machine less.",
    )
    print(text)


if __name__ == "__main__":
    main()
