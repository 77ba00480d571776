"""Synthetic pose graphs with ground truth: shapes whose loops close, and noise of known size."""

import math

import numpy as np

from . import _lie
from ._graph import PoseGraph
from ._lie import Doubles
from ._odometry import odometry


def sphere(
    rings: int = 20,
    per_ring: int = 20,
    *,
    radius: float = 10.0,
    translation_noise: float = 0.05,
    rotation_noise: float = 0.02,
    seed: int,
) -> PoseGraph:
    """A robot that circles down a sphere and measures where it was one ring above.

    `rings * per_ring` poses; an edge to the next pose, and one to the pose of the ring below at
    the same longitude. Without noise every residual is zero at `truth`.

    **Arguments:**

    - `rings`, `per_ring`: at least 2 and 3.
    - `radius`: a length, in the unit of `translation_noise`.
    - `translation_noise`, `rotation_noise`: standard deviations of each component of
        `log(Z_true^-1 Z)`, a length and radians; the information matrices are their inverse
        squares. 0 gives exact measurements with an information of 1.
    - `seed`: of the noise; the same graph each time.

    **Returns:** a graph in space with `truth`; its poses are the noisy odometry.

    **Raises:** `ValueError` for sizes that make no loop, or a negative noise.

    !!! example
        >>> from jaxsci.solvers.slam import graph_cost, sphere
        >>> graph = sphere(4, 5, seed=0)
        >>> graph.poses.shape, graph.edges.shape
        ((20, 7), (34, 2))
        >>> graph_cost(graph.with_poses(graph.truth)) < graph_cost(graph)
        True
    """
    _require("sphere", rings=(rings, 2), per_ring=(per_ring, 3))
    k = np.arange(rings * per_ring)
    along = 2 * np.pi * k / per_ring
    down = np.pi * (k + per_ring / 2) / (rings * per_ring + per_ring)
    outward = _spherical(down, along)
    truth = _looking_ahead(radius * outward, outward)
    return _measured(
        "sphere", truth, _rings(rings, per_ring), translation_noise, rotation_noise, seed
    )


def torus(
    rings: int = 20,
    per_ring: int = 20,
    *,
    radius: float = 10.0,
    tube: float = 3.0,
    translation_noise: float = 0.05,
    rotation_noise: float = 0.02,
    seed: int,
) -> PoseGraph:
    """A robot that winds around a torus and measures where it was one turn before.

    **Arguments:** as of [`jaxsci.solvers.slam.sphere`][]; `radius` is that of the centre line,
    `tube` that of the tube, and the last ring closes to the first.

    **Returns, Raises:** as of [`jaxsci.solvers.slam.sphere`][].
    """
    _require("torus", rings=(rings, 3), per_ring=(per_ring, 3))
    n = rings * per_ring
    k = np.arange(n)
    around, along = 2 * np.pi * k / n, 2 * np.pi * k / per_ring
    centre = np.stack([np.cos(around), np.sin(around), np.zeros(n)], axis=1)
    outward = np.cos(along)[:, None] * centre + np.sin(along)[:, None] * np.array([[0.0, 0, 1]])
    truth = _looking_ahead(radius * centre + tube * outward, outward)
    closing = np.stack([k[:per_ring], n - per_ring + k[:per_ring]], axis=1)
    edges = np.concatenate([_rings(rings, per_ring), closing])
    return _measured("torus", truth, edges, translation_noise, rotation_noise, seed)


