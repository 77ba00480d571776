"""A conservation law as functions of its solution."""

from collections.abc import Callable

import equinox as eqx
from jaxtyping import Array


class ConservationLaw(eqx.Module):
    """A scalar conservation law in one dimension; every part may be left out, but not all.

    ```
    u_t + f(u)_x = (k(u) u_x)_x + s(t, x, u)
    ```

    The functions are elementwise in `u`. Those that carry parameters to be differentiated or
    batched are `eqx.Module`s, methods of one, or closures over traced values.

    **Arguments:**

    - `conductivity`: `k(u) >= 0`. It may vanish (the front of a porous medium) or jump (a change
        of phase); where it jumps, give `kirchhoff` as well.
    - `kirchhoff`: a primitive `K` of `k`, `K' = k`, if it is known; else see
        [`jaxsci.equations.tabulated_primitive`][].
    - `convection`: `f(u)`.
    - `source`: `s(t, x, u)`, with `x` the centres of the cells.

    **Raises:** `TypeError` for a part that is not callable, `ValueError` if there is none.

    !!! example
        >>> from jaxsci.equations import ConservationLaw
        >>> viscous_burgers = ConservationLaw(
        ...     convection=lambda u: u**2 / 2, conductivity=lambda u: 0.01 + 0 * u
        ... )
    """

    conductivity: Callable[[Array], Array] | None = None
    kirchhoff: Callable[[Array], Array] | None = None
    convection: Callable[[Array], Array] | None = None
    source: Callable[[Array, Array, Array], Array] | None = None

    def __check_init__(self):
        parts = {
            "conductivity": self.conductivity,
            "kirchhoff": self.kirchhoff,
            "convection": self.convection,
            "source": self.source,
        }
        for name, part in parts.items():
            if part is not None and not callable(part):
                raise TypeError(
                    f"`ConservationLaw({name}=...)`: expected a function, got {part!r}; a "
                    f"constant is `lambda u: {part!r} + 0 * u`"
                )
        if all(part is None for part in parts.values()):
            raise ValueError(
                "`ConservationLaw()`: expected at least one of conductivity, kirchhoff, "
                "convection and source, got none"
            )

    @property
    def diffusive(self) -> bool:
        """Whether there is a diffusive part."""
        return self.conductivity is not None or self.kirchhoff is not None
