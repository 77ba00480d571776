"""Models of every kind, constrained."""

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

import jaxsci
from jaxsci.conservation import integral
from jaxsci.constraining import CONSTRAIN_RESULTS, DiffusiveFlux, constrain
from jaxsci.export import export_stablehlo
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.interop import from_flax_linen
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann
from jaxsci.operators.constrained import DEFAULT_RECIPE, make_operator
from jaxsci.operators.fno import FNO
from jaxsci.operators.uncertain import DiverseOperator, OutputVariance
from jaxsci.surrogates import MCDropout

N = 17


def _grid():
    return Grid.uniform(x=(0.0, 1.0, N))


def _parts():
    return {
        "conservation": integral(_grid(), 0.5),
        "boundary": BoundaryConditions.on(_grid(), {"x": Dirichlet(1.0)}),
        "shape": (N,),
    }


def _mlp(seed=0):
    return eqx.nn.MLP(2, N, 8, 1, key=jax.random.key(seed))


def _nnx():
    nnx = pytest.importorskip("flax.nnx", reason="needs the extra `flax`")
    return nnx.Linear(2, N, rngs=nnx.Rngs(0))


def _linen():
    linen = pytest.importorskip("flax.linen", reason="needs the extra `flax`")
    module = linen.Dense(N)
    variables = module.init(jax.random.key(0), jnp.zeros(2))
    return from_flax_linen(module, variables, variance=0.1)


MODELS = {
    "function": lambda: (lambda x: jnp.ones(N) * x[0], {"variance": 0.1}),
    "pair": lambda: (lambda x: (jnp.ones(N) * x[0], jnp.ones(N)), {}),
    "Gaussian": lambda: (
        lambda x, *, key=None: Gaussian.diagonal(jnp.ones(N) * x[0], jnp.ones(N)),
        {},
    ),
    "Equinox": lambda: (_mlp(), {"variance": 0.1}),
    "Flax nnx": lambda: (_nnx(), {"variance": 0.1}),
    "ensemble": lambda: ([_mlp(k) for k in range(3)], {"boundary_update": "enforce"}),
    "ensemble with a floor": lambda: ([_mlp(k) for k in range(3)], {"variance": 0.01}),
    "Flax linen": lambda: (_linen(), {}),
}


@pytest.mark.slow_but(4)
@pytest.mark.parametrize("kind", MODELS)
def test_any_model(kind):
    model, options = MODELS[kind]()
    constrained = constrain(model, **_parts(), **options)
    prediction, certificate = eqx.filter_jit(constrained.with_certificate)(jnp.array([0.3, 1.0]))
    assert certificate.holds
    assert prediction.mean[0] == prediction.mean[-1] == 1
    assert prediction.marginal_var[0] == prediction.marginal_var[-1] == 0
    weights = integral(_grid(), 0.0).G.weights
    assert abs(float(jnp.sum(weights * prediction.mean)) - 0.5) < 1e-6
    assert abs(float(weights @ prediction.cov.mv(weights))) < 1e-6


def _fno(outputs=1, **options):
    return FNO(1, outputs, 4, width=6, layers=1, key=jax.random.key(0), **options)


OPERATORS = {
    "heads": lambda: DiverseOperator(_fno(), 10, variance_floor=0.01, key=jax.random.key(1)),
    "variance": lambda: OutputVariance(_fno(2)),
    "dropout": lambda: MCDropout(_fno(dropout=0.2), 12, variance_floor=0.01),
}


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("kind", OPERATORS)
def test_operators_with_uncertainty(kind):
    constrained = constrain(OPERATORS[kind](), **_parts())
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, N)), jnp.float32)
    predict = eqx.filter_jit(constrained.with_certificate)
    prediction, certificate = predict(x, key=jax.random.key(2))
    assert certificate.holds
    assert prediction.mean[0] == prediction.mean[-1] == 1
    weights = integral(_grid(), 0.0).G.weights
    assert abs(float(jnp.sum(weights * prediction.mean)) - 0.5) < 1e-6
    assert abs(float(weights @ prediction.cov.mv(weights))) < 1e-6
    assert prediction.marginal_var[1:-1].min() > 0


