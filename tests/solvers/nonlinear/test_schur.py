"""The linear solver of bundle adjustment: the same minimum, in fewer steps of CG."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.solvers.nonlinear import (
    Euclidean,
    Factors,
    Iterative,
    LevenbergMarquardt,
    Problem,
    Schur,
    Variables,
    minimise,
)
from jaxsci.solvers.preconditioners import (
    BlockJacobi,
    CompleteCholesky,
    DenseCholesky,
    SchurDenseCoupling,
)
from jaxsci.solvers.slam import (
    bundle_batch,
    bundle_to_problem,
    bundle_to_values,
    sliding_window,
)

REDUCED = [BlockJacobi(), CompleteCholesky(), DenseCholesky()]


def solve(window, linear):
    return minimise(
        bundle_to_problem(window),
        bundle_to_values(window),
        method=LevenbergMarquardt(),
        linear=linear,
    )


def test_minimum_in_fewer_steps(x64):
    window = sliding_window(6, 24, views=4, seed=0)
    plain = solve(window, Iterative(rtol=1e-2))
    found = solve(window, Schur(reduced=BlockJacobi()))
    assert float(found.cost) == pytest.approx(float(plain.cost), rel=1e-9)
    assert int(found.linear_steps) <= 0.85 * int(plain.linear_steps)


@pytest.mark.parametrize("policy", ["double", "bundle_adjustment,residual=f64,update=f64"])
@pytest.mark.parametrize("linear", ["schur", Schur(reduced=CompleteCholesky())])
def test_minimum_in_a_few_steps_where_the_reduced_system_is_factored(x64, policy, linear):
    window = sliding_window(6, 24, views=4, seed=0)
    plain = solve(window, Iterative(rtol=1e-2))
    found = minimise(
        bundle_to_problem(window),
        bundle_to_values(window),
        method=LevenbergMarquardt(),
        linear=linear,
        policy=policy,
    )
    assert float(found.cost) == pytest.approx(float(plain.cost), rel=1e-9)
    # Of 16-bit products, rounding is what is left to mend.
    assert int(found.linear_steps) <= (1 if policy == "double" else 5) * int(found.steps)


@pytest.mark.parametrize("reduced", REDUCED)
def test_derivatives_are_those_of_a_dense_solver(x64, reduced):
    start = {"c": jnp.zeros((3, 3)), "p": jnp.ones((5, 2))}
    data = jnp.asarray(DATA, jnp.float64)

    def corner(data, linear):
        problem = small(data)
        linear = linear if isinstance(linear, str) else linear.planned(small())
        settings = {"method": LevenbergMarquardt(), "throw": False}
        return minimise(problem, start, linear=linear, **settings).values["p"][0, 0]

    found = jax.grad(corner)(data, Schur(reduced=reduced))
    np.testing.assert_allclose(found, jax.grad(corner)(data, "dense"), rtol=1e-6, atol=1e-8)


def test_a_plan_that_is_handed_over_is_used_as_one_that_is_made(x64):
    window = sliding_window(6, 24, views=4, seed=0)
    linear = Schur(reduced=CompleteCholesky())
    planned = linear.planned(bundle_to_problem(window))
    steps = {int(solve(window, each).linear_steps) for each in (linear, Schur(plan=planned.plan))}
    assert len(steps) == 1


def test_a_dense_factor_where_it_is_small():
    def chosen(cameras, points):
        variables = {
            "c": Variables(Euclidean(6), cameras), "p": Variables(Euclidean(3), points)
        }  # fmt: skip
        tie = Factors(lambda c, p, _: c[:3] - p, ("c", "p"), np.array([[0, 0], [0, 0], [1, 1]]))
        return Schur().planned(Problem(variables, [tie])).plan.coupling

    assert isinstance(chosen(50, 233), SchurDenseCoupling)
    assert chosen(200, 1000) is None
    # Few points do not make the matrix of the cameras small.
    assert chosen(2000, 20) is None


@pytest.mark.parametrize("reduced", REDUCED)
def test_what_nothing_determines_is_left_alone(x64, reduced):
    """Undamped, `c - p` alone is known of a pair that nothing else ties: `S` is zero there."""
    variables = {"c": Variables(Euclidean(1), 3), "p": Variables(Euclidean(1), 2)}
    seen = np.array([[0, 0], [1, 0], [2, 1]])
    factors = [
        Factors(lambda c, p, z: 3 * (c - p) - z, ("c", "p"), seen, jnp.arange(3.0)[:, None]),
        Factors(lambda c, z: c - z, "c", np.array([0, 1]), jnp.array([[1.0], [2.5]])),
    ]
    start = {"c": jnp.ones((3, 1)), "p": jnp.zeros((2, 1))}
    problem = Problem(variables, factors)
    found = minimise(problem, start, linear=Schur(reduced=reduced), throw=False)
    want = minimise(problem, start, linear="cgnr")
    assert float(found.cost) == pytest.approx(float(want.cost), rel=1e-9)
    for name in ("c", "p"):
        assert jnp.isfinite(found.values[name]).all()


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("policy", ["double", "bundle_adjustment,residual=f64,update=f64"])
def test_windows_of_several_structures_in_one_batch(x64, policy):
    """The structure is traced: nothing has to be planned."""
    whole = sliding_window(12, 40, seed=0)
    parts = [whole.window(k, 6) for k in (0, 3, 6)]

    @eqx.filter_jit
    @eqx.filter_vmap
    def together(problem, values):
        found = minimise(
            problem, values, method=LevenbergMarquardt(), linear="schur", policy=policy, throw=False
        )
        return found.cost, found.linear_steps

    costs, steps = together(*bundle_batch(parts))
    for k, part in enumerate(parts):
        assert float(costs[k]) == pytest.approx(float(solve(part, "cgnr").cost), rel=1e-8)
    assert int(steps.max()) <= (20 if policy == "double" else 60)


def near(a, b, z):
    """Two kinds of variable of different sizes, the points in the first slot."""
    return jnp.sinh(a[:2] - b[:2]) + 0.1 * b[2:] * a[:1] - z


SEEN = np.array([[p, c] for p in range(5) for c in range(3)])
DATA = jnp.asarray(np.random.default_rng(0).normal(size=(15, 2)), jnp.float32)


def small(data=DATA, indices=SEEN):
    """With a prior on both groups, and one variable of each held."""
    variables = {"c": Variables(Euclidean(3), 3), "p": Variables(Euclidean(2), 5)}
    factors = [
        Factors(near, ("p", "c"), indices, data),
        Factors(lambda c, _: c, "c", np.arange(3)),
        Factors(lambda p, _: 0.3 * p, "p", np.arange(5)),
    ]
    return Problem(variables, factors, {"c": jnp.arange(3) == 0, "p": jnp.arange(5) == 4})


@pytest.mark.slow
@pytest.mark.parametrize("reduced", REDUCED)
def test_other_slots_priors_and_batches(reduced):
    start = {"c": jnp.zeros((3, 3)), "p": jnp.ones((5, 2))}
    linear = Schur(rtol=1e-4, reduced=reduced).planned(small())
    batch = jnp.stack([DATA, 0.5 * DATA])

    @jax.jit
    @jax.vmap
    def solved(data):
        found = minimise(
            small(data), start, method=LevenbergMarquardt(), linear=linear, throw=False
        )
        return found.values, found.cost

    values, costs = solved(batch)
    for k, data in enumerate(batch):
        want = minimise(small(data), start, method=LevenbergMarquardt(), linear="dense")
        assert float(costs[k]) == pytest.approx(float(want.cost), rel=1e-6)
        for name in ("c", "p"):
            np.testing.assert_allclose(values[name][k], want.values[name], atol=2e-4)


def test_bad_input_is_named():
    one = Problem({"x": Variables(Euclidean(1), 2)}, [Factors(lambda x, _: x, "x", np.arange(2))])
    with pytest.raises(ValueError, match="expected two groups of variables"):
        Schur().planned(one)
    problem = small()
    tied = Factors(lambda a, b, _: a - b, ("p", "p"), np.array([[0, 1]]))
    with pytest.raises(ValueError, match="got 2 with 'p' and others"):
        Schur().planned(Problem(problem.variables, [*problem.factors, tied]))
    with pytest.raises(ValueError, match="plan outside `jit`"):
        jax.jit(lambda i: Schur(reduced=BlockJacobi()).planned(small(indices=i)).plan.pair)(SEEN)
    for wrong in ("complete", CompleteCholesky):
        with pytest.raises(TypeError, match=r"`Schur\(reduced=...\)`: expected settings"):
            Schur(reduced=wrong)
    with pytest.raises(ValueError, match="call `planned` first"):
        Schur().solve(None, None, None, None, None, None)
