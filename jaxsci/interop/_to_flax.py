"""Equinox models as Flax modules."""

import functools
import re
from typing import Any

import equinox as eqx
import jax

from ._flax import flax_module


def to_flax_nnx(module: eqx.Module) -> Any:
    """An Equinox module, such as an operator of ours, as an `nnx.Module`.

    Its arrays of floats are `nnx.Param`s, named after their places (`blocks_0_conv_bias`), other
    arrays are `nnx.Variable`s, and a call is a call of the module with the present values: it can
    be part of a larger Flax model, be trained by `nnx.Optimizer` and saved with its state.

    **Arguments:** `module`: callable, and all of whose arrays are known.

    **Returns:** an `nnx.Module`; its property `module` is the Equinox module with the present
    values. [`jaxsci.interop.from_flax_nnx`][] goes the other way.

    **Raises:** `TypeError` for something else, `ImportError` where the extra `flax` is not
    installed.

    !!! example
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsci.interop import to_flax_nnx
        >>> model = to_flax_nnx(eqx.nn.Linear(3, 2, key=jax.random.key(0)))
        >>> model(jnp.ones(3)).shape, model.weight.shape
        ((2,), (2, 3))
        >>> nnx.state(model, nnx.Param)["bias"].shape
        (2,)
    """
    if not isinstance(module, eqx.Module) or not callable(module):
        raise TypeError(
            f"`to_flax_nnx(module)`: expected a callable Equinox module, got "
            f"{type(module).__name__}"
        )
    return _wrapper_class()(module)


@functools.cache
def _wrapper_class() -> type:
    """The class, made where Flax is first needed."""
    nnx = flax_module("to_flax_nnx", "flax.nnx")

    class EquinoxModule(nnx.Module):
        """Made by `jaxsci.interop.to_flax_nnx`."""

        def __init__(self, module: eqx.Module):
            arrays, rest = eqx.partition(module, eqx.is_array)
            paths, structure = jax.tree_util.tree_flatten_with_path(arrays)
            names = [re.sub(r"\W+", "_", jax.tree_util.keystr(p)).strip("_") for p, _ in paths]
            self.equinox_names = tuple(names)
            self.equinox_static = (structure, rest)
            for name, (_, leaf) in zip(names, paths, strict=True):
                kind = nnx.Param if eqx.is_inexact_array(leaf) else nnx.Variable
                setattr(self, name, kind(leaf))

        @property
        def module(self) -> eqx.Module:
            structure, rest = self.equinox_static
            leaves = [getattr(self, name)[...] for name in self.equinox_names]
            return eqx.combine(jax.tree.unflatten(structure, leaves), rest)

        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            module: Any = self.module
            return module(*args, **kwargs)

    return EquinoxModule
