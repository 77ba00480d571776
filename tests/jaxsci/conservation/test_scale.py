"""Large fields in little memory, and the same numbers when sharded over devices."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import NamedSharding, PartitionSpec

from jaxsci.conservation import LinearConstraint, condition
from jaxsci.gaussians import Gaussian, WeightedSums

MILLION = """
import resource
import jax, jax.numpy as jnp, numpy as np
from jaxsci.conservation import LinearConstraint, condition
from jaxsci.gaussians import Gaussian, WeightedSums

n = 1_000_000
rng = np.random.default_rng(0)
mean, variance, row = (jnp.asarray(a, jnp.float32) for a in rng.uniform(0.5, 1.5, (3, n)))
row = row / n

def update(mean, variance, row):
    total = LinearConstraint(WeightedSums(row), 1.0)
    posterior = condition(Gaussian.diagonal(mean, variance), total)
    return posterior.mean, posterior.marginal_var

update(mean[:10], variance[:10], row[:10])  # what importing and starting takes
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
got, left = {call}(mean, variance, row)
got.block_until_ready(), left.block_until_ready()
peak = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
w, m, v = (np.asarray(a, float) for a in (row, mean, variance))
S = w @ (v * w)
np.testing.assert_allclose(got, m - v * w * (w @ m - 1) / S, rtol=2e-5)
np.testing.assert_allclose(left, v - (v * w) ** 2 / S, rtol=1e-5)
assert abs(w @ np.asarray(got, float) - 1) <= 4 * 2**-23 * w @ np.abs(np.asarray(got, float))
print(peak)
"""


@pytest.mark.slow
@pytest.mark.parametrize("call", ["update", "jax.jit(update)"])
def test_a_million_points_take_less_than_200_megabytes(call):
    script = MILLION.replace("{call}", call)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 200


def _update(mean, variance, row, b):
    constraint = LinearConstraint(WeightedSums(row), b)
    posterior = condition(Gaussian.diagonal(mean, variance), constraint)
    return posterior.mean, posterior.marginal_var


@pytest.fixture
def mesh():
    if jax.device_count() < 4:
        pytest.skip(f"needs 4 devices, has {jax.device_count()}")
    return jax.make_mesh((4,), ("devices",), axis_types=(jax.sharding.AxisType.Auto,))


@pytest.mark.multidevice
@pytest.mark.parametrize("what", ["batch", "field"])
def test_sharding_gives_the_same_numbers(what, mesh):
    rng = np.random.default_rng(0)
    shape = (8, 50) if what == "batch" else (8192,)
    mean, variance, row = (a.astype(np.float32) for a in rng.uniform(0.5, 1.5, (3, *shape)))
    row /= shape[-1]
    b = np.full(shape[:-1], 0.9, np.float32)
    update = jax.jit(jax.vmap(_update) if what == "batch" else _update)
    expected = update(mean, variance, row, b)
    over = NamedSharding(mesh, PartitionSpec("devices"))
    whole = NamedSharding(mesh, PartitionSpec())
    sharded = [jax.device_put(a, over) for a in (mean, variance, row)]
    got = update(*sharded, jax.device_put(b, over if what == "batch" else whole))
    for a, e in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, e, rtol=3e-7)
    assert len(got[0].sharding.device_set) == 4
    # Conserved whatever the order in which the devices' parts are summed.
    total = np.sum(row.astype(float) * np.asarray(got[0], float), axis=-1)
    assert np.all(np.abs(total - b) <= 4 * np.finfo(np.float32).eps * total)


@pytest.mark.multidevice
def test_a_sharded_batch_is_not_gathered(mesh):
    over = NamedSharding(mesh, PartitionSpec("devices"))
    arrays = [jax.device_put(jnp.ones((8, 50)), over)] * 3 + [jax.device_put(jnp.ones(8), over)]
    compiled = jax.jit(jax.vmap(_update)).lower(*arrays).compile()
    assert "all-gather" not in str(compiled.as_text())
