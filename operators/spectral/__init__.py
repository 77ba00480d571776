"""Spectral layers: bases, transforms as matrix products or FFTs, dense and factorised weights."""

from ._basis import AbstractSpectralBasis as AbstractSpectralBasis
from ._basis import Fourier as Fourier
from ._channels import PRIMITIVES as PRIMITIVES
from ._channels import mix_channels as mix_channels
from ._channels import per_channel as per_channel
from ._chebyshev import ChebyshevShen as ChebyshevShen
from ._conv import SpectralConv as SpectralConv
from ._conv import spectral_conv as spectral_conv
from ._extended import ExtendedFourier as ExtendedFourier
from ._kernel import KernelBlocks as KernelBlocks
from ._kernel import kernel_blocks as kernel_blocks
from ._modes import with_modes as with_modes
from ._transform import Expansion as Expansion
from ._transform import Method as Method
from ._transform import analyse as analyse
from ._transform import synthesise as synthesise
from ._trigonometric import Cosine as Cosine
from ._trigonometric import QuarterWave as QuarterWave
from ._trigonometric import Sine as Sine
from ._weights import AbstractSpectralWeight as AbstractSpectralWeight
from ._weights import CPWeight as CPWeight
from ._weights import DenseWeight as DenseWeight
from ._weights import Factorization as Factorization
from ._weights import TTWeight as TTWeight
from ._weights import TuckerWeight as TuckerWeight
