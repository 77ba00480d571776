"""Probabilistic surrogates: everything here maps inputs to a Gaussian over a field."""

from ._ensemble import DeepEnsemble as DeepEnsemble
from ._gaussian_process import GaussianProcess as GaussianProcess
from ._gaussian_process_fit import GaussianProcessFit as GaussianProcessFit
from ._gaussian_process_fit import fit_gaussian_process as fit_gaussian_process
from ._gaussian_process_kernels import SeparableKernel as SeparableKernel
from ._gaussian_process_kernels import stationary_kernel as stationary_kernel
from ._gaussian_process_nuts import GaussianProcessDraws as GaussianProcessDraws
from ._gaussian_process_nuts import PooledGaussianProcess as PooledGaussianProcess
from ._gaussian_process_nuts import sample_gaussian_process as sample_gaussian_process
from ._mc_dropout import MCDropout as MCDropout
from ._protocol import Surrogate as Surrogate
from ._protocol import Task as Task
