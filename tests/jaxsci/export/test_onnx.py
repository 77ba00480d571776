"""ONNX exports, run by onnxruntime: the numbers of the live model for batches of any size."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.conservation import integral
from jaxsci.constraining import constrain
from jaxsci.export import export_onnx
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
from jaxsci.operators.fno import FNO

REASON = "needs jaxsci[export]"
pytest.importorskip("jax2onnx", reason=REASON)
onnxruntime = pytest.importorskip("onnxruntime", reason=REASON)


def run(content, *args):
    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    names = [given.name for given in session.get_inputs()]
    inputs = dict(zip(names, map(np.asarray, jax.tree.leaves(args)), strict=True))
    return session.run(None, inputs), names


NAMES = ("fno", "default", "lifted", "adapted", "circle")
LONG = ("boon", "default-plane")


@pytest.mark.parametrize("name", [*NAMES, *(pytest.param(n, marks=pytest.mark.slow) for n in LONG)])
def test_same_numbers(name, case_of, relative):
    case = case_of(name)
    content = export_onnx(None, case.model, case.args)
    for size in (1, 5):
        args = case.batch(size, *case.sizes[0][1:])
        (found,), _ = run(content, *args)
        assert relative(found, jax.vmap(case.model)(*args)) <= 1e-5


@pytest.mark.parametrize("update", ["condition", "enforce"])
def test_a_constrained_surrogate(update, relative):
    grid = Grid.uniform(t=(0.0, 1.0, 4), x=(0.0, 1.0, 24))
    walls = {("x", "low"): Dirichlet(0.5), ("x", "high"): Dirichlet(0.0)}
    network = FNO(1, 1, (3, 8), width=8, layers=2, key=jax.random.key(0))
    surrogate = constrain(
        network,
        conservation=integral(grid, jnp.array([1.0, 1.1, 1.2, 1.4]), over="x"),
        boundary=BoundaryConditions.on(grid, walls),
        shape=grid.shape,
        boundary_update=update,
        variance=0.1,
    )

    def predict(x):
        found = surrogate(x)
        return found.mean, found.marginal_var

    x = jax.random.normal(jax.random.key(1), (5, 1, *grid.shape))
    found, _ = run(export_onnx(None, predict, (x[0],)), x)
    for ours, theirs in zip(found, jax.vmap(predict)(x), strict=True):
        assert relative(ours, theirs) <= 1e-5
    totals = np.trapezoid(found[0].reshape(5, *grid.shape).astype(float), dx=1 / 23, axis=-1)
    np.testing.assert_allclose(totals, [[1.0, 1.1, 1.2, 1.4]] * 5, atol=1e-5)


def test_names_and_file(tmp_path, case_of):
    case = case_of("default")
    path = tmp_path / "model.onnx"
    assert export_onnx(path, case.model, case.args) == path.read_bytes()
    args = case.batch(2, 32)
    found, names = run(path.read_bytes(), *args)
    assert names == ["x0", "x1_x_high"] and found[0].shape == (2, 1, 32)
    # The grid is part of the file.
    with pytest.raises(Exception, match="index: 2 Got: 48 Expected: 32"):
        run(path.read_bytes(), *case.batch(2, 48))


def test_padded_norm_and_factors(relative):
    model = FNO(
        2, 3, (6, 5), width=8, layers=2, padding=0.1, norm="group", factorization="cp",
        key=jax.random.key(0),
    )  # fmt: skip
    x = jax.random.normal(jax.random.key(1), (4, 2, 20, 24))
    (found,), _ = run(export_onnx(None, model, (x[0],)), x)
    assert relative(found, jax.vmap(model)(x)) <= 1e-5


def test_refusals(case_of):
    def eigenvalues(x):
        return jnp.linalg.eigvals(x).imag

    with pytest.raises(ValueError, match="jax2onnx does not convert this model.*export_stablehlo"):
        export_onnx(None, eigenvalues, (jnp.ones((3, 3)),))
    with pytest.raises(ValueError, match="12 modes of Fourier"):
        export_onnx(None, FNO(1, 1, 12, width=8, key=jax.random.key(0)), (jnp.ones((1, 8)),))
    # Residuals to twice the precision split numbers by their bits, which ONNX cannot.
    case = case_of("constrained")
    with pytest.raises(ValueError, match="No Op registered for BitCast"):
        export_onnx(None, case.model, case.args)
