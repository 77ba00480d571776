"""Context and target points, against the published data set and the statement of its design."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.equations import EQUATIONS, PorousMedium, Stefan, sample_tasks


def _tensor(points):
    return np.asarray(points).reshape(-1, 10, 10, 2)


def _check_design(context, target, t_bounds, x_bounds):
    """What holds of the published data: tensor grids, one context time a tenth, the rest sorted."""
    for points in (context, target):
        np.testing.assert_array_equal(points[..., 0], points[:, :, :1, 0].repeat(10, axis=2))
        np.testing.assert_array_equal(points[..., 1], points[:, :1, :, 1].repeat(10, axis=1))
        for column, (low, high) in ((0, t_bounds), (1, x_bounds)):
            assert low <= points[..., column].min() and points[..., column].max() <= high
    span = t_bounds[1] - t_bounds[0]
    unit_times = (context[:, :, 0, 0] - t_bounds[0]) / span
    tenth = unit_times * 10 - np.arange(10)
    assert (tenth > -1e-5).all() and (tenth < 1 + 1e-5).all()
    for values in (context[:, 0, :, 1], target[:, :, 0, 0], target[:, 0, :, 1]):
        assert (np.diff(values, axis=1) >= 0).all()
    return {
        "tenth": tenth.ravel(),
        "t": (target[:, :, 0, 0].ravel() - t_bounds[0]) / span,
        "x": (target[:, 0, :, 1].ravel() - x_bounds[0]) / (x_bounds[1] - x_bounds[0]),
        "cx": (context[:, 0, :, 1].ravel() - x_bounds[0]) / (x_bounds[1] - x_bounds[0]),
    }


def _uniform(values):
    """The largest distance of the empirical distribution from the uniform one, times sqrt n."""
    ordered = np.sort(values)
    return np.abs(ordered - (np.arange(values.size) + 0.5) / values.size).max() * values.size**0.5


@pytest.mark.parametrize("cls", EQUATIONS.values(), ids=EQUATIONS)
def test_tasks_are_drawn_as_published(cls):
    batch = sample_tasks(cls, jax.random.key(0), 300)
    context, target = _tensor(batch.context_points), _tensor(batch.target_points)
    unit = _check_design(context, target, cls.t_bounds, cls.x_bounds)
    assert all(_uniform(values) < 1.95 for values in unit.values())  # 0.1 % of true draws exceed it
    assert batch.parameters.shape == (300,)
    np.testing.assert_array_equal(batch.target_times, target[:, :, 0, 0])


@pytest.mark.parametrize("cls", EQUATIONS.values(), ids=EQUATIONS)
def test_values_and_masses_are_exact(cls):
    batch = sample_tasks(cls, jax.random.key(2), 300, cls.test_values[0])
    equation = cls(cls.test_values[0])
    for points, values in (
        (batch.context_points, batch.context_values),
        (batch.target_points, batch.target_values),
    ):
        expected = equation.solution(points[..., 0], points[..., 1])
        np.testing.assert_allclose(values, expected, atol=2e-6)
    np.testing.assert_allclose(batch.target_mass, equation.mass(batch.target_times), atol=1e-6)


def test_a_key_gives_the_same_tasks_and_another_key_others():
    first, again, other = (sample_tasks(Stefan, jax.random.key(k), 3) for k in (0, 0, 1))
    np.testing.assert_array_equal(first.target_points, again.target_points)
    assert not np.array_equal(first.target_points, other.target_points)
    assert not np.array_equal(first.context_points[0], first.context_points[1])


def test_sizes_parameters_and_dtype_are_the_callers(x64):
    values = jnp.asarray([1.0, 3.0], jnp.float32)
    batch = sample_tasks(PorousMedium, jax.random.key(0), 2, values, times=4, positions=6)
    assert batch.context_points.shape == (2, 24, 2) and batch.target_mass.shape == (2, 4)
    assert {leaf.dtype for leaf in jax.tree.leaves(batch)} == {jnp.dtype("float32")}
    np.testing.assert_array_equal(batch.parameters, values)
    assert sample_tasks(PorousMedium, jax.random.key(0), 2).context_values.dtype == jnp.float64


MANY = np.where(np.arange(5000) == 2500, np.nan, 0.5)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((Stefan(0.5), 3), TypeError, r"`sample_tasks\(equation_cls=...\)`: expected a class"),
        ((Stefan, 0), ValueError, r"`sample_tasks\(functions=...\)`: expected at least 1, got 0"),
        ((Stefan, 3, jnp.ones(2)), ValueError, r"expected a scalar or shape \(3,\), got"),
        ((Stefan, 3, 1.2), ValueError, r"`Stefan\(threshold=...\)`: expected a number between"),
        # The extremes of many numbers would pass it over on a CPU.
        ((Stefan, 5000, MANY), ValueError, r"got nan at index \(2500,\)"),
    ],
)
def test_bad_input_is_refused(arguments, error, message):
    cls, *rest = arguments
    with pytest.raises(error, match=message):
        sample_tasks(cls, jax.random.key(0), *rest)


@pytest.mark.data
@pytest.mark.parametrize("part", ["test", "valid"])
def test_the_published_porous_medium_data_are_reproduced(data_dir, part):
    data = np.load(data_dir / "probconserv" / f"1b_pme_{part}.npz")
    equations = jax.vmap(PorousMedium)(jnp.asarray(data["params"][:, 0]))
    context, target = _tensor(data["input_contexts"]), _tensor(data["input_targets"])
    unit = _check_design(context, target, PorousMedium.t_bounds, PorousMedium.x_bounds)
    # The published draws pass the same test of uniformity as ours.
    assert all(_uniform(values) < 1.95 for values in unit.values())
    for name in ("contexts", "targets"):
        points = jnp.asarray(data[f"input_{name}"])
        u = jax.vmap(lambda e, p: e.solution(p[:, 0], p[:, 1]))(equations, points)
        np.testing.assert_allclose(u, data[f"output_{name}"][..., 0], atol=1e-6)
    mass = jax.vmap(lambda e, t: e.mass(t))(equations, jnp.asarray(target[:, :, 0, 0]))
    np.testing.assert_allclose(mass, data["mass_targets"], atol=1e-6)
    if part == "test":
        np.testing.assert_array_equal(data["params"][:, 0], PorousMedium.test_parameters(50))
