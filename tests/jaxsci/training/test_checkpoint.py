"""A killed and resumed run ends as if nothing had happened; a wrong checkpoint is refused."""

import csv
import hashlib
import io
import json
import random
import runpy
import signal
import subprocess
import sys
import time
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsci.training import NonFiniteLoss, fit, load_model

SCRIPT = Path(__file__).with_name("kill_script.py")


def same_bits(one, two):
    one, two = jax.tree.leaves(one), jax.tree.leaves(two)
    assert len(one) == len(two)
    for a, b in zip(one, two, strict=True):
        if eqx.is_array(a):
            assert a.dtype == b.dtype
            assert np.asarray(a).tobytes() == np.asarray(b).tobytes()


def without_seconds(history):
    return [{k: v for k, v in row.items() if k != "seconds"} for row in history.rows]


def same_run(one, two):
    same_bits(one.last_model, two.last_model)
    same_bits(one.model, two.model)
    assert without_seconds(one.history) == without_seconds(two.history)
    assert (one.best_epoch, one.best_loss) == (two.best_epoch, two.best_loss)


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


@pytest.fixture(scope="module")
def uninterrupted(script, tmp_path_factory):
    return script["run"](tmp_path_factory.mktemp("uninterrupted"))


def start(folder, *arguments):
    command = [sys.executable, str(SCRIPT), str(folder), *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_after(process, lines, delay):
    """SIGKILL from outside, some time after the process has written `lines` files."""
    for _ in range(lines):
        assert process.stdout.readline(), process.stderr.read()
    time.sleep(delay)
    process.kill()
    process.communicate()
    return process.returncode


@pytest.mark.slow
def test_killed_runs_end_in_the_same_bits(script, uninterrupted, tmp_path):
    for place, count in (("checkpoint.eqx/half", 4), ("checkpoint.eqx/after", 3)):
        process = start(tmp_path, place, count)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
    rng = random.Random(3)
    process = start(tmp_path)
    assert kill_after(process, rng.randrange(3, 6), rng.uniform(0, 0.005)) == -signal.SIGKILL
    result = script["run"](tmp_path)
    assert 20 < result.resumed_at < 48
    same_run(result, uninterrupted)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "history.csv").read_text())))
    assert [int(row["epoch"]) for row in rows] == list(range(1, 7))
    assert not list(tmp_path.glob("*.part"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "place", ["checkpoint.eqx/before", "history.csv/half", "history.csv/after"]
)
def test_kills_around_each_rename(script, uninterrupted, tmp_path, place):
    for count in (1, 2, 3):
        process = start(tmp_path, place, count)
        _, errors = process.communicate()
        assert process.returncode == -signal.SIGKILL, errors
    same_run(script["run"](tmp_path), uninterrupted)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_kills_at_random_moments(script, uninterrupted, tmp_path, seed):
    rng = random.Random(seed)
    for _ in range(3):
        kill_after(start(tmp_path), rng.randrange(1, 6), rng.uniform(0, 0.02))
    same_run(script["run"](tmp_path), uninterrupted)


def test_a_finished_run_is_returned_and_can_be_prolonged(script, uninterrupted, tmp_path):
    script["run"](tmp_path, epochs=4)
    (tmp_path / "history.csv").unlink()  # as a kill before its last write would
    again = script["run"](tmp_path, epochs=4)
    assert again.resumed_at == 4 * 8
    assert len(again.history) == 4
    assert len((tmp_path / "history.csv").read_text().splitlines()) == 5
    same_run(script["run"](tmp_path), uninterrupted)
    with pytest.raises(ValueError, match="epochs=4.*has gone through 6 epochs"):
        script["run"](tmp_path, epochs=4)


def test_load_model(script, uninterrupted, tmp_path):
    result = script["run"](tmp_path, epochs=3)
    like = script["model"](jax.random.key(5))
    same_bits(load_model(tmp_path, like), result.model)
    with pytest.raises(ValueError, match=r"model\['in'\] was float32\[2,16\], is float32\[2,8\]"):
        load_model(tmp_path, like | {"in": jnp.zeros((2, 8))})
    with pytest.raises(ValueError, match="expected checkpoint.eqx there, got none"):
        load_model(tmp_path / "elsewhere", like)


ADAM = optax.adam(0.1)  # one object, so that the tests share its compilation
X = np.linspace(-1, 1, 24, dtype=np.float32)


def square(model, batch, *, key):
    return jnp.mean((model["a"] * batch["x"] + model["b"] - batch["y"]) ** 2)


def small(folder, **changes):
    arguments = {
        "model": {"a": jnp.zeros((), jnp.float32), "b": jnp.zeros((), jnp.float32)},
        "loss": square,
        "data": {"x": X, "y": 2 * X},
        "optimiser": ADAM,
        "epochs": 2,
        "batch_size": 8,
        "key": jax.random.key(0),
        "checkpoint": folder,
        "progress": False,
    } | changes
    model, loss, data = (arguments.pop(name) for name in ("model", "loss", "data"))
    return fit(model, loss, data, **arguments)


def test_without_validation_the_last_model_is_loaded(tmp_path):
    result = small(tmp_path)
    assert result.best_epoch is None
    same_bits(load_model(tmp_path, {"a": jnp.ones(()), "b": jnp.ones(())}), result.last_model)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 6}, "batch_size was 8, is 6"),
        ({"key": jax.random.key(1)}, r"key was \[0, 0\], is \[0, 1\]"),
        ({"steps_per_call": 2}, "steps_per_call was 3, is 2"),
        (
            {"model": {"a": jnp.zeros(()), "c": jnp.zeros(())}},
            r"model\['b'\] was float32\[\], is a",
        ),
        ({"model": {"a": jnp.zeros((1,)), "b": jnp.zeros(())}}, r"float32\[\], is float32\[1\]"),
        ({"model": {"a": jnp.zeros((), jnp.bfloat16), "b": jnp.zeros(())}}, r"is bfloat16\[\]"),
        ({"model": {"a": jnp.ones(()), "b": jnp.zeros(())}}, "hash of the initial weights was"),
        ({"data": {"x": X, "y": 3 * X}}, "hash of the data was"),
        ({"data": {"x": X[:16], "y": X[:16]}}, r"data\['x'\] was float32\[24\], is float32\[16\]"),
        ({"validation": {"x": X, "y": X}}, r"validation\['x'\] was absent, is float32\[24\]"),
        ({"optimiser": optax.sgd(0.1)}, "optimiser.*was float32.*, is absent"),
        ({"optimiser": optax.adam(0.2)}, "another loss, model code, optimiser setting"),
        ({"loss": lambda m, b, *, key: 2 * square(m, b, key=key)}, "another loss, model code"),
    ],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, message):
    small(tmp_path)
    before = (tmp_path / "checkpoint.eqx").read_bytes()
    with pytest.raises(ValueError, match=message):
        small(tmp_path, **({"loss": tolerant} | changes if "model" in changes else changes))
    assert (tmp_path / "checkpoint.eqx").read_bytes() == before


