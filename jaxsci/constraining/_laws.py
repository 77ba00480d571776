"""Conservation laws of a field of several channels, from the forms in which they are given."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import lineax as lx

from jaxsci.conservation import LinearConstraint
from jaxsci.gaussians import DisjointRows, PartRows, WeightedSums

from ._nonlinear import NonlinearLaw

Law = LinearConstraint | NonlinearLaw
Laws = Law | Sequence[Any] | Mapping[int, Any] | None
"""One law, several, or `{channel: one or several}`."""


def as_laws(where: str, laws: Laws, shape: tuple[int, ...], dtype: Any) -> tuple[Law, ...]:
    """Laws of the flat field, of shape `(C, N_1, ..., N_d)`."""
    if laws is None:
        return ()
    if isinstance(laws, NonlinearLaw):
        return (laws,)
    if isinstance(laws, LinearConstraint):
        return (_of_field(where, laws, shape, dtype),)
    if isinstance(laws, Mapping):
        made, channels = [], shape[0]
        for channel, own in laws.items():
            if isinstance(channel, bool) or not isinstance(channel, int):
                raise TypeError(
                    f"`{where}(conservation=...)`: expected channels as whole numbers, got "
                    f"{channel!r}"
                )
            if not 0 <= channel < channels:
                raise ValueError(
                    f"`{where}(conservation=...)`: expected channels 0 to {channels - 1}, got "
                    f"{channel}"
                )
            for law in own if isinstance(own, list | tuple) else (own,):
                made.append(_of_channel(where, law, channel, shape, dtype))
        return tuple(made)
    if isinstance(laws, Sequence) and not isinstance(laws, str):
        return tuple(law for each in laws for law in as_laws(where, each, shape, dtype))
    raise TypeError(
        f"`{where}(conservation=...)`: expected a LinearConstraint or a NonlinearLaw, several, or "
        f"a mapping from channels to linear ones, got {type(laws).__name__}"
    )


def _of_field(
    where: str, law: LinearConstraint, shape: tuple[int, ...], dtype: Any
) -> LinearConstraint:
    (size,), channels, points = law.G.in_structure().shape, shape[0], math.prod(shape[1:])
    if size == channels * points:
        _check(where, law, shape if channels > 1 else shape[1:], dtype)
        return law
    if size == points:
        raise ValueError(
            f"`{where}(conservation=...)`: expected rows over the whole field, {channels} channels "
            f"of {points} points, got rows over {size} points; say which channel they are of, as "
            "{0: law}"
        )
    raise ValueError(
        f"`{where}(conservation=...)`: expected rows over the field, {channels * points} points, "
        f"got rows over {size}"
    )


def _of_channel(
    where: str, law: Any, channel: int, shape: tuple[int, ...], dtype: Any
) -> LinearConstraint:
    if not isinstance(law, LinearConstraint):
        raise TypeError(
            f"`{where}(conservation={{{channel}: ...}})`: expected a LinearConstraint, got "
            f"{type(law).__name__} (a NonlinearLaw is one of the whole field)"
        )
    (size,), channels, points = law.G.in_structure().shape, shape[0], math.prod(shape[1:])
    if size != points:
        raise ValueError(
            f"`{where}(conservation={{{channel}: ...}})`: expected rows over {points} points, got "
            f"rows over {size}"
        )
    _check(where, law, shape[1:], dtype)
    if channels == 1:
        return law
    if isinstance(law.G, DisjointRows):
        return LinearConstraint(PartRows(law.G, channel, channels), law.b, law.R)
    matrix = law.G.as_matrix()
    start, total = channel * points, channels * points
    whole = jnp.zeros((len(matrix), total), matrix.dtype).at[:, start : start + points].set(matrix)
    return LinearConstraint(lx.MatrixLinearOperator(whole), law.b, law.R)


def _check(where: str, law: LinearConstraint, shape: tuple[int, ...], dtype: Any) -> None:
    """Raises for a law of a grid of another shape (of as many points), or of another dtype."""
    held = law.G.in_structure().dtype
    if held != dtype:
        raise TypeError(
            f"`{where}(conservation=...)`: expected a law in {dtype}, as the prediction, got one "
            f"in {held}; use `law.astype(jnp.{dtype})`, or give the prediction in {held}"
        )
    if isinstance(law.G, WeightedSums) and len(shape) == len(law.G.shape) and law.G.shape != shape:
        raise ValueError(
            f"`{where}(shape=...)`: expected the shape of the law's grid, {law.G.shape}, got "
            f"{shape}"
        )
