"""Linear least squares with a dtype for each step: CGNR, refinement, direct factorisations."""

from ._cgnr import CGNRSolution as CGNRSolution
from ._cgnr import cgnr as cgnr
from ._results import CGNR_RESULTS as CGNR_RESULTS
from ._solver import CGNR as CGNR
