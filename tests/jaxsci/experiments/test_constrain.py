"""Constrained predictions against dense float64 algebra written out in numpy."""

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.special import erf

from jaxsci.experiments import constrain_arrays


def stefan_like(dtype=np.float64, times=4, points=33, batch=None) -> dict[str, np.ndarray]:
    """A melting front predicted with too much mass near the front, and the exact mass."""
    alpha, c1 = 1.051340, 0.736966
    t, x = np.linspace(0.02, 0.1, times), np.linspace(0.0, 1.0, points)
    tt, xx = np.meshgrid(t, x, indexing="ij")
    front = alpha * np.sqrt(tt)
    truth = np.where(xx <= front, 1 - c1 * erf(xx / (2 * np.sqrt(tt))), 0.0)
    bump = np.exp(-(((xx - front) / 0.1) ** 2))
    mean, std = truth + 0.1 * bump, 0.01 + 0.1 * bump
    if batch is not None:
        scale = 1 + 0.1 * np.arange(batch)[:, None, None]
        mean, std = mean * scale, std * scale
    b = 2 * c1 * np.sqrt(t / np.pi)
    return {"mean": mean.astype(dtype), "std": std.astype(dtype), "t": t, "x": x, "b": b}


def members(data, count=8) -> np.ndarray:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((count, *data["mean"].shape))
    return data["mean"] + data["std"] * noise


def trapezoid(x: np.ndarray) -> np.ndarray:
    h = np.diff(x)
    return (np.pad(h, (1, 0)) + np.pad(h, (0, 1))) / 2


def dense(mean, cov, G, b, R=None):
    """The update as the textbook writes it."""
    S = G @ cov @ G.T + (0 if R is None else R)
    gain = cov @ G.T @ np.linalg.inv(S)
    return mean - gain @ (G @ mean - b), cov - gain @ G @ cov


def per_slice(data, cov_of, R=None):
    g = trapezoid(data["x"])[None, :]
    means, covs = [], []
    for i, (mean, b) in enumerate(zip(data["mean"], data["b"], strict=True)):
        m, c = dense(mean, cov_of(i), g, b, None if R is None else np.eye(1) * R)
        means.append(m)
        covs.append(c)
    return np.array(means), np.array(covs)


@pytest.mark.parametrize("noise", [0.0, 0.01])
def test_std_against_dense(noise):
    data = stefan_like()
    done = constrain_arrays(data, noise=noise, save_cov=True)
    mean, cov = per_slice(data, lambda i: np.diag(data["std"][i] ** 2), noise**2)
    assert_allclose(done.arrays["mean"], mean, rtol=0, atol=1e-13)
    assert_allclose(done.arrays["cov"], cov, rtol=0, atol=1e-15)
    assert_allclose(done.arrays["variance"], np.diagonal(cov, axis1=1, axis2=2), atol=1e-15)
    # What is written without --save-cov rebuilds the covariance.
    d, f = done.arrays["cov_diagonal"], done.arrays["cov_factor"]
    rebuilt = np.einsum("ti,ij->tij", d, np.eye(33)) - np.einsum("ti,tj->tij", f, f)
    assert_allclose(rebuilt, cov, rtol=0, atol=1e-15)
    report = done.report
    moved = np.abs(mean - data["mean"]) / data["std"]
    i, j = np.unravel_index(moved.argmax(), moved.shape)
    assert report.moved_max == pytest.approx(moved.max())
    assert report.moved_mean == pytest.approx(moved.mean())
    assert report.moved_at == pytest.approx({"t": data["t"][i], "x": data["x"][j]})
    before = data["mean"] @ trapezoid(data["x"]) - data["b"]
    assert report.residual_before == pytest.approx(np.abs(before).max())
    assert report.slices == 4
    assert (report.rounding_ratio is None) == bool(noise)


def test_float32_stays_and_conserves_to_rounding():
    data = stefan_like(np.float32)
    done = constrain_arrays(data)
    assert done.arrays["mean"].dtype == np.float32
    assert done.report.rounding_ratio is not None and done.report.rounding_ratio <= 1
    mean, _ = per_slice(stefan_like(), lambda i: np.diag(stefan_like()["std"][i] ** 2))
    assert_allclose(done.arrays["mean"], mean, rtol=0, atol=2e-6)


def test_precision_is_chosen():
    done = constrain_arrays(stefan_like(np.float32), precision="float64")
    assert done.arrays["mean"].dtype == np.float64
    assert done.report.residual_after < 1e-15


