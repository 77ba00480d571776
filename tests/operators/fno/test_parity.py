"""The FNO is neuraloperator's: its golden forward passes, and NumPy where there are none."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.operators.fno import load_neuraloperator, neuraloperator_weights

spec = importlib.util.spec_from_file_location("reference", Path(__file__).with_name("reference.py"))
reference = importlib.util.module_from_spec(spec)
spec.loader.exec_module(reference)


@eqx.filter_jit
def batched(model, x):
    return jax.vmap(model)(x)


def error(y, expected):
    return float(np.abs(np.subtract(y, expected)).max() / np.sqrt((np.abs(expected) ** 2).mean()))


@pytest.mark.data
@pytest.mark.parametrize("name", ["fno1d", "fno2d", "fno2d_classic", "tfno2d_tucker"])
def test_golden_forward_passes_at_every_resolution(data_dir, name):
    path = data_dir / "fno" / f"{name}.npz"
    model = load_neuraloperator(path)
    with np.load(path) as file:
        pairs = [(file[k], file["y" + k[1:]]) for k in file.files if k.startswith("x")]
        weights = {k[2:]: file[k] for k in file.files if k.startswith("w/")}
        config = json.loads(str(file["cfg"]))
    for x, y in pairs:
        assert error(batched(model, jnp.asarray(x)), y) <= 1e-5
    again = neuraloperator_weights(model)
    assert again.keys() == weights.keys()
    assert all(np.array_equal(again[k], weights[k]) for k in weights)
    # The independent implementation reads the same description: it is checked here, too.
    x, y = pairs[-1]
    assert error(reference.forward(weights, config, x.astype(np.float64)), y) <= 1e-5


CASES = {
    "3d, padded, soft gating, instance norm": (
        {
            "n_modes": (4, 3, 4),
            "domain_padding": [0.25, 0.2, 0.0],
            "fno_skip": "soft-gating",
            "norm": "instance_norm",
        },
        (6, 5, 7),
        None,
    ),
    "1d, odd grid, group norm, identity": (
        {"n_modes": (5,), "fno_skip": "identity", "norm": "group_norm"},
        (11,),
        None,
    ),
    "2d, odd axes, CP, ratios": (
        {
            "n_modes": (4, 5),
            "factorization": "CP",
            "lifting_channel_ratio": 1.5,
            "channel_mlp_expansion": 1.25,
            "channel_mlp_skip": "linear",
        },
        (7, 9),
        3,
    ),
    "2d, TT, no coordinates": (
        {"n_modes": (4, 6), "factorization": "TT", "positional_embedding": None},
        (6, 8),
        (3, 2, 4),
    ),
    "3d, Tucker, modes fill the grid": (
        {"n_modes": (4, 4, 5), "factorization": "Tucker"},
        (4, 5, 5),
        (3, 2, 3, 2, 2),
    ),
    "2d, preactivation, stabilizer, group norm": (
        {"n_modes": (4, 4), "preactivation": True, "stabilizer": "tanh", "norm": "group_norm"},
        (6, 8),
        None,
    ),
    "2d, no channel MLP, norm, padded": (
        {
            "n_modes": (4, 3),
            "use_channel_mlp": False,
            "norm": "group_norm",
            "domain_padding": 0.25,
        },
        (6, 8),
        None,
    ),
    "1d, no skips": (
        {"n_modes": (4,), "fno_skip": None, "channel_mlp_skip": None},
        (8,),
        None,
    ),
    "1d, complex": ({"n_modes": (5,), "complex_data": True}, (9,), None),
    "2d, complex, stabilizer, norm": (
        {
            "n_modes": (4, 5),
            "complex_data": True,
            "stabilizer": "tanh",
            "norm": "group_norm",
            "channel_mlp_skip": "soft-gating",
        },
        (7, 6),
        None,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_every_option_against_numpy(x64, case):
    config, shape, ranks = CASES[case]
    weights = reference.weights(config, ranks)
    rng = np.random.default_rng(1)
    x = rng.normal(size=(2, 2, *shape))
    if config.get("complex_data"):
        x = x + 1j * rng.normal(size=x.shape)
    model = load_neuraloperator(weights, config=config)
    assert error(batched(model, jnp.asarray(x)), reference.forward(weights, config, x)) < 1e-12
    again = neuraloperator_weights(model)
    assert all(np.array_equal(again[k], weights[k]) for k in weights)


def base(**changes):
    config = {"n_modes": (4, 3)} | changes
    return reference.weights(config), config


def test_a_state_dict_alone_says_what_it_can():
    weights, config = base(norm="group_norm", fno_skip="soft-gating")
    metadata = {"args": ((4, 3), 2), "out_channels": 2, "norm": "group_norm", "_version": "0.1.0"}
    models: list[Any] = [
        load_neuraloperator(weights),
        load_neuraloperator(weights | {"_metadata": metadata}),
        load_neuraloperator({f"w/{name}": a for name, a in weights.items()}, config=config),
    ]
    assert len({jax.tree.structure(model) for model in models[:2]}) == 2  # 4 modes or 4 of 2 .. 3
    assert models[0].blocks[0].conv.modes == (4, 2) and models[1].blocks[0].conv.modes == (4, 3)
    assert models[0].blocks[0].skip.weight.shape == (4,) and len(models[0].blocks[0].norms) == 2
    assert models[0].lifting.layers[0].weight.dtype == jnp.float32  # 64-bit types are off


@pytest.mark.parametrize(
    "change, match",
    [
        (lambda w: w.pop("fno_blocks.convs.1.bias"), "1 problem: missing array 'fno_blocks.convs"),
        (lambda w: w.update(more=np.ones(2)), "unexpected array 'more'"),
        (
            lambda w: w.update({"lifting.fcs.1.bias": np.ones(5)}),
            r"'lifting.fcs.1.bias' has shape \(5,\), expected \(4,\)",
        ),
        (lambda w: w["lifting.fcs.0.weight"].fill(np.nan), r"is nan at index \(0, 0, 0\)"),
        (
            lambda w: w.update({"lifting.fcs.1.bias": np.ones(4, complex)}),
            "'lifting.fcs.1.bias' is complex128, expected real floats",
        ),
        (lambda w: w.pop("lifting.fcs.0.weight"), "state dict of an FNO, got no 'lifting.fcs.0"),
        (lambda w: w.pop("fno_blocks.convs.0.weight.tensor"), "no spectral weight"),
    ],
)
def test_wrong_files_are_named(change, match):
    weights, config = base()
    change(weights)
    with pytest.raises(ValueError, match=match):
        load_neuraloperator(weights, config=config)


@pytest.mark.parametrize(
    "config, match",
    [
        ({"separable": True}, "`separable=True` is not supported"),
        ({"resolution_scaling_factor": 2}, "`resolution_scaling_factor=2` is not supported"),
        ({"max_n_modes": (8, 8)}, r"`max_n_modes=\(8, 8\)` is not supported; expected None"),
        ({"fno_block_precision": "half"}, "`fno_block_precision='half'` is not supported"),
        ({"norm": "batch_norm"}, "unknown norm of neuraloperator 'batch_norm'"),
        ({"n_modes": (6, 3)}, r"`n_modes=\(6, 3\)` needs weights for \(6, 2\) modes, got \(4, 2\)"),
        ({"in_channels": 3}, "the lifting takes 4 channels"),
        ({"positional_embedding": "sine"}, "expected 'grid' or None"),
        ({"non_linearity": "relu"}, "expected gelu, got 'relu'"),
        ({"stabilizer": "clip"}, "expected None or 'tanh', got 'clip'"),
        ({"hiden_channels": 4}, "unknown argument 'hiden_channels'"),
    ],
)
def test_what_we_do_not_have_is_refused(config, match):
    weights, _ = base()
    with pytest.raises(ValueError, match=match):
        load_neuraloperator(weights, config=config)


def test_separable_weights_are_refused():
    weights, _ = base()
    name = "fno_blocks.convs.0.weight.tensor"
    with pytest.raises(ValueError, match="has 3 axes, expected 4; separable"):
        load_neuraloperator(weights | {name: weights[name][0]})
