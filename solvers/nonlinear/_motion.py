"""Rigid motions of the plane and of space, with what their Jacobians need.

Points have the parameters, and steps the order, of jaxlie: translation first. The formulas are
written here, for one motion at a time, because a dtype policy needs three things of them: float32
stays float32 where 64-bit types are on; differences of translations are taken before they are
rotated (far from the origin float32 would lose the edge); and small angles keep their digits
(jaxlie 1.5's exponential in space takes the rotation for its integral below 3e-3 rad in float32,
and its inverse right Jacobian divides rounding by the angle's fourth power).
"""

import abc
from typing import ClassVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from scipy.special import zeta

from jaxsci.precision import compensated_dot, matmul

from ._manifold import AbstractManifold, norm2


class AbstractMotion(AbstractManifold):
    """A group of motions with a logarithm: what a between factor can be made of."""

    @abc.abstractmethod
    def identity(self, dtype) -> Array:
        """The motion that moves nothing."""

    @abc.abstractmethod
    def multiply(self, x, y) -> Array:
        """`x y`: first `y`, then `x`."""

    @abc.abstractmethod
    def between(self, x, y) -> Array:
        """`x^-1 y`: where `y` is, seen from `x`."""

    @abc.abstractmethod
    def exp(self, delta) -> Array:
        """The motion of a tangent vector."""

    @abc.abstractmethod
    def log(self, x) -> Array:
        """The tangent vector of a motion, its angle at most pi."""

    @abc.abstractmethod
    def adjoint(self, x) -> Array:
        """The matrix with `x Exp(d) x^-1 = Exp(adjoint(x) d)`."""

    def rigid(self, x, near):
        # Of the motion between them: about a far origin every turn would be a shift.
        return self.adjoint(self.between(x, near))

    @abc.abstractmethod
    def bracket(self, delta) -> Array:
        """The matrix `ad` of a tangent vector, `Ad(Exp(d)) = expm(ad(d))`."""

    @abc.abstractmethod
    def angle2(self, delta) -> Array:
        """The squared angle of a tangent vector."""


def inverse_right_jacobian(motion: AbstractMotion, delta: Array) -> Array:
    """The matrix `J` with `Log(Exp(delta) Exp(d)) = delta + J d` to first order.

    ```
    J = I + ad / 2 + c2 ad^2 + c4 ad^4,     y = |angle|^2 < (2 pi)^2
    c2 = sum_n 2 (a_n - 2 y) / (a_n - y)^2,    c4 = -sum_n 2 / (a_n - y)^2,    a_n = (2 pi n)^2
    ```

    The function `x / (1 - exp(-x))` of the matrix `ad`, whose eigenvalues `0, +-i angle` are
    double: `x/2 coth(x/2)` is even, so that two coefficients match its values and slopes there.
    Both come from the partial fractions of the cotangent, which have no small denominators up to
    an angle of 2 pi.
    """
    ad = motion.bracket(delta)
    c2, c4 = _coefficients(motion.angle2(delta))
    square = matmul(ad, ad)
    return jnp.eye(motion.dim, dtype=ad.dtype) + ad / 2 + c2 * square + c4 * matmul(square, square)


_POLES = np.square(2 * np.pi * np.arange(1, 7))
# sum_(n >= 7) a_n^-k for k = 1, 2, ...: the rest is a series in y.
_TAIL = zeta(2 * np.arange(1, 9), 7) / (2 * np.pi) ** (2 * np.arange(1, 9))


def _pole_sums(y: Array) -> tuple[Array, Array]:
    """`sum_n 1 / (a_n - y)` and its derivative `sum_n 1 / (a_n - y)^2`."""
    near = 1 / (jnp.asarray(_POLES, y.dtype) - y)
    tail, slope = jnp.zeros_like(y), jnp.zeros_like(y)
    for k in range(7, -1, -1):
        slope = slope * y + tail
        tail = tail * y + float(_TAIL[k])
    return jnp.sum(near) + tail, jnp.sum(near * near) + slope


def _coefficients(y: Array) -> tuple[Array, Array]:
    first, second = _pole_sums(y)
    return 4 * first - 2 * (first + y * second), -2 * second


def _half_cotangent(y: Array) -> Array:
    """`(1 - angle/2 cot(angle/2)) / angle^2` of a squared angle."""
    return 2 * _pole_sums(y)[0]


_SINC = tuple(1 / np.prod(np.arange(1.0, 2 * k + 2)) * (-1) ** k for k in range(8))
_SMALL = 0.25


