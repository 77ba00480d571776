"""Multivariate Gaussians whose covariance keeps its structure."""

from ._blocks import blocks as blocks
from ._conditioned import Conditioned as Conditioned
from ._conditioned import separates as separates
from ._disjoint import DisjointRows as DisjointRows
from ._gaussian import Gaussian as Gaussian
from ._kronecker import Kronecker as Kronecker
from ._low_rank import LowRank as LowRank
from ._null import null_projector as null_projector
from ._pushforward import Pushforward as Pushforward
from ._selected import EnclosingRows as EnclosingRows
from ._selected import PartRows as PartRows
from ._selected import SeparateRows as SeparateRows
from ._selected import SparseRows as SparseRows
from ._separable import separable_factors as separable_factors
from ._sums import WeightedSums as WeightedSums
