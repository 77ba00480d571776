"""Random problems with exact or checked solutions, as data for neural operators."""

from ._abstract import AbstractFamily as AbstractFamily
from ._abstract import FaceKind as FaceKind
from ._abstract import FaceName as FaceName
from ._abstract import Sample as Sample
from ._burgers_periodic import BurgersPeriodic as BurgersPeriodic
from ._burgers_riemann import BurgersRiemann as BurgersRiemann
from ._cavity import LidDrivenCavity as LidDrivenCavity
from ._dataset import dataset_folder as dataset_folder
from ._dataset import make_dataset as make_dataset
from ._heat import HeatNeumann as HeatNeumann
from ._stokes import StokesSecond as StokesSecond
from ._table import FAMILIES as FAMILIES
from ._wave import WaveNeumann as WaveNeumann
