"""Figures of predictions with their uncertainty; needs the extra `plot` (matplotlib)."""

from ._animation import animate_fields as animate_fields
from ._calibration import plot_calibration as plot_calibration
from ._fields import plot_fields as plot_fields
from ._mass import plot_mass as plot_mass
from ._pose_graph import plot_pose_graph as plot_pose_graph
from ._profile import plot_profile as plot_profile
from ._shock import plot_shock_histogram as plot_shock_histogram
from ._style import OKABE_ITO as OKABE_ITO
from ._summary import plot_summary as plot_summary
from ._traces import plot_growth as plot_growth
from ._traces import plot_traces as plot_traces
