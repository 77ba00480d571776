"""The families by name."""

from ._abstract import AbstractFamily
from ._burgers_periodic import BurgersPeriodic
from ._burgers_riemann import BurgersRiemann
from ._cavity import LidDrivenCavity
from ._heat import HeatNeumann
from ._stokes import StokesSecond
from ._wave import WaveNeumann

FAMILIES: dict[str, type[AbstractFamily]] = {
    cls.name: cls
    for cls in (
        HeatNeumann,
        StokesSecond,
        BurgersRiemann,
        BurgersPeriodic,
        WaveNeumann,
        LidDrivenCavity,
    )
}
"""The classes of families by their names, as the command line has them."""
