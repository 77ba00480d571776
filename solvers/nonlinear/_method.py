"""Gauss-Newton, Levenberg-Marquardt and dog leg: what becomes of a step."""

import abc
from typing import ClassVar, Literal, NamedTuple

import equinox as eqx
import jax.numpy as jnp
from jaxtyping import Array

Stopping = Literal["gradient", "energy", "preconditioned"]


class MethodState(NamedTuple):
    """`size`: the damping, or the radius of a trust region; `growth`: how fast it changes next."""

    size: Array
    growth: Array


class AbstractMethod(eqx.Module):
    """A way to turn solutions of linear systems into steps that are worth accepting.

    Everything is in the block-scaled system, in which the diagonal blocks of `J'J` are 1: damping
    there is Marquardt's.

    - `start()`: the state before the first step.
    - `judge(state, ratio, finite, length)`: after a step of a `length` whose gain was `ratio` times
        the predicted one: whether to accept it, the next state, and whether to give up.
    - `damping(state)`: of the linear system.
    - `stopping`: how the linear solver should measure its error, `"gradient"` or `"energy"`.
    - `reuses`: whether after a rejection the same system would be solved again.
    - `recovers`: whether after a rejection the next system is further from singular.
    """

    stopping: eqx.AbstractClassVar[Stopping]
    reuses: eqx.AbstractClassVar[bool]
    recovers: eqx.AbstractClassVar[bool]

    @abc.abstractmethod
    def start(self, dtype) -> MethodState:
        """The state before the first step."""

    @abc.abstractmethod
    def judge(
        self, state: MethodState, ratio: Array, finite: Array, length: Array
    ) -> tuple[Array, MethodState, Array]:
        """Whether to accept, the next state, whether to give up."""

    @abc.abstractmethod
    def damping(self, state: MethodState) -> Array:
        """What is added to the scaled normal equations."""


class GaussNewton(AbstractMethod):
    """Full steps: the fastest where the start is good, and no safeguard where it is not.

    **Arguments:** `ridge`: a constant damping of the block-scaled system, for problems without a
    unique solution.
    """

    ridge: float = 0.0

    stopping: ClassVar[Stopping] = "energy"
    reuses: ClassVar[bool] = False
    recovers: ClassVar[bool] = False

    def start(self, dtype):
        return MethodState(jnp.asarray(self.ridge, dtype), jnp.ones((), dtype))

    def judge(self, state, ratio, finite, length):
        return finite, state, ~finite

    def damping(self, state):
        return state.size


class LevenbergMarquardt(AbstractMethod):
    """Damped steps; the damping falls while the model predicts well and grows when it does not.

    ```
    (J~'J~ + damping I) y = -J~'r,    accepted if the gain is at least 1e-4 of the predicted one
    damping *= max(1/3, 1 - (2 ratio - 1)^3),  or  *= 2, 4, 8, ... at each rejection in a row
    ```

    The block of a variable is scaled as a whole, so that damping shortens its step and does not
    turn it. Parameters that are not of one kind (a height, a width) are better variables of one
    number each than one variable of several.

    **Arguments:**

    - `initial`: the first damping of the block-scaled system, in which 1 is the size of `J'J`.
    - `least`, `most`: its range; at `most` the solver gives up.

    Reference: Marquardt 1963; the change of the damping is that of Nielsen, *Damping parameter in
    Marquardt's method*, 1999.
    """

    initial: float = 1e-4
    least: float = 1e-12
    most: float = 1e12

    stopping: ClassVar[Stopping] = "energy"
    reuses: ClassVar[bool] = False
    recovers: ClassVar[bool] = True

    def start(self, dtype):
        return MethodState(jnp.asarray(self.initial, dtype), jnp.full((), 2, dtype))

    def judge(self, state, ratio, finite, length):
        accepted = finite & (ratio > 1e-4)
        shrink = jnp.maximum(1 / 3, 1 - (2 * jnp.minimum(ratio, 1) - 1) ** 3)
        size = state.size * jnp.where(accepted, shrink, state.growth)
        growth = jnp.where(accepted, 2, 2 * state.growth)
        given_up = ~accepted & (size > self.most)
        size = jnp.clip(size, self.least, self.most)
        return accepted, MethodState(size, growth.astype(size.dtype)), given_up

    def damping(self, state):
        return state.size


class DogLeg(AbstractMethod):
    """Powell's step: Gauss-Newton's within a trust region, bent towards the gradient outside it.

    A rejected step costs no linear solve: only the region shrinks.

    **Arguments:** `radius`: the first radius, of the block-scaled step; `least`: at which the
    solver gives up; `most`: the largest.
    """

    radius: float = 1e2
    least: float = 1e-12
    most: float = 1e10

    stopping: ClassVar[Stopping] = "energy"
    reuses: ClassVar[bool] = True
    recovers: ClassVar[bool] = False

    def start(self, dtype):
        return MethodState(jnp.asarray(self.radius, dtype), jnp.ones((), dtype))

    def judge(self, state, ratio, finite, length):
        accepted = finite & (ratio > 1e-4)
        short = jnp.where(finite & (ratio > 0.25), state.size, jnp.minimum(state.size, length) / 4)
        size = jnp.where(accepted & (ratio > 0.75), jnp.maximum(short, 3 * length), short)
        given_up = ~accepted & (size < self.least)
        return accepted, MethodState(jnp.clip(size, self.least, self.most), state.growth), given_up

    def damping(self, state):
        return jnp.zeros_like(state.size)


def bend(newton: Array, gradient: Array, curvature: Array, radius: Array) -> Array:
    """The point of the dog leg path on or in the trust region.

    From 0 along `-gradient` to its minimiser `-(g'g / curvature) g`, `curvature = |J g|^2`, then to
    the Gauss-Newton step.
    """
    g2 = jnp.vdot(gradient, gradient)
    cauchy = -(g2 / jnp.where(curvature > 0, curvature, 1)) * gradient
    length, reach = jnp.sqrt(jnp.vdot(newton, newton)), jnp.sqrt(jnp.vdot(cauchy, cauchy))
    leg = newton - cauchy
    # |cauchy + t leg| = radius: the root between 0 and 1, in the form without cancellation.
    a, b, c = jnp.vdot(leg, leg), jnp.vdot(cauchy, leg), radius * radius - reach * reach
    c = jnp.maximum(c, 0)
    t = c / jnp.maximum(b + jnp.sqrt(b * b + a * c), jnp.finfo(a.dtype).tiny)
    onto = jnp.where(reach >= radius, radius / jnp.where(reach > 0, reach, 1), 1)
    bent = jnp.where(reach >= radius, onto * cauchy, cauchy + jnp.minimum(t, 1) * leg)
    return jnp.where(length <= radius, newton, bent)
