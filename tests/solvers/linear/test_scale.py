"""Batches of right-hand sides over devices, and solves as artefacts: CGNR at scale."""

import importlib.util

import jax
import jax.export
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsci.precision import Policy
from jaxsci.solvers.linear import CGNR
from jaxsci.solvers.sparse import BlockJacobian, BlockRows

N, F, BATCH = 12, 30, 8
RNG = np.random.default_rng(0)
BLOCKS = [jnp.asarray(RNG.normal(size=(F, 2, 2)), jnp.float32) for _ in range(2)]
PAIRS = [jnp.asarray(np.r_[np.arange(N), RNG.integers(0, N, F - N)], jnp.int32) for _ in range(2)]
RIGHTS = jnp.asarray(RNG.normal(size=(BATCH, 2 * F)), jnp.float32)


def solve(blocks, right, policy=None, throw=False):
    J = BlockJacobian((BlockRows(tuple(blocks), tuple(PAIRS), (0, 0)),), ((N, 2),))
    solver = CGNR(policy, rtol=1e-5, max_steps=100)
    return lx.linear_solve(J, right, solver, throw=throw).value


def dense(blocks):
    J = np.zeros((F, 2, N, 2))
    for block, index in zip(blocks, PAIRS, strict=True):
        J[np.arange(F), :, np.asarray(index), :] += np.asarray(block, float)
    return J.reshape(2 * F, 2 * N)


WANT = np.linalg.lstsq(dense(BLOCKS), np.asarray(RIGHTS, float).T, rcond=None)[0].T


def operations(compiled) -> list[str]:
    """The lines of a compiled program that move whole arrays between devices."""
    moves = ("all-gather", "all-to-all", "collective-permute")
    return [line for line in compiled.as_text().splitlines() if any(m in line for m in moves)]


@pytest.mark.multidevice
@pytest.mark.parametrize("policy", [None, "bundle_adjustment"])
def test_right_hand_sides_stay_sharded(policy):
    mesh = jax.make_mesh((4,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))
    over = NamedSharding(mesh, PartitionSpec("devices"))
    rights = jax.device_put(RIGHTS, over)
    policy = None if policy is None else Policy.parse(policy)
    batch = jax.jit(jax.vmap(lambda b: solve(BLOCKS, b, policy)))
    compiled = batch.lower(rights).compile()
    values = compiled(rights)
    assert values.sharding.is_equivalent_to(over, values.ndim)
    assert {shard.data.shape for shard in values.addressable_shards} == {(BATCH // 4, 2 * N)}
    assert operations(compiled) == []
    tolerance = 1e-3 if policy is None else 1e-2
    np.testing.assert_allclose(values, WANT, atol=tolerance * np.abs(WANT).max())

    # What is looked for would be found.
    whole = jax.jit(lambda v: v * 2, out_shardings=NamedSharding(mesh, PartitionSpec()))
    assert operations(whole.lower(rights).compile()) != []


def test_a_solve_is_exported():
    batch = jax.jit(jax.vmap(solve, in_axes=(None, 0)))
    size = jax.export.symbolic_shape("batch")[0]
    arguments = (
        [jax.ShapeDtypeStruct(block.shape, block.dtype) for block in BLOCKS],
        jax.ShapeDtypeStruct((size, 2 * F), jnp.float32),
    )
    exported = jax.export.export(batch)(*arguments)
    if importlib.util.find_spec("flatbuffers"):  # which jax needs to write it down
        exported = jax.export.deserialize(exported.serialize())
    # One artefact for every number of right-hand sides.
    for count in (BATCH, 3):
        values = exported.call(BLOCKS, RIGHTS[:count])
        np.testing.assert_allclose(values, WANT[:count], atol=1e-3 * np.abs(WANT).max())


def test_a_solve_that_raises_is_not_exported():
    arguments = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), (BLOCKS, RIGHTS[0]))
    raising = jax.jit(lambda blocks, b: solve(blocks, b, throw=True))
    with pytest.raises(NotImplementedError, match="callbacks"):
        jax.export.export(raising)(*arguments)
