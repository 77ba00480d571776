"""What cannot be exported, and why, in words that name it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn

from jaxsci.operators.spectral import SpectralConv

from ._shapes import OpenShapes

_FFT = "the length of an FFT must be a number: use matrix products, or keep it with `_`"


class Refused(ValueError):
    """A model that cannot be exported."""


def refuse_fft(where: str, model: Any, open_shapes: OpenShapes) -> None:
    """Raises for a layer that insists on an FFT, whose length must be a number."""
    layers = jax.tree.leaves(model, is_leaf=lambda node: isinstance(node, SpectralConv))
    for layer in layers if open_shapes.examples else ():
        if isinstance(layer, SpectralConv) and "fft" in layer.methods:
            raise Refused(
                f"`{where}`: the model has a SpectralConv with method='fft', and the length of an "
                "FFT must be a number for `jax.export`; make the model with method='auto' or "
                "'matmul', or keep all sizes with `_`"
            )


def refuse_callbacks(where: str, jaxpr: ClosedJaxpr) -> None:
    """Raises for a call back into Python, which no other process can make."""
    for equation in _equations(jaxpr.jaxpr):
        name = equation.primitive.name
        if "callback" in name or name == "debug_print":
            raise Refused(
                f"`{where}`: the model calls back into this Python process (`{name}`), which a "
                "file cannot do; leave out `jax.debug.print`, `eqx.error_if`, `throw=True` and "
                "solvers on the host in what is exported"
            )


def refused_trace(where: str, error: Exception, least: Mapping[str, int]) -> Refused:
    """What to raise where a model cannot be traced: the model's own words, and a remedy."""
    kind, said = _words(error)
    names = ", ".join(f"{name} >= {size}" for name, size in least.items())
    if not least:
        return Refused(f"`{where}`: the model cannot be traced: {kind}: {said}")
    if "fft" in said.lower():
        remedy = _FFT
    elif "Inconclusive" in kind:
        remedy = "say more of the sizes with at_least=..., or keep one with `_`"
    else:
        remedy = "where Python has to know a size, keep it with `_`"
    return Refused(
        f"`{where}`: the model cannot be traced for all sizes with {names}: {kind}: {said}; "
        f"{remedy}"
    )


def refused_lowering(where: str, error: Exception, platforms: Sequence[str]) -> Refused:
    """What to raise where a model can be traced, but not written down for these platforms."""
    kind, said = _words(error)
    return Refused(
        f"`{where}`: the model was traced, but a file for {', '.join(platforms)} cannot hold it: "
        f"{kind}: {said}{f'; {_FFT}' if 'fft' in said.lower() else ''}"
    )


def _words(error: Exception) -> tuple[str, str]:
    """The kind of error, and what it says without its links."""
    said = " ".join(str(error).split())
    for end in ("Please see", "This error arises", "The error occurred", "See https"):
        said = said.split(end)[0].strip()
    return type(error).__name__, said


def _equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    for equation in jaxpr.eqns:
        yield equation
        inside = jax.tree.leaves(
            list(equation.params.values()), is_leaf=lambda node: isinstance(node, ClosedJaxpr)
        )
        for inner in inside:
            if isinstance(inner, ClosedJaxpr | Jaxpr):
                yield from _equations(inner.jaxpr if isinstance(inner, ClosedJaxpr) else inner)
