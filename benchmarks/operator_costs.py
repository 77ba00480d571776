"""What obeying the boundary costs: a training step of each operator against that of the plain FNO.

`python benchmarks/operator_costs.py [--repeats 15]`. One step is the loss, its gradient and Adam,
on a batch of 20; the operators take turns, so that noise meets them alike.
"""

import argparse

import equinox as eqx
import jax
import numpy as np
import optax
from timing import Measurement, interleaved_samples, report

from jaxsci.equations.families import HeatNeumann, StokesSecond, make_dataset
from jaxsci.experiments import OperatorSettings, conditions_of
from jaxsci.metrics import relative_l2
from jaxsci.operators.constrained import DEFAULT_RECIPE, make_operator

BATCH = 20


def quick(experiment: str):
    """The family, the modes and the width of `jaxsci run EXPERIMENT --budget quick`."""
    settings = OperatorSettings(experiment, budget="quick")
    training = settings.resolved().training
    return settings.family(), training.modes, training.width


CASES = {
    "heat, one step, N = 500, width 64": (HeatNeumann(points=500), 16, 64),
    "Stokes, 16 x 64, width 16": (StokesSecond(points=64, steps=16), (8, 12), 16),
    "Burgers, 16 x 64, width 24": quick("burgers-dirichlet"),
    "waves, 8 x 16 x 16, width 24": quick("wave"),
    "cavity, 8 x 17 x 17, width 24": quick("cavity"),
}
MODELS = (
    "fno",
    "fno-matched-enforced",
    "fno-matched-padded-blended",
    DEFAULT_RECIPE,
    "boon-t1",
    "boon",
)


@eqx.filter_jit
def step(batch, params, rest, state):
    def loss(params):
        model = eqx.combine(params, rest)
        predicted = jax.vmap(model)(batch.inputs, batch.values)
        return jax.vmap(relative_l2)(predicted, batch.outputs).mean()

    updates, state = optax.adam(1e-3).update(jax.grad(loss)(params), state)
    return optax.apply_updates(params, updates), state


class Training:
    """A call is a step."""

    def __init__(self, model, batch):
        self.batch = batch
        self.params, self.rest = eqx.partition(model, eqx.is_inexact_array)
        self.state = optax.adam(1e-3).init(self.params)

    def __call__(self):
        self.params, self.state = step(self.batch, self.params, self.rest, self.state)
        return self.params


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=15)
    repeats = parser.parse_args().repeats
    rows = []
    for case, (family, modes, width) in CASES.items():
        batch = make_dataset(family, BATCH, progress=False)
        channels = batch.inputs.shape[1], batch.outputs.shape[1]
        made = {
            name: make_operator(
                name, *channels, conditions_of(family), modes=modes, width=width,
                key=jax.random.key(0),
            )
            for name in MODELS
        }  # fmt: skip
        turns = {name: Training(model, batch) for name, model in made.items()}
        samples = interleaved_samples(turns, repeats)
        seconds = {name: float(np.median(each[:, 0])) for name, each in samples.items()}
        rows.append(Measurement(f"{case}: `fno`", 1e3 * seconds["fno"], "ms", "lower"))
        for name in MODELS[1:]:
            bar = 1.3 if name == DEFAULT_RECIPE else None
            ratio = seconds[name] / seconds["fno"]
            rows.append(Measurement(f"{case}: `{name}` / `fno`", ratio, "", "lower", bar))
    note = (
        f"A training step on {BATCH} functions, compilation apart; the published code of BOON "
        "takes 3.6 times the FNO's. `boon` and `boon-t1` have no channel MLP in their blocks."
    )
    command = f"python benchmarks/operator_costs.py --repeats {repeats}"
    print(report("operator_costs", "What obeying the boundary costs", command, rows, note))


if __name__ == "__main__":
    main()
