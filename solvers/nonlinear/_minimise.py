"""Nonlinear least squares on manifolds: the loop, compiled as one program."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxsci.errors import is_concrete, lookup
from jaxsci.precision import Policy
from jaxsci.solvers.sparse import BlockDiagonal, BlockJacobian, block_scaling

from ._linear import AbstractLinear, Dense, Iterative
from ._linearise import Linearisation, jacobian_at_zero, knows_zero, linearise_at
from ._manifold import retract, retract_pair, split
from ._method import AbstractMethod, GaussNewton, MethodState, bend
from ._precondition import (
    Plannable,
    Preconditioner,
    Refresh,
    Stale,
    needs_refresh,
    plan_preconditioner,
    rescaled,
)
from ._problem import Problem, Values, check_values
from ._results import MINIMISE_RESULTS, History, Solution

_LINEAR: dict[str, AbstractLinear] = {"cgnr": Iterative(), "dense": Dense()}


def minimise(
    problem: Problem,
    x0: Mapping[str, Any],
    *,
    method: AbstractMethod | None = None,
    linear: AbstractLinear | str = "cgnr",
    policy: Policy | str | None = None,
    preconditioner: Preconditioner | Plannable | None = None,
    refresh: Refresh = "auto",
    rtol: float = 1e-10,
    max_steps: int = 100,
    compensated: bool | None = None,
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
    - `linear`: `"cgnr"`, `"dense"`, or settings, e.g. `Iterative(rtol=1e-3)`.
    - `policy`: the dtype of each role; by default that of the start for all.
    - `preconditioner`: of conjugate gradients, e.g. `IncompleteCholesky()`, for problems of one
        variable group; block Jacobi (through the scaling) by default.
    - `refresh`: when it is factored again: `"never"`, `"always"`, or `"auto"`, when the number of
        steps of conjugate gradients has doubled or the cost has fallen tenfold. It is factored
        first where the residuals vanish, if all factors know their Jacobian there.
    - `rtol`: stop when a step was predicted to lower the cost by less than this part of it.
    - `max_steps`: how many linear systems are solved at most.
    - `compensated`: whether the values are pairs of numbers of the update dtype; by default they
        are if that is float32, so that they are as good as in float64.
    - `throw`: whether to raise if the result is not successful; not inside `jit`.

    **Returns:** a [`jaxsci.solvers.nonlinear.Solution`][].

    **Raises:** `ValueError` if the start does not fit; `RuntimeError` with the sentence of
    [`jaxsci.solvers.nonlinear.MINIMISE_RESULTS`][] if `throw`.
    """
    values = check_values("minimise", problem, x0)
    method = GaussNewton() if method is None else method
    solver = lookup("linear solver", linear, _LINEAR) if isinstance(linear, str) else linear
    settings = Settings(_policy(policy, values), max_steps, compensated, refresh)
    if preconditioner is not None and not isinstance(preconditioner, Preconditioner):
        preconditioner = plan_preconditioner(problem, preconditioner)
    solution = _run(problem, values, method, solver, preconditioner, jnp.asarray(rtol), settings)
    if throw and is_concrete(solution) and solution.result != MINIMISE_RESULTS.successful:
        raise RuntimeError(
            f"`minimise(problem, x0)`: {MINIMISE_RESULTS[solution.result]} (cost "
            f"{float(solution.cost):.6g} after {int(solution.steps)} steps; `throw=False` returns "
            "the values)"
        )
    return solution


class Settings(eqx.Module):
    """What is static: one compilation each."""

    policy: Policy
    max_steps: int = eqx.field(static=True)
    compensated: bool | None = eqx.field(static=True)
    refresh: Refresh = eqx.field(static=True)

    @property
    def update(self) -> Any:
        """The dtype of the values: float64 means pairs of float32 where that is all there is."""
        if self.policy.update == "float64" and jnp.result_type(float) != jnp.float64:
            return jnp.dtype("float32")
        return self.policy.dtype("update")

    @property
    def paired(self) -> bool:
        """Whether values are carried as pairs."""
        if self.compensated is None:
            return self.update == jnp.float32
        return self.compensated


class _Point(NamedTuple):
    values: Values
    low: Values | None


class _State(NamedTuple):
    point: _Point
    trial: _Point
    at: Linearisation
    cost: Array
    start_cost: Array
    predicted: Array
    length: Array
    newton: Array
    stale: Stale | None
    method: MethodState
    linear_result: MINIMISE_RESULTS
    evaluations: Array
    linear_steps: Array
    history: History
    done: Array
    result: MINIMISE_RESULTS


