"""The loop against one written by hand, what it shows and writes, and what it refuses."""

import json

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxsci.training import History, NonFiniteLoss, fit

RNG = np.random.default_rng(0)
X = RNG.uniform(-1, 1, (21, 3))
DATA = {"x": X, "y": X @ np.array([1.0, -2.0, 0.5]) + 0.3}
ADAM = optax.adam(0.05)


def as_type(dtype, tree=None):
    return jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), DATA if tree is None else tree)


def model_of(dtype):
    return {"w": jnp.zeros(3, dtype), "b": jnp.zeros((), dtype), "name": "linear"}


def loss(model, batch, *, key):
    noise = 0.01 * jax.random.normal(key, batch["y"].shape, batch["y"].dtype)
    residual = batch["x"] @ model["w"] + model["b"] + noise - batch["y"]
    return jnp.mean(residual**2), {"bias": jnp.mean(residual)}


def run(dtype=jnp.float32, **changes):
    arguments = {
        "model": model_of(dtype),
        "loss": loss,
        "data": as_type(dtype),
        "optimiser": ADAM,
        "epochs": 3,
        "batch_size": 4,
        "key": jax.random.key(7),
        "progress": False,
    } | changes
    model, of, data = (arguments.pop(name) for name in ("model", "loss", "data"))
    return fit(model, of, data, **arguments)


