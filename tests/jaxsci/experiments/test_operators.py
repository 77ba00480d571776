"""`jaxsci run` with operators: baselines, scores, small trainings, resuming, and refusals."""

import dataclasses
import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.cli import main
from jaxsci.equations import EQUATIONS
from jaxsci.equations.families import FAMILIES, HeatNeumann, Sample, StokesSecond, make_dataset
from jaxsci.experiments import (
    OPERATOR_BUDGETS,
    OperatorRow,
    OperatorSettings,
    OperatorTraining,
    RunSettings,
    baseline_rows,
    conditions_of,
    fit_pod_ridge,
    is_for_operators,
    make_problem,
    operator_table,
    roll_out,
    run_operators,
    score_predictions,
    train_operator,
)
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
from jaxsci.operators.constrained import DEFAULT_RECIPE, RECIPES

TINY = {"functions": 8, "epochs": 1, "batch_size": 4, "width": 4, "points": 32}


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """Datasets go where tests may write."""
    monkeypatch.setenv("JAXSCI_CACHE", str(tmp_path_factory.getbasetemp() / "families"))


def random_batch(seed, count, noise=0.0):
    """Outputs that are an affine function of two channels and of a face, and noise."""
    rng = np.random.default_rng(seed)
    inputs, face = rng.normal(size=(count, 2, 5)), rng.normal(size=(count, 1, 3))
    law = np.random.default_rng(7).normal(size=(13, 4))
    told = np.concatenate([inputs.reshape(count, -1), face.reshape(count, -1)], axis=1)
    outputs = told @ law + 2.0 + noise * rng.normal(size=(count, 4))
    arrays = (jnp.asarray(a, jnp.float32) for a in (inputs, outputs[:, None], face))
    x, y, g = arrays
    return Sample(x, y, {("x", "low"): g}, x[:, 0, :1])


def test_ridge_is_the_solution_of_the_normal_equations():
    train, new = random_batch(0, 30, 0.3), random_batch(1, 6)
    ridge = fit_pod_ridge(train, train, strengths=(0.1,))

    def blocks(batch):
        arrays = (batch.inputs[:, 0], batch.inputs[:, 1], batch.values["x", "low"][:, 0])
        return [np.asarray(a, np.float64) for a in arrays]

    means = [b.mean(0) for b in blocks(train)]
    sizes = [np.sqrt(b.var(0).sum()) for b in blocks(train)]

    def features(batch):
        parts = zip(blocks(batch), means, sizes, strict=True)
        return np.concatenate([(b - m) / s for b, m, s in parts], axis=1)

    A, Y = features(train), np.asarray(train.outputs, np.float64)[:, 0]
    strength = 0.1 * np.linalg.norm(A, 2) ** 2
    W = np.linalg.solve(A.T @ A + strength * np.eye(13), A.T @ (Y - Y.mean(0)))
    np.testing.assert_allclose(ridge(new)[:, 0], features(new) @ W + Y.mean(0), rtol=1e-9)


def test_the_strength_is_the_best_on_validation():
    train, validation, test = (random_batch(s, n, 3.0) for s, n in ((0, 16), (1, 200), (2, 200)))
    strengths = (1e-14, 1e-2, 1.0, 1e4)
    chosen = fit_pod_ridge(train, validation, strengths=strengths)
    errors = [
        baseline_error(fit_pod_ridge(train, train, strengths=(s,)), validation) for s in strengths
    ]
    assert chosen.strength == strengths[int(np.argmin(errors))]
    assert 1e-14 < chosen.strength < 1e4  # noise is smoothed away, but not everything is
    exact = fit_pod_ridge(random_batch(0, 40), None)
    assert baseline_error(exact, random_batch(2, 9)) < 1e-5  # all of them were used again
    assert baseline_error(chosen, test) > 0.1


def baseline_error(ridge, batch):
    truth = np.asarray(batch.outputs, np.float64)
    off = np.linalg.norm((ridge(batch) - truth)[:, 0], axis=1)
    return (off / np.linalg.norm(truth[:, 0], axis=1)).mean()


