"""Figures show the data they were given, are labelled, and leave nothing behind."""

import builtins
import subprocess
import sys

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_hex
from scipy import stats

from jaxsci.gaussians import Gaussian
from jaxsci.plots import (
    OKABE_ITO,
    animate_fields,
    plot_calibration,
    plot_fields,
    plot_growth,
    plot_mass,
    plot_profile,
    plot_shock_histogram,
    plot_summary,
    plot_traces,
)

CURVES = {"before": ([0.5, 0.9], [0.3, 0.7]), "after": ([0.5, 0.9], [0.52, 0.9])}


def summary_of(s, **changed):
    settings = dict(
        x=s.x,
        predictions=s.predictions,
        truth=s.truth,
        t=s.t,
        masses=s.masses,
        true_mass=s.true_mass,
        shocks=s.shocks,
        true_shock=s.front,
        time=s.time,
    )
    return plot_summary(**(settings | changed))


FIGURES = {
    "profile": lambda s: plot_profile(s.x, s.predictions, s.truth, front=s.front),
    "overlay": lambda s: plot_profile(s.x, s.predictions, s.truth, layout="overlay"),
    "mass": lambda s: plot_mass(s.t, s.masses, s.true_mass, stds={"before": 0.01 * s.t}),
    "shock": lambda s: plot_shock_histogram(s.shocks, s.front),
    "calibration": lambda s: plot_calibration(CURVES),
    "fields": lambda s: plot_fields(s.t, s.x, s.field, s.fields, show_std=True),
    "summary": summary_of,
}


def line(axes, label):
    (found,) = [drawn for drawn in axes.lines if drawn.get_label() == label]
    return found


@pytest.mark.parametrize("name", FIGURES)
def test_every_panel_is_labelled_and_the_layout_holds(name, stefan):
    """No warning (they are errors), axes with labels, names in legends or titles, all on page."""
    figure, _ = FIGURES[name](stefan)
    figure.canvas.draw()
    for axes in figure.axes:
        if not axes.axison or axes.get_label() == "<colorbar>":
            continue
        if axes.get_title(loc="left") == "no shock":  # bars with their values written on them
            continue
        for label, group in (
            ("get_xlabel", axes.get_shared_x_axes()),
            ("get_ylabel", axes.get_shared_y_axes()),
        ):
            assert any(getattr(a, label)() for a in group.get_siblings(axes)), label
    text = " ".join(
        t.get_text() for a in figure.axes for t in (a.title, a._left_title, *legend_texts(a))
    )
    assert "before" in text and "after" in text
    boxes = [a.get_tightbbox() for a in figure.axes if a.axison]
    page = figure.bbox
    for box in boxes:
        assert box.x0 >= -1 and box.y0 >= -1 and box.x1 <= page.x1 + 1 and box.y1 <= page.y1 + 1


def legend_texts(axes):
    return axes.get_legend().get_texts() if axes.get_legend() else []


def test_profile_draws_the_data_and_the_interval(stefan):
    _, axes = plot_profile(stefan.x, stefan.predictions, stefan.truth, level=0.9)
    assert axes.shape == (2,)
    for ax, (name, (mean, var)) in zip(axes, stefan.predictions.items(), strict=True):
        assert ax.get_title(loc="left") == name
        np.testing.assert_array_equal(line(ax, "mean").get_ydata(), mean)
        np.testing.assert_array_equal(line(ax, "truth").get_ydata(), stefan.truth)
        low, high = stats.norm.interval(0.9, mean, np.sqrt(var))
        edge = ax.collections[0].get_paths()[0].vertices[:, 1]
        np.testing.assert_allclose([edge.min(), edge.max()], [low.min(), high.max()], rtol=1e-12)
        assert [t.get_text() for t in legend_texts(ax)] == ["truth", "mean", "90 % interval"]


def test_profile_takes_gaussians_and_jax_arrays(stefan):
    mean, var = (jnp.asarray(a, jnp.float32) for a in stefan.predictions["before"])
    _, axes = plot_profile(jnp.asarray(stefan.x), {"g": Gaussian.diagonal(mean, var)})
    np.testing.assert_array_equal(line(axes[0], "mean").get_ydata(), mean)
    assert to_hex(line(axes[0], "mean").get_color()) == OKABE_ITO["blue"].lower()


def test_overlay_names_each_mean_and_takes_colours(stefan):
    _, axes = plot_profile(
        stefan.x, stefan.predictions, layout="overlay", colors={"after": "#123456"}
    )
    assert axes.shape == (1,)
    assert to_hex(line(axes[0], "before").get_color()) == OKABE_ITO["vermilion"].lower()
    assert to_hex(line(axes[0], "after").get_color()) == "#123456"


def test_mass_and_its_error(stefan):
    _, (mass, error) = plot_mass(stefan.t, stefan.masses, stefan.true_mass)
    for name, values in stefan.masses.items():
        np.testing.assert_array_equal(line(mass, name).get_ydata(), values)
    np.testing.assert_array_equal(line(mass, "truth").get_ydata(), stefan.true_mass)
    drawn = line(error, "before").get_ydata()
    np.testing.assert_allclose(drawn, np.abs(stefan.masses["before"] - stefan.true_mass))
    assert error.get_yscale() == "log"