def test_samples_conserve_one_by_one():
    data = stefan_like()
    data["samples"] = members(data)
    del data["std"], data["mean"]
    done = constrain_arrays(data)
    data["mean"] = data["samples"].mean(0)
    deviations = data["samples"] - data["mean"]
    mean, cov = per_slice(data, lambda i: deviations[:, i].T @ deviations[:, i] / 7)
    assert_allclose(done.arrays["mean"], mean, rtol=0, atol=1e-13)
    assert_allclose(done.arrays["variance"], np.diagonal(cov, axis1=1, axis2=2), atol=1e-14)
    after = done.arrays["samples"]
    assert_allclose(after @ trapezoid(data["x"]), np.tile(data["b"], (8, 1)), atol=1e-15)
    assert_allclose(after.var(0, ddof=1), done.arrays["variance"], rtol=0, atol=1e-14)


def test_samples_jointly_against_dense():
    data = stefan_like(points=9)
    data["samples"] = members(data)
    done = constrain_arrays(data, joint=True, spread="samples")
    deviations = (data["samples"] - data["samples"].mean(0)).reshape(8, -1)
    G = np.kron(np.eye(4), trapezoid(data["x"]))
    mean, cov = dense(data["mean"].ravel(), deviations.T @ deviations / 7, G, data["b"])
    assert_allclose(done.arrays["mean"].ravel(), mean, rtol=0, atol=1e-11)
    assert_allclose(done.arrays["variance"].ravel(), np.diag(cov), rtol=0, atol=1e-11)
    after = done.arrays["samples"]
    assert after.shape == data["samples"].shape
    assert_allclose(after @ trapezoid(data["x"]), np.tile(data["b"], (8, 1)), atol=1e-14)


@pytest.mark.parametrize("whole", [False, True])
def test_cov_against_dense(whole):
    data = stefan_like(points=9)
    std = data.pop("std")
    x, t = data["x"], data["t"]
    smooth = np.exp(-(((x[:, None] - x) / 0.3) ** 2)) + 1e-6 * np.eye(9)
    given = std[:, :, None] * smooth * std[:, None, :]
    if whole:
        time = np.exp(-np.abs(t[:, None] - t) / 0.05)
        given = np.kron(time, smooth) * std.ravel()[:, None] * std.ravel()
        G = np.kron(np.eye(4), trapezoid(x))
        mean, cov = dense(data["mean"].ravel(), given, G, data["b"])
        variance = np.diag(cov)
    else:
        mean, cov = per_slice(data, lambda i: given[i])
        variance = np.diagonal(cov, axis1=1, axis2=2)
    done = constrain_arrays({**data, "cov": given}, save_cov=True)
    assert_allclose(done.arrays["mean"].ravel(), mean.ravel(), rtol=0, atol=1e-12)
    assert_allclose(done.arrays["variance"].ravel(), variance.ravel(), rtol=0, atol=1e-12)
    assert done.arrays["cov"].shape == ((36, 36) if whole else (4, 9, 9))


def test_batch_equals_one_by_one():
    data = stefan_like(batch=2)
    done = constrain_arrays(data)
    for i in range(2):
        one = constrain_arrays({**data, "mean": data["mean"][i], "std": data["std"][i]})
        for name in ("mean", "variance", "residual_before"):
            assert_allclose(done.arrays[name][i], one.arrays[name], rtol=0, atol=1e-15)
    assert done.report.batch == 2 and done.report.slices == 8
    assert done.report.moved_at is not None and "prediction" in done.report.moved_at


def test_fluxes_give_b_and_their_noise_couples_the_times():
    data = stefan_like(points=9)
    b, t = data.pop("b"), data["t"]
    inflow = np.array([3.0, 2.0, 1.5, 1.2])
    steps = np.diff(t) * (inflow[1:] + inflow[:-1]) / 2
    expected = b[0] + np.concatenate([[0], np.cumsum(steps)]) - 0.1 * (t - t[0])
    fluxes = {"initial": b[0], "flux_x_low": inflow, "flux_x_high": 0.1}
    exact = constrain_arrays({**data, **fluxes})
    assert_allclose(exact.arrays["b"], expected, rtol=0, atol=1e-15)
    assert_allclose(exact.arrays["mean"] @ trapezoid(data["x"]), expected, atol=1e-15)

    noisy = constrain_arrays({**data, **fluxes, "flux_x_low_std": 0.5, "initial_std": 0.01})
    running = np.zeros((4, 4))
    for i, h in enumerate(np.diff(t)):
        running[i + 1 :, i : i + 2] += h / 2
    R = 0.25 * running @ running.T + 1e-4
    G = np.kron(np.eye(4), trapezoid(data["x"]))
    mean, cov = dense(data["mean"].ravel(), np.diag(data["std"].ravel() ** 2), G, expected, R)
    assert_allclose(noisy.arrays["mean"].ravel(), mean, rtol=0, atol=1e-13)
    assert_allclose(noisy.arrays["variance"].ravel(), np.diag(cov), rtol=0, atol=1e-15)
    assert noisy.report.coupling == "time slices jointly"


