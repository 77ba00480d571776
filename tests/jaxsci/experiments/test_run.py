"""`jaxsci run`: small trainings of every equation, their tables, files and refusals."""

import json
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.cli import main
from jaxsci.equations import EQUATIONS, PorousMedium, Stefan
from jaxsci.experiments import (
    BUDGETS,
    METHODS,
    RunSettings,
    evaluate_surrogate,
    run_experiment,
    showcase,
)
from jaxsci.gaussians import Gaussian

TINY = {"functions": 16, "epochs": 1, "batch_size": 8, "width": 8}


class Oracle:
    """A surrogate that knows the solution, shifts it, and is equally unsure everywhere."""

    dropout = 0.0

    def __init__(self, equation, shift):
        self.equation, self.shift = equation, shift

    def __call__(self, task, *, key=None):
        t, x = task.target_points[:, 0], task.target_points[:, 1]
        mean = self.equation.solution(t, x) + self.shift
        return Gaussian.diagonal(mean, jnp.full_like(mean, 0.01))


EXACT = [
    pytest.param(Stefan(0.6), id="stefan"),
    pytest.param(PorousMedium(1.0), id="pme", marks=pytest.mark.slow),
]


@pytest.mark.slow
@pytest.mark.parametrize("equation", EXACT)
def test_a_uniform_error_is_measured_and_taken_away(equation):
    table = evaluate_surrogate(Oracle(equation, 0.05), equation, key=jax.random.key(0), functions=3)
    assert list(table) == list(METHODS)
    x = np.linspace(0, 1, 201)
    truth = equation.solution(jnp.full(201, equation.evaluation_time), jnp.asarray(x))
    own = np.trapezoid(np.asarray(truth), x) - float(equation.mass(equation.evaluation_time))
    before, after = table["surrogate"], table["ProbConserv"]
    np.testing.assert_allclose(before["CE"][0], 0.05 + own, atol=1e-6)
    np.testing.assert_allclose(before["MSE"][0], 0.05**2, rtol=1e-4)
    # A uniform shift of equally unsure points is all that the mass can see: only the quadrature
    # error of the true jump stays behind, and at the two ends, which weigh half, half the shift.
    assert abs(after["CE"][0]) < 1e-6
    assert after["MSE"][0] < 1.3 * own**2 + 2e-5
    assert before["MSE"][1] == 0.0


@pytest.mark.slow
def test_pooling_over_samples_adds_the_spread_of_their_means():
    class Noisy(Oracle):
        def __call__(self, task, *, key=None):
            gaussian = Oracle.__call__(self, task)
            shift = 0.0 if key is None else jax.random.normal(key)
            return Gaussian(gaussian.mean + shift, gaussian.cov)

    equation = Stefan(0.6)
    arguments = {"key": jax.random.key(0), "mode": "eval", "samples": 200, "functions": 2}
    table = evaluate_surrogate(Noisy(equation, 0.0), equation, **arguments)
    widths = [table[name]["width_95"][0] for name in ("surrogate", "ProbConserv")]
    np.testing.assert_allclose(widths[0], 2 * 1.96 * math.sqrt(0.01 + 1.0), rtol=0.1)
    assert widths[1] < 0.5  # every sample has the same mass after the update


@pytest.mark.slow
@pytest.mark.parametrize("name", EQUATIONS)
def test_every_experiment_runs(name, tmp_path, capsys):
    words = ["run", name, "--json", "--output", str(tmp_path)]
    words += [] if name == "stefan" else ["--no-figures"]
    for option, value in TINY.items():
        words += ["--" + option.replace("_", "-"), str(value)]
    assert main(words) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["settings"]["experiment"] == name
    table = printed["results"]["table"]
    assert list(table) == [f"{v:g}" for v in EQUATIONS[name].test_values]
    for methods in table.values():
        assert abs(methods["ProbConserv"]["CE"][0]) < 2e-6
        assert abs(methods["surrogate"]["CE"][0]) > 1e-4
        if name == "heat":  # it has no front
            assert methods["surrogate"]["front_error"][0] is None
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["seed"] == 0 and written["versions"]["jax"] == jax.__version__
    assert (tmp_path / "summary.png").exists() == (name == "stefan")
    assert "| ProbConserv |" in (tmp_path / "table.md").read_text()


@pytest.mark.slow
def test_dropout_and_softc_modes_run(tmp_path):
    settings = RunSettings(
        "advection", surrogate="softc", mode="dropout", samples=2, output=tmp_path,
        figures=False, **TINY,
    )  # fmt: skip
    table = run_experiment(settings).table
    assert abs(table["1"]["ProbConserv"]["CE"][0]) < 2e-6


@pytest.mark.slow
def test_a_second_call_resumes_and_gives_the_same_numbers(tmp_path):
    settings = RunSettings("heat", output=tmp_path, figures=False, **TINY)
    first, second = run_experiment(settings), run_experiment(settings)
    assert json.dumps(first.table) == json.dumps(second.table)  # NaN, where nothing has a front
    assert first.training["best_validation_loss"] == second.training["best_validation_loss"]


def test_the_showcase_conserves_at_all_times():
    shown = showcase(Oracle(Stefan(0.6), 0.05), Stefan(0.6), key=jax.random.key(0), times=5)
    assert np.abs(shown.masses["after"] - shown.true_mass).max() < 1e-6
    assert np.abs(shown.masses["before"] - shown.true_mass).min() > 0.04


def test_paper_budget_is_the_published_protocol():
    budget = BUDGETS["paper"]
    assert (budget.functions, budget.epochs, budget.batch_size) == (10_000, 500, 250)
    assert (budget.width, budget.learning_rate, budget.dropout) == (128, 1e-4, 0.1)
    assert (budget.mode, budget.samples, budget.decay) == ("dropout", 100, False)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"experiment": "stephan"}, "unknown experiment 'stephan'; did you mean 'stefan'"),
        ({"experiment": "heat", "epochs": 0}, "--epochs: expected a number >= 1, got 0"),
        ({"experiment": "heat", "batch_size": 0}, "--batch-size"),
        ({"experiment": "heat", "learning_rate": -1.0}, "--learning-rate: expected a number > 0"),
        ({"experiment": "heat", "softc_weight": -1.0}, "--softc-weight"),
    ],
)
def test_bad_settings_are_named(arguments, match):
    with pytest.raises(ValueError, match=match):
        RunSettings(**arguments)
