"""The Fourier neural operator, and its relatives in other bases."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.operators.layers import (
    ChannelMLP,
    ComplexValued,
    append_coordinates,
    crop,
    gelu,
    make_norm,
    make_skip,
    pad,
    padding_of,
)
from jaxsci.operators.layers import Norm as NormName
from jaxsci.operators.layers import Skip as SkipName
from jaxsci.operators.spectral import AbstractSpectralBasis, Factorization, Method, SpectralConv
from jaxsci.precision import Policy

from ._block import FNOBlock


class FNO(eqx.Module):
    """A function on a grid in, a function on the same grid out, at any resolution.

    ```
    v = lifting(x, parameters, coordinates)          pointwise, to `width` channels
    v = block(v)                                     `layers` times: see FNOBlock
    y = projection(v)                                pointwise
    ```

    The defaults are those of the reference, neuraloperator, whose weights
    [`jaxsci.operators.fno.load_neuraloperator`][] reads. The weights do not depend on the grid: a
    model trained on one runs on others, as long as they hold its modes. Time is one more axis.

    **Arguments:**

    - `in_channels`, `out_channels`: numbers of functions in and out.
    - `modes`: how many each axis keeps, one number or one for each; see
        [`jaxsci.operators.spectral.SpectralConv`][], as for `bases`, `factorization`, `rank`,
        `complex_data`, `method`, `policy`, `dtype` and `key`.
    - `width`: channels of the blocks.
    - `layers`: number of blocks.
    - `parameters`: how many numbers, constant over the grid, the operator depends on besides.
    - `lifting_ratio`, `projection_ratio`: hidden channels of the two pointwise networks, in widths.
    - `mlp_expansion`: those of the channel MLP of each block; `None` for the blocks of the 2021
        paper, which have none.
    - `skip`, `mlp_skip`: `"linear"`, `"soft-gating"`, `"identity"`, or `None` for none.
    - `norm`: `None`, `"instance"` or `"group"`.
    - `positional_grid`: whether the coordinates of the points are input channels.
    - `padding`: a fraction of the points, one or one for each axis, to add as zeros on both sides:
        for functions that are not periodic. The bases
        [`jaxsci.operators.spectral.ExtendedFourier`][] part the ends without more points.
    - `stabilizer`: whether spectral layers see `tanh(x)`, for 16-bit products.
    - `preactivation`: whether activation and norm come before the layers.
    - `dropout`: the probability with which each block drops each of its channels, where the model
        is called with a key; see [`jaxsci.surrogates.MCDropout`][].
    - `activation`: of real numbers, at each point; of complex ones, of both parts.

    **Raises:** `ValueError` for sizes below 1 and unknown names, and when called: an input of
    another shape, a grid that cannot hold the modes; `TypeError` for complex data where real was
    announced, or the reverse.

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci.operators.fno import FNO
        >>> model = FNO(1, 2, modes=(12, 10), width=16, layers=2, key=jax.random.key(0))
        >>> model(jnp.ones((1, 32, 40))).shape
        (2, 32, 40)
        >>> jax.vmap(model)(jnp.ones((5, 1, 64, 64))).shape  # a batch, at another resolution
        (5, 2, 64, 64)

    Reference: Li et al., *Fourier Neural Operator for Parametric PDEs*, ICLR 2021; Kossaifi et
    al., *Multi-Grid Tensorized Fourier Neural Operator*, 2023. Differs from neuraloperator in: 1.
    complex data keep all wavenumbers; 2. more modes than a grid holds are an error; 3. any basis.
    """

    lifting: Callable[[Array], Array]
    blocks: tuple[FNOBlock, ...]
    projection: Callable[[Array], Array]
    in_channels: int = eqx.field(static=True)
    parameters: int = eqx.field(static=True)
    bases: tuple[AbstractSpectralBasis, ...] = eqx.field(static=True)
    positional_grid: bool = eqx.field(static=True)
    padding: tuple[float, ...] = eqx.field(static=True)
    complex_data: bool = eqx.field(static=True)
    policy: Policy | None = eqx.field(static=True)

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        modes: Sequence[int] | int,
        width: int = 64,
        *,
        layers: int = 4,
        parameters: int = 0,
        bases: AbstractSpectralBasis | Sequence[AbstractSpectralBasis] | None = None,
        factorization: Factorization | None = None,
        rank: float | int | Sequence[int] = 0.5,
        lifting_ratio: float = 2,
        projection_ratio: float = 2,
        mlp_expansion: float | None = 0.5,
        skip: SkipName | None = "linear",
        mlp_skip: SkipName | None = "soft-gating",
        norm: NormName | None = None,
        positional_grid: bool = True,
        padding: float | Sequence[float] | None = None,
        complex_data: bool = False,
        stabilizer: bool = False,
        preactivation: bool = False,
        dropout: float = 0.0,
        activation: Callable[[Array], Array] = gelu,
        method: Method | Sequence[Method] = "auto",
        policy: Policy | None = None,
        dtype: Any = jnp.float32,
        key: PRNGKeyArray,
    ):
        modes = (int(modes),) if isinstance(modes, int | np.integer) else tuple(modes)
        sizes = {"in_channels": in_channels, "out_channels": out_channels, "width": width}
        for name, size in (sizes | {"layers": layers}).items():
            if size < 1:
                raise ValueError(f"`FNO({name}=...)`: expected at least 1, got {size}")
        if not 0 <= dropout < 1:
            raise ValueError(f"`FNO(dropout=...)`: expected a number in [0, 1), got {dropout}")
        if parameters < 0:
            raise ValueError(f"`FNO(parameters=...)`: expected at least 0, got {parameters}")
        general: dict[str, Any] = {"policy": policy, "dtype": dtype}
        stored = dtype if policy is None else policy.dtype("params")

        def twice(make: Callable[[PRNGKeyArray], Any], key: PRNGKeyArray) -> Any:
            """What is made, or a pair for real and imaginary parts."""
            return ComplexValued(*map(make, jax.random.split(key))) if complex_data else make(key)

        def mlp(*sizes: int) -> Callable[[PRNGKeyArray], ChannelMLP]:
            return lambda key: ChannelMLP(sizes, activation=activation, key=key, **general)

        def past(name: str | None, key: PRNGKeyArray) -> Any:
            made = lambda k: make_skip(str(name), width, key=k, **general)  # noqa: E731
            return None if name is None else twice(made, key)

        lift_key, project_key, *block_keys = jax.random.split(key, 2 + layers)
        features = in_channels + parameters + (len(modes) if positional_grid else 0)
        hidden = round(lifting_ratio * width), round(projection_ratio * width)
        self.lifting = twice(mlp(features, *hidden[:1], width), lift_key)
        self.projection = twice(mlp(width, *hidden[1:], out_channels), project_key)
        inner = None if mlp_expansion is None else max(1, round(width * mlp_expansion))
        norms = 0 if norm is None else 1 if inner is None else 2
        blocks = []
        for index, block_key in enumerate(block_keys):
            a, b, c, d = jax.random.split(block_key, 4)
            conv = SpectralConv(
                width,
                width,
                modes,
                bases=bases,
                factorization=factorization,
                rank=rank,
                complex_data=complex_data,
                method=method,
                key=a,
                **general,
            )
            blocks.append(
                FNOBlock(
                    conv=conv,
                    skip=past(skip, b),
                    mlp=None if inner is None else twice(mlp(width, inner, width), c),
                    mlp_skip=None if inner is None else past(mlp_skip, d),
                    norms=tuple(
                        twice(lambda _: make_norm(str(norm), width, dtype=stored), a)
                        for _ in range(norms)
                    ),
                    activation=activation,
                    last=index == layers - 1,
                    stabilizer=stabilizer,
                    preactivation=preactivation,
                    dropout=eqx.nn.Dropout(dropout) if dropout else None,
                )
            )
        self.blocks = tuple(blocks)
        self.bases = blocks[0].conv.bases
        if padding is None or isinstance(padding, int | float):
            padding = (float(padding or 0),) * len(modes)
        self.padding = tuple(float(fraction) for fraction in padding)
        padding_of(self.padding, (1,) * len(modes))
        self.in_channels, self.parameters = in_channels, parameters
        self.positional_grid, self.complex_data, self.policy = positional_grid, complex_data, policy

    def __call__(
        self,
        x: Array,
        parameters: Float[Array, " parameters"] | None = None,
        *,
        key: PRNGKeyArray | None = None,
    ) -> Array:
        """`x` of shape `(in_channels, N1, .., Nd)` to `(out_channels, N1, .., Nd)`.

        - `parameters`: the numbers that the model was told to expect.
        - `key`: of the dropout; `None` for the deterministic prediction.
        """
        self._check(x, parameters)
        if self.policy is not None:
            output = self.policy.dtype("output")
            x = x.astype(jnp.promote_types(output, jnp.complex64) if self.complex_data else output)
        if parameters is not None:
            numbers = parameters.astype(x.dtype).reshape(-1, *[1] * (x.ndim - 1))
            numbers = jnp.broadcast_to(numbers, (self.parameters, *x.shape[1:]))
            x = jnp.concatenate([x, numbers])
        if self.positional_grid:
            x = append_coordinates(x, self.bases)
        x = self.lifting(x)
        # A symbolic size is never multiplied by a fraction of zero.
        width = padding_of(self.padding, x.shape[1:])
        x = pad(x, width)
        keys = [None] * len(self.blocks) if key is None else jax.random.split(key, len(self.blocks))
        for block, block_key in zip(self.blocks, keys, strict=True):
            x = block(x, key=block_key)
        return self.projection(crop(x, width))

    def _check(self, x: Array, parameters: Array | None) -> None:
        count = len(self.bases)
        if x.ndim != count + 1 or x.shape[0] != self.in_channels:
            axes = ", ".join(f"N{axis + 1}" for axis in range(count))
            raise ValueError(
                f"`FNO(...)(x)`: expected shape ({self.in_channels}, {axes}), got {x.shape}; a "
                "batch goes through `jax.vmap`"
            )
        if jnp.iscomplexobj(x) != self.complex_data:
            wanted = "complex" if self.complex_data else "real"
            raise TypeError(
                f"`FNO(complex_data={self.complex_data})(x)`: expected {wanted} numbers, got "
                f"{x.dtype}"
            )
        shape = None if parameters is None else jnp.shape(parameters)
        if shape != ((self.parameters,) if self.parameters else None):
            wanted = f"shape ({self.parameters},)" if self.parameters else "none"
            raise ValueError(
                f"`FNO(parameters={self.parameters})(x, parameters)`: expected {wanted}, got "
                f"{'none' if shape is None else f'shape {shape}'}"
            )
