"""What every family promises: shapes, faces, dtypes, pure draws, boundary data that hold."""

import os

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.equations.families import (
    FAMILIES,
    BurgersPeriodic,
    BurgersRiemann,
    HeatNeumann,
    LidDrivenCavity,
    Sample,
    StokesSecond,
    WaveNeumann,
)

SMALL = {
    "heat": HeatNeumann(points=101),
    "heat-hard": HeatNeumann(points=101, hard=True, modes=4, waves=2),
    "heat-hard-steps": HeatNeumann(points=101, steps=4, hard=True, modes=4, waves=2),
    "stokes": StokesSecond(points=24, steps=5),
    "stokes-hard": StokesSecond(points=24, steps=5, hard=True, waves=2),
    "burgers-dirichlet": BurgersRiemann(points=24, steps=3, viscosity=0.002, right=(-1.0, 1.0)),
    "burgers-dirichlet-hard": BurgersRiemann(points=24, steps=3, hard=True, jumps=2),
    "burgers-periodic": BurgersPeriodic(points=33, modes=16, fine=256),
    "burgers-periodic-hard": BurgersPeriodic(points=33, modes=16, fine=256, hard=True),
    "wave": WaveNeumann(points=12, steps=4),
    "wave-hard": WaveNeumann(points=41, steps=2, hard=True, modes=2, waves=1),
    "cavity": LidDrivenCavity(points=9, steps=3, time=0.3),
    "cavity-hard": LidDrivenCavity(points=9, steps=3, time=0.3, hard=True, modes=2, refine=2),
}
# What the others have in common with these is not computed twice.
SKIPPED = ("heat-hard", "stokes", "burgers-dirichlet", "burgers-periodic", "wave", "cavity")
COMPUTED = {
    name: family
    for name, family in SMALL.items()
    if name
    not in ("heat-hard", "stokes", "burgers-dirichlet", "burgers-periodic", "wave", "cavity")
}
EVERY = pytest.mark.parametrize("family", SMALL.values(), ids=SMALL)
CASES = pytest.mark.parametrize("family", COMPUTED.values(), ids=COMPUTED)
ROUNDINGS = {"cavity": 60, "burgers-periodic": 20}
if os.environ.get("JAX_DISABLE_MOST_OPTIMIZATIONS") == "1":
    ROUNDINGS["heat"] = 10  # 8.1 where XLA fuses nothing; as it is used, 8


@pytest.fixture(scope="module")
def drawn():
    """Three functions of each family in float32, and the same functions in float64."""
    made: dict = {}

    def get(family) -> tuple[Sample, Sample]:
        if family not in made:
            single = eqx.filter_jit(jax.vmap(family.draw))(jax.random.split(jax.random.key(1), 3))
            with jax.enable_x64(True):
                wide = jnp.asarray(np.asarray(single.parameters, np.float64))
                made[family] = single, eqx.filter_jit(jax.vmap(family.sample))(wide)
        return made[family]

    return get


def test_every_family_is_here_easy_and_hard():
    assert {f.name for f in SMALL.values() if not f.hard} == set(FAMILIES)
    assert {f.name for f in SMALL.values() if f.hard} == set(FAMILIES)
    for name, cls in FAMILIES.items():
        assert cls().name == name and cls.summary and cls(hard=True).hard


@EVERY
def test_shapes_names_and_faces_are_as_declared(family):
    keys = jax.random.split(jax.random.key(0), 3)
    sample = jax.eval_shape(jax.vmap(family.draw), keys)
    coordinates = family.coordinates()
    assert tuple(coordinates) == family.axes and set(family.lengths) == set(family.axes)
    assert sample.inputs.shape == (3, len(family.input_names), *family.shape)
    assert sample.outputs.shape == (3, len(family.output_names), *family.shape)
    assert sample.parameters.shape == (3, len(family.parameter_names))
    assert len(set(family.parameter_names)) == len(family.parameter_names)
    open_faces = {f for f, k in family.faces.items() if k.kind != "periodic" and k.value is None}
    assert set(sample.values) == open_faces
    for (axis, side), value in sample.values.items():
        assert side in ("low", "high")
        full = list(sample.outputs.shape)
        del full[2 + family.axes.index(axis)]
        assert np.broadcast_shapes(value.shape, tuple(full)) == tuple(full)
    for axis, x in coordinates.items():
        assert float(x[-1] - x[0]) == pytest.approx(family.lengths[axis], rel=1e-6)
        np.testing.assert_allclose(np.diff(x), np.diff(x).mean(), rtol=1e-4)
    assert hash(family) == hash(eqx.tree_at(lambda f: [], family, []))


