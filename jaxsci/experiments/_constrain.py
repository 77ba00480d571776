"""The user's own predictions, made to hold what must hold."""

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import jax
import numpy as np
from jaxtyping import ArrayLike

from ._constrain_figure import check_figure, draw
from ._constrain_files import check_extension, check_free, read_arrays, write_arrays
from ._constrain_law import law
from ._constrain_layout import Prediction, lay_out
from ._constrain_names import KNOWN, SPREADS, missing, notes_on_unused
from ._constrain_report import ConstrainReport, make_report
from ._constrain_settings import ConstrainSettings, check_options, parse_domain
from ._constrain_update import Settings, update

# Matrices beyond this many bytes are refused (C): they would hardly be meant.
_LARGEST_COV = 2**33


@dataclasses.dataclass(frozen=True)
class Constrained:
    """Constrained arrays, laid out as the input was, and the report on them.

    - `arrays`: `mean`, `variance`, coordinates and residuals; docs/command-line.md lists them.
    - `report`: a [`jaxsci.experiments.ConstrainReport`][]; print it.
    """

    arrays: dict[str, np.ndarray]
    report: ConstrainReport


@dataclasses.dataclass(frozen=True)
class _Work:
    prediction: Prediction
    updated: dict[str, np.ndarray]
    done: Constrained


def constrain_arrays(
    arrays: Mapping[str, ArrayLike],
    *,
    method: str = "condition",
    rule: str | None = None,
    domain: Mapping[str, tuple[float, float]] | None = None,
    noise: float = 0.0,
    curvature: bool = False,
    joint: bool = False,
    spread: str | None = None,
    precision: str | None = None,
    save_cov: bool = False,
) -> Constrained:
    """Predictions whose space integral is what it must be, at each time, and how they moved.

    **Arguments:**

    - `arrays`: by name, as in a file for `jaxsci constrain`: `mean`; `std`, `variance`, `samples`
        or `cov`; coordinates `t`, `x`, `y`, `z` or `edges_x`, ...; and `b`, or `initial` and the
        fluxes. docs/command-line.md gives all names and shapes.
    - the others: as the options of the same name of [`jaxsci.experiments.ConstrainSettings`][];
        `domain` is `{axis: (low, high)}`.

    **Returns:** a [`jaxsci.experiments.Constrained`][]. 64-bit types are switched on for float64
    predictions, within this call only.

    **Raises:** `ValueError`, one sentence that names the array, what was expected and what is
    there; or the first slice that cannot be updated, and why.

    !!! example
        >>> import numpy as np
        >>> from jaxsci.experiments import constrain_arrays
        >>> x = np.linspace(0, 1, 101)
        >>> put_right = constrain_arrays({"mean": 1.1 - x, "std": 0.1 + x, "x": x, "b": 0.5})
        >>> bool(abs(np.trapezoid(put_right.arrays["mean"], x) - 0.5) < 1e-15)
        True
        >>> put_right.report.residual_before, put_right.arrays["mean"].dtype
        (0.1, dtype('float64'))
    """
    return _work(
        arrays,
        method=method,
        rule=rule,
        domain=domain,
        noise=noise,
        curvature=curvature,
        joint=joint,
        spread=spread,
        precision=precision,
        save_cov=save_cov,
    ).done


