"""What conditions leave free, against the map that sets the faces."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxsci.operators.boundary import (
    BoundaryConditions,
    Dirichlet,
    Neumann,
    Periodic,
    Robin,
    eliminate,
    enforce,
)

CASES = {
    "derivatives meet": (
        BoundaryConditions(
            ("x", "y"), {"x": Neumann(0.0), "y": Neumann(0.0, order=2)}, length={"x": 1, "y": 2}
        ),
        (2, 11, 9),
    ),
    "circle": (
        BoundaryConditions(("x", "y"), {"x": Neumann(0.0), "y": Periodic(1.0)}, length={"x": 1.0}),
        (1, 11, 6),
    ),
    "three axes": (
        BoundaryConditions(
            ("x", "y", "z"),
            {
                "x": Neumann(0.0),
                "y": Robin(0.0, a=1.0, b=-0.3, order=3),
                ("z", "low"): Dirichlet(0.0),
                ("z", "high"): Neumann(0.0, order=1),
            },
            length={"x": 1.0, "y": 2.0, "z": 1.0},
            corners="y",
        ),
        (1, 10, 8, 6),
    ),
}


@pytest.mark.slow_but(1)
@pytest.mark.parametrize("name", CASES)
def test_as_enforced(name):
    conditions, shape = CASES[name]
    with jax.enable_x64(True):
        fixed, at, indices, weights, periodic = eliminate(conditions, shape, jnp.float64)
        u = np.random.default_rng(0).normal(size=shape)
        wanted = np.asarray(enforce(jnp.asarray(u), conditions)).ravel()
        made = np.where(fixed, 0, u.ravel())
        made[at] = np.sum(np.asarray(weights) * u.ravel()[indices], axis=1)
        np.testing.assert_allclose(made, wanted, atol=1e-13)
        # By free points only.
        taken = fixed.copy()
        taken[at] = True
        assert not taken[indices[np.asarray(weights) != 0]].any()
        assert periodic.any() == (name == "circle")


def test_shape_that_does_not_fit():
    with pytest.raises(ValueError, match="expected one sample"):
        eliminate(CASES["circle"][0], (11, 6), jnp.float32)
