"""Preconditioners: symbolic on the host once, numeric and applied inside `jit`, under a policy."""

from ._base import AbstractPreconditioner as AbstractPreconditioner
from ._base import Plannable as Plannable
from ._cholesky import PRECONDITIONER_RESULTS as PRECONDITIONER_RESULTS
from ._cholesky import CholeskyFactor as CholeskyFactor
from ._cholesky import CholeskyPlan as CholeskyPlan
from ._cholesky import IncompleteCholesky as IncompleteCholesky
from ._cholesky import TriangularSolves as TriangularSolves
from ._complete import CompleteCholesky as CompleteCholesky
from ._complete import CompleteFactor as CompleteFactor
from ._complete import CompletePlan as CompletePlan
from ._fsai import FSAI as FSAI
from ._fsai import FSAIFactor as FSAIFactor
from ._fsai import FSAIPlan as FSAIPlan
from ._jacobi import BlockJacobi as BlockJacobi
from ._jacobi import JacobiFactor as JacobiFactor
from ._jacobi import JacobiPlan as JacobiPlan
from ._jacobi import PointJacobi as PointJacobi
from ._schur import SchurComplement as SchurComplement
from ._schur import SchurCoupling as SchurCoupling
from ._schur import SchurFactor as SchurFactor
from ._schur import SchurJacobi as SchurJacobi
from ._schur import SchurPlan as SchurPlan
from ._schur import SchurReduced as SchurReduced
from ._two_level import TwoLevel as TwoLevel
from ._two_level import TwoLevelFactor as TwoLevelFactor
from ._two_level import TwoLevelPlan as TwoLevelPlan
