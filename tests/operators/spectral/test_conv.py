"""SpectralConv against numpy's FFT and dense matrices; its kernel's blocks against its columns."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree
from jax.test_util import check_grads

from jaxsci.operators.spectral import (
    ChebyshevShen,
    Cosine,
    Expansion,
    ExtendedFourier,
    Fourier,
    QuarterWave,
    Sine,
    SpectralConv,
    analyse,
    kernel_blocks,
    synthesise,
)
from jaxsci.precision import Policy

F, KEY = Fourier(), jax.random.key(0)


def field(*shape, complex_data=False):
    rng = np.random.default_rng(sum(shape))
    x = rng.normal(size=shape)
    return jnp.asarray(x + 1j * rng.normal(size=shape) if complex_data else x)


def make(*args, dtype=None, **settings):
    """A layer with numpy's random numbers: quicker, as nothing is compiled."""
    dtype = jnp.result_type(float) if dtype is None else dtype
    layer = eqx.filter_eval_shape(SpectralConv, *args, dtype=dtype, key=KEY, **settings)
    rng = np.random.default_rng(7)
    draw = lambda a: jnp.asarray(rng.normal(size=a.shape), a.dtype)  # noqa: E731
    return jax.tree.map(draw, layer)


@eqx.filter_jit
def call(layers, x, shape=None):
    if isinstance(layers, list):
        return [layer(x, shape=shape) for layer in layers]
    return layers(x, shape=shape)


