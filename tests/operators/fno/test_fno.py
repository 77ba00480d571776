"""The FNO as a user meets it: options, dtypes, gradients, resolutions, devices, export."""

import re

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jax.test_util import check_grads

from jaxsci.operators.fno import FNO, neuraloperator_weights
from jaxsci.operators.spectral import Fourier, Sine, SpectralConv
from jaxsci.precision import Policy

KEY = jax.random.key(0, impl="rbg")


def make(*args, **settings):
    """A model with numpy's random numbers: quicker, as nothing is compiled."""
    model = eqx.filter_eval_shape(lambda: FNO(*args, **settings, key=KEY))
    rng = np.random.default_rng(7)

    def draw(leaf):
        if not isinstance(leaf, jax.ShapeDtypeStruct):
            return leaf
        return jnp.asarray(rng.normal(size=leaf.shape) / leaf.shape[-1] ** 0.5, leaf.dtype)

    return jax.tree.map(draw, model)


@eqx.filter_jit
def call(model, *arguments):
    return model(*arguments)


@eqx.filter_jit
def batched(model, x):
    return jax.vmap(model)(x)


def field(*shape, dtype=jnp.float32, complex_data=False):
    rng = np.random.default_rng(sum(shape))
    x = rng.normal(size=shape)
    return jnp.asarray(x + 1j * rng.normal(size=shape) if complex_data else x, dtype)


def test_sizes_are_the_reference_s():
    model = make(3, 2, (6, 4), 8, layers=2, parameters=1)
    assert model.lifting.layers[0].weight.shape == (16, 3 + 1 + 2)
    assert model.projection.layers[1].weight.shape == (2, 16)
    block = model.blocks[0]
    assert block.mlp.layers[0].weight.shape == (4, 8) and block.skip.bias is None
    assert block.mlp_skip.weight.shape == (8,) and not block.norms
    assert block.conv.weight.dense.shape == (8, 8, 6, 3)


def test_parameters_of_the_equation_are_channels_that_are_constant():
    model = make(1, 1, 4, 6, layers=1, parameters=2)
    x, numbers = field(1, 12), jnp.asarray([0.3, -1.0])
    plain = make(3, 1, 4, 6, layers=1)
    stacked = jnp.concatenate([x, jnp.broadcast_to(numbers[:, None], (2, 12))])
    np.testing.assert_allclose(call(model, x, numbers), call(plain, stacked), atol=1e-6)


def test_other_bases_know_their_points():
    model = make(1, 1, (4, 4), 6, layers=1, bases=(Sine(), Fourier()))
    assert call(model, field(1, 9, 8)).shape == (1, 9, 8)
    assert [type(basis) for basis in model.bases] == [Sine, Fourier]
    # The lifting sees x = j / 8 along the first axis, whose ends are points, and j / 8 < 1 along y.
    nothing = eqx.tree_at(lambda m: (m.blocks, m.projection), model, ((), lambda x: x))
    got = call(eqx.tree_at(lambda m: m.lifting, nothing, lambda x: x), field(1, 9, 8))
    np.testing.assert_allclose(got[1, :, 0], np.arange(9) / 8, atol=1e-6)
    np.testing.assert_allclose(got[2, 0], np.arange(8) / 8, atol=1e-6)


def test_batches_gradients_and_tangents(x64):
    model = make(1, 1, (3, 3), 2, layers=1, norm="group", dtype=jnp.float64)
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    x = field(2, 1, 3, 4, dtype=jnp.float64)
    batch = batched(model, x)
    np.testing.assert_allclose(call(model, x[1]), batch[1], atol=1e-13)
    flat, rebuild = ravel_pytree(params)
    loss = jax.jit(lambda p, x: jnp.sin(jax.vmap(eqx.combine(rebuild(p), rest))(x)).mean())
    check_grads(loss, (flat, x), 1)
    # An ensemble: the parameters have a batch axis as well.
    many = jax.tree.map(lambda a: jnp.asarray(np.stack([a, a])), params)
    both = jax.jit(jax.vmap(lambda p, x: eqx.combine(p, rest)(x)))(many, x)
    np.testing.assert_allclose(both, batch, atol=1e-13)


def products_of(lowered):
    """The dtypes of the factors of every product in a lowered program."""
    tensor = r"tensor<[\dx]*(\w+)>"
    return set(re.findall(rf"dot_general.*: \({tensor}, {tensor}\)", lowered.as_text()))


@eqx.filter_jit
def dropped(model, x, key):
    return model(x, key=key)


def test_dropout_has_no_weights():
    plain, dropping = make(1, 1, 4, 6, layers=2), make(1, 1, 4, 6, layers=2, dropout=0.25)
    names = neuraloperator_weights(plain).keys()
    assert neuraloperator_weights(dropping).keys() == names


def test_dropout_is_a_mask_of_channels_and_keeps_the_mean(x64):
    """One block that is the identity, and linear maps around it: the mask is what comes out."""
    model = make(1, 6, 4, 6, layers=1, dropout=0.25, dtype=jnp.float64, mlp_expansion=None)
    seen = eqx.tree_at(lambda m: m.projection, model, lambda x: x)
    plain = eqx.tree_at(
        lambda m: m.blocks[0].dropout, seen, None, is_leaf=lambda leaf: leaf is None
    )
    x = field(1, 16, dtype=jnp.float64)
    whole = call(plain, x)
    np.testing.assert_array_equal(call(seen, x), whole)  # without a key, no dropout
    np.testing.assert_array_equal(dropped(eqx.nn.inference_mode(seen), x, KEY), whole)
    many = jax.vmap(lambda key: dropped(seen, x, key))(jax.random.split(KEY, 400))
    ratio = np.asarray(many) / np.asarray(whole)
    assert set(np.unique(ratio.round(9))) == {0.0, np.round(1 / 0.75, 9)}
    assert np.abs(ratio - ratio[:, :, :1]).max() < 1e-12  # the same at all points
    share = (ratio[:, :, 0] == 0).mean()
    assert abs(share - 0.25) < 5 * np.sqrt(0.25 * 0.75 / 2400)
    finer = dropped(seen, field(1, 32, dtype=jnp.float64), KEY)
    np.testing.assert_array_equal(
        np.asarray(finer == 0).all(1), np.asarray(dropped(seen, x, KEY) == 0).all(1)
    )


