"""The command `jaxsci`, mostly in this process: exit codes, streams, JSON, help."""

import dataclasses
import json
import subprocess
import sys

import jax.numpy as jnp
import numpy as np
import pytest

import jaxsci.experiments
from jaxsci.cli import main
from jaxsci.cli._commands import COMMANDS
from jaxsci.cli._json import plain


@pytest.fixture
def prediction(tmp_path, monkeypatch):
    """A file prediction.npz in the current folder."""
    monkeypatch.chdir(tmp_path)
    x = np.linspace(0.0, 1.0, 11)
    np.savez("prediction.npz", mean=1.1 - x, std=0.1 + x, x=x, b=0.5)
    return "prediction.npz"


@dataclasses.dataclass(frozen=True)
class FakeSettings:
    """Settings of a stand-in."""

    value: float = 1.0
    """A number; refused if negative."""

    def __post_init__(self):
        if self.value < 0:
            raise ValueError(f"--value: expected >= 0,\n got {self.value}")


@pytest.fixture
def fake(monkeypatch):
    """Makes `jaxsci run` do what the test wants."""

    def install(function):
        monkeypatch.setattr(jaxsci.experiments, "RunSettings", FakeSettings, raising=False)
        monkeypatch.setattr(jaxsci.experiments, "run_experiment", function, raising=False)

    return install


def test_version_and_help(capsys):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("jaxsci 0")
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in COMMANDS) and "examples:" in out


@pytest.mark.parametrize("name", COMMANDS)
def test_each_subcommand_has_help_with_an_example(name, capsys):
    assert main([name, "--help"]) == 0
    captured = capsys.readouterr()
    assert f"  jaxsci {name} " in captured.out.split("example")[1]
    assert "--json" in captured.out and captured.err == ""


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["constrian"], "jaxsci: unknown subcommand 'constrian'; did you mean 'constrain'?"),
        (["constrain"], "jaxsci constrain: missing: FILE"),
        (
            ["constrain", "a.npz", "--nois", "1"],
            "unrecognized options: --nois, 1; did you mean --n",
        ),
        (["constrain", "a.npz", "--noise", "big"], "could not convert string to float: 'big'"),
        (["constrain", "a.npz", "--noise", "-1"], "--noise: expected a finite standard deviation"),
        (["constrain", "a.npz", "--rule", "simpson"], "invalid choice 'simpson'"),
        (["constrain", "a.npz", "--domain", "x=1"], "expected AXIS=LOW:HIGH, e.g. x=0:0.5, got"),
    ],
)
def test_misuse_is_one_line_and_2(words, match, capsys):
    assert main(words) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.count("\n") == 1 and match in captured.err


def test_no_words_show_the_help(capsys):
    assert main([]) == 2
    assert "usage: jaxsci" in capsys.readouterr().err


def test_constrain_reports(prediction, capsys):
    assert main(["constrain", prediction]) == 0
    captured = capsys.readouterr()
    assert "prediction.npz -> prediction-constrained.npz" in captured.out
    assert "residual    before 1.000e-01" in captured.out
    assert "read prediction.npz" in captured.err
    with np.load("prediction-constrained.npz") as done:
        assert abs(np.trapezoid(done["mean"], done["x"]) - 0.5) < 1e-15


def test_json_is_one_object(prediction, capsys):
    assert main(["constrain", prediction, "--json", "--noise", "0.5", "--output", "a.npz"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert set(found) == {"settings", "results", "versions", "seconds"}
    assert set(found["versions"]) == {"jaxsci", "jax", "numpy", "python"}
    assert found["settings"]["noise"] == 0.5
    assert found["results"]["output"] == "a.npz"
    assert found["results"]["residual_before"] == pytest.approx(0.1)


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_failure_is_one_line_and_1(prediction, extra, capsys):
    assert main(["constrain", "predictions.npz", *extra]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == (
        "jaxsci constrain: predictions.npz: no such file; did you mean prediction.npz?\n"
    )


def test_debug_shows_the_traceback(prediction, capsys):
    assert main(["constrain", "absent.npz", "--debug"]) == 1
    err = capsys.readouterr().err
    assert "Traceback" in err and err.splitlines()[-1].startswith("jaxsci constrain: absent.npz")


def test_a_mapping_is_reported(fake, capsys):
    def run(settings, *, progress):
        progress("working")
        print("chatter")
        return {"report": "a table", "loss": jnp.float32(0.5), "worst": np.array([np.nan, 1.0])}

    fake(run)
    assert main(["run", "--value", "2"]) == 0
    captured = capsys.readouterr()
    assert captured.out == "a table\n" and captured.err == "working\nchatter\n"
    assert main(["run", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["results"] == {"loss": 0.5, "worst": [None, 1.0]}


@pytest.mark.parametrize(
    ("error", "line", "code"),
    [
        (ValueError("two\nlines"), "jaxsci run: two lines\n", 1),
        (KeyError("k"), "jaxsci run: KeyError: 'k' (--debug shows where)\n", 1),
        (RuntimeError(), "jaxsci run: RuntimeError: no message (--debug shows where)\n", 1),
        (KeyboardInterrupt(), "jaxsci run: interrupted\n", 130),
    ],
)
def test_any_failure_is_one_line(fake, error, line, code, capsys):
    def run(settings, *, progress):
        raise error

    fake(run)
    assert main(["run"]) == code
    assert capsys.readouterr().err == line


def test_settings_that_refuse_a_value(fake, capsys):
    fake(None)
    assert main(["run", "--value", "-1"]) == 2
    assert "--value: expected >= 0, got -1.0" in capsys.readouterr().err


def test_a_function_that_is_not_there(monkeypatch, capsys):
    monkeypatch.delattr(jaxsci.experiments, "run_experiment", raising=False)
    assert main(["run", "stefan"]) == 1
    assert "this version of jaxsci does not have it" in capsys.readouterr().err


def test_plain_numbers():
    assert plain({"a": (1, np.float32(0.5), jnp.arange(2)), "b": float("inf")}) == {
        "a": [1, 0.5, [0, 1]],
        "b": None,
    }


def test_as_a_process(prediction):
    """The installed entry point; and its first answers do not wait for jax to load."""
    call = "import sys; from jaxsci.cli import main; code = main(sys.argv[1:]); "
    call += "assert code or 'jax' not in sys.modules; sys.exit(code)"
    quick = subprocess.run([sys.executable, "-c", call, "--help"], capture_output=True, text=True)
    assert quick.returncode == 0, quick.stderr
    failed = subprocess.run(
        [sys.executable, "-c", call, "constrain", "absent.npz", "--json"],
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1 and failed.stdout == ""
    assert failed.stderr.endswith("jaxsci constrain: absent.npz: no such file\n")


def test_as_a_module():
    words = [sys.executable, "-m", "jaxsci", "constrain", "absent.npz"]
    failed = subprocess.run(words, capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr.endswith("jaxsci constrain: absent.npz: no such file\n")