def _work(
    arrays: Mapping[str, ArrayLike],
    *,
    method: str,
    rule: str | None,
    domain: Mapping[str, tuple[float, float]] | None,
    noise: float,
    curvature: bool,
    joint: bool,
    spread: str | None,
    precision: str | None,
    save_cov: bool,
    figure: Path | None = None,
) -> _Work:
    check_options(method, noise, curvature, joint)
    if method not in ("condition", "project"):
        raise ValueError(f"unknown method {method!r}; expected 'condition' or 'project'")
    given = {name: np.asarray(value) for name, value in arrays.items()}
    known = {name: value for name, value in given.items() if name in KNOWN}
    for name, value in known.items():
        if value.dtype.kind not in "fiu":
            raise ValueError(f"`{name}`: expected real numbers, got {value.dtype}")
    found = list(given)
    prediction = lay_out(known, found, spread, precision)
    notes = notes_on_unused(found)
    if prediction.batched and not prediction.timed:
        notes.append(f"no array `t`: the first axis of {prediction.mean.shape[0]} is a batch")
    _check_spread(prediction, found, method, curvature, joint)
    if figure is not None:
        check_figure(figure, prediction)

    with jax.enable_x64(prediction.mean.dtype == np.float64):
        space = prediction.space()
        weights = np.asarray(space.weights(rule, domain=domain))
        if not weights.any():
            raise ValueError("the integral covers no point; check --domain")
        rhs = law(known, found, prediction, rule=rule, domain=bool(domain), noise=noise)
        exact = rhs.R is None or method == "project"
        if method == "project" and rhs.R is not None:
            notes.append("the noise of b was not used by --method project")
        coupled = rhs.R is not None and rhs.R.ndim == 3 and method == "condition"
        if coupled and curvature:
            raise ValueError("--curvature works slice by slice; it cannot use uncertain fluxes")
        couple = prediction.joint_cov or joint or (coupled and prediction.kind == "variance")
        couple = couple and method == "condition"
        if coupled and not couple:
            notes.append("the noise of b is correlated between times, which only --joint uses")
        _check_rank(prediction, couple, exact)
        settings = Settings(
            method=method,
            kind=prediction.kind,
            curvature=curvature,
            joint=couple,
            samples=prediction.kind == "samples" and exact and method == "condition",
            factor=prediction.kind == "variance"
            and method == "condition"
            and not couple
            and not curvature,
            cov=_check_cov(prediction, couple, save_cov),
        )
        updated = update(prediction, rhs, weights, settings)
    default = "cells" if any(axis.edges is not None for axis in space.axes) else "trapezoid"
    report = make_report(
        prediction,
        updated,
        method=method,
        coupling=_coupling(prediction, couple),
        rule=rule or default,
        exact=exact,
        notes=tuple(notes),
    )
    out = _output(prediction, updated, rhs.b, rhs.variances, weights)
    return _Work(prediction, updated, Constrained(out, report))


def constrain_file(
    settings: ConstrainSettings, *, progress: Callable[[str], None] | None = None
) -> ConstrainReport:
    """[`jaxsci.experiments.constrain_arrays`][] from file to file: what `jaxsci constrain` does.

    **Arguments:**

    - `settings`: e.g. `ConstrainSettings(Path("prediction.npz"))`.
    - `progress`: is called with a line of text now and then.

    **Returns:** the report; the arrays are in the file `report.output`.

    **Raises:** `ValueError` for content that cannot be used, `OSError` for files that cannot be
    read or would be overwritten, `ImportError` for HDF5 without h5py or figures without
    matplotlib. Nothing is written then.
    """
    say = progress or (lambda line: None)
    file, output = Path(settings.file), settings.output
    check_extension(file)
    if output is None:
        output = file.with_name(f"{file.stem}-constrained{file.suffix}")
    output = Path(output)
    check_extension(output)
    arrays, found = read_arrays(file)
    if output.exists() and output.samefile(file):
        raise ValueError(f"{output}: is the input; the prediction would be lost, choose another")
    check_free(output, settings.overwrite, "--output")
    figure = None if settings.figure is None else Path(settings.figure)
    if figure is not None:
        check_free(figure, settings.overwrite, "--figure")
    unused = {name: np.zeros(()) for name in found if name not in arrays}
    say(f"read {file}: {', '.join(f'{name} {a.shape}' for name, a in arrays.items())}")
    try:
        work = _work(
            {**arrays, **unused},
            method=settings.method,
            rule=settings.rule,
            domain=parse_domain(settings.domain),
            noise=settings.noise,
            curvature=settings.curvature,
            joint=settings.joint,
            spread=settings.spread,
            precision=settings.precision,
            save_cov=settings.save_cov,
            figure=figure,
        )
    except (ValueError, TypeError) as error:
        raise ValueError(f"{file}: {error}") from error
    report = dataclasses.replace(work.done.report, file=str(file), output=str(output))
    if figure is not None:
        say(f"drawing {figure}")
        draw(figure, work.prediction, work.updated)
        report = dataclasses.replace(report, figure=str(figure))
    say(f"writing {output}")
    text = json.dumps(dataclasses.asdict(settings), default=str)
    write_arrays(output, work.done.arrays, text)
    return report


