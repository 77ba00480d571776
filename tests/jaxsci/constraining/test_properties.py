"""Random networks, grids, faces, laws and covariances: all holds, and so do derivatives."""

from typing import NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxsci import constrain
from jaxsci.conservation import integral
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann, Periodic, Robin

VALUE = 0.7  # one for all faces, as they meet
SIDES = {
    "free": None,
    "value": Dirichlet(VALUE),
    "slope": Neumann(-0.4, order=1),
    "fine slope": Neumann(0.3, order=4),
    "mixed": Robin(0.2, a=1.0, b=0.1, order=2),
}
COVARIANCES = "diagonal", "ensemble", "kronecker", "dense"


class Case(NamedTuple):
    """What is drawn."""

    sizes: tuple[int, ...] = (12,)
    faces: tuple[str | tuple[str, str], ...] = (("value", "slope"),)
    channels: int = 1
    covariance: str = "diagonal"
    update: str = "condition"
    parts: bool = False
    x64: bool = True
    seed: int = 0


@st.composite
def cases(draw):
    dimensions = draw(st.integers(1, 3))
    smallest = {1: 12, 2: 7, 3: 6}[dimensions]
    sizes = tuple(draw(st.integers(smallest, smallest + 2)) for _ in range(dimensions))
    # Derivatives on the second and third axis reach less far, as the axes are shorter.
    kinds = list(SIDES) if dimensions == 1 else [kind for kind in SIDES if kind != "fine slope"]
    side = st.sampled_from(kinds)
    faces = tuple(draw(st.tuples(side, side) | st.just("circle")) for _ in range(dimensions))
    return Case(
        sizes,
        faces,
        channels=draw(st.integers(1, 2)) if dimensions == 1 else 1,
        covariance=draw(st.sampled_from(COVARIANCES)),
        update=draw(st.sampled_from(["condition", "enforce"])),
        parts=draw(st.booleans()),
        x64=draw(st.booleans()),
        seed=draw(st.integers(0, 99)),
    )


