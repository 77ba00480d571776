"""What must hold on a face: a value, a derivative, both, or the same as on the other side."""

from typing import Any

import equinox as eqx
import jax
import numpy as np
from jaxtyping import ArrayLike

from jaxsci.errors import is_concrete, require_finite

from ._stencils import check_order

ENFORCED_ORDER = 4


class Fixed(eqx.Module):
    """An array that is no parameter: without leaves, so that no optimiser and no decay sees it."""

    content: bytes = eqx.field(static=True)
    shape: tuple[int, ...] = eqx.field(static=True)
    dtype: str = eqx.field(static=True)

    def __init__(self, array: ArrayLike):
        numbers = np.asarray(array)
        self.content = numbers.tobytes()
        self.shape, self.dtype = numbers.shape, numbers.dtype.str

    def array(self) -> np.ndarray:
        return np.frombuffer(self.content, self.dtype).reshape(self.shape)


Value = ArrayLike | Fixed | None


class Dirichlet(eqx.Module):
    """`u = value` on the face.

    **Arguments:**

    - `value`: shape `()`, `(C,)` (one number per channel) or `(C, *transverse)`, the shape of the
        face, in which any size may be 1: `(1, n)` is one profile for all channels. A time axis is
        an axis of the face like any other. `None`: the value is passed at each call.

    **Raises:** `ValueError` if the value has NaN or infinite entries, with the first of them.
    """

    value: Value

    def __init__(self, value: ArrayLike | None = None):
        self.value = _checked("Dirichlet", "value", value)


class Neumann(eqx.Module):
    """`du/dx = value` on the face, the derivative being along its axis, on both sides.

    (The outward derivative is its negative on a low side.) It is enforced by the one-sided stencil
    `sum_k c_k u_k = value` of the order of accuracy asked for.

    **Arguments:**

    - `value`: as in [`jaxsci.operators.boundary.Dirichlet`][], in units of `u` over those of `x`.
    - `order`: 1 to 4; `order + 1` points take part.

    **Raises:** `ValueError` if the value is not finite or the order does not exist.
    """

    value: Value
    order: int = eqx.field(static=True)

    def __init__(self, value: ArrayLike | None = None, *, order: int = ENFORCED_ORDER):
        check_order("Neumann", order, ENFORCED_ORDER)
        self.value = _checked("Neumann", "value", value)
        self.order = order

    @property
    def homogeneous(self) -> bool:
        """Whether the value is known to be 0: neither passed at each call nor traced."""
        value = unfixed(self.value)
        return value is not None and is_concrete(value) and not np.any(np.asarray(value))


class Robin(eqx.Module):
    """`a u + b du/dx = value` on the face, the derivative being along the axis on both sides.

    Heat that leaves a body of conductivity `k` at the rate `h (u - u_out)`: on a high side
    `Robin(h * u_out, a=h, b=k)`, on a low side `Robin(h * u_out, a=h, b=-k)`.

    **Arguments:**

    - `value`, `order`: as in [`jaxsci.operators.boundary.Neumann`][].
    - `a`, `b`: numbers; a scalar array for one that is learned.

    **Raises:** `ValueError` if a number is not finite, if `a` and `b` are both 0, or if the order
    does not exist.
    """

    value: Value
    a: Value
    b: Value
    order: int = eqx.field(static=True)

    def __init__(
        self,
        value: ArrayLike | None = None,
        *,
        a: ArrayLike,
        b: ArrayLike,
        order: int = ENFORCED_ORDER,
    ):
        check_order("Robin", order, ENFORCED_ORDER)
        for name, number in (("a", a), ("b", b)):
            if np.ndim(number) != 0:
                raise ValueError(
                    f"`Robin({name}=...)`: expected a number, got shape {np.shape(number)}"
                )
        if isinstance(a, int | float) and isinstance(b, int | float) and a == b == 0:
            raise ValueError("`Robin(a=0, b=0)`: says nothing about the field; give a or b")
        self.value = _checked("Robin", "value", value)
        self.a, self.b = _checked("Robin", "a", a), _checked("Robin", "b", b)
        self.order = order


class Periodic(eqx.Module):
    """Both ends of an axis that includes both are the same point: `u_low = u_high`.

    Both become `weight u_low + (1 - weight) u_high`. It is a condition of an axis, not of one face.
    (An axis that leaves out the end that coincides with the start needs no condition.)

    **Arguments:**

    - `weight`: from 0 to 1.

    **Raises:** `ValueError` if the weight is not a number from 0 to 1.
    """

    weight: float = eqx.field(static=True)

    def __init__(self, weight: float = 0.5):
        if not isinstance(weight, int | float) or not 0 <= weight <= 1:
            raise ValueError(f"`Periodic(weight=...)`: expected a number 0 to 1, got {weight!r}")
        self.weight = float(weight)


Condition = Dirichlet | Neumann | Robin | Periodic
"""Any of the conditions, for annotations."""


def frozen(tree: Any) -> Any:
    """The same conditions with every known number turned into a constant that is no parameter."""
    return jax.tree.map(lambda leaf: Fixed(leaf) if is_concrete(leaf) else leaf, tree)


def unfixed(value: Value) -> ArrayLike | None:
    return value.array() if isinstance(value, Fixed) else value


def _checked(where: str, name: str, value: Any) -> Any:
    if value is None or isinstance(value, Fixed):
        return value
    if isinstance(value, list | tuple):
        value = np.asarray(value)
    dtype = getattr(value, "dtype", None)
    if callable(value) or (dtype is not None and np.dtype(dtype).kind not in "fiuV"):
        got = type(value).__name__ if dtype is None else dtype
        raise TypeError(
            f"`{where}({name}=...)`: expected real numbers, got {got}; evaluate a function at the "
            "points of the face, or pass None and the numbers at each call"
        )
    require_finite(where, name, value)
    return value
