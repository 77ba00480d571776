"""The attentive neural process against the same network in PyTorch.

`python benchmarks/neural_process.py [--batch 32] [--repeats 15] [--threads 2]`, with `torch`
installed. Both hold the same weights; predictions, gradients and ten Adam steps are compared before
anything is timed. Tasks have 100 contexts and 100 targets, as published. Both have the same number
of threads; on a busy machine, one thread and processor time say the most.
"""

import argparse
import math
import os

# Otherwise OpenMP's threads may wait by spinning, and longer the busier the machine is.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import equinox as eqx  # noqa: E402
import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
import optax  # noqa: E402
import torch  # noqa: E402 # pyright: ignore[reportMissingImports]
from timing import Measurement, interleaved_samples, report  # noqa: E402
from torch import nn  # noqa: E402 # pyright: ignore[reportMissingImports]
from torch.nn import functional as F  # noqa: E402 # pyright: ignore[reportMissingImports]

from jaxsci.surrogates import (  # noqa: E402
    AttentiveNeuralProcess,
    Task,
    anp_loss,
    anp_weights,
    load_anp_weights,
)

WIDTH, HEADS, RATE, POINTS, LEARNING_RATE = 128, 4, 0.1, 100, 1e-4


# The peer. Attributes have the names of the published layout, so that its state dict is ours.
class TorchAttention(nn.Module):
    def __init__(self, fused: bool):
        super().__init__()
        self.encoder_key = nn.Linear(WIDTH, WIDTH, bias=False)
        self.encoder_value = nn.Linear(WIDTH, WIDTH, bias=False)
        self.encoder_query = nn.Linear(WIDTH, WIDTH, bias=False)
        self.final_linear = nn.Linear(2 * WIDTH, WIDTH)
        self.layer_norm = nn.LayerNorm(WIDTH)
        self.fused = fused

    def forward(self, key, value, query):
        k, v, q = (
            a.unflatten(-1, (HEADS, -1)).transpose(1, 2)
            for a in (self.encoder_key(key), self.encoder_value(value), self.encoder_query(query))
        )
        rate = RATE if self.training else 0.0
        if self.fused:
            attended = F.scaled_dot_product_attention(q, k, v, dropout_p=rate)
        else:
            scores = q @ k.transpose(-1, -2) / math.sqrt(WIDTH // HEADS)
            attended = F.dropout(scores.softmax(-1), rate) @ v
        attended = attended.transpose(1, 2).flatten(-2)
        joined = self.final_linear(torch.cat([query, attended], -1))
        return self.layer_norm(query + F.dropout(joined, rate))


class TorchLatentEncoder(nn.Module):
    def __init__(self, fused: bool):
        super().__init__()
        self.input_projection = nn.Linear(3, WIDTH)
        self.self_attentions = nn.ModuleList(TorchAttention(fused) for _ in range(2))
        self.penultimate_layer = nn.Linear(WIDTH, WIDTH)
        self.mu = nn.Linear(WIDTH, WIDTH)
        self.log_sigma = nn.Linear(WIDTH, WIDTH)

    def forward(self, points, values):
        hidden = self.input_projection(torch.cat([points, values[..., None]], -1))
        for layer in self.self_attentions:
            hidden = layer(hidden, hidden, hidden)
        pooled = F.relu(self.penultimate_layer(hidden.mean(1)))
        return self.mu(pooled), self.log_sigma(pooled)


class TorchDeterministicEncoder(nn.Module):
    def __init__(self, fused: bool):
        super().__init__()
        self.self_attentions = nn.ModuleList(TorchAttention(fused) for _ in range(2))
        self.cross_attentions = nn.ModuleList(TorchAttention(fused) for _ in range(2))
        self.input_projection = nn.Linear(3, WIDTH)
        self.context_projection = nn.Linear(2, WIDTH)
        self.target_projection = nn.Linear(2, WIDTH)

    def forward(self, points, values, targets):
        hidden = self.input_projection(torch.cat([points, values[..., None]], -1))
        for layer in self.self_attentions:
            hidden = layer(hidden, hidden, hidden)
        key, query = self.context_projection(points), self.target_projection(targets)
        for layer in self.cross_attentions:
            query = layer(key, hidden, query)
        return query


class TorchDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.target_projection = nn.Linear(2, WIDTH)
        self.linears = nn.ModuleList(nn.Linear(3 * WIDTH, 3 * WIDTH) for _ in range(3))
        self.final_projection = nn.Linear(3 * WIDTH, 2)

    def forward(self, representation, z, targets):
        z = z[:, None].expand(-1, targets.shape[1], -1)
        hidden = torch.cat([representation, z, self.target_projection(targets)], -1)
        for layer in self.linears:
            hidden = F.relu(layer(hidden))
        mean, s = self.final_projection(hidden).unbind(-1)
        return mean, F.softplus(s) + 1e-3


class TorchProcess(nn.Module):
    def __init__(self, weights: dict[str, np.ndarray], fused: bool):
        super().__init__()
        self.latent_encoder = TorchLatentEncoder(fused)
        self.deterministic_encoder = TorchDeterministicEncoder(fused)
        self.decoder = TorchDecoder()
        self.load_state_dict({k: torch.from_numpy(v.copy()) for k, v in weights.items()})

    def forward(self, points, values, targets):
        z, _ = self.latent_encoder(points, values)
        return self.decoder(self.deterministic_encoder(points, values, targets), z, targets)

    def loss(self, points, values, targets, truth, draw: bool):
        """Mean over tasks; `z` at its mean unless drawn."""
        mu_0, l_0 = self.latent_encoder(points, values)
        mu, l = self.latent_encoder(targets, truth)  # noqa: E741
        z = mu + torch.exp(l / 2) * torch.randn_like(mu) if draw else mu
        mean, std = self.decoder(self.deterministic_encoder(points, values, targets), z, targets)
        kl = (torch.exp(l - l_0) + (mu - mu_0) ** 2 * torch.exp(-l_0) - 1 + l_0 - l).sum(-1) / 2
        log_density = -(((truth - mean) / std) ** 2) / 2 - std.log() - math.log(2 * math.pi) / 2
        return (kl - log_density.sum(-1)).mean()


def torch_weights(model: AttentiveNeuralProcess) -> dict[str, np.ndarray]:
    named = anp_weights(model)
    return {name.replace(".linear_layer", ""): np.asarray(a) for name, a in named.items()}


def fields(batch: int) -> list[np.ndarray]:
    """Contexts and targets of smooth fields of random wavelength."""
    rng = np.random.default_rng(0)
    points, targets = rng.uniform(size=(2, batch, POINTS, 2))
    rate, phase = rng.uniform(1, 6, (batch, 1)), rng.uniform(0, 6, (batch, 1))
    values, truth = (
        np.sin(rate * (p[..., 1] - p[..., 0]) + phase) for p in (points, targets)
    )  # fmt: skip
    return [a.astype(np.float32) for a in (points, values, targets, truth)]


def batch_loss(model, data, key=None, inference=None):
    """Mean over tasks, as in training."""
    points, values, targets, truth = data
    keys = None if key is None else jax.random.split(key, len(truth))

    def one(task, truth, key):
        return anp_loss(model, task, truth, key=key, inference=inference)

    return jnp.mean(jax.vmap(one)(Task(points, values, targets), truth, keys))


@eqx.filter_jit
def our_forward(model, points, values, targets):
    gaussian = jax.vmap(model)(Task(points, values, targets))
    return gaussian.mean, jax.vmap(lambda g: g.marginal_std)(gaussian)


class OurTraining:
    """Loss, gradients and Adam in one jitted step; a call is a step."""

    def __init__(self, model, data, mode: str):
        self.params, self.rest = eqx.partition(model, eqx.is_inexact_array)
        self.params = jax.tree.map(jnp.copy, self.params)  # donated below
        optimiser = optax.adam(LEARNING_RATE)
        self.state, self.key = optimiser.init(self.params), jax.random.key(1)
        rest = self.rest

        def step(params, state, key, data):
            key, used = jax.random.split(key)
            drawn = None if mode == "mean" else used

            def loss(params):
                return batch_loss(eqx.combine(params, rest), data, drawn, mode != "dropout")

            value, gradient = jax.value_and_grad(loss)(params)
            updates, state = optimiser.update(gradient, state)
            gradient = gradient if mode == "mean" else None
            return optax.apply_updates(params, updates), state, key, value, gradient

        self.step, self.data = jax.jit(step, donate_argnums=(0, 1)), data

    def __call__(self):
        self.params, self.state, self.key, value, self.gradient = self.step(
            self.params, self.state, self.key, self.data
        )
        return value, self.params


class TorchTraining:
    def __init__(self, weights, data, mode: str, fused: bool = False):
        self.model = TorchProcess(weights, fused).train(mode == "dropout")
        self.data, self.draw = data, mode != "mean"
        self.optimiser = torch.optim.Adam(self.model.parameters(), LEARNING_RATE, fused=True)

    def __call__(self):
        self.optimiser.zero_grad(set_to_none=True)
        value = self.model.loss(*self.data, draw=self.draw)
        value.backward()
        self.optimiser.step()
        return value.detach()


def agreement(model, weights) -> list[Measurement]:
    """Errors of both against PyTorch in float64; a disagreement ends the benchmark."""
    data = fields(4)
    single = [torch.from_numpy(a) for a in data]
    outputs, gradients = {}, {}
    for name, fused, dtype in (
        ("float64", False, torch.float64),
        ("explicit", False, torch.float32),
        ("fused", True, torch.float32),
    ):
        peer = TorchProcess(weights, fused).to(dtype).eval()
        at = [a.to(dtype) for a in single]
        outputs[name] = [a.detach().numpy() for a in peer(*at[:3])]
        peer.loss(*at, draw=False).backward()
        named = peer.named_parameters()
        gradients[name] = {k: p.grad.numpy() for k, p in named if p.grad is not None}
    on_device = [jnp.asarray(a) for a in data]
    outputs["ours"] = our_forward(model, *on_device[:3])
    ours, theirs = OurTraining(model, on_device, "mean"), TorchTraining(weights, single, "mean")
    losses = [(float(ours()[0]), float(theirs()))]
    gradients["ours"] = torch_weights(ours.gradient)
    losses += [(float(ours()[0]), float(theirs())) for _ in range(9)]
    # Relative to an array's own largest entry, so that no array hides another; the floor is for
    # the bias of the keys' projection, which shifts all scores alike: its gradient is zero.
    floor = 1e-3 * max(float(np.abs(g).max()) for g in gradients["float64"].values())
    measurements = []
    for name in ("ours", "explicit", "fused"):
        pairs = zip(outputs[name], outputs["float64"], strict=True)
        output = max(float(np.abs(a - b).max()) for a, b in pairs)
        gradient = max(
            float(np.abs(gradients[name][k] - exact).max() / max(np.abs(exact).max(), floor))
            for k, exact in gradients["float64"].items()
        )
        who = name if name == "ours" else f"PyTorch, {name} attention"
        measurements += [
            Measurement(f"mean and std, error against float64: {who}", output, "", "lower", 1e-5),
            Measurement(f"gradients, relative error: {who}", gradient, "", "lower", 1e-3),
        ]
    first, last = losses[0][1], losses[-1][1]
    difference = max(abs(a - b) for a, b in losses) / abs(last - first)
    name = "10 Adam steps, difference in loss / its fall"
    measurements.append(Measurement(name, difference, "", "lower", 1e-2))
    if any(m.verdict == "MISSED" for m in measurements):
        raise SystemExit("the networks disagree, so their times say nothing: " + repr(measurements))
    return measurements


def speed(model, weights, batch: int, repeats: int) -> list[Measurement]:
    data = fields(batch)
    on_device, tensors = [jnp.asarray(a) for a in data], [torch.from_numpy(a) for a in data]
    peers = {f: TorchProcess(weights, f).eval() for f in (False, True)}

    @torch.no_grad()
    def forward(fused):
        return peers[fused](*tensors[:3])

    def steps(mode):
        theirs = {f: TorchTraining(weights, tensors, mode, f) for f in peers}
        return OurTraining(model, on_device, mode), lambda fused: theirs[fused]()

    jobs = {
        "forward": (lambda: our_forward(model, *on_device[:3]), forward),
        "training step, dropout on": steps("dropout"),
        "training step, dropout off": steps("draw"),
    }
    measurements = []
    for what, (ours, peer) in jobs.items():
        samples = interleaved_samples(
            {
                "ours": ours,
                "explicit": lambda p=peer: p(False),
                "fused": lambda p=peer: p(True),
            },
            repeats,
        )
        wall, cpu = (
            {k: float(np.median(v[:, i])) for k, v in samples.items()} for i in range(2)
        )  # fmt: skip
        best = min(("explicit", "fused"), key=lambda k: wall[k])
        bar = 1.0 if what.startswith("training") else None
        for name in samples:
            who = name if name == "ours" else f"PyTorch, {name} attention"
            measurements.append(Measurement(f"{what}: {who}", 1e3 * wall[name], "ms", "lower"))
        measurements += [
            Measurement(
                f"{what}: ours / faster PyTorch", wall["ours"] / wall[best], "x", "lower", bar
            ),
            Measurement(
                f"{what}: the same in processor time", cpu["ours"] / cpu[best], "x", "lower"
            ),
        ]  # fmt: skip
        print(
            *(f"{m.metric}: {m.value:.4g} {m.unit}" for m in measurements[-5:]),
            sep="\n",
            flush=True,
        )
    return measurements


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    threads = arguments.threads
    if hasattr(os, "sched_setaffinity"):  # XLA takes as many threads as the process has cores
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = AttentiveNeuralProcess(WIDTH, HEADS, dropout=RATE, key=jax.random.key(0))
    weights = torch_weights(model)
    # Through the published layout and back: what is timed is what a user loads.
    model = load_anp_weights(anp_weights(model), inference=False)
    measurements = agreement(model, weights)
    print(*(f"{m.metric}: {m.value:.3g}" for m in measurements), sep="\n", flush=True)
    measurements += speed(model, weights, arguments.batch, arguments.repeats)
    text = report(
        "neural_process",
        "The attentive neural process against PyTorch",
        f"python benchmarks/neural_process.py --batch {arguments.batch} "
        f"--repeats {arguments.repeats} --threads {threads}",
        measurements,
        f"torch {torch.__version__}; {threads} thread(s) for both, load average "
        f"{os.getloadavg()[0]:.0f}; {arguments.batch} tasks of "
        f"{POINTS} contexts and {POINTS} targets; median of {arguments.repeats} interleaved "
        "calls, compilation apart. *Explicit* attention writes out the softmax, *fused* is "
        "`scaled_dot_product_attention`; Adam is the fused one. Processor time is summed over "
        "threads, and feels a busy machine less; threads of PyTorch wait without spinning.",
    )
    print(text)


if __name__ == "__main__":
    main()
