"""Boundary data as input channels: what an operator has to be told to be compared fairly."""

from collections.abc import Sequence
from typing import Any, Literal

import jax.numpy as jnp
from jaxtyping import Array, Float

from jaxsci.errors import lookup
from jaxsci.operators.boundary import BoundaryConditions, FaceName, Periodic, Values, lift

Information = Literal["none", "faces", "lift"]
"""How boundary data become input channels."""


def boundary_channels(
    conditions: BoundaryConditions,
    shape: Sequence[int],
    values: Values | None = None,
    *,
    information: Information = "faces",
    dtype: Any = jnp.float32,
) -> Float[Array, "more *points"]:
    """The data of a boundary as channels of fields.

    - `"faces"`: for each face whose values are passed at the call, these values continued as
        constants along its axis: as many channels as the output has, per face.
    - `"lift"`: [`jaxsci.operators.boundary.lift`][], as many channels as the output has.
    - `"none"`: no channel.

    **Arguments:**

    - `shape`: of the output, `(C, N_1, ..., N_d)`.
    - `conditions`, `values`, `dtype`: as in [`jaxsci.operators.boundary.lift`][].

    **Returns:** shape `(more, N_1, ..., N_d)`.

    **Raises:** as [`jaxsci.operators.boundary.lift`][]; `ValueError` for another name.

    !!! example
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
        >>> from jaxsci.operators.constrained import boundary_channels
        >>> wall = BoundaryConditions("x", {("x", "low"): Dirichlet()})
        >>> boundary_channels(wall, (1, 3), {("x", "low"): 2.0})
        Array([[2., 2., 2.]], dtype=float32)
    """
    lookup("information", information, dict.fromkeys(("none", "faces", "lift")))
    resolved = conditions.values(shape, dtype, values, where="boundary_channels")
    if information == "lift":
        return lift(conditions, shape, values, dtype=dtype)
    faces = _open_faces(conditions) if information == "faces" else []
    spread = [
        jnp.broadcast_to(jnp.expand_dims(resolved[face], conditions.along(face[0])), tuple(shape))
        for face in faces
    ]
    return jnp.concatenate([jnp.zeros((0, *shape[1:]), dtype), *spread])


def count_channels(
    conditions: BoundaryConditions, out_channels: int, information: Information
) -> int:
    """How many channels [`jaxsci.operators.constrained.boundary_channels`][] returns.

    !!! example
        >>> from jaxsci.operators.boundary import BoundaryConditions, Dirichlet
        >>> from jaxsci.operators.constrained import count_channels
        >>> count_channels(BoundaryConditions("x", {"x": Dirichlet()}), 3, "faces")
        6
    """
    lookup("information", information, dict.fromkeys(("none", "faces", "lift")))
    faces = {"none": 0, "lift": 1, "faces": len(_open_faces(conditions))}
    return out_channels * faces[information]


def _open_faces(conditions: BoundaryConditions) -> list[FaceName]:
    """The faces whose values differ from sample to sample, in the order of their names."""
    return sorted(
        face
        for face, condition in conditions.faces.items()
        if not isinstance(condition, Periodic) and condition.value is None
    )
