"""Bundle adjustment as a problem for `jaxsci.solvers.nonlinear`, single or in batches."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.precision import matmul
from jaxsci.solvers.nonlinear import (
    SE3,
    AbstractKernel,
    AbstractManifold,
    Euclidean,
    Factors,
    Problem,
    Variables,
)

from . import _lie
from ._bundle import Bundle
from ._problem import rotation_matrix


class BALCamera(AbstractManifold):
    """A pose and `f, k1, k2`: 10 numbers, a step of 9 (the pose's 6 first)."""

    ambient: ClassVar[int] = 10
    dim: ClassVar[int] = 9

    def retract(self, x, delta):
        return jnp.concatenate([SE3().retract(x[:7], delta[:6]), x[7:] + delta[6:]])

    def local(self, x, y):
        return jnp.concatenate([SE3().local(x[:7], y[:7]), y[7:] - x[7:]])

    def increment(self, x, delta):
        return jnp.concatenate([SE3().increment(x[:7], delta[:6]), delta[6:]])


class BALProjection(eqx.Module):
    """The residual of an observation by a [`jaxsci.solvers.slam.BALCamera`][], in pixels."""

    def __call__(
        self, camera: Float[Array, "10"], point: Float[Array, "3"], pixel: Float[Array, "2"]
    ) -> Float[Array, "2"]:
        seen = matmul(rotation_matrix(camera[:7]), point) + camera[4:7]
        p = -seen[:2] / seen[2]
        f, k1, k2 = camera[7:]
        r2 = jnp.sum(p * p)
        return f * (1 + r2 * (k1 + r2 * k2)) * p - pixel


class RadialProjection(eqx.Module):
    """The residual of an observation by a camera with fixed intrinsics, in pixels.

    **Arguments:** `intrinsics`: `f, cx, cy, k1, k2, k3, p1, p2`.
    """

    intrinsics: Float[Array, "8"]

    def __call__(
        self, camera: Float[Array, "7"], point: Float[Array, "3"], pixel: Float[Array, "2"]
    ) -> Float[Array, "2"]:
        seen = matmul(rotation_matrix(camera), point) + camera[4:]
        x, y = seen[:2] / seen[2]
        f, cx, cy, k1, k2, k3, p1, p2 = self.intrinsics
        r2 = x * x + y * y
        radial = 1 + r2 * (k1 + r2 * (k2 + r2 * k3))
        u = f * (radial * x + 2 * p1 * x * y + p2 * (r2 + 2 * x * x))
        v = f * (radial * y + 2 * p2 * x * y + p1 * (r2 + 2 * y * y))
        # The pixel is subtracted from the centre first: two large numbers that are given exactly.
        return jnp.stack([u, v]) - (pixel - jnp.stack([cx, cy]))


def bundle_to_problem(
    bundle: Bundle,
    *,
    kernel: AbstractKernel | None = None,
    pixel_noise: float = 1.0,
    points: int | None = None,
    observations: int | None = None,
) -> Problem:
    """The least-squares problem of a bundle: half the squared pixels over `pixel_noise` squared.

    Variable groups `"cameras"` (SE(3), or [`jaxsci.solvers.slam.BALCamera`][]) and `"points"`.
    The first camera is held; the scale is free, which Levenberg-Marquardt does not mind.

    **Arguments:**

    - `bundle`: what was seen.
    - `kernel`: a robust kernel.
    - `pixel_noise`: the standard deviation of a coordinate, in pixels.
    - `points`, `observations`: sizes to fill up to, with points that are held and observations
        of weight zero, so that problems of different windows share a compiled program.

    **Returns:** a [`jaxsci.solvers.nonlinear.Problem`][] in JAX's float dtype.

    **Raises:** `ValueError` if a size is too small, or `pixel_noise` is not positive.
    """
    if not pixel_noise > 0:
        raise ValueError(f"`bundle_to_problem(pixel_noise=...)`: expected > 0, got {pixel_noise}")
    o, own = len(bundle.pixels), bundle.intrinsics.ndim == 2
    total = _size("observations", observations, o)
    held = np.arange(_size("points", points, len(bundle.points))) >= len(bundle.points)
    held[: len(bundle.points)] |= ~np.isin(np.arange(len(bundle.points)), bundle.point_index)
    # Observations that fill up repeat the first one, so that they are finite wherever it is.
    kept = np.where(np.arange(total) < o, np.arange(total), 0)
    weight = np.where(np.arange(total) < o, 1 / pixel_noise, 0.0)
    factors = Factors(
        BALProjection() if own else RadialProjection(_floats(bundle.intrinsics)),
        ("cameras", "points"),
        np.stack([bundle.camera_index[kept], bundle.point_index[kept]], axis=1),
        _floats(bundle.pixels[kept]),
        _floats(weight),
        kernel,
    )
    c = len(bundle.cameras)
    space = Euclidean(3)  # pyright: ignore[reportCallIssue]
    return Problem(
        {
            "cameras": Variables(BALCamera() if own else SE3(), c),
            "points": Variables(space, len(held)),
        },
        [factors],
        {"cameras": np.arange(c) == 0, "points": held},
    )


def bundle_to_values(bundle: Bundle, *, points: int | None = None) -> dict[str, Array]:
    """The bundle's cameras and points as the values of its problem, filled up to `points`."""
    total = _size("points", points, len(bundle.points))
    filled = np.concatenate([bundle.points, np.zeros((total - len(bundle.points), 3))])
    own = [bundle.intrinsics] if bundle.intrinsics.ndim == 2 else []
    cameras = np.concatenate([bundle.cameras, *own], axis=1)
    return {"cameras": _floats(cameras), "points": _floats(filled)}


def bundle_from_values(bundle: Bundle, values: Mapping[str, Any]) -> Bundle:
    """The bundle with the values of its problem in place of its cameras and points."""
    cameras = np.asarray(values["cameras"], np.float64)
    points = np.asarray(values["points"], np.float64)[: len(bundle.points)]
    own = bundle.intrinsics.ndim == 2
    return dataclasses.replace(
        bundle,
        cameras=_lie.normalise(cameras[:, :7]),
        points=points,
        intrinsics=cameras[:, 7:] if own else bundle.intrinsics,
    )


def bundle_batch(bundles: Sequence[Bundle], **settings: Any) -> tuple[Problem, dict[str, Array]]:
    """Problems and values of several windows as one, with a leading axis to `vmap` over.

    **Arguments:**

    - `bundles`: with the same number of cameras; points and observations are filled up.
    - `settings`: of [`jaxsci.solvers.slam.bundle_to_problem`][].

    **Raises:** `ValueError` if there is none, or numbers of cameras differ.
    """
    if len({(len(b.cameras), b.intrinsics.ndim) for b in bundles}) != 1:
        raise ValueError(
            "`bundle_batch(bundles)`: expected at least one, all with as many cameras of one "
            f"model, got {[len(b.cameras) for b in bundles]}"
        )
    p = max(len(b.points) for b in bundles)
    o = max(len(b.pixels) for b in bundles)
    problems = [bundle_to_problem(b, points=p, observations=o, **settings) for b in bundles]
    values = [bundle_to_values(b, points=p) for b in bundles]
    return jax.tree.map(_stack, *problems), jax.tree.map(_stack, *values)


def _stack(*leaves: Any) -> Any:
    return jnp.stack(leaves)


def _size(name: str, wanted: int | None, least: int) -> int:
    if wanted is not None and wanted < least:
        raise ValueError(f"`bundle_to_problem({name}=...)`: expected >= {least}, got {wanted}")
    return least if wanted is None else wanted


def _floats(array: np.ndarray) -> Array:
    return jnp.asarray(array, jnp.result_type(float))