def tolerant(model, batch, *, key):
    """A loss for any parameters."""
    return sum(jnp.sum(leaf.astype(jnp.float32) ** 2) for leaf in jax.tree.leaves(model))


def test_same_program_can_be_waived(tmp_path):
    small(tmp_path)
    result = small(tmp_path, optimiser=optax.adam(0.2), epochs=3, same_program=False)
    assert result.resumed_at == 6
    assert len(result.history) == 3


def test_another_installation_warns(tmp_path):
    from jaxsci.training import _checkpoint

    small(tmp_path)
    path = tmp_path / "checkpoint.eqx"
    content = path.read_bytes().split(b"\n", 2)[2]
    content = content.replace(f'"jax": "{jax.__version__}"'.encode(), b'"jax": "0.0.1"')
    digest = hashlib.sha256(content).hexdigest().encode()
    path.write_bytes(b"\n".join([_checkpoint._KIND.encode(), digest, content]))
    with pytest.warns(UserWarning, match="jax was 0.0.1"):
        small(tmp_path, epochs=3)


@pytest.mark.parametrize("damage", ["truncate", "flip", "foreign"])
def test_a_damaged_checkpoint_is_refused(tmp_path, damage):
    small(tmp_path)
    path = tmp_path / "checkpoint.eqx"
    content = bytearray(path.read_bytes())
    if damage == "truncate":
        content = content[:-5]
    elif damage == "flip":
        content[-5] ^= 1
    else:
        content = b"PK\x03\x04 something else"
    path.write_bytes(content)
    with pytest.raises(ValueError, match="damaged" if damage != "foreign" else "starts with b'PK"):
        small(tmp_path)


def test_two_runs_cannot_share_a_folder(tmp_path):
    from jaxsci.training._files import exclusive

    with exclusive(tmp_path), pytest.raises(RuntimeError, match="another run is writing"):
        small(tmp_path)
    small(tmp_path)


def test_keys_in_the_optimiser_state_and_bfloat16_come_back(tmp_path):
    def run(folder, epochs):
        model = {"a": jnp.zeros((3,), jnp.bfloat16), "b": jnp.zeros((2,), jnp.float32)}
        optimiser = optax.chain(optax.add_noise(0.1, 0.5, key=jax.random.key(3)), optax.adam(0.1))
        return small(folder, model=model, loss=tolerant, optimiser=optimiser, epochs=epochs)

    run(tmp_path / "one", 2)
    same_run(run(tmp_path / "one", 4), run(tmp_path / "two", 4))


def test_resume_after_a_bad_loss_fails_in_the_same_way(tmp_path):
    y = 2 * X
    y[5] = np.nan

    def run():
        with pytest.raises(NonFiniteLoss) as caught:
            small(tmp_path, data={"x": X, "y": y}, steps_per_call=1, save_every=0.0)
        return caught.value

    first, second = run(), run()
    assert first.step == second.step
    np.testing.assert_array_equal(first.samples, second.samples)
    same_bits(first.model, second.model)


def test_history_files(script, tmp_path):
    result = script["run"](tmp_path, epochs=3)
    about = json.loads((tmp_path / "history.json").read_text())
    assert about["history"] == list(result.history.rows)
    assert about["settings"]["key"] == [0, 2]
    assert about["versions"]["jax"] == jax.__version__
    rows = list(csv.DictReader(io.StringIO((tmp_path / "history.csv").read_text())))
    assert [float(row["train_loss"]) for row in rows] == list(result.history.column("train_loss"))
