"""The published layout of weights, read and written."""

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
import numpy as np
import pytest

from jaxsci.surrogates import (
    AttentiveNeuralProcess,
    anp_weights,
    load_anp_weights,
    save_anp_weights,
)


@pytest.fixture(scope="module")
def model():
    return AttentiveNeuralProcess(8, 2, dropout=0.3, key=jr.key(0))


@pytest.fixture
def weights(model):
    return {name: np.array(array) for name, array in anp_weights(model).items()}


def same(a, b):
    return bool(eqx.tree_equal(anp_weights(a), anp_weights(b)))


def test_file_and_back(model, tmp_path):
    path = tmp_path / "weights.of.a.model"  # no suffix is added
    save_anp_weights(path, model)
    save_anp_weights(path, model)
    other = AttentiveNeuralProcess(8, 2, key=jr.key(1))
    loaded = load_anp_weights(path, like=other)
    assert same(loaded, model)
    assert loaded.inference
    assert loaded.dropout == 0.1  # a setting of `like`, not in the file
    assert not load_anp_weights(path, like=other, inference=False).inference


def test_mapping_and_dtype(model, weights, x64):
    double = jax.tree.map(lambda a: a.astype(np.float64), weights)
    assert load_anp_weights(double, like=model).dtype == np.float32
    like = eqx.filter_eval_shape(
        lambda key: AttentiveNeuralProcess(8, 2, dtype=jnp.float64, key=key), jr.key(0)
    )
    loaded = load_anp_weights(weights, like=like)
    assert loaded.dtype == np.float64
    np.testing.assert_array_equal(loaded.decoder.output.weight, model.decoder.output.weight)


def test_each_problem_is_named(model, weights):
    first, second, *_, last = weights
    del weights[first]
    weights["extra.weight"] = np.zeros(3)
    weights[second] = np.zeros((2, 2), np.float32)
    weights[last][1] = np.nan
    with pytest.raises(ValueError, match="4 problems") as error:
        load_anp_weights(weights, like=model)
    message = str(error.value)
    assert f"missing array {first!r}" in message
    assert "unexpected array 'extra.weight'" in message
    assert f"{second!r} has shape (2, 2), expected" in message
    assert f"{last!r} is nan at index (1,)" in message


def test_other_sizes_are_pointed_out(weights):
    with pytest.raises(ValueError, match=r"like=AttentiveNeuralProcess"):
        load_anp_weights(weights)


def test_integers_are_refused(model, weights):
    name = next(iter(weights))
    weights[name] = weights[name].astype(int)
    with pytest.raises(TypeError, match="int64, expected real floats"):
        load_anp_weights(weights, like=model)


def test_absent_file(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_anp_weights(tmp_path / "none.npz")
