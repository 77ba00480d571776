"""Sums of products in twice the working precision, without 64-bit types.

A number is carried as an unevaluated sum `high + low` of two floats of the working dtype. The
error-free transformations are Knuth's two-sum and Dekker's two-product; the dot product is that
of Ogita, Rump and Oishi, *Accurate sum and dot product*, SIAM J. Sci. Comput. 26 (2005), with
its serial loop replaced by a row of independent accumulators and a tree.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._matmul import matmul

# Rows longer than this are folded, a slab of this many numbers at a time.
_LANES = 2048


def two_sum(a: Array, b: Array) -> tuple[Array, Array]:
    """`(s, e)` with `s = fl(a + b)` and `s + e == a + b` exactly (barring overflow)."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def _split(a: Array) -> tuple[Array, Array]:
    # Masking the low half of the significand, rather than Dekker's multiplication by 2^s + 1:
    # a compiler may contract the multiplication and the subtraction that follows into one
    # operation, which would spoil the split; it cannot do so to integer operations.
    match a.dtype:
        case jnp.float32:
            integer, mask = jnp.uint32, 0xFFFF_F000
        case jnp.float64:
            integer, mask = jnp.uint64, 0xFFFF_FFFF_F800_0000
        case _:
            raise TypeError(f"expected float32 or float64, got {a.dtype}")
    bits = lax.bitcast_convert_type(a, integer)
    high = lax.bitcast_convert_type(bits & jnp.asarray(mask, integer), a.dtype)
    return high, a - high


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """`(p, e)` with `p = fl(a * b)` and `p + e == a * b` up to 2^(3 - 2 t) |a b|.

    `t` is the length of the significand (24 in float32, 53 in float64).
    """
    a_high, a_low = _split(a)
    b_high, b_low = _split(b)
    # Every partial product is exact or tiny, so contraction into fused operations cannot hurt:
    # they are summed by two-sum, never subtracted from fl(a * b).
    cross, e = two_sum(a_high * b_low, a_low * b_high)
    p, f = two_sum(a_high * b_high, cross)
    return two_sum(p, f + (e + a_low * b_low))


def _fold(high: Array, low: Array) -> tuple[Array, Array]:
    """Sums pairs of numbers by halving their row until one is left."""
    # Filled up to a power of two: halves of odd length would have to be copied at each step.
    missing = (1 << max(0, len(high) - 1).bit_length()) - len(high)
    high, low = jnp.pad(high, (0, missing)), jnp.pad(low, (0, missing))
    while (half := len(high) // 2) > 0:
        high, e = two_sum(high[:half], high[half:])
        low = low[:half] + low[half:] + e
    return high[0], low[0]


def _sum_parts(terms: Array) -> tuple[Array, Array]:
    n = len(terms)
    # Lanes enough for vector units; in a long row, for a loop body that outweighs the loop.
    lanes = 64 if n <= _LANES else _LANES
    slabs = jnp.pad(terms, (0, -n % lanes)).reshape(-1, lanes)

    def add(carry, slab):
        high, low = carry
        high, e = two_sum(high, slab)
        return (high, low + e), None

    start = (slabs[0], jnp.zeros(lanes, terms.dtype))
    (high, low), _ = lax.scan(add, start, slabs[1:], unroll=8)
    return _fold(high, low)


@jax.custom_jvp
def compensated_sum(terms: Float[Array, " n"], start: Float[Array, ""]) -> Float[Array, ""]:
    """`start + sum_i terms_i`, as if computed in twice the working precision and then rounded.

    Where the terms are products, each of which was rounded once, the error relative to
    `sum_i |terms_i|` is that of one rounding, at a third of the cost of
    [`jaxsci.precision.compensated_dot`][]; a plain sum has up to `n` of them.

    **Arguments:**

    - `terms`: shape `(n,)`, float32 or float64.
    - `start`: a scalar to begin from, e.g. minus the value that the sum should have.

    !!! example
        >>> import jax.numpy as jnp
        >>> terms = jnp.array([1e8, 1.0, -1e8], jnp.float32)
        >>> float(compensated_sum(terms, jnp.zeros(())))
        1.0
    """
    high, low = _sum_parts(terms)
    total, more = two_sum(start, high)
    return total + (low + more)


@compensated_sum.defjvp
def _sum_jvp(primals, tangents):
    dterms, dstart = tangents
    return compensated_sum(*primals), jnp.sum(dterms) + dstart


def _dot_parts(a: Array, b: Array) -> tuple[Array, Array]:
    n = a.shape[-1]
    if n <= _LANES:
        return _fold(*two_product(a, b))
    whole = n // _LANES * _LANES

    def slab(carry, ab):
        high, low = carry
        p, e = two_product(*ab)
        high, more = two_sum(high, p)
        return (high, low + (more + e)), None

    def slabs(x):
        return x[:whole].reshape(-1, _LANES)

    zero = jnp.zeros(_LANES, a.dtype)
    (high, low), _ = lax.scan(slab, (zero, zero), (slabs(a), slabs(b)))
    tail_high, tail_low = two_product(a[whole:], b[whole:])
    return _fold(jnp.concatenate([high, tail_high]), jnp.concatenate([low, tail_low]))


@jax.custom_jvp
def compensated_dot(
    a: Float[Array, " n"], b: Float[Array, " n"], start: Float[Array, ""]
) -> Float[Array, ""]:
    """`start + sum_i a_i b_i`, as if computed in twice the working precision and then rounded.

    The error is about `eps |result| + n eps^2 sum |a_i b_i|`, against `n eps sum |a_i b_i|` for a
    plain sum: cancellation between the terms, or against `start`, does no harm.

    **Arguments:**

    - `a`, `b`: shape `(n,)`, both float32 or both float64.
    - `start`: a scalar to begin from, e.g. minus the value that the sum should have.

    **Raises:** `TypeError` for any other dtype, as the arithmetic is exact in these two only.

    !!! example
        >>> import jax.numpy as jnp
        >>> a = jnp.array([1e8, 1.0, -1e8], jnp.float32)
        >>> float(compensated_dot(a, jnp.ones(3), jnp.zeros(())))
        1.0
    """
    high, low = _dot_parts(a, b)
    total, more = two_sum(start, high)
    return total + (low + more)


@compensated_dot.defjvp
def _dot_jvp(primals, tangents):
    a, b, start = primals
    da, db, dstart = tangents
    return compensated_dot(a, b, start), matmul(da, b) + matmul(a, db) + dstart
