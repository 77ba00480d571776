"""The loop of nonlinear least squares: one program, in which each thing is traced once."""

from typing import Any, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.precision import Policy
from jaxsci.solvers.sparse import BlockDiagonal, BlockJacobian, block_scaling

from ._linear import AbstractLinear, Step
from ._linearise import Linearisation, jacobian_at_zero, knows_zero, linearise_at
from ._manifold import as_pairs, retract, retract_pair, split
from ._method import AbstractMethod, MethodState, bend
from ._precondition import Preconditioner, Refresh, Stale, needs_refresh
from ._problem import Problem, Values
from ._results import MINIMISE_RESULTS, History, Solution


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


class Prepared(eqx.Module):
    """A minimisation as the compiled program takes it."""

    problem: Problem
    values: Values
    method: AbstractMethod
    linear: AbstractLinear
    preconditioner: Preconditioner | None
    rtol: Float[Array, ""]
    settings: Settings

    def replaced(self, problem: Problem, values: Values) -> "Prepared":
        """The same for another problem and start."""
        return eqx.tree_at(lambda p: (p.problem, p.values), self, (problem, values))


class _Point(NamedTuple):
    values: Values
    low: Values | None


class _Here(NamedTuple):
    """A linearisation, and what scales its columns ([`jaxsci.solvers.sparse.block_scaling`][])."""

    at: Linearisation
    scales: tuple[Array, ...]


class State(NamedTuple):
    """Of the loop, between two iterations."""

    point: _Point
    trial: _Point
    here: _Here
    cost: Array
    start_cost: Array
    predicted: Array
    decrement: Array
    length: Array
    step: Step
    stale: Stale | None
    method: MethodState
    evaluations: Array
    linear_steps: Array
    history: History
    done: Array
    result: MINIMISE_RESULTS


def run(prepared: Prepared) -> Solution:
    """The whole minimisation, to be compiled; without derivatives."""
    max_steps = prepared.settings.max_steps
    last = jax.lax.while_loop(
        lambda state: ~state.done & (state.evaluations <= max_steps),
        lambda state: advance(state, prepared),
        initial(prepared),
    )
    return conclusion(last)


def advance(state: State, prepared: Prepared) -> State:
    """One iteration."""
    state = judge(state, prepared)
    # At the end there is nothing more to solve.
    last = ended(state, prepared)
    return jax.lax.cond(
        last, lambda s: s, lambda s: solve(precondition(s, prepared), prepared), state
    )


def ended(state: State, prepared: Prepared) -> Array:
    """Whether the point that was judged last is the last one."""
    return state.done | (state.evaluations > prepared.settings.max_steps)


def conclusion(last: State) -> Solution:
    """What the last state says."""
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

    @classmethod
    def of(cls, prepared: Prepared) -> "_Evaluate":
        return cls(prepared.problem, prepared.settings, prepared.preconditioner)

    @property
    def held(self) -> tuple[Array | None, ...]:
        """For each variable group, which are fixed."""
        return tuple(self.problem.fixed.get(name) for name in self.problem.variables)

    # A `jit` within the program: its trace for shapes, in `initial`, is used again in the loop.
    @eqx.filter_jit
    def __call__(self, point: _Point) -> _Here:
        policy = self.settings.policy
        dtype = policy.dtype("residual")
        values, low = point
        if low is None and dtype.itemsize < self.settings.update.itemsize:
            pairs = {name: split(x, dtype) for name, x in values.items()}
            values = {name: pair[0] for name, pair in pairs.items()}
            low = {name: pair[1] for name, pair in pairs.items()}
        at = linearise_at(self.problem, values, low, dtype)
        at = at._replace(jacobian=at.jacobian.astype(policy.dtype("gradient")))
        return _Here(at, block_scaling(at.jacobian, self.held))

    def refreshed(self, state: "State", old: Stale, refresh: Array, damping: Array) -> Stale:
        """The preconditioner, factored again if it has to be."""
        settings = self.settings

        def again() -> Stale:
            jacobian = state.here.at.jacobian
            if settings.refresh != "always" and knows_zero(self.problem):
                zero = jacobian_at_zero(self.problem, state.point.values, jacobian.dtype)
                jacobian = jax.tree.map(lambda a, b: jnp.where(old.made, a, b), jacobian, zero)
            factor = self.factor(state.point.values, jacobian, damping, state.here.scales)
            none = jnp.full((), -1, jnp.int32)
            return Stale(factor, none, none, state.cost, jnp.asarray(True))

        return jax.lax.cond(refresh, again, lambda: old)

    def factor(
        self, values: Values, jacobian: BlockJacobian, damping: Array, scales: tuple[Array, ...]
    ) -> Any:
        made, settings = self.preconditioner, self.settings
        # A Jacobian at zero residuals has scales of its own.
        zero = settings.refresh != "always" and knows_zero(self.problem)
        known = None if zero else scales
        return _factor(made, self.problem, values, jacobian, damping, settings.policy, known)

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


