"""Models of other libraries, and plain functions, as surrogates."""

from ._flax import LinenSurrogate as LinenSurrogate
from ._flax import NNXSurrogate as NNXSurrogate
from ._flax import from_flax_linen as from_flax_linen
from ._flax import from_flax_nnx as from_flax_nnx
from ._function import FunctionSurrogate as FunctionSurrogate
from ._function import from_function as from_function
from ._key import takes_key as takes_key
from ._to_flax import to_flax_nnx as to_flax_nnx
