"""What a family of functions is: random problems of one equation, for an operator to learn."""

import abc
import math
from typing import ClassVar, Literal

import equinox as eqx
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

FaceName = tuple[str, Literal["low", "high"]]
"""The axis and the side of a face, e.g. `("x", "low")`, as in [`jaxsci.grids.Face`][]."""

Range = tuple[float, float]


class FaceKind(eqx.Module):
    """What every function of a family satisfies on a face.

    **Arguments:**

    - `kind`: `"dirichlet"` (the values), `"neumann"` (the derivative along the axis, on both sides
        towards larger coordinates) or `"periodic"` (both faces of the axis are the same points).
    - `value`: a number for all functions and all points of the face, or `None`: it is in
        `Sample.values` (or there is none, if periodic).
    """

    kind: Literal["dirichlet", "neumann", "periodic"] = eqx.field(static=True)
    value: float | None = eqx.field(static=True, default=None)


class Sample(eqx.Module):
    """One function of a family; many have a leading axis everywhere.

    - `inputs`: what an operator sees without boundary data, all channels on all points: initial
        fields (the same at all times, if there is a time axis) and numbers as constant channels.
    - `outputs`: what it is to predict.
    - `values`: boundary data by face, for the faces whose `FaceKind.value` is `None`: shape
        `(out, *transverse)`, in which any size may be 1.
    - `parameters`: the random numbers that the function was made from, in the order of
        `parameter_names`.
    """

    inputs: Float[Array, "channels ..."]
    outputs: Float[Array, "out ..."]
    values: dict[FaceName, Array]
    parameters: Float[Array, "*parameters"]


class AbstractFamily(eqx.Module):
    """Random problems of one equation: the settings are the fields, a draw is a pure function.

    A family is hashable and compares by its settings. `draw` works under `jit` and `vmap`; its
    dtype is JAX's default, float32 or float64, and what has an exact solution is accurate to a few
    roundings of the field's size in both.

    ```
    batch = jax.vmap(family.draw)(jax.random.split(key, 20))
    ```
    """

    name: ClassVar[str]
    summary: ClassVar[str]
    hard: eqx.AbstractVar[bool]

    @property
    @abc.abstractmethod
    def axes(self) -> tuple[str, ...]:
        """The names of the axes after the channels, e.g. `("t", "x")`."""

    @abc.abstractmethod
    def exact_coordinates(self) -> dict[str, np.ndarray]:
        """The points of each axis, uniform, in float64."""

    @property
    @abc.abstractmethod
    def faces(self) -> dict[FaceName, FaceKind]:
        """What holds on which face; a face that is not there is free."""

    @property
    @abc.abstractmethod
    def input_names(self) -> tuple[str, ...]:
        """The channels of `Sample.inputs`."""

    @property
    @abc.abstractmethod
    def output_names(self) -> tuple[str, ...]:
        """The channels of `Sample.outputs`."""

    @property
    @abc.abstractmethod
    def parameter_names(self) -> tuple[str, ...]:
        """The entries of `Sample.parameters`."""

    @abc.abstractmethod
    def draw_parameters(self, key: PRNGKeyArray) -> Float[Array, " parameters"]:
        """The random numbers that make a function."""

    @abc.abstractmethod
    def sample(self, parameters: Float[Array, " parameters"]) -> Sample:
        """The function that given numbers make, in their dtype."""

    def draw(self, key: PRNGKeyArray) -> Sample:
        """A random function (compiled)."""
        return _draw(self, key)

    def coordinates(self) -> dict[str, Float[Array, " points"]]:
        """The points of each axis. Times begin after 0: the initial field is an input."""
        dtype = jnp.result_type(float)
        return {name: jnp.asarray(x, dtype) for name, x in self.exact_coordinates().items()}

    @property
    def lengths(self) -> dict[str, float]:
        """From the first to the last point of each axis, so that spacing is `length / (N - 1)`."""
        return {name: float(x[-1] - x[0]) for name, x in self.exact_coordinates().items()}

    @property
    def shape(self) -> tuple[int, ...]:
        """The number of points of each axis."""
        return tuple(len(x) for x in self.exact_coordinates().values())

    def check_parameters(self, parameters: Array) -> None:
        """Raises `ValueError` unless there are as many numbers as `parameter_names`."""
        if parameters.shape != (len(self.parameter_names),):
            raise ValueError(
                f"`{type(self).__name__}.sample(parameters=...)`: expected shape "
                f"({len(self.parameter_names)},) for {', '.join(self.parameter_names)}; got "
                f"{parameters.shape}; use `jax.vmap` for a batch"
            )


# Not a decorator of the method, which `jax.jit` could then no longer hash.
@eqx.filter_jit
def _draw(family: AbstractFamily, key: PRNGKeyArray) -> Sample:
    return family.sample(family.draw_parameters(key))


def times(time: float, steps: int) -> np.ndarray:
    """`steps` equidistant times up to `time`, without 0."""
    return time * np.arange(1, steps + 1) / steps


def check_count(where: str, name: str, value: int, least: int) -> None:
    """Raises unless `value` is an integer of at least `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise ValueError(
            f"`{where}({name}=...)`: expected an integer of at least {least}, got {value!r}"
        )


def check_positive(where: str, name: str, value: float) -> None:
    """Raises unless `value` is a positive finite number."""
    if not isinstance(value, int | float) or not 0 < value < math.inf:
        raise ValueError(f"`{where}({name}=...)`: expected a positive number, got {value!r}")


def check_range(where: str, name: str, value: Range, low: float = -math.inf) -> None:
    """Raises unless `value` is a pair of finite numbers in order, above `low`."""
    pair = isinstance(value, tuple) and len(value) == 2
    if not pair or not all(isinstance(v, int | float) and abs(v) < math.inf for v in value):
        raise ValueError(f"`{where}({name}=...)`: expected a pair (low, high), got {value!r}")
    if not low < value[0] <= value[1]:
        above = "" if low == -math.inf else f" above {low:g}"
        raise ValueError(
            f"`{where}({name}=...)`: expected low <= high, both{above or ' finite'}, got {value}"
        )