def test_cells_in_two_dimensions_on_a_part():
    x, y = np.array([0.0, 0.2, 0.5, 1.0]), np.linspace(0.0, 2.0, 5)
    rng = np.random.default_rng(1)
    mean, std = rng.random((3, 4)), 0.1 + rng.random((3, 4))
    file = {"mean": mean, "std": std, "edges_x": x, "edges_y": y, "b": 0.3}
    done = constrain_arrays(file, domain={"x": (0.1, 0.5)})
    weights = np.outer([0.1, 0.3, 0.0], np.diff(y))
    assert_allclose(done.arrays["weights"], weights, atol=1e-15)
    assert_allclose((done.arrays["mean"] * weights).sum(), 0.3, atol=1e-15)
    assert_allclose(done.arrays["mean"][2], mean[2])  # outside the domain
    assert done.report.rule == "cells"


def test_project_moves_all_points_alike_and_needs_no_std():
    data = stefan_like()
    del data["std"]
    done = constrain_arrays(data, method="project")
    g = trapezoid(data["x"])
    off = data["mean"] @ g - data["b"]
    assert_allclose(done.arrays["mean"], data["mean"] - np.outer(off, g) / (g @ g), atol=1e-14)
    assert done.report.moved_max is None
    assert "no standard deviations" in str(done.report)


def test_curvature_against_dense():
    data = stefan_like(times=2, points=17)
    done = constrain_arrays(data, curvature=True)
    g, n, a = trapezoid(data["x"])[None, :], 17, 0.9
    D = np.diff(np.eye(n), 2, axis=0)
    for i in range(2):
        s = data["std"][i]
        s0, s1, s2 = s[:-2], s[1:-1], s[2:]
        noise = s0**2 + 4 * s1**2 + s2**2
        noise += -4 * a * s0 * s1 + 2 * a**2 * s0 * s2 - 4 * a * s1 * s2
        mean, cov = dense(data["mean"][i], np.diag(s**2), D, np.zeros(n - 2), np.diag(noise))
        mean, cov = dense(mean, cov, g, data["b"][i : i + 1])
        assert_allclose(done.arrays["mean"][i], mean, rtol=0, atol=1e-12)
        assert_allclose(done.arrays["variance"][i], np.diag(cov), rtol=0, atol=1e-14)


def test_more_slices_than_fit_in_flight(monkeypatch):
    import jaxsci.experiments._constrain_update as module

    data = stefan_like()
    whole = constrain_arrays(data).arrays["mean"]
    monkeypatch.setattr(module, "_IN_FLIGHT", 8 * 33 * 3)  # chunks of 3, the last one filled up
    assert_allclose(constrain_arrays(data).arrays["mean"], whole, rtol=0, atol=1e-15)


def test_its_own_output_is_input():
    data = stefan_like()
    first = constrain_arrays(data).arrays
    again = constrain_arrays(first)
    assert_allclose(again.arrays["mean"], first["mean"], rtol=0, atol=1e-15)
    assert again.report.notes == ()


def test_a_first_axis_that_may_have_been_meant_as_time_is_noted():
    data = stefan_like(batch=2, times=1)
    del data["t"]
    data |= {"mean": data["mean"][:, 0], "std": data["std"][:, 0], "b": data["b"][..., 0]}
    report = constrain_arrays(data).report
    assert report.batch == 2 and report.notes == ("no array `t`: the first axis of 2 is a batch",)


def test_unused_arrays_are_noted():
    data = stefan_like() | {"b_sdt": np.ones(4), "comment": np.ones(2)}
    notes = constrain_arrays(data).report.notes
    assert notes == (
        "array `b_sdt` was not used; did you mean `b_std`?",
        "array `comment` was not used",
    )
