"""Boundary conditions of neural operators: what must hold on a face, and layers that obey it."""

from ._boundary import BoundaryConditions as BoundaryConditions
from ._boundary import FaceName as FaceName
from ._boundary import Values as Values
from ._conditions import Condition as Condition
from ._conditions import Dirichlet as Dirichlet
from ._conditions import Neumann as Neumann
from ._conditions import Periodic as Periodic
from ._conditions import Robin as Robin
from ._correct import CorrectedLayer as CorrectedLayer
from ._correct import Correction as Correction
from ._correct import correct as correct
from ._elimination import Elimination as Elimination
from ._elimination import eliminate as eliminate
from ._enforce import enforce as enforce
from ._layers import DenseLayer as DenseLayer
from ._lift import blend as blend
from ._lift import lift as lift
from ._residuals import FaceResidual as FaceResidual
from ._residuals import residuals as residuals
from ._stencils import boundary_derivative as boundary_derivative
