"""StableHLO exports: open sizes, plain arguments, and what is refused with its reason."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.export import export_stablehlo, load_stablehlo, operator_arguments
from jaxsci.gaussians import Gaussian
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
from jaxsci.operators.fno import FNO
from jaxsci.operators.layers import padding_of
from jaxsci.operators.spectral import SpectralConv

KEY = jax.random.key(0)


@pytest.mark.slow
def test_platforms_and_least_sizes(case_of):
    case = case_of("default-plane")
    exported = export_stablehlo(None, case.model, case.args, case.shapes)
    assert exported.platforms == ("cpu", "cuda", "tpu")
    x, g = exported.in_avals
    assert [str(n) for n in x.shape] == ["batch", "1", "t", "x"]
    assert [str(n) for n in g.shape] == ["batch", "1", "t"]
    # 8 points: stencils of order 4, and a fading that must not reach from end to end.
    exported.call(jnp.ones((1, 1, 6, 8)), {"x_low": jnp.ones((1, 1, 6))})
    with pytest.raises(ValueError, match="x >= 8"):
        exported.call(jnp.ones((1, 1, 6, 7)), {"x_low": jnp.ones((1, 1, 6))})


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("points", [6, 7, 33])
def test_smallest_grid(points, relative):
    """From the least number of points that holds the modes on, as the live model."""
    model = FNO(1, 1, 6, width=8, layers=2, key=KEY)
    exported = export_stablehlo(None, model, (jnp.zeros((1, 32)),), ("_, n",))
    x = jax.random.normal(KEY, (2, 1, points))
    assert relative(exported.call(x), jax.vmap(model)(x)) <= 1e-6


@pytest.mark.slow
def test_double_precision(x64, relative):
    model = FNO(1, 1, 6, width=8, layers=2, dtype=jnp.float64, key=KEY)
    exported = export_stablehlo(None, model, (jnp.zeros((1, 32)),), ("_, n",))
    x = jax.random.normal(KEY, (2, 1, 100), jnp.float64)
    assert relative(exported.call(x), jax.vmap(model)(x)) <= 1e-14


def test_file(tmp_path):
    pytest.importorskip("flatbuffers", reason="jax writes exports with flatbuffers")
    exported = export_stablehlo(tmp_path / "f", lambda x: 2 * x, (jnp.ones(3),), ("n",), batch=None)
    assert exported.call(jnp.ones(5)).tolist() == [2.0] * 5
    assert load_stablehlo(tmp_path / "f").call(jnp.ones(7)).shape == (7,)
    (tmp_path / "g").write_text("not a model")
    with pytest.raises(ValueError, match="expected a file that `export_stablehlo` wrote"):
        load_stablehlo(tmp_path / "g")


def test_results_of_other_kinds_are_dictionaries():
    def surrogate(task):
        return Gaussian.diagonal(task["mean"], jnp.ones_like(task["mean"]))

    exported = export_stablehlo(None, surrogate, ({"mean": jnp.ones(3)},), "n")
    found = exported.call({"mean": jnp.zeros((2, 9))})
    assert found["mean"].shape == (2, 9) and all(isinstance(key, str) for key in found)


def test_equinox_module_of_fixed_sizes(relative):
    mlp = eqx.nn.MLP(3, 2, 8, 1, key=KEY)
    exported = export_stablehlo(None, mlp, (jnp.zeros(3),))
    x = jax.random.normal(KEY, (4, 3))
    assert relative(exported.call(x), jax.vmap(mlp)(x)) <= 1e-6


def test_padding_of_a_symbol_is_that_of_numbers():
    (n,) = jax.export.symbolic_shape("n", constraints=["n >= 1"])
    for fraction in (0.125, 0.1, 0.25, 1 / 3, 0.15, 0.5, 1.0, 2.5):
        (width,) = padding_of((fraction,), (n,))
        found = [width._evaluate({"n": size}) for size in range(1, 300)]
        assert found == [round(fraction * size) for size in range(1, 300)]
    # 0.07 * 150 is above 10.5 in binary, and 7 * 150 / 100 is not.
    with pytest.raises(ValueError, match="7/100"):
        padding_of((0.07,), (n,))


def test_operator_arguments():
    wall = BoundaryConditions(("t", "x"), {("x", "low"): Dirichlet(), ("t", "low"): Dirichlet()})
    x = jnp.zeros((2, 16, 64))
    values = {("x", "low"): jnp.zeros((2, 1)), ("t", "low"): jnp.zeros((1, 64))}
    assert operator_arguments(wall, x)[1] == ("_, t, x",)
    shapes = operator_arguments(wall, x, values)[1]
    assert shapes == ("_, t, x", {("x", "low"): "_, _", ("t", "low"): "_, x"})
    with pytest.raises(ValueError, match=r"expected one sample \(C, t, x\)"):
        operator_arguments(wall, x[0])


def raises(message, model, args, *rest, **options):
    with pytest.raises(ValueError, match=message):
        export_stablehlo(None, model, args, *rest, **options)


def test_refuses_fft():
    layer = SpectralConv(1, 1, 6, method="fft", key=KEY)
    x = jnp.zeros((1, 32))
    raises("method='fft'.*make the model with method='auto'", layer, (x,), ("_, n",))
    assert export_stablehlo(None, layer, (x,)).call(jnp.ones((2, 1, 32))).shape == (2, 1, 32)
    raises("the length of an FFT must be a number", lambda x: jnp.fft.rfft(x).real, (x[0],), ("n",))


def test_refuses_what_does_not_hold_the_modes():
    model = FNO(1, 1, 12, width=8, layers=1, key=KEY)
    x = jnp.zeros((1, 32))
    raises("12 modes of Fourier", model, (jnp.zeros((1, 8)),), ("_, n",))
    raises("12 modes of Fourier.*got 8", model, (x,), ("_, n",), at_least={"n": 8})


def test_refuses_callbacks():
    def printing(x):
        jax.debug.print("{}", x)
        return x

    def through_numpy(x):
        return jax.jit(lambda x: jax.pure_callback(np.sin, jax.ShapeDtypeStruct((3,), x.dtype), x))(
            x
        )

    raises("calls back into this Python process", printing, (jnp.ones(3),))
    raises("calls back.*pure_callback", through_numpy, (jnp.ones(3),), batch=None)


def test_refuses_control_flow_on_a_size():
    raises(
        "Python has to know a size",
        lambda x: jnp.full(3, len(range(x.shape[0]))),
        (jnp.ones(3),),
        "n",
    )


def test_refuses_wrong_arguments():
    x = jnp.ones((1, 8))
    raises("expected 2 sizes for an array of shape", jnp.sin, (x,), ("n",))
    raises("expected a string or None for each argument", jnp.sin, (x,), ("_, n", "n"))
    raises("expected names of open sizes", jnp.sin, (x,), ("_, 2*n",))
    raises("one size for 'n'", lambda x, y: x, (x, jnp.ones((1, 9))), ("_, n", "_, n"))
    raises("a name that no other size has", jnp.sin, (x,), ("_, batch",))
    raises("unknown size 'm'", jnp.sin, (x,), ("_, n",), at_least={"m": 3})
    raises("expected 1 or more, got 0", jnp.sin, (x,), ("_, n",), at_least={"n": 0})
    with pytest.raises(TypeError, match="expected a callable, got str"):
        export_stablehlo(None, "model", (x,))
