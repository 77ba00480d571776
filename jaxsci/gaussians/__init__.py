"""Multivariate Gaussians whose covariance keeps its structure."""

from ._blocks import blocks as blocks
from ._conditioned import Conditioned as Conditioned
from ._gaussian import Gaussian as Gaussian
from ._kronecker import Kronecker as Kronecker
from ._low_rank import LowRank as LowRank
from ._null import null_projector as null_projector
from ._sums import WeightedSums as WeightedSums
