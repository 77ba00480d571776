"""Linear least squares with a dtype for each step: CGNR, refinement, direct factorisations."""

from ._cgnr import CGNRSolution as CGNRSolution
from ._cgnr import cgnr as cgnr
from ._direct import DenseCholesky as DenseCholesky
from ._direct import DirectPlan as DirectPlan
from ._direct import SparseCholesky as SparseCholesky
from ._refine import RefineCertificate as RefineCertificate
from ._refine import Refined as Refined
from ._refine import refine as refine
from ._results import CGNR_RESULTS as CGNR_RESULTS
from ._results import DIRECT_RESULTS as DIRECT_RESULTS
from ._results import REFINE_RESULTS as REFINE_RESULTS
from ._solver import CGNR as CGNR
from ._supernodal import SupernodalFactor as SupernodalFactor
from ._supernodal import SupernodalPlan as SupernodalPlan
from ._supernodal import plan_supernodal as plan_supernodal