@eqx.filter_jit
def _run(
    problem: Problem,
    x0: Values,
    method: AbstractMethod,
    linear: AbstractLinear,
    preconditioner: Preconditioner | None,
    rtol: Array,
    settings: Settings,
) -> Solution:
    evaluate = _Evaluate(problem, settings, preconditioner)
    state = _initial(evaluate, x0, method, settings)

    def advance(state: _State) -> _State:
        state = _judge(state, evaluate(state.trial), method, rtol)
        # At the end there is nothing more to solve.
        last = state.done | (state.evaluations > settings.max_steps)
        return jax.lax.cond(last, lambda s: s, lambda s: _solve(s, evaluate, method, linear), state)

    def going_on(state: _State) -> Array:
        return ~state.done & (state.evaluations <= settings.max_steps)

    last = jax.lax.while_loop(going_on, advance, state)
    result = MINIMISE_RESULTS.where(last.done, last.result, MINIMISE_RESULTS.max_steps_reached)
    higher = last.cost > last.start_cost * (1 + 1e-3)
    result = MINIMISE_RESULTS.where(higher, MINIMISE_RESULTS.diverged, result)
    return Solution(
        last.point.values,
        last.point.low,
        last.cost,
        last.evaluations - 1,
        last.linear_steps,
        last.history,
        result,
    )


class _Evaluate(eqx.Module):
    """Linearisation of a problem in the dtypes of a policy."""

    problem: Problem
    settings: Settings
    preconditioner: Preconditioner | None

    @property
    def held(self) -> tuple[Array | None, ...]:
        """For each variable group, which are fixed."""
        return tuple(self.problem.fixed.get(name) for name in self.problem.variables)

    def __call__(self, point: _Point) -> Linearisation:
        policy = self.settings.policy
        dtype = policy.dtype("residual")
        values, low = point
        if low is None and dtype.itemsize < self.settings.update.itemsize:
            pairs = {name: split(x, dtype) for name, x in values.items()}
            values = {name: pair[0] for name, pair in pairs.items()}
            low = {name: pair[1] for name, pair in pairs.items()}
        at = linearise_at(self.problem, values, low, dtype)
        return at._replace(jacobian=at.jacobian.astype(policy.dtype("gradient")))

    def factor(self, state: "_State", damping: Array) -> Stale | None:
        """The preconditioner, factored again if it has to be."""
        settings, made = self.settings, self.preconditioner
        if made is None or state.stale is None:
            return None
        old = state.stale

        def again() -> Stale:
            jacobian = state.at.jacobian
            if knows_zero(self.problem):
                zero = jacobian_at_zero(self.problem, state.point.values, jacobian.dtype)
                jacobian = jax.tree.map(lambda a, b: jnp.where(old.made, a, b), jacobian, zero)
            factor, scales = made.factor(jacobian, self.held, damping, settings.policy)
            none = jnp.full((), -1, jnp.int32)
            return Stale(factor, scales, none, none, state.cost, jnp.asarray(True))

        refresh = needs_refresh(old, state.cost, settings.refresh)
        return jax.lax.cond(refresh, again, lambda: old)

    def move(self, point: _Point, delta: Array, jacobian: BlockJacobian) -> _Point:
        parts = jacobian.split_columns(delta.astype(self.settings.update))
        groups = self.problem.variables.items()
        steps = [
            (name, group.manifold, part) for (name, group), part in zip(groups, parts, strict=True)
        ]
        values, low = point
        if low is None:
            return _Point({name: retract(m, values[name], d) for name, m, d in steps}, None)
        pairs = {name: retract_pair(m, values[name], low[name], d) for name, m, d in steps}
        return _Point({n: p[0] for n, p in pairs.items()}, {n: p[1] for n, p in pairs.items()})


def _initial(evaluate: _Evaluate, x0: Values, method: AbstractMethod, settings: Settings) -> _State:
    values = {name: x.astype(settings.update) for name, x in x0.items()}
    low = None
    if settings.paired:
        pairs = {name: split(x, settings.update) for name, x in x0.items()}
        values = {name: pair[0] for name, pair in pairs.items()}
        low = {name: pair[1] for name, pair in pairs.items()}
    start = _Point(values, low)
    # Zeros of the right shapes: the start is evaluated in the loop, so that it is traced once.
    at = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), eqx.filter_eval_shape(evaluate, start))
    cost_dtype = at.terms.dtype
    stale = None
    if evaluate.preconditioner is not None:
        # The same for the preconditioner.
        shape = eqx.filter_eval_shape(
            evaluate.preconditioner.factor,
            at.jacobian,
            evaluate.held,
            jnp.zeros((), at.jacobian.dtype),
            settings.policy,
        )
        factor, scales = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)
        none = jnp.full((), -1, jnp.int32)
        stale = Stale(factor, scales, none, none, jnp.zeros((), cost_dtype), jnp.asarray(False))
    krylov = at.jacobian.dtype
    inf, zero = jnp.asarray(jnp.inf, cost_dtype), jnp.zeros((), cost_dtype)
    count = jnp.zeros((), jnp.int32)
    return _State(
        point=start,
        trial=start,
        at=at,
        cost=inf,
        start_cost=inf,
        predicted=inf,
        length=zero,
        newton=jnp.zeros((evaluate.problem.dim,), krylov),
        stale=stale,
        method=method.start(cost_dtype),
        linear_result=MINIMISE_RESULTS.successful,
        evaluations=count,
        linear_steps=count,
        history=History.empty(settings.max_steps + 1, cost_dtype),
        done=jnp.asarray(False),
        result=MINIMISE_RESULTS.successful,
    )