def test_a_policy_gives_every_step_its_dtype():
    x = field(2, 1, 32)
    settings = {"layers": 2, "stabilizer": True, "norm": "group"}
    reference = batched(make(1, 1, 8, 8, **settings), x)
    for text, bound in (("bf16", 5e-2), ("compute=f16", 5e-3)):
        model = make(1, 1, 8, 8, **settings, policy=Policy.parse(text))
        params, rest = eqx.partition(model, eqx.is_inexact_array)
        assert {leaf.dtype.name for leaf in jax.tree.leaves(params)} == {"float32"}

        def run(params, x, rest=rest):
            return jax.vmap(eqx.combine(params, rest))(x)

        short = {"bf16": "bf16", "compute=f16": "f16"}[text]
        assert products_of(jax.jit(run).lower(params, x)) == {(short, short)}
        # Derivatives of pointwise products as well; those of the transforms are in float32.
        loss = jax.jit(jax.grad(lambda f, x: jax.vmap(f)(x).sum(), (0, 1)))
        assert products_of(loss.lower(model.blocks[0].skip, field(2, 8, 32))) == {(short, short)}
        y = jax.jit(run)(params, x)
        error = float(np.abs(np.subtract(y, reference)).max() / np.abs(reference).max())
        assert y.dtype == jnp.float32 and bound / 1e3 < error < bound
    narrow = make(1, 1, 8, 8, **settings)
    assert batched(narrow, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


@pytest.mark.multidevice
def test_a_batch_on_four_devices_is_not_gathered():
    mesh = Mesh(np.array(jax.devices()[:4]), ("batch",))
    layer = SpectralConv(4, 4, (6, 4), method="matmul", key=KEY)
    model = make(1, 1, (6, 4), 6, layers=2, method="matmul")
    split, whole = (NamedSharding(mesh, PartitionSpec(*s)) for s in (("batch",), ()))
    for f, x in ((layer, field(8, 4, 12, 10)), (model, field(8, 1, 12, 10))):
        params, rest = eqx.partition(f, eqx.is_inexact_array)

        def run(params, x, rest=rest):
            return jax.vmap(eqx.combine(params, rest))(x)

        expected = jax.jit(run)(params, x)
        compiled = (
            jax.jit(run).lower(jax.device_put(params, whole), jax.device_put(x, split)).compile()
        )
        y = compiled(jax.device_put(params, whole), jax.device_put(x, split))
        assert y.sharding.is_equivalent_to(split, y.ndim)
        np.testing.assert_allclose(y, expected, atol=1e-6)
        collectives = ("all-gather", "all-to-all", "all-reduce", "collective-permute")
        assert not any(name in str(compiled.as_text()) for name in collectives)


def test_export_with_any_batch_and_grid():
    model = make(1, 1, (4, 3), 4, layers=2, norm="instance")
    batch, n, m = jax.export.symbolic_shape("b, n, m", constraints=["n >= 4", "m >= 3"])
    symbolic = jax.ShapeDtypeStruct((batch, 1, n, m), jnp.float32)
    exported = jax.export.export(jax.jit(jax.vmap(model.__call__)))(symbolic)
    for shape in ((2, 1, 8, 9), (3, 1, 5, 6)):
        x = field(*shape)
        expected = batched(model, x)
        np.testing.assert_allclose(exported.call(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    "change, match",
    [
        ({"width": 0}, "width=.*at least 1, got 0"),
        ({"layers": 0}, "layers=.*at least 1, got 0"),
        ({"parameters": -1}, "parameters=.*at least 0, got -1"),
        ({"skip": "soft-gate"}, "unknown skip 'soft-gate'; did you mean 'soft-gating'"),
        ({"norm": "batch"}, "unknown norm 'batch'"),
        ({"padding": (0.1,)}, "fractions=.*one for each of 2 axes, got 1"),
        ({"padding": -0.1}, "fractions=.*at least 0, got -0.1"),
    ],
)
def test_bad_settings_are_named(change, match):
    settings = {"width": 4, "layers": 1} | change
    with pytest.raises(ValueError, match=match):
        eqx.filter_eval_shape(lambda: FNO(1, 1, (4, 4), **settings, key=KEY))


def test_bad_input_is_named():
    model = make(1, 1, (4, 4), 4, layers=1)
    with pytest.raises(ValueError, match=r"expected shape \(1, N1, N2\), got \(5, 1, 8, 8\)"):
        model(jnp.ones((5, 1, 8, 8)))
    with pytest.raises(TypeError, match="complex_data=False.*expected real numbers, got complex64"):
        model(jnp.ones((1, 8, 8), complex))
    with pytest.raises(ValueError, match="4 modes of Fourier along axis 1, got 3"):
        eqx.filter_eval_shape(model, jnp.ones((1, 8, 3)))
    with pytest.raises(ValueError, match=r"parameters=0.*expected none, got shape \(1,\)"):
        model(jnp.ones((1, 8, 8)), jnp.ones(1))
    with pytest.raises(ValueError, match=r"expected shape \(2,\), got none"):
        make(1, 1, (4, 4), 4, layers=1, parameters=2)(jnp.ones((1, 8, 8)))