# A `jit` of its own, as `_Evaluate.__call__`.
_factor = eqx.filter_jit(Preconditioner.factor)


def initial(prepared: Prepared) -> State:
    """Before the first iteration: nothing is evaluated yet."""
    settings, x0 = prepared.settings, prepared.values
    evaluate = _Evaluate.of(prepared)
    values = {name: x.astype(settings.update) for name, x in x0.items()}
    low = None
    if settings.paired:
        groups = prepared.problem.variables
        pairs = {n: as_pairs(groups[n].manifold, x, settings.update) for n, x in x0.items()}
        values = {name: pair[0] for name, pair in pairs.items()}
        low = {name: pair[1] for name, pair in pairs.items()}
    start = _Point(values, low)
    # Zeros of the right shapes: the start is evaluated in the loop.
    shape = eqx.filter_eval_shape(evaluate, start)
    here = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)
    at, cost_dtype = here.at, here.at.terms.dtype
    stale = None
    if evaluate.preconditioner is not None:
        # The same for the preconditioner.
        damping = jnp.zeros((), at.jacobian.dtype)
        shape = eqx.filter_eval_shape(
            evaluate.factor, start.values, at.jacobian, damping, here.scales
        )
        factor = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shape)
        none = jnp.full((), -1, jnp.int32)
        stale = Stale(factor, none, none, jnp.zeros((), cost_dtype), jnp.asarray(False))
    columns = at.jacobian.dtype
    inf, zero = jnp.asarray(jnp.inf, cost_dtype), jnp.zeros((), cost_dtype)
    count = jnp.zeros((), jnp.int32)
    return State(
        point=start,
        trial=start,
        here=here,
        cost=inf,
        start_cost=inf,
        predicted=inf,
        decrement=inf,
        length=zero,
        step=Step(jnp.zeros((evaluate.problem.dim,), columns), count, MINIMISE_RESULTS.successful),
        stale=stale,
        method=prepared.method.start(cost_dtype),
        evaluations=count,
        linear_steps=count,
        history=History.empty(settings.max_steps + 1, cost_dtype),
        done=jnp.asarray(False),
        result=MINIMISE_RESULTS.successful,
    )


def judge(state: State, prepared: Prepared) -> State:
    """First in an iteration: takes or leaves the point that the last step led to."""
    R, method = MINIMISE_RESULTS, prepared.method
    here = _Evaluate.of(prepared)(state.trial)
    at = here.at
    dtype = state.cost.dtype
    eps = jnp.finfo(dtype).eps
    first = state.evaluations == 0
    cost = jnp.sum(at.terms)
    finite = jnp.isfinite(cost)
    # Term by term: the difference of two sums would be rounding once the cost hardly changes.
    gain = jnp.sum(state.here.at.terms - at.terms)
    # What a step seems to gain where residuals are a few thousand times their own rounding.
    tolerance = jnp.maximum(prepared.rtol.astype(dtype), (4096 * eps) ** 2) * state.cost
    tolerance = tolerance + eps * eps * state.start_cost
    sound = state.step.result == R.successful
    # No step at all: a factorisation that failed. More damping may mend it.
    lost = ~first & ~sound & (state.length == 0)
    small = ~first & ~(state.decrement > tolerance) & ~(lost & method.recovers)
    ratio = gain / jnp.where(state.predicted > 0, state.predicted, 1)
    accepted, next_method, given_up = method.judge(state.method, ratio, finite, state.length)
    # Where rounding hides the gain the step is believed: gradients are known better than costs.
    noise = 64 * eps * state.cost
    believed = finite & ~(state.decrement > noise) & (gain >= -noise) & ~lost
    accepted = jnp.where(first, finite, accepted | believed)
    keep = first | small | believed
    given_up = given_up & ~keep
    next_method = jax.tree.map(lambda a, b: jnp.where(keep, a, b), state.method, next_method)

    result = R.where(sound, R.successful, state.step.result)
    # Where residuals hold so few digits, no step seems to gain anything, at a minimum or not.
    met = R.unresolved if 4096 * eps >= 1 else R.successful
    result = R.where(small & sound & (cost > 0), met, result)
    result = R.where(small | lost, result, R.where(finite, R.stalled, R.non_finite_step))
    result = R.where(first, R.non_finite_start, result)
    done = small | given_up | (first & ~finite)

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
        here=pick(here, state.here),
        cost=taken,
        start_cost=jnp.where(first, cost, state.start_cost),
        method=next_method,
        evaluations=k + 1,
        history=history,
        done=done,
        result=result,
    )


