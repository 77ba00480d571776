"""The spectral convolution: a channel matrix for each retained mode of each axis."""

from collections.abc import Sequence
from typing import Any, Literal

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.precision import Policy, contract

from ._basis import AbstractSpectralBasis, Fourier
from ._channels import per_channel
from ._transform import Expansion, Method, from_modes, half_axis, mode_shape, to_modes
from ._weights import AbstractSpectralWeight, Factorization, make_weight


class SpectralConv(eqx.Module):
    """`y = S W A x + bias`: coefficients of each channel, a matrix for each mode, and back.

    ```
    X[c, k] = sum_j A[k, j] x[c, j]              retained modes k only
    Y[o, k] = sum_c W[k][o, c] X[c, k]
    y[o, j] = sum_k S[j, k] Y[o, k] + bias[o]    the real part, for real x
    ```

    With Fourier bases and data without an end this is the layer of the Fourier neural operator:
    a convolution with a kernel of few wavenumbers. As few are kept, the transforms are matrix
    products, unless an FFT is faster: they run in any dtype, are divided among devices along the
    batch without communication, and are exported once for all resolutions. Coefficients do not
    depend on the resolution, so that neither do the weights.

    **Arguments:**

    - `in_channels`, `out_channels`: numbers of channels.
    - `modes`: how many modes each axis keeps; what they are is the basis' matter. Of real data,
        the last Fourier axis keeps wavenumbers `0 .. n // 2`.
    - `bases`: one for all axes or one each; [`jaxsci.operators.spectral.Fourier`][] by default.
    - `factorization`, `rank`: `None` for free matrices, `"tucker"`, `"cp"` or `"tt"`; a rank is
        the fraction of the parameters of free matrices (a float), one number for all (an int), or
        one for each: Tucker has one for each of (in, out, *modes), TT one between each two.
    - `complex_data`: whether `x` is complex; all wavenumbers of all axes are then kept.
    - `use_bias`: whether there is a bias, one real number for each output channel.
    - `method`: `"matmul"`, `"fft"` or `"auto"`, for all axes or each; `"auto"` is an FFT where an
        axis keeps more coefficients than from where on it was measured to be faster on a CPU: 24,
        and 64 of a circle longer than the axis, whose FFT is two of longer ones.
        All give the same to rounding. A batch that is divided among devices, and 16-bit products,
        want `"matmul"`.
    - `policy`: `params`, `compute` (factors of products) and `output` (sums, and what is kept) of
        a [`jaxsci.precision.Policy`][]. Without one, everything has the dtype of `x`.
    - `dtype`: of the parameters, where there is no policy.
    - `key`: random key for the parameters: `N(0, 2 / (in + out))`, as neuraloperator has it.

    **Raises:** `ValueError` for sizes below 1, lists of different lengths and unknown names, and
    when called: a wrong number of channels or axes, a grid that cannot hold the modes; `TypeError`
    for complex data where real was announced, or the reverse.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.spectral import Fourier, Sine, SpectralConv
        >>> layer = SpectralConv(3, 2, (8, 6), bases=(Sine(), Fourier()), key=jax.random.key(0))
        >>> layer(jnp.ones((3, 40, 32))).shape
        (2, 40, 32)
        >>> layer.weight.dense.shape
        (3, 2, 8, 4)
        >>> jax.vmap(layer)(jnp.ones((5, 3, 64, 33))).shape  # a batch, on another grid
        (5, 2, 64, 33)

    Reference: Li et al., *Fourier Neural Operator for Parametric PDEs*, ICLR 2021; Kossaifi et
    al., *Multi-Grid Tensorized Fourier Neural Operator*, 2023, for factorised weights.
    """

    weight: AbstractSpectralWeight
    bias: Float[Array, " out"] | None
    in_channels: int = eqx.field(static=True)
    out_channels: int = eqx.field(static=True)
    modes: tuple[int, ...] = eqx.field(static=True)
    bases: tuple[AbstractSpectralBasis, ...] = eqx.field(static=True)
    complex_data: bool = eqx.field(static=True)
    methods: tuple[Method, ...] = eqx.field(static=True)
    policy: Policy | None = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int] | int,
        *,
        bases: AbstractSpectralBasis | Sequence[AbstractSpectralBasis] | None = None,
        factorization: Factorization | None = None,
        rank: float | int | Sequence[int] = 0.5,
        complex_data: bool = False,
        use_bias: bool = True,
        method: Method | Sequence[Method] = "auto",
        policy: Policy | None = None,
        dtype: Any = jnp.float32,
        key: PRNGKeyArray,
    ):
        modes = (modes,) if isinstance(modes, int | np.integer) else modes
        self.modes = tuple(int(n) for n in modes)
        bases = Fourier() if bases is None else bases
        self.bases = _one_each("bases", bases, AbstractSpectralBasis, len(self.modes))
        self.methods = _one_each("method", method, str, len(self.modes))
        for size, name in ((in_channels, "in_channels"), (out_channels, "out_channels")):
            if size < 1:
                raise ValueError(f"`SpectralConv({name}=...)`: expected at least 1, got {size}")
        if not self.modes or min(self.modes) < 1:
            raise ValueError(
                f"`SpectralConv(modes=...)`: expected at least 1 for each axis, got {self.modes}"
            )
        for name in self.methods:
            if name not in ("auto", "matmul", "fft"):
                raise ValueError(
                    f"`SpectralConv(method=...)`: expected 'auto', 'matmul' or 'fft', got {name!r}"
                )
        if factorization not in (None, "tucker", "cp", "tt"):
            raise ValueError(
                "`SpectralConv(factorization=...)`: expected None, 'tucker', 'cp' or 'tt', got "
                f"{factorization!r}"
            )
        self.in_channels, self.out_channels = in_channels, out_channels
        self.complex_data, self.policy = complex_data, policy
        dtype = dtype if policy is None else policy.dtype("params")
        weight_key, bias_key = jax.random.split(key)
        self.weight = make_weight(
            (in_channels, out_channels),
            self.coefficients,
            2 if self.complex else 1,
            factorization,
            rank,
            key=weight_key,
            dtype=dtype,
        )
        std = (2 / (in_channels + out_channels)) ** 0.5
        normal = std * jax.random.normal(bias_key, (out_channels,), dtype)
        self.bias = normal if use_bias else None

    @property
    def complex(self) -> bool:
        """Whether the matrices of the modes are complex."""
        return self.complex_data or any(basis.complex for basis in self.bases)

    @property
    def half_axis(self) -> int | None:
        """The axis of which wavenumbers `k >= 0` alone are kept, if any."""
        return half_axis(self.bases, self.complex_data)

    @property
    def coefficients(self) -> tuple[int, ...]:
        """How many coefficients are kept of each axis: the trailing shape of `weight.dense`."""
        return mode_shape(self.bases, self.modes, self.complex_data)

    @property
    def wavenumbers(self) -> tuple[np.ndarray, ...]:
        """Which they are."""
        return tuple(
            basis.wavenumbers(n, axis == self.half_axis)
            for axis, (basis, n) in enumerate(zip(self.bases, self.modes, strict=True))
        )

    def __call__(self, x: Array, *, shape: Sequence[int] | None = None) -> Array:
        """`x` of shape `(in_channels, N1, .., Nd)` to `(out_channels, *shape)`.

        - `shape`: the grid of the result, by default that of `x`.
        """
        self._check(x, shape)
        return spectral_conv(
            x,
            self.weight.tensor,
            self.bias,
            self.expansion(x.dtype, x.shape[1:], shape),
            shape=shape,
        )

    def expansion(
        self, dtype: Any, points: Sequence[Any], shape: Sequence[Any] | None = None
    ) -> Expansion:
        """What [`jaxsci.operators.spectral.spectral_conv`][] needs besides the parameters.

        - `dtype`, `points`: those of `x`; `shape`: of the result.
        """
        real = jnp.finfo(dtype).dtype
        policy = self.policy
        dtypes = (real, real) if policy is None else map(policy.dtype, ("compute", "output"))
        shape = points if shape is None else shape
        methods: tuple[Any, ...] = tuple(
            _choose(method, basis, n, size, new)
            for method, basis, n, size, new in zip(
                self.methods, self.bases, self.coefficients, points, shape, strict=True
            )
        )
        return Expansion(self.bases, self.modes, self.complex_data, methods, *dtypes)

    def _check(self, x: Array, shape: Sequence[int] | None) -> None:
        count = len(self.modes)
        if x.ndim != count + 1 or x.shape[0] != self.in_channels:
            axes = ", ".join(f"N{axis + 1}" for axis in range(count))
            raise ValueError(
                f"`SpectralConv(...)(x)`: expected shape ({self.in_channels}, {axes}), got "
                f"{x.shape}; a batch goes through `jax.vmap`"
            )
        if jnp.iscomplexobj(x) != self.complex_data:
            wanted = "complex" if self.complex_data else "real"
            raise TypeError(
                f"`SpectralConv(complex_data={self.complex_data})(x)`: expected {wanted} numbers, "
                f"got {x.dtype}"
            )
        if shape is not None and len(shape) != count:
            raise ValueError(
                f"`SpectralConv(...)(x, shape=...)`: expected {count} sizes, got {tuple(shape)}"
            )
        self.check_grid(x.shape[1:], "x")
        if shape is not None:
            self.check_grid(shape, "shape")

    def check_grid(self, points: Sequence[Any], name: str = "points") -> None:
        """Raise `ValueError`, naming the axis, where a grid cannot hold the modes."""
        for axis, (basis, n, size) in enumerate(zip(self.bases, self.modes, points, strict=True)):
            if n > basis.limit(size):
                raise ValueError(
                    f"`SpectralConv(modes={self.modes})`: expected `{name}` to have points enough "
                    f"for {n} modes of {type(basis).__name__} along axis {axis}, got {size}, which "
                    f"hold {basis.limit(size)}; use fewer modes or more points"
                )


