"""The equations by name."""

from ._abstract import AbstractEquation
from ._advection import Advection
from ._burgers import Burgers
from ._heat import Heat
from ._porous_medium import PorousMedium
from ._stefan import Stefan

EQUATIONS: dict[str, type[AbstractEquation]] = {
    cls.name: cls for cls in (PorousMedium, Stefan, Heat, Advection, Burgers)
}
"""The classes of equations by their names, as the command line has them."""
