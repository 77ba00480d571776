"""Options of the compiler: used where nothing is traced, and nowhere else."""

from concurrent.futures import ThreadPoolExecutor

import jax
import jax.numpy as jnp
import pytest

from jaxsci.solvers.nonlinear import _compile
from jaxsci.solvers.nonlinear._compile import compile_together, compiled


@compiled
def _cube(x, times=1):
    return times * x**3


@pytest.fixture
def taken(monkeypatch):
    """Which programs were compiled with options, of a way to do so that all compilers have."""
    taken = []
    usual = _compile.eqx.filter_jit

    def spy(function, **options):
        if not options:
            return usual(function)
        return lambda *args: taken.append(args) or usual(function)(*args)

    monkeypatch.setattr(_compile.eqx, "filter_jit", spy)
    monkeypatch.setattr(_compile, "_offered", lambda backend: True)
    return taken


def test_the_result_is_that_of_the_function_under_every_transformation():
    x, closed = jnp.arange(3.0), lambda a: _cube(jnp.ones(()), 2) * a + _cube(a)
    assert jnp.array_equal(_cube(x, times=2), 2 * x**3)
    assert jnp.array_equal(jax.vmap(closed)(x), 2 * x + x**3)
    assert float(jax.jit(closed)(2.0)) == 12.0
    assert float(jax.grad(closed)(2.0)) == 14.0
    assert float(jax.jvp(closed, (2.0,), (1.0,))[1]) == 14.0
    assert float(jax.jit(jax.grad(lambda a: jnp.sum(jax.vmap(closed)(a * x))))(1.0)) == 33.0


def test_options_are_given_outside_of_transformations_only(taken):
    square = compiled(lambda x: x * x)
    for transformed in (jax.jit(square), jax.grad(square), lambda x: jax.vmap(square)(x[None])):
        transformed(jnp.ones(()))
    jax.jit(lambda: square(jnp.ones(())))()
    assert not taken
    square(jnp.ones(()))
    with ThreadPoolExecutor(1) as pool:
        pool.submit(square, jnp.ones(())).result()
    assert len(taken) == 2


def test_what_was_compiled_together_is_not_compiled_again(caplog):
    first, second = compiled(lambda x: jnp.sin(x) + 1), compiled(lambda x, times: times * x)
    x = jnp.arange(3.0)
    compile_together((first, x), (second, x, 2))
    with jax.log_compiles():
        values = first(x), second(x, 2)
        assert "XLA compilation of jit(<lambda>)" not in caplog.text
        second(x, 3)
        assert "XLA compilation of jit(<lambda>)" in caplog.text
    assert jnp.allclose(values[0], jnp.sin(x) + 1) and jnp.array_equal(values[1], 2 * x)


def test_what_does_not_compile_is_said():
    def fails(x):
        raise ArithmeticError("in the trace")

    with pytest.raises(ArithmeticError, match="in the trace"):
        compile_together((compiled(lambda x: x), jnp.ones(())), (compiled(fails), jnp.ones(())))


def test_what_a_compiler_does_not_know_is_not_asked_of_it(monkeypatch):
    assert not _compile._offered("gpu")
    monkeypatch.setattr(_compile, "_QUICK", {"no_such_option": True})
    _compile._offered.cache_clear()
    assert not _compile._offered("cpu")
    _compile._offered.cache_clear()
