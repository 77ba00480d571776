"""Any model as a surrogate whose predictions obey laws and boundary conditions."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import equinox as eqx
import jax
from jaxtyping import Array, ArrayLike, PRNGKeyArray

from jaxsci.conservation import AbstractInequality
from jaxsci.errors import is_concrete, lookup
from jaxsci.gaussians import Gaussian
from jaxsci.interop import from_flax_nnx, from_function, takes_key
from jaxsci.operators.boundary import BoundaryConditions, Values
from jaxsci.surrogates import DeepEnsemble

from ._balance import DiffusiveFlux
from ._certificate import JointCertificate
from ._impose import (
    BOUNDARY_UPDATES,
    BoundaryUpdate,
    check_kinds,
    impose_checked,
    raise_unless_successful,
    sizes_of,
)
from ._laws import Laws

Shape = tuple[int, ...] | Callable[[Any], Sequence[int]]


class ConstrainedSurrogate(eqx.Module):
    """A surrogate whose predictions obey; made by [`jaxsci.constraining.constrain`][].

    - `surrogate`: the model behind the surrogate protocol; its arrays are what is trained.
    - the rest: as in [`jaxsci.constraining.constrain`][].
    """

    surrogate: Callable[..., Gaussian]
    conservation: Laws | Callable[[Any], Laws]
    boundary: BoundaryConditions | None
    values: Values | Callable[[Any], Values] | None
    inequality: AbstractInequality | None
    balance: DiffusiveFlux | Callable[[Any], DiffusiveFlux] | None
    shape: Shape | None = eqx.field(static=True)
    boundary_update: BoundaryUpdate = eqx.field(static=True)

    # What a checkpoint compares by its numbers, too: with another total it is another model.
    identifying: ClassVar[tuple[str, ...]] = ("conservation", "values", "inequality", "balance")

    def __call__(self, inputs: Any, *, key: PRNGKeyArray | None = None) -> Gaussian:
        """The constrained prediction for one input.

        **Raises:** as [`jaxsci.constraining.impose`][]; under `jit`, where nothing can be raised,
        the mean of an impossible one is NaN.
        """
        gaussian, certificate, about = self._impose(inputs, key)
        if is_concrete(gaussian, certificate):
            raise_unless_successful("constrain(model)(inputs)", certificate, *about)
        return gaussian

    def with_certificate(
        self, inputs: Any, *, key: PRNGKeyArray | None = None
    ) -> tuple[Gaussian, JointCertificate]:
        """The constrained prediction with evidence, also inside `jit`; never raises on values."""
        return self._impose(inputs, key)[:2]

    def _impose(self, inputs: Any, key: PRNGKeyArray | None) -> tuple[Any, ...]:
        use_key = key is not None and takes_key(self.surrogate)
        prediction = self.surrogate(inputs, key=key) if use_key else self.surrogate(inputs)
        laws = self.conservation
        values, shape, balance = self.values, self.shape, self.balance
        return impose_checked(
            "constrain",
            prediction,
            laws(inputs) if callable(laws) else _held(laws),
            self.boundary,
            values(inputs) if callable(values) else _held(values),
            shape(inputs) if callable(shape) else shape,
            self.boundary_update,
            _held(self.inequality),
            balance(inputs) if callable(balance) else _held(balance),
        )


def constrain(
    model: Callable[..., Any] | Sequence[Callable[..., Any]],
    *,
    conservation: Laws | Callable[[Any], Laws] = None,
    boundary: BoundaryConditions | None = None,
    values: Values | Callable[[Any], Values] | None = None,
    shape: Sequence[int] | Callable[[Any], Sequence[int]] | None = None,
    boundary_update: BoundaryUpdate = "condition",
    inequality: AbstractInequality | None = None,
    balance: DiffusiveFlux | Callable[[Any], DiffusiveFlux] | None = None,
    variance: ArrayLike | Callable[[Any], Array] | None = None,
    readout: Callable[[Any], Any] | None = None,
) -> ConstrainedSurrogate:
    """Any model as a surrogate that obeys conservation laws and boundary conditions exactly.

    Every prediction is updated by [`jaxsci.constraining.impose`][]: the mean obeys all of them to
    rounding, and the covariance is what they leave of the model's. It is a pytree with the model's
    parameters: it can be trained as it is, and its gradients go through the update. Laws and values
    that are given as numbers are held: no gradient goes to them (functions of the inputs may have
    parameters; a decay of weights is to be kept to `surrogate`). The loss of a constrained
    prediction says nothing of what the constraint removes: add that of `surrogate` alone (docs,
    "Laws and boundaries at once").

    **Arguments:**

    - `model`: a surrogate; an Equinox module, a Flax nnx module or a function that returns a
        [`jaxsci.gaussians.Gaussian`][], a pair (mean, standard deviation) or an array (with
        `variance`); or a list of them, an ensemble. A linen module goes through
        [`jaxsci.interop.from_flax_linen`][] first. A field is flattened in C order.
    - `conservation`, `values`, `shape`, `balance`: as in [`jaxsci.constraining.impose`][], or
        functions of the inputs: `values=lambda inputs: {("x", "low"): inputs.wall}`. With `shape`
        and the law's grid made from the inputs, one model serves every grid, and
        [`jaxsci.export.export_stablehlo`][] leaves its size open.
    - `boundary`, `boundary_update`, `inequality`: as in [`jaxsci.constraining.impose`][].
    - `variance`, `readout`: as in [`jaxsci.interop.from_function`][]; of an ensemble, `variance`
        is the `variance_floor` of [`jaxsci.surrogates.DeepEnsemble`][].

    **Returns:** a [`jaxsci.constraining.ConstrainedSurrogate`][]: called, it gives the Gaussian,
    and its method `with_certificate` the evidence, too.

    **Raises:** `TypeError` for a model of another kind, `ValueError` where neither laws nor
    conditions are given, or conditions without `shape`; at a call as
    [`jaxsci.constraining.impose`][].

    !!! example
        >>> import jax, jax.numpy as jnp
        >>> from jaxsci import constrain
        >>> from jaxsci.conservation import integral
        >>> from jaxsci.grids import Grid
        >>> from jaxsci.operators.boundary import BoundaryConditions, Neumann
        >>> grid = Grid.uniform(x=(0.0, 1.0, 33))
        >>> x = grid.points()[:, 0]
        >>> model = constrain(
        ...     lambda a: a * (1 + jnp.cos(jnp.pi * x) + 0.05 * jnp.sin(9 * x)),
        ...     variance=1e-2,
        ...     conservation=lambda a: integral(grid, a),
        ...     boundary=BoundaryConditions.on(grid, {"x": Neumann(0.0)}),
        ...     shape=grid.shape)
        >>> prediction, certificate = model.with_certificate(jnp.array(2.0))
        >>> bool(certificate.holds), prediction.size
        (True, 33)
    """
    where = "constrain"
    lookup("choice for the update at the boundary", boundary_update, BOUNDARY_UPDATES)
    check_kinds(
        where,
        boundary,
        None if callable(values) else values,
        inequality,
        None if callable(balance) else balance,
    )
    if conservation is None and boundary is None and inequality is None:
        raise ValueError(
            f"`{where}(model)`: expected a conservation law, boundary conditions or an inequality, "
            "got none"
        )
    if boundary is not None and shape is None:
        raise ValueError(
            f"`{where}(shape=...)`: expected the shape of the field, (C, "
            f"{', '.join(boundary.axes)}), with boundary conditions; got none"
        )
    return ConstrainedSurrogate(
        _surrogate(where, model, variance, readout),
        conservation,
        None if boundary is None else boundary.frozen(),
        values,
        inequality,
        balance,
        shape if shape is None or callable(shape) else sizes_of(where, shape),
        boundary_update,
    )


def _held(tree: Any) -> Any:
    """What is imposed, without gradient: descent could make a law more convenient."""
    return jax.tree.map(
        lambda leaf: jax.lax.stop_gradient(leaf) if eqx.is_inexact_array(leaf) else leaf, tree
    )


def _surrogate(where: str, model: Any, variance: Any, readout: Any) -> Callable[..., Gaussian]:
    if isinstance(model, list | tuple):
        if readout is not None or callable(variance):
            raise TypeError(
                f"`{where}(...)`: an ensemble takes a number as `variance` and no `readout`; wrap "
                "its members with `jaxsci.interop.from_function`"
            )
        return DeepEnsemble(model, variance_floor=0.0 if variance is None else variance)
    origins = [base.__module__ for base in type(model).__mro__]
    if any(origin.startswith("flax.linen") for origin in origins):
        raise TypeError(
            f"`{where}(model)`: a linen module needs its variables; pass "
            "`jaxsci.interop.from_flax_linen(module, variables)`"
        )
    if any(origin.startswith("flax.nnx") for origin in origins):
        return from_flax_nnx(model, variance=variance, readout=readout)
    if isinstance(model, type):
        raise TypeError(
            f"`{where}(model)`: expected a model, got its class, {model.__name__}; make one of it, "
            f"`{model.__name__}(...)`"
        )
    if not callable(model):
        raise TypeError(
            f"`{where}(model)`: expected a model that can be called, or a list of them, got "
            f"{type(model).__name__}"
        )
    return from_function(model, variance=variance, readout=readout)
