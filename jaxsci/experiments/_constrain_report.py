"""What constraining did, in numbers and in words."""

import dataclasses

import numpy as np

from ._constrain_layout import Prediction


@dataclasses.dataclass(frozen=True)
class ConstrainReport:
    """What [`jaxsci.experiments.constrain_arrays`][] did; `str` gives the lines that are printed.

    Residuals are `G u - b` in the unit of `b`; moves are counted in standard deviations of the
    prediction, over the points that have one (`None` if there are none).
    """

    file: str | None
    output: str | None
    figure: str | None
    method: str
    covariance: str
    coupling: str
    precision: str
    rule: str
    exact: bool
    points: int
    slices: int
    batch: int
    grid: dict[str, int]
    residual_before: float
    """The largest |G mean - b| before, over the slices."""
    residual_before_rms: float
    residual_before_at: dict[str, float]
    residual_after: float
    residual_after_rms: float
    rounding_ratio: float | None
    """The largest |G mean - b| after, over `4 eps sum |g_i mean_i|`; at most 1 if exact."""
    moved_max: float | None
    """The largest move of the mean, in standard deviations."""
    moved_mean: float | None
    moved_at: dict[str, float] | None
    """Coordinates of the largest move."""
    moved_most: float
    """The largest move of the mean, in its own unit."""
    variance_ratio: float | None
    """The sum of the variances after, over that before."""
    fixed_points: int
    """Points with variance 0, which conditioning leaves where they are."""
    notes: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(_lines(self))


def make_report(
    prediction: Prediction,
    updated: dict[str, np.ndarray],
    *,
    method: str,
    coupling: str,
    rule: str,
    exact: bool,
    notes: tuple[str, ...],
) -> ConstrainReport:
    """The numbers of a [`ConstrainReport`], from the prediction and what became of it."""
    before, after = np.abs(updated["residual_before"]), np.abs(updated["residual_after"])
    step = np.abs(updated["mean"] - prediction.mean)
    variance, moved = prediction.variance, None
    at, ratio, fixed = None, None, 0
    if variance is not None:
        free = variance > 0
        fixed = int(free.size - free.sum())
        if free.any():
            moved = np.where(free, step / np.sqrt(np.where(free, variance, 1)), 0)
            at = _where(prediction, moved)
            ratio = float(updated["variance"].sum() / variance.sum())
    batch, times, *space = prediction.mean.shape
    lengths = dict(zip(prediction.axes, ([times] if prediction.timed else []) + space, strict=True))
    rounding = updated["rounding"]
    relative = np.where(after > 0, after / np.where(rounding > 0, rounding, np.inf), 0)
    return ConstrainReport(
        file=None,
        output=None,
        figure=None,
        method=method,
        covariance=_covariance(prediction, method),
        coupling=coupling,
        precision=prediction.mean.dtype.name,
        rule=rule,
        exact=exact,
        points=prediction.mean.size,
        slices=batch * times,
        batch=batch,
        grid=lengths,
        residual_before=float(before.max()),
        residual_before_rms=_rms(before),
        residual_before_at=_where(prediction, before),
        residual_after=float(after.max()),
        residual_after_rms=_rms(after),
        rounding_ratio=float(relative.max()) if exact else None,
        moved_max=None if moved is None else float(moved.max()),
        moved_mean=None if moved is None else float(moved.sum() / (moved.size - fixed)),
        moved_at=at,
        moved_most=float(step.max()),
        variance_ratio=ratio,
        fixed_points=fixed,
        notes=notes,
    )


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values.astype(float) ** 2)))


def _where(prediction: Prediction, values: np.ndarray) -> dict[str, float]:
    """Coordinates of the largest of the values, `(batch, nt)` or `(batch, nt, *space)`."""
    index = np.unravel_index(int(values.argmax()), values.shape)
    at: dict[str, float] = {"prediction": int(index[0])} if prediction.batched else {}
    axes = prediction.axes if prediction.timed else (None, *prediction.axes)
    for name, i in zip(axes, index[1:], strict=False):
        if name is None:
            continue
        points = prediction.coordinates.get(name)
        if points is None:
            edges = prediction.coordinates[f"edges_{name}"]
            points = (edges[:-1] + edges[1:]) / 2
        at[name] = float(points[i])
    return at


def _covariance(prediction: Prediction, method: str) -> str:
    if method == "project":
        return "not used"
    if prediction.kind == "samples" and prediction.spread is not None:
        return f"of {prediction.spread.shape[2]} samples"
    if prediction.kind == "cov":
        return "matrices (`cov`)"
    return f"independent points (`{prediction.source}`)"


def _lines(report: ConstrainReport):
    yield from _heading(report)
    grid = " x ".join(str(n) for n in report.grid.values())
    batch = f"batch of {report.batch}, " if report.batch > 1 else ""
    count = "slice" if report.slices == 1 else "slices"
    yield (
        f"  grid        {grid} ({', '.join(report.grid)}), {batch}{report.slices} {count}, "
        f"{report.precision}"
    )
    yield f"  method      {report.method}; covariance {report.covariance}; {report.coupling}"
    held = "exactly" if report.exact else "up to the noise of b"
    yield f"  constraint  the {report.rule} integral is b, {held}"
    yield f"  residual    before {report.residual_before:.3e}{_at(report.residual_before_at)}, " + (
        f"rms {report.residual_before_rms:.3e}"
    )
    bound = ""
    if report.rounding_ratio is not None:
        bound = f" = {report.rounding_ratio:.2f} x the rounding bound"
    yield (
        f"              after  {report.residual_after:.3e}{bound}, "
        f"rms {report.residual_after_rms:.3e}"
    )
    if report.moved_max is None:
        yield f"  mean moved  at most {report.moved_most:.3e} (no standard deviations given)"
    else:
        yield (
            f"  mean moved  at most {report.moved_max:.3g} standard deviations"
            f"{_at(report.moved_at)}, on average {report.moved_mean:.3g}"
        )
    if report.variance_ratio is not None:
        yield f"  variance    {100 * report.variance_ratio:.4g} % of what it was, in total"
    if report.fixed_points:
        yield f"  fixed       {report.fixed_points} points have variance 0"
    for note in report.notes:
        yield f"  note        {note}"


def _heading(report: ConstrainReport):
    if report.file is not None:
        yield f"{report.file} -> {report.output}"
    if report.figure is not None:
        yield f"  figure      {report.figure}"


def _at(where: dict[str, float] | None) -> str:
    if not where:
        return ""
    return " at " + ", ".join(f"{name} = {value:.6g}" for name, value in where.items())
