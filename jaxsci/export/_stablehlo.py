"""A model as one file of StableHLO, which JAX alone can read and run."""

import importlib.util
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
from jax import export
from jaxtyping import PyTree

from jaxsci.checkpoints import write_atomically

from ._plain import moments, plain, restored
from ._refusals import refuse_callbacks, refuse_fft, refused_lowering, refused_trace
from ._shapes import OpenShapes, smallest_sizes

PLATFORMS = ("cpu", "cuda", "tpu")


def export_stablehlo(
    path: str | os.PathLike[str] | None,
    model: Callable[..., PyTree],
    args: Sequence[Any],
    shapes: Any = None,
    *,
    batch: str | None = "batch",
    at_least: Mapping[str, int] | None = None,
    platforms: Sequence[str] = PLATFORMS,
) -> export.Exported:
    """Writes a model as one StableHLO file, for batches and grids of any size.

    The file holds the weights and what is computed, for every platform named, and needs nothing but
    JAX to run:

    ```python
    import jax
    model = jax.export.deserialize(bytearray(open("model.stablehlo", "rb").read()))
    y = model.call(x, {"x_low": g})
    ```

    Spectral layers become matrix products whose matrices are made for the size that comes in. A
    model that needs a known size somewhere is refused, and says where.

    **Arguments:**

    - `path`: the file; `None` for none.
    - `model`: any callable of arrays: an operator, an Equinox module, a function. It takes one
        sample; random numbers and settings are to be fixed before (`functools.partial`).
    - `args`: of one call, arrays or `jax.ShapeDtypeStruct`s, in any pytree.
    - `shapes`: for each argument, or for each array in it, the sizes between commas: a name stays
        open, `_` is that of the example; `"_, n"` for one channel or more on any grid. `None` for
        an argument of fixed sizes. See [`jaxsci.export.operator_arguments`][] for operators.
    - `batch`: the name of the axis that comes in front of all arguments and results; `None` for a
        model that is called as it is, without a batch.
    - `at_least`: the least size for names; by default the least with which the model can be traced,
        which is found by trying and is no more than that of the example.
    - `platforms`: `"cpu"`, `"cuda"`, `"rocm"`, `"tpu"`.

    **Returns:** the `jax.export.Exported`; its `call` takes arguments, and gives results, in
    tuples, lists and dictionaries with strings for keys: `("x", "low")` is `"x_low"`, a
    [`jaxsci.gaussians.Gaussian`][] has `"mean"` and `"variance"` (of each point), and a result of
    another kind is a dictionary of its arrays.

    **Raises:** `ValueError` for what cannot be exported, with the reason: an FFT over an open size,
    a grid smaller than the modes need, a call back into Python, control flow that asks for a size;
    for shapes that do not fit the arguments. `ImportError` without flatbuffers, which `jax` writes
    files with: `pip install 'jaxsci[export]'`.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.export import export_stablehlo
        >>> from jaxsci.operators.fno import FNO
        >>> model = FNO(1, 1, 6, width=8, layers=2, key=jax.random.key(0))
        >>> exported = export_stablehlo(None, model, (jnp.zeros((1, 32)),), ("_, n",))
        >>> exported.call(jnp.ones((5, 1, 48))).shape, exported.call(jnp.ones((2, 1, 6))).shape
        ((5, 1, 48), (2, 1, 6))
    """
    where = "export_stablehlo"
    if path is not None:
        require_flatbuffers(where)
    function, structs, least = prepare(where, model, args, shapes, batch=batch, at_least=at_least)
    try:
        exported = export.export(function, platforms=tuple(platforms))(*structs)
    except Exception as error:  # of what can be traced but not written down for some platform
        raise refused_lowering(where, error, platforms) from error
    if path is not None:
        write_atomically(Path(path), bytes(exported.serialize()))
    return exported


def load_stablehlo(path: str | os.PathLike[str]) -> export.Exported:
    """What [`jaxsci.export.export_stablehlo`][] wrote: `load_stablehlo(path).call(x)`.

    For a process that has this library; one that has not does the same with
    `jax.export.deserialize`.

    **Raises:** `ValueError` if the file is no such export; `OSError` if it cannot be read.
    """
    require_flatbuffers("load_stablehlo")
    content = Path(path).read_bytes()
    try:
        return export.deserialize(bytearray(content))
    except Exception as error:  # whatever flatbuffers stumbles over
        raise ValueError(
            f"`load_stablehlo(path={os.fspath(path)!r})`: expected a file that `export_stablehlo` "
            f"wrote, got one that starts with {content[:16]!r}"
        ) from error


def require_flatbuffers(where: str) -> None:
    if importlib.util.find_spec("flatbuffers") is None:
        raise ImportError(
            f"`{where}(path=...)`: jax writes and reads exports with flatbuffers, which is not "
            "installed: pip install 'jaxsci[export]'"
        )


def prepare(
    where: str,
    model: Callable[..., PyTree],
    args: Sequence[Any],
    shapes: Any,
    *,
    batch: str | None,
    at_least: Mapping[str, int] | None,
) -> tuple[Any, tuple[Any, ...], dict[str, int]]:
    """The model as a function of plain arguments, what these are like, and their least sizes."""
    if not callable(model):
        raise TypeError(f"`{where}(model=...)`: expected a callable, got {type(model).__name__}")
    args = tuple(args)
    open_shapes = OpenShapes(where, args, shapes, batch)
    refuse_fft(where, model, open_shapes)
    structure = jax.tree.structure(plain(args))

    def fresh() -> Any:
        # A function of its own each time: what was traced for other sizes is not this.
        def called(*given: Any) -> Any:
            def one(*sample: Any) -> Any:
                return moments(model(*sample))

            each = one if batch is None else jax.vmap(one)
            return plain(each(*restored(given, args)))

        return jax.jit(called)

    def arguments(least: Mapping[str, int]) -> tuple[Any, ...]:
        return jax.tree.unflatten(structure, open_shapes.structs(least))

    # The model's own words where it does not take the example, or what is the least.
    for sizes in ({}, at_least or {}):
        example = jax.tree.unflatten(structure, open_shapes.example(sizes))
        refuse_callbacks(where, fresh().trace(*example).jaxpr)
    try:
        least = smallest_sizes(
            where, open_shapes, lambda sizes: fresh().trace(*arguments(sizes)), at_least or {}
        )
        function, structs = fresh(), arguments(least)
        function.trace(*structs)
    except Exception as error:
        raise refused_trace(where, error, {**open_shapes.examples, **(at_least or {})}) from error
    return function, structs, least
