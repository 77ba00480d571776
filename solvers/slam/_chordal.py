"""Initialisation by chordal relaxation: two linear solves, no start needed."""

from typing import Literal, NamedTuple

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from jaxsci.errors import lookup
from jaxsci.solvers.linear import CGNR_RESULTS, cgnr
from jaxsci.solvers.sparse import BlockDiagonal, BlockJacobian, BlockRows, block_scaling

from . import _lie
from ._graph import PoseGraph
from ._information import root
from ._lie import Doubles
from ._odometry import odometry

_WEIGHTS = {"information": None, "uniform": None}


class ChordalReport(NamedTuple):
    """How the two solves went: CG steps of each, and a sentence for each, empty if all is well."""

    steps: tuple[int, int]
    messages: tuple[str, str]


def chordal(
    graph: PoseGraph,
    *,
    weights: Literal["information", "uniform"] = "information",
    rtol: float = 1e-6,
    max_steps: int = 20_000,
) -> tuple[PoseGraph, ChordalReport]:
    """The graph with poses from two linear least-squares problems, whatever they were before.

    First rotations, as matrices that need not be orthogonal, then translations (and landmarks):

    ```
    min  sum_k kappa_k |R_j - R_i R_k|_F^2,         each R_i then projected on SO(d)
    min  sum_k |W_k (R_i' (t_j - t_i) - t_k)|^2,    W'W the translations' part of Omega
    ```

    Both are solved with [`jaxsci.solvers.linear.cgnr`][] on block-scaled Jacobians, in float64 if
    64-bit types are on, else in float32, which a start does not suffer from. CG itself starts
    from the odometry. The poses that `graph.anchors` names are held.

    **Arguments:**

    - `graph`: its poses matter only where they are held.
    - `weights`: `kappa`, `"information"`: the mean of the rotations' part of the diagonal of
        `Omega`; `"uniform"`: 1.
    - `rtol`, `max_steps`: of CG, on the gradient.

    **Returns:** the graph with other poses and landmarks, and a `ChordalReport`. If a solve
    stopped early the poses are still usable, as every CG step only improves them.

    **Raises:** `ValueError` for an information matrix that is not positive semidefinite.

    Reference: Carlone, Tron, Daniilidis, Dellaert, *Initialization techniques for 3D SLAM: a
    survey on rotation estimation and its use in pose graph optimization*, ICRA 2015. Differs from
    the paper in: translations are solved for alone, without a last Gauss-Newton step.
    """
    lookup("choice of weights", weights, _WEIGHTS)
    start = odometry(graph)
    dim, held = graph.dim, graph.anchors
    rotations, turned = _rotations(start, weights, held, rtol, max_steps)
    n, marks = len(graph.poses), len(graph.landmarks)
    pose, mark = graph.landmark_edges.T
    i = np.concatenate([graph.edges[:, 0], pose])
    j = np.concatenate([graph.edges[:, 1], n + mark])
    weight = np.concatenate(
        [root(graph.information[:, :dim, :dim]), root(graph.landmark_information)]
    )
    seen = np.concatenate([graph.measurements[:, -dim:], graph.landmark_measurements])
    into = weight @ rotations[i].transpose(0, 2, 1)
    moved = _solve(
        (-into, into),
        (i, j),
        np.einsum("eij,ej->ei", weight, seen)[None],
        np.concatenate([start.poses[:, -dim:], start.landmarks])[None],
        np.concatenate([held, np.zeros(marks, bool)]),
        rtol,
        max_steps,
    )
    poses = _lie.from_matrix(rotations, moved.value[0, :n])
    poses[held] = graph.poses[held]
    report = ChordalReport((turned.steps, moved.steps), (turned.message, moved.message))
    return graph.with_poses(poses, moved.value[0, n:]), report


class _Solved(NamedTuple):
    value: Doubles
    steps: int
    message: str


