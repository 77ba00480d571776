"""The figures of an experiment with operators: one test function, by every model."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxsci.equations.families import Sample
from jaxsci.operators.boundary import (
    BoundaryConditions,
    Neumann,
    Periodic,
    boundary_derivative,
    residuals,
)
from jaxsci.plots import animate_fields, plot_fields, plot_growth, plot_profile, plot_traces

from ._operators_evaluation import predict_in_parts
from ._operators_problem import Problem
from ._operators_training import ScaledOperator

_SHOWN = 3  # models side by side: more would be too small to see


def draw_operator_figures(
    models: Mapping[str, ScaledOperator],
    problem: Problem,
    rollout: Mapping[str, list[float]],
    folder: Path,
) -> dict[str, Path]:
    """Writes fields and errors, boundary traces, the rollout and an animation, as there are any.

    **Returns:** the files, by what they show.
    """
    one = jax.tree.map(lambda leaf: leaf[:1], problem.test)
    shown = dict(list(models.items())[-_SHOWN:])
    predicted = {name: np.asarray(predict_in_parts(m, one))[0, 0] for name, m in shown.items()}
    truth = np.asarray(one.outputs)[0, 0]
    axes, points = problem.conditions.axes, problem.coordinates
    files: dict[str, Path] = {}

    def save(name: str, figure: Any) -> None:
        import matplotlib.pyplot as plt

        files[name] = folder / f"{name}.png"
        figure.savefig(files[name], dpi=150)
        plt.close(figure)

    if len(axes) == 1:
        no_doubt = {name: (u, np.zeros_like(u)) for name, u in predicted.items()}
        save("fields", plot_profile(points[axes[0]], no_doubt, truth)[0])
    else:
        first, second = axes[-2:]
        maps = (lambda u: u) if len(axes) == 2 else (lambda u: u[-1].T)
        rows, columns = (first, second) if len(axes) == 2 else (second, first)
        no_doubt = {name: (maps(u), np.zeros_like(maps(u))) for name, u in predicted.items()}
        words = {"t": "time $t$ (dimensionless)"}
        label = {name: words.get(name, f"position ${name}$ (dimensionless)") for name in axes}
        fields = plot_fields(
            points[rows],
            points[columns],
            maps(truth),
            no_doubt,
            t_label=label[rows],
            x_label=label[columns],
        )
        save("fields", fields[0])
    if axes[0] == "t":
        exact, curves = _traces(shown, one, problem.conditions)
        save("boundary", plot_traces(points["t"], exact, curves)[0])
    if rollout:
        save(
            "rollout",
            plot_growth({n: np.array(e) for n, e in rollout.items()}, x_label="window of time")[0],
        )
    if len(axes) == 3 and axes[0] == "t":
        last = list(predicted)[-1]
        animated = {"truth": truth, last: predicted[last]}
        files["animation"] = animate_fields(
            points[axes[1]], points[axes[2]], animated, folder / "animation.gif", t=points["t"]
        )
    return files


def _traces(
    models: Mapping[str, ScaledOperator], one: Sample, conditions: BoundaryConditions
) -> tuple[dict[str, np.ndarray], dict[str, dict[str, np.ndarray]]]:
    """By face: what should be there over time, and what each model has, halfway along the face.

    Values for a Dirichlet condition; for a Neumann one the slope, by a stencil of order 6; for a
    periodic axis the jump from one end to the other.
    """
    values = {face: value[0] for face, value in one.values.items()}
    given = conditions.values(one.outputs.shape[1:], one.outputs.dtype, values)
    exact: dict[str, np.ndarray] = {}
    curves: dict[str, dict[str, np.ndarray]] = {name: {} for name in models}
    for (axis, side), condition in conditions.faces.items():
        if axis == "t" or (isinstance(condition, Periodic) and side == "high"):
            continue
        at = conditions.along(axis)

        def along(u: Any) -> np.ndarray:
            first = np.asarray(u)[0]
            return first.reshape(len(first), -1)[:, first[0].size // 2]

        kind = {Neumann: "slope", Periodic: "jump"}.get(type(condition), "value")
        place = f"{kind} at the {side} end of ${axis}$"
        if kind == "jump":
            place = f"jump across ${axis}$"
        for name, model in models.items():
            u = predict_in_parts(model, one)[0]
            if kind == "slope":
                h = conditions.step(axis, u.shape[at], u.dtype)
                order = min(6, u.shape[at] - 1)
                found = boundary_derivative(u, axis=at, side=side, spacing=h, order=order)
            elif kind == "jump":
                found = residuals(u, conditions, values)[axis, side].residual
            else:
                found = jax.numpy.take(u, 0 if side == "low" else -1, axis=at)
            curves[name][place] = along(found)
            zero = np.zeros_like(curves[name][place])
            exact[place] = zero if kind == "jump" else along(given[axis, side])
    return exact, curves
