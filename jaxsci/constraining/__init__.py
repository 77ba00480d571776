"""Conservation and boundary conditions together, imposed on any surrogate, with evidence."""

from ._balance import DiffusiveFlux as DiffusiveFlux
from ._certificate import CONSTRAIN_RESULTS as CONSTRAIN_RESULTS
from ._certificate import JointCertificate as JointCertificate
from ._constrain import ConstrainedSurrogate as ConstrainedSurrogate
from ._constrain import constrain as constrain
from ._impose import impose as impose
from ._impose import impose_with_certificate as impose_with_certificate
from ._nonlinear import NonlinearLaw as NonlinearLaw
