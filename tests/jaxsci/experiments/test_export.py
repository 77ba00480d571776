"""`jaxsci export`: from a run's folder or a checkpoint to files for elsewhere, and refusals."""

import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.checkpoints import load_checkpoint, save_checkpoint
from jaxsci.cli import main
from jaxsci.experiments import ExportSettings, export_file
from jaxsci.export import load_stablehlo
from jaxsci.operators.fno import FNO

pytest.importorskip("flatbuffers", reason="jax writes exports with flatbuffers: jaxsci[export]")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a tiny run with two models."""
    base = tmp_path_factory.mktemp("run")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JAXSCI_CACHE", str(base / "families"))
        tiny = {"functions": 8, "epochs": 1, "batch-size": 4, "width": 4, "points": 32}
        words = [word for name, n in tiny.items() for word in (f"--{name}", str(n))]
        words += ["--no-figures", "--model", "fno-matched-extended-blended"]
        assert main(["run", "stokes", *words, "--output", str(base / "run")]) == 0
    models = base / "run" / "models"
    shutil.copy(models / "fno-matched-extended-blended-0.jaxsci", models / "fno-0.jaxsci")
    return base / "run"


@pytest.fixture
def saved(tmp_path):
    model = FNO(1, 1, 6, width=8, layers=1, key=jax.random.key(0))
    path = tmp_path / "model.jaxsci"
    save_checkpoint(path, model, args=(jnp.zeros((1, 32)),))
    return path


@pytest.mark.slow
def test_a_model_of_a_run(run, tmp_path, capsys):
    output = tmp_path / "model.stablehlo"
    words = ["export", str(run), "--model", "fno-matched-extended-blended", "--output", str(output)]
    assert main([*words, "--json"]) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert results["difference"] <= 1e-6 and results["bytes"] == output.stat().st_size
    assert results["inputs"]["x0"] == "f32[batch,1,t,x]"
    # Another grid than that of the run, and the live model from its own file.
    model = load_checkpoint(run / "models" / "fno-matched-extended-blended-0.jaxsci")
    x, g = jnp.ones((2, 1, 24, 40)), jnp.ones((2, 1, 24))
    exported = load_stablehlo(output).call(x, {"x_low": g, "x_high": -g})
    live = jax.vmap(model)(x, {("x", "low"): g, ("x", "high"): -g})
    assert np.abs(exported - live).max() <= 1e-6 * np.abs(live).max()


def test_an_onnx_file(saved, tmp_path, capsys):
    pytest.importorskip("jax2onnx", reason="needs jaxsci[export]")
    assert main(["export", str(saved), "--output", str(tmp_path / "m.onnx")]) == 0
    out = capsys.readouterr().out
    assert "as onnx" in out and "differs from the live model by" in out
    assert "input x0: float32[batch,1,32]" in out


def test_default_output_is_beside_and_not_replaced(saved):
    result = export_file(ExportSettings(saved))
    assert result.file == str(saved.with_suffix(".stablehlo"))
    with pytest.raises(FileExistsError, match="--overwrite replaces it"):
        export_file(ExportSettings(saved))
    assert export_file(ExportSettings(saved, overwrite=True)).bytes == result.bytes


SCRIPT = """
import jax, jax.numpy as jnp
from jaxsci import constrain
from jaxsci.checkpoints import load_checkpoint, save_checkpoint
from jaxsci.conservation import integral
from jaxsci.grids import Grid
from jaxsci.operators.fno import FNO


def total(x):
    grid = Grid.uniform(x=(0.0, 1.0, x.shape[-1]))
    return integral(grid, grid.weights() @ x[0])


def build(law=total):
    fno = FNO(1, 1, 6, width=8, layers=1, key=jax.random.key(0))
    return constrain(fno, variance=0.1, conservation=law)


def anonymous():
    return build(lambda x: total(x))


if __name__ == "__main__":
    x = jnp.ones((1, 32))
    save_checkpoint("named.jaxsci", build(), args=(x,))
    save_checkpoint("anonymous.jaxsci", anonymous(), args=(x,))
    assert load_checkpoint("named.jaxsci", trusted=("rod",)).conservation is total
"""


@pytest.mark.slow
def test_a_surrogate_with_laws_of_a_script(tmp_path, monkeypatch, capsys):
    """Saved by a script, which has no module's name, and exported by another process."""
    (tmp_path / "rod.py").write_text(SCRIPT)
    monkeypatch.chdir(tmp_path)
    subprocess.run([sys.executable, "rod.py"], check=True)
    monkeypatch.setitem(sys.modules, "rod", None)
    del sys.modules["rod"]  # and again when this test ends

    for source, words in (
        ("named", ["--trusted", "rod"]),
        ("anonymous", ["--like", "rod:anonymous"]),
    ):
        assert main(["export", f"{source}.jaxsci", *words, "--json"]) == 0
        results = json.loads(capsys.readouterr().out)["results"]
        assert results["inputs"] == {"x0": "f32[batch,1,n1]"}
        assert results["difference"] <= 1e-6
        x = 2 + jnp.sin(jnp.arange(48.0)).reshape(1, 1, 48)
        found = load_stablehlo(tmp_path / f"{source}.stablehlo").call(x)
        weights = np.array([0.5] + [1.0] * 46 + [0.5]) / 47
        total = float(x[0, 0] @ weights)
        assert float(found["mean"][0] @ weights) == pytest.approx(total, rel=1e-6)
        assert found["variance"].shape == (1, 48)

    again = "--overwrite"
    fails(["named.jaxsci", again], "names 'rod.total'", capsys)
    fails(["anonymous.jaxsci", again, "--trusted", "rod"], "pass `like=`", capsys)
    fails(["anonymous.jaxsci", again, "--like", "rod:build"], "anonymous.<locals>", capsys)
    fails(["anonymous.jaxsci", again, "--like", "rod:nobody"], "expected MODULE:NAME", capsys)
    fails(["anonymous.jaxsci", again, "--like", "rod"], "expected MODULE:NAME", capsys)


def fails(words, message, capsys):
    assert main(["export", *map(str, words)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    last = captured.err.strip().splitlines()[-1]
    assert last.startswith("jaxsci export: ") and message in last


def test_refusals(run, saved, tmp_path, capsys):
    fails([tmp_path / "none"], "there is no such file or folder", capsys)
    fails([tmp_path], "has its models in models, got none", capsys)
    fails([run], "choose one with --model: fno, fno-matched-extended-blended", capsys)
    fails([run, "--model", "fnoo"], "did you mean 'fno'", capsys)
    fails([run, "--model", "fno", "--seed", "7"], "for the seeds 0, not for 7", capsys)
    save_checkpoint(tmp_path / "bare.jaxsci", FNO(1, 1, 6, width=8, key=jax.random.key(0)))
    fails([tmp_path / "bare.jaxsci"], "without the arguments of a call", capsys)
    (tmp_path / "text.jaxsci").write_text("a text")
    fails([tmp_path / "text.jaxsci"], "a file that starts with b'a text'", capsys)
    fft = FNO(1, 1, 6, width=8, layers=1, method="fft", key=jax.random.key(0))
    save_checkpoint(tmp_path / "fft.jaxsci", fft, args=(jnp.zeros((1, 32)),))
    fails([tmp_path / "fft.jaxsci"], "method='fft'", capsys)