def by_hand(dtype, epochs=3, batch_size=4):
    """The same training as a plain Python loop."""
    data, model, name = as_type(dtype), model_of(dtype), "linear"
    model.pop("name")
    state = ADAM.init(model)
    key, validation_key = jax.random.split(jax.random.key(7))
    rows = []

    def named(model, batch, key):
        return loss(model | {"name": name}, batch, key=key)

    @jax.jit
    def update(model, state, batch, key):
        (value, _), gradient = jax.value_and_grad(named, has_aux=True)(model, batch, key)
        with jax.numpy_dtype_promotion("standard"):  # optax relies on it
            updates, state = ADAM.update(gradient, state)
            return optax.apply_updates(model, updates), state, value

    @jax.jit
    def draws(epoch):
        order_key, loss_key = jax.random.split(jax.random.fold_in(key, epoch))
        return jax.random.permutation(order_key, 21), loss_key

    # Batches are cut by numpy: each slice of a JAX array would be compiled.
    data = jax.tree.map(np.asarray, data)
    fold_in = jax.jit(jax.random.fold_in)
    for epoch in range(epochs):
        order, loss_key = draws(epoch)
        losses = []
        for step in range(21 // batch_size):
            picked = np.asarray(order)[step * batch_size : (step + 1) * batch_size]
            batch = {"x": data["x"][picked], "y": data["y"][picked]}
            model, state, value = update(model, state, batch, fold_in(loss_key, step))
            losses.append(float(value))
        parts = [slice(0, 8), slice(8, 16), slice(16, 21)]
        sums = 0.0
        for i, part in enumerate(parts):
            batch = {"x": data["x"][part], "y": data["y"][part]}
            value, _ = jax.jit(named)(model, batch, fold_in(validation_key, i))
            sums += float(value) * len(batch["y"])
        rows.append((np.mean(losses), sums / 21))
    return model, np.array(rows)


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("steps_per_call", [None, 2])
def test_agrees_with_a_loop_by_hand(steps_per_call):
    result = run(
        validation=as_type(jnp.float32), validation_batch_size=8, steps_per_call=steps_per_call
    )
    model, rows = by_hand(jnp.float32)
    np.testing.assert_allclose(result.last_model["w"], model["w"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(result.last_model["b"], model["b"], rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(result.history.column("train_loss"), rows[:, 0], rtol=1e-6)
    np.testing.assert_allclose(result.history.column("validation_loss"), rows[:, 1], rtol=1e-6)
    assert result.last_model["name"] == "linear"


def test_agrees_with_a_loop_by_hand_in_float64(x64):
    result = run(jnp.float64, validation=as_type(jnp.float64), validation_batch_size=8)
    model, rows = by_hand(jnp.float64)
    assert result.model["w"].dtype == jnp.float64
    np.testing.assert_allclose(result.last_model["w"], model["w"], rtol=1e-13, atol=1e-14)
    np.testing.assert_allclose(result.history.column("validation_loss"), rows[:, 1], rtol=1e-12)


def test_bfloat16_parameters_stay_bfloat16():
    result = run(jnp.bfloat16, epochs=1)
    assert {leaf.dtype for leaf in jax.tree.leaves(result.model) if eqx.is_array(leaf)} == {
        jnp.dtype(jnp.bfloat16)
    }


def test_the_callers_arrays_are_not_donated():
    model = model_of(jnp.float32)
    run(model=model, epochs=1)
    np.testing.assert_array_equal(model["w"], np.zeros(3))


def test_a_state_that_starts_as_the_parameters_can_be_donated():
    optimiser = optax.chain(optax.sgd(0.1), optax.ema(0.5))
    holds = optax.GradientTransformation(
        lambda p: (p, optimiser.init(p)),
        lambda g, s, p=None: (lambda u, n: (u, (s[0], n)))(*optimiser.update(g, s[1], p)),
    )
    assert len(run(optimiser=holds, epochs=1).history) == 1


def test_complex_parameters_descend():
    target = jnp.asarray(1.0 + 2.0j, jnp.complex64)

    def distance(model, batch, *, key):
        return jnp.abs(model["z"] - target) ** 2

    model = {"z": jnp.zeros((), jnp.complex64)}
    result = run(model=model, loss=distance, optimiser=optax.sgd(0.2), epochs=5)
    np.testing.assert_allclose(result.model["z"], target, rtol=1e-4)


def test_best_model_is_that_of_the_smallest_validation_loss():
    def rising(model, batch, *, key):  # grows as training goes on
        return jnp.sum(jnp.abs(model["w"]))

    result = run(validation=as_type(jnp.float32), validation_loss=rising, epochs=4)
    first = run(epochs=1)
    assert result.best_epoch == 1
    np.testing.assert_array_equal(result.model["w"], first.model["w"])
    assert np.any(result.last_model["w"] != first.model["w"])
    assert result.best_loss == min(result.history.column("validation_loss"))


def test_a_loss_may_ask_for_the_epoch():
    def switched(model, batch, *, key, epoch):
        value, metrics = loss(model, batch, key=key)
        return value + jnp.where(epoch < 2, 0.0, 1.0), metrics | {
            "epoch": epoch.astype(value.dtype)
        }

    rows = run(loss=switched, epochs=4).history.rows
    assert [row["train_epoch"] for row in rows] == [0.0, 1.0, 2.0, 3.0]
    plain = run(epochs=4).history.rows
    added = [
        row["train_loss"] - other["train_loss"] for row, other in zip(rows, plain, strict=True)
    ]
    np.testing.assert_allclose(added, [0, 0, 1, 1], atol=1e-6)
    parts = run(loss=switched, epochs=4, steps_per_call=2).history.rows
    assert [row["train_epoch"] for row in parts] == [0.0, 1.0, 2.0, 3.0]
    held_out = {"validation": as_type(jnp.float32)}
    with pytest.raises(ValueError, match="validation_loss=.*a loss without `epoch`"):
        run(loss=switched, **held_out)
    run(loss=switched, validation_loss=loss, epochs=1, **held_out)


def test_validation_every_other_epoch():
    result = run(validation=as_type(jnp.float32), validate_every=2, epochs=5)
    known = np.isfinite(result.history.column("validation_loss"))
    np.testing.assert_array_equal(known, [False, True, False, True, False])
    assert result.history.columns == (
        *("epoch", "step", "train_loss", "train_bias"),
        *("validation_loss", "validation_bias", "seconds"),
    )


def test_a_validation_loss_that_is_never_finite_warns():
    def bad(model, batch, *, key):
        return jnp.log(-1.0 - jnp.sum(model["w"] ** 2))

    with pytest.warns(UserWarning, match="no validation loss was finite"):
        result = run(validation=as_type(jnp.float32), validation_loss=bad, epochs=1)
    assert result.best_epoch is None


def test_the_learning_rate_is_recorded_if_the_state_knows_it():
    schedule = optax.linear_schedule(0.1, 0.0, 15)
    optimiser = optax.inject_hyperparams(optax.adam)(learning_rate=schedule)
    rates = run(optimiser=optimiser).history.column("learning_rate")
    np.testing.assert_allclose(rates, [schedule(4), schedule(9), schedule(14)], rtol=1e-6)


def test_trainable_freezes_the_rest():
    model = model_of(jnp.float32)
    spec = jax.tree.map(lambda _: False, model) | {"b": True}
    result = run(trainable=spec, epochs=1)
    np.testing.assert_array_equal(result.model["w"], np.zeros(3))
    assert result.model["b"] != 0


def test_a_second_fit_compiles_nothing():
    optimiser, traced = optax.sgd(0.1), []

    def counted(model, batch, *, key):
        traced.append(1)
        return loss(model, batch, key=key)[0]

    data = as_type(jnp.float32)
    run(loss=counted, optimiser=optimiser, data=data, epochs=1)
    first = len(traced)
    run(loss=counted, optimiser=optimiser, data=data, epochs=1, key=jax.random.key(1))
    assert len(traced) == first + 1  # the check of the loss's output, by shapes only


def test_raw_keys():
    a = run(key=jax.random.PRNGKey(7), epochs=1)
    np.testing.assert_array_equal(a.model["w"], run(epochs=1).model["w"])
    assert a.settings["key"] == [0, 7]


@pytest.mark.parametrize("steps_per_call", [None, 1])
def test_a_bad_loss_names_step_and_samples(steps_per_call):
    data = as_type(jnp.float32)
    data["y"] = data["y"].at[13].set(jnp.nan)
    with pytest.raises(
        NonFiniteLoss, match="the loss is nan at epoch 1, step [1-5] of 5"
    ) as caught:
        run(data=data, steps_per_call=steps_per_call, key=jax.random.key(3), epochs=5)
    stop = caught.value
    assert 13 in stop.samples
    assert stop.samples.shape == (4,)
    assert stop.epoch == 1
    assert stop.best_model is None
    assert stop.history.rows == ()
    # nothing of the bad step, all of the steps before it
    assert np.isfinite(stop.model["w"]).all()
    if stop.step == 1:
        np.testing.assert_array_equal(stop.model["w"], np.zeros(3))
    else:
        assert np.any(stop.model["w"] != 0)


def test_a_bad_update_is_told_from_a_bad_loss():
    def steep(model, batch, *, key):  # finite at 0, with an infinite derivative
        return jnp.sqrt(jnp.sum(model["w"] ** 2)) + jnp.sum(model["b"])

    with pytest.raises(NonFiniteLoss, match="the update made parameters.*loss was 0.*update 1"):
        run(loss=steep)


def test_apply_if_finite_may_skip_bad_gradients():
    def steep(model, batch, *, key):
        return jnp.sqrt(jnp.sum(model["w"] ** 2))

    result = run(loss=steep, optimiser=optax.apply_if_finite(optax.sgd(0.1), 100))
    np.testing.assert_array_equal(result.model["w"], np.zeros(3))


def test_progress_goes_to_stderr(capsys):
    run(progress=True, validation=as_type(jnp.float32))
    out, err = capsys.readouterr()
    assert out == ""
    for piece in ("epoch 3/3", "15/15", "loss=", "validation=", "best="):
        assert piece in err
    run()
    assert capsys.readouterr().err == ""


def test_history_columns_csv_and_json():
    history = History(({"epoch": 1, "v": None}, {"epoch": 2, "v": float("inf")}))
    assert history.to_csv() == "epoch,v\n1,\n2,inf\n"
    assert json.loads(history.to_json(seed=3)) == {
        "seed": 3,
        "history": [{"epoch": 1, "v": None}, {"epoch": 2, "v": None}],
    }
    np.testing.assert_array_equal(history.column("v"), [np.nan, np.inf])
    with pytest.raises(ValueError, match=r"History.column\('w'\).*one of epoch, v"):
        history.column("w")


def returns(out):
    return lambda model, batch, *, key: out(model)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"batch_size": 22}, ValueError, r"batch_size=22\)`: expected at most the 21 samples"),
        ({"batch_size": 0}, ValueError, "batch_size=.*>= 1, got 0"),
        ({"batch_size": 2.5}, ValueError, "batch_size=.*whole number"),
        ({"epochs": 0}, ValueError, "epochs=.*>= 1, got 0"),
        ({"epochs": True}, ValueError, "epochs=.*got True"),
        ({"steps_per_call": 0}, ValueError, "steps_per_call=.*got 0"),
        ({"key": 0}, TypeError, r"expected one random key, got 0; pass jax.random.key\(0\)"),
        ({"key": jax.random.split(jax.random.key(0))}, TypeError, r"one random key, got an array"),
        ({"data": {}}, ValueError, "got no array in it"),
        ({"data": {"x": jnp.zeros((0, 3))}}, ValueError, "at least one sample, got none"),
        ({"data": {"x": jnp.zeros(())}}, ValueError, r"\['x'\]: expected a leading axis"),
        ({"data": {"x": [1.0, 2.0]}}, TypeError, r"\['x'\]\[0\]: expected an array, got float"),
        (
            {"data": {"x": jnp.zeros((4, 3)), "y": jnp.zeros(5)}},
            ValueError,
            r"same leading axis.*\['x'\]: 4, \['y'\]: 5",
        ),
        ({"validation": {"x": jnp.zeros(())}}, ValueError, "validation=.*leading axis"),
        ({"model": {"n": 3}}, ValueError, "no inexact array to train"),
        ({"loss": returns(lambda m: m["w"])}, ValueError, r"got shape \(3,\); take the mean"),
        ({"loss": returns(lambda m: None)}, ValueError, "got a NoneType"),
        ({"loss": returns(lambda m: jnp.asarray(1))}, TypeError, "real scalar, got one of int32"),
        ({"loss": returns(lambda m: (m["b"], {"loss": m["b"]}))}, ValueError, "name 'loss'"),
        ({"loss": returns(lambda m: (m["b"], {"a": m["w"]}))}, ValueError, "metric 'a' to be a s"),
        (
            {"validation": {"x": jnp.zeros(2)}, "validation_loss": returns(lambda m: m["w"])},
            ValueError,
            "validation_loss=.*got shape",
        ),
        (
            {"validation": {"x": jnp.zeros(2)}, "validate_every": 9},
            ValueError,
            "validate_every=9.*at most the 3 epochs",
        ),
    ],
)
def test_bad_input(changes, error, message):
    with pytest.raises(error, match=message):
        run(**changes)