@pytest.mark.parametrize("update", ["condition", "enforce"])
def test_gradients_of_a_constrained_operator(update, x64):
    """Backward through operator, fading, law and values, against differences of the whole."""
    grid = Grid.uniform(t=(0.0, 1.0, 6), x=(0.0, 1.0, 12))
    ends = {("x", "low"): Neumann(0.0), ("x", "high"): Neumann()}
    walls = BoundaryConditions.on(grid, ends)
    operator = make_operator(
        DEFAULT_RECIPE, 1, 1, walls, modes=(2, 3), width=4, layers=1, dtype=jnp.float64,
        key=jax.random.key(0),
    )  # fmt: skip
    slope = jnp.sin(jnp.arange(6.0))[None]

    params, rest = eqx.partition(operator, eqx.is_inexact_array)
    flat, unravel = jax.flatten_util.ravel_pytree(params)
    x = jnp.asarray(np.random.default_rng(0).normal(size=(1, 6, 12)))

    def values(inputs):
        return {("x", "high"): inputs["slope"]}

    @jax.jit
    def loss(flat, x, slope, total):
        operator = eqx.combine(unravel(flat), rest)
        constrained = constrain(
            lambda inputs: operator(inputs["x"], values(inputs)),
            variance=lambda inputs: 0.1 + inputs["x"][0] ** 2,
            conservation=lambda inputs: integral(grid, inputs["total"], over="x"),
            boundary=walls,
            values=values,
            shape=grid.shape,
            boundary_update=update,
        )
        return jnp.sum(constrained({"x": x, "slope": slope, "total": total}).mean ** 2)

    arguments = flat, x, slope, jnp.linspace(0.1, 0.4, 6)
    jax.test_util.check_grads(loss, arguments, order=1, modes=["rev"], rtol=1e-6)


def test_top_level_name():
    assert jaxsci.constrain is constrain
    with pytest.raises(AttributeError, match="no attribute 'constrained'"):
        jaxsci.constrained  # noqa: B018


def test_laws_and_values_of_the_inputs():
    grid = _grid()
    constrained = constrain(
        lambda inputs: jnp.full(N, inputs["level"]),
        variance=1.0,
        conservation=lambda inputs: integral(grid, inputs["mass"]),
        boundary=BoundaryConditions.on(grid, {("x", "low"): Dirichlet(), ("x", "high"): Neumann()}),
        values=lambda inputs: {("x", "low"): inputs["wall"], ("x", "high"): inputs["slope"]},
        shape=(N,),
    )
    inputs = {
        "level": jnp.array([0.1, 0.2]),
        "mass": jnp.array([1.0, 2.0]),
        "wall": jnp.array([3.0, 4.0]),
        "slope": jnp.array([0.0, -1.0]),
    }
    batch, certificate = jax.jit(jax.vmap(constrained.with_certificate))(inputs)
    np.testing.assert_array_equal(batch.mean[:, 0], inputs["wall"])
    np.testing.assert_allclose(
        batch.mean @ integral(grid, 0.0).G.weights, inputs["mass"], rtol=1e-6
    )
    assert jax.vmap(lambda c: c.holds)(certificate).all()
    assert certificate.holds  # of all of them
    wrong = eqx.tree_at(lambda c: c.residual_after[0], certificate, jnp.array([[0.0], [1.0]]))
    assert not wrong.holds


@pytest.mark.slow
def test_balance_of_the_inputs():
    """Each input has its own diffusivity, and only what does not fit to it is refused."""
    grid = Grid.uniform(t=(0.0, 1.0, 3), x=(0.0, 1.0, N))
    slopes = {("x", "low"): Neumann(0.0), ("x", "high"): Neumann(2.0)}
    constrained = constrain(
        lambda inputs: jnp.ones(grid.shape) * inputs["diffusivity"],
        variance=1.0,
        conservation=lambda inputs: integral(grid, inputs["mass"], over="x"),
        boundary=BoundaryConditions.on(grid, slopes),
        balance=lambda inputs: DiffusiveFlux(grid, inputs["diffusivity"]),
        shape=grid.shape,
    )
    mass = jnp.array([1.0, 1.5, 2.0])
    inputs = {"diffusivity": jnp.array([0.5, 0.25]), "mass": jnp.stack([mass, mass])}
    _, certificate = jax.vmap(constrained.with_certificate)(inputs)
    np.testing.assert_array_equal(certificate.result == CONSTRAIN_RESULTS.successful, [1, 0])
    np.testing.assert_array_equal(certificate.result == CONSTRAIN_RESULTS.unbalanced, [0, 1])


def test_a_number_for_the_variance_is_no_parameter():
    """No decay of weights makes it smaller."""
    constrained = constrain(_mlp(), **_parts(), variance=0.1)
    leaves = eqx.filter(constrained.surrogate, eqx.is_inexact_array)
    assert len(jax.tree.leaves(leaves)) == len(jax.tree.leaves(eqx.filter(_mlp(), eqx.is_array)))


