"""Flax models, nnx and linen, as surrogates."""

import importlib
from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from jaxsci.gaussians import Gaussian

from ._output import Variance, as_gaussian, checked_variance, frozen


class NNXSurrogate(eqx.Module):
    """A Flax nnx model as a pytree; made by [`jaxsci.interop.from_flax_nnx`][].

    - `parameters`: the `nnx.Param` state; its arrays are what is trained.
    - `state`: everything else (running statistics, random streams); no gradient goes to it.
    - `definition`: the static half of the model, train or eval mode included.
    """

    parameters: Any
    state: Any
    variance: Variance
    readout: Callable[[Any], Any] | None
    definition: Any = eqx.field(static=True)

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The model's output as a Gaussian; `key` reseeds all its random streams."""
        nnx = flax_module("from_flax_nnx", "flax.nnx")
        model = nnx.merge(self.definition, self.parameters, frozen(self.state))
        if key is not None:
            streams = [s for _, s in nnx.iter_graph(model) if isinstance(s, nnx.RngStream)]
            tags = sorted({stream.tag for stream in streams})
            if tags:
                keys = jr.split(_typed(key), len(tags))
                nnx.reseed(model, **{tag: keys[i] for i, tag in enumerate(tags)})
        return as_gaussian("from_flax_nnx", model(inputs), inputs, self.variance, self.readout)

    @property
    def model(self) -> Any:
        """A new `nnx.Module` with the present parameters, e.g. after training."""
        nnx = flax_module("from_flax_nnx", "flax.nnx")
        # Copied, so that a user who trains the module does not change this surrogate.
        copies = jax.tree.map(jnp.copy, (self.parameters, self.state))
        return nnx.merge(self.definition, *copies)


class LinenSurrogate(eqx.Module):
    """A Flax linen module and its variables; made by [`jaxsci.interop.from_flax_linen`][].

    - `parameters`: the collection `"params"`; its arrays are what is trained.
    - `state`: the other collections, e.g. `"batch_stats"`; no gradient goes to them.
    """

    parameters: Any
    state: dict[str, Any]
    variance: Variance
    readout: Callable[[Any], Any] | None
    module: Any = eqx.field(static=True)
    rngs: tuple[str, ...] = eqx.field(static=True)
    arguments: tuple[tuple[str, Any], ...] = eqx.field(static=True)

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The module's output as a Gaussian; `key` is split among the streams in `rngs`."""
        rngs = None
        if key is not None and self.rngs:
            rngs = dict(zip(self.rngs, jr.split(key, len(self.rngs)), strict=True))
        state = frozen(self.state)
        output = self.module.apply(
            {"params": self.parameters, **state}, inputs, rngs=rngs, **dict(self.arguments)
        )
        return as_gaussian("from_flax_linen", output, inputs, self.variance, self.readout)

    @property
    def variables(self) -> dict[str, Any]:
        """The variables as linen wants them, with the present parameters."""
        return {"params": self.parameters, **self.state}