def grid(
    shape: tuple[int, int, int] = (8, 8, 8),
    *,
    spacing: float = 1.0,
    closures: float = 1.0,
    translation_noise: float = 0.05,
    rotation_noise: float = 0.02,
    seed: int,
) -> PoseGraph:
    """A robot that sweeps a 3-D lattice to and fro, turned at random, and measures its neighbours.

    **Arguments:** as of [`jaxsci.solvers.slam.sphere`][], and

    - `shape`: how many points along each axis.
    - `spacing`: between them, a length.
    - `closures`: the share of the pairs of neighbours, beyond odometry, that are measured.

    **Returns, Raises:** as of [`jaxsci.solvers.slam.sphere`][].
    """
    _require("grid", **{f"shape[{a}]": (size, 1) for a, size in enumerate(shape)})
    _require_share("grid", closures)
    rng = np.random.default_rng([seed, 1])
    n = math.prod(shape)
    k = np.arange(n)
    z, y, x = np.unravel_index(k, shape[::-1])
    # To and fro, so that the next point is always a neighbour.
    y = np.where(z % 2 == 1, shape[1] - 1 - y, y)
    x = np.where(k // shape[0] % 2 == 1, shape[0] - 1 - x, x)
    place = np.empty(shape, np.int64)
    place[x, y, z] = k
    pairs = [
        np.stack([np.moveaxis(place, a, 0)[:-1].ravel(), np.moveaxis(place, a, 0)[1:].ravel()], 1)
        for a in range(3)
    ]
    pairs = np.sort(np.concatenate(pairs), axis=1)
    pairs = pairs[np.lexsort((pairs[:, 1], pairs[:, 0]))]
    pairs = pairs[(np.diff(pairs, axis=1)[:, 0] > 1) & (rng.random(len(pairs)) < closures)]
    quaternion = rng.normal(size=(n, 4))
    points = spacing * np.stack([x, y, z], axis=1)
    truth = _lie.normalise(np.concatenate([quaternion, points], axis=1))
    edges = np.concatenate([_chain(n), pairs])
    return _measured("grid", truth, edges, translation_noise, rotation_noise, seed)


def manhattan(
    steps: int = 400,
    *,
    block: int = 5,
    blocks: int = 10,
    closures: float = 0.5,
    translation_noise: float = 0.05,
    rotation_noise: float = 0.02,
    seed: int,
) -> PoseGraph:
    """A robot that drives through a city of square blocks and turns at random at each crossing.

    Wherever it has been before, it measures (with probability `closures`) the pose of its last
    visit.

    **Arguments:** as of [`jaxsci.solvers.slam.sphere`][], and

    - `steps`: of length 1 each; there is one pose more.
    - `block`: the length of a block, in steps; `blocks`: how many there are along each side.

    **Returns:** a graph in the plane with `truth`; its poses are the noisy odometry.

    **Raises:** as of [`jaxsci.solvers.slam.sphere`][].
    """
    _require("manhattan", steps=(steps, 1), block=(block, 1), blocks=(blocks, 1))
    _require_share("manhattan", closures)
    rng = np.random.default_rng([seed, 1])
    heads, side = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]]), block * blocks
    at, head, path = np.array([0, 0]), 0, []
    turns = rng.integers(-1, 2, size=steps + 1)
    for step in range(steps + 1):
        if step % block == 0:
            ways = [(head + turn) % 4 for turn in (turns[step], -turns[step], 1, -1, 2)]
            head = next(
                w
                for w in ways
                if ((at + block * heads[w]) % (side + 1) == at + block * heads[w]).all()
            )
        path.append((*at, head))
        at = at + heads[head]
    x, y, head = np.array(path).T
    angle = head * np.pi / 2
    truth = np.stack([np.cos(angle), np.sin(angle), x, y], axis=1).astype(float)
    # The last visit to the same place, by sorting places stably by time.
    key = x * (side + 1) + y
    order = np.argsort(key, kind="stable")
    same = np.diff(key[order]) == 0
    visits = np.stack([order[:-1][same], order[1:][same]], axis=1)
    visits = visits[np.argsort(visits[:, 1])]
    visits = visits[rng.random(len(visits)) < closures]
    visits = visits[np.diff(visits, axis=1)[:, 0] > 1]
    edges = np.concatenate([_chain(steps + 1), visits])
    return _measured("manhattan", truth, edges, translation_noise, rotation_noise, seed)


def _measured(
    name: str,
    truth: Doubles,
    edges: np.ndarray,
    translation_noise: float,
    rotation_noise: float,
    seed: int,
) -> PoseGraph:
    """The graph of noisy measurements of the truth, started from its odometry."""
    if not (translation_noise >= 0 and rotation_noise >= 0):
        raise ValueError(
            f"`{name}(translation_noise=..., rotation_noise=...)`: expected at least 0, got "
            f"{translation_noise} and {rotation_noise}"
        )
    rng = np.random.default_rng([seed, 0])
    dim, turns = (2, 1) if truth.shape[1] == 4 else (3, 3)
    deviation = np.array([translation_noise] * dim + [rotation_noise] * turns, float)
    noise = rng.normal(size=(len(edges), dim + turns)) * deviation
    i, j = edges.T
    exact = _lie.compose(_lie.inverse(truth[i]), truth[j])
    precision = np.diag(np.where(deviation > 0, deviation, 1) ** -2.0)
    graph = PoseGraph(
        poses=truth,
        edges=edges,
        measurements=_lie.normalise(_lie.compose(exact, _lie.exp(noise))),
        information=np.broadcast_to(precision, (len(edges), *precision.shape)),
        truth=truth,
    )
    return odometry(graph)


def _rings(rings: int, per_ring: int) -> np.ndarray:
    """Each pose to the next, and to the one a ring later."""
    k = np.arange((rings - 1) * per_ring)
    return np.concatenate([_chain(rings * per_ring), np.stack([k, k + per_ring], axis=1)])


def _chain(n: int) -> np.ndarray:
    return np.stack([np.arange(n - 1), np.arange(1, n)], axis=1)


def _spherical(down: Doubles, along: Doubles) -> Doubles:
    across = np.sin(down)
    return np.stack([across * np.cos(along), across * np.sin(along), np.cos(down)], axis=1)


def _looking_ahead(points: Doubles, outward: Doubles) -> Doubles:
    """Poses whose x axis points to the next place and whose z axis is close to `outward`."""
    ahead = np.diff(points, axis=0)
    ahead = np.concatenate([ahead, ahead[-1:]])
    ahead = ahead / np.linalg.norm(ahead, axis=1, keepdims=True)
    left = np.cross(outward, ahead)
    left = left / np.linalg.norm(left, axis=1, keepdims=True)
    rotation = np.stack([ahead, left, np.cross(ahead, left)], axis=2)
    return _lie.from_matrix(rotation, points)


def _require(name: str, **sizes: tuple[int, int]) -> None:
    for argument, (size, least) in sizes.items():
        if size < least:
            raise ValueError(f"`{name}({argument}=...)`: expected at least {least}, got {size}")


def _require_share(name: str, closures: float) -> None:
    if not 0 <= closures <= 1:
        raise ValueError(f"`{name}(closures=...)`: expected from 0 to 1, got {closures}")
