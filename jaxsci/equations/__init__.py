"""Conservation laws with exact solutions and masses, and a finite-volume solver for the rest."""

from ._abstract import AbstractEquation as AbstractEquation
from ._advection import Advection as Advection
from ._averages import TabulatedPrimitive as TabulatedPrimitive
from ._averages import cell_averages as cell_averages
from ._averages import tabulated_primitive as tabulated_primitive
from ._boundary import Boundary as Boundary
from ._boundary import Dirichlet as Dirichlet
from ._boundary import Flux as Flux
from ._boundary import Outflow as Outflow
from ._boundary import Periodic as Periodic
from ._burgers import Burgers as Burgers
from ._finite_volume import FiniteVolume as FiniteVolume
from ._finite_volume import FiniteVolumeSolution as FiniteVolumeSolution
from ._finite_volume import solve_finite_volume as solve_finite_volume
from ._heat import Heat as Heat
from ._law import ConservationLaw as ConservationLaw
from ._porous_medium import PorousMedium as PorousMedium
from ._stefan import Stefan as Stefan
from ._stefan import stefan_constants as stefan_constants
from ._table import EQUATIONS as EQUATIONS
from ._tasks import TaskBatch as TaskBatch
from ._tasks import sample_tasks as sample_tasks
