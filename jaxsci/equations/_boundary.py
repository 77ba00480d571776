"""What happens at an end of the interval of a finite-volume solution."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array, ArrayLike

from jaxsci.errors import require_finite


class Dirichlet(eqx.Module):
    """The solution has a given value at the end.

    Convection takes the value only where it flows in; where it flows out the value acts as an
    obstacle, and [`jaxsci.equations.Outflow`][] is what is wanted.

    **Arguments:**

    - `value`: a scalar, or a function of time.
    """

    value: ArrayLike | Callable[[Array], ArrayLike]

    def __init__(self, value: ArrayLike | Callable[[Array], ArrayLike]):
        self.value = _checked("Dirichlet", "value", value)


class Flux(eqx.Module):
    """The total flux through the end is given, positive towards larger `x`; 0 is a wall.

    **Arguments:**

    - `flux`: a scalar, or a function of time.
    """

    flux: ArrayLike | Callable[[Array], ArrayLike]

    def __init__(self, flux: ArrayLike | Callable[[Array], ArrayLike]):
        self.flux = _checked("Flux", "flux", flux)


class Outflow(eqx.Module):
    """Convection leaves through the end unhindered; the derivative of the solution is 0 there."""


class Periodic(eqx.Module):
    """The end is joined to the other end, which must be periodic as well."""


Boundary = Dirichlet | Flux | Outflow | Periodic
"""Any of the boundary conditions, for annotations."""


def at(value: ArrayLike | Callable[[Array], ArrayLike], t: Array) -> Array:
    """A boundary's value at time `t`, in the dtype of `t`."""
    return jnp.asarray(value(t) if callable(value) else value).astype(t.dtype)


def _checked(where: str, name: str, value):
    if callable(value):
        return value
    if jnp.ndim(value) != 0:
        raise ValueError(
            f"`{where}({name}=...)`: expected a scalar or a function of time, got shape "
            f"{jnp.shape(value)}"
        )
    require_finite(where, name, value)
    return value
