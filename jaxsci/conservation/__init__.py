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
from ._inequality import INEQUALITY_RESULTS as INEQUALITY_RESULTS
from ._inequality import InequalityCertificate as InequalityCertificate
from ._inequality import project_inequality as project_inequality
from ._inequality import project_inequality_with_certificate as project_inequality_with_certificate
from ._inequality_sets import AbstractInequality as AbstractInequality
from ._inequality_sets import Monotone as Monotone
from ._inequality_sets import Nonnegative as Nonnegative
from ._inequality_sets import TotalVariation as TotalVariation
from ._integral import integral as integral
from ._likelihood import constrained_log_likelihood as constrained_log_likelihood
