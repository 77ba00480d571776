"""Trains a Fourier neural operator, as one of several processes: see test_several_devices.py.

`python two_processes.py RANK PROCESSES PORT` prints the loss of each step, as `loss 0.1`.
"""

import sys

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

rank, processes, port = map(int, sys.argv[1:])
if processes > 1:
    jax.distributed.initialize(f"localhost:{port}", processes, rank)

from jaxsci.operators.fno import FNO  # noqa: E402  (nothing may use JAX before that)

mesh = Mesh(np.array(jax.devices()), ("batch",))
batch, whole = NamedSharding(mesh, PartitionSpec("batch")), NamedSharding(mesh, PartitionSpec())

# The same weights in each process, from the same key.
model = FNO(1, 1, 6, width=8, layers=2, method="matmul", key=jax.random.key(0))
params, rest = eqx.partition(model, eqx.is_inexact_array)
optimiser = optax.adam(1e-2)
state = params, optimiser.init(params)


def everywhere(leaf):
    return jax.make_array_from_callback(leaf.shape, whole, lambda index: np.asarray(leaf)[index])


state = jax.tree.map(everywhere, state)

# Each process loads its own part of the data: here, some rows of what all could make.
x = np.random.default_rng(0).standard_normal((8, 1, 32)).astype(np.float32)
y = np.cumsum(x, -1) / 8
local = slice(rank * len(x) // processes, (rank + 1) * len(x) // processes)
x, y = (jax.make_array_from_process_local_data(batch, part[local]) for part in (x, y))


@jax.jit
def step(state, x, y):
    params, moments = state

    def loss(params):
        return jnp.mean((jax.vmap(eqx.combine(params, rest))(x) - y) ** 2)

    value, gradient = jax.value_and_grad(loss)(params)
    change, moments = optimiser.update(gradient, moments)
    return (optax.apply_updates(params, change), moments), value


for _ in range(20):
    state, value = step(state, x, y)
    print("loss", float(value), flush=True)
