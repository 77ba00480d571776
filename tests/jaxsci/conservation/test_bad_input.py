"""Updates that cannot be made, and constraints that cannot be meant, are named."""

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import pytest

from jaxsci.conservation import (
    RESULTS,
    LinearConstraint,
    condition,
    condition_with_certificate,
    curvature,
    project,
    stack,
)
from jaxsci.gaussians import Gaussian, WeightedSums

PRIOR = Gaussian.diagonal(jnp.arange(3.0), jnp.ones(3))
KNOWN = Gaussian.diagonal(jnp.arange(3.0), jnp.array([0.0, 0.0, 1.0]))
ONES = jnp.ones(3)
TWICE = jnp.stack([ONES, 2 * ONES])


@pytest.mark.parametrize(
    "prior, G, b, result",
    [
        (PRIOR, TWICE, [1.0, 3.0], "contradictory"),
        (PRIOR, jnp.stack([ONES, ONES.at[2].set(0.0), 1 - ONES.at[2].set(0.0)]), [1.0, 1.0, 1.0],
         "contradictory"),
        (KNOWN, jnp.array([1.0, 1.0, 0.0]), [0.5], "no_variance"),
        (KNOWN, jnp.array([[1.0, 1.0, 0.0], [0.0, 1.0, 1.0]]), [0.5, 1.0], "no_variance"),
        (KNOWN, WeightedSums(jnp.array([1.0, 1.0, 0.0])), [0.5], "no_variance"),
        (Gaussian(jnp.array([0.0, jnp.nan, 0.0]), lx.DiagonalLinearOperator(ONES)), ONES, [0.5],
         "non_finite"),
        (Gaussian(ONES, lx.DiagonalLinearOperator(jnp.array([1.0, jnp.inf, 1.0]))), ONES, [0.5],
         "non_finite"),
        (Gaussian(ONES, lx.DiagonalLinearOperator(jnp.array([1.0, jnp.nan, 1.0]))), TWICE,
         [0.5, 1.0], "non_finite"),
    ],
)  # fmt: skip
def test_impossible_updates_are_named(prior, G, b, result):
    constraint = LinearConstraint(G, jnp.array(b))
    expected = getattr(RESULTS, result)
    with pytest.raises(ValueError, match=RESULTS[expected][:40]):
        condition(prior, constraint)
    posterior, certificate = jax.jit(condition_with_certificate)(prior, constraint)
    assert bool(certificate.result == expected)
    assert np.isnan(posterior.mean).all()
    assert np.isnan(jax.jit(condition)(prior, constraint).mean).all()


def test_one_bad_member_of_a_batch_leaves_the_others_alone():
    def update(variance):
        prior = Gaussian(jnp.arange(3.0), lx.DiagonalLinearOperator(variance))
        posterior, certificate = condition_with_certificate(prior, LinearConstraint(ONES, 1.0))
        return posterior.mean, certificate.result == RESULTS.successful

    mean, good = jax.jit(jax.vmap(update))(jnp.array([[1.0, 1.0, 1.0], [0.0, 0.0, 0.0]]))
    np.testing.assert_allclose(mean[0].sum(), 1.0, rtol=1e-6)
    assert np.isnan(mean[1]).all()
    assert good.tolist() == [True, False]


def test_an_exact_contradiction_of_an_earlier_update():
    once = condition(PRIOR, LinearConstraint(ONES, 1.0))
    with pytest.raises(ValueError, match="contradict each other.*largest residual.*row 0 of 1"):
        condition(once, LinearConstraint(ONES, 1.5))


def test_rows_on_known_points_that_hold_are_accepted():
    posterior = condition(KNOWN, LinearConstraint(jnp.array([1.0, 1.0, 0.0]), 1.0))
    np.testing.assert_array_equal(posterior.mean, KNOWN.mean)
    assert float(condition(KNOWN, LinearConstraint(ONES, 1.0)).mean[2]) == 0.0
    np.testing.assert_array_equal(condition(KNOWN, curvature(KNOWN)).mean[:2], KNOWN.mean[:2])
    bent = Gaussian.diagonal(jnp.array([0.0, 1.0, 0.0, 1.0]), jnp.array([0.0, 0.0, 0.0, 1.0]))
    assert np.isfinite(condition(bent, curvature(bent)).mean).all()


