"""Dtype policies: which dtype each step of a computation has."""

import dataclasses
from collections.abc import Mapping
from types import MappingProxyType

import jax
import jax.numpy as jnp
from jaxtyping import Array

from jaxsci.errors import lookup

_DTYPES = {"float64": 64, "float32": 32, "bfloat16": 16, "float16": 16}
_SHORT = {"f64": "float64", "f32": "float32", "bf16": "bfloat16", "f16": "float16"}
_SHORT |= {"fp64": "float64", "fp32": "float32", "fp16": "float16"}


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Policy:
    """The dtype of each role, by name; hashable, and static under `jit`: one compilation each.

    | role | of a solver | role | of a network |
    |---|---|---|---|
    | `residual` | residuals and cost | `params` | stored parameters |
    | `gradient` | right-hand sides | `compute` | activations and products |
    | `matrix` | stored Jacobians and matrices | `output` | what is returned |
    | `product` | accumulation of their products | | |
    | `krylov` | Krylov vectors and their dots | | |
    | `precondition` | stored factors and solves | | |
    | `update` | the step and the state | | |

    **Arguments:** each role is `"float64"`, `"float32"`, `"bfloat16"` or `"float16"` (short:
    `f64`, `f32`, `bf16`, `f16`); `float32` by default.

    **Raises:** `ValueError` for an unknown dtype, or for one that cannot work: products
    accumulated, or network outputs returned, in less than the dtype that they are made of.

    !!! example
        >>> from jaxsci.precision import Policy
        >>> Policy.parse("single,update=f64").update
        'float64'
        >>> Policy.parse("singel")
        Traceback (most recent call last):
        ...
        ValueError: unknown policy 'singel'; did you mean 'single'? Known: double, single, bf16, ...
    """

    residual: str = "float32"
    gradient: str = "float32"
    matrix: str = "float32"
    product: str = "float32"
    krylov: str = "float32"
    precondition: str = "float32"
    update: str = "float32"
    params: str = "float32"
    compute: str = "float32"
    output: str = "float32"

    def __post_init__(self):
        for role in ROLES:
            object.__setattr__(self, role, _dtype_name(role, getattr(self, role)))
        for made_of, role in (("matrix", "product"), ("compute", "output")):
            given, needed = getattr(self, role), getattr(self, made_of)
            if _DTYPES[given] < _DTYPES[needed]:
                raise ValueError(
                    f"`Policy({role}={given!r}, {made_of}={needed!r})`: `{role}` must be at least "
                    f"as wide as `{made_of}`, or its bits are lost at once; use "
                    f"{role}={needed!r}"
                )

    @classmethod
    def parse(cls, text: str) -> "Policy":
        """A policy from `"preset"`, `"role=dtype,..."` or `"preset,role=dtype,..."`.

        `Policy.parse(str(policy)) == policy` for every policy.

        **Raises:** `ValueError`, with the near misses, for an unknown preset, role or dtype, or a
        role that is given twice.
        """
        if not isinstance(text, str):
            raise TypeError(f"`Policy.parse(text)`: expected a string, got {type(text).__name__}")
        parts = [part.strip() for part in text.split(",")]
        base = Policy()
        if parts and "=" not in parts[0]:
            base = lookup("policy", parts.pop(0), PRESETS)
        changes: dict[str, str] = {}
        for part in parts:
            role, equals, dtype = (piece.strip() for piece in part.partition("="))
            if not equals:
                raise ValueError(f"`Policy.parse({text!r})`: expected role=dtype, got {part!r}")
            lookup("role", role, dict.fromkeys(ROLES))
            if role in changes:
                raise ValueError(f"`Policy.parse({text!r})`: role {role!r} is given twice")
            changes[role] = dtype
        return dataclasses.replace(base, **changes)

    def __str__(self) -> str:
        for name, preset in PRESETS.items():
            if self == preset:
                return name
        return ",".join(f"{role}={getattr(self, role)}" for role in ROLES)

    def dtype(self, role: str) -> jnp.dtype:
        """The dtype of a role.

        **Raises:** `ValueError` for an unknown role, or for float64 while 64-bit types are off
        (JAX would silently give float32).
        """
        lookup("role", role, dict.fromkeys(ROLES))
        name = getattr(self, role)
        if name == "float64" and jnp.result_type(float) != jnp.float64:
            raise ValueError(
                f"`Policy({role}='float64')` needs 64-bit types, which are off; call "
                "`jax.config.update('jax_enable_x64', True)` first, or choose another dtype"
            )
        return jnp.dtype(name)

    def cast(self, role: str, array: Array) -> Array:
        """The array in the dtype of a role. **Raises:** as `Policy.dtype`."""
        return jnp.asarray(array).astype(self.dtype(role))


ROLES: tuple[str, ...] = tuple(field.name for field in dataclasses.fields(Policy))
"""The names of the roles, in order."""


def _dtype_name(role: str, dtype: object) -> str:
    if isinstance(dtype, str):
        name = _SHORT.get(dtype, dtype)
        lookup(f"dtype of {role}", name, _DTYPES)
        return name
    try:
        if dtype is None:  # which numpy takes for float64
            raise TypeError
        name = jnp.dtype(dtype).name  # pyright: ignore[reportCallIssue, reportArgumentType]
    except TypeError:
        name = repr(dtype)
    lookup(f"dtype of {role}", name, _DTYPES)
    return name


PRESETS: Mapping[str, Policy] = MappingProxyType(
    {
        "double": Policy(**dict.fromkeys(ROLES, "float64")),
        "single": Policy(),
        "bf16": Policy(compute="bfloat16", matrix="bfloat16"),
        "bundle_adjustment": Policy(matrix="float16"),
        "pose_graph": Policy(precondition="float16"),
        "naive_half": Policy(**dict.fromkeys(ROLES, "float16")),
    }
)
"""Policies by name.

- `bf16`: matrices of bfloat16 numbers, and activations; sums and what is kept in float32.
- `bundle_adjustment`: the Jacobian of float16 numbers, its products summed in float32.
- `pose_graph`: the preconditioner stored in float16, its products summed in float32.
- `naive_half`: everything in float16, without any scaling; it fails, and exists to show how.

The mixed ones need no 64-bit types. Where these are on, poses are better kept in them:
`"pose_graph,residual=f64,update=f64"`.
"""