def _judge(state: _State, at: Linearisation, method: AbstractMethod, rtol: Array) -> _State:
    """Takes or leaves the point that the last step led to."""
    R = MINIMISE_RESULTS
    dtype = state.cost.dtype
    eps = jnp.finfo(dtype).eps
    first = state.evaluations == 0
    cost = jnp.sum(at.terms)
    finite = jnp.isfinite(cost)
    # Term by term: the difference of two sums would be rounding once the cost hardly changes.
    gain = jnp.sum(state.at.terms - at.terms)
    tolerance = jnp.maximum(rtol.astype(dtype), 4 * eps) * state.cost
    tolerance = tolerance + eps * eps * state.start_cost
    small = ~first & (state.predicted <= tolerance)
    ratio = gain / jnp.where(state.predicted > 0, state.predicted, 1)
    accepted, next_method, given_up = method.judge(state.method, ratio, finite, state.length)
    # Where rounding hides the gain the step is believed: gradients are known better than costs.
    accepted = accepted | (small & finite & (gain >= -64 * eps * state.cost))
    accepted = jnp.where(first, finite, accepted)
    keep = first | small
    next_method = jax.tree.map(lambda a, b: jnp.where(keep, a, b), state.method, next_method)

    sound = state.linear_result == R.successful
    result = R.where(sound, R.successful, state.linear_result)
    result = R.where(small, result, R.where(finite, R.stalled, R.non_finite_step))
    result = R.where(first, R.non_finite_start, result)
    done = small | (given_up & ~first) | (first & ~finite)

    def pick(new, old):
        return jax.tree.map(lambda a, b: jnp.where(accepted, a, b), new, old)

    taken = jnp.where(accepted, cost, state.cost)
    taken = jnp.where(first, cost, taken)
    k, h = state.evaluations, state.history
    history = History(
        h.cost.at[k].set(taken),
        h.damping.at[k].set(next_method.size),
        h.linear_steps,
        h.accepted.at[k].set(accepted.astype(jnp.int32)),
    )
    return state._replace(
        point=pick(state.trial, state.point),
        at=pick(at, state.at),
        cost=taken,
        start_cost=jnp.where(first, cost, state.start_cost),
        method=next_method,
        evaluations=k + 1,
        history=history,
        done=done,
        result=result,
    )


def _solve(
    state: _State, evaluate: _Evaluate, method: AbstractMethod, linear: AbstractLinear
) -> _State:
    """The next step from the point that was accepted last."""
    policy = evaluate.settings.policy
    jacobian = state.at.jacobian
    residual = state.at.residual.astype(jacobian.dtype)
    scales = block_scaling(jacobian, evaluate.held)
    scaled = jacobian.scale_columns(scales)
    damping = method.damping(state.method).astype(jacobian.dtype)
    stale = evaluate.factor(state, damping)
    inverse = None if stale is None else rescaled(stale, jacobian, scales)
    step = linear.solve(scaled, residual, damping, policy, method.stopping, inverse)
    if stale is not None:
        first = jnp.where(stale.steps < 0, step.steps, stale.steps)
        stale = stale._replace(steps=first, last=step.steps)
    y = step.value.astype(jacobian.dtype)
    gradient = scaled.transpose_mv(residual)
    if method.reuses:
        along = scaled.mv(gradient)
        y = bend(y, gradient, jnp.vdot(along, along), state.method.size.astype(y.dtype))
    image = scaled.mv(y)
    predicted = -jnp.vdot(gradient, y) - jnp.vdot(image, image) / 2
    delta = BlockDiagonal(scales).mv(y)
    k, h = state.evaluations - 1, state.history
    history = eqx.tree_at(lambda h: h.linear_steps, h, h.linear_steps.at[k].set(step.steps))
    return state._replace(
        trial=evaluate.move(state.point, delta, jacobian),
        predicted=predicted.astype(state.cost.dtype),
        length=jnp.sqrt(jnp.vdot(y, y)).astype(state.cost.dtype),
        stale=stale,
        linear_result=step.result,
        linear_steps=state.linear_steps + step.steps,
        history=history,
    )


def _policy(policy: Policy | str | None, values: Values) -> Policy:
    if isinstance(policy, str):
        return Policy.parse(policy)
    if policy is not None:
        return policy
    dtype = jnp.result_type(*values.values())
    return Policy.parse("double") if dtype == jnp.float64 else Policy()