def from_flax_nnx(
    model: Any,
    *,
    variance: ArrayLike | Callable[[Any], Array] | None = None,
    readout: Callable[[Any], Any] | None = None,
) -> NNXSurrogate:
    """A Flax nnx model as a surrogate, in its present mode (`model.train()`, `model.eval()`).

    The model is copied: later changes to it are not seen, and calls do not change it. In train
    mode, running statistics follow each call and are then dropped: put a model with batch
    normalisation in eval mode (C).

    **Arguments:**

    - `model`: an `nnx.Module`, called as `model(inputs)`.
    - `variance`, `readout`: as in [`jaxsci.interop.from_function`][].

    **Returns:** a surrogate whose trainable arrays are the model's `nnx.Param`s. A `key` given to
    it reseeds the model's random streams; without one the streams are used as they were.

    **Raises:** `TypeError` if `model` is not an `nnx.Module`, `ImportError` where the extra `flax`
    is not installed, and as [`jaxsci.interop.from_function`][].

    !!! example
        >>> import jax.numpy as jnp
        >>> from flax import nnx
        >>> from jaxsci.interop import from_flax_nnx
        >>> surrogate = from_flax_nnx(nnx.Linear(2, 1, rngs=nnx.Rngs(0)), variance=0.01)
        >>> surrogate(jnp.ones((5, 2))).size
        5
    """
    nnx = flax_module("from_flax_nnx", "flax.nnx")
    if not isinstance(model, nnx.Module):
        hint = "; use `from_flax_linen(module, variables)`" if _is_linen(model) else ""
        raise TypeError(
            f"`from_flax_nnx(model)`: expected an nnx.Module, got {type(model).__name__}{hint}"
        )
    definition, parameters, state = nnx.split(model, nnx.Param, ...)
    parameters, state = jax.tree.map(jnp.copy, (parameters, state))
    variance = checked_variance("from_flax_nnx", variance)
    return NNXSurrogate(parameters, state, variance, readout, definition)


def from_flax_linen(
    module: Any,
    variables: Mapping[str, Any],
    *,
    variance: ArrayLike | Callable[[Any], Array] | None = None,
    readout: Callable[[Any], Any] | None = None,
    rngs: Sequence[str] = ("dropout",),
    **arguments: Any,
) -> LinenSurrogate:
    """A Flax linen module with its variables as a surrogate.

    **Arguments:**

    - `module`: a `linen.Module`, used as `module.apply(variables, inputs)`.
    - `variables`: what `module.init` returned, with at least the collection `"params"`.
    - `variance`, `readout`: as in [`jaxsci.interop.from_function`][].
    - `rngs`: names of the random streams that a `key` is split among.
    - `arguments`: further keyword arguments of the module's call, e.g. `train=False`; hashable.

    **Returns:** a surrogate whose trainable arrays are `variables["params"]`.

    **Raises:** `TypeError` if `module` is not a `linen.Module`, `ValueError` if `variables` has no
    `"params"`, `ImportError` where the extra `flax` is not installed, and as
    [`jaxsci.interop.from_function`][].

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from flax import linen
        >>> from jaxsci.interop import from_flax_linen
        >>> module = linen.Dense(1)
        >>> variables = module.init(jax.random.key(0), jnp.ones((5, 2)))
        >>> from_flax_linen(module, variables, variance=0.01)(jnp.ones((5, 2))).size
        5
    """
    linen = flax_module("from_flax_linen", "flax.linen")
    if not isinstance(module, linen.Module):
        raise TypeError(
            f"`from_flax_linen(module)`: expected a linen.Module, got {type(module).__name__}; "
            "an nnx.Module goes to `from_flax_nnx`"
        )
    if not isinstance(variables, Mapping) or "params" not in variables:
        got = list(variables) if isinstance(variables, Mapping) else type(variables).__name__
        raise ValueError(
            "`from_flax_linen(variables=...)`: expected a mapping with 'params', as `module.init` "
            f"returns, got {got}; if these are the parameters, pass {{'params': parameters}}"
        )
    state = {name: values for name, values in variables.items() if name != "params"}
    return LinenSurrogate(
        variables["params"],
        state,
        checked_variance("from_flax_linen", variance),
        readout,
        module,
        tuple(rngs),
        tuple(sorted(arguments.items())),
    )


def flax_module(where: str, name: str) -> ModuleType:
    """The module `name` of Flax, imported on first use."""
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise ImportError(
            f"`{where}`: expected Flax to be installed, got {error}; "
            "`pip install 'jaxsci[flax]'` installs it"
        ) from error


def _is_linen(model: Any) -> bool:
    return isinstance(model, flax_module("from_flax_nnx", "flax.linen").Module)


def _typed(key: PRNGKeyArray) -> PRNGKeyArray:
    """A new-style key, which nnx needs, also from the raw `jax.random.PRNGKey` of old code."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jr.wrap_key_data(key)
