"""How good a prediction of a field is: conservation, accuracy, calibration, fronts."""

from ._calibration import calibration_curve as calibration_curve
from ._calibration import calibration_error as calibration_error
from ._calibration import interval_coverage as interval_coverage
from ._calibration import interval_width as interval_width
from ._calibration import n_merci as n_merci
from ._scores import conservation_error as conservation_error
from ._scores import crps as crps
from ._scores import crps_from_samples as crps_from_samples
from ._scores import gaussian_log_likelihood as gaussian_log_likelihood
from ._scores import mean_and_standard_error as mean_and_standard_error
from ._scores import mean_squared_error as mean_squared_error
from ._scores import pool_moments as pool_moments
from ._scores import relative_l2 as relative_l2
from ._shock import ShockSummary as ShockSummary
from ._shock import shock_distribution as shock_distribution
from ._shock import shock_position as shock_position
from ._shock import shock_summary as shock_summary
from ._summarise import summarise as summarise