@pytest.fixture(scope="module")
def stokes(tmp_path_factory):
    patch = pytest.MonkeyPatch()
    patch.setenv("JAXSCI_CACHE", str(tmp_path_factory.getbasetemp() / "families"))
    family = StokesSecond(points=32, steps=8)
    yield make_problem(family, 20, 6, finer={2: StokesSecond(points=64, steps=8)}, progress=False)
    patch.undo()


def test_baselines_of_a_family(stokes):
    rows = baseline_rows(stokes)
    truth = np.asarray(stokes.test.outputs, np.float64)
    mean = np.asarray(stokes.train.outputs, np.float64).mean(0)
    off = np.sqrt(((mean - truth) ** 2).sum((1, 2, 3)) / (truth**2).sum((1, 2, 3)))
    np.testing.assert_allclose(rows["mean"].values("error"), [off.mean()], rtol=1e-6)
    ridge = rows["POD + ridge"].scores[0]
    assert ridge["error"] < 1e-2 * off.mean()


def test_the_parts_have_no_function_in_common(stokes):
    parts = (stokes.train, stokes.validation, stokes.test)
    drawn = np.concatenate([np.asarray(part.parameters).ravel() for part in parts])
    assert len(np.unique(drawn)) == 32
    np.testing.assert_array_equal(stokes.finer[2].parameters, stokes.test.parameters)


def test_scores_see_what_is_wrong_on_a_face(stokes):
    truth = stokes.test.outputs
    right = score_predictions(truth, stokes.test, stokes.conditions)
    assert right == {"error": 0.0, "boundary": 0.0, "independent": 0.0, "holds": 1.0}
    wrong = score_predictions(truth.at[:, :, 3, 0].add(0.5), stokes.test, stokes.conditions)
    np.testing.assert_allclose([wrong["boundary"], wrong["independent"]], 0.5, rtol=1e-5)
    assert wrong["holds"] == 0.0
    rod = HeatNeumann(points=40)
    x = jnp.linspace(0.0, 1.0, 40)
    batch = Sample(x[None, None], (2.5 * x**2)[None, None], {}, x[None, :1])
    tilted = score_predictions(batch.outputs + 0.1 * batch.inputs, batch, conditions_of(rod))
    np.testing.assert_allclose([tilted["boundary"], tilted["independent"]], 0.1, rtol=2e-2)
    x, u = np.linspace(0.0, 1.0, 40), 2.5 * np.linspace(0.0, 1.0, 40) ** 2
    expected = 0.1 * np.linalg.norm(x) / np.linalg.norm(u)
    np.testing.assert_allclose(tilted["error"], expected, rtol=1e-4)


def test_scores_see_nan_on_a_large_face():
    """Of 20 functions at a time: the maximum of a large array passes NaN over on a CPU."""
    conditions = BoundaryConditions(("x", "y"), {"x": Dirichlet(0.0)})
    truth = jnp.ones((20, 1, 4, 300)).at[:, :, np.array([0, 3])].set(0.0)
    batch = Sample(truth, truth, {}, truth[:, 0, 0, :1])
    scores = score_predictions(truth.at[3, 0, 0, 7].set(jnp.nan), batch, conditions)
    np.testing.assert_array_equal([scores["boundary"], scores["independent"]], np.nan)
    assert scores["holds"] == pytest.approx(0.95)


@pytest.mark.parametrize("size", [300.0])
def test_scaled_operators_obey_bit_for_bit_in_physical_units(stokes, size):
    def scaled(batch):
        values = {face: size * value for face, value in batch.values.items()}
        return Sample(size * batch.inputs, size * batch.outputs, values, batch.parameters)

    parts = {"train": scaled(stokes.train), "validation": None, "test": scaled(stokes.test)}
    problem = dataclasses.replace(stokes, **parts, finer={})
    training = OperatorTraining(epochs=1, width=4, modes=(4, 4), layers=1, batch_size=10)
    made = train_operator("fno-matched-enforced", problem, training, progress=False)
    inputs, values = problem.test.inputs[0], {f: v[0] for f, v in problem.test.values.items()}
    u = made.operator(inputs, values)
    np.testing.assert_array_equal(u[:, :, 0], values["x", "low"])
    assert made.operator.scale != 1.0 and np.log2(made.operator.scale) % 1 == 0
    np.testing.assert_allclose(np.asarray(inputs).std() / made.operator.deviation[0], 1, rtol=0.5)