def test_an_exact_mass_is_drawn_in_the_rounding_zone(stefan):
    """Zero cannot be on a log axis; it must not vanish, nor stretch the axis to 1e-300."""
    exact = stefan.true_mass.astype(np.float32)
    _, (_, error) = plot_mass(stefan.t, {"exact": exact}, exact)
    drawn = line(error, "exact").get_ydata()
    floor = np.finfo(np.float32).eps * exact.max()
    assert np.all(drawn > 0) and np.all(drawn < floor)
    low, high = error.get_ylim()
    assert low < drawn.min() and high > floor and low > 1e-12
    assert "rounding (float32)" in [t.get_text() for t in error.texts]


def test_shock_bars_and_none_add_up_to_one(stefan):
    _, (bars, none) = plot_shock_histogram(stefan.shocks, stefan.front)
    heights = [p.get_height() for p in bars.patches if hasattr(p, "get_height")]
    np.testing.assert_allclose(sum(heights), 0.9 + 1.0)
    np.testing.assert_allclose([p.get_height() for p in none.patches], [0.1, 0], atol=1e-12)
    assert bars.get_ylim() == none.get_ylim()
    labels = [t.get_text() for t in legend_texts(bars)]
    found = stefan.shocks["before"][~np.isnan(stefan.shocks["before"])]
    expected = f"before: {found.mean():.3f} ± {found.std(ddof=1):.3f}\n(10 % no shock)"
    assert expected in labels and f"truth: {stefan.front:.3f}" in labels


def test_shock_bins_follow_the_grid():
    """Equal counts at every grid point give equal bars, whatever the number of bins."""
    points = np.linspace(0, 1, 201).astype(np.float32)[40:141]
    for bins in (7, 20, 40, 200):
        _, (axes, _) = plot_shock_histogram({"a": np.repeat(points, 9)}, bins=bins)
        heights = np.array([p.get_height() for p in axes.patches if hasattr(p, "get_height")])
        inner = heights[heights > 0]
        assert inner.size <= bins + 1
        np.testing.assert_allclose(inner[:-1], inner[0], rtol=1e-9)
        plt.close("all")


@pytest.mark.parametrize(
    "values", ([np.nan, np.nan], [0.25], [0.25, 0.25], np.linspace(0.1, 0.4, 77) ** 2)
)
def test_shock_histograms_of_odd_samples(values):
    figure, (axes, none) = plot_shock_histogram({"a": np.array(values)}, float("nan"))
    figure.canvas.draw()
    heights = sum(p.get_height() for p in axes.patches if hasattr(p, "get_height"))
    np.testing.assert_allclose(heights + none.patches[0].get_height(), 1)


def test_calibration_draws_the_curves(stefan):
    _, axes = plot_calibration(CURVES)
    drawn = line(axes, "after (RMSCE 0.01)")
    np.testing.assert_array_equal(drawn.get_xydata(), np.transpose(CURVES["after"]))
    np.testing.assert_array_equal(line(axes, "calibrated").get_xydata(), [[0, 0], [1, 1]])


def test_fields_share_scales_and_show_signed_errors(stefan):
    _, axes = plot_fields(stefan.t, stefan.x, stefan.field, stefan.fields)
    assert axes.shape == (2, 3)
    images = [[ax.collections[0] for ax in row[j:]] for j, row in enumerate(axes)]
    np.testing.assert_array_equal(images[0][0].get_array(), stefan.field)
    for j, (mean, _) in enumerate(stefan.fields.values()):
        np.testing.assert_array_equal(images[0][j + 1].get_array(), mean)
        np.testing.assert_array_equal(images[1][j].get_array(), mean - stefan.field)
    assert len({image.get_clim() for image in images[0]}) == 1
    low, high = images[1][0].get_clim()
    assert low == -high and images[1][1].get_clim() == (low, high)


def test_error_colours_are_uniform_and_symmetric_in_lightness():
    """Checked in CIELAB, another colour space than the one they are made in."""
    from jaxsci.plots._colors import signed_error_colors

    srgb = signed_error_colors(101)
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    luminance = linear @ [0.2126, 0.7152, 0.0722]
    lightness = 116 * np.cbrt(luminance) - 16
    assert srgb.shape == (101, 3) and srgb.min() >= 0 and srgb.max() <= 1
    assert lightness[50] > 96 and np.all(np.diff(lightness[:51]) > 0)
    assert np.all(np.diff(lightness[50:]) < 0)
    np.testing.assert_allclose(lightness, lightness[::-1], atol=6)
    steps = np.abs(np.diff(lightness))
    assert steps.max() < 1.6 * steps.min()


def test_summary_has_the_whole_story(stefan):
    figure, axes = summary_of(stefan)
    assert list(axes) == ["before", "after", "mass", "error", "shock"]
    for name, (mean, _) in stefan.predictions.items():
        np.testing.assert_array_equal(line(axes[name], "predicted mean").get_ydata(), mean)
        np.testing.assert_array_equal(line(axes["mass"], name).get_ydata(), stefan.masses[name])
    assert "MSE" in axes["before"].get_title(loc="right")
    assert "mass error $+" in axes["before"].get_title(loc="right")
    figure.canvas.draw()


