"""Datasets on disk: whole whatever happens, the same numbers however they were made."""

import json
import os

import jax
import numpy as np
import pytest

from jaxsci.equations.families import StokesSecond, dataset_folder, make_dataset
from jaxsci.equations.families import _dataset as module

FAMILY = StokesSecond(points=8, steps=3, hard=True)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 4)


def make(folder, functions=10, **options):
    return make_dataset(FAMILY, functions, folder=folder, progress=False, **options)


def assert_same(one, other):
    assert jax.tree.structure(one) == jax.tree.structure(other)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.fixture
def counted(monkeypatch):
    """The chunks that were computed, by their first function."""
    made, original = [], module._chunk

    def chunk(family, key, indices):
        made.append(int(indices[0]))
        return original(family, key, indices)

    monkeypatch.setattr(module, "_chunk", chunk)
    return made


def test_functions_are_those_of_their_keys_and_are_made_once(tmp_path, counted):
    data = make(tmp_path, seed=3)
    assert data.outputs.shape == (10, 1, 3, 8) and data.values["x", "low"].shape == (10, 1, 3)
    key = jax.random.fold_in(jax.random.key(3), 7)
    one = jax.jit(FAMILY.draw)(key)
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(data), strict=True):
        np.testing.assert_allclose(a, b[7], atol=2e-6)
    assert_same(make(tmp_path, seed=3), data)
    assert counted == [0, 4, 8]
    assert_same(make(tmp_path, 5, seed=3), jax.tree.map(lambda a: a[:5], data))
    make(tmp_path, 13, seed=3)
    assert counted == [0, 4, 8, 12]
    assert not list(dataset_folder(FAMILY, seed=3, folder=tmp_path).glob("*.part"))


def test_a_run_that_was_killed_goes_on_and_gives_the_same(tmp_path, monkeypatch, counted):
    whole = make(tmp_path / "whole")
    write = module.write_chunk

    def die(path, arrays):
        if "00001" in path.name:
            raise KeyboardInterrupt
        return write(path, arrays)

    monkeypatch.setattr(module, "write_chunk", die)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "killed")
    monkeypatch.setattr(module, "write_chunk", write)
    counted.clear()
    assert_same(make(tmp_path / "killed"), whole)
    assert counted == [4, 8]
    files = [
        {f.name: f.read_bytes() for f in dataset_folder(FAMILY, folder=tmp_path / n).iterdir()}
        for n in ("whole", "killed")
    ]
    assert files[0] == files[1] and len(files[0]) == 4


@pytest.mark.parametrize("damage", ["bit", "cut", "gone"])
def test_a_damaged_chunk_is_found_and_made_again(tmp_path, counted, damage):
    data = make(tmp_path)
    path = dataset_folder(FAMILY, folder=tmp_path) / "chunk-00001.npz"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    match damage:
        case "bit":
            path.write_bytes(content)
        case "cut":
            path.write_bytes(content[:100])
        case "gone":
            path.unlink()
    counted.clear()
    with pytest.warns(UserWarning, match="chunk-00001.npz is damaged or gone"):
        again = make(tmp_path)
    assert_same(again, data)
    assert counted == [4]


def test_what_a_killed_process_left_is_swept_when_it_is_old(tmp_path):
    make(tmp_path)
    old, new = (dataset_folder(FAMILY, folder=tmp_path) / f"{n}.part" for n in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"half")
    os.utime(old, (0, 0))
    make(tmp_path)
    assert new.exists() and not old.exists()


def test_settings_seed_and_dtype_name_the_folder(tmp_path, monkeypatch):
    names = [
        dataset_folder(FAMILY, folder=tmp_path),
        dataset_folder(FAMILY, seed=1, folder=tmp_path),
        dataset_folder(StokesSecond(points=8, steps=3), folder=tmp_path),
    ]
    with jax.enable_x64(True):
        names.append(dataset_folder(FAMILY, folder=tmp_path))
    assert len(set(names)) == 4
    assert dataset_folder(StokesSecond(points=8, steps=3), folder=tmp_path) == names[2]
    monkeypatch.setenv("JAXSCI_CACHE", str(tmp_path / "variable"))
    assert dataset_folder(FAMILY).parent == tmp_path / "variable" / "families"
    monkeypatch.delenv("JAXSCI_CACHE")
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert dataset_folder(FAMILY).parent == tmp_path / "xdg" / "jaxsci" / "families"
    monkeypatch.setattr("sys.platform", "win32")
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "local"))
    assert dataset_folder(FAMILY).parent == tmp_path / "local" / "jaxsci" / "families"
    monkeypatch.setattr("sys.platform", "darwin")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert dataset_folder(FAMILY).parent == tmp_path / "Library/Caches/jaxsci/families"


def test_what_is_constant_is_kept_once_on_disk(tmp_path):
    data = make(tmp_path)
    with np.load(dataset_folder(FAMILY, folder=tmp_path) / "chunk-00000.npz") as archive:
        assert archive["inputs"].shape == (4, 2, 1, 8)  # the initial field at one of three times
    assert data.inputs.shape == (10, 2, 3, 8)


def test_the_bar_shows_what_is_made_only(tmp_path, capsys):
    make_dataset(FAMILY, 10, folder=tmp_path)
    assert "stokes" in (shown := capsys.readouterr().err) and "3/3" in shown
    make_dataset(FAMILY, 10, folder=tmp_path)
    assert capsys.readouterr().err == ""


def test_bad_input(tmp_path, monkeypatch):
    with pytest.raises(TypeError, match=r"expected a family such as `StokesSecond\(\)`"):
        make_dataset(StokesSecond, 1)
    with pytest.raises(ValueError, match=r"functions=...\)`: expected an integer of at least 1"):
        make(tmp_path, 0)
    with pytest.raises(ValueError, match=r"seed=...\)`: expected an integer of at least 0"):
        make(tmp_path, seed=-1)
    make(tmp_path)
    manifest = dataset_folder(FAMILY, folder=tmp_path) / "manifest.json"
    content = json.loads(manifest.read_text())
    content["settings"]["seed"] = 5
    manifest.write_text(json.dumps(content))
    with pytest.raises(ValueError, match="belongs to other settings"):
        make(tmp_path)
    manifest.write_text("{")
    with pytest.raises(ValueError, match="manifest.json is not readable"):
        make(tmp_path)
    original = module._chunk
    monkeypatch.setattr(
        module, "_chunk", lambda *a: jax.tree.map(lambda x: x * float("nan"), original(*a))
    )
    with pytest.raises(FloatingPointError, match="functions 0 to 3 has values that are not finite"):
        make(tmp_path / "other")
