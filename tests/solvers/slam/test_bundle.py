"""Bundle adjustment: files, camera models against SciPy, windows, batches."""

import bz2
import dataclasses
import struct

import equinox as eqx
import jax
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from jaxsci.solvers.nonlinear import LevenbergMarquardt, minimise
from jaxsci.solvers.slam import (
    BALCamera,
    Bundle,
    bundle_batch,
    bundle_cost,
    bundle_from_values,
    bundle_residual,
    bundle_to_problem,
    bundle_to_values,
    read_bal,
    read_libmv,
    sliding_window,
    write_bal,
)


def bal(cameras=3, points=5, seed=0):
    """Random BAL cameras and points in front of them (along -z)."""
    rng = np.random.default_rng(seed)
    omega, move = rng.normal(scale=0.3, size=(2, cameras, 3))
    turn = Rotation.from_rotvec(omega).as_quat()[:, [3, 0, 1, 2]]
    seen = [(c, p) for c in range(cameras) for p in range(points) if (c + p) % 4]
    index = np.array(seen)
    return Bundle(
        np.concatenate([turn, move], axis=1),
        np.stack([rng.uniform(400, 600, cameras), *rng.normal(scale=0.01, size=(2, cameras))], 1),
        rng.normal(size=(points, 3)) - [0, 0, 6.0],
        index[:, 0],
        index[:, 1],
        rng.normal(scale=100, size=(len(index), 2)),
    ), omega


def libmv(
    order="<", cameras=((7, 0.1), (3, 0.0)), markers=((3, 1), (7, 1), (7, 2), (5, 1), (3, 9))
):
    """A libmv file: two cameras, points 1 and 2, five markers of which two are of nothing."""
    mark = {"<": b"vP", ">": b"VP"}[order]
    out = [mark, struct.pack(f"{order}8f", 500, 320, 240, -0.1, 0.01, 0.002, 0.001, -0.002)]
    out.append(struct.pack(f"{order}i", len(cameras)))
    for image, angle in cameras:
        turn = Rotation.from_rotvec([angle, 2 * angle, 0]).as_matrix()
        out.append(struct.pack(f"{order}i9f3f", image, *turn.T.ravel(), angle, 0, 0.5))
    out.append(struct.pack(f"{order}i", 2))
    for track, x in ((2, 0.5), (1, -0.5)):
        out.append(struct.pack(f"{order}i3f", track, x, 0.3, 4.0))
    out.append(struct.pack(f"{order}i", len(markers)))
    for k, (image, track) in enumerate(markers):
        out.append(struct.pack(f"{order}2i2f", image, track, 300.0 + k, 200.0 - k))
    return b"".join(out)


def test_the_bal_model_is_the_published_one():
    bundle, omega = bal()
    c, p = bundle.camera_index, bundle.point_index
    seen = Rotation.from_rotvec(omega[c]).apply(bundle.points[p]) + bundle.cameras[c, 4:]
    flat = -seen[:, :2] / seen[:, 2:]
    f, k1, k2 = bundle.intrinsics[c].T
    r2 = np.sum(flat**2, axis=1)
    expected = (f * (1 + k1 * r2 + k2 * r2**2))[:, None] * flat - bundle.pixels
    np.testing.assert_allclose(bundle_residual(bundle), expected, atol=1e-9)


def test_bal_files(tmp_path):
    bundle, _ = bal()
    write_bal(tmp_path / "p.txt", bundle)
    (tmp_path / "p.txt.bz2").write_bytes(bz2.compress((tmp_path / "p.txt").read_bytes()))
    for name in ("p.txt", "p.txt.bz2"):
        again = read_bal(tmp_path / name)
        np.testing.assert_array_equal(again.camera_index, bundle.camera_index)
        np.testing.assert_array_equal(again.pixels, bundle.pixels)
        assert bundle_cost(again) == pytest.approx(bundle_cost(bundle), rel=1e-13)


@pytest.mark.parametrize(
    ("line", "text", "match"),
    [
        (1, "3 5", "line 1: expected 3 finite numbers, the first 3 whole: '3 5'"),
        (1, "3 5 99999999999", "line 1: expected as many"),
        (3, "0 1 2.0", "line 3: expected 4 finite numbers, the first 2 whole: '0 1 2.0'"),
        (3, "0.5 1 2 3", "line 3"),
        (3, "0 5 2 3", "line 3: expected a camera below 3 and a point below 5"),
        (20, "nan", "line 20: expected finite numbers: 'nan'"),
        (20, "1 2", "numbers after the observations, .* got 43"),
    ],
)
def test_malformed_bal_files(tmp_path, line, text, match):
    path = tmp_path / "p.txt"
    write_bal(path, bal()[0])
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[: line - 1], text, *lines[line:]]))
    with pytest.raises(ValueError, match=match):
        read_bal(path)


