"""Meshes and hosts: the same training, and the same field, as on one device."""

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxsci import constrain
from jaxsci.conservation import integral
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann
from jaxsci.operators.constrained import RECIPES, make_operator
from jaxsci.operators.fno import FNO

SCRIPT = Path(__file__).with_name("two_processes.py")
KEY = jax.random.key(0)


def mesh(name):
    return Mesh(np.array(jax.devices()[:4]), (name,))


@pytest.mark.multidevice
def test_a_step_with_the_batch_on_four_devices():
    """Loss and gradients are those of one device; weights are everywhere, the batch is divided."""
    model = FNO(1, 1, (4, 4), width=8, layers=2, method="matmul", key=KEY)
    x, y = jax.random.normal(KEY, (2, 8, 1, 12, 16))
    params, rest = eqx.partition(model, eqx.is_inexact_array)

    @jax.jit
    def step(params, x, y):
        def loss(params):
            return jnp.mean((jax.vmap(eqx.combine(params, rest))(x) - y) ** 2)

        return jax.value_and_grad(loss)(params)

    expected = step(params, x, y)
    batch, whole = (NamedSharding(mesh("batch"), PartitionSpec(*s)) for s in (("batch",), ()))
    divided = step(jax.device_put(params, whole), *jax.device_put((x, y), batch))
    for found, one in zip(jax.tree.leaves(divided), jax.tree.leaves(expected), strict=True):
        assert found.sharding.is_equivalent_to(whole, found.ndim)
        np.testing.assert_allclose(found, one, rtol=1e-5, atol=1e-6 * np.abs(one).max())


@pytest.mark.multidevice
@pytest.mark.parametrize("axis", [2, 3])
def test_one_field_divided_along_an_axis(axis):
    """The same field; along the first axis only coefficients travel (all-reduce), never the field.

    Along another one it is gathered: pointwise layers see all points as one axis.
    """
    model = FNO(1, 1, (4, 4), width=8, layers=2, method="matmul", key=KEY)
    x = jax.random.normal(KEY, (1, 1, 48, 64))
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    space, whole = mesh("space"), PartitionSpec()
    part = NamedSharding(space, PartitionSpec(*[None] * axis, "space"))

    def apply(params, x):
        return jax.vmap(eqx.combine(params, rest))(x)

    run = jax.jit(apply, out_shardings=part)
    arguments = jax.device_put(params, NamedSharding(space, whole)), jax.device_put(x, part)
    compiled = run.lower(*arguments).compile()
    y = compiled(*arguments)
    assert y.sharding.is_equivalent_to(part, y.ndim)
    assert {shard.data.shape[axis] for shard in y.addressable_shards} == {x.shape[axis] // 4}
    one = jax.jit(apply)(params, x)
    assert np.abs(np.asarray(y) - one).max() <= 1e-6 * np.abs(one).max()
    if axis == 2:
        assert "all-gather" not in str(compiled.as_text())


@pytest.mark.slow_but(1)
@pytest.mark.multidevice
@pytest.mark.parametrize("axis", [2, 3])
def test_a_constrained_field_divided_along_an_axis(axis):
    """Walls, a first state and a total at each time: as on one device, and they hold."""
    walls = BoundaryConditions(("t", "x"), {"x": Neumann(0.0)}, length={"x": 1.0})
    both = BoundaryConditions(
        ("t", "x"), {"x": Neumann(0.0), ("t", "low"): Dirichlet()}, length={"x": 1.0}
    )
    grid = Grid.uniform(t=(0.0, 1.0, 48), x=(0.0, 1.0, 64))
    weights = grid.spatial.weights()
    model = constrain(
        make_operator("fno-matched", 1, 1, walls, modes=(4, 4), width=8, layers=2, key=KEY),
        variance=0.1,
        conservation=lambda x: integral(grid, jnp.repeat(weights @ x[0, 0], 48), over="x"),
        boundary=both,
        values=lambda x: {("t", "low"): x[:, 0]},
        shape=(1, *grid.shape),
        boundary_update="enforce",
    )
    x = 1 + jax.random.normal(KEY, (1, 1, *grid.shape))
    space = mesh("space")
    part = NamedSharding(space, PartitionSpec(*[None] * axis, "space"))

    @jax.jit
    def apply(x):
        gaussian, certificate = jax.vmap(model.with_certificate)(x)
        return gaussian.mean.reshape(x.shape), certificate.holds

    (one, held), (divided, still) = apply(x), apply(jax.device_put(x, part))
    assert held and still
    assert np.abs(np.asarray(divided) - one).max() <= 2e-6 * np.abs(one).max()


@pytest.mark.slow
@pytest.mark.multidevice
@pytest.mark.parametrize("name", RECIPES)
def test_walls_of_a_divided_field(name):
    """Every way to obey, with values from the field itself, divided along time or space."""
    walls = {("x", "low"): Neumann(), ("x", "high"): Dirichlet(), ("t", "low"): Dirichlet()}
    conditions = BoundaryConditions(("t", "x"), walls, length={"x": 1.0}, corners="t")
    model = make_operator(name, 1, 1, conditions, modes=(4, 4), width=8, layers=2, key=KEY)

    @jax.jit
    def apply(x):
        ends = {("x", "low"): x[:, :, 0], ("x", "high"): x[:, :, -1]}
        return model(x, ends | {("t", "low"): x[:, 0]})

    x = 1 + jax.random.normal(KEY, (1, 48, 64))
    one = apply(x)
    for spec in ((None, "space"), (None, None, "space")):
        divided = apply(jax.device_put(x, NamedSharding(mesh("space"), PartitionSpec(*spec))))
        assert np.abs(np.asarray(divided) - one).max() <= 2e-6 * np.abs(one).max()


@pytest.mark.slow
def test_two_processes_train_as_one():
    """Each has half of the devices and half of each batch; losses are those of one process."""

    def losses(processes):
        with socket.socket() as free:
            free.bind(("localhost", 0))
            port = free.getsockname()[1]
        # Two devices each, four for one.
        flags = f"--xla_force_host_platform_device_count={4 // processes}"
        environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"}
        started = [
            subprocess.Popen(
                [sys.executable, str(SCRIPT), str(rank), str(processes), str(port)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=environment,
            )
            for rank in range(processes)
        ]
        found = []
        for process in started:
            out, err = process.communicate(timeout=300)
            assert process.returncode == 0, err[-2000:]
            found.append([float(word) for word in re.findall(r"^loss (\S+)$", out, re.MULTILINE)])
        return found

    (alone,), (first, second) = losses(1), losses(2)
    assert first == second and len(alone) == 20
    np.testing.assert_allclose(first, alone, rtol=1e-5)
    assert alone[-1] < 0.7 * alone[0]
