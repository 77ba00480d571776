"""Numbers and matrices that act on the channels of every point, as operations of their own.

`lax.dot_general(weight, x)` computes the same as `mix_channels`. Its derivative with respect to
`x`, however, has the channels last and is then transposed, and where a batch comes in by `vmap`,
adding a bias moves it in front of the channels and the next product moves it back: on a CPU all
that takes longer than the products. As primitives they keep `(channels, batch, points)` in order,
forward and backward. Derivatives are computed in the dtypes of the forward pass, in 16 bits where
it was.
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jaxtyping import Array, Float

from jaxsci.precision import contract


def mix_channels(
    weight: Float[Array, "out in"], x: Array, *, compute: Any = None, output: Any = None
) -> Array:
    """`y[o, ...] = sum_c weight[o, c] x[c, ...]`.

    - `compute`: the dtype of the factors, also in derivatives; by default that of `x`.
    - `output`: the dtype of the result; by default that of `x`.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.spectral import mix_channels
        >>> mix_channels(jnp.ones((2, 3)), jnp.ones((3, 4))).shape
        (2, 4)
    """
    compute = x.dtype if compute is None else jnp.dtype(compute)
    output = x.dtype if output is None else jnp.dtype(output)
    return _mix_p.bind(weight, x, compute=compute, output=output)


def per_channel(numbers: Float[Array, " channels"], like: Array) -> Array:
    """One number for each channel at all points of `like`, in its shape and dtype.

    !!! example
        >>> import jax.numpy as jnp
        >>> from jaxsci.operators.spectral import per_channel
        >>> per_channel(jnp.array([1.0, 2.0]), jnp.zeros((2, 3)))
        Array([[1., 1., 1.],
               [2., 2., 2.]], dtype=float32)
    """
    # Of `like` only the shape counts, and where a batch is: it is an argument for that.
    return _spread_p.bind(numbers.astype(like.dtype), jax.lax.stop_gradient(like))


def _mix(weight: Array, x: Array, *, compute: Any, output: Any) -> Array:
    flat = x.reshape(x.shape[0], -1) if x.ndim != 2 else x
    y = contract(weight, flat, ([1], [0]), compute=compute, output=output)
    return y.reshape(weight.shape[0], *x.shape[1:])


def _abstract(weight: Any, x: Any, *, compute: Any, output: Any) -> Any:
    return ShapedArray((weight.shape[0], *x.shape[1:]), output)


def _transpose_weight(ct: Array, weight: Any, x: Array, *, compute: Any, output: Any) -> Array:
    ct, x = ct.reshape(ct.shape[0], -1), x.reshape(x.shape[0], -1)
    return contract(ct, x, ([1], [1]), compute=compute, output=weight.aval.dtype)


def _transpose_x(ct: Array, weight: Array, x: Any, *, compute: Any, output: Any) -> Array:
    return _mix_p.bind(weight.T, ct, compute=compute, output=x.aval.dtype)


def _batch(arguments: Any, axes: Any, *, compute: Any, output: Any) -> tuple[Array, int]:
    (weight, x), (weight_axis, x_axis) = arguments, axes
    if weight_axis is None:  # the batch becomes one more axis of points, next to the channels
        x = jnp.moveaxis(x, x_axis, 1)
        return _mix_p.bind(weight, x, compute=compute, output=output), 1
    weight = jnp.moveaxis(weight, weight_axis, 0)
    if x_axis is None:
        flat = weight.reshape(-1, weight.shape[-1])
        y = _mix_p.bind(flat, x, compute=compute, output=output)
        return y.reshape(*weight.shape[:2], *x.shape[1:]), 0
    x = jnp.moveaxis(x, x_axis, 0)
    return contract(weight, x, ([2], [1]), ([0], [0]), compute=compute, output=output), 0


_mix_p = Primitive("mix_channels")
_mix_p.def_impl(jax.jit(_mix, static_argnames=("compute", "output")))
_mix_p.def_abstract_eval(_abstract)
mlir.register_lowering(_mix_p, mlir.lower_fun(_mix, multiple_results=False))
ad.defbilinear(_mix_p, _transpose_weight, _transpose_x)
batching.primitive_batchers[_mix_p] = _batch


def _spread(numbers: Array, like: Array) -> Array:
    return jax.lax.broadcast_in_dim(numbers, like.shape, (0,))


def _spread_jvp(primals: Any, tangents: Any) -> tuple[Array, Any]:
    (numbers, like), tangent = primals, ad.instantiate_zeros(tangents[0])
    return _spread_p.bind(numbers, like), _spread_p.bind(tangent, like)


def _spread_transpose(ct: Any, numbers: Any, like: Array) -> list[Any]:
    if isinstance(ct, ad.Zero):
        return [ad.Zero(numbers.aval), None]
    # Sums of 16-bit numbers are made in float32.
    wide = ct.astype(jnp.float32) if jnp.finfo(ct.dtype).bits < 32 else ct
    return [wide.sum(range(1, ct.ndim)).astype(ct.dtype), None]


def _spread_batch(arguments: Any, axes: Any) -> tuple[Array, int]:
    (numbers, like), (numbers_axis, like_axis) = arguments, axes
    if numbers_axis is None:
        return _spread_p.bind(numbers, jnp.moveaxis(like, like_axis, 1)), 1
    numbers = jnp.moveaxis(numbers, numbers_axis, 0)
    shape = like.shape
    if like_axis is not None:
        shape = jnp.moveaxis(like, like_axis, 0).shape[1:]
    return jax.lax.broadcast_in_dim(numbers, (len(numbers), *shape), (0, 1)), 0


_spread_p = Primitive("per_channel")
_spread_p.def_impl(jax.jit(_spread))
_spread_p.def_abstract_eval(lambda numbers, like: ShapedArray(like.shape, numbers.dtype))
mlir.register_lowering(_spread_p, mlir.lower_fun(_spread, multiple_results=False))
ad.primitive_jvps[_spread_p] = _spread_jvp
ad.primitive_transposes[_spread_p] = _spread_transpose
batching.primitive_batchers[_spread_p] = _spread_batch

PRIMITIVES = {_mix_p: _mix, _spread_p: _spread}
"""The primitives of this library, and the functions of JAX that define them."""