def test_summary_without_time_or_shock_and_with_three_methods(stefan):
    third = {"third": stefan.predictions["after"]}
    figure, axes = summary_of(
        stefan,
        predictions=stefan.predictions | third,
        masses=stefan.masses | {"third": stefan.masses["after"]},
        shocks=stefan.shocks | {"third": np.full(5, np.nan)},
        time=None,
        true_shock=None,
    )
    figure.canvas.draw()
    assert axes["third"].get_title(loc="right").startswith("MSE")


def test_importing_the_package_does_not_import_matplotlib():
    code = "import sys, jaxsci.plots; sys.exit('matplotlib' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=120).returncode == 0


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch, stefan):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ModuleNotFoundError(f"No module named {name!r}")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r"plot_profile.*pip install 'jaxsci\[plot\]'"):
        plot_profile(stefan.x, stefan.predictions)


def test_traces_show_the_error_even_where_it_is_0():
    t = np.linspace(0, 1, 5)
    figure, axes = plot_traces(
        t, {"low": t, "high": 2 * t}, {"a": {"low": t, "high": 2 * t + 0.1}}, t_label="t"
    )
    assert axes.shape == (2, 2) and axes[1, 0].get_yscale() == "log"
    exact, off = (axes[1, i].lines[0].get_ydata() for i in (0, 1))
    np.testing.assert_allclose(off, 0.1)
    assert np.all(exact == axes[1, 0].get_ylim()[0])
    assert [text.get_text() for text in figure.legends[0].texts] == ["a", "prescribed"]


def test_growth_counts_from_1():
    _, axes = plot_growth({"a": [0.1, 0.2], "b": np.array([0.3, 0.4, 0.5])})
    np.testing.assert_array_equal(axes.lines[1].get_xdata(), [1, 2, 3])
    np.testing.assert_array_equal(axes.lines[0].get_ydata(), [0.1, 0.2])


def test_an_animation_has_every_time(tmp_path):
    from PIL import Image

    x, y = np.linspace(0, 1, 4), np.linspace(0, 1, 5)
    u = np.random.default_rng(0).normal(size=(3, 4, 5))
    path = animate_fields(x, y, {"truth": u, "model": u + 1}, tmp_path / "u.gif", t=[0.0, 0.5, 1])
    with Image.open(path) as image:
        assert image.n_frames == 3


BAD = {
    "places": (
        lambda s: plot_traces(s.t, {"a": s.t}, {"m": {"b": s.t}}),
        ValueError,
        r"expected the places \['a'\], got \['b'\]",
    ),
    "frames": (
        lambda s: animate_fields(s.x, s.x, {"a": s.field}, "u.gif"),
        ValueError,
        "expected shape",
    ),
    "x": (lambda s: plot_profile(s.x[1:], s.predictions), ValueError, r"'before'.*\(100,\)"),
    "truth": (
        lambda s: plot_profile(s.x, s.predictions, s.truth[1:]),
        ValueError,
        r"`plot_profile\(truth=...\)`: expected shape \(101,\), got \(100,\)",
    ),
    "layout": (
        lambda s: plot_profile(s.x, s.predictions, layout="panel"),
        ValueError,
        "unknown layout 'panel'; did you mean 'panels'",
    ),
    "level": (lambda s: plot_profile(s.x, s.predictions, level=95), ValueError, "not 95"),
    "nothing": (lambda s: plot_profile(s.x, {}), ValueError, "at least one entry"),
    "mapping": (lambda s: plot_mass(s.t, s.true_mass, s.true_mass), TypeError, "a mapping"),
    "kind": (lambda s: plot_profile(s.x, {"a": s.truth}), TypeError, "`Gaussian` or a pair"),
    "variance": (
        lambda s: plot_profile(s.x, {"a": (s.truth, s.truth - 1)}),
        ValueError,
        "expected variances >= 0",
    ),
    "mass": (
        lambda s: plot_mass(s.t, {"a": s.t[1:]}, s.true_mass),
        ValueError,
        r"masses\['a'\]=.*expected shape \(19,\), got \(18,\)",
    ),
    "draws": (lambda s: plot_shock_histogram({"a": s.field}), ValueError, "expected shape .draws,"),
    "bins": (lambda s: plot_shock_histogram(s.shocks, bins=0), ValueError, "at least 1, got 0"),
    "coverage": (lambda s: plot_calibration({"a": ([0.5], [50.0])}), ValueError, "fractions"),
    "field": (lambda s: plot_fields(s.t, s.x, s.field.T, s.fields), ValueError, r"\(19, 101\)"),
    "names": (
        lambda s: summary_of(s, shocks={"before": s.shocks["before"]}),
        ValueError,
        r"shocks=.*names of `predictions`, \['before', 'after'\], got \['before'\]",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case, stefan):
    call, error, message = BAD[case]
    with pytest.raises(error, match=message):
        call(stefan)
