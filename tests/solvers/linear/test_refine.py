"""Refinement: full accuracy from rough solvers, and a certificate that is true."""

import equinox as eqx
import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from jaxsci.precision import Policy
from jaxsci.solvers.linear import REFINE_RESULTS, cgnr, refine

RNG = np.random.default_rng(0)
SQUARE = RNG.normal(size=(20, 20)) + 8 * np.eye(20)
TALL = RNG.normal(size=(40, 12)) @ np.diag(10.0 ** np.linspace(0, 1, 12))


@eqx.filter_jit
def _refine(matrix, b, rough, **settings):
    return refine(lx.MatrixLinearOperator(matrix), b, lambda r: rough @ r, **settings)


def test_float64_accuracy_from_half_precision_products(x64):
    """Least squares by CGNR with 16-bit products inside, against numpy."""
    b = RNG.normal(size=40)
    single = lx.MatrixLinearOperator(jnp.asarray(TALL, jnp.float32))

    def inner(gradient):
        policy = Policy.parse("bundle_adjustment")
        return cgnr(single, gradient=gradient, policy=policy, rtol=1e-3, max_steps=50).value

    A = lx.MatrixLinearOperator(jnp.asarray(TALL))
    refined = jax.jit(lambda b: refine(A, b, inner))(jnp.asarray(b))
    want = np.linalg.lstsq(TALL, b, rcond=None)[0]
    np.testing.assert_allclose(refined.value, want, rtol=1e-10, atol=1e-12)
    certificate = refined.certificate
    assert bool(certificate.result == REFINE_RESULTS.successful)
    true = np.linalg.norm(TALL.T @ (b - TALL @ np.asarray(refined.value)))
    assert certificate.error <= 64 * 2.3e-16
    assert true / np.linalg.norm(TALL.T @ b) <= 2e-14
    assert 2 <= int(certificate.rounds) <= 10 and certificate.contraction < 0.5


@pytest.mark.parametrize("matrix", [SQUARE, TALL], ids=["square", "tall"])
def test_twice_float32_without_64_bit_types(matrix):
    A = matrix.astype(np.float32)
    b = RNG.normal(size=len(A)).astype(np.float32)
    H = A.astype(float) if len(A) == A.shape[1] else A.T.astype(float) @ A
    rough = np.linalg.inv(H).astype(jnp.float16).astype(np.float32)
    refined = _refine(jnp.asarray(A), jnp.asarray(b), jnp.asarray(rough))
    want = np.linalg.lstsq(A.astype(float), b.astype(float), rcond=None)[0]
    both = np.asarray(refined.value, float) + np.asarray(refined.low, float)
    np.testing.assert_allclose(both, want, rtol=1e-10, atol=1e-12)
    assert refined.certificate.error < 1e-11
    history = np.asarray(refined.certificate.history)
    rounds = int(refined.certificate.rounds)
    assert np.isfinite(history[: rounds + 1]).all() and np.isnan(history[rounds + 1 :]).all()


@pytest.mark.parametrize(
    "name, change",
    [
        ("inner_failed", {"rough": -np.linalg.inv(SQUARE)}),
        ("inner_failed", {"rough": np.full((20, 20), np.nan)}),
        ("stagnated", {"rtol": 0.0}),
        ("max_rounds_reached", {"max_rounds": 1, "rough": 0.8 * np.linalg.inv(SQUARE)}),
        ("non_finite_input", {"b": np.full(20, np.nan)}),
        ("successful", {"b": np.zeros(20)}),
    ],
)
def test_every_end(x64, name, change):
    case = {"b": np.ones(20), "rough": np.linalg.inv(SQUARE)} | change
    rough = jnp.asarray(case.pop("rough"), jnp.float32)
    refined = _refine(jnp.asarray(SQUARE), jnp.asarray(case.pop("b")), rough, **case)
    result = refined.certificate.result
    assert bool(result == getattr(REFINE_RESULTS, name)), REFINE_RESULTS[result]
    assert np.isfinite(refined.value).all()


def test_bad_input_is_named():
    A = lx.MatrixLinearOperator(jnp.eye(3))
    with pytest.raises(ValueError, match=r"expected shape \(3,\), got \(2,\)"):
        refine(A, jnp.ones(2), A)
    with pytest.raises(TypeError, match="expected one dtype, got float32 and float16"):
        refine(A, jnp.ones(3, jnp.float16), A)
