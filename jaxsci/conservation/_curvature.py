"""The diffusion variant: second differences are small, in proportion to the uncertainty."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike

from jaxsci.errors import is_concrete
from jaxsci.gaussians import Gaussian

from ._constraint import LinearConstraint


def curvature(gaussian: Gaussian, correlation: ArrayLike = 0.9) -> LinearConstraint:
    """Second differences are 0, up to the variance that a smooth field of this spread would have.

    Rows `[1, -2, 1]`, `b = 0`, and the noise of row `i` is the variance of the second difference
    of three neighbours with standard deviations `s` and autoregressive correlation `a`:

    ```
    s0^2 + 4 s1^2 + s2^2 - 4 a s0 s1 + 2 a^2 s0 s2 - 4 a s1 s2
    ```

    Conditioning on it damps the kinks that a wrong mean has where it is unsure; condition on the
    conserved quantity after it.

    **Arguments:**

    - `gaussian`: one slice, its `n >= 3` points equally spaced along one axis.
    - `correlation`: `a`, in [0, 1).

    **Returns:** a constraint with `n - 2` rows. Conditioning on it costs O(n^3), as its rows
    overlap.

    **Raises:** `ValueError` for fewer than three points or a correlation outside [0, 1).

    Reference: Hansen et al., ICML 2023, section 3.3 and appendix.
    """
    n, dtype = gaussian.size, gaussian.mean.dtype
    if n < 3:
        raise ValueError(f"`curvature(gaussian)`: expected at least 3 points, got {n}")
    if is_concrete(correlation) and not 0 <= float(np.asarray(correlation)) < 1:
        raise ValueError(f"`curvature(correlation=...)`: expected 0 <= a < 1, got {correlation}")
    rows, noise = _rows_and_noise(gaussian.marginal_std, jnp.asarray(correlation, dtype))
    return LinearConstraint(rows, jnp.zeros_like(noise), noise)


# Compiled as a whole, for callers that are not.
@jax.jit
def _rows_and_noise(s: Array, a: Array) -> tuple[Array, Array]:
    n, dtype = s.size, s.dtype
    s0, s1, s2 = s[:-2], s[1:-1], s[2:]
    # The sum of squares form of the variance above: no cancellation, never negative.
    first, c = s0 - 2 * a * s1 + a**2 * s2, 1 - a**2
    noise = first**2 + c * ((2 * s1 - a * s2) ** 2 + s2**2)
    # Three points without variance cannot move: any positive noise leaves them as they are.
    noise = jnp.where(noise > 0, noise, 1)
    rows = jnp.eye(n - 2, n, dtype=dtype) + jnp.eye(n - 2, n, 2, dtype=dtype)
    return rows - 2 * jnp.eye(n - 2, n, 1, dtype=dtype), noise
