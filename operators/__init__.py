"""Neural operators: from functions to functions, at any resolution.

What is met first is here; the rest is in the folders `spectral` (bases, transforms, spectral
layers), `layers` (pointwise maps, norms, padding), `fno`, `deeponet`, `boundary` (what must hold
on a face, and layers that obey it), `constrained` (operators made of them) and `uncertain`
(operators that say how sure they are).

!!! example
    >>> import equinox as eqx, jax, jax.numpy as jnp
    >>> from jaxsci.operators import FNO
    >>> model = FNO(1, 1, modes=(8, 8), width=16, layers=2, key=jax.random.key(0))
    >>> batch = jnp.ones((4, 1, 32, 32))
    >>> eqx.filter_jit(eqx.filter_vmap(model))(batch).shape
    (4, 1, 32, 32)
"""

if __name__ != "jaxsci.operators":
    raise ImportError(
        "write `import jaxsci.operators`: `operators` is part of jaxsci, not a package of its own"
    )

from .boundary import BoundaryConditions as BoundaryConditions
from .boundary import Dirichlet as Dirichlet
from .boundary import Neumann as Neumann
from .boundary import Periodic as Periodic
from .boundary import Robin as Robin
from .boundary import correct as correct
from .boundary import enforce as enforce
from .constrained import BOON as BOON
from .constrained import make_operator as make_operator
from .deeponet import DeepONet as DeepONet
from .fno import FNO as FNO
from .fno import load_neuraloperator as load_neuraloperator
from .fno import neuraloperator_weights as neuraloperator_weights
from .spectral import ChebyshevShen as ChebyshevShen
from .spectral import Cosine as Cosine
from .spectral import ExtendedFourier as ExtendedFourier
from .spectral import Fourier as Fourier
from .spectral import QuarterWave as QuarterWave
from .spectral import Sine as Sine
from .spectral import SpectralConv as SpectralConv
from .spectral import with_modes as with_modes
