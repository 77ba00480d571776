"""Sizes that stay open in an export, and the smallest that the model takes."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
from jax import export
from jaxtyping import ArrayLike

from jaxsci.errors import lookup
from jaxsci.operators.boundary import BoundaryConditions, Values

_NAME = re.compile(r"[A-Za-z]\w*")


def operator_arguments(
    conditions: BoundaryConditions,
    x: ArrayLike | jax.ShapeDtypeStruct,
    values: Values | None = None,
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Arguments and shapes of an operator on fields, for [`jaxsci.export.export_stablehlo`][].

    Every axis of the conditions stays open under its name, in `x` and in values on the faces.

    **Arguments:**

    - `conditions`: those of the operator, whose axes are those of `x`.
    - `x`: one sample, `(C, N_1, .., N_d)`.
    - `values`: by face, as the operator is called; `None` for one that takes none.

    **Returns:** `(x, values)` and their shapes as strings, or both without the values.

    **Raises:** `ValueError` where `x` has other axes.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.export import operator_arguments
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
        >>> wall = BoundaryConditions(("t", "x"), {("x", "low"): Dirichlet()})
        >>> x, g = jnp.zeros((1, 16, 64)), jnp.zeros((1, 16))
        >>> operator_arguments(wall, x, {("x", "low"): g})[1]
        ('_, t, x', {('x', 'low'): '_, t'})
    """
    axes, shape = conditions.axes, jax.numpy.shape(x)
    if len(shape) != 1 + len(axes):
        raise ValueError(
            f"`operator_arguments(x=...)`: expected one sample (C, {', '.join(axes)}), got shape "
            f"{shape}"
        )
    field = ", ".join(["_", *axes])
    if not values:
        return (x,), (field,)
    faces = {}
    for face, value in values.items():
        transverse = [axis for axis in axes if axis != face[0]]
        sizes = jax.numpy.shape(value)
        names = zip(transverse, sizes[1:], strict=False)
        open_sizes = [axis if size != 1 else "_" for axis, size in names]
        faces[face] = ", ".join(["_"] * min(1, len(sizes)) + open_sizes)
    return (x, dict(values)), (field, faces)


class OpenShapes:
    """The shapes of all arrays among some arguments, in which sizes are numbers or names.

    - `sizes`: for each array, in the order of `jax.tree.leaves`, a number or a name for each axis.
    - `examples`: the size that each name has in the example; that of the batch is left out.
    """

    def __init__(self, where: str, args: Any, shapes: Any, batch: str | None):
        leaves = jax.tree.leaves(args)
        self.dtypes = [jax.dtypes.result_type(leaf) for leaf in leaves]
        self.batch = batch
        self.sizes: list[list[int | str]] = []
        self.examples: dict[str, int] = {}
        for spec, leaf in zip(_each(where, args, shapes), leaves, strict=True):
            shape = jax.numpy.shape(leaf)
            words = ["_"] * len(shape) if spec is None else _words(where, spec)
            if len(words) != len(shape):
                raise ValueError(
                    f"`{where}(shapes=...)`: expected {len(shape)} sizes for an array of shape "
                    f"{shape}, got {spec!r}; the batch is added by itself"
                )
            for word, size in zip(words, shape, strict=True):
                if _NAME.fullmatch(word) and self.examples.setdefault(word, size) != size:
                    raise ValueError(
                        f"`{where}(shapes=...)`: expected one size for {word!r} in all arguments, "
                        f"got {self.examples[word]} and {size}"
                    )
            named = [
                word if word in self.examples else size
                for word, size in zip(words, shape, strict=True)
            ]
            self.sizes.append(named if batch is None else [batch, *named])
        if batch is not None and (batch in self.examples or not _NAME.fullmatch(batch)):
            raise ValueError(
                f"`{where}(batch={batch!r})`: expected a name that no other size has, or None"
            )

    def example(self, sizes: Mapping[str, int]) -> list[jax.ShapeDtypeStruct]:
        """What the arrays are like where every size is a number, and the batch 1."""
        numbers = {**({} if self.batch is None else {self.batch: 1}), **self.examples, **sizes}
        return [
            jax.ShapeDtypeStruct(tuple(numbers.get(n, n) for n in each), dtype)  # pyright: ignore
            for each, dtype in zip(self.sizes, self.dtypes, strict=True)
        ]

    def structs(self, at_least: Mapping[str, int]) -> list[jax.ShapeDtypeStruct]:
        """What the arrays are like, for sizes from those in `at_least` on."""
        scope = export.SymbolicScope([f"{name} >= {least}" for name, least in at_least.items()])
        return [
            jax.ShapeDtypeStruct(export.symbolic_shape(_text(sizes), scope=scope), dtype)
            for sizes, dtype in zip(self.sizes, self.dtypes, strict=True)
        ]


def _each(where: str, args: Any, shapes: Any) -> list[str | None]:
    """The string of each array, from a prefix of the structure."""
    if shapes is None:
        return [None] * len(jax.tree.leaves(args))
    spread: list[str | None] = []
    try:
        jax.tree.map(
            lambda spec, part: spread.extend([spec] * len(jax.tree.leaves(part))),
            shapes,
            args,
            is_leaf=lambda node: node is None or isinstance(node, str),
        )
    except ValueError as error:
        raise ValueError(
            f"`{where}(shapes=...)`: expected a string or None for each argument, or for each "
            f"array in it, got {shapes!r}"
        ) from error
    return spread


def _words(where: str, spec: str) -> list[str]:
    words = [word.strip() for word in spec.strip("() ").split(",") if word.strip()]
    for word in words:
        if word != "_" and not _NAME.fullmatch(word):
            raise ValueError(
                f"`{where}(shapes=...)`: expected names of open sizes, and `_` for those of the "
                f"example, between commas, got {word!r} in {spec!r}"
            )
    return words


def _text(sizes: Sequence[int | str]) -> str:
    return ", ".join(map(str, sizes)) + ("," if len(sizes) == 1 else "")


def smallest_sizes(
    where: str,
    open_shapes: OpenShapes,
    trace: Callable[[Mapping[str, int]], Any],
    given: Mapping[str, int],
) -> dict[str, int]:
    """The least size for each name from which on the model can be traced for all sizes at once.

    Found by trying, with the other names from the sizes of the example on; those that are given
    are taken.

    **Raises:** what `trace` raises for all sizes from those of the example on; `ValueError` for
    given ones with which the model cannot be traced, or names that no argument has.
    """
    for name, size in given.items():
        lookup("size", name, open_shapes.examples)
        if size < 1:
            raise ValueError(
                f"`{where}(at_least={{{name!r}: ...}})`: expected 1 or more, got {size}"
            )
    examples = {**open_shapes.examples, **given}
    trace(examples)
    found = dict(given)
    for name, size in examples.items():
        if name in given:
            continue
        low, high = 0, size  # from `high` on it can be traced, from `low` on it cannot
        while high - low > 1:
            middle = (low + high) // 2
            try:
                trace({**examples, name: middle})
                high = middle
            except Exception:  # whatever a model raises of a size that is too small for it
                low = middle
        found[name] = high
    return found
