"""Operators that say how sure they are: each maps a function to a Gaussian over another.

All are surrogates ([`jaxsci.surrogates.Surrogate`][]) and take what an operator takes, `x`, or a
tuple of its arguments, `(x, values)`. Several operators are a [`jaxsci.surrogates.DeepEnsemble`][];
an operator with dropout is an [`jaxsci.surrogates.MCDropout`][] (one of several arguments goes
through [`jaxsci.operators.uncertain.Unpack`][] for both).
"""

from ._diverse import DiverseOperator as DiverseOperator
from ._diverse import diverse_loss as diverse_loss
from ._diverse import head_diversity as head_diversity
from ._laplace import LastLayerLaplace as LastLayerLaplace
from ._laplace import fit_last_layer_laplace as fit_last_layer_laplace
from ._last_layer import last_layer as last_layer
from ._unpack import Unpack as Unpack
from ._variance import OutputVariance as OutputVariance