def _sinc(y: Array) -> Array:
    """`sin(angle) / angle` of a squared angle."""
    # A square root has no derivative at zero: there the series is used, and the root of one.
    root = jnp.sqrt(jnp.where(y < _SMALL, 1, y))
    return jnp.where(y < _SMALL, _series(y, _SINC), jnp.sin(root) / root)


def _sinc_rest(y: Array, sinc: Array) -> Array:
    """`(1 - sin(angle) / angle) / angle^2` of a squared angle."""
    return jnp.where(
        y < _SMALL,
        _series(y, tuple(-c for c in _SINC[1:])),
        (1 - sinc) / jnp.where(y < _SMALL, 1, y),
    )


def _series(y: Array, coefficients) -> Array:
    total = jnp.zeros_like(y)
    for c in reversed(coefficients):
        total = total * y + float(c)
    return total


class SE2(AbstractMotion):
    """Rigid motions of the plane: points `(cos, sin, x, y)`, steps `(vx, vy, omega)`.

    `retract(x, delta) = x Exp(delta)`, `local(x, y) = Log(x^-1 y)`.
    """

    ambient: ClassVar[int] = 4
    dim: ClassVar[int] = 3

    def identity(self, dtype):
        return jnp.asarray([1, 0, 0, 0], dtype)

    def multiply(self, x, y):
        turned = _turn(x[:2], jnp.stack([y[:2], y[2:]]))
        return jnp.concatenate([turned[0], x[2:] + turned[1]])

    def between(self, x, y):
        back = x[:2] * jnp.asarray([1, -1], x.dtype)
        return _turn(back, jnp.stack([y[:2], y[2:] - x[2:]])).reshape(4)

    def exp(self, delta):
        return self.identity(delta.dtype) + self._less_one(delta)

    def _less_one(self, delta):
        """`Exp(delta)` less the identity, with an error relative to `delta`."""
        rho, omega = delta[:2], delta[2]
        y = omega * omega
        half = _sinc(y / 4)
        versine, sine = omega * half * half / 2, _sinc(y)
        moved = sine * rho + versine * _perp(rho)
        return jnp.concatenate([jnp.stack([-omega * versine, omega * sine]), moved])

    def log(self, x):
        omega = jnp.arctan2(x[1], x[0])
        along = 1 - omega * omega * _half_cotangent(omega * omega)
        rho = along * x[2:] - omega / 2 * _perp(x[2:])
        return jnp.concatenate([rho, omega[None]])

    def adjoint(self, x):
        cos, sin, px, py = x
        zero, one = jnp.zeros_like(cos), jnp.ones_like(cos)
        return jnp.stack([cos, -sin, py, sin, cos, -px, zero, zero, one]).reshape(3, 3)

    def bracket(self, delta):
        vx, vy, omega = delta
        zero = jnp.zeros_like(vx)
        return jnp.stack([zero, -omega, vy, omega, zero, -vx, zero, zero, zero]).reshape(3, 3)

    def angle2(self, delta):
        return delta[2] * delta[2]

    def retract(self, x, delta):
        moved = self.multiply(x, self.exp(delta))
        return jnp.concatenate([moved[:2] / jnp.sqrt(norm2(moved[:2])), moved[2:]])

    def local(self, x, y):
        return self.log(self.between(x, y))

    def correction(self, x, low):
        return _onto_sphere(x, low, 2)

    def increment(self, x, delta):
        return _turn(x[:2], self._less_one(delta).reshape(2, 2)).reshape(4)


def _onto_sphere(x: Array, low: Array, size: int) -> Array:
    """What the first `size` numbers of `x + low` need to be a unit vector, to first order."""
    unit, rest = x[:size], low[:size]
    excess = compensated_dot(unit, unit, -jnp.ones((), x.dtype)) + 2 * jnp.sum(unit * rest)
    return jnp.concatenate([-excess / 2 * unit, jnp.zeros_like(x[size:])])


def _perp(v: Array) -> Array:
    return jnp.stack([-v[1], v[0]])


def _turn(z: Array, v: Array) -> Array:
    """Rows of `v` turned by the unit complex number `z`."""
    return z[0] * v + z[1] * jnp.stack([-v[:, 1], v[:, 0]], axis=1)


