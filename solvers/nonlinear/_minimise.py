"""Nonlinear least squares on manifolds."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp

from jaxsci.errors import is_concrete, lookup
from jaxsci.precision import Policy
from jaxsci.solvers.preconditioners import CompletePlan, DensePlan, TwoLevelPlan

from ._implicit import Minimum, attach, constant
from ._linear import AbstractLinear, Dense, Direct, Iterative
from ._loop import Prepared, Settings, run
from ._method import AbstractMethod, GaussNewton
from ._precondition import Plannable, Preconditioner, Refresh, plan_preconditioner
from ._problem import Problem, Values, check_values
from ._results import MINIMISE_RESULTS, Solution
from ._schur import Schur
from ._stepped import Iteration, stepped

_LINEAR: dict[str, AbstractLinear] = {
    "cgnr": Iterative(),
    "dense": Dense(),
    "cholesky": Direct(),
    "schur": Schur(),
}


def minimise(
    problem: Problem,
    x0: Mapping[str, Any],
    *,
    method: AbstractMethod | None = None,
    linear: AbstractLinear | str = "cgnr",
    policy: Policy | str | None = None,
    preconditioner: Preconditioner | Plannable | None = None,
    refresh: Refresh | None = None,
    rtol: float = 1e-10,
    max_steps: int = 100,
    compensated: bool | None = None,
    report: Callable[[Iteration], None] | None = None,
    throw: bool = True,
) -> Solution:
    """The values that minimise the cost of a problem, from a start.

    `min_x F(x) = 1/2 sum_f rho(|W_f r_f(x)|^2)`

    Each iteration linearises, `r(x (+) d) ~ r + J d`, scales the columns so that the diagonal
    blocks of `J'J` are 1, solves the linear problem, and steps. The whole loop is one compiled
    program; problems of the same structure (counts, shapes, functions) share it.

    **Arguments:**

    - `problem`, `x0`: what to minimise, and from where, `(N, ambient)` per variable group.
    - `method`: [`jaxsci.solvers.nonlinear.GaussNewton`][] (default),
        [`jaxsci.solvers.nonlinear.LevenbergMarquardt`][], [`jaxsci.solvers.nonlinear.DogLeg`][].
    - `linear`: `"cgnr"`, `"dense"`, `"cholesky"` (sparse, for one variable group), `"schur"` (for
        two, as in bundle adjustment), or settings, e.g. `Iterative(rtol=1e-3)`.
    - `policy`: the dtype of each role; by default that of the start for all.
    - `preconditioner`: of conjugate gradients, e.g. `TwoLevel()`, for problems of one variable
        group; block Jacobi (through the scaling) by default.
    - `refresh`: when it is factored again: `"never"`, `"always"`, or `"auto"`, when the number of
        steps of conjugate gradients has doubled or the cost has fallen tenfold. Unless it is
        `"always"`, it is factored first where the residuals vanish, if all factors know their
        Jacobian there. By default `"auto"`, but `"always"` for a complete factor, each of whose
        solves costs a good part of a new factor, and for `TwoLevel()`, whose factor costs little.
    - `rtol`: stop when a step was predicted to lower the cost by less than this part of it.
    - `max_steps`: how many linear systems are solved at most.
    - `compensated`: whether the values are pairs of numbers of the update dtype; by default they
        are if that is float32, so that they are as good as in float64.
    - `report`: called after each iteration with an [`jaxsci.solvers.nonlinear.Iteration`][], e.g.
        to print a line. The host then leads the loop, through compiled programs for the parts of
        an iteration; not inside `jit` or a derivative.
    - `throw`: whether to raise if the result is not successful; not inside `jit`.

    **Returns:** a [`jaxsci.solvers.nonlinear.Solution`][]. Its `values` and `cost` have
    derivatives, forward and reverse and of any order, with respect to every float of the problem
    (measurements, weights, kernel widths) by the implicit function theorem: one linear solve with
    the second derivative of the cost. With respect to the start they are zero.

    **Raises:** `ValueError` if the start does not fit, for a `report` under a transformation, or
    for a derivative by what a residual closes over and the problem does not hold;
    `RuntimeError` with the sentence of
    [`jaxsci.solvers.nonlinear.MINIMISE_RESULTS`][] if `throw`.
    """
    prepared = prepare(
        "minimise",
        problem,
        x0,
        method=method,
        linear=linear,
        policy=policy,
        preconditioner=preconditioner,
        refresh=refresh,
        rtol=rtol,
        max_steps=max_steps,
        compensated=compensated,
    )
    if report is None:
        return conclude("minimise", _minimise(prepared), throw)
    if not is_concrete(prepared):
        raise ValueError(
            "`minimise(report=...)`: numbers can be reported outside `jit`, `vmap` and derivatives "
            "only; leave `report` out there (the solution has the history)"
        )
    return conclude("minimise", stepped(prepared, report), throw)


def prepare(
    function: str,
    problem: Problem,
    x0: Mapping[str, Any],
    *,
    method: AbstractMethod | None = None,
    linear: AbstractLinear | str = "cgnr",
    policy: Policy | str | None = None,
    preconditioner: Preconditioner | Plannable | None = None,
    refresh: Refresh | None = None,
    rtol: float = 1e-10,
    max_steps: int = 100,
    compensated: bool | None = None,
) -> Prepared:
    """What is done on the host: checks, defaults, symbolic phases."""
    values = check_values(function, problem, x0)
    solver = lookup("linear solver", linear, _LINEAR) if isinstance(linear, str) else linear
    if not isinstance(solver, AbstractLinear):
        raise TypeError(
            f"`{function}(linear=...)`: expected {', '.join(_LINEAR)} or settings such as "
            f"`Iterative(rtol=1e-3)`, got {linear!r}"
        )
    if method is not None and not isinstance(method, AbstractMethod):
        raise TypeError(
            f"`{function}(method=...)`: expected a method, e.g. `LevenbergMarquardt()`, got "
            f"{method!r}"
        )
    if max_steps < 1:
        raise ValueError(f"`{function}(max_steps=...)`: expected at least 1, got {max_steps}")
    if isinstance(solver, (Direct, Schur)):
        solver = solver.planned(problem)
    if preconditioner is not None and not isinstance(preconditioner, Preconditioner):
        preconditioner = plan_preconditioner(problem, preconditioner)
    plan = None if preconditioner is None else preconditioner.plan
    complete = isinstance(plan, (CompletePlan, DensePlan))
    if complete and isinstance(solver, Iterative) and solver.stopping is None:
        solver = dataclasses.replace(solver, stopping="preconditioned")
    if refresh is None:
        refresh = "always" if complete or isinstance(plan, TwoLevelPlan) else "auto"
    return Prepared(
        problem,
        values,
        GaussNewton() if method is None else method,
        solver,
        preconditioner,
        jnp.asarray(rtol, jnp.result_type(float)),
        Settings(_policy(policy, values), max_steps, compensated, refresh),
    )


def conclude(function: str, solution: Solution, throw: bool) -> Solution:
    """The solution, or the sentence that says what went wrong."""
    if throw and is_concrete(solution) and solution.result != MINIMISE_RESULTS.successful:
        raise RuntimeError(
            f"`{function}(problem, x0)`: {MINIMISE_RESULTS[solution.result]} (cost "
            f"{float(solution.cost):.6g} after {int(solution.steps)} steps; `throw=False` returns "
            "the values)"
        )
    return solution


@eqx.filter_jit
def _minimise(prepared: Prepared) -> Solution:
    # The loop is not differentiated: its result is.
    return with_derivatives(run(constant(prepared)), prepared)


def with_derivatives(solution: Solution, prepared: Prepared) -> Solution:
    """The solution with the derivatives of the minimum."""
    minimum = attach(
        Minimum(solution.values, solution.cost),
        prepared.problem,
        prepared.preconditioner,
        prepared.linear,
    )
    return eqx.tree_at(lambda s: (s.values, s.cost), solution, (minimum.values, minimum.cost))


def _policy(policy: Policy | str | None, values: Values) -> Policy:
    if isinstance(policy, str):
        return Policy.parse(policy)
    if policy is not None:
        return policy
    dtype = jnp.result_type(*values.values())
    return Policy.parse("double") if dtype == jnp.float64 else Policy()
