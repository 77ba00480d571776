"""Operators by name: boundaries before and after training, information, parameters, messages."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.operators.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    enforce,
    residuals,
)
from jaxsci.operators.constrained import (
    BOON,
    DEFAULT_RECIPE,
    RECIPES,
    ConstrainedOperator,
    adapted_bases,
    boundary_channels,
    count_channels,
    make_operator,
)
from jaxsci.operators.fno import FNO
from jaxsci.operators.spectral import Cosine, ExtendedFourier, Fourier, QuarterWave, Sine

LINE = BoundaryConditions(
    "x", {("x", "low"): Dirichlet(), ("x", "high"): Neumann()}, length={"x": 1.0}
)


def _random(seed, *shape):
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), jnp.float32)


def _values(seed, *batch):
    return {("x", "low"): _random(seed, *batch), ("x", "high"): _random(seed + 1, *batch)}


def _make(name, conditions=LINE, **options):
    options = {"modes": 6, "width": 4, "layers": 2, **options}
    return make_operator(name, 1, 1, conditions, key=jax.random.key(0), **options)


# The kinds of machinery; the others are of the same parts, and run as slow tests.
QUICK = ["fno-matched-learned", "fno-lifted-padded", "fno-matched-extended-blended", "boon"]


@pytest.mark.slow_but(1)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] * (n not in QUICK)) for n in RECIPES]
)
def test_every_recipe_obeys_before_and_after_training_and_at_other_resolutions(name):
    model = _make(name)
    x, y, values = _random(0, 4, 1, 20), _random(1, 4, 1, 20), _values(2, 4, 1)

    @eqx.filter_jit
    def step(model):
        def loss(model):
            return jnp.mean((jax.vmap(model)(x, values) - y) ** 2)

        value, gradient = eqx.filter_value_and_grad(loss)(model)
        size = jnp.sqrt(sum(jnp.sum(g * g) for g in jax.tree.leaves(gradient)))
        down = jax.tree.map(lambda g: -1e-2 * g / size, gradient)
        return eqx.apply_updates(model, down), value, gradient

    trained, first, gradient = step(model)
    for _ in range(5):
        trained, last, _ = step(trained)
    assert float(last) < float(first)
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert jax.tree.leaves(trained.conditions) == []  # nothing there that could be trained
    one = {face: value[0] for face, value in values.items()}
    for size in (20, 33):
        for each in (model, trained):
            out = eqx.filter_jit(each)(_random(3, 1, size), one)
            holds = [bool(f.holds) for f in residuals(out, LINE, one).values()]
            assert out.shape == (1, size)
            assert all(holds) == (RECIPES[name].enforcement != "none")


def test_boon_with_t1_is_the_network_written_out():
    """Every branch set by hand, activations inside only, the output set once more."""
    fno = FNO(1, 2, 6, width=4, layers=2, mlp_expansion=None, key=jax.random.key(1))
    conditions = BoundaryConditions("x", {"x": Dirichlet()})
    values = {("x", "low"): jnp.array([1.0, -2.0]), ("x", "high"): jnp.array([0.5, 3.0])}
    x = _random(0, 1, 16)
    wall = jnp.stack([jnp.array([1.0, -2.0] * 2), jnp.array([0.5, 3.0] * 2)], 1)  # j mod C
    v = fno.lifting(jnp.concatenate([x, jnp.arange(16)[None] / 16]))
    for block in fno.blocks:
        assert block.skip is not None
        inside = (block.conv(v) + block.skip(v))[:, 1:-1]
        inside = inside if block.last else jax.nn.gelu(inside, approximate=False)
        v = jnp.concatenate([wall[:, :1], inside, wall[:, 1:]], 1)
    expected = enforce(fno.projection(v), conditions, values)
    found = BOON(fno, conditions, "t1")(x, values)
    np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-6)


@pytest.mark.slow
def test_boon_in_two_dimensions_with_channel_mlps():
    conditions = BoundaryConditions(
        ("t", "x"),
        {"x": Robin(a=1.0, b=0.5, order=2), ("t", "low"): Dirichlet()},
        length={"x": 1.0},
        corners="x",
    )
    fno = FNO(2, 3, (4, 4), width=6, layers=2, key=jax.random.key(0))
    x = _random(0, 2, 8, 9)
    values = {f: _random(5, 1, n) for f, n in {("x", "low"): 8, ("x", "high"): 8}.items()}
    values["t", "low"] = _random(6, 3, 9)
    for method in ("boon", "consistent"):
        y = eqx.filter_jit(BOON(fno, conditions, method))(x, values)
        assert jnp.isfinite(y).all()
        assert all(bool(f.holds) for f in residuals(y, conditions, values).values())


def test_channels_tell_what_differs_from_sample_to_sample():
    conditions = BoundaryConditions(
        ("t", "x"), {("x", "low"): Dirichlet(), ("x", "high"): Dirichlet(0.0)}
    )
    signal = jnp.arange(1.0, 9.0).reshape(2, 4)
    told = boundary_channels(conditions, (2, 4, 3), {("x", "low"): signal})
    np.testing.assert_array_equal(told, jnp.broadcast_to(signal[..., None], (2, 4, 3)))
    assert count_channels(conditions, 2, "faces") == 2 == count_channels(conditions, 2, "lift")
    assert boundary_channels(
        conditions, (2, 4, 3), {("x", "low"): signal}, information="none"
    ).shape == (0, 4, 3)
    lifted = boundary_channels(conditions, (2, 4, 3), {("x", "low"): signal}, information="lift")
    np.testing.assert_allclose(lifted[:, :, 1], signal / 2, rtol=1e-6)


def test_bases_are_those_of_the_conditions():
    D, N, R = Dirichlet(0.0), Neumann(0.0), Robin(0.0, a=1.0, b=1.0)
    pairs = {
        (D, D): Sine(),
        (N, N): Cosine(),
        (D, N): QuarterWave(zero="left"),
        (N, D): QuarterWave(zero="right"),
        (R, D): Cosine(),
    }
    for (low, high), basis in pairs.items():
        conditions = BoundaryConditions(
            ("t", "x"), {("x", "low"): low, ("x", "high"): high, "t": Periodic()}, length={"x": 1.0}
        )
        assert adapted_bases(conditions) == (Fourier(), basis)
        assert adapted_bases(conditions, exact=False) == (Fourier(), Cosine())


@pytest.mark.parametrize(
    ("low", "high", "even"),
    [
        (Neumann(0.0), Neumann(0.0, order=2), True),
        (Neumann(np.zeros((1, 6, 6))), Neumann(0), True),
        (Neumann(0.0), Neumann(), False),
        (Neumann(0.0), Neumann(1e-30), False),
        (Neumann(0.0), Dirichlet(0.0), False),
        (Neumann(0.0), None, False),
        (Dirichlet(0.0), Dirichlet(0.0), False),
    ],
)
def test_what_has_slope_0_at_both_ends_is_mirrored_there(low, high, even):
    ends = {("x", "low"): low, ("x", "high"): high}
    faces = {face: condition for face, condition in ends.items() if condition is not None}
    faces["y"] = Periodic()
    conditions = BoundaryConditions(("t", "x", "y"), faces, length={"x": 1.0})
    for given in (conditions, conditions.frozen()):
        model = make_operator(
            DEFAULT_RECIPE, 1, 1, given, modes=(2, 2, 2), width=2, layers=1, key=jax.random.key(0)
        )
        expected = Cosine() if even else ExtendedFourier(0.25)
        assert model.operator.bases == (ExtendedFourier(0.25), expected, Fourier())


def test_a_traced_slope_is_not_known_to_be_0():
    jax.jit(lambda g: _is_not_homogeneous(Neumann(g)))(jnp.zeros(()))
    assert Neumann(0.0).homogeneous
    assert not Neumann().homogeneous


def _is_not_homogeneous(condition):
    assert not condition.homogeneous


def test_cosines_have_about_as_many_parameters():
    """Which axis is stored by half is another: a tenth, where an axis has 4 modes."""
    sizes = []
    for slope in (0.0, None):
        faces = {axis: Neumann(slope) for axis in ("x", "y")}
        conditions = BoundaryConditions(("t", "x", "y"), faces, length={"x": 1.0, "y": 1.0})
        model = make_operator(
            DEFAULT_RECIPE, 1, 1, conditions, modes=(4, 6, 6), width=24, key=jax.random.key(0)
        )
        leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        sizes.append(sum(leaf.size for leaf in leaves))
    assert 1.1 < sizes[0] / sizes[1] < 1.13


def test_parameters_are_those_of_the_fno():
    sizes = {}
    for name in RECIPES:
        model = _make(name, width=16, modes=12, mlp_expansion=None)
        leaves = jax.tree.leaves(eqx.filter(model, eqx.is_inexact_array))
        sizes[name] = sum(leaf.size for leaf in leaves)
    assert max(sizes.values()) < 1.05 * min(sizes.values()) + 3 * 16 * 32  # the channels told


@pytest.mark.parametrize("name", ["fno-enforced", "fno-lifted"])
def test_free_channels_are_left_as_they_are(name):
    model = _make(name, free_channels=2)
    x, values = _random(0, 1, 16), {face: v for face, v in _values(2, 1).items()}
    out = model(x, values)
    assert out.shape == (3, 16)
    found = residuals(out[:1], LINE, values)
    assert all(bool(each.holds) for each in found.values())
    told = ConstrainedOperator(
        model.operator, LINE, information=model.information, enforcement="none"
    )
    np.testing.assert_array_equal(out[1:], told(x, values)[1:])


def test_keys_go_to_operators_that_take_them():
    model, x, values = _make("fno-enforced", dropout=0.5), _random(0, 1, 16), _values(2, 1)
    sure, one, other = (
        model(x, values, key=k) for k in (None, *jax.random.split(jax.random.key(0)))
    )
    assert float(jnp.abs(one - other).max()) > 1e-3 and float(jnp.abs(one - sure).max()) > 1e-3
    np.testing.assert_array_equal(one[:, 0], values["x", "low"])
    plain = ConstrainedOperator(lambda x: 2 * x, LINE, information="none")
    np.testing.assert_array_equal(plain(x, values, key=jax.random.key(0)), plain(x, values))


BAD = {
    "name": (lambda: _make("bon"), "unknown operator 'bon'; did you mean 'boon'"),
    "axes": (
        lambda: BOON(FNO(1, 1, (4, 4), width=4, layers=1, key=jax.random.key(0)), LINE),
        "expected 2 axes, as the FNO has, got \\('x',\\)",
    ),
    "padding": (lambda: _make("boon", padding=0.1), "expected an FNO without `padding`"),
    "norm": (lambda: _make("boon", norm="group"), "expected an FNO without `norm`"),
    "dropout": (lambda: _make("boon", dropout=0.1), "expected an FNO without `dropout`"),
    "free": (lambda: _make("boon", free_channels=1), "free_channels=.*0 for a BOON, got 1"),
    "width": (lambda: ConstrainedOperator(lambda x: x, LINE, width=1.0), "got 1.0"),
    "information": (
        lambda: ConstrainedOperator(lambda x: x, LINE, information="face"),
        "unknown information 'face'; did you mean 'faces'",
    ),
    "enforcement": (
        lambda: ConstrainedOperator(lambda x: x, LINE, enforcement="strikt"),
        "unknown enforcement 'strikt'; did you mean 'strict'",
    ),
    "value": (lambda: _make("boon")(_random(0, 1, 16)), "is passed at each call"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_makes_no_sense_is_named(name):
    call, message = BAD[name]
    with pytest.raises(ValueError, match=message):
        call()