def test_training_through_the_constraint():
    """Descent on the constrained prediction: finite gradients, a falling loss, and it obeys."""
    grid = _grid()
    x = grid.points()[:, 0]
    truth = 1 - 3 * x * (1 - x)
    constrained = constrain(_mlp(), **_parts(), variance=lambda inputs: 0.1 + 0 * truth)
    inputs = jnp.array([0.3, 1.0])

    @eqx.filter_jit
    @eqx.filter_value_and_grad
    def loss(model):
        return jnp.mean((model(inputs).mean - truth) ** 2)

    first, gradient = loss(constrained)
    # Laws and conditions are held; the gradient reaches the network and nothing else.
    assert all(jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(gradient))
    assert not any(leaf.any() for leaf in jax.tree.leaves(gradient.conservation))
    assert all(leaf.any() for leaf in jax.tree.leaves(gradient.surrogate))
    for _ in range(60):
        value, gradient = loss(constrained)
        network = jax.tree.map(
            lambda p, g: p if g is None else p - 0.5 * g,
            constrained.surrogate,
            gradient.surrogate,
            is_leaf=lambda leaf: leaf is None,
        )
        constrained = eqx.tree_at(lambda c: c.surrogate, constrained, network)
    assert value < 0.2 * first
    _, certificate = constrained.with_certificate(inputs)
    assert certificate.holds


def test_linen_needs_its_variables():
    linen = pytest.importorskip("flax.linen", reason="needs the extra `flax`")
    with pytest.raises(TypeError, match="from_flax_linen"):
        constrain(linen.Dense(N), **_parts())


@pytest.mark.parametrize(
    "model, change, error, match",
    [
        (3, {}, TypeError, "expected a model that can be called, or a list of them, got int"),
        (eqx.nn.MLP, {}, TypeError, r"expected a model, got its class, MLP; .*`MLP\(...\)`"),
        (_mlp, {"conservation": None, "boundary": None}, ValueError, "got none"),
        (_mlp, {"shape": None}, ValueError, r"\(C, x\)"),
        ([jnp.sin, jnp.cos], {"readout": jnp.sin}, TypeError, "no `readout`"),
        (
            _mlp,
            {"boundary": {"x": 0.0}},
            TypeError,
            "boundary=.*expected BoundaryConditions, got dict",
        ),
        (_mlp, {"values": 3.0}, TypeError, "values=.*expected a mapping from faces"),
        (_mlp, {"boundary": None, "values": {}}, ValueError, "values=.*beside `boundary`"),
        (_mlp, {"balance": 1.0}, TypeError, "balance=.*expected a DiffusiveFlux, got float"),
        (_mlp, {"inequality": "positive"}, TypeError, "inequality=.*got str 'positive'"),
        (_mlp, {"shape": 21}, TypeError, "shape=.*expected whole numbers.*got 21"),
        (_mlp, {"shape": (21.7,)}, TypeError, "shape=.*expected whole numbers.*21.7"),
    ],
)
def test_bad_input(model, change, error, match):
    with pytest.raises(error, match=match):
        constrain(model, **(_parts() | change))


def test_a_mean_without_variance():
    with pytest.raises(ValueError, match="expected a variance"):
        constrain(_mlp(), **_parts())(jnp.ones(2))


@pytest.mark.slow
def test_exported_for_any_batch():
    """A constrained surrogate leaves the notebook as its moments, its grid fixed."""
    grid = _grid()
    parts = _parts() | {
        "boundary": BoundaryConditions.on(
            grid, {("x", "low"): Dirichlet(1.0), ("x", "high"): Neumann(0.5)}
        )
    }
    constrained = constrain(_mlp(), variance=0.1, **parts)

    def moments(x):
        prediction = constrained(x)
        return prediction.mean, prediction.marginal_var

    exported = export_stablehlo(None, moments, (jnp.zeros(2),))
    for size in (1, 4):
        x = jax.random.normal(jax.random.key(size), (size, 2))
        mean, variance = exported.call(x)
        wanted = jax.vmap(moments)(x)
        np.testing.assert_allclose(mean, wanted[0], atol=1e-6)
        np.testing.assert_allclose(variance, wanted[1], atol=1e-6)


def test_a_word_is_no_law():
    with pytest.raises(TypeError, match="conservation=.*expected a LinearConstraint.*got str"):
        constrain(jnp.sin, **(_parts() | {"conservation": "mass", "variance": 0.1}))(jnp.zeros(N))