@pytest.mark.parametrize("order", ["<", ">"])
def test_libmv_files(tmp_path, order):
    path = tmp_path / "p.bin"
    path.write_bytes(libmv(order))
    bundle = read_libmv(path)
    assert bundle.skipped == 2
    assert np.asarray(bundle.camera_ids).tolist() == [3, 7]
    assert np.asarray(bundle.point_ids).tolist() == [1, 2]
    assert bundle.camera_index.tolist() == [0, 1, 1] and bundle.point_index.tolist() == [0, 0, 1]
    # By hand, the last marker: camera 7 sees point 2.
    x, y, z = Rotation.from_rotvec([0.1, 0.2, 0]).apply([0.5, 0.3, 4.0]) + [0.1, 0, 0.5]
    x, y = x / z, y / z
    r2 = x * x + y * y
    radial = 1 - 0.1 * r2 + 0.01 * r2**2 + 0.002 * r2**3
    u = 500 * (x * radial + 2 * 0.001 * x * y - 0.002 * (r2 + 2 * x * x)) + 320
    v = 500 * (y * radial - 2 * 0.002 * x * y + 0.001 * (r2 + 2 * y * y)) + 240
    np.testing.assert_allclose(bundle_residual(bundle)[2], [u - 302, v - 198], atol=1e-3)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "starts with 'vP' or 'VP', got ''"),
        (b"vN" + libmv()[2:], "in pixels"),
        (libmv()[:20], "ends within the intrinsics"),
        (libmv()[:36], "ends before the number of cameras"),
        (libmv()[:90], "byte 34: 2 cameras need 104 bytes"),
        (libmv()[:-1], "5 markers need 80 bytes, got 79"),
        (libmv() + b"x", "expected the end of the file"),
        (libmv(cameras=((3, 0.1), (3, 0.0))), "a camera is given twice"),
        (libmv()[:42] + struct.pack("<f", np.nan) + libmv()[46:], "not finite"),
        (libmv()[:42] + struct.pack("<f", 2.0) + libmv()[46:], "not a rotation"),
        (libmv()[:34] + struct.pack("<i", -1) + libmv()[38:], "-1 cameras"),
    ],
)
def test_malformed_libmv_files(tmp_path, data, match):
    path = tmp_path / "p.bin"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=match):
        read_libmv(path)


def test_windows():
    whole = sliding_window(12, 40, seed=0)
    part = whole.window(3, 6)
    assert len(part.cameras) == 6 and np.asarray(part.camera_ids).tolist() == [3, 4, 5, 6, 7, 8]
    assert np.bincount(part.point_index).min() >= 2
    # The same residuals as in the whole, for the observations that are kept.
    inside = (whole.camera_index >= 3) & (whole.camera_index < 9)
    inside &= np.isin(whole.point_index, np.asarray(part.point_ids))
    np.testing.assert_array_equal(bundle_residual(part), bundle_residual(whole)[inside])
    with pytest.raises(ValueError, match="expected cameras from 0 to 11"):
        whole.window(8, 6)
    with pytest.raises(ValueError, match="share no point"):
        whole.window(3, 1)


def test_a_generated_window_is_exact_without_noise():
    quiet = sliding_window(seed=0, pixel_noise=0.0, start_noise=0.0)
    assert bundle_cost(quiet) == 0
    noisy = sliding_window(seed=0)
    assert 4500 < 2 * len(noisy.pixels) < 5500
    truth = dataclasses.replace(noisy, cameras=noisy.true_cameras, points=noisy.true_points)
    assert 2 * bundle_cost(truth) / (2 * len(noisy.pixels)) == pytest.approx(0.25, rel=0.05)
    assert bundle_cost(noisy) > 50 * bundle_cost(truth)
    np.testing.assert_array_equal(noisy.cameras[0], truth.cameras[0])


@eqx.filter_jit
def residuals(problem, values):
    """The residual of every observation."""
    factors = problem.factors[0]
    camera = values["cameras"][factors.indices[:, 0]]
    point = values["points"][factors.indices[:, 1]]
    return jax.vmap(factors.residual)(camera, point, factors.measurement)


@pytest.mark.parametrize("model", ["bal", "radial"])
def test_compiled_residuals(model, x64):
    bundle = bal()[0] if model == "bal" else sliding_window(4, 9, seed=1)
    values = bundle_to_values(bundle)
    found = residuals(bundle_to_problem(bundle), values)
    np.testing.assert_allclose(found, bundle_residual(bundle), atol=1e-9)
    again = bundle_from_values(bundle, values)
    assert bundle_cost(again) == pytest.approx(bundle_cost(bundle), rel=1e-12)


