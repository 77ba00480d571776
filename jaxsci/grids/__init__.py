"""Where a field lives: axes, quadrature weights and boundary faces."""

from ._axis import Axis as Axis
from ._faces import Face as Face
from ._grid import Grid as Grid
