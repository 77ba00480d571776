"""Checkpoints: the same model again in another process, and every refusal with its reason."""

import functools
import json
import subprocess
import sys
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.checkpoints import (
    load_checkpoint,
    read_checkpoint,
    save_checkpoint,
    signature,
    without_keys,
    write_file,
)
from jaxsci.conservation import integral
from jaxsci.constraining import constrain
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann
from jaxsci.operators.constrained import make_operator
from jaxsci.operators.deeponet import DeepONet
from jaxsci.operators.fno import FNO
from jaxsci.operators.spectral import Sine
from jaxsci.precision import Policy
from jaxsci.surrogates import AttentiveNeuralProcess

KEY = jax.random.key(3)
FORMATS = ("equinox", "orbax")


def operator(name="fno-matched-extended-blended", value=2.0, modes=6, seed=3):
    conditions = BoundaryConditions(
        "x", {("x", "low"): Dirichlet(value), ("x", "high"): Neumann()}, length={"x": 1.0}
    )
    key = jax.random.key(seed)
    return make_operator(name, 1, 1, conditions, modes=modes, width=8, layers=2, key=key)


MODELS = {
    "operator": operator,
    "boon": lambda: operator("boon"),
    "bases": lambda: FNO(1, 1, (4, 4), width=8, bases=Sine(), factorization="tucker", key=KEY),
    "policy": lambda: FNO(1, 1, 6, width=8, policy=Policy.parse("bf16"), norm="group", key=KEY),
    "deeponet": lambda: DeepONet(10, 2, width=8, terms=4, key=KEY),
    "anp": lambda: AttentiveNeuralProcess(16, key=KEY),
    "mlp": lambda: eqx.nn.MLP(2, 2, 8, 1, activation=jax.nn.gelu, key=KEY),
    "other": lambda: {
        "key": jax.random.split(KEY, 2),
        "raw": np.arange(3.0),
        "nested": {("a", 1): jnp.bfloat16(2), ("b", 2): [None, True, 1 + 2j, float("inf")]},
        "partial": functools.partial(jnp.sum, axis=0),
        "dtype": jnp.dtype("float16"),
    },
}


def same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        if not eqx.is_array(a):
            partial = isinstance(a, functools.partial)
            assert (
                (a.func, a.args, a.keywords) == (b.func, b.args, b.keywords) if partial else a == b
            )
            continue
        assert isinstance(b, jax.Array) == isinstance(a, jax.Array) and a.dtype == b.dtype
        assert np.asarray(without_keys(a)).tobytes() == np.asarray(without_keys(b)).tobytes()


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("name", MODELS)
def test_same_again(name, format, tmp_path):
    if format == "orbax":
        pytest.importorskip("orbax.checkpoint", reason="needs jaxsci[orbax]")
    model = MODELS[name]()
    save_checkpoint(tmp_path / "model", model, format=format)
    same(load_checkpoint(tmp_path / "model"), model)
    same(load_checkpoint(tmp_path / "model", like=model), model)


@pytest.mark.multidevice
@pytest.mark.parametrize("format", FORMATS)
def test_divided_as_like_is(format, tmp_path):
    if format == "orbax":
        pytest.importorskip("orbax.checkpoint", reason="needs jaxsci[orbax]")
    mesh = jax.sharding.Mesh(np.array(jax.devices()[:4]), ("rows",))
    parted = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("rows"))
    model = {"a": jax.device_put(jnp.arange(8.0), parted)}
    save_checkpoint(tmp_path / "model", model, format=format)
    found = load_checkpoint(tmp_path / "model", like=jax.tree.map(jnp.zeros_like, model))["a"]
    assert found.tolist() == list(range(8)) and found.sharding.is_equivalent_to(parted, 1)


def test_takes_the_numbers_of_the_file(tmp_path):
    model, other = operator(seed=3), operator(seed=4)
    save_checkpoint(tmp_path / "model", model)
    same(load_checkpoint(tmp_path / "model", like=other), model)


