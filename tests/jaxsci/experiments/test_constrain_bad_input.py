"""Every bad file gets one clear line."""

import sys
from pathlib import Path

import numpy as np
import pytest

from jaxsci.experiments import ConstrainSettings, constrain_arrays, constrain_file


def good(**changes) -> dict:
    """A small prediction; `None` takes an array out."""
    t, x = np.array([0.0, 0.5, 1.0]), np.linspace(0.0, 1.0, 5)
    arrays = {
        "mean": np.outer(1 + t, 1 - x),
        "std": np.full((3, 5), 0.1),
        "t": t,
        "x": x,
        "b": np.array([0.4, 0.7, 1.1]),
    }
    return {name: v for name, v in (arrays | changes).items() if v is not None}


def changed(name: str, index: tuple[int, ...], value: float) -> dict:
    array = np.array(good()[name])
    array[index] = value
    return good(**{name: array})


FLUX = {"b": None, "initial": 0.4, "flux_x_low": 1.0, "flux_x_high": np.zeros(3)}
BAD = [
    (good(mean=None, means=np.ones(3)), r"no array `mean`.*did you mean `means`\? Found: std, t"),
    (good(std=None, sdt=np.ones(3)), r"no array `std` or `variance` or .*did you mean `sdt`"),
    (good(x=None), r"no array `x` or `edges_x` \(coordinates.*Found: mean, std, t, b"),
    (good(b=None), r"no array `b` or `initial`"),
    (good(mean=np.ones((3, 6))), r"`mean` has shape \(3, 6\).*`t` \(3\), `x` \(5\).*\(3, 5\)"),
    (good(mean=np.ones((5, 3))), r"`mean` has shape \(5, 3\).*transpose it.*order t, x"),
    (good(std=np.ones((3, 4))), r"`std` has shape \(3, 4\), but `mean` has shape \(3, 5\)"),
    (
        changed("mean", (1, 2), np.nan),
        r"^`mean`: expected finite numbers, got nan at index \(1, 2\)",
    ),
    (changed("std", (2, 0), np.inf), r"^`std`: expected finite numbers, got inf at index \(2, 0\)"),
    (changed("b", (1,), np.nan), r"^`b`: expected finite numbers, got nan at index \(1,\)"),
    (changed("std", (0, 3), -0.5), r"`std`: expected numbers >= 0, got -0.5 at index \(0, 3\)"),
    (good(std=np.zeros((3, 5))), r"`std`: the variance is zero everywhere.*cannot be updated"),
    (good(b=np.ones(4)), r"`b` has shape \(4,\), but the prediction has slices \(3,\)"),
    (good(b_std=-np.ones(3)), r"`b_std`: expected numbers >= 0, got -1.0 at index \(0,\)"),
    (good(x=np.array([0, 0.5, 0.25, 0.75, 1])), r"`x`: .*increasing.*0.5 followed by 0.25 at.* 2"),
    (good(t=np.ones((3, 1))), r"`t`: expected a 1-D array of at least 1 coord.*\(3, 1\)"),
    (good(edges_x=np.linspace(0, 1, 5)), r"`x` has 5 points but `edges_x` has 5 edges"),
    (good(edges_x=np.linspace(0, 1, 6) + 1), r"`x`: point 0.0 at index 0 is outside its cell"),
    (good(period_x=np.ones(2)), r"`period_x`: expected one finite number"),
    (good(mean=np.ones((3, 5), complex)), r"`mean`: expected real numbers, got complex128"),
    (good(cov=np.ones((5, 5))), r"`cov` has shape \(5, 5\).*\(3, 5, 5\).*\(15, 15\)"),
    (good(cov=np.triu(np.ones((3, 5, 5)))), r"`cov`: expected symmetric matrices, got"),
    (good(cov=-np.ones((3, 5, 5))), r"`cov`: expected variances >= 0 on the diagonal"),
    (good(samples=np.ones((4, 3, 4))), r"`samples` has shape \(4, 3, 4\), expected \(M, 3, 5\)"),
    (good(samples=np.ones((1, 3, 5))), r"`samples` has shape \(1, 3, 5\).*M >= 2"),
    (good(initial=1.0), r"both `b` and flux data \(`initial`\) are given; keep one"),
    (good(**FLUX, t=None, mean=np.ones(5), std=np.ones(5)), r"no array `t` \(the times, which"),
    (good(**(FLUX | {"flux_x_high": None})), r"no array `flux_x_high` \(the flux through the h"),
    (good(**(FLUX | {"initial": None})), r"no array `initial`"),
    (good(**FLUX, flux_y_low=0.0), r"`flux_y_low`: the grid has no open face there"),
    (good(**(FLUX | {"flux_x_low": np.ones(4)})), r"`flux_x_low` has shape \(4,\), expected"),
    (good(**FLUX, b_std=1.0), r"`b_std` belongs to `b`"),
]


@pytest.mark.parametrize(("arrays", "match"), BAD, ids=[match[:30] for _, match in BAD])
def test_bad_arrays(arrays, match):
    with pytest.raises(ValueError, match=match):
        constrain_arrays(arrays)


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"noise": -1.0}, r"--noise: expected a finite standard deviation >= 0, got -1.0"),
        ({"noise": 0.1, "method": "project"}, r"--noise means nothing for --method project"),
        ({"method": "projct"}, r"unknown method 'projct'"),
        ({"rule": "trapez"}, r"unknown quadrature rule 'trapez'; did you mean 'trapezoid'"),
        ({"rule": "cells"}, r"this axis has points, not cells"),
        ({"domain": {"y": (0, 1)}}, r"unknown axis of the integral 'y'"),
        ({"domain": {"x": (0, 2)}}, r"expected an interval inside \[0.0, 1.0\]"),
        ({"precision": "float16"}, r"unknown precision 'float16'"),
        ({"spread": "sdt"}, r"unknown spread 'sdt'; did you mean 'std'"),
        ({"spread": "cov"}, r"no array `cov`"),
    ],
)
def test_bad_options(options, match):
    with pytest.raises(ValueError, match=match):
        constrain_arrays(good(), **options)


