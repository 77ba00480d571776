"""Probabilistic surrogates: everything here maps inputs to a Gaussian over a field."""

from ._anp import AttentiveNeuralProcess as AttentiveNeuralProcess
from ._anp_loss import anp_loss as anp_loss
from ._anp_parts import Latent as Latent
from ._conformal import Recalibrated as Recalibrated
from ._conformal import conformal_factor as conformal_factor
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
from ._pooled import pooled_moments as pooled_moments
from ._pooled import slice_tasks as slice_tasks
from ._protocol import Surrogate as Surrogate
from ._protocol import Task as Task
from ._softc import equation_residual as equation_residual
from ._softc import softc_loss as softc_loss
from ._weights import anp_weights as anp_weights
from ._weights import load_anp_weights as load_anp_weights
from ._weights import save_anp_weights as save_anp_weights
