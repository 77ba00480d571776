"""`jaxsci slam`: a generated graph through files and the command line, and its refusals."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from jaxsci.cli import main
from jaxsci.experiments import SlamSettings, optimise_graph
from jaxsci.plots import plot_pose_graph
from jaxsci.solvers.slam import graph_cost, manhattan, odometry, read_g2o, sphere, write_g2o


@pytest.fixture(scope="module")
def drifted(tmp_path_factory):
    """A small world whose poses are those of its odometry."""
    path = tmp_path_factory.mktemp("slam") / "world.g2o"
    graph = odometry(manhattan(120, seed=0))
    write_g2o(path, graph)
    return path, graph


def test_file_to_file(drifted, tmp_path, capsys):
    path, graph = drifted
    output = tmp_path / "out.g2o"
    assert main(["slam", str(path), "--output", str(output), "--init", "file", "--json"]) == 0
    printed = capsys.readouterr()
    results = json.loads(printed.out)["results"]
    assert results["status"] == ""
    assert results["initial_cost"] == pytest.approx(graph_cost(graph), rel=1e-9)
    assert results["final_cost"] < 0.5 * results["initial_cost"]
    # The cost of what was written, computed anew by numpy.
    assert graph_cost(read_g2o(output)) == pytest.approx(results["final_cost"], rel=1e-7)
    assert set(results["seconds"]) == {"read", "start", "symbolic", "compile", "run"}
    assert results["iterations"] == len(results["history"]["cost"]) - 1
    assert sum(results["history"]["cg_iterations"]) == results["cg_iterations"]
    assert results["bytes"] > 0
    assert output.with_suffix(".png").exists()
    assert "start: file" in printed.err
    # A line for each iteration, with what the history says.
    for k, cost in enumerate(results["history"]["cost"]):
        assert f"{k:4d}  cost {cost:<18.10g}" in printed.err
    # At the minimum no pose can be moved to lower the cost.
    best = read_g2o(output)
    rng = np.random.default_rng(0)
    for _ in range(5):
        poses = best.poses.copy()
        poses[1:, 2:] += 1e-4 * rng.normal(size=(len(poses) - 1, 2))
        assert graph_cost(best.with_poses(poses)) > results["final_cost"]

    assert main(["slam", str(path), "--output", str(output)]) == 1
    assert "exists; choose another --output" in capsys.readouterr().err


def test_weights_decide_which_preconditioner_is_taken():
    """Even ones: two levels, tens of steps; a million apart: a complete factor, a step or two."""
    graph = sphere(6, 10, seed=0)
    scale = np.where(np.arange(len(graph.edges)) % 2, 1e6, 1.0)[:, None, None]
    uneven = dataclasses.replace(graph, information=graph.information * scale)
    settings = SlamSettings(Path("unused"), init="file", method="gn", figures=False)
    for made, least, most in ((graph, 5, 60), (uneven, 1, 3)):
        found = optimise_graph(made, settings, progress=lambda line: None)[0]
        assert found.status == ""
        assert least <= found.cg_iterations / found.iterations <= most


@pytest.mark.slow
def test_a_bad_start_is_replaced_by_the_chordal_one():
    truth = sphere(6, 8, seed=1)
    rng = np.random.default_rng(0)
    poses = truth.poses.copy()
    poses[1:, :4] = rng.normal(size=(len(poses) - 1, 4))
    poses[:, :4] /= np.linalg.norm(poses[:, :4], axis=1, keepdims=True)
    lost = truth.with_poses(poses)
    settings = SlamSettings("unused.g2o", linear="dense", method="gn")
    said = []
    result, solved, start = optimise_graph(lost, settings, progress=said.append)
    assert result.start == "chordal" and graph_cost(start) < 0.1 * graph_cost(lost)
    assert result.status == "" and result.final_cost <= graph_cost(truth)
    assert any(line.startswith("start: chordal") for line in said)
    assert "converged" in str(result)


@pytest.mark.parametrize(
    "words, match",
    [
        (["missing.g2o"], "No such file"),
        (["x.g2o", "--policy", "duble"], "did you mean 'double'"),
        (["x.g2o", "--max-steps", "0"], "--max-steps: expected a number >= 1, got 0"),
        (["x.g2o", "--linear-rtol", "2"], "--linear-rtol: expected a number between 0 and 1"),
        (["x.g2o", "--methd", "gn"], "did you mean --method"),
    ],
)
def test_bad_words_are_one_line(words, match, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["slam", *words]) in (1, 2)
    error = capsys.readouterr().err
    assert match in error and len(error.splitlines()) == 1


def test_a_malformed_line_is_named(tmp_path, capsys):
    path = tmp_path / "bad.g2o"
    path.write_text("VERTEX_SE2 0 0 0 0\nVERTEX_SE2 1 0 zero 0\n")
    assert main(["slam", str(path)]) == 1
    assert "line 2" in capsys.readouterr().err


def test_figures_of_both_dimensions():
    for graph in (manhattan(30, seed=0), sphere(3, 5, seed=0)):
        figure, axes = plot_pose_graph({"before": graph, "after": graph})
        assert len(axes) == 2 and axes[0].get_xlabel() == "x (m)"
        figure.canvas.draw()
    with pytest.raises(ValueError, match="expected graphs of one dimension"):
        plot_pose_graph({"plane": manhattan(30, seed=0), "space": sphere(3, 5, seed=0)})


def test_bench_compares_policies(drifted, capsys):
    path, graph = drifted
    words = ["slam", "bench", str(path.parent), "--policies", "double", "--linear", "dense"]
    assert main([*words, "--init", "file", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["results"]["rows"]
    assert row["graph"] == "world" and row["status"] == ""
    assert row["cost"] < 0.5 * graph_cost(graph)
    assert main(["slam", "bench", str(path.parent / "none")]) == 1
    assert "expected a folder with .g2o files" in capsys.readouterr().err