def test_slices_that_cannot_move_are_named():
    stuck = good()["std"].copy()
    stuck[1] = 0
    with pytest.raises(
        ValueError,
        match=r"1 of 3 updates failed; the first is time slice 1 \(t = 0.5\): residual 0.05\. A row"
        r" of the constraint has no variance",
    ):
        constrain_arrays(good(std=stuck))


def test_samples_that_agree_on_the_integral():
    rng = np.random.default_rng(0)
    samples = rng.standard_normal((6, 3, 5))
    weights = np.array([0.125, 0.25, 0.25, 0.25, 0.125])
    samples -= (samples @ weights)[..., None]  # every member has integral 0, to rounding
    with pytest.raises(ValueError, match=r"every sample has the same total"):
        constrain_arrays(good(samples=samples, std=None))


def test_too_few_samples_for_all_times_at_once():
    samples = np.random.default_rng(0).standard_normal((3, 3, 5))
    with pytest.raises(ValueError, match=r"3 samples vary in 2 directions, fewer than the 3 exact"):
        constrain_arrays(good(samples=samples), joint=True)


def test_curvature_needs_equal_steps():
    x = np.array([0.0, 0.1, 0.3, 0.6, 1.0])
    with pytest.raises(ValueError, match=r"--curvature: expected at least 3 equally spaced points"):
        constrain_arrays(good(x=x), curvature=True)


def saved(folder: Path, **arrays) -> Path:
    path = folder / "prediction.npz"
    np.savez(path, **(arrays or good()))
    return path


def test_nothing_is_overwritten_unless_told(tmp_path):
    path = saved(tmp_path)
    report = constrain_file(ConstrainSettings(path))
    output = tmp_path / "prediction-constrained.npz"
    assert report.output == str(output)
    content = output.read_bytes()
    with pytest.raises(FileExistsError, match=r"exists already; use --overwrite"):
        constrain_file(ConstrainSettings(path))
    assert output.read_bytes() == content
    constrain_file(ConstrainSettings(path, overwrite=True))
    with pytest.raises(ValueError, match=r"is the input"):
        constrain_file(ConstrainSettings(path, output=path, overwrite=True))
    assert sorted(p.name for p in tmp_path.iterdir()) == [output.name, path.name]


def test_a_failure_writes_nothing(tmp_path):
    path = saved(tmp_path, **good(b=np.ones(4)))
    with pytest.raises(ValueError, match=r"prediction.npz: `b` has shape"):
        constrain_file(ConstrainSettings(path))
    assert list(tmp_path.iterdir()) == [path]


def test_hdf5_to_npz_gives_the_same(tmp_path):
    h5py = pytest.importorskip("h5py")
    path = tmp_path / "prediction.h5"
    with h5py.File(path, "w") as file:
        for name, array in good().items():
            file[name] = array
        file["group/extra"] = np.ones(3)
    report = constrain_file(ConstrainSettings(path, output=tmp_path / "out.npz"))
    assert report.notes == ("array `group/extra` was not used",)
    back = constrain_file(ConstrainSettings(path))
    with np.load(tmp_path / "out.npz") as out, h5py.File(str(back.output)) as h5:
        assert sorted([*h5, "settings"]) == sorted(out.files)
        assert np.array_equal(out["mean"], h5["mean"][()])
        assert '"method": "condition"' in str(out["settings"])
        assert '"method": "condition"' in str(h5.attrs["settings"])


@pytest.mark.parametrize(
    ("name", "content", "error", "match"),
    [
        ("a.npz", b"not a zip", ValueError, r"a.npz: not a readable npz file"),
        ("a.npz", b"PK\x03\x04 cut off", ValueError, r"a.npz: not a readable npz file"),
        ("a.h5", b"not HDF5", ValueError, r"a.h5: not a readable HDF5 file"),
        ("a.csv", b"1,2", ValueError, r"unknown extension '.csv'; expected one of .npz, .h5"),
        ("b.npz", None, FileNotFoundError, r"b.npz: no such file"),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, content, error, match):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=match):
        constrain_file(ConstrainSettings(tmp_path / name))


def test_a_near_miss_of_the_file_name(tmp_path):
    saved(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"did you mean .*prediction.npz"):
        constrain_file(ConstrainSettings(tmp_path / "predictions.npz"))


def test_python_objects_are_not_unpickled(tmp_path):
    path = saved(tmp_path, **good(std=np.array([None, {}], object)))
    with pytest.raises(ValueError, match=r"`std`: expected real numbers, got Python objects"):
        constrain_file(ConstrainSettings(path))


def test_hdf5_without_h5py(tmp_path, monkeypatch):
    (tmp_path / "a.h5").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ImportError, match=r"pip install 'jaxsci\[hdf5\]'"):
        constrain_file(ConstrainSettings(tmp_path / "a.h5"))


@pytest.mark.parametrize("figure", ["moved.png", "moved.xyz"])
def test_figure(tmp_path, figure):
    pytest.importorskip("matplotlib")
    path, figure = saved(tmp_path), tmp_path / figure
    settings = ConstrainSettings(path, figure=figure)
    if figure.suffix == ".xyz":
        with pytest.raises(ValueError, match=r"--figure .*unknown extension"):
            constrain_file(settings)
        assert list(tmp_path.iterdir()) == [path]
    else:
        constrain_file(settings)
        assert figure.stat().st_size > 1000
