"""The Navier-Stokes equations in a square box: vorticity, stream function, and walls that move."""

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from jaxsci.precision import matmul


class VorticityBox(eqx.Module):
    """Second-order differences on `n + 1` by `n + 1` points of the unit square.

    ```
    w_t + u w_x + v w_y = nu (w_xx + w_yy),    psi_xx + psi_yy = -w,    u = psi_y, v = -psi_x
    psi = 0 on the walls, w = -2 psi_1 / h^2 there (Thom; psi_1 one point inside),
    w = -2 psi_1 / h^2 - 2 U / h on the lid, y = 1
    ```

    In time, the classical Runge-Kutta method, with the walls' vorticity taken anew in each stage:
    of second order in space, and stable up to the limits of diffusion and convection (E and Liu,
    *Vorticity boundary condition and related issues for finite difference schemes*, J. Comput.
    Phys. 124, 1996). The Poisson equation is solved by sine transforms as matrix products.

    Arrays hold the inner points, shape `(n - 1, n - 1)`, `x` first.
    """

    n: int = eqx.field(static=True)

    def stream(self, vorticity: Float[Array, "x y"]) -> Float[Array, "x y"]:
        """The stream function of a vorticity: five-point Laplacian, 0 on the walls."""
        k = np.arange(1, self.n)
        sines = np.sqrt(2 / self.n) * np.sin(np.pi * (np.outer(k, k) % (2 * self.n)) / self.n)
        eigenvalues = (2 * self.n * np.sin(np.pi * k / (2 * self.n))) ** 2
        sines = jnp.asarray(sines, vorticity.dtype)
        total = jnp.asarray(np.add.outer(eigenvalues, eigenvalues), vorticity.dtype)
        modes = matmul(matmul(sines, vorticity), sines) / total
        return matmul(matmul(sines, modes), sines)

    def vorticity(self, stream: Float[Array, "x y"]) -> Float[Array, "x y"]:
        """The vorticity of a stream function, `stream` undone."""
        p = jnp.pad(stream, 1)
        around = p[2:, 1:-1] + p[:-2, 1:-1] + p[1:-1, 2:] + p[1:-1, :-2]
        return (4 * stream - around) * self.n**2

    def velocity(self, stream: Float[Array, "x y"]) -> tuple[Float[Array, "x y"], ...]:
        """`u` and `v`."""
        p = jnp.pad(stream, 1)
        half = self.n / 2
        return (p[1:-1, 2:] - p[1:-1, :-2]) * half, (p[:-2, 1:-1] - p[2:, 1:-1]) * half

    def rate(
        self, vorticity: Float[Array, "x y"], nu: Float[Array, ""], lid: Float[Array, " x"]
    ) -> Float[Array, "x y"]:
        """`w_t`, for a lid that moves with the speed `lid`."""
        n = self.n
        stream = self.stream(vorticity)
        u, v = self.velocity(stream)
        # The corners belong to no stencil.
        w = jnp.pad(vorticity, 1)
        w = w.at[0, 1:-1].set(-2 * n**2 * stream[0]).at[-1, 1:-1].set(-2 * n**2 * stream[-1])
        w = w.at[1:-1, 0].set(-2 * n**2 * stream[:, 0])
        w = w.at[1:-1, -1].set(-2 * n**2 * stream[:, -1] - 2 * n * lid)
        right, left, above, below = w[2:, 1:-1], w[:-2, 1:-1], w[1:-1, 2:], w[1:-1, :-2]
        spread = (right + left + above + below - 4 * vorticity) * (nu * n**2)
        return spread - (u * (right - left) + v * (above - below)) * (n / 2)

    def step(
        self,
        vorticity: Float[Array, "x y"],
        nu: Float[Array, ""],
        dt: float,
        lids: tuple[Array, Array, Array],
    ) -> Float[Array, "x y"]:
        """The vorticity a time `dt` later; `lids`: the lid's speed at the start, middle and end."""
        start, middle, end = lids
        a = self.rate(vorticity, nu, start)
        b = self.rate(vorticity + dt / 2 * a, nu, middle)
        c = self.rate(vorticity + dt / 2 * b, nu, middle)
        d = self.rate(vorticity + dt * c, nu, end)
        return vorticity + dt / 6 * (a + 2 * (b + c) + d)


def stable_step(n: int, viscosity: float, speed: float) -> float:
    """A time step that is stable for speeds up to `speed`: 0.7 of the limit of diffusion
    (`2.78 / 8 h^2 / nu`), and at most one spacing at the highest speed."""
    return min(0.25 / (viscosity * n**2), 1 / (speed * n))


def evolve(
    box: VorticityBox,
    vorticity: Float[Array, "x y"],
    nu: Float[Array, ""],
    dt: float,
    lids: Float[Array, "outputs substeps stages x"],
) -> Float[Array, "outputs x y"]:
    """The stream functions after each of `outputs` times `substeps` steps."""

    def step(w, stages):
        return box.step(w, nu, dt, (stages[0], stages[1], stages[2])), None

    def interval(w, stages):
        w, _ = jax.lax.scan(step, w, stages)
        return w, box.stream(w)

    return jax.lax.scan(interval, vorticity, lids)[1]