def test_a_step_of_a_bal_camera(x64):
    camera = np.concatenate([bal()[0].cameras, bal()[0].intrinsics], axis=1)[0]
    step = np.linspace(-0.3, 0.5, 9)

    @jax.jit
    def there_and_back(camera, step):
        moved = BALCamera().retract(camera, step)
        return moved, BALCamera().local(camera, moved), BALCamera().increment(camera, step)

    moved, back, change = there_and_back(camera, step)
    np.testing.assert_allclose(back, step, atol=1e-13)
    np.testing.assert_allclose(change, moved - camera, atol=1e-13)
    turned = Rotation.from_quat(camera[[1, 2, 3, 0]]) * Rotation.from_rotvec(step[3:6])
    off = turned.inv() * Rotation.from_quat(np.asarray(moved)[[1, 2, 3, 0]])
    assert off.magnitude() < 1e-13
    np.testing.assert_allclose(moved[7:], camera[7:] + step[6:], rtol=1e-15)


def test_a_batch_is_its_members():
    whole = sliding_window(12, 40, seed=0)
    parts = [whole.window(k, 6) for k in (0, 3, 6)]
    assert len({len(part.pixels) for part in parts}) > 1
    problem, values = bundle_batch(parts)
    found = eqx.filter_vmap(residuals)(problem, values)
    for k, part in enumerate(parts):
        count = len(part.pixels)
        np.testing.assert_allclose(found[k, :count], bundle_residual(part), atol=5e-3)
        weight = np.asarray(problem.factors[0].sqrt_information)[k]
        assert (weight[:count] == 1).all() and (weight[count:] == 0).all()
        held = problem.fixed["points"][k]
        assert not held[: len(part.points)].any() and held[len(part.points) :].all()


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda b: dataclasses.replace(b, cameras=b.cameras[:, :6]), r"shape \(3, 7\), got shape"),
        (lambda b: dataclasses.replace(b, point_index=b.point_index + 3), "positions from 0 to 4"),
        (lambda b: dataclasses.replace(b, pixels=b.pixels * np.nan), "finite"),
        (lambda b: dataclasses.replace(b, camera_index=b.pixels[:, 0]), "whole numbers"),
        (lambda b: bundle_to_problem(b, points=2), ">= 5, got 2"),
        (lambda b: bundle_to_problem(b, pixel_noise=0.0), "expected > 0"),
        (lambda b: bundle_batch([b, b.window(0, 2)]), "as many cameras"),
        (lambda b: write_bal("x", sliding_window(3, 9, seed=0)), r"expected intrinsics \(C, 3\)"),
        (lambda b: sliding_window(1, seed=0), "at least 2, got 1"),
    ],
)
def test_bad_input(call, match):
    with pytest.raises(ValueError, match=match):
        call(bal()[0])


@pytest.mark.slow
def test_a_batch_of_windows_is_solved_as_each_alone(x64):
    whole = sliding_window(12, 40, seed=0)
    parts = [whole.window(k, 6) for k in (0, 3, 6)]

    @eqx.filter_jit
    @eqx.filter_vmap
    def solve(problem, values):
        method = LevenbergMarquardt()
        return minimise(problem, values, method=method, linear="dense", throw=False)

    together = solve(*bundle_batch(parts))
    # Filled up alike, so that the three share one compiled program.
    p, o = max(len(part.points) for part in parts), max(len(part.pixels) for part in parts)
    for k, part in enumerate(parts):
        alone = minimise(
            bundle_to_problem(part, points=p, observations=o),
            bundle_to_values(part, points=p),
            method=LevenbergMarquardt(),
            linear="dense",
        )
        assert float(together.cost[k]) == pytest.approx(float(alone.cost), rel=1e-9)
        assert int(together.steps[k]) == int(alone.steps)


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize(
    ("name", "rows", "columns", "cost"), [("02", 5034, 471, 69.1094), ("03", 1124, 354, 21.6338)]
)
def test_real_windows(data_dir, x64, name, rows, columns, cost):
    bundle = read_libmv(data_dir / "bundle_adjustment" / f"libmv_problem_{name}.bin")
    window = bundle.window(100, 50)
    assert 2 * len(window.pixels) == rows
    assert 6 * len(window.cameras) + 3 * len(window.points) == columns
    start = window.perturbed(rotation=1e-3, translation=1e-2, point=1e-2, seed=0)
    assert bundle_cost(start) > 1e4
    solution = minimise(
        bundle_to_problem(start),
        bundle_to_values(start),
        method=LevenbergMarquardt(),
        linear="dense",
    )
    found = bundle_from_values(start, solution.values)
    assert bundle_cost(found) == pytest.approx(cost, abs=5e-5)
