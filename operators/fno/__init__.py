"""The Fourier neural operator, and the weights of PyTorch's neuraloperator."""

from ._block import FNOBlock as FNOBlock
from ._fno import FNO as FNO
from ._load import load_neuraloperator as load_neuraloperator
from ._load import neuraloperator_weights as neuraloperator_weights
