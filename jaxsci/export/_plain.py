"""Arguments and results without classes of this library: what another process can read."""

from typing import Any

import jax
from jax.tree_util import DictKey, FlattenedIndexKey, GetAttrKey, SequenceKey

from jaxsci.gaussians import Gaussian


def moments(tree: Any) -> Any:
    """The same with each Gaussian as a dictionary of what can be read without its class.

    That is `mean` and `variance`, of each point; a model can return more of a covariance as arrays.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.export import moments
        >>> from jaxsci.gaussians import Gaussian
        >>> sorted(moments(Gaussian.diagonal(jnp.zeros(3), jnp.ones(3))))
        ['mean', 'variance']
    """
    return jax.tree.map(
        lambda leaf: (
            {"mean": leaf.mean, "variance": leaf.marginal_var}
            if isinstance(leaf, Gaussian)
            else leaf
        ),
        tree,
        is_leaf=lambda leaf: isinstance(leaf, Gaussian),
    )


def plain(tree: Any) -> Any:
    """The same arrays in tuples, lists and dictionaries with strings for keys.

    Keys that are tuples become one string, `("x", "low")` is `"x_low"`; a node of another kind (a
    Gaussian, say) becomes a dictionary of its arrays, by path: `{"mean": .., "cov.diagonal": ..}`.

    !!! example
        >>> from jaxsci.export import plain
        >>> plain((1.0, {("x", "low"): 2.0}))
        (1.0, {'x_low': 2.0})
    """
    if isinstance(tree, dict):
        return {_word(key): plain(inner) for key, inner in tree.items()}
    if type(tree) in (tuple, list):
        return type(tree)(plain(inner) for inner in tree)
    if tree is None or jax.tree_util.all_leaves([tree]):
        return tree
    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {".".join(map(_step, path)): leaf for path, leaf in leaves}


def restored(arrays: Any, like: Any) -> Any:
    """The inverse of `plain`: the arrays in the structure of `like`."""
    order = plain(jax.tree.unflatten(jax.tree.structure(like), range(len(jax.tree.leaves(like)))))
    leaves = dict(zip(jax.tree.leaves(order), jax.tree.leaves(arrays), strict=True))
    return jax.tree.unflatten(jax.tree.structure(like), [leaves[i] for i in range(len(leaves))])


def _word(key: Any) -> str:
    return "_".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _step(entry: Any) -> str:
    match entry:
        case GetAttrKey(name=key) | DictKey(key=key) | FlattenedIndexKey(key=key):
            return _word(key)
        case SequenceKey(idx=key):
            return str(key)
    return str(entry)