def test_in_another_process(tmp_path):
    """No code but that of the library: the model is built from the file."""
    model = operator()
    x = jnp.linspace(0, 1, 32)[None]
    save_checkpoint(tmp_path / "model", model, args=(x, {("x", "high"): 0.5}))
    script = (
        "import sys, jax.numpy as jnp; from jaxsci.checkpoints import load_checkpoint\n"
        "model = load_checkpoint(sys.argv[1])\n"
        "y = model(jnp.linspace(0, 1, 32)[None], {('x', 'high'): 0.5})\n"
        "print(y.tobytes().hex())"
    )
    command = [sys.executable, "-c", script, str(tmp_path / "model")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    expected = model(x, {("x", "high"): 0.5})
    found = np.frombuffer(bytes.fromhex(done.stdout.strip()), np.float32)
    np.testing.assert_allclose(found, np.asarray(expected).ravel(), rtol=1e-6, atol=1e-7)


def test_says_what_it_is(tmp_path):
    x, g = jnp.zeros((1, 32)), jnp.zeros(())
    args = (x, {("x", "high"): g})
    save_checkpoint(tmp_path / "model", operator(), args=args, about={"error": 0.01})
    said = read_checkpoint(tmp_path / "model")
    assert set(said["versions"]) == {"jaxsci", "jax"} and said["about"] == {"error": 0.01}
    assert said["settings"][".conditions.faces[('x', 'low')].value"] == [2.0]
    assert said["settings"][".operator.blocks[0].conv.modes[0]"] == 6
    assert signature(said["args"]) == signature(args)


def refuses(message, path, *rest, **options):
    with pytest.raises(ValueError, match=message):
        load_checkpoint(path, *rest, **options)


def test_refuses_another_model(tmp_path):
    path = tmp_path / "model"
    save_checkpoint(path, operator())
    refuses(
        r"conv\.weight\.array was float32\[4,2,8,8\], is float32\[5,2,8,8\]",
        path,
        operator(modes=8),
    )
    refuses(r"\.operator was FNO, is BOON.* more\)", path, operator("boon"))
    refuses(r"faces\[\('x', 'low'\)\]\.value was \[2.0\], is \[3.0\]", path, operator(value=3.0))
    wide = eqx.tree_at(
        lambda m: m.operator.blocks[0].conv.bias, operator(), jnp.zeros(8, jnp.float16)
    )
    refuses(r"bias was float32\[8\], is float16\[8\]; build", path, wide)


def test_a_law_that_asks_for_something_else_is_another_model(tmp_path):
    grid = Grid.uniform(x=(0.0, 1.0, 12))
    network = eqx.nn.MLP(12, 12, 4, 1, key=KEY)
    ends = BoundaryConditions.on(grid, {"x": Dirichlet()})

    def constrained(total=0.5, part=1.0, wall=0.0):
        law = integral(grid, total, domain={"x": (0.0, part)})
        values = {("x", "low"): jnp.asarray(wall), ("x", "high"): jnp.zeros(())}
        given = {"boundary": ends, "values": values, "shape": grid.shape}
        return constrain(network, conservation=law, variance=0.1, **given)

    path = tmp_path / "a.jaxsci"
    save_checkpoint(path, constrained())
    again = load_checkpoint(path, like=constrained())
    assert eqx.tree_equal(again, constrained())
    assert eqx.tree_equal(load_checkpoint(path), constrained())
    with pytest.raises(ValueError, match=r"conservation\.b.*\[0\.5\].*\[0\.69"):
        load_checkpoint(path, like=constrained(total=0.7))
    with pytest.raises(ValueError, match=r"conservation\.G.*SHA-256"):
        load_checkpoint(path, like=constrained(part=0.5))
    with pytest.raises(ValueError, match=r"values.*\[0\.0\].*\[2\.0\]"):
        load_checkpoint(path, like=constrained(wall=2.0))


def test_refuses_damage(tmp_path):
    path = tmp_path / "model"
    save_checkpoint(path, operator())
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    refuses("is damaged", path)
    path.write_text("something else\n")
    refuses("a file that starts with b'something else'", path)
    refuses("there is no such file", tmp_path / "none")
    refuses("a folder without it", tmp_path)


def test_refuses_what_a_file_cannot_describe(tmp_path):
    path = tmp_path / "model"
    model = {"f": lambda x: x, "a": jnp.ones(3)}
    save_checkpoint(path, model)
    refuses("holds 'function .*<lambda>', which a file cannot describe; pass `like=`", path)
    assert load_checkpoint(path, like={**model, "a": jnp.zeros(3)})["a"].tolist() == [1.0] * 3


def test_refuses_packages_that_are_not_trusted(tmp_path):
    """What a file names would be imported and run."""
    about: dict[str, Any] = {"versions": {}, "args": None, "about": {}}
    for name in ("os.system", "subprocess.run"):
        write_file(tmp_path / "m", "jaxsci model 1", {**about, "model": {"import": name}}, [])
        refuses(f"names '{name}'.*imported and run", tmp_path / "m")
    assert load_checkpoint(tmp_path / "m", trusted=("subprocess",)) is subprocess.run
    # Through a trusted package to one that is not.
    write_file(
        tmp_path / "m",
        "jaxsci model 1",
        {**about, "model": {"import": "jaxsci.checkpoints._files.os"}},
        [],
    )
    refuses("is not of that package", tmp_path / "m")


def test_refuses_fields_of_another_version(tmp_path):
    path = tmp_path / "model"
    save_checkpoint(path, Sine())
    text = path.read_bytes().split(b"\n", 3)[2].decode()
    about = json.loads(text)
    for changed, message in (
        ({"samples": "ends", "old": 1}, "no field 'old'"),
        ({}, "a new field 'samples'"),
    ):
        about["model"]["fields"] = changed
        write_file(path, "jaxsci model 1", about, [])
        refuses(f"{message} in the installed version", path)
    about["model"]["class"] = "jaxsci.operators.spectral.Sinus"
    write_file(path, "jaxsci model 1", about, [])
    refuses("there is no 'jaxsci.operators.spectral.Sinus'", path)


def test_refuses_what_json_cannot_hold(tmp_path):
    for about in ({"score": jnp.ones(2)}, 3.0):
        with pytest.raises(TypeError, match="about=.*expected a mapping that JSON can hold"):
            save_checkpoint(tmp_path / "model", operator(), about=about)
    assert not list(tmp_path.iterdir())


def test_folder_is_replaced_whole(tmp_path, monkeypatch):
    """Killed after the arrays, the folder still holds the model that it held."""
    pytest.importorskip("orbax.checkpoint", reason="needs jaxsci[orbax]")
    path, first = tmp_path / "model", operator(seed=3)
    save_checkpoint(path, first, format="orbax")
    with monkeypatch.context() as patch:
        patch.setattr("jaxsci.checkpoints._orbax.write_file", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            save_checkpoint(path, operator(seed=4), format="orbax")
    same(load_checkpoint(path), first)
    for seed in (5, 6):
        save_checkpoint(path, operator(seed=seed), format="orbax")
        same(load_checkpoint(path), operator(seed=seed))
    assert len(list(path.iterdir())) == 2


def test_refuses_another_format(tmp_path):
    with pytest.raises(ValueError, match="expected 'equinox' or 'orbax', got 'pickle'"):
        save_checkpoint(tmp_path / "model", operator(), format="pickle")
