"""The attentive neural process."""

from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, PRNGKeyArray

from jaxsci.errors import require_finite
from jaxsci.gaussians import Gaussian

from ._anp_layers import in_chunks, keys_or_none
from ._anp_parts import Decoder, DeterministicEncoder, Latent, LatentEncoder
from ._protocol import Task


class AttentiveNeuralProcess(eqx.Module):
    """A neural process with attention: observations of a field in, independent Gaussians out.

    ```
    q(z | contexts) = N(mean, exp(log_variance))           latent encoder, one z for all targets
    r_i             = attention of target i to contexts    deterministic encoder
    (m_i, s_i)      = decoder(r_i, z, x_i)
    u_i             ~ N(m_i, (softplus(s_i) + 1e-3)^2)
    ```

    Each encoder has two self-attention layers, the deterministic one two cross-attention layers
    as well, the decoder three hidden layers of `3 width`: 989 826 parameters at `width=128` and
    two coordinates. Weights are Xavier-uniform, with gain sqrt 2 before a ReLU.

    **Arguments:**

    - `width`: of the representation and of `z`; a multiple of `heads`.
    - `heads`: attention heads.
    - `coordinates`: number of coordinates of a point, 2 for (t, x).
    - `attention_layers`: self-attention layers of each encoder, and cross-attention layers.
    - `decoder_layers`: hidden layers of the decoder.
    - `dropout`: probability of dropping an attention probability or an output of attention.
    - `min_std`: the least standard deviation that can be predicted, in units of the field.
    - `chunk`: targets evaluated at a time; bounds memory by `heads * chunk * contexts` and
        `3 * width * chunk` numbers, whatever the number of targets.
    - `inference`: `True` switches dropout off also where a key is given; see
        `equinox.nn.inference_mode`.
    - `dtype`: of the parameters, and of all computation; inputs are cast to it.
    - `key`: random key for the parameters.

    **Raises:** `ValueError` for sizes below 1, `width` not a multiple of `heads`, or a dropout
    outside [0, 1); `TypeError` for a dtype that is not real floating.

    !!! example
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from jaxsci.surrogates import AttentiveNeuralProcess, Task
        >>> model = AttentiveNeuralProcess(width=16, heads=2, key=jax.random.key(0))
        >>> task = Task(jnp.zeros((5, 2)), jnp.zeros(5), jnp.ones((7, 2)))
        >>> model(task).mean.shape
        (7,)
        >>> sampled = eqx.nn.inference_mode(model)(task, key=jax.random.key(1))

    Reference: Kim et al., *Attentive Neural Processes*, ICLR 2019. Differs from the paper in:
    1. attention keeps the unprojected query beside and as a residual of what it attends to, with
    a layer normalisation; 2. the decoder sees a projection of the target's coordinates; 3. dropout
    (these follow Hansen et al., *Learning Physical Models that Can Respect Conservation Laws*,
    ICML 2023, whose weights [`jaxsci.surrogates.load_anp_weights`][] reads).
    """

    latent_encoder: LatentEncoder
    deterministic_encoder: DeterministicEncoder
    decoder: Decoder
    inference: bool
    coordinates: int = eqx.field(static=True)
    dropout: float = eqx.field(static=True)
    min_std: float = eqx.field(static=True)
    chunk: int = eqx.field(static=True)

    def __init__(
        self,
        width: int = 128,
        heads: int = 4,
        *,
        coordinates: int = 2,
        attention_layers: int = 2,
        decoder_layers: int = 3,
        dropout: float = 0.1,
        min_std: float = 1e-3,
        chunk: int = 4096,
        inference: bool = False,
        dtype: Any = jnp.float32,
        key: PRNGKeyArray,
    ):
        sizes = {
            "width": width,
            "heads": heads,
            "coordinates": coordinates,
            "attention_layers": attention_layers,
            "decoder_layers": decoder_layers,
            "chunk": chunk,
        }
        for name, value in sizes.items():
            if value < 1:
                raise ValueError(
                    f"`AttentiveNeuralProcess({name}=...)`: expected at least 1, got {value}"
                )
        if width % heads:
            raise ValueError(
                f"`AttentiveNeuralProcess(width={width}, heads={heads})`: expected a width that "
                f"is a multiple of the heads, e.g. {heads * max(1, round(width / heads))}"
            )
        if not 0 <= dropout < 1:
            raise ValueError(
                f"`AttentiveNeuralProcess(dropout=...)`: expected 0 <= dropout < 1, got {dropout}"
            )
        if not min_std >= 0:
            raise ValueError(
                f"`AttentiveNeuralProcess(min_std=...)`: expected at least 0, got {min_std}"
            )
        if not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                "`AttentiveNeuralProcess(dtype=...)`: expected a real floating dtype, got "
                f"{np.dtype(dtype)}"
            )
        a, b, c = jax.random.split(key, 3)
        encoder = (coordinates, width, heads, attention_layers)
        self.latent_encoder = LatentEncoder(*encoder, key=a, dtype=dtype)
        self.deterministic_encoder = DeterministicEncoder(*encoder, key=b, dtype=dtype)
        self.decoder = Decoder(coordinates, width, decoder_layers, key=c, dtype=dtype)
        self.inference = inference
        self.coordinates = coordinates
        self.dropout = dropout
        self.min_std = min_std
        self.chunk = chunk

    @property
    def dtype(self) -> Any:
        """The dtype of the parameters, in which everything is computed."""
        return self.decoder.output.weight.dtype

    def __call__(
        self, inputs: Task, *, key: PRNGKeyArray | None = None, inference: bool | None = None
    ) -> Gaussian:
        """The prediction at the targets of one task, with a diagonal covariance.

        **Arguments:**

        - `inputs`: contexts `(nc, d)`, `(nc,)` and targets `(nt, d)`; `nc >= 1`.
        - `key`: `None` for the deterministic prediction: `z` at its mean given the contexts, no
            dropout. With a key, `z` is a draw.
        - `inference`: overrides the field; with a key, `False` draws dropout masks too.

        **Returns:** a [`jaxsci.gaussians.Gaussian`][] of size `nt`. It is conditional on `z`; the
        predictive distribution is a mixture over keys ([`jaxsci.surrogates.pooled_moments`][]).

        **Raises:** `ValueError` for shapes that do not fit or (outside `jit`) numbers that are not
        finite.
        """
        task = self._checked(inputs, "AttentiveNeuralProcess")
        mean, std = self._call(task, key, inference)
        return Gaussian.diagonal(mean, std * std)

    def latent(self, task: Task, *, key: PRNGKeyArray | None = None) -> Latent:
        """The distribution of `z` given the contexts; `key` switches dropout on."""
        task = self._checked(task, "latent")
        return self.encode(task.context_points, task.context_values, key=key)

    def encode(
        self,
        points: Float[Array, "n d"],
        values: Float[Array, " n"],
        *,
        key: PRNGKeyArray | None = None,
    ) -> Latent:
        """The distribution of `z` given any observations; `key` switches dropout on."""
        points, values = points.astype(self.dtype), values.astype(self.dtype)
        return self.latent_encoder(points, values, self.dropout, key=key)

    def represent(
        self, task: Task, *, key: PRNGKeyArray | None = None
    ) -> Float[Array, "target width"]:
        """The deterministic representation of each target; `key` switches dropout on.

        It does not depend on `z`, so that it can be computed once for many draws of `z`.
        """
        task = self._checked(task, "represent")
        contexts, target_key = self._contexts(task, key)
        return in_chunks(
            lambda points, k: self._represent(points, contexts, k),
            task.target_points,
            self.chunk,
            target_key,
        )

    def decode(
        self,
        points: Float[Array, "target d"],
        representation: Float[Array, "target width"],
        z: Float[Array, " width"],
    ) -> tuple[Float[Array, " target"], Float[Array, " target"]]:
        """Mean and standard deviation of each target, given its representation and `z`."""
        output = self.decoder(points.astype(self.dtype), representation, z)
        return output[:, 0], jax.nn.softplus(output[:, 1]) + self.min_std

    def predict(
        self, task: Task, z: Float[Array, " width"], *, key: PRNGKeyArray | None = None
    ) -> tuple[Float[Array, " target"], Float[Array, " target"]]:
        """Mean and standard deviation of each target given `z`; `key` switches dropout on."""
        task = self._checked(task, "predict")
        contexts, target_key = self._contexts(task, key)
        return in_chunks(
            lambda points, k: self.decode(points, self._represent(points, contexts, k), z),
            task.target_points,
            self.chunk,
            target_key,
        )

    def _call(self, task: Task, key: PRNGKeyArray | None, inference: bool | None) -> Any:
        if key is None:
            return self.predict(task, self.latent(task).mean)
        z_key, latent_key, mask_key = jax.random.split(key, 3)
        if self.inference if inference is None else inference:
            latent_key, mask_key = None, None
        z = self.latent(task, key=latent_key).sample(z_key)
        return self.predict(task, z, key=mask_key)

    def _contexts(self, task: Task, key: PRNGKeyArray | None) -> Any:
        context_key, target_key = keys_or_none(key, 2)
        contexts = self.deterministic_encoder.contexts(
            task.context_points, task.context_values, self.dropout, key=context_key
        )
        return contexts, target_key

    def _represent(self, points: Array, contexts: Any, key: PRNGKeyArray | None) -> Array:
        return self.deterministic_encoder.targets(points, contexts, self.dropout, key=key)

    def _checked(self, task: Task, where: str) -> Task:
        if not isinstance(task, Task):
            raise TypeError(
                f"`{where}(inputs)`: expected a `Task`, got {type(task).__name__}; write "
                "`Task(context_points, context_values, target_points)`"
            )
        shape = task.context_points.shape
        if len(shape) != 2 or shape[1] != self.coordinates or shape[0] < 1:
            raise ValueError(
                f"`{where}(inputs)`: expected context_points of shape (nc, {self.coordinates}) "
                f"with nc >= 1, got {shape}; use `jax.vmap` for a batch of tasks"
            )
        for name in ("context_points", "context_values", "target_points"):
            require_finite(where, name, getattr(task, name))
        return jax.tree.map(lambda a: jnp.asarray(a).astype(self.dtype), task)
