"""Operators that obey their boundary conditions: BOON, and any operator told and enforced."""

from ._boon import BOON as BOON
from ._candidates import DEFAULT_RECIPE as DEFAULT_RECIPE
from ._candidates import RECIPES as RECIPES
from ._candidates import Recipe as Recipe
from ._candidates import adapted_bases as adapted_bases
from ._candidates import make_operator as make_operator
from ._constrained import ConstrainedOperator as ConstrainedOperator
from ._constrained import Enforcement as Enforcement
from ._features import Information as Information
from ._features import boundary_channels as boundary_channels
from ._features import count_channels as count_channels
