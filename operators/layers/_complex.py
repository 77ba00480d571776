"""Complex numbers through maps of real ones."""

from collections.abc import Callable

import equinox as eqx
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array


class ComplexValued(eqx.Module):
    """`f(z) = fr(Re z) - fi(Im z) + i (fr(Im z) + fi(Re z))`, for two maps of real numbers.

    Of linear `fr` and `fi`, it is the complex linear map `fr + i fi`.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.layers import ComplexValued
        >>> ComplexValued(lambda x: 2 * x, lambda x: 3 * x)(jnp.array([1 + 1j]))  # times 2 + 3i
        Array([-1.+5.j], dtype=complex64)

    Reference: Trabelsi et al., *Deep Complex Networks*, ICLR 2018.
    """

    fr: Callable[[Array], Array]
    fi: Callable[[Array], Array]

    def __call__(self, z: Array) -> Array:
        """A complex array to a complex array."""
        real, imag = z.real, z.imag
        return lax.complex(self.fr(real) - self.fi(imag), self.fr(imag) + self.fi(real))


def separately(f: Callable[[Array], Array], x: Array) -> Array:
    """`f` of a real array; of a complex one, `f(Re) + i f(Im)`."""
    return lax.complex(f(x.real), f(x.imag)) if jnp.iscomplexobj(x) else f(x)
