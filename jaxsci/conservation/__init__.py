"""Conservation laws as linear constraints, and Gaussians conditioned on them."""

from ._certificate import RESULTS as RESULTS
from ._certificate import Certificate as Certificate
from ._condition import condition as condition
from ._condition import condition_with_certificate as condition_with_certificate
from ._condition import project as project
from ._constraint import LinearConstraint as LinearConstraint
from ._constraint import stack as stack
from ._curvature import curvature as curvature
from ._flux_balance import flux_balance as flux_balance
from ._integral import integral as integral
from ._likelihood import constrained_log_likelihood as constrained_log_likelihood
