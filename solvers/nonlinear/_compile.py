"""Compilation of programs of hundreds of small loops, for someone who waits for the first line."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ParamSpec, TypeVar, cast

import equinox as eqx
import jax
from jax.extend.core import get_opaque_trace_state

P = ParamSpec("P")
T = TypeVar("T")

# XLA for CPUs had two ways to compile a loop until jaxlib 0.11. The older one takes about half the
# time (seconds), and makes programs of sparse solvers that are 5 to 35 % slower.
_QUICK = {"xla_cpu_use_fusion_emitters": False}


def compiled(function: Callable[P, T]) -> Callable[P, T]:
    """`equinox.filter_jit`, by the quicker compiler if that is there to be had.

    JAX takes options of its compiler only where nothing is being traced: in `jit`, `grad` and
    `vmap` the function becomes a part of what these compile, as usual.
    """
    usual, with_options = eqx.filter_jit(function), cast(Any, eqx.filter_jit)
    quick = functools.cache(lambda: with_options(function, compiler_options=_QUICK))

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        outside = get_opaque_trace_state() == _no_trace()
        chosen = quick() if outside and _offered(jax.default_backend()) else usual
        return chosen(*args, **kwargs)

    return call


@functools.cache
def _offered(backend: str) -> bool:
    if backend != "cpu":
        return False
    try:
        jax.jit(lambda: 0, compiler_options=_QUICK).lower().compile()
    except jax.errors.JaxRuntimeError:  # no such option
        return False
    return True


@functools.cache
def _no_trace():
    """The state outside all transformations, which is that of a new thread."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(get_opaque_trace_state).result()
