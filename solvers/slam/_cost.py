"""The cost of a pose graph in float64 on the host: the reference for what is compiled."""

from typing import Literal

import numpy as np

from jaxsci.errors import lookup

from ._graph import PoseGraph
from ._lie import Doubles, compose, inverse, log, rotate

Form = Literal["log", "g2o"]
_FORMS = {"log": None, "g2o": None}


def graph_residual(graph: PoseGraph, form: Form = "log") -> tuple[Doubles, Doubles]:
    """What each measurement says against the poses, not yet weighted.

    With `D = Z^-1 X_i^-1 X_j`, translation first:

    - `"log"`: `r = Log(D)`, the logarithm of the group (as GTSAM);
    - `"g2o"`: the translation and the angle of `D` (2-D), or its translation and the vector part
        of its quaternion, half the angle for small ones (3-D).

    A landmark `l` measured at `z` from pose `i` gives `r = X_i^-1 l - z` in both.

    **Arguments:**

    - `graph`: with E edges and K landmark edges.
    - `form`: see above. The two have different minima and different costs.

    **Returns:** residuals of the edges (E, 3 or 6) and of the landmark edges (K, dim).
    """
    lookup("form", form, _FORMS)
    i, j = graph.edges.T
    off = compose(inverse(compose(graph.poses[i], graph.measurements)), graph.poses[j])
    if form == "log":
        residual = log(off)
    elif graph.dim == 2:
        residual = np.concatenate([off[:, 2:], np.arctan2(off[:, 1:2], off[:, :1])], axis=1)
    else:
        sign = np.where(off[:, :1] < 0, -1.0, 1.0)
        residual = np.concatenate([off[:, 4:], sign * off[:, 1:4]], axis=1)
    pose, mark = graph.landmark_edges.T
    from_pose = inverse(graph.poses[pose])
    k = 2 if graph.dim == 2 else 4
    seen = rotate(from_pose, graph.landmarks[mark]) + from_pose[:, k:]
    return residual, seen - graph.landmark_measurements


def graph_cost(graph: PoseGraph, form: Form = "log") -> float:
    """Half the sum of the squared Mahalanobis lengths of all residuals, in float64.

    `F = 1/2 sum_k r_k' Omega_k r_k`

    **Arguments:** as [`jaxsci.solvers.slam.graph_residual`][].

    **Returns:** the cost; it has no unit.
    """
    residual, seen = graph_residual(graph, form)
    edges = np.einsum("ei,eij,ej->", residual, graph.information, residual)
    marks = np.einsum("ei,eij,ej->", seen, graph.landmark_information, seen)
    return float(edges + marks) / 2
