"""A Stefan front that a made-up surrogate puts in the wrong place, before and after an update."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from scipy.special import erf

ALPHA, C1, TIME = 1.051340, 0.736966, 0.05


@pytest.fixture(autouse=True)
def closed():
    """No test leaves a figure or a changed setting behind."""
    before = dict(plt.rcParams)
    yield
    plt.close("all")
    assert dict(plt.rcParams) == before


@pytest.fixture(scope="session")
def stefan():
    x, t = np.linspace(0, 1, 101), np.linspace(0.01, 0.1, 19)
    weights = np.full(101, 0.01)
    weights[[0, -1]] /= 2

    def exact(time):
        root = np.sqrt(time)
        return np.where(x <= ALPHA * root, 1 - C1 * erf(x / (2 * root)), 0.0)

    def surrogate(time):
        front = ALPHA * np.sqrt(time) + 0.05
        mean = (1 - 0.4 * x / front) / (1 + np.exp((x - front) / 0.03))
        return mean, (0.01 + 0.15 * np.exp(-(((x - front) / 0.08) ** 2))) ** 2

    def constrained(time):
        mean, var = surrogate(time)
        residual, spread = weights @ mean - mass(time), weights**2 @ var
        moved = mean - var * weights * residual / spread
        return moved, var - (var * weights) ** 2 / spread

    def mass(time):
        return 2 * C1 * np.sqrt(time / np.pi)

    makers = {"before": surrogate, "after": constrained}
    rng = np.random.default_rng(0)
    shocks = {
        "before": np.round(rng.normal(0.3, 0.04, 300), 2),
        "after": np.round(rng.normal(0.25, 0.02, 300), 2),
    }
    shocks["before"][::10] = np.nan
    return SimpleNamespace(
        x=x,
        t=t,
        time=TIME,
        front=ALPHA * np.sqrt(TIME),
        truth=exact(TIME),
        true_mass=mass(t),
        field=np.stack([exact(time) for time in t]),
        predictions={name: make(TIME) for name, make in makers.items()},
        masses={n: np.array([weights @ make(s)[0] for s in t]) for n, make in makers.items()},
        fields={
            name: tuple(np.stack(parts) for parts in zip(*map(make, t), strict=True))
            for name, make in makers.items()
        },
        shocks=shocks,
    )
