"""Pose graphs and bundle adjustment: files, generators, initialisation, trajectory error."""

from ._chordal import ChordalReport as ChordalReport
from ._chordal import chordal as chordal
from ._cost import graph_cost as graph_cost
from ._cost import graph_residual as graph_residual
from ._g2o import G2OError as G2OError
from ._g2o import read_g2o as read_g2o
from ._g2o_write import write_g2o as write_g2o
from ._generate import grid as grid
from ._generate import manhattan as manhattan
from ._generate import sphere as sphere
from ._generate import torus as torus
from ._graph import FileLine as FileLine
from ._graph import PoseGraph as PoseGraph
from ._graph import Report as Report
from ._odometry import odometry as odometry
from ._problem import from_values as from_values
from ._problem import to_problem as to_problem
from ._problem import to_values as to_values
from ._trajectory import TrajectoryError as TrajectoryError
from ._trajectory import absolute_trajectory_error as absolute_trajectory_error