class SE3(AbstractMotion):
    """Rigid motions of space: points `(qw, qx, qy, qz, x, y, z)`, steps `(v, omega)`.

    `retract(x, delta) = x Exp(delta)`, `local(x, y) = Log(x^-1 y)`; quaternions of unit length.
    """

    ambient: ClassVar[int] = 7
    dim: ClassVar[int] = 6

    def identity(self, dtype):
        return jnp.asarray([1, 0, 0, 0, 0, 0, 0], dtype)

    def multiply(self, x, y):
        return jnp.concatenate([_hamilton(x[:4], y[:4]), x[4:] + _rotate(x[:4], y[4:])])

    def between(self, x, y):
        back = _conjugate(x[:4])
        return jnp.concatenate([_hamilton(back, y[:4]), _rotate(back, y[4:] - x[4:])])

    def exp(self, delta):
        return self.identity(delta.dtype) + self._less_one(delta)

    def _less_one(self, delta):
        """`Exp(delta)` less the identity, with an error relative to `delta`."""
        rho, phi = delta[:3], delta[3:]
        y = norm2(phi)
        quarter, half = _sinc(y / 16), _sinc(y / 4)
        versine = y / 8 * quarter * quarter
        cross = _cross(phi, rho)
        rest = _sinc_rest(y, half * (1 - versine))
        moved = rho + half * half / 2 * cross + rest * _cross(phi, cross)
        return jnp.concatenate([-versine[None], half / 2 * phi, moved])

    def log(self, x):
        # Of the two quaternions of a rotation, the one with the smaller angle.
        q = jnp.where(x[0] < 0, -x[:4], x[:4])
        w, n2 = q[0], norm2(q[1:])
        # The angle over the sine is even and smooth at zero, the norm is not: a series there.
        tiny = n2 < 1e-4
        n = jnp.sqrt(jnp.where(tiny, 1, n2))
        ratio = n2 / jnp.square(jnp.where(tiny, w, 1))
        near = _series(ratio, (1, -1 / 3, 1 / 5, -1 / 7)) / jnp.where(tiny, w, 1)
        phi = 2 * jnp.where(tiny, near, jnp.arctan2(n, w) / n) * q[1:]
        cross = _cross(phi, x[4:])
        rho = x[4:] - cross / 2 + _half_cotangent(norm2(phi)) * _cross(phi, cross)
        return jnp.concatenate([rho, phi])

    def adjoint(self, x):
        R = _matrix(x[:4])
        return _upper(R, matmul(_skew(x[4:]), R))

    def bracket(self, delta):
        return _upper(_skew(delta[3:]), _skew(delta[:3]))

    def angle2(self, delta):
        return norm2(delta[3:])

    def retract(self, x, delta):
        moved = self.multiply(x, self.exp(delta))
        return jnp.concatenate([moved[:4] / jnp.sqrt(norm2(moved[:4])), moved[4:]])

    def local(self, x, y):
        return self.log(self.between(x, y))

    def correction(self, x, low):
        return _onto_sphere(x, low, 4)

    def increment(self, x, delta):
        step = self._less_one(delta)
        return jnp.concatenate([_hamilton(x[:4], step[:4]), _rotate(x[:4], step[4:])])


def _conjugate(q: Array) -> Array:
    return q * jnp.asarray([1, -1, -1, -1], q.dtype)


def _cross(a: Array, b: Array) -> Array:
    (a0, a1, a2), (b0, b1, b2) = a, b
    return jnp.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0])


def _hamilton(p: Array, q: Array) -> Array:
    scalar = p[0] * q[0] - jnp.sum(p[1:] * q[1:])
    return jnp.concatenate([scalar[None], p[0] * q[1:] + q[0] * p[1:] + _cross(p[1:], q[1:])])


def _rotate(q: Array, v: Array) -> Array:
    twice = 2 * _cross(q[1:], v)
    return v + q[0] * twice + _cross(q[1:], twice)


def _skew(v: Array) -> Array:
    zero = jnp.zeros_like(v[0])
    return jnp.stack([zero, -v[2], v[1], v[2], zero, -v[0], -v[1], v[0], zero]).reshape(3, 3)


def _matrix(q: Array) -> Array:
    twist = _skew(q[1:])
    return jnp.eye(3, dtype=q.dtype) + 2 * (q[0] * twist + matmul(twist, twist))


def _upper(diagonal: Array, corner: Array) -> Array:
    top = jnp.concatenate([diagonal, corner], axis=1)
    return jnp.concatenate([top, jnp.concatenate([jnp.zeros_like(corner), diagonal], axis=1)])