BAD = [
    (lambda: LinearConstraint(jnp.ones((2, 2, 2)), 1.0), ValueError, r"G=.*got shape \(2, 2, 2\)"),
    (
        lambda: LinearConstraint(jnp.array([1.0, jnp.nan]), 1.0),
        ValueError,
        r"G=.*nan at index \(1,\)",
    ),
    (
        lambda: LinearConstraint(jnp.array([[1.0, 1.0], [0.0, 0.0]]), jnp.ones(2)),
        ValueError,
        "row 1 is all zeros",
    ),
    (
        lambda: LinearConstraint(WeightedSums(jnp.zeros((2, 3)), (1,)), jnp.ones(2)),
        ValueError,
        "row 0 is all zeros",
    ),
    (
        lambda: LinearConstraint(ONES, jnp.ones(2)),
        ValueError,
        r"b=.*each of 1 rows, got shape \(2,\)",
    ),
    (lambda: LinearConstraint(TWICE, 1.0), ValueError, r"b=.*each of 2 rows, got shape \(\)"),
    (lambda: LinearConstraint(ONES, np.inf), ValueError, "b=.*expected finite numbers, got inf"),
    (
        lambda: LinearConstraint(ONES, jnp.float16(1)),
        TypeError,
        "b=.*expected float32, as `G`, got float16",
    ),
    (lambda: LinearConstraint(ONES, 1.0, jnp.ones(1, jnp.bfloat16)), TypeError, "R=.*got bfloat16"),
    (
        lambda: LinearConstraint(TWICE, [1.0, 1.0], [1.0, 2.0, 3.0]),
        ValueError,
        r"R=.*got shape \(3,\)",
    ),
    (lambda: LinearConstraint(TWICE, [1.0, 1.0], [1.0, -2.0]), ValueError, "got -2.0 for row 1"),
    (lambda: LinearConstraint(TWICE, [1.0, 1.0], np.nan), ValueError, "R=.*finite"),
    (
        lambda: LinearConstraint(TWICE, [1.0, 1.0], [[1.0, 0.5], [0.0, 1.0]]),
        ValueError,
        "symmetric matrix",
    ),
    (
        lambda: LinearConstraint(TWICE, [1.0, 1.0], [[1.0, 2.0], [2.0, 1.0]]),
        ValueError,
        "negative eigenvalue -1",
    ),
    (
        lambda: LinearConstraint(
            lx.FunctionLinearOperator(lambda u: u[:, 0], jax.ShapeDtypeStruct((3, 1), jnp.float32)),
            ONES,
        ),
        ValueError,
        "flat fields",
    ),
    (
        lambda: condition(PRIOR, LinearConstraint(jnp.ones(4), 1.0)),
        ValueError,
        "rows over 3 points.*got 4",
    ),
    (
        lambda: condition(PRIOR, LinearConstraint(jnp.ones(3, jnp.float16), 1.0)),
        TypeError,
        "one dtype.*astype",
    ),
    (
        lambda: project(PRIOR, LinearConstraint(TWICE, [1.0, 3.0])),
        ValueError,
        "contradict each other",
    ),
    (
        lambda: condition(
            Gaussian.diagonal(jnp.ones(3, jnp.bfloat16), jnp.ones(3, jnp.bfloat16)),
            LinearConstraint(jnp.ones(3, jnp.bfloat16), 1.0),
        ),
        TypeError,
        "expected float32 or float64",
    ),
    (lambda: stack(), ValueError, "at least one constraint"),
    (
        lambda: stack(LinearConstraint(ONES, 1.0), LinearConstraint(jnp.ones(4), 1.0)),
        ValueError,
        r"fields of one size, got \[3, 4\]",
    ),
    (
        lambda: stack(LinearConstraint(ONES, 1.0), LinearConstraint(jnp.ones(3, jnp.float16), 1.0)),
        TypeError,
        "one dtype.*astype",
    ),
    (lambda: WeightedSums(jnp.ones((2, 3)), (2,)), ValueError, "axes of a field of shape"),
    (
        lambda: curvature(Gaussian.diagonal(jnp.ones(2), jnp.ones(2))),
        ValueError,
        "at least 3 points, got 2",
    ),
    (lambda: curvature(PRIOR, 1.5), ValueError, "correlation.*got 1.5"),
]


@pytest.mark.parametrize("make, error, match", BAD)
def test_bad_input_is_named(make, error, match):
    with pytest.raises(error, match=match):
        make()


def test_no_noise_is_exact_and_one_noise_is_for_every_row():
    assert LinearConstraint(TWICE, [1.0, 1.0], 0.0).R is None
    assert LinearConstraint(TWICE, [1.0, 1.0], 0.5).R.tolist() == [0.5, 0.5]
    assert LinearConstraint([1, 1, 1], 2).b.dtype == jnp.float32
    half = LinearConstraint(ONES, 1.0, 0.5).astype(jnp.float16)
    assert {half.b.dtype, half.R.dtype, half.G.out_structure().dtype} == {jnp.dtype("float16")}
