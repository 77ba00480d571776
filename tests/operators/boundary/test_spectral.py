"""Corrected spectral layers against the dense matrix of the layer, in numpy."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.operators.boundary import (
    BoundaryConditions,
    DenseLayer,
    Dirichlet,
    Neumann,
    Periodic,
    correct,
    enforce,
    residuals,
)
from jaxsci.operators.spectral import Cosine, ExtendedFourier, Fourier, Sine, SpectralConv


def _random(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def _eliminated(K, x, axis, columns, coupled):
    """`x + E K_bb^+ (K_bb x_b - (K x)_b)`; the pseudo-inverse leaves out what is not retained."""
    flat = K.reshape(x.size, x.size)
    index = np.arange(x.size).reshape(x.shape)
    groups = [index.take(j, axis=axis).ravel() for j in columns]
    groups = [np.concatenate(groups)] if coupled else groups
    z, Kx = x.ravel().copy(), flat @ x.ravel()
    for g in groups:
        block = flat[np.ix_(g, g)]
        z[g] += np.linalg.pinv(block, rcond=1e-9) @ (block @ x.ravel()[g] - Kx[g])
    return z.reshape(x.shape)


CASES = {
    "fourier 1-D": ((9,), (8,), Fourier(), "x"),
    "sine 1-D": ((9,), (7,), Sine(samples="centres"), "x"),
    "extended 1-D": ((9,), (6,), ExtendedFourier(), "x"),
    "fourier 2-D, x": ((7, 6), (4, 6), Fourier(), "x"),
    "fourier 2-D, t": ((6, 8), (6, 4), Fourier(), "t"),
    "cosine and fourier, x": ((5, 8), (4, 8), (Cosine(), Fourier()), "x"),
    "fourier and cosine, x": ((6, 7), (5, 7), (Fourier(), Cosine()), "x"),
    "extended 2-D, x": ((6, 7), (4, 5), ExtendedFourier(), "x"),
    "fourier 3-D, x": ((4, 5, 4), (3, 5, 3), Fourier(), "x"),
}


def _layer(name, dtype=jnp.float64):
    shape, modes, bases, axis = CASES[name]
    layer = SpectralConv(2, 2, modes, bases=bases, key=jax.random.key(3), dtype=dtype)
    axes = {1: ("x",), 2: ("t", "x"), 3: ("t", "x", "y")}[len(shape)]
    return layer, shape, axes, axis


SLOW = list(CASES)[4:]


@pytest.mark.slow_but(1)
@pytest.mark.parametrize(
    "name", [pytest.param(c, marks=[pytest.mark.slow] * (c in SLOW)) for c in CASES]
)
def test_blocks_from_modes_give_what_the_dense_matrix_gives(name, x64):
    layer, shape, axes, axis = _layer(name)
    at, n = 1 + axes.index(axis), shape[axes.index(axis)]
    x = _random(0, 2, *shape)
    bias = np.array(layer(jnp.zeros(x.shape)))
    K = np.array(jax.jit(jax.jacfwd(layer))(jnp.zeros(x.shape)))
    faces = {(axis, "low"): Dirichlet(), (axis, "high"): Dirichlet(1.0)}
    conditions = BoundaryConditions(axes, faces)
    across = tuple(k for i, k in enumerate(shape) if i != at - 1)
    values = {(axis, "low"): jnp.asarray(_random(1, 2, *across))}

    # The default of 1.5e-8 alters what a singular value of 0.004 contributes by 1e-11.
    @jax.jit
    def run(x):
        methods = "boon", "exact", "consistent"
        return [correct(layer, conditions, m, tikhonov=1e-10)(x, values) for m in methods]

    boon, exact, consistent = run(jnp.asarray(x))
    for y, coupled in ((boon, False), (exact, True)):
        z = _eliminated(K, x, at, (0, n - 1), coupled)
        expected = jnp.asarray(np.tensordot(K, z, x.ndim) + bias)
        expected = np.array(enforce(expected, conditions, values))
        assert np.abs(y - expected).max() <= 1e-12 * np.abs(expected).max()
        assert all(bool(f.holds) for f in residuals(y, conditions, values).values())
    # A dense layer goes through other code. Where all transverse modes are kept the answers agree.
    if len(shape) == 1:
        other = correct(lambda x: DenseLayer(K)(x) + bias, conditions, "consistent")
        np.testing.assert_allclose(consistent, other(jnp.asarray(x), values), rtol=1e-9, atol=1e-9)
    assert all(bool(f.holds) for f in residuals(consistent, conditions, values).values())


@pytest.mark.parametrize("wide", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_random_weights_obey_every_kind_of_condition(wide):
    with jax.enable_x64(wide):
        dtype = jnp.float64 if wide else jnp.float32
        layer = SpectralConv(3, 3, (6, 5), key=jax.random.key(0), dtype=dtype)
        faces = {"t": Periodic(), ("x", "low"): Neumann(), ("x", "high"): Dirichlet()}
        conditions = BoundaryConditions(("t", "x"), faces, length={"x": 1.0})
        low, high = _random(1, 3, 8), _random(2, 3, 8)
        low[:, -1], high[:, -1] = low[:, 0], high[:, 0]
        values = {
            ("x", "low"): jnp.asarray(low, dtype),
            ("x", "high"): jnp.asarray(high, dtype),
        }
        x = jnp.asarray(_random(0, 3, 8, 11), dtype)

        @jax.jit
        def run(x, values):
            return [correct(layer, conditions, m)(x, values) for m in ("boon", "consistent")]

        for y in run(x, values):
            assert y.dtype == dtype
            for face in residuals(y, conditions, values).values():
                assert bool(face.holds)


def test_gradients_reach_the_weights_and_a_batch_shares_the_blocks():
    layer = SpectralConv(2, 2, (6,), key=jax.random.key(0))
    conditions = BoundaryConditions("x", {"x": Dirichlet()})
    corrected = correct(layer, conditions, "exact")
    x = jnp.asarray(_random(0, 4, 2, 16), jnp.float32)
    values = {("x", side): jnp.asarray(_random(1, 4, 2), jnp.float32) for side in ("low", "high")}

    @eqx.filter_jit
    def loss(model):
        y = jax.vmap(model)(x, values)
        return jnp.mean(y**2)

    gradient = eqx.filter_jit(eqx.filter_grad(loss))(corrected)
    leaves = jax.tree.leaves(gradient)
    assert len(leaves) == 2 and all(jnp.isfinite(leaf).all() for leaf in leaves)
    step = jax.tree.map(lambda g: 1e-3 * g / jnp.linalg.norm(g), gradient)
    up = eqx.apply_updates(corrected, step)
    down = eqx.apply_updates(corrected, jax.tree.map(jnp.negative, step))
    slope = sum(jnp.sum(s * g) for s, g in zip(jax.tree.leaves(step), leaves, strict=True))
    np.testing.assert_allclose((loss(up) - loss(down)) / 2, slope, rtol=2e-2)