def precondition(state: State, prepared: Prepared) -> State:
    """Second: the preconditioner of the point that was accepted last, if it has to be another."""
    if state.stale is None:
        return state
    refresh = needs_refresh(state.stale, state.cost, prepared.settings.refresh)
    if prepared.method.reuses:
        refresh = refresh & _moved(state)
    damping = _damping(state, prepared)
    return state._replace(
        stale=_Evaluate.of(prepared).refreshed(state, state.stale, refresh, damping)
    )


def _moved(state: State) -> Array:
    """Whether the point judged last was taken."""
    return state.history.accepted[state.evaluations - 1] == 1


def _damping(state: State, prepared: Prepared) -> Array:
    return prepared.method.damping(state.method).astype(state.here.at.jacobian.dtype)


def solve(state: State, prepared: Prepared) -> State:
    """Third: the next step, from the point that was accepted last."""
    policy, method = prepared.settings.policy, prepared.method
    at, scales = state.here
    jacobian = at.jacobian
    residual = at.residual.astype(jacobian.dtype)
    scaled = jacobian.scale_columns(scales)
    damping = _damping(state, prepared)

    def anew() -> tuple[Step, Stale | None]:
        stale = state.stale
        inverse = None if stale is None else stale.factor
        step = prepared.linear.solve(scaled, residual, damping, policy, method.stopping, inverse)
        if stale is not None:
            first = jnp.where(stale.steps < 0, step.steps, stale.steps)
            stale = stale._replace(steps=first, last=step.steps)
        return step._replace(value=step.value.astype(jacobian.dtype)), stale

    k, h = state.evaluations - 1, state.history
    if method.reuses:
        # After a rejection the system is the same: only the region in which to step is not.
        none = jnp.zeros((), jnp.int32)
        step, stale = jax.lax.cond(
            _moved(state), anew, lambda: (state.step._replace(steps=none), state.stale)
        )
    else:
        step, stale = anew()
    gradient = scaled.transpose_mv(residual)

    def model(y: Array) -> Array:
        image = scaled.mv(y)
        return -jnp.vdot(gradient, y) - jnp.vdot(image, image) / 2

    y, predicted = step.value, model(step.value)
    # What an undamped step would gain: damping must not look like convergence.
    decrement = predicted * (1 + damping)
    if method.reuses:
        along = scaled.mv(gradient)
        y = bend(y, gradient, jnp.vdot(along, along), state.method.size.astype(y.dtype))
        predicted = model(y)
    delta = BlockDiagonal(scales).mv(y)
    history = eqx.tree_at(lambda h: h.linear_steps, h, h.linear_steps.at[k].set(step.steps))
    return state._replace(
        trial=_Evaluate.of(prepared).move(state.point, delta, jacobian),
        predicted=predicted.astype(state.cost.dtype),
        decrement=decrement.astype(state.cost.dtype),
        length=jnp.sqrt(jnp.vdot(y, y)).astype(state.cost.dtype),
        step=step,
        stale=stale,
        linear_steps=state.linear_steps + step.steps,
        history=history,
    )
