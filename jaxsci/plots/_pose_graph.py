"""Pose graphs before and after: where the poses are, and which edges close loops."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from ._style import FAINT, STYLE, colors_for, pyplot, require_some

if TYPE_CHECKING:
    import matplotlib.figure

_SHOWN = 20_000  # edges; more make the file large and the picture no clearer


def plot_pose_graph(
    graphs: Mapping[str, Any],
    *,
    colors: Mapping[str, str] | None = None,
    unit: str = "m",
) -> tuple["matplotlib.figure.Figure", np.ndarray]:
    """Trajectories, one panel each: edges between neighbours coloured, loop closures grey.

    Graphs in space are seen from above and a little from the side, with equal scales.

    **Arguments:**

    - `graphs`: name to [`jaxsci.solvers.slam.PoseGraph`][]; of one dimension.
    - `colors`: name to any matplotlib colour; colour-blind safe ones are chosen otherwise.
    - `unit`: of lengths, for the labels.

    **Returns:** `(figure, axes)`, axes as a 1-D array.

    **Raises:** `ValueError` for no graph, or graphs of different dimensions; `ImportError`
    without matplotlib.

    !!! example
        >>> from jaxsci.plots import plot_pose_graph
        >>> from jaxsci.solvers.slam import manhattan
        >>> figure, axes = plot_pose_graph({"start": manhattan(50, seed=0)})
        >>> axes[0].get_xlabel()
        'x (m)'
    """
    where = "plot_pose_graph"
    plt = pyplot(where)
    require_some(where, "graphs", graphs)
    dims = {name: graph.dim for name, graph in graphs.items()}
    if len(set(dims.values())) > 1:
        raise ValueError(f"`{where}(graphs)`: expected graphs of one dimension, got {dims}")
    space = next(iter(dims.values())) == 3
    color = colors_for(graphs, colors)
    with plt.rc_context(STYLE):
        figure, axes = plt.subplots(
            1,
            len(graphs),
            figsize=(4.6 * len(graphs), 4.4),
            squeeze=False,
            layout="constrained",
            subplot_kw={"projection": "3d"} if space else {},
        )
        for ax, (name, graph) in zip(axes[0], graphs.items(), strict=True):
            _draw(ax, graph, color[name], space)
            ax.set_title(name, color=color[name], fontweight="bold")
            for axis in "xyz" if space else "xy":
                getattr(ax, f"set_{axis}label")(f"{axis} ({unit})")
            if space:
                ax.set_box_aspect(np.maximum(np.ptp(_places(graph), axis=0), 1e-9))
                ax.view_init(elev=35, azim=-60)
                ax.locator_params(nbins=4)
            else:
                ax.set_aspect("equal", adjustable="datalim")
    return figure, axes[0]


def _draw(ax: Any, graph: Any, color: str, space: bool) -> None:
    places, edges = _places(graph), np.asarray(graph.edges)
    ids = np.asarray(graph.ids)
    near = np.abs(ids[edges[:, 1]] - ids[edges[:, 0]]) == 1
    loops, path = edges[~near], edges[near]
    _lines(ax, places, loops, space, color=FAINT, lw=0.4, alpha=0.5, label="loop closures")
    _lines(ax, places, path, space, color=color, lw=0.9, alpha=1.0, label="odometry")
    if len(graph.landmarks):
        ax.scatter(*np.asarray(graph.landmarks).T, s=6, marker="+", color=FAINT, label="landmarks")
    if space:  # a collection of lines does not move the limits of axes in space
        for axis, values in zip("xyz", places.T, strict=True):
            low, high = values.min(), values.max()
            getattr(ax, f"set_{axis}lim")(low, high if high > low else low + 1)
    else:
        ax.autoscale_view()
    handles, labels = ax.get_legend_handles_labels()
    if handles:
        ax.legend(handles, labels, loc="upper right")


def _lines(ax: Any, places: np.ndarray, edges: np.ndarray, space: bool, **style: Any) -> None:
    if len(edges) == 0:
        return
    from matplotlib.collections import LineCollection
    from mpl_toolkits.mplot3d.art3d import Line3DCollection

    thinned = edges[:: -(-len(edges) // _SHOWN)]
    lines = places[thinned]
    if space:
        ax.add_collection3d(Line3DCollection(list(lines), **style))
    else:
        ax.add_collection(LineCollection(list(lines), **style))


def _places(graph: Any) -> np.ndarray:
    return np.asarray(graph.poses)[:, -graph.dim :]
