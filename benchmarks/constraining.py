"""What imposing laws and boundary conditions together costs: `python benchmarks/constraining.py`.

Against conditioning on the law alone, of which it is a part, and against the dense formula for both
(as a user without this library would write it), on independent points, float32. The mean and the
variance of each point, compiled.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from timing import Measurement, interleaved, report

from jaxsci.conservation import condition, integral
from jaxsci.constraining import impose
from jaxsci.gaussians import Gaussian
from jaxsci.grids import Grid
from jaxsci.operators.boundary import BoundaryConditions, Dirichlet, Neumann


def prior(size: int) -> tuple[jax.Array, jax.Array]:
    rng = np.random.default_rng(0)
    mean, variance = rng.normal(size=size), rng.uniform(0.2, 2.0, size)
    return jnp.asarray(mean, jnp.float32), jnp.asarray(variance, jnp.float32)


def moments(update: Callable[[Gaussian], Gaussian]) -> Callable[[jax.Array, jax.Array], Any]:
    """The mean and the variances after an update, compiled."""

    def found(mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        updated = update(Gaussian.diagonal(mean, variance))
        return updated.mean, updated.marginal_var

    return jax.jit(found)


def on_grid(name: str, grid: Grid, ways: dict[str, tuple[Any, str]]) -> list[Measurement]:
    """Ratios to the law alone."""
    space = [axis.name for axis in grid.spatial.axes]
    law = integral(grid, jnp.ones(grid.axis("t").size), over=space)
    arguments = prior(grid.size)
    calls = {"law": moments(lambda gaussian: condition(gaussian, law))}
    for label, (faces, update) in ways.items():
        conditions = BoundaryConditions.on(grid, faces)

        def both(
            gaussian: Gaussian, conditions: Any = conditions, update: Any = update
        ) -> Gaussian:
            return impose(
                gaussian,
                conservation=law,
                boundary=conditions,
                shape=grid.shape,
                boundary_update=update,
            )

        calls[label] = moments(both)
    seconds = interleaved({k: lambda call=call: call(*arguments) for k, call in calls.items()}, 11)
    return [
        Measurement(
            f"{name}, {label}: time / conditioning on the law", seconds[label] / seconds["law"],
            "x", "lower",
        )
        for label in ways
    ]  # fmt: skip


def against_dense(grid: Grid) -> Measurement:
    """The dense formula for the law and the values at the ends."""
    law = integral(grid, jnp.ones(grid.axis("t").size), over="x")
    conditions = BoundaryConditions.on(grid, {"x": Dirichlet(0.0)})
    index = np.arange(grid.size).reshape(grid.shape)
    ends = np.concatenate([index[:, 0], index[:, -1]])
    A = jnp.concatenate([jnp.eye(grid.size)[ends], law.G.as_matrix()])
    y = jnp.concatenate([jnp.zeros(len(ends)), law.b])

    @jax.jit
    def dense(mean: jax.Array, variance: jax.Array) -> tuple[jax.Array, jax.Array]:
        cov = jnp.diag(variance)
        gain = jnp.linalg.solve(A @ cov @ A.T, A @ cov).T
        return mean - gain @ (A @ mean - y), jnp.diagonal(cov - gain @ A @ cov)

    ours = moments(
        lambda gaussian: impose(gaussian, conservation=law, boundary=conditions, shape=grid.shape)
    )
    arguments = prior(grid.size)
    calls = {"dense": lambda: dense(*arguments), "ours": lambda: ours(*arguments)}
    seconds = interleaved(calls, 7)
    return Measurement(
        f"values at the ends, {grid.shape[0]} x {grid.shape[1]}: the dense formula's time / ours",
        seconds["dense"] / seconds["ours"], "x", "higher",
    )  # fmt: skip


def main() -> None:
    line = Grid.uniform(t=(0.0, 1.0, 101), x=(0.0, 1.0, 201))
    square = Grid.uniform(t=(0.0, 1.0, 11), x=(0.0, 1.0, 64), y=(0.0, 1.0, 64))
    one, all_faces = {"x": Neumann(0.0)}, {"x": Neumann(0.0), "y": Neumann(0.0)}
    rows = [
        *on_grid(
            "101 x 201",
            line,
            {
                "values at the ends": ({"x": Dirichlet(0.0)}, "condition"),
                "derivatives enforced": (one, "enforce"),
                "derivatives conditioned": (one, "condition"),
            },
        ),
        *on_grid(
            "11 x 64 x 64",
            square,
            {
                "values on four faces": ({"x": Dirichlet(0.0), "y": Dirichlet(0.0)}, "condition"),
                "derivatives on four faces, enforced": (all_faces, "enforce"),
                "derivatives on two faces, conditioned": (one, "condition"),
            },
        ),
        against_dense(Grid.uniform(t=(0.0, 1.0, 21), x=(0.0, 1.0, 101))),
    ]
    print(
        report(
            "constraining",
            "Laws and boundary conditions together",
            "python benchmarks/constraining.py",
            rows,
            "Mean and variances of independent points, a mass at each time; medians of runs in "
            "turn, compilation apart.",
        )
    )


if __name__ == "__main__":
    main()
