"""A deep ensemble: several models, one Gaussian."""

from collections.abc import Callable, Sequence
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import jax.random as jr
from jaxtyping import Array, PRNGKeyArray

from jaxsci.gaussians import Gaussian

from ._model_call import call_model, checked_floor, moments, pooled


class DeepEnsemble(eqx.Module):
    """The mean and the spread of several models as a Gaussian with low-rank covariance.

    With members `m_i` (and their own marginal variances `v_i` where they return Gaussians),

    ```
    mean = avg(m_i)
    cov  = 1/(M - 1) sum_i (m_i - mean)(m_i - mean)' + diag(max(avg(v_i), variance_floor))
    ```

    **Zero variance.** Members that return arrays have no variance of their own: with the default
    floor of 0 the covariance has rank `M - 1`. Its marginal variances, samples and conditioning
    on fewer than `M` quantities that the members disagree about are sound; where all members
    agree, nothing can move; and `log_prob` is NaN, for there is no density. A positive
    `variance_floor` (the variance of what the members cannot express) removes all three limits (C).

    **Arguments:**

    - `members`: a sequence of callables, or one model whose arrays all have a leading axis of `M`
        members, as `eqx.filter_vmap(make)(keys)` gives. Each is called with `inputs` (and
        `key=...`, if it takes one and one is given) and returns an array, which is flattened, or a
        [`jaxsci.gaussians.Gaussian`][], of which the marginal variance is used.
    - `variance_floor`: least diagonal variance, in the unit of the field squared.

    **Raises:** `ValueError` for fewer than two members or arrays without a common leading axis,
    `TypeError` for members that cannot be called.

    !!! example
        >>> import equinox as eqx, jax, jax.numpy as jnp
        >>> from jaxsci.surrogates import DeepEnsemble
        >>> make = lambda key: eqx.nn.MLP(2, 5, 8, 1, key=key)
        >>> members = eqx.filter_vmap(make)(jax.random.split(jax.random.key(0), 4))
        >>> prediction = DeepEnsemble(members, variance_floor=1e-6)(jnp.ones(2))
        >>> prediction.size, prediction.cov.factor.shape
        (5, (5, 4))

    Reference: Lakshminarayanan, Pritzel and Blundell, *Simple and Scalable Predictive Uncertainty
    Estimation using Deep Ensembles*, NeurIPS 2017. Differs from the paper in: 1. the covariance
    between points is kept, not only their variance; 2. the spread is unbiased, `M - 1`.
    """

    members: Any
    variance_floor: float = eqx.field(static=True)
    size: int = eqx.field(static=True)
    stacked: bool = eqx.field(static=True)

    def __init__(
        self,
        members: Sequence[Callable[..., Any]] | Callable[..., Any],
        *,
        variance_floor: float = 0.0,
    ):
        if isinstance(members, list | tuple):
            self.stacked, self.members, self.size = False, tuple(members), len(members)
        else:
            self.stacked, self.members, self.size = True, members, _stack_size(members)
        for member in (members,) if self.stacked else self.members:
            if not callable(member):
                raise TypeError(
                    "`DeepEnsemble(members)`: expected models that can be called, got "
                    f"{type(member).__name__}"
                )
        if self.size < 2:
            raise ValueError(
                f"`DeepEnsemble(members)`: expected at least two members, got {self.size}; one "
                "has no spread"
            )
        self.variance_floor = checked_floor("DeepEnsemble", variance_floor)

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The Gaussian over the members' flattened outputs.

        **Arguments:**

        - `inputs`: whatever the members take, a single sample.
        - `key`: split among the members that take one.

        **Returns:** a [`jaxsci.gaussians.Gaussian`][] with a factor of shape `(n, M)`.

        **Raises:** `ValueError` if the members differ in size or in kind, `TypeError` if one
        returns neither floats nor a Gaussian.
        """

        def one(member: Callable[..., Any], member_key: PRNGKeyArray | None) -> Any:
            return moments("DeepEnsemble(members)", call_model(member, inputs, member_key))

        keys = None if key is None else jr.split(key, self.size)
        if self.stacked:
            axes = (eqx.if_array(0), None if keys is None else 0)
            means, variances = eqx.filter_vmap(one, in_axes=axes)(self.members, keys)
        else:
            each = [one(m, None if keys is None else keys[i]) for i, m in enumerate(self.members)]
            means, variances = _stack(each)
        return pooled(means, variances, self.variance_floor)


def _stack(each: list[tuple[Array, Array | None]]) -> tuple[Array, Array | None]:
    sizes = {(mean.shape, variance is None) for mean, variance in each}
    if len(sizes) > 1:
        raise ValueError(
            "`DeepEnsemble(members)`: expected members that return the same number of points, all "
            f"arrays or all Gaussians, got sizes {[mean.size for mean, _ in each]} with "
            f"{sum(v is not None for _, v in each)} Gaussians among {len(each)}"
        )
    variances = [v for _, v in each if v is not None]
    return jnp.stack([m for m, _ in each]), jnp.stack(variances) if variances else None


def _stack_size(members: Any) -> int:
    shapes = [leaf.shape for leaf in jax.tree.leaves(members) if eqx.is_array(leaf)]
    sizes = {shape[0] if shape else None for shape in shapes}
    size = sizes.pop() if len(sizes) == 1 else None
    if size is None:
        raise ValueError(
            "`DeepEnsemble(members)`: expected a sequence of models, or one model whose arrays all "
            f"have a leading axis of members, got {type(members).__name__} with arrays of shapes "
            f"{shapes[:4]}; stack members with `eqx.filter_vmap(make)(keys)`"
        )
    return size