@CASES
def test_float32_has_the_accuracy_of_float32(family, drawn):
    single, wide = drawn(family)
    factor = ROUNDINGS.get(family.name, 8)
    rows = np.asarray(single.parameters)
    assert not np.array_equal(rows[0], rows[1])
    for a, b in zip(jax.tree.leaves(single), jax.tree.leaves(wide), strict=True):
        assert a.dtype == jnp.float32 and b.dtype == jnp.float64
        assert np.isfinite(np.asarray(b)).all()
        for one, other in zip(np.asarray(a, np.float64), np.asarray(b), strict=True):
            slack = factor * np.finfo(np.float32).eps * np.abs(other).max()
            np.testing.assert_allclose(one, other, rtol=0, atol=slack)


@CASES
def test_boundary_data_hold(family, drawn):
    single, sample = drawn(family)
    u = np.asarray(sample.outputs)
    for (axis, side), kind in family.faces.items():
        at = 2 + family.axes.index(axis)
        v = np.moveaxis(u, at, -1)
        given = np.asarray(sample.values.get((axis, side), kind.value), float)
        match kind.kind:
            case "periodic":
                np.testing.assert_array_equal(v[..., 0], v[..., -1])
                np.testing.assert_array_equal(single.outputs[..., 0], single.outputs[..., -1])
            case "dirichlet":
                shown = v[..., 0] if side == "low" else v[..., -1]
                np.testing.assert_array_equal(shown, np.broadcast_to(given, shown.shape))
            case "neumann":
                # Of order 6, one-sided; an independent stencil from the Vandermonde matrix.
                rows = np.vander(np.arange(7.0), increasing=True).T
                stencil = np.linalg.solve(rows, np.eye(7)[1])
                h = family.lengths[axis] / (v.shape[-1] - 1)
                inner = v[..., :7] if side == "low" else -v[..., :-8:-1]
                slope = inner @ stencil / h
                size = np.abs(np.gradient(v, h, axis=-1)).max()
                error = np.abs(slope - given).max()
                assert error < 2e-3 * size, (axis, side, error, size)


@pytest.mark.parametrize(
    ("name", "reverse"),
    [
        ("heat", True),
        ("stokes", True),
        ("burgers-dirichlet", False),
        ("cavity", False),
    ],
)
def test_derivatives_in_the_parameters(name, reverse, x64):
    family = SMALL[name]
    at = family.draw_parameters(jax.random.key(0))
    direction = at * jnp.cos(jnp.arange(at.size, dtype=float))

    def size(step):
        return jnp.sum(family.sample(at + step * direction).outputs ** 2)

    @jax.jit
    def both(step):
        if reverse:
            return jax.value_and_grad(size)(step)
        return jax.jvp(size, (step,), (jnp.ones(()),))

    (ahead, _), (_, slope), (behind, _) = (both(jnp.asarray(h)) for h in (1e-6, 0.0, -1e-6))
    np.testing.assert_allclose(slope, (ahead - behind) / 2e-6, rtol=2e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: HeatNeumann(points=1), r"HeatNeumann\(points=...\)`: expected an integer of at l"),
        (lambda: HeatNeumann(time=0.0), r"HeatNeumann\(time=...\)`: expected a positive number"),
        (lambda: HeatNeumann(frequency=(3.0, 2.0)), r"frequency=...\)`: expected low <= high"),
        (lambda: StokesSecond(steps=2.0), r"StokesSecond\(steps=...\)`: expected an integer"),
        (lambda: StokesSecond(viscosity=-1.0), r"viscosity=...\)`: expected a positive number"),
        (lambda: StokesSecond(frequency=3.0), r"frequency=...\)`: expected a pair \(low, high\)"),
        (lambda: BurgersRiemann(jumps=0), r"jumps=...\)`: expected an integer of at least 1"),
        (lambda: BurgersRiemann(viscosities=(0.0, 0.1)), r"both above 0, got \(0.0, 0.1\)"),
        (lambda: BurgersRiemann(left=(0.0, np.inf)), r"left=...\)`: expected a pair"),
        (lambda: BurgersPeriodic(viscosity=1e-4), r"expected viscosity \* time of 0.001 to 1"),
        (lambda: BurgersPeriodic(fine=100), r"fine=...\)`: expected an integer of at least 256"),
        (lambda: WaveNeumann(speeds=(-1.0, 1.0)), r"speeds=...\)`: expected low <= high, both ab"),
        (lambda: LidDrivenCavity(points=3), r"points=...\)`: expected an integer of at least 5"),
        (lambda: LidDrivenCavity(ramp=0.7), r"ramp=...\)`: expected a length of 0 to 0.5"),
        (lambda: SMALL["stokes"].sample(jnp.ones(2)), r"expected shape \(1,\) for omega; got \(2"),
    ],
)
def test_bad_input_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
