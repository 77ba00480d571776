"""The last linear layer of an operator: where heads are put, and what is linear in its weights."""

from typing import Any

import equinox as eqx
import jax

from jaxsci.operators.fno import FNO
from jaxsci.operators.layers import ChannelMLP, Pointwise


def last_layer(operator: Any) -> Pointwise:
    """The last pointwise layer of the one [`jaxsci.operators.fno.FNO`][] in a model.

    It finds it in whatever the FNO is wrapped: a
    [`jaxsci.operators.constrained.ConstrainedOperator`][], a
    [`jaxsci.operators.constrained.BOON`][]. It may be the `where` of `eqx.tree_at`. What comes
    after it (a field enforced at a wall, a change of units) is affine, so that the output is affine
    in its weights.

    **Raises:** `ValueError` unless there is exactly one FNO, of real data.

    !!! example
        >>> import jax
        >>> from jaxsci.operators.fno import FNO
        >>> from jaxsci.operators.uncertain import last_layer
        >>> last_layer(FNO(1, 1, 6, width=8, key=jax.random.key(0))).weight.shape
        (1, 16)
    """
    nodes = jax.tree.leaves(operator, is_leaf=lambda node: isinstance(node, FNO))
    found = [node for node in nodes if isinstance(node, FNO)]
    if len(found) != 1:
        raise ValueError(
            f"`last_layer(operator)`: expected one FNO in the model, got {len(found)} in "
            f"{type(operator).__name__}; pass `where=`, a function from the model to its last layer"
        )
    projection: Any = found[0].projection
    if not isinstance(projection, ChannelMLP):
        raise ValueError("`last_layer(operator)`: expected an FNO of real data, got one of complex")
    return projection.layers[-1]


def checked_layer(name: str, operator: Any, where: Any) -> Pointwise:
    """`where(operator)`, if it is a layer of known sizes."""
    layer = where(operator)
    if not isinstance(layer, Pointwise) or not eqx.is_inexact_array(layer.weight):
        raise TypeError(
            f"`{name}(where=...)`: expected a function from the operator to its last layer, a "
            f"`Pointwise`, got one that returns {type(layer).__name__}"
        )
    return layer
