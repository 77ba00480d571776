"""A small training run that can end itself with SIGKILL at a chosen place of its file handling.

Usage: kill_script.py FOLDER [PLACE COUNT]. PLACE is `checkpoint.eqx/half` (the neighbouring file
is written in part), `checkpoint.eqx/before` or `checkpoint.eqx/after` (the rename), likewise for
history.csv; COUNT says at which write of that file. Each finished write prints a line.
"""

import os
import signal
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxsci.training import fit

X = np.random.default_rng(0).uniform(-1, 1, (70, 2)).astype(np.float32)
OPTIMISER = optax.adam(optax.cosine_decay_schedule(1e-2, 60))


def model(key):
    first, second = jax.random.split(key)
    return {
        "in": jax.random.normal(first, (2, 16)),
        "out": jax.random.normal(second, (16,)) / 4,
        "act": jnp.tanh,
    }


def loss(model, batch, *, key):
    x = batch["x"] + 0.01 * jax.random.normal(key, batch["x"].shape)
    residual = model["act"](x @ model["in"]) @ model["out"] - batch["y"]
    return jnp.mean(residual**2), {"largest": jnp.max(jnp.abs(residual))}


def run(folder, epochs=6):
    return fit(
        model(jax.random.key(1)),
        loss,
        {"x": X, "y": np.sin(3 * X[:, 0]) * X[:, 1]},
        optimiser=OPTIMISER,
        epochs=epochs,
        batch_size=8,
        key=jax.random.key(2),
        validation={"x": X[:32], "y": np.sin(3 * X[:32, 0]) * X[:32, 1]},
        steps_per_call=4,
        checkpoint=folder,
        save_every=0.0,
        progress=False,
    )


def arm(place, count):
    """Make `os.replace` report each write, and kill this process at the chosen one."""
    rename, seen = os.replace, 0

    def replace(part, path):
        nonlocal seen
        here = place.startswith(Path(path).name + "/")
        seen += here
        now = here and seen == count
        if now and place.endswith("/half"):
            os.truncate(part, os.path.getsize(part) // 2)
        if now and not place.endswith("/after"):
            os.kill(os.getpid(), signal.SIGKILL)
        rename(part, path)
        if now:
            os.kill(os.getpid(), signal.SIGKILL)
        print("wrote", path, flush=True)

    os.replace = replace


if __name__ == "__main__":
    arm(*(sys.argv[2], int(sys.argv[3])) if len(sys.argv) > 2 else ("", 0))
    run(sys.argv[1])
    print("finished", flush=True)
