"""A function in few of JAX's operations: no calls, nothing of this library, constants computed."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal

from jaxsci.errors import is_concrete
from jaxsci.operators.spectral import PRIMITIVES

_LOOPS = ("scan", "while", "cond")


def inlined(function: Callable[..., Any], structs: Any) -> ClosedJaxpr:
    """The function, of flat arguments, for a reader that knows few operations.

    Calls (`jit`, custom derivatives) are replaced by what they call, primitives of this library by
    what defines them, padding by concatenation; what does not depend on the arguments is computed.
    """
    jaxpr = jax.make_jaxpr(function)(*structs)
    return jax.make_jaxpr(partial(_rewritten, jaxpr.jaxpr, jaxpr.consts))(*structs)


def evaluate(jaxpr: ClosedJaxpr, *args: Any) -> list[Any]:
    """Its results, operation by operation."""
    return _walk(jaxpr.jaxpr, jaxpr.consts, args, lambda e, x: e.primitive.bind(*x, **e.params))


def _rewritten(jaxpr: Jaxpr, consts: Any, *args: Any) -> list[Any]:
    return _walk(jaxpr, consts, args, _rewrite)


def _rewrite(equation: JaxprEqn, inputs: list[Any]) -> Any:
    primitive, params = equation.primitive, equation.params
    inner = next((params[k] for k in ("jaxpr", "call_jaxpr", "fun_jaxpr") if k in params), None)
    if isinstance(inner, ClosedJaxpr) and primitive.name not in _LOOPS:
        return _rewritten(inner.jaxpr, inner.consts, *inputs)
    sizes = [n for variable in equation.outvars for n in getattr(variable.aval, "shape", ())]
    if is_concrete(inputs) and all(isinstance(n, int) for n in sizes):
        with jax.ensure_compile_time_eval():
            return primitive.bind(*inputs, **params)
    own = PRIMITIVES.get(primitive) or _SIMPLER.get(primitive.name)
    if own is not None:
        jaxpr = jax.make_jaxpr(partial(own, **params))(*inputs)
        return _walk(jaxpr.jaxpr, jaxpr.consts, inputs, _inner)
    return primitive.bind(*inputs, **params)


def _inner(equation: JaxprEqn, inputs: list[Any]) -> Any:
    """As `_rewrite`, but what replaces an operation may have it again."""
    if equation.primitive.name in _SIMPLER:
        return equation.primitive.bind(*inputs, **equation.params)
    return _rewrite(equation, inputs)


def _walk(jaxpr: Jaxpr, consts: Any, args: Any, apply: Callable[..., Any]) -> list[Any]:
    known: dict[Any, Any] = dict(zip(jaxpr.constvars, consts, strict=True))
    known.update(zip(jaxpr.invars, args, strict=True))

    def value(atom: Any) -> Any:
        return atom.val if isinstance(atom, Literal) else known[atom]

    for equation in _needed(jaxpr):
        results = apply(equation, [value(atom) for atom in equation.invars])
        results = results if isinstance(results, list | tuple) else [results]
        known.update(zip(equation.outvars, results, strict=True))
    return [value(atom) for atom in jaxpr.outvars]


def _needed(jaxpr: Jaxpr) -> list[JaxprEqn]:
    """The equations on which the results depend."""
    wanted = {id(atom) for atom in jaxpr.outvars}
    kept = []
    for equation in reversed(jaxpr.eqns):
        if any(id(variable) in wanted for variable in equation.outvars):
            wanted.update(id(atom) for atom in equation.invars)
            kept.append(equation)
    return kept[::-1]


def _pad(x: Any, filling: Any, *, padding_config: Any) -> Any:
    """Padding on the outside, as a concatenation."""
    if any(low < 0 or high < 0 or inner for low, high, inner in padding_config):
        return lax.pad(x, filling, padding_config)
    for axis, (low, high, _) in enumerate(padding_config):
        sizes = [(*x.shape[:axis], n, *x.shape[axis + 1 :]) for n in (low, high)]
        ends = [jnp.broadcast_to(filling, size) if size[axis] else None for size in sizes]
        parts = [part for part in (ends[0], x, ends[1]) if part is not None]
        x = lax.concatenate(parts, axis) if len(parts) > 1 else x
    return x


def _concatenate(*parts: Any, dimension: int) -> Any:
    """Without parts of which there is nothing."""
    full = [part for part in parts if part.shape[dimension] != 0]
    return full[0] if len(full) == 1 else lax.concatenate(full, dimension)


_SIMPLER = {"pad": _pad, "concatenate": _concatenate}