def by_numpy_fft(layer, x, shape=None):
    """The published layer for real data: rfftn, einsum on the kept modes, irfftn."""
    shape = x.shape[1:] if shape is None else shape
    axes = tuple(range(1, x.ndim))
    X = np.fft.rfftn(np.asarray(x), axes=axes) / np.prod(x.shape[1:])
    full = layer.wavenumbers

    def index(grid):
        wrapped = [k % n for k, n in zip(full[:-1], grid[:-1], strict=True)]
        return (slice(None), *np.ix_(*wrapped, full[-1]))

    Y = np.zeros((layer.out_channels, *shape[:-1], shape[-1] // 2 + 1), complex)
    kept, weight = X[index(x.shape[1:])], np.asarray(layer.weight.dense)
    Y[index(shape)] = np.einsum("i...,io...->o...", kept, weight)
    y = np.fft.irfftn(Y, shape, axes=axes) * np.prod(shape)
    return y + np.asarray(layer.bias).reshape(-1, *[1] * len(shape))


def by_matrices(layer, x):
    """Dense complex matrices of all the modes, for any bases; the real part for real data."""
    y, half = np.asarray(x).astype(complex), layer.half_axis
    matrices = []
    for axis, (basis, n) in enumerate(zip(layer.bases, layer.modes, strict=True)):
        pair = [f(x.shape[1 + axis], n, axis == half) for f in (basis.analysis, basis.synthesis)]
        matrices.append([m[0] + 1j * m[1] if isinstance(m, tuple) else m for m in pair])
    for axis, (analysis, _) in enumerate(matrices):
        y = np.moveaxis(np.tensordot(analysis, y, (1, 1 + axis)), 0, 1 + axis)
    y = np.einsum("i...,io...->o...", y, np.asarray(layer.weight.dense))
    for axis, (_, synthesis) in enumerate(matrices):
        y = np.moveaxis(np.tensordot(synthesis, y, (1, 1 + axis)), 0, 1 + axis)
    y = y if layer.complex_data else y.real
    return y + np.asarray(layer.bias).reshape(-1, *[1] * (x.ndim - 1))


CASES = [
    ((6,), (8,), None),
    ((7,), (7,), "cp"),
    ((6, 5), (8, 9), "tucker"),
    ((5, 6), (5, 6), None),
    ((4, 3, 4), (5, 4, 7), "tt"),
]


METHODS = ("matmul", "fft", "auto")


@pytest.mark.parametrize("modes, shape, factorization", CASES)
def test_fourier_layers_are_the_published_ones(x64, modes, shape, factorization):
    x = field(3, *shape)
    layers = [make(3, 2, modes, factorization=factorization, method=m) for m in METHODS]
    expected = by_numpy_fft(layers[0], x)
    for y in call(layers, x):
        np.testing.assert_allclose(y, expected, atol=1e-14 * np.abs(expected).max())


def test_another_grid_is_the_same_function(x64):
    """A field without wavenumbers beyond the modes, at three resolutions, odd sizes included."""
    layer = make(1, 2, (5, 4))

    def u(n, m):
        x, y = np.arange(n)[:, None] / n, np.arange(m) / m
        return jnp.asarray(np.cos(2 * np.pi * (2 * x - y) + 0.3)[None])

    fine = call(layer, u(32, 24))
    np.testing.assert_allclose(call(layer, u(16, 12)), fine[:, ::2, ::2], atol=1e-13)
    np.testing.assert_allclose(call(layer, u(9, 7), (32, 24)), fine, atol=1e-13)
    x = field(1, 7, 9)
    np.testing.assert_allclose(call(layer, x, (12, 8)), by_numpy_fft(layer, x, (12, 8)), atol=1e-13)


SIZES = 17, 33, 65


def test_a_finer_grid_between_ends_is_nearly_the_same_function(x64):
    """Not to rounding: coefficients are integrals, by the trapezoidal rule."""
    layer = make(1, 1, 6, bases=ExtendedFourier())
    a, b, c = (np.asarray(call(layer, jnp.exp(jnp.linspace(0, 1, n))[None], (9,))) for n in SIZES)
    assert 3.9 < np.abs(a - b).max() / np.abs(b - c).max() < 4.1


BASES = [
    (Sine(), F),
    (F, Cosine("centres")),
    (ChebyshevShen((1, 0.5), (0, 1)), QuarterWave()),
    (F, Sine("centres"), F),
    (ExtendedFourier(), F),
    (F, ExtendedFourier(0.5)),
]


@pytest.mark.parametrize(
    "bases, complex_data",
    [*((b, False) for b in BASES), (BASES[0], True), (BASES[2], True)],
    ids=str,
)
def test_any_basis_on_any_axis(x64, bases, complex_data):
    d = len(bases)
    x, modes = field(2, *(7, 8, 6)[:d], complex_data=complex_data), (5, 4, 3)[:d]
    methods = ("matmul", "fft", ("fft", "matmul", "fft")[:d])
    settings = {"bases": bases, "complex_data": complex_data}
    layers = [make(2, 3, modes, method=method, **settings) for method in methods]
    expected = by_matrices(layers[0], x)
    for y in call(layers, x):
        np.testing.assert_allclose(y, expected, atol=1e-13 * np.abs(expected).max())


def test_complex_data_keep_all_wavenumbers(x64):
    layer = make(2, 2, 5, complex_data=True)
    x = field(2, 9, complex_data=True)
    X, Y = np.fft.fft(x) / 9, np.zeros((2, 9), complex)
    k = np.array([-2, -1, 0, 1, 2])
    Y[:, k] = np.einsum("ik,iok->ok", X[:, k], layer.weight.dense)
    expected = np.fft.ifft(Y) * 9 + np.asarray(layer.bias)[:, None]
    np.testing.assert_allclose(call(layer, x), expected, atol=1e-13)


@pytest.mark.parametrize("factorization", ["tucker", "cp", "tt"])
def test_factorised_weights(x64, factorization):
    layer = make(12, 10, (9, 8), factorization=factorization, rank=0.25)
    count = sum(a.size for a in jax.tree.leaves(layer.weight)) / 2
    assert abs(count / (12 * 10 * 9 * 5) - 0.25) < 0.05
    f = [np.asarray(a)[0] + 1j * np.asarray(a)[1] for a in layer.weight.factors]
    if factorization == "tucker":
        core = np.asarray(layer.weight.core)
        expected = np.einsum("abcd,ia,ob,xc,yd->ioxy", core[0] + 1j * core[1], *f, optimize=True)
    elif factorization == "cp":
        weights = np.asarray(layer.weight.weights)
        expected = np.einsum("r,ir,or,xr,yr->ioxy", weights[0] + 1j * weights[1], *f)
    else:
        expected = np.einsum("aib,boc,cxd,dye->ioxy", *f, optimize=True)
    dense = eqx.filter_jit(lambda layer: layer.weight.dense)(layer)
    np.testing.assert_allclose(dense, expected, atol=1e-12 * np.abs(expected).max())


@pytest.mark.parametrize("factorization", [None, "tucker", "tt"])
def test_weights_have_the_standard_deviation_of_the_reference(factorization):
    @jax.jit
    @jax.vmap
    def squares(key):
        layer = SpectralConv(6, 10, (8, 8), factorization=factorization, rank=3, key=key)
        return jnp.mean(jnp.abs(layer.weight.dense) ** 2)

    keys = jax.random.split(jax.random.key(0, impl="rbg"), 40)  # quicker to compile
    std = float(jnp.sqrt(jnp.mean(squares(keys))))
    assert abs(std / np.sqrt(2 / 16) - 1) < (0.01 if factorization is None else 0.15)


@pytest.mark.parametrize("method", ["matmul", "fft"])
def test_batches_gradients_and_tangents(x64, method):
    layer = make(2, 2, (4, 3), bases=(Sine(), F), method=method)
    x = field(3, 2, 6, 8)
    batch = jax.jit(jax.vmap(layer))(x)
    for one, y in zip(x, batch, strict=True):
        np.testing.assert_allclose(call(layer, one), y, atol=1e-13)
    flat, rebuild = ravel_pytree(layer)
    energy = jax.jit(lambda p, x: jnp.sum(rebuild(p)(x) * jnp.sin(rebuild(p)(x))))
    check_grads(energy, (flat, x[0]), 1)


def test_the_input_decides_the_dtype_and_a_policy_overrides():
    layer = make(2, 2, 6, dtype=jnp.float32)
    x = field(2, 20).astype(jnp.float32)
    y = call(layer, x)
    assert y.dtype == jnp.float32
    assert call(layer, x.astype(jnp.bfloat16)).dtype == jnp.bfloat16
    for text, bound in (("bf16", 2e-2), ("compute=f16", 2e-3), ("single", 1e-6)):
        half = make(2, 2, 6, policy=Policy.parse(text))
        assert half.weight.tensor.dtype == jnp.float32 and call(half, x).dtype == jnp.float32
        error = float(np.abs(np.subtract(call(half, x), y)).max() / np.abs(y).max())
        assert error < bound and (text == "single" or error > bound / 1e3)
    with jax.enable_x64(True):
        assert call(layer, field(2, 20)).dtype == jnp.float64


@pytest.mark.parametrize("complex_data", [False, True])
def test_coefficients_and_values(x64, complex_data):
    expansion = Expansion.of((Cosine(), F), (4, 5), complex_data=complex_data, dtype=jnp.float64)

    @jax.jit
    def there_and_back(x):
        c = analyse(x, expansion)
        return c, analyse(synthesise(c, (12, 7), expansion), expansion)

    c, again = there_and_back(field(2, 9, 8, complex_data=complex_data))
    assert c.shape == (2, 4, 5 if complex_data else 3)
    np.testing.assert_allclose(again, c, atol=1e-14)


KERNELS = [
    ((F,), (6,), (10,), 0),
    ((F,), (8,), (8,), 0),
    ((Sine(),), (4,), (9,), 0),
    ((F, F), (4, 6), (9, 10), 0),
    ((F, F), (4, 6), (9, 10), 1),
    ((F, F), (6, 4), (6, 4), 0),
    ((F, F), (6, 4), (6, 4), 1),
    ((F, Cosine()), (4, 3), (7, 8), 0),
    ((F, Cosine()), (4, 3), (7, 8), 1),
    ((F, Sine("centres"), F), (4, 3, 4), (5, 6, 4), 2),
    ((F, Sine("centres"), F), (4, 3, 4), (4, 6, 5), 1),
]


@pytest.mark.parametrize(
    "bases, modes, shape, axis, complex_data",
    [*((*case, False) for case in KERNELS), *((*KERNELS[i], True) for i in (0, 4, 7))],
    ids=str,
)
def test_kernel_blocks_are_columns_of_the_layer(x64, bases, modes, shape, axis, complex_data):
    settings = {"bases": bases, "complex_data": complex_data, "use_bias": False}
    layer, points = make(2, 3, modes, **settings), (0, 2, -1)
    face = field(2, *(n for i, n in enumerate(shape) if i != axis), complex_data=complex_data)

    @jax.jit
    def both(face):
        """Faces of the output, for a face of the input at each of the points: (row, column)."""
        found = kernel_blocks(layer, shape, axis, rows=points, columns=points)
        columns = []
        for column in points:
            x = jnp.zeros((2, *shape), face.dtype)
            x = jnp.moveaxis(jnp.moveaxis(x, 1 + axis, 0).at[column].set(face), 0, 1 + axis)
            columns.append(jnp.take(layer(x), jnp.asarray(points), 1 + axis))
        expected = jnp.moveaxis(jnp.stack(columns), 2 + axis, 0)
        blocks, transverse = found.blocks, found.transverse
        if transverse is None:
            return expected, jnp.einsum("rcoi,i->rco", blocks, face), blocks
        c = analyse(face, transverse)
        dtype = jnp.promote_types(blocks.dtype, c.dtype)
        c = jnp.einsum("rcoi...,i...->rco...", blocks.astype(dtype), c.astype(dtype))
        synthesis = jax.vmap(jax.vmap(lambda c: synthesise(c, face.shape[1:], transverse)))
        return expected, synthesis(c), blocks

    expected, got, blocks = both(face)
    np.testing.assert_allclose(got, expected, atol=1e-13)
    others = [basis for i, basis in enumerate(bases) if i != axis]
    assert jnp.iscomplexobj(blocks) == (complex_data or any(b.complex for b in others))


def test_the_method_is_chosen_by_size_and_can_be_overridden():
    def methods(modes, **settings):
        layer = make(1, 1, modes, **settings)
        return layer.expansion(jnp.float32, (128,) * len(layer.modes)).methods

    assert methods(46) == ("matmul",) and methods(48) == ("fft",)  # 24 and 25 coefficients
    assert methods((32, 32)) == ("fft", "matmul")
    longer = [methods(n, bases=ExtendedFourier(1.0)) for n in (126, 128)]  # 64 and 65
    assert longer == [("matmul",), ("fft",)]
    assert methods((32, 8), method="matmul") == ("matmul", "matmul")
    assert methods((8, 8), method=("fft", "auto")) == ("fft", "matmul")


def test_more_modes_than_the_grid_holds_are_refused():
    with pytest.raises(ValueError, match="`x` to have .* 9 modes of Fourier along axis 0, got 8"):
        make(1, 1, 9)(jnp.ones((1, 8)))
    layer = make(1, 1, (2, 7), bases=(F, Sine()))
    with pytest.raises(ValueError, match="7 modes of Sine along axis 1, got 8, which hold 6"):
        layer(jnp.ones((1, 8, 8)))
    with pytest.raises(ValueError, match="`shape` to have .* axis 1, got 8"):
        layer(jnp.ones((1, 8, 9)), shape=(8, 8))
    with pytest.raises(ValueError, match="`shape` to have"):
        kernel_blocks(layer, (8, 8))


@pytest.mark.parametrize(
    "change, match",
    [
        ({"modes": (4, 0)}, r"modes=.*at least 1 for each axis, got \(4, 0\)"),
        ({"in_channels": 0}, "in_channels=.*at least 1, got 0"),
        ({"bases": (F, F, F)}, "bases=.*one for each of 2"),
        ({"method": "dft"}, "method=.*'auto', 'matmul' or 'fft', got 'dft'"),
        ({"factorization": "tuker"}, "factorization=.*got 'tuker'"),
        ({"factorization": "cp", "rank": -0.5}, "rank=.*above 0, got -0.5"),
        ({"factorization": "tucker", "rank": (2, 2)}, "expected 4 ranks"),
    ],
)
def test_bad_settings_are_named(change, match):
    settings = {"in_channels": 1, "out_channels": 1, "modes": (4, 4), "key": KEY} | change
    with pytest.raises(ValueError, match=match):
        SpectralConv(**settings)


def test_bad_input_is_named():
    layer = make(2, 1, (4, 4))
    with pytest.raises(ValueError, match=r"expected shape \(2, N1, N2\), got \(5, 2, 8, 8\)"):
        layer(jnp.ones((5, 2, 8, 8)))
    with pytest.raises(TypeError, match="complex_data=False.*expected real numbers, got comp"):
        layer(jnp.ones((2, 8, 8), complex))
    with pytest.raises(ValueError, match=r"shape=.*expected 2 sizes, got \(8,\)"):
        layer(jnp.ones((2, 8, 8)), shape=(8,))
    with pytest.raises(TypeError, match="bases=.*expected AbstractSpectralBasis for each axis"):
        SpectralConv(1, 1, (2, 2), bases=(F, "sine"), key=KEY)
    with pytest.raises(ValueError, match=r"unique, got ExtendedFourier\(extension=0.25\)"):
        kernel_blocks(make(1, 1, (4, 4), bases=(F, ExtendedFourier())), (8, 8))
    with pytest.raises(ValueError, match=r"axis=2.*an axis of 2"):
        kernel_blocks(layer, (8, 8), 2)
    with pytest.raises(ValueError, match=r"rows=\(8,\).*points of 8"):
        kernel_blocks(layer, (8, 8), rows=(8,))
    with pytest.raises(ValueError, match=r"shape=.*expected 2 sizes"):
        kernel_blocks(layer, (8,))
