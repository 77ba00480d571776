"""Compilation of programs of hundreds of small loops, for someone who waits for the first line."""

import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, ParamSpec, TypeVar, cast

import equinox as eqx
import jax
from jax.extend.core import get_opaque_trace_state

P = ParamSpec("P")
T = TypeVar("T")

# XLA for CPUs had two ways to compile a loop until jaxlib 0.11. The older one takes about half the
# time (seconds), and makes programs of sparse solvers that are 5 to 35 % slower.
_QUICK = {"xla_cpu_use_fusion_emitters": False}


class compiled(Generic[P, T]):
    """`equinox.filter_jit`, by the quicker compiler if that is there to be had.

    JAX takes options of its compiler only where nothing is being traced: in `jit`, `grad` and
    `vmap` the function becomes a part of what these compile, as usual.
    """

    def __init__(self, function: Callable[P, T]):
        with_options = cast(Any, eqx.filter_jit)
        self._usual = eqx.filter_jit(function)
        self._quick = functools.cache(lambda: with_options(function, compiler_options=_QUICK))

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._chosen(*args, **kwargs)

    def lower(self, *args: P.args, **kwargs: P.kwargs) -> Any:
        """The traced program: its `compile()` is what the next call would wait for."""
        return self._chosen.lower(*args, **kwargs)

    @property
    def _chosen(self) -> Any:
        outside = get_opaque_trace_state() == _no_trace()
        return self._quick() if outside and _offered(jax.default_backend()) else self._usual


def compile_together(*calls: tuple[Any, ...]) -> None:
    """Compiles what calls of `compiled` functions, `(function, *args)`, need, at the same time.

    Threads have settings of JAX of their own (e.g. `with jax.enable_x64():`). So all is traced in
    this thread, and only XLA works in others.
    """
    with ThreadPoolExecutor(len(calls)) as pool:
        compiling = [pool.submit(f.lower(*args).compile) for f, *args in calls]
    for one in compiling:
        one.result()


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
