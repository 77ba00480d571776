"""What `fit` can refuse before anything is compiled."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PRNGKeyArray, PyTree

from ._steps import Plan, takes_epoch


def whole(name: str, value: Any, least: int = 1) -> int:
    """`value` as an int if it is a whole number of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"`fit({name}=...)`: expected a whole number >= {least}, got {value!r}")
    return int(value)


def sample_arrays(name: str, data: PyTree) -> PyTree:
    """`data` as JAX arrays, if they all have the same nonempty leading axis."""
    named = jax.tree_util.tree_flatten_with_path(data)[0]
    if not named:
        raise ValueError(f"`fit({name}=...)`: expected a pytree of arrays, got no array in it")
    sizes = {}
    for path, leaf in named:
        where = f"`fit({name}=...)`: leaf {jax.tree_util.keystr(path) or 'data'}"
        if not eqx.is_array(leaf):
            raise TypeError(
                f"{where}: expected an array, got {type(leaf).__name__}; "
                "convert it with jnp.asarray"
            )
        if leaf.ndim == 0:
            raise ValueError(
                f"{where}: expected a leading axis of samples, got a scalar; "
                "what all samples share belongs into the loss or the model"
            )
        sizes[jax.tree_util.keystr(path) or "data"] = leaf.shape[0]
    if len(set(sizes.values())) > 1:
        listed = ", ".join(f"{path}: {size}" for path, size in sizes.items())
        raise ValueError(
            f"`fit({name}=...)`: expected the same leading axis (the samples) everywhere, "
            f"got {listed}"
        )
    if not next(iter(sizes.values())):
        raise ValueError(f"`fit({name}=...)`: expected at least one sample, got none")
    return jax.tree.map(jnp.asarray, data)


def random_key(key: Any) -> PRNGKeyArray:
    """`key` if it is one random key, typed or raw."""
    typed = eqx.is_array(key) and jnp.issubdtype(key.dtype, jax.dtypes.prng_key)
    if typed and key.ndim == 0:
        return key
    if eqx.is_array(key) and key.dtype == jnp.uint32 and key.ndim == 1:
        return jnp.asarray(key)
    got = f"an array of {key.dtype}{key.shape}" if eqx.is_array(key) else repr(key)
    raise TypeError(f"`fit(key=...)`: expected one random key, got {got}; pass jax.random.key(0)")


def loss_output(name: str, plan: Plan, params: PyTree) -> tuple[str, ...]:
    """Trace the loss on one batch, check what comes back, and return the names of its metrics."""
    batch = jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct((plan.batch_size, *leaf.shape[1:]), leaf.dtype),
        plan.data,
    )
    model = eqx.combine(params, plan.frozen)
    epoch = jnp.asarray(0, jnp.int32)
    also = {"epoch": epoch} if takes_epoch(plan.loss) else {}
    out: Any = eqx.filter_eval_shape(
        lambda m, b, k: plan.loss(m, b, key=k, **also), model, batch, plan.key
    )
    pair: tuple[Any, Any] = out if isinstance(out, tuple) and len(out) == 2 else (out, {})
    value, metrics = pair
    if not (isinstance(value, jax.ShapeDtypeStruct) and value.shape == ()):
        traced = isinstance(value, jax.ShapeDtypeStruct)
        got = f"shape {value.shape}" if traced else f"a {type(value).__name__}"
        raise ValueError(
            f"`fit({name}=...)`: expected a scalar or (scalar, dict of metrics), got {got}; "
            "take the mean over the batch"
        )
    if not jnp.issubdtype(value.dtype, jnp.floating):
        raise TypeError(f"`fit({name}=...)`: expected a real scalar, got one of {value.dtype}")
    if not isinstance(metrics, dict) or "loss" in metrics:
        raise ValueError(
            f"`fit({name}=...)`: expected the metrics as a dict without the name 'loss', "
            f"got {metrics!r}"
        )
    for metric, entry in metrics.items():
        if not isinstance(entry, jax.ShapeDtypeStruct) or entry.shape != ():
            raise ValueError(
                f"`fit({name}=...)`: expected metric {metric!r} to be a scalar, got {entry!r}"
            )
    return tuple(metrics)
