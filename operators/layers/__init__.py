"""Layers between the spectral ones: pointwise maps, skips, norms, coordinates, padding."""

from ._complex import ComplexValued as ComplexValued
from ._complex import separately as separately
from ._grid import append_coordinates as append_coordinates
from ._grid import crop as crop
from ._grid import pad as pad
from ._grid import padding_of as padding_of
from ._norm import GroupNorm as GroupNorm
from ._norm import InstanceNorm as InstanceNorm
from ._norm import Norm as Norm
from ._norm import make_norm as make_norm
from ._pointwise import ChannelMLP as ChannelMLP
from ._pointwise import Pointwise as Pointwise
from ._pointwise import gelu as gelu
from ._skip import Identity as Identity
from ._skip import Skip as Skip
from ._skip import SoftGating as SoftGating
from ._skip import make_skip as make_skip
