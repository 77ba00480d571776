"""Sums of products in twice the working precision, without 64-bit types.

A number is carried as an unevaluated sum `high + low` of two floats of the working dtype. The
error-free transformations are Knuth's two-sum and Dekker's two-product; the dot product is that
of Ogita, Rump and Oishi, *Accurate sum and dot product*, SIAM J. Sci. Comput. 26 (2005), with
its serial loop replaced by a tree.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ._matmul import matmul


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
    """Sums pairs of numbers, each time the columns of a table of 8 or 16 rows, till one is left.

    The scan is unrolled into one vectorised kernel that reads each number once. A loop takes five
    times as long; halving, row by row, writes more than it reads.
    """

    def add(sums, row):
        (high, low), (term, rest) = sums, row
        high, e = two_sum(high, term)
        return (high, low + (rest + e)), None

    if not isinstance(high.shape[0], int):  # a symbol of `jax.export`
        return _halved(high, low)
    while (n := len(high)) > 1:
        # Few rows leave short tables whole vectors; many leave long ones fewer passes.
        rows = min(8 if n < 4096 else 16, n)
        table = [jnp.pad(part, (0, -n % rows)).reshape(rows, -1) for part in (high, low)]
        first, others = tuple(t[0] for t in table), tuple(t[1:] for t in table)
        (high, low), _ = lax.scan(add, first, others, unroll=rows)
    return high[0], low[0]


def _halved(high: Array, low: Array) -> tuple[Array, Array]:
    """The same where Python does not know how many there are: halving, in a loop."""
    places = jnp.arange(high.shape[0])

    def halve(state):
        left, high, low = state
        half = (left + 1) // 2
        there = places + half < left
        term, rest = (jnp.where(there, jnp.roll(part, -half), 0) for part in (high, low))
        high, e = two_sum(high, term)
        return half, high, low + (rest + e)

    count = jnp.asarray(high.shape[0])
    _, high, low = lax.while_loop(lambda state: state[0] > 1, halve, (count, high, low))
    return high[0], low[0]


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
    high, low = _fold(terms, jnp.zeros_like(terms))
    total, more = two_sum(start, high)
    return total + (low + more)


@compensated_sum.defjvp
def _sum_jvp(primals, tangents):
    dterms, dstart = tangents
    return compensated_sum(*primals), jnp.sum(dterms) + dstart


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
    high, low = _fold(*two_product(a, b))
    total, more = two_sum(start, high)
    return total + (low + more)


@compensated_dot.defjvp
def _dot_jvp(primals, tangents):
    a, b, start = primals
    da, db, dstart = tangents
    return compensated_dot(a, b, start), matmul(da, b) + matmul(a, db) + dstart
