"""A pose graph as a problem for `jaxsci.solvers.nonlinear`, and back."""

from collections.abc import Mapping
from typing import Any

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.precision import matmul
from jaxsci.solvers.nonlinear import (
    SE2,
    SE3,
    AbstractKernel,
    Euclidean,
    Factors,
    Problem,
    Variables,
    between,
)

from . import _lie
from ._graph import PoseGraph
from ._information import root


def to_problem(
    graph: PoseGraph,
    *,
    kernel: AbstractKernel | None = None,
    landmark_kernel: AbstractKernel | None = None,
) -> Problem:
    """The least-squares problem of a pose graph, with the full logarithm as its residual.

    Variable groups `"poses"` (SE(2) or SE(3)) and, if there are any, `"landmarks"`; the poses of
    `graph.anchors` are held. Its cost is [`jaxsci.solvers.slam.graph_cost`][].

    **Arguments:**

    - `graph`: with at least one edge or landmark edge.
    - `kernel`, `landmark_kernel`: robust kernels of the edges and of the landmark edges.

    **Returns:** a [`jaxsci.solvers.nonlinear.Problem`][] in JAX's float dtype: float64 if 64-bit
    types are on, else float32.

    **Raises:** `ValueError` for a graph without edges, or an information matrix that is not
    positive semidefinite.

    !!! example
        >>> from jaxsci.solvers.slam import sphere, to_problem
        >>> to_problem(sphere(3, 4, seed=0)).sizes
        ((12, 6),)
    """
    motion = SE2() if graph.dim == 2 else SE3()
    variables = {"poses": Variables(motion, len(graph.poses))}
    factors = []
    if len(graph.edges):
        factors.append(
            between(
                motion,
                "poses",
                graph.edges,
                _floats(graph.measurements),
                _floats(_semidefinite(graph.information)),
                kernel,
            )
        )
    if len(graph.landmarks):
        plane_or_space = Euclidean(graph.dim)  # pyright: ignore[reportCallIssue]
        variables["landmarks"] = Variables(plane_or_space, len(graph.landmarks))
    if len(graph.landmark_edges):
        sighting = _Sighting(graph.dim)
        factors.append(
            Factors(
                sighting.residual,
                ("poses", "landmarks"),
                graph.landmark_edges,
                _floats(graph.landmark_measurements),
                _floats(root(graph.landmark_information)),
                landmark_kernel,
                sighting.jacobian,
            )
        )
    if not factors:
        raise ValueError("`to_problem(graph)`: expected at least one edge, got none")
    fixed = {"poses": graph.anchors}
    if len(graph.landmarks):
        fixed["landmarks"] = ~np.isin(np.arange(len(graph.landmarks)), graph.landmark_edges[:, 1])
    return Problem(variables, factors, fixed)


def to_values(graph: PoseGraph) -> dict[str, Array]:
    """The graph's poses and landmarks as the values of its problem."""
    values = {"poses": _floats(graph.poses)}
    if len(graph.landmarks):
        values["landmarks"] = _floats(graph.landmarks)
    return values


def from_values(graph: PoseGraph, values: Mapping[str, Any]) -> PoseGraph:
    """The graph with the values of its problem in place of its poses and landmarks.

    **Arguments:**

    - `graph`: from which the problem was made.
    - `values`: of a solution; `solution.to_numpy()` has the digits that a compensated update kept.
    """
    poses = _lie.normalise(np.asarray(values["poses"], np.float64))
    landmarks = values.get("landmarks")
    return graph.with_poses(poses, None if landmarks is None else np.asarray(landmarks, np.float64))


class _Sighting(eqx.Module):
    """A landmark seen from a pose: `r = R' (l - t) - z`, with a step `X Exp(d)` of the pose."""

    dim: int = eqx.field(static=True)

    def residual(self, pose: Array, mark: Array, z: Array) -> Float[Array, " dim"]:
        return matmul(rotation_matrix(pose).T, mark - pose[-self.dim :]) - z

    def jacobian(self, pose: Array, mark: Array, z: Array) -> tuple[Array, Array]:
        back = rotation_matrix(pose).T
        seen = matmul(back, mark - pose[-self.dim :])
        if self.dim == 2:
            by_turn = jnp.stack([seen[1], -seen[0]])[:, None]
        else:
            x, y, z = seen
            o = jnp.zeros_like(x)
            by_turn = jnp.stack(
                [jnp.stack([o, -z, y]), jnp.stack([z, o, -x]), jnp.stack([-y, x, o])]
            )
        by_step = -jnp.eye(self.dim, dtype=seen.dtype)
        return jnp.concatenate([by_step, by_turn], axis=1), back


def rotation_matrix(pose: Array) -> Array:
    """The rotation matrix of a pose."""
    if len(pose) == 4:
        c, s = pose[0], pose[1]
        return jnp.stack([jnp.stack([c, -s]), jnp.stack([s, c])])
    w, x, y, z = pose[:4]

    return jnp.stack(
        [
            jnp.stack([w * w + x * x - y * y - z * z, 2 * (x * y - w * z), 2 * (x * z + w * y)]),
            jnp.stack([2 * (x * y + w * z), w * w - x * x + y * y - z * z, 2 * (y * z - w * x)]),
            jnp.stack([2 * (x * z - w * y), 2 * (y * z + w * x), w * w - x * x - y * y + z * z]),
        ]
    )


def _floats(array: np.ndarray) -> Array:
    return jnp.asarray(array, jnp.result_type(float))


def _semidefinite(information: np.ndarray) -> np.ndarray:
    """The information matrices without the eigenvalues below zero that rounding made."""
    square = root(information)
    return square.transpose(0, 2, 1) @ square
