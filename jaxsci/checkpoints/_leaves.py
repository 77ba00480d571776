"""The arrays of a pytree: what they are like, and how they go into a file and out of it."""

from collections.abc import Mapping
from typing import IO, Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree


def signature(tree: PyTree) -> dict[str, str]:
    """The path, dtype and shape of each leaf.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.checkpoints import signature
        >>> signature({"bias": jnp.zeros(3)})
        {"['bias']": 'float32[3]'}
    """
    return {
        jax.tree_util.keystr(path): f"{leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
    }


def differences(saved: Any, current: Any, name: str = "") -> list[str]:
    """One clause for each setting in which two nested mappings differ.

    !!! example
        >>> from jaxsci.checkpoints import differences
        >>> differences({"modes": 8, "width": 32}, {"modes": 12, "width": 32})
        ['modes was 8, is 12']
    """
    if isinstance(saved, Mapping) and isinstance(current, Mapping):
        found = []
        for key in [*saved, *(key for key in current if key not in saved)]:
            # leaf paths start with "." or "[" themselves
            inner = f"{name}{'' if not name or key[:1] in '.[' else '.'}{key}"
            found += differences(saved.get(key), current.get(key), inner)
        return found
    return [] if saved == current else [f"{name} was {_say(saved)}, is {_say(current)}"]


def without_keys(tree: PyTree) -> PyTree:
    """`tree` with random keys replaced by their data, which files and hashes understand.

    !!! example
        >>> import jax
        >>> from jaxsci.checkpoints import without_keys
        >>> without_keys(jax.random.key(7))
        Array([0, 7], dtype=uint32)
    """
    return jax.tree.map(lambda x: jax.random.key_data(x) if _is_key(x) else x, tree)


def restore(leaves: IO[bytes], like: PyTree) -> PyTree:
    """The arrays that `equinox.tree_serialise_leaves` wrote, each where that of `like` lives.

    !!! example
        >>> import equinox as eqx, io, jax.numpy as jnp
        >>> from jaxsci.checkpoints import restore
        >>> file = io.BytesIO()
        >>> eqx.tree_serialise_leaves(file, jnp.arange(3))
        >>> restore(io.BytesIO(file.getvalue()), jnp.zeros(3, int))
        Array([0, 1, 2], dtype=int32)
    """
    plain = eqx.tree_deserialise_leaves(leaves, without_keys(like))
    return jax.tree.map(dressed, plain, like)


def dressed(new: Any, old: Any) -> Any:
    """What was read, as what it is and where it lives: a random key, numpy's, on a device."""
    if _is_key(old):
        return jax.random.wrap_key_data(new, impl=jax.random.key_impl(old))
    if isinstance(old, np.ndarray):
        return np.asarray(new)
    return jax.device_put(new, old.sharding) if isinstance(old, jax.Array) else new


def _say(value: Any) -> str:
    return "absent" if value is None else str(value)


def _is_key(leaf: Any) -> bool:
    return eqx.is_array(leaf) and jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