class Network(eqx.Module):
    """Two numbers to a field with a covariance, all of it random."""

    mlp: eqx.nn.MLP
    factor: jax.Array
    kind: str = eqx.field(static=True)
    times: int = eqx.field(static=True)

    def __init__(self, size, times, kind, key, dtype):
        keys = jax.random.split(key)
        self.mlp = eqx.nn.MLP(2, 2 * size, 8, 1, jnp.tanh, dtype=dtype, key=keys[0])
        self.factor = jax.random.normal(keys[1], (size, 6), dtype)
        self.kind, self.times = kind, times

    def __call__(self, inputs):
        out = self.mlp(inputs)
        size = out.size // 2
        mean, deviation = 3 * out[:size], 0.3 + jax.nn.softplus(out[size:])
        match self.kind:
            case "diagonal":
                return Gaussian.diagonal(mean, deviation**2)
            case "ensemble":
                return Gaussian.low_rank(mean, deviation**2, deviation[:, None] * self.factor)
            case "kronecker":
                time = jnp.eye(self.times, dtype=mean.dtype) + 0.5
                rest = self._spd(size // self.times, mean.dtype)
                return Gaussian.kronecker(mean, time, rest)
        cov = deviation[:, None] * self._spd(size, mean.dtype) * deviation[None, :]
        return Gaussian(mean, lx.MatrixLinearOperator(cov, lx.positive_semidefinite_tag))

    def _spd(self, n, dtype):
        factor = self.factor[:n]
        return factor @ factor.T / 6 + jnp.eye(n, dtype=dtype)


def constrained(case):
    dtype = jnp.float64 if case.x64 else jnp.float32
    axes = dict(zip("xyz", case.sizes, strict=False))
    grid = Grid.uniform(t=(0.0, 1.0, 3), **{name: (0.0, 2.0, n) for name, n in axes.items()})
    faces = {}
    for axis, kinds in zip("xyz", case.faces, strict=False):
        if kinds == "circle":
            faces[axis] = Periodic()
            continue
        for side, kind in zip(("low", "high"), kinds, strict=True):
            if SIDES[kind] is not None:
                faces[axis, side] = SIDES[kind]
    rng = np.random.default_rng(case.seed)

    def law(domain=None):
        return integral(grid, rng.normal(size=3), over=tuple(axes), domain=domain).astype(dtype)

    laws = [(law(), law({"x": (0.3, 1.4)})) if case.parts else law() for _ in range(case.channels)]
    shape = (case.channels, *grid.shape)
    network = Network(
        case.channels * grid.size,
        case.channels * 3,
        case.covariance,
        jax.random.key(case.seed),
        dtype,
    )
    model = constrain(
        network,
        conservation=dict(enumerate(laws)),
        boundary=BoundaryConditions.on(grid, faces) if faces else None,
        shape=shape,
        boundary_update=case.update,
    )
    return model, shape, laws, faces


def check(case):
    with jax.enable_x64(case.x64):
        model, shape, laws, faces = constrained(case)
        dtype = jnp.float64 if case.x64 else jnp.float32
        eps = float(jnp.finfo(dtype).eps)
        inputs = jax.random.normal(jax.random.key(1), (2, 2), dtype)
        params, static = eqx.partition(model.surrogate, eqx.is_inexact_array)
        keys = iter(jax.random.split(jax.random.key(2), 99))
        way = jax.tree.map(lambda p: jax.random.normal(next(keys), p.shape, p.dtype), params)

        def means(params):
            network = eqx.combine(params, static)
            ours = eqx.tree_at(lambda model: model.surrogate, model, network)

            def one(inputs):
                gaussian, certificate = ours.with_certificate(inputs)
                return gaussian.mean, (gaussian.marginal_var, certificate)

            return jax.vmap(one)(inputs)

        @jax.jit
        def both(params, way):
            found, move, rest = jax.jvp(means, (params,), (way,), has_aux=True)
            back = jax.vjp(lambda params: means(params)[0], params)[1](jnp.sin(found))[0]
            along = jax.tree.reduce(jnp.add, jax.tree.map(jnp.vdot, back, way))
            return found, move, along, rest

        found, move, along, (variance, certificate) = both(params, way)
        assert bool(certificate.holds), certificate
        assert bool((variance >= 0).all())

        # Each again in numpy, in more digits than it was computed with; moves are homogeneous.
        wide = np.longdouble
        u, du = (np.asarray(each, wide).reshape(2, *shape) for each in (found, move))
        for channel, own in enumerate(laws):
            for law in own if isinstance(own, tuple) else (own,):
                G, b = np.asarray(law.G.as_matrix(), wide), np.asarray(law.b, wide)
                flat, moves = (each[:, channel].reshape(2, -1).T for each in (u, du))
                assert (np.abs(G @ flat - b[:, None]) <= 4 * eps * (np.abs(G) @ np.abs(flat))).all()
                scale = np.abs(G).sum(1)[:, None] * np.abs(moves).max()
                assert (np.abs(G @ moves) <= 3e3 * eps * scale).all()
        for (axis, *side), condition in (
            (f if isinstance(f, tuple) else (f,), faces[f]) for f in faces
        ):
            at = 2 + 1 + "xyz".index(axis)
            low, high = (np.take(each, [0, -1], at) for each in (u, du))
            if isinstance(condition, Dirichlet):
                end = 0 if side == ["low"] else 1
                assert (np.take(low, end, at) == wide(dtype(VALUE))).all()
                assert (np.take(high, end, at) == 0).all()
            if isinstance(condition, Periodic):
                assert (np.diff(low, axis=at) == 0).all() and (np.diff(high, axis=at) == 0).all()

        # Backward mode tells the same derivative as forward mode, and, in float64, as differences.
        there = float(np.sum(np.sin(np.asarray(found)) * np.asarray(move)))
        size = float(np.linalg.norm(np.sin(found)) * np.linalg.norm(move))
        assert abs(float(along) - there) <= 1e4 * eps * size
        if case.x64:

            def total(step):
                moved = jax.tree.map(lambda p, w: p + step * w, params, way)
                return float(jnp.sum(-jnp.cos(means(moved)[0])))

            rough = (total(1e-5) - total(-1e-5)) / 2e-5
            assert abs(rough - there) <= 1e-6 * (abs(there) + size)


@pytest.mark.parametrize(
    "case",
    [
        Case(),
        pytest.param(
            Case((7, 8), (("mixed", "value"), "circle"), covariance="ensemble", update="enforce"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            Case(channels=2, covariance="dense", parts=True, x64=False), marks=pytest.mark.slow
        ),
    ],
)
def test_a_case(case):
    check(case)


@pytest.mark.slow
@settings(max_examples=15)
@given(cases())
def test_any_case(case):
    check(case)