def spectral_conv(
    x: Array,
    weight: Float[Array, "*modes parts out in"],
    bias: Float[Array, " out"] | None,
    expansion: Expansion,
    *,
    shape: Sequence[Any] | None = None,
) -> Array:
    """The layer as a function of its parameters: [`jaxsci.operators.spectral.SpectralConv`][].

    **Arguments:**

    - `x`: shape `(in, N1, .., Nd)`.
    - `weight`: `parts` is 2, real and imaginary, where coefficients are complex, else 1.
    - `expansion`: bases, modes, methods and dtypes; `layer.expansion(x.dtype, x.shape[1:])`.
    - `shape`: the grid of the result, by default that of `x`.

    **Returns:** shape `(out, *shape)`, in the output dtype of the expansion.
    """
    coefficients, names = to_modes(x, expansion)
    mixed, names = _mix(weight, coefficients, names, expansion)
    y = from_modes(mixed, names, x.shape[1:] if shape is None else shape, expansion)
    if bias is None:
        return y
    if not expansion.complex_data:
        return y + per_channel(bias, y)
    return lax.complex(y.real + per_channel(bias, y.real), y.imag)


def _mix(weight: Array, x: Array, names: list[Any], expansion: Expansion) -> Any:
    """The matrix of each mode times its coefficients; complex ones as pairs of reals."""
    axes = list(range(len(expansion.bases)))
    products = contract(
        weight,
        x,
        ([weight.ndim - 1], [names.index("c")]),
        (axes, [names.index(axis) for axis in axes]),
        compute=expansion.compute,
        output=expansion.output,
    )
    # Axes: modes, the part of the weight, channels, and that of the coefficient, if any.
    return products, [*axes, "w", "c", *(["p"] if expansion.complex else [])]


def _choose(
    method: Method, basis: AbstractSpectralBasis, coefficients: int, points: Any, new: Any
) -> Literal["matmul", "fft"]:
    if method != "auto":
        return method
    if not (isinstance(points, int) and isinstance(new, int)):
        return "matmul"
    return "matmul" if coefficients <= basis.matmul_coefficients else "fft"


def _one_each(name: str, given: Any, kind: type, count: int) -> tuple[Any, ...]:
    if isinstance(given, kind):
        return (given,) * count
    if not isinstance(given, Sequence) or len(given) != count:
        raise ValueError(
            f"`SpectralConv({name}=...)`: expected one for all axes, or one for each of {count}, "
            f"got {given!r}"
        )
    for each in given:
        if not isinstance(each, kind):
            raise TypeError(
                f"`SpectralConv({name}=...)`: expected {kind.__name__} for each axis, got {each!r}"
            )
    return tuple(given)