def _rotations(
    start: PoseGraph, weights: str, held: np.ndarray, rtol: float, max_steps: int
) -> tuple[Doubles, _Solved]:
    dim, e = start.dim, len(start.edges)
    if weights == "information":
        kappa = np.einsum("eii->ei", start.information)[:, dim:].mean(axis=1)
        if (kappa < 0).any():
            raise ValueError("`chordal(graph)`: an information matrix is not positive semidefinite")
    else:
        kappa = np.ones(e)
    scale = np.sqrt(kappa)[:, None, None]
    measured = _lie.matrix(start.measurements)
    rotations = _lie.matrix(start.poses)
    # In the plane (cos, sin) says all; in space the rows of R_j - R_i R_k are three problems with
    # one matrix.
    back = scale * (-measured if dim == 2 else -measured.transpose(0, 2, 1))
    ahead = np.broadcast_to(scale * np.eye(dim), back.shape)
    first = rotations[None, :, :, 0] if dim == 2 else rotations.transpose(1, 0, 2)
    right = np.zeros((len(first), e, dim))
    solved = _solve((back, ahead), tuple(start.edges.T), right, first, held, rtol, max_steps)
    if dim == 2:
        c, s = solved.value[0].T
        relaxed = np.stack([np.stack([c, s], -1), np.stack([-s, c], -1)], axis=-1)
    else:
        relaxed = solved.value.transpose(1, 0, 2)
    # A relaxed rotation of nothing (a part without any weight) says nothing: odometry's stays.
    lost = np.linalg.norm(relaxed, axis=(1, 2)) < 1e-6
    relaxed = np.where(lost[:, None, None] | held[:, None, None], rotations, relaxed)
    return _nearest_rotation(relaxed), solved


def _nearest_rotation(matrices: Doubles) -> Doubles:
    """The rotation matrices nearest in the Frobenius norm."""
    u, _, vt = np.linalg.svd(matrices)
    u[..., -1] *= np.where(np.linalg.det(u @ vt) < 0, -1.0, 1.0)[:, None]
    return u @ vt


def _solve(
    blocks: tuple[Doubles, Doubles],
    ends: tuple[np.ndarray, ...],
    right: Doubles,
    first: Doubles,
    held: np.ndarray,
    rtol: float,
    max_steps: int,
) -> _Solved:
    """Minimise `|J x - right|` for each right-hand side of (K, E, r); held variables stay."""
    if right.size == 0 or held.all():
        return _Solved(first, 0, "")
    count, d = first.shape[1:]
    # What is found is the change of the start: all that must be small is then small.
    i, j = ends
    back, ahead = blocks
    right = right - np.einsum("erd,ked->ker", back, first[:, i])
    right = right - np.einsum("erd,ked->ker", ahead, first[:, j])
    dtype = jnp.result_type(float)
    stored = (jnp.asarray(back, dtype), jnp.asarray(ahead, dtype))
    rows = BlockRows(stored, (jnp.asarray(i), jnp.asarray(j)), (0, 0))
    J = BlockJacobian((rows,), ((count, d),))
    largest = float(np.abs(right).max()) or 1.0
    unit = jnp.asarray(right / largest, dtype)
    tolerance = jnp.asarray(rtol, dtype)
    change, steps, result = _minimise(J, unit, jnp.asarray(held), tolerance, max_steps)
    change = np.asarray(change, np.float64).reshape(first.shape) * largest
    return _Solved(first + change, int(steps), CGNR_RESULTS[result])


@eqx.filter_jit
def _minimise(
    J: BlockJacobian,
    right: Float[Array, "K E r"],
    held: Bool[Array, " N"],
    rtol: Float[Array, ""],
    max_steps: int,
) -> tuple[Float[Array, "K n"], Int[Array, ""], CGNR_RESULTS]:
    (scale,) = block_scaling(J, (held,))
    scaled = J.scale_columns((scale,))

    def solve(residual):
        solution = cgnr(scaled, residual.reshape(-1), rtol=rtol, max_steps=max_steps, record=False)
        return BlockDiagonal((scale,)).mv(solution.value), solution.steps, solution.result

    change, steps, results = jax.vmap(solve)(right)
    worst = CGNR_RESULTS.successful
    for k in range(len(right)):
        result = jax.tree.map(lambda leaf, k=k: leaf[k], results)
        worst = CGNR_RESULTS.where(worst == CGNR_RESULTS.successful, result, worst)
    return change, jnp.max(steps), worst
