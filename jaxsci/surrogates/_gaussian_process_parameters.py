"""The hyper-parameters of a Gaussian process as one unconstrained vector."""

from collections.abc import Callable
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.errors import is_concrete

from ._gaussian_process import GaussianProcess


class FreeParameters(eqx.Module):
    """The map between a Gaussian process and the vector `z` of its free hyper-parameters.

    An entry that is positive at the start stays positive: `z = log(value)`. Any other entry is
    free over the real line, except for a noise of exactly 0, which is held: it states that the
    values are exact.

    - `start`: `z` of the given process.
    - `positive`: which entries are logarithms.
    - `names`: one name per entry, e.g. `".kernel.kernel1.value"`.
    """

    start: Float[Array, " k"]
    positive: tuple[bool, ...] = eqx.field(static=True)
    names: tuple[str, ...] = eqx.field(static=True)
    _held: Any
    _shapes: tuple[tuple[int, ...] | None, ...] = eqx.field(static=True)
    _tree: Any = eqx.field(static=True)

    def rebuild(self, z: Float[Array, " k"]) -> GaussianProcess:
        """The Gaussian process with these hyper-parameters."""
        positive = jnp.asarray(self.positive)
        values = jnp.where(positive, jnp.exp(jnp.where(positive, z, 0)), z)
        leaves, at = [], 0
        for held, shape in zip(self._held, self._shapes, strict=True):
            if shape is None:
                leaves.append(held)
                continue
            size = int(np.prod(shape))
            leaves.append(values[at : at + size].reshape(shape))
            at += size
        return jax.tree.unflatten(self._tree, leaves)


def free_parameters(
    where: str,
    surrogate: GaussianProcess,
    dtype: Any,
    trainable: Callable[[GaussianProcess], Any] | None,
) -> FreeParameters:
    """Lays out the hyper-parameters that `trainable` selects (by default all) as one vector."""
    if not is_concrete(surrogate):
        raise ValueError(
            f"`{where}(surrogate=...)`: expected known hyper-parameters, got traced arrays; call it"
            " outside `jit` and `vmap` over the surrogate (the task may be batched)"
        )
    chosen = jax.tree.map(lambda _: trainable is None, surrogate)
    if trainable is not None:
        ticked = jax.tree.map(lambda _: True, trainable(surrogate))
        chosen = eqx.tree_at(trainable, chosen, ticked)
    paths, tree = jax.tree_util.tree_flatten_with_path(surrogate)
    start, positive, names, held, shapes = [], [], [], [], []
    for (path, leaf), free in zip(paths, jax.tree.leaves(chosen), strict=True):
        name = jax.tree_util.keystr(path)
        values = np.asarray(leaf) if eqx.is_inexact_array(leaf) else None
        exact = name == ".noise" and values is not None and not values.any()
        if not free or values is None or exact:
            held.append(leaf)
            shapes.append(None)
            continue
        held.append(None)
        shapes.append(values.shape)
        above = values.ravel() > 0
        start.append(np.log(values.ravel(), where=above, out=values.ravel().copy()))
        positive.append(above)
        names += [name] if values.ndim == 0 else [f"{name}[{i}]" for i in range(values.size)]
    if not names:
        raise ValueError(
            f"`{where}(trainable=...)`: expected at least one floating hyper-parameter to be free, "
            "got none; write the kernel with floats, or select others"
        )
    return FreeParameters(
        jnp.asarray(np.concatenate(start), dtype),
        tuple(bool(p) for p in np.concatenate(positive)),
        tuple(names),
        held,
        tuple(shapes),
        tree,
    )
