"""Conservation laws with exact solutions and masses, and a finite-volume solver for the rest."""

from ._abstract import AbstractEquation as AbstractEquation
from ._advection import Advection as Advection
from ._burgers import Burgers as Burgers
from ._heat import Heat as Heat
from ._porous_medium import PorousMedium as PorousMedium
from ._stefan import Stefan as Stefan
from ._stefan import stefan_constants as stefan_constants
from ._table import EQUATIONS as EQUATIONS
from ._tasks import TaskBatch as TaskBatch
from ._tasks import sample_tasks as sample_tasks
