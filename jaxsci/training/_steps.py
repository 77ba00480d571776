"""The compiled parts of training: a stretch of steps, and a pass over the validation data."""

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Int, PRNGKeyArray, PyTree

Metrics = dict[str, Array]


class Plan(eqx.Module):
    """All that stays the same during training.

    **Arguments:**

    - `loss`: `loss(model, batch, *, key)`, a scalar or (scalar, dict of scalars); one with a
        parameter `epoch` gets that too.
    - `optimiser`: the optax transformation; None for a plan that only evaluates.
    - `frozen`: the model without the leaves that are trained.
    - `data`: pytree of arrays with the same leading axis.
    - `key`: from which the order of the samples and the key of each step follow.
    - `batch_size`: the samples in a batch.
    """

    loss: Callable[..., Any]
    optimiser: optax.GradientTransformation | None
    frozen: PyTree
    data: PyTree
    key: PRNGKeyArray
    batch_size: int = eqx.field(static=True)

    @property
    def size(self) -> int:
        """The number of samples."""
        return jax.tree.leaves(self.data)[0].shape[0]

    def order(self, epoch: int | Array) -> Int[Array, " samples"]:
        """The order of the samples in an epoch, the same whenever it is asked for."""
        return jax.random.permutation(self._keys(epoch)[0], self.size)

    def step_key(self, epoch: int | Array, step: int | Array) -> PRNGKeyArray:
        """The key that the loss gets in one step of one epoch."""
        return jax.random.fold_in(self._keys(epoch)[1], step)

    def _keys(self, epoch: int | Array) -> PRNGKeyArray:
        return jax.random.split(jax.random.fold_in(self.key, epoch))

    def value(
        self, params: PyTree, batch: PyTree, key: PRNGKeyArray, epoch: int | Array
    ) -> tuple[Array, Metrics]:
        """The loss and its metrics."""
        also = {"epoch": epoch} if takes_epoch(self.loss) else {}
        out = self.loss(eqx.combine(params, self.frozen), batch, key=key, **also)
        return out if isinstance(out, tuple) else (out, {})


# The first argument is kept, parameters and optimiser state are given up to the result: they are
# the fit's own copies. Static parts are compared by value, so that a second fit with the same
# loss and optimiser (the members of an ensemble) compiles nothing.
@eqx.filter_jit(donate="all-except-first")
def train_steps(
    fixed: tuple[Plan, Array, Array, int], params: PyTree, opt_state: PyTree
) -> tuple[PyTree, PyTree, Int[Array, ""], dict[str, Array]]:
    """Run `length` consecutive steps of one epoch in one `lax.scan`.

    From the first step on whose loss or whose updated parameters are not finite, nothing changes
    any more: what comes back is the state before that step.

    **Arguments:**

    - `fixed`: `(plan, epoch, first, length)`; `first` counts the steps of the epoch from 0.
    - `params`, `opt_state`: what training changes; donated.

    **Returns:** parameters, optimiser state, the first bad step of the epoch (-1: none), and the
    loss and metrics of each step, each of shape `(length,)`.
    """
    plan, epoch, first, length = fixed
    optimiser = optax.with_extra_args_support(_required(plan.optimiser))
    order = plan.order(epoch)
    arrays, static = eqx.partition(opt_state, eqx.is_array)

    def step(carry, index):
        params, arrays, bad = carry
        picked = lax.dynamic_slice_in_dim(order, index * plan.batch_size, plan.batch_size)
        batch = jax.tree.map(lambda leaf: leaf[picked], plan.data)
        key = plan.step_key(epoch, index)
        (loss, metrics), gradient = jax.value_and_grad(plan.value, has_aux=True)(
            params, batch, key, epoch
        )
        # JAX's gradient in a complex parameter is the conjugate of the ascent direction
        gradient = jax.tree.map(lambda g: g.conj() if jnp.iscomplexobj(g) else g, gradient)
        with optax_promotion():
            updates, new_state = optimiser.update(
                gradient,
                eqx.combine(arrays, static),
                params,
                value=loss,
                grad=gradient,
                value_fn=lambda p: plan.value(p, batch, key, epoch)[0],
            )
            new_params = optax.apply_updates(params, updates)
        good = (bad < 0) & jnp.isfinite(loss) & _all_finite(new_params)
        bad = jnp.where((bad < 0) & ~good, index, bad)
        carry = (
            _choose(good, new_params, params),
            _choose(good, eqx.filter(new_state, eqx.is_array), arrays),
            bad,
        )
        return carry, {"loss": loss, **metrics}

    start = (params, arrays, jnp.asarray(-1, jnp.int32))
    steps = first + jnp.arange(length, dtype=jnp.int32)
    (params, arrays, bad), values = lax.scan(step, start, steps)
    return params, eqx.combine(arrays, static), bad, values


@eqx.filter_jit
def evaluate(plan: Plan, params: PyTree) -> dict[str, Array]:
    """The loss and metrics of each batch, in order, the last one smaller if need be.

    Every evaluation uses the same keys, so that two epochs differ by their parameters only.
    """
    width = plan.batch_size
    full = plan.size // width

    def one(batch, index):
        key = jax.random.fold_in(plan.key, index)
        loss, metrics = plan.value(params, batch, key, 0)  # none that is held out asks for it
        return {"loss": loss, **metrics}

    def body(carry, index):
        batch = jax.tree.map(
            lambda leaf: lax.dynamic_slice_in_dim(leaf, index * width, width), plan.data
        )
        return carry, one(batch, index)

    _, values = lax.scan(body, None, jnp.arange(full, dtype=jnp.int32))
    if plan.size % width:
        rest = one(jax.tree.map(lambda leaf: leaf[full * width :], plan.data), full)
        values = jax.tree.map(lambda many, last: jnp.append(many, last), values, rest)
    return values


def takes_epoch(loss: Callable[..., Any]) -> bool:
    """Whether a loss has a parameter of the name `epoch`."""
    try:
        return "epoch" in inspect.signature(loss).parameters
    except (TypeError, ValueError):  # a callable that hides its signature
        return False


@contextmanager
def optax_promotion() -> Iterator[None]:
    """JAX's default promotion, on which optax relies, also where the user's is strict."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def _required(optimiser: optax.GradientTransformation | None) -> optax.GradientTransformation:
    if optimiser is None:
        raise ValueError("`train_steps(plan=...)`: expected a plan with an optimiser, got None")
    return optimiser


def _all_finite(tree: PyTree) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def _choose(first: Bool[Array, ""], new: PyTree, old: PyTree) -> PyTree:
    """`new` where `first`, else `old`, in the dtypes of `old` (a carry must keep its own)."""

    def pick(new, old):
        return jnp.where(first, new if new.dtype == old.dtype else new.astype(old.dtype), old)

    return jax.tree.map(pick, new, old)
