"""The Fourier neural operator against PyTorch's neuraloperator, and matrix products against FFTs.

`python benchmarks/neural_operators.py [--repeats 15] [--threads 2] [--only torch|transforms]`, with
`torch` and `neuraloperator` installed for the first half. Both networks hold the same weights;
outputs and losses of training steps are compared before anything is timed. Both have the same
number of threads.
"""

import argparse
import os

# Otherwise OpenMP's threads may wait by spinning, and longer the busier the machine is.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
from timing import Measurement, interleaved_samples  # noqa: E402

from jaxsci.operators.fno import FNO, load_neuraloperator, neuraloperator_weights  # noqa: E402

WIDTH, MODES, LEARNING_RATE = 64, 16, 1e-3
# Grid and batch: as in the papers' experiments, and small enough for two cores.
GRIDS = {
    "1-D, N = 256": ((256,), 20),
    "1-D, N = 1024": ((1024,), 20),
    "2-D, 64 x 64": ((64, 64), 4),
}


@eqx.filter_jit
def forward(model, x):
    return jax.vmap(model)(x)


class OurTraining:
    """Loss, gradients and Adam in one jitted step; a call is a step."""

    def __init__(self, model, x, y):
        self.params, rest = eqx.partition(model, eqx.is_inexact_array)
        self.params = jax.tree.map(jnp.copy, self.params)  # donated below
        optimiser = optax.adam(LEARNING_RATE)
        self.state = optimiser.init(self.params)

        def step(params, state, x, y):
            def loss(params):
                return jnp.mean((jax.vmap(eqx.combine(params, rest))(x) - y) ** 2)

            value, gradient = jax.value_and_grad(loss)(params)
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
            return value.detach()

    def peer(config, weights):
        model = TorchFNO(**config)
        model.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})
        return model

    measurements = []
    for name, (grid, batch) in GRIDS.items():
        rng = np.random.default_rng(0)
        x, y = rng.normal(size=(2, batch, 1, *grid)).astype(np.float32)
        modes = (MODES,) * len(grid)
        config = {"n_modes": modes, "in_channels": 1, "out_channels": 1, "hidden_channels": WIDTH}
        weights = neuraloperator_weights(FNO(1, 1, modes, WIDTH, key=jax.random.key(0)))
        ours = load_neuraloperator(weights, config=config)
        on_device, tensors = [jnp.asarray(a) for a in (x, y)], [torch.from_numpy(a) for a in (x, y)]
        with torch.no_grad():
            theirs = peer(config, weights).eval()
            exact = theirs(tensors[0]).numpy()
        size = np.sqrt(np.mean(exact**2))
        difference = float(np.abs(forward(ours, on_device[0]) - exact).max() / size)
        training, torch_training = OurTraining(ours, *on_device), None
        torch_training = TorchTraining(peer(config, weights), *tensors)
        losses = [(float(training()[0]), float(torch_training())) for _ in range(5)]
        apart = max(abs(a - b) / b for a, b in losses)
        measurements += [
            Measurement(
                f"{name}: outputs, difference / their spread", difference, "", "lower", 1e-5
            ),
            Measurement(f"{name}: 5 losses of Adam, relative difference", apart, "", "lower", 1e-3),
        ]
        if any(m.verdict == "MISSED" for m in measurements):
            raise SystemExit(f"the networks disagree, so their times say nothing: {measurements}")

        @torch.no_grad()
        def torch_forward(theirs=theirs, x=tensors[0]):
            return theirs(x)

        jobs = {
            "inference": (lambda m=ours, x=on_device[0]: forward(m, x), torch_forward),
            "training step": (training, torch_training),
        }
        for what, (us, them) in jobs.items():
            samples = interleaved_samples({"ours": us, "theirs": them}, repeats)
            wall, cpu = ({k: float(np.median(v[:, i])) for k, v in samples.items()} for i in (0, 1))
            ratio, in_cpu = wall["ours"] / wall["theirs"], cpu["ours"] / cpu["theirs"]
            label = f"{name}, {what}"
            measurements += [
                Measurement(f"{label}: ours", 1e3 * wall["ours"], "ms", "lower"),
                Measurement(f"{label}: neuraloperator", 1e3 * wall["theirs"], "ms", "lower"),
                Measurement(f"{label}: ours / neuraloperator", ratio, "x", "lower", 0.8),
                Measurement(f"{label}: the same in processor time", in_cpu, "x", "lower"),
            ]
            print(*(f"{m.metric}: {m.value:.3g}" for m in measurements[-4:]), sep="\n", flush=True)
    return measurements


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", choices=("torch", "transforms"))
    arguments = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as the process has cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: arguments.threads])
    import torch  # pyright: ignore[reportMissingImports]

    torch.set_num_threads(arguments.threads)
    against_torch(arguments.repeats)


if __name__ == "__main__":
    main()