def test_an_oracle_rolls_out_without_error():
    family = StokesSecond(points=16, steps=4, hard=True)

    class Oracle(eqx.Module):
        """Knows the field of the first window by heart, whatever the input: right only there."""

        first: jax.Array

        def __call__(self, x, values):
            return self.first + 0 * x[:1]

    long = StokesSecond(points=16, steps=12, time=6.0, hard=True)
    truth = make_dataset(long, 1, seed=2, progress=False)
    found = roll_out({"oracle": Oracle(truth.outputs[0, :, :4])}, family, 1, windows=3)["oracle"]
    assert found[0] == 0.0 and min(found[1:]) > 0.1
    later = np.asarray(truth.outputs[0, 0], np.float64)
    expected = np.linalg.norm(later[:4] - later[4:8]) / np.linalg.norm(later[4:8])
    np.testing.assert_allclose(found[1], expected, rtol=1e-5)
    assert roll_out({"oracle": None}, HeatNeumann(), 1) == {}


def words(name, folder, *more):
    told = ["run", name, "--json", "--output", str(folder), *more]
    return told + [w for k, v in TINY.items() for w in ("--" + k.replace("_", "-"), str(v))]


def test_a_run_end_to_end_and_again(tmp_path, capsys, monkeypatch):
    budget = OPERATOR_BUDGETS["stokes"]["quick"]  # each resolution is a compilation
    training = dataclasses.replace(budget.training, layers=1)
    small = dataclasses.replace(budget, training=training, finer=(2,))
    monkeypatch.setitem(OPERATOR_BUDGETS, "stokes", {"quick": small})
    more = ("--model", "fno-matched-enforced", "--seeds", "2")
    assert main(words("stokes", tmp_path, *more)) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("operators on stokes: Stokes' second problem")
    results = json.loads(captured.out)["results"]
    rows = results["rows"]
    assert list(rows) == ["mean", "POD + ridge", "fno-matched-enforced"]
    scores = rows["fno-matched-enforced"]["scores"]
    assert [score["boundary"] for score in scores] == [0.0, 0.0]
    assert [score["boundary@2"] for score in scores] == [0.0, 0.0]
    assert scores[0]["error"] != scores[1]["error"]
    assert rows["mean"]["scores"][0]["boundary"] > 1e-3
    assert len(results["rollout"]["fno-matched-enforced"]) == 4
    names = ["results.json", "table.md", "table.csv", "fields.png", "boundary.png", "rollout.png"]
    assert all((tmp_path / name).stat().st_size for name in names)
    csv = (tmp_path / "table.csv").read_text().splitlines()
    assert csv[0] == "model,seed,score,value"
    assert [line.split(",")[1] for line in csv if ",error," in line] == ["0", "0", "0", "1"]
    written = json.loads((tmp_path / "results.json").read_text())
    assert written["versions"]["jax"] == jax.__version__
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("training/*/checkpoint.eqx")}
    assert len(stamps) == 2
    assert main(words("stokes", tmp_path, *more, "--no-figures")) == 0
    again = json.loads(capsys.readouterr().out)["results"]
    assert again["rows"] == rows  # seconds included: nothing was trained again
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps


@pytest.mark.slow
def test_a_run_without_time(tmp_path, monkeypatch):
    budget = OPERATOR_BUDGETS["heat"]["quick"]
    training = dataclasses.replace(budget.training, modes=8, layers=1)
    one_step = dataclasses.replace(
        budget, family={"points": 32, "steps": 1}, training=training, finer=()
    )
    monkeypatch.setitem(OPERATOR_BUDGETS, "heat", {"quick": one_step})
    settings = OperatorSettings("heat", model=("fno-enforced",), output=tmp_path, **TINY)
    result = run_operators(settings)
    assert result.rollout == {} and set(result.files) == {"results", "table", "csv", "fields"}
    (scores,) = result.rows["fno-enforced"].scores
    assert scores["holds"] == 1.0
    assert "| fno-enforced |" in str(result)


def test_tables_say_what_the_rows_hold():
    fair = OperatorRow(({"error": 0.01, "boundary": 0.0}, {"error": 0.03, "boundary": 0.0}), 10)
    rows = {"mean": OperatorRow(({"error": 0.5},)), "fno-matched-enforced": fair}
    rows["boon"] = OperatorRow((), 9, "seed 0 diverged in epoch 3")
    table = operator_table(rows).splitlines()
    assert table[0] == "| model | relative L2 | vs. told FNO | boundary | parameters |"
    assert table[2] == "| mean | 0.5 | 25.00 |  |  |"
    assert table[3] == "| fno-matched-enforced | 0.02 ± 0.014 | 1.00 | 0 ± 0 | 10 |"
    assert table[-1] == "boon: seed 0 diverged in epoch 3"


def test_the_words_choose():
    assert not is_for_operators(["heat", "--budget", "quick"])
    assert not is_for_operators(["stefan", "--output", "stokes"])
    assert is_for_operators(["--budget", "quick", "stokes"])
    assert is_for_operators(["heat", "--model=fno"])
    assert set(OPERATOR_BUDGETS) >= set(FAMILIES)
    assert set(EQUATIONS) & set(FAMILIES) == {"heat"}
    assert DEFAULT_RECIPE in RECIPES


@pytest.mark.parametrize(
    ("told", "match"),
    [
        ("stoks", "unknown experiment 'stoks'; did you mean 'stokes'?"),
        ("stokes --model fnoo", "unknown operator 'fnoo'; did you mean 'fno'"),
        ("stefan --model fno", "--model: 'stefan' is an experiment with a conservation law"),
        ("stefn --model fno", "unknown experiment 'stefn'"),
        ("stokes --epochs 0", "--epochs: expected a number >= 1, got 0"),
        ("stokes --points 0", "--points: expected a number >= 1, got 0"),
        ("stokes --learning-rate 0", "--learning-rate: expected a number > 0"),
        ("stokes --surrogate anp", "unrecognized options: --surrogate"),
    ],
)
def test_misuse_is_one_line_and_2(told, match, capsys):
    assert main(["run", *told.split()]) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1 and match in captured.err


def test_help_has_both_kinds(capsys):
    assert main(["run", "--help"]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert all(name in out for name in [*EQUATIONS, *FAMILIES])
    assert main(["run", "stokes", "--help"]) == 0
    assert "--model NAME" in capsys.readouterr().out


def test_conservation_settings_refuse_what_only_operators_have():
    with pytest.raises(ValueError, match="that is an experiment with operators"):
        RunSettings("stokes")


@pytest.mark.slow
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_runs(name, hard, tmp_path, monkeypatch):
    budget = OPERATOR_BUDGETS[name]["quick"]
    training = dataclasses.replace(budget.training, layers=1)
    small = dataclasses.replace(budget, training=training, finer=budget.finer[:1])
    monkeypatch.setitem(OPERATOR_BUDGETS, name, {"quick": small})
    sizes = {k: v for k, v in TINY.items() if k != "points"}
    settings = OperatorSettings(name, hard=hard, output=tmp_path, **sizes)
    result = run_operators(settings)
    scores = result.rows[DEFAULT_RECIPE].scores[0]
    assert scores["holds"] == 1.0 and np.isfinite(scores["error"])
    assert ("animation" in result.files) == (name in ("wave", "cavity"))
    assert bool(result.rollout) == (name not in ("wave", "cavity"))