def _check_spread(
    prediction: Prediction, found: list[str], method: str, curvature: bool, joint: bool
) -> None:
    if method == "project":
        return
    variance = prediction.variance
    if variance is None:
        raise missing(reversed(SPREADS), "the uncertainty; --method project needs none", found)
    if not (variance > 0).any():
        raise ValueError(
            f"`{prediction.source}`: the variance is zero everywhere, so the prediction cannot be "
            "updated: it claims to be certain; give it an uncertainty, or use --method project, "
            "which needs none"
        )
    if joint and not prediction.timed:
        raise ValueError("--joint: there is no time axis `t`, so there are no slices to join")
    if joint and prediction.kind == "cov" and not prediction.joint_cov:
        raise ValueError(
            "--joint: `cov` has one matrix per time; give it over space-time, or leave out --joint"
        )
    if curvature:
        if prediction.joint_cov:
            raise ValueError("--curvature works slice by slice; `cov` is one over space-time")
        _check_uniform(prediction)


def _check_uniform(prediction: Prediction) -> None:
    space = prediction.space()
    if len(space.axes) != 1:
        raise ValueError(f"--curvature: expected one space axis, got {list(space.names)}")
    steps = np.diff(np.asarray(space.axes[0].points, float))
    if len(steps) < 2 or np.ptp(steps) > 1e-3 * steps.mean():
        raise ValueError(
            f"--curvature: expected at least 3 equally spaced points `{space.names[0]}`, got "
            f"{len(steps) + 1} with steps from {steps.min():.3g} to {steps.max():.3g}"
        )


def _check_rank(prediction: Prediction, couple: bool, exact: bool) -> None:
    if not (couple and exact and prediction.kind == "samples") or prediction.spread is None:
        return
    members, times = prediction.spread.shape[2], prediction.mean.shape[1]
    if members - 1 < times:
        raise ValueError(
            f"--joint: {members} samples vary in {members - 1} directions, fewer than the {times} "
            "exact constraints; leave out --joint, or give b a --noise"
        )


def _check_cov(prediction: Prediction, couple: bool, save_cov: bool) -> bool:
    if not save_cov:
        return False
    if prediction.kind is None:
        raise ValueError("--save-cov: the prediction has no uncertainty")
    batch, times, *space = prediction.mean.shape
    n = int(np.prod(space))
    size = batch * ((times * n) ** 2 if couple else times * n**2) * prediction.mean.itemsize
    if size > _LARGEST_COV:
        raise ValueError(
            f"--save-cov: the matrices would take {size / 2**30:.3g} GiB, expected at most "
            f"{_LARGEST_COV / 2**30:.3g}; leave it out (`cov_factor` or `samples` describe them)"
        )
    return True


def _coupling(prediction: Prediction, couple: bool) -> str:
    if prediction.mean.shape[1] == 1:
        return "one slice each" if prediction.batched else "one slice"
    return "time slices jointly" if couple else "time slices independently"


def _output(
    prediction: Prediction,
    updated: dict[str, np.ndarray],
    b: np.ndarray,
    R: np.ndarray | None,
    weights: np.ndarray,
) -> dict[str, np.ndarray]:
    """The arrays to hand out, in the layout of the file."""
    lead = prediction.lead
    fields = (*lead, *prediction.mean.shape[2:])
    out = {"mean": updated["mean"].reshape(fields)}
    if "variance" in updated:
        variance = updated["variance"].reshape(fields)
        out |= {"variance": variance, "std": np.sqrt(variance)}
    if "cov_factor" in updated and prediction.spread is not None:
        out["cov_diagonal"] = prediction.spread.reshape(fields)
        out["cov_factor"] = updated["cov_factor"].reshape(fields)
    if "samples" in updated:
        samples = np.moveaxis(updated["samples"], 2, 0)
        out["samples"] = samples.reshape(len(samples), *fields)
    if "cov" in updated:
        matrix = updated["cov"].shape[-2:]
        joint = updated["cov"].ndim == 3
        out["cov"] = updated["cov"].reshape(
            *(lead[: int(prediction.batched)] if joint else lead), *matrix
        )
    out |= prediction.coordinates
    out |= {"weights": weights, "b": b.reshape(lead)}
    if R is not None:
        out["b_std"] = np.sqrt(R).reshape(lead)
    for name in ("residual_before", "residual_after", "rounding"):
        out[name] = updated[name].reshape(lead)
    return out
