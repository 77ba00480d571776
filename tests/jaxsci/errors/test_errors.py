"""Near misses, finiteness and concreteness."""

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given

from jaxsci.errors import is_concrete, lookup, require_finite

TABLE = {"trapezoid": 1, "right": 2, "cells": 3}


@given(st.sampled_from(sorted(TABLE)), st.integers(0, 20))
def test_a_name_with_one_letter_missing_is_a_near_miss(name, at):
    at %= len(name)
    assert lookup("rule", name, TABLE) == TABLE[name]
    with pytest.raises(ValueError, match=f"did you mean.*{name!r}.*Known: trapezoid, right, cells"):
        lookup("rule", name[:at] + name[at + 1 :], TABLE)


@pytest.mark.parametrize("name", ["zzz", "", 3, None])
def test_a_name_far_from_all_lists_them(name):
    with pytest.raises(ValueError, match="unknown rule .*Known: trapezoid, right, cells") as info:
        lookup("rule", name, TABLE)
    assert "did you mean" not in str(info.value)


def test_concreteness_is_told_of_nested_arrays():
    seen = []

    @jax.jit
    def f(x):
        seen.extend([is_concrete(x), is_concrete({"a": (1.0, x)}), is_concrete(1.0, np.ones(2))])
        require_finite("f", "x", x)
        return x

    f(jnp.array([jnp.nan]))
    assert seen == [False, False, True]
    assert is_concrete(jnp.ones(2), [np.ones(1), None, "text"])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_the_first_number_that_is_not_finite_is_named(value):
    array = np.zeros((2, 3))
    require_finite("f", "x", array)
    array[1, 1:] = value
    with pytest.raises(ValueError, match=r"`f\(x=...\)`.*at index \(1, 1\) \(2 of 6 entries"):
        require_finite("f", "x", array)
    with pytest.raises(ValueError, match="^`x`: expected finite numbers"):
        require_finite(None, "x", array)
    with pytest.raises(ValueError, match=r"at index \(\) \(1 of 1"):
        require_finite("f", "x", value)


def test_lookup_of_pairs():
    table = {("x", "low"): 1, ("x", "high"): 2}
    assert lookup("face", ("x", "high"), table) == 2
    with pytest.raises(
        ValueError, match=r"unknown face \('y', 'low'\); did you mean \('x', 'low'\)"
    ):
        lookup("face", ("y", "low"), table)
