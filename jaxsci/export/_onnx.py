"""A model as an ONNX file, through jax2onnx."""

import contextlib
import importlib
import logging
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
from jaxtyping import PyTree

from jaxsci.checkpoints import write_atomically

from ._inline import evaluate, inlined
from ._plain import plain
from ._refusals import Refused
from ._stablehlo import prepare


def export_onnx(
    path: str | os.PathLike[str] | None,
    model: Callable[..., PyTree],
    args: Sequence[Any],
    *,
    batch: str | None = "batch",
    opset: int = 20,
) -> bytes:
    """Writes a model as an ONNX file, for batches of any size on one grid.

    ```python
    import onnxruntime
    session = onnxruntime.InferenceSession("model.onnx")
    (y,) = session.run(None, {"x0": x, "x1_x_low": g})
    ```

    The grid is that of `args`: matrices of spectral layers are constants of the file. (The tool
    behind this, jax2onnx, keeps a batch open, but not the sizes that matrices are made for;
    [`jaxsci.export.export_stablehlo`][] does.)

    **Arguments:**

    - `path`: the file; `None` for none.
    - `model`, `args`, `batch`: as in [`jaxsci.export.export_stablehlo`][].
    - `opset`: the version of ONNX's operators.

    **Returns:** the content of the file. Inputs are called by position, `x0`, `x1` and so on, those
    inside a dictionary with their key after it; outputs `y0`, `y1` and so on.

    **Raises:** `ImportError` without jax2onnx (`pip install 'jaxsci[export]'`); `ValueError` for
    what cannot be exported: as [`jaxsci.export.export_stablehlo`][], and operations that ONNX or
    jax2onnx do not have.

    !!! example
        ```python
        model = FNO(1, 1, 6, width=8, layers=2, key=jax.random.key(0))
        export_onnx("fno.onnx", model, (jnp.zeros((1, 32)),))
        ```
    """
    where = "export_onnx"
    convert = _converter()
    function, structs, _ = prepare(where, model, args, None, batch=batch, at_least=None)
    flat, structure = jax.tree.flatten(structs)
    try:
        with _quietly():
            jaxpr = inlined(lambda *a: jax.tree.leaves(function(*structure.unflatten(a))), flat)
            made = convert(
                lambda *given: tuple(evaluate(jaxpr, *given)),
                flat,
                model_name="jaxsci",
                opset=opset,
                enable_double_precision=any(leaf.dtype == "float64" for leaf in flat),
                input_names=input_names(args),
                output_names=[f"y{i}" for i in range(len(jaxpr.jaxpr.outvars))],
            )
            # An operation that this version of ONNX does not have is written all the same.
            importlib.import_module("onnx").checker.check_model(made)
    except Exception as error:  # whatever jax2onnx stumbles over
        said = " ".join(str(error).split())[:400]
        raise Refused(
            f"`{where}`: jax2onnx does not convert this model: {type(error).__name__}: {said}; "
            "`export_stablehlo` may"
        ) from error
    content = made.SerializeToString()
    if path is not None:
        write_atomically(Path(path), content)
    return content


def input_names(args: Sequence[Any]) -> list[str]:
    """What the inputs of an ONNX file are called, in their order.

    !!! example
        >>> from jaxsci.export import input_names
        >>> input_names((1.0, {("x", "low"): 2.0}))
        ['x0', 'x1_x_low']
    """
    named = jax.tree_util.tree_flatten_with_path(plain(tuple(args)))[0]
    return [
        "_".join(
            [f"x{path[0].idx}", *(str(getattr(e, "key", getattr(e, "idx", e))) for e in path[1:])]
        )
        for path, _ in named
    ]


def _converter() -> Any:
    try:
        with _quietly():
            converter: Any = importlib.import_module("jax2onnx")
    except ImportError as error:
        raise ImportError(
            "`export_onnx` needs jax2onnx, which is not installed: pip install 'jaxsci[export]'"
        ) from error
    return converter.to_onnx


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Without what jax2onnx and its libraries say of themselves."""
    logger = logging.getLogger("onnx_ir")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
