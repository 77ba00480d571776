"""`jaxsci run` with uncertain operators: functions, scores by hand, small runs, refusals."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from jaxsci.cli import main
from jaxsci.equations import EQUATIONS
from jaxsci.experiments import (
    DOMAINS,
    UNCERTAINTIES,
    UNCERTAINTY_BUDGETS,
    UPDATES,
    UncertaintySettings,
    is_for_operators,
    is_for_uncertainty,
    make_uncertainty_problem,
    predict_moments,
    run_uncertainty,
    uncertainty_scores,
)
from jaxsci.gaussians import Gaussian

TINY = {"functions": 8, "epochs": 1, "width": 4, "members": 4}


@pytest.mark.slow_but(2)
@pytest.mark.parametrize("name", DOMAINS)
def test_functions_are_solutions_in_their_ranges(name):
    made, cls = make_uncertainty_problem(name, 5, 3, points=16, steps=12), EQUATIONS[name]
    t, x = made.problem.coordinates["t"], made.problem.coordinates["x"]
    assert t[0] > 0 and t[-1] == pytest.approx(cls.t_bounds[1])
    drawn = []
    for domain, batch in made.tests.items():
        low, high = DOMAINS[name][domain]
        parameters = np.asarray(batch.parameters)[:, 0]
        assert (low <= parameters).all() and (parameters <= high).all()
        drawn.append(parameters)
        i = 1
        equation = cls(float(parameters[i]))
        np.testing.assert_allclose(
            batch.outputs[i, 0], equation.solution(t[:, None], x[None, :]), atol=1e-5
        )
        np.testing.assert_allclose(batch.inputs[i, 0], parameters[i])
        np.testing.assert_allclose(batch.inputs[i, 1, -1], equation.initial(x), atol=1e-6)
        np.testing.assert_allclose(made.masses[domain][i], equation.mass(t), atol=1e-6)
    parts = (made.problem.train, made.problem.validation, made.calibration)
    drawn += [np.asarray(part.parameters)[:, 0] for part in parts]
    assert len(np.unique(np.concatenate(drawn))) == 5 + 5 * 3  # no function twice


def test_ranges_outside_do_not_meet_the_one_of_training():
    for ranges in DOMAINS.values():
        low, high = ranges["in"]
        for domain in ("near", "far"):
            a, b = ranges[domain]
            assert b <= low or high <= a


def test_a_circle_is_integrated_around():
    made = make_uncertainty_problem("heat", 2, 2, points=16, steps=4)
    weights = np.asarray(made.grid.spatial.weights())
    np.testing.assert_allclose(weights, 2 * np.pi / 16, rtol=1e-6)
    np.testing.assert_allclose(made.masses["far"], 0.0)


def random_gaussian(kind, times=3, points=5):
    rng = np.random.default_rng(0)
    n = times * points
    mean, var, factor = rng.normal(size=n), rng.uniform(0.5, 2, n), rng.normal(size=(n, 4))
    if kind == "diagonal":
        return Gaussian.diagonal(jnp.asarray(mean), jnp.asarray(var))
    return Gaussian.low_rank(jnp.asarray(mean), jnp.asarray(0.01 * var), jnp.asarray(factor))


@pytest.mark.parametrize("kind", ["diagonal", "low rank"])
def test_updates_by_time_against_the_dense_formula(kind, x64):
    whole, made = random_gaussian(kind), make_uncertainty_problem("stefan", 2, 2, points=5, steps=3)
    cov = np.asarray(whole.cov.as_matrix())
    weights = np.asarray(made.grid.spatial.weights(), np.float64)
    b = np.asarray(made.masses["in"], np.float64)
    batch = made.tests["in"]
    found = predict_moments(
        lambda x, key: whole,
        batch,
        jnp.asarray(b),
        made.grid.astype(jnp.float64),
        key=jax.random.key(0),
    )
    for time in range(3):
        at = slice(5 * time, 5 * time + 5)
        updates = {"with covariance": cov[at, at], "ProbConserv": np.diag(np.diag(cov[at, at]))}
        for update, C in updates.items():
            gain = C @ weights / (weights @ C @ weights)
            mean = np.asarray(whole.mean)[at]
            moved = mean - gain * (weights @ mean - b[1, time])
            np.testing.assert_allclose(found.mean[update][1, time], moved, atol=1e-12)
            left = np.diag(C) - gain * (C @ weights)
            np.testing.assert_allclose(found.var[update][1, time], left, atol=1e-12)
            assert abs(found.residual[update][1, time]) < 1e-14
        np.testing.assert_allclose(found.mean["none"][1, time], np.asarray(whole.mean)[at])
        off = weights @ np.asarray(whole.mean)[at] - b[1, time]
        np.testing.assert_allclose(found.residual["none"][1, time], off, atol=1e-13)


def test_scores_against_numpy(x64):
    rng = np.random.default_rng(1)
    mean, truth = rng.normal(size=(2, 6, 4, 5))
    var, residual = rng.uniform(0.2, 2, (6, 4, 5)), rng.normal(size=(6, 4))
    scores = uncertainty_scores(*map(jnp.asarray, (mean, var, truth, residual)))
    std, off = np.sqrt(var), np.abs(mean - truth)
    normal = stats.norm(mean, std)
    by_function, spread = off.mean((1, 2)), np.sqrt(var.mean((1, 2)))
    rescaled = np.quantile(by_function / spread, 0.95) * spread.mean()
    average = by_function.mean()
    expected = {
        "MSE": (off**2).mean(),
        "NLL": -normal.logpdf(truth).mean(),
        "width_95": (normal.ppf(0.975) - normal.ppf(0.025)).mean(),
        "CE": np.abs(residual).mean(),
        "n-MeRCI": (rescaled - average) / (by_function.max() - average),
    }
    levels = np.linspace(0.05, 0.95, 19)
    observed = np.array([(off <= stats.norm.ppf((1 + p) / 2) * std).mean() for p in levels])
    expected["RMSCE"] = np.sqrt(((observed - levels) ** 2).mean())
    expected |= {f"coverage_{100 * p:g}": observed[i] for i, p in ((9, 0.5), (17, 0.9), (18, 0.95))}
    for name, value in expected.items():
        np.testing.assert_allclose(scores[name], value, rtol=1e-10, err_msg=name)


@pytest.fixture
def small(monkeypatch):
    """A budget of seconds."""
    quick = UNCERTAINTY_BUDGETS["quick"]
    training = dataclasses.replace(quick.training, layers=1)
    budget = dataclasses.replace(quick, points=16, steps=12, held_out=20, training=training)
    monkeypatch.setitem(UNCERTAINTY_BUDGETS, "quick", budget)


def test_a_small_run_and_its_files(tmp_path, small):
    settings = UncertaintySettings("stefan", ("laplace",), output=tmp_path, **TINY)
    result = run_uncertainty(settings)
    assert set(result.table) == {"in", "near", "far"}
    for methods in result.table.values():
        assert list(methods) == ["laplace"] and list(methods["laplace"]) == list(UPDATES)
        rows = methods["laplace"]
        assert rows["none"]["CE"] > 1e-3
        assert max(rows[u]["CE"] for u in ("ProbConserv", "with covariance")) < 1e-6
        assert rows["ProbConserv"]["MSE"] == rows["ProbConserv"]["MSE recalibrated"]
    # One factor, in the range of training: the interval that it was made for covers its level,
    # up to what 20 functions can say of others.
    inside = result.table["in"]["laplace"]["none"]
    assert inside["coverage_95 recalibrated"] > 0.85
    text = (tmp_path / "table.md").read_text()
    assert text.count("\n| far | laplace |") == 3 + 2 and "→" in text
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["factors"].keys() == {"laplace"} == stored["training"].keys()
    lines = (tmp_path / "table.csv").read_text().splitlines()
    assert len(lines) == 1 + 3 * 3 * len(inside)
    # Again: nothing is trained, and the numbers are the same.
    assert run_uncertainty(settings).table == result.table


@pytest.mark.slow
def test_every_method_from_the_command_line(tmp_path, capsys, small):
    words = ["run", "heat", "--uncertainty", "all", "--output", str(tmp_path), "--json"]
    for name, value in (TINY | {"epochs": 12}).items():
        words += [f"--{name}", str(value)]
    assert main(words) == 0
    results = json.loads(capsys.readouterr().out)["results"]
    assert list(results["training"]) == list(UNCERTAINTIES) and results["notes"] == {}


def test_words_say_which_kind_of_work_is_meant(capsys):
    assert is_for_uncertainty(["heat", "--uncertainty=all"])
    assert not is_for_uncertainty(["heat", "--model", "fno"])
    assert not is_for_operators(["heat", "--uncertainty", "all"])
    assert main(["run", "heat", "--uncertainty", "ensembel"]) != 0
    assert "unknown uncertainty 'ensembel'; did you mean 'ensemble'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"experiment": "burgers"}, "unknown experiment 'burgers'"),
        ({"uncertainty": ()}, "expected a name, got none"),
        ({"members": 2}, "--members: expected a number >= 3, got 2"),
        ({"strength": -1.0}, "--strength: expected a number >= 0, got -1"),
        ({"dropout": 1.0}, "--dropout: expected a number between 0 and 1, got 1"),
        ({"level": 95.0}, "--level: expected a number between 0 and 1, got 95"),
    ],
)
def test_bad_settings_are_named(change, message):
    with pytest.raises(ValueError, match=message):
        UncertaintySettings(**({"experiment": "heat"} | change))
