"""Least squares outside SLAM, against optimistix: `python benchmarks/least_squares.py`.

1. The conductivity of an aquifer from heads in wells: log-conductivity and head of each cell are
   unknown at once, so that every residual depends on a few unknowns only. `SparseResidual` finds
   the Jacobian by colouring; optimistix has it dense, or as products in conjugate gradients.
2. Two peaks of bounded position, width and height in each of many spectra, the bounds by a sigmoid.

Both libraries minimise the same residual functions from the same start, by Levenberg-Marquardt.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import lineax as lx
import numpy as np
import optimistix as optx
import scipy.sparse as sp
import scipy.sparse.linalg as spl
from jax import Array
from timing import Measurement, interleaved, report

from jaxsci.solvers import (
    MINIMISE_RESULTS,
    Direct,
    Euclidean,
    Factors,
    LevenbergMarquardt,
    Problem,
    SparseCholesky,
    SparseResidual,
    Variables,
    minimise,
    sparse_jacobian,
)
from jaxsci.solvers.nonlinear import plan_preconditioner

MODEL, SMOOTHNESS, NOISE, WELLS = 2e-4, 0.3, 0.003, 12


def balance(log_k: Array, head: Array, pumped: Array) -> Array:
    """Water that flows out of each cell less what is put into it; heads 1 and 0 left and right."""
    k = jnp.exp(log_k)

    def between(a, b):
        return 2 * a * b / (a + b)

    east = -between(k[1:], k[:-1]) * jnp.diff(head, axis=0)
    west_end, east_end = -2 * k[:1] * (head[:1] - 1), 2 * k[-1:] * head[-1:]
    east = jnp.concatenate([west_end, east, east_end])
    north = jnp.pad(-between(k[:, 1:], k[:, :-1]) * jnp.diff(head, axis=1), ((0, 0), (1, 1)))
    return jnp.diff(east, axis=0) + jnp.diff(north, axis=1) - pumped


def balance_rows(x: Array, pumped: Array) -> Array:
    """The balance as residuals of `x[cell] = (log k, head)`."""
    log_k, head = x[:, 0], x[:, 1]
    return balance(log_k.reshape(pumped.shape), head.reshape(pumped.shape), pumped) / MODEL


def rough(a: Array, b: Array, _) -> Array:
    """Neighbours have similar conductivities."""
    return (a[:1] - b[:1]) / SMOOTHNESS


def seen(a: Array, head: Array) -> Array:
    """A head that was measured."""
    return (a[1:] - head) / NOISE


class Aquifer(NamedTuple):
    """Data of an experiment on a grid of `n` by `n` cells, and where to start from."""

    pumped: Array
    pairs: np.ndarray
    wells: np.ndarray
    heads: Array
    start: Array


def stencil(n: int) -> sp.csr_matrix:
    """Which cells the balance of a cell depends on."""
    eye = sp.eye(n)
    line = eye + sp.eye(n, k=1) + sp.eye(n, k=-1)
    return sp.csr_matrix(sp.kron(line, eye) + sp.kron(eye, line))


def heads_of(log_k: Array, pumped: Array) -> Array:
    """The state for a known conductivity, by scipy."""

    def function(head):
        return balance(log_k, head.reshape(pumped.shape), pumped).ravel()

    zero = jnp.zeros(pumped.size)
    J = sparse_jacobian(function, zero, stencil(len(pumped)))
    entries = (np.asarray(J.values), (np.asarray(J.rows), np.asarray(J.cols)))
    return jnp.asarray(spl.spsolve(sp.csc_matrix(entries), -np.asarray(function(zero))))


def aquifer(n: int) -> Aquifer:
    """A random conductivity, four wells that pump or inject, and noisy heads in a grid of wells."""
    rng, middle = np.random.default_rng(1), (np.arange(n) + 0.5) / n
    waves, phases = 2.5 * rng.normal(size=(40, 2)), rng.uniform(0, 2 * np.pi, 40)
    angle = np.einsum("kc,cij->kij", waves, np.stack(np.meshgrid(middle, middle, indexing="ij")))
    log_k = np.cos(angle + phases[:, None, None]).sum(0) / np.sqrt(20)
    pumped = np.zeros((n, n))
    for x, y, rate in ((0.3, 0.7, -0.15), (0.7, 0.25, -0.15), (0.5, 0.5, 0.15)):
        pumped[int(x * n), int(y * n)] = rate
    pumped = jnp.asarray(pumped)
    cell = np.arange(n * n).reshape(n, n)
    along = [np.stack([cell[1:].ravel(), cell[:-1].ravel()], 1)]
    along += [np.stack([cell[:, 1:].ravel(), cell[:, :-1].ravel()], 1)]
    at = ((np.arange(WELLS) + 0.5) / WELLS * n).astype(int)
    wells = np.unique(cell[np.ix_(at, at)])
    heads = heads_of(jnp.asarray(log_k), pumped)[wells]
    heads = heads + NOISE * rng.normal(size=len(wells))
    start = jnp.stack([jnp.zeros(n * n), heads_of(jnp.zeros((n, n)), pumped)], 1)
    return Aquifer(pumped, np.concatenate(along), wells, heads, start)


def ours(data: Aquifer) -> tuple[Callable[[], Any], SparseResidual]:
    """A call that minimises by our solvers, its symbolic phase done."""
    n = len(data.pumped)
    physics = SparseResidual(
        balance_rows, "cells", data.start, data.pumped, sparsity=stencil(n)
    )  # fmt: skip
    factors = [
        physics,
        Factors(rough, ("cells", "cells"), data.pairs),
        Factors(seen, "cells", data.wells, data.heads[:, None]),
    ]
    problem = Problem({"cells": Variables(Euclidean(2), n * n)}, factors)
    linear = Direct(None, plan_preconditioner(problem, SparseCholesky()))

    def call():
        return minimise(
            problem,
            {"cells": data.start},
            method=LevenbergMarquardt(),
            linear=linear,
            rtol=1e-12,
            throw=False,
        )

    return call, physics


def residuals(x: Array, data: Aquifer) -> tuple[Array, ...]:
    """All residuals, as optimistix takes them."""
    smooth = jax.vmap(lambda a, b: rough(a, b, None))(x[data.pairs[:, 0]], x[data.pairs[:, 1]])
    measured = jax.vmap(seen)(x[data.wells], data.heads[:, None])
    return balance_rows(x, data.pumped), smooth, measured


def theirs(data: Aquifer, linear: lx.AbstractLinearSolver) -> Callable[[], Any]:
    """A call that minimises by optimistix: values, steps, whether it ended well."""
    solver = optx.LevenbergMarquardt(rtol=1e-9, atol=1e-9, linear_solver=linear)

    @jax.jit
    def solve(start, data):
        found = optx.least_squares(residuals, solver, start, data, throw=False, max_steps=300)
        return found.value, found.stats["num_steps"], found.result == optx.RESULTS.successful

    return lambda: solve(data.start, data)


def timed(call: Callable[[], Any]) -> tuple[Any, float]:
    """What a first call returns, and its seconds."""
    began = time.perf_counter()
    result = jax.block_until_ready(call())
    return result, time.perf_counter() - began


PEERS = {"dense Cholesky": lx.Normal(lx.Cholesky()), "dense QR": lx.QR()}


def calibration(n: int, peers: list[str], repeats: int) -> list[Measurement]:
    """The rows of one grid size."""
    data = aquifer(n)
    name = f"aquifer of {n} x {n}, {2 * n * n} unknowns"
    (call, physics), prepared = timed(lambda: ours(data))
    found, first = timed(call)
    cost = float(found.cost)
    calls: dict[str, Callable[[], Any]] = {"ours": call}
    rows = [
        Measurement(f"{name}: derivatives per Jacobian", physics.number, "", "lower"),
        Measurement(f"{name}: ours, iterations", int(found.steps), "", "lower"),
    ]
    for peer in peers:
        calls[peer] = theirs(data, PEERS[peer])
        (value, steps, good), peer_first = timed(calls[peer])
        peer_cost = sum(float(jnp.sum(r**2)) / 2 for r in residuals(value, data))
        away = float(jnp.abs(value - found.values["cells"]).max())
        ended = "" if good else " [not converged]"
        what = f"{name}: optimistix, {peer}"
        rows += [
            Measurement(f"{what}, iterations{ended}", int(steps), "", "lower"),
            Measurement(f"{what}: our cost / its - 1", cost / peer_cost - 1, "", "lower", 1e-9),
            Measurement(f"{what}: largest difference of values", away, "", "lower", 1e-5),
            Measurement(f"{what}: first call", peer_first, "s", "lower"),
        ]
    seconds = interleaved(calls, repeats)
    rows += [
        Measurement(f"{name}: our time / optimistix's, {peer}", seconds["ours"] / seconds[peer],
                    "x", "lower", 1.0)
        for peer in peers
    ]  # fmt: skip
    rows += [
        Measurement(f"{name}: ours, warm", seconds["ours"], "s", "lower"),
        Measurement(f"{name}: ours, first call", first, "s", "lower"),
        Measurement(f"{name}: ours, pattern, colours and symbolic phase", prepared, "s", "lower"),
    ]
    return rows


LOWER = jnp.array([0.0, 0.0, 480.0, 505.0, 3.0, 3.0, -0.5])
UPPER = jnp.array([5.0, 5.0, 505.0, 530.0, 20.0, 20.0, 0.5])


def bounded(z: Array) -> Array:
    """Numbers without bounds to heights, positions, widths (two each) and an offset within."""
    return LOWER + (UPPER - LOWER) * jax.nn.sigmoid(z)


def peaks(z: Array, x: Array) -> Array:
    """Two Lorentzians at one wavelength."""
    p = bounded(z)
    return p[6] + jnp.sum(p[:2] / (1 + ((x - p[2:4]) / p[4:6]) ** 2))


def misfit(z: Array, points: Array) -> Array:
    """Of a spectrum; and a weak pull to the middle, or a peak that is not there has no place."""
    x, y = points.T
    return jnp.concatenate([(jax.vmap(lambda x: peaks(z, x))(x) - y) / 0.05, z / 5])


def misfit_of_seven(*variables: Array) -> Array:
    """The same of seven variables of one number each."""
    *z, points = variables
    return misfit(jnp.concatenate(z), points)


def spectra(count: int, channels: int = 80) -> Array:
    """Noisy spectra `(count, channels, 2)`; the second peak of every fourth has no height."""
    rng = np.random.default_rng(0)
    z = jnp.asarray(rng.normal(size=(count, 7)))
    z = z.at[::4, 1].set(-40.0)
    x = jnp.linspace(460.0, 550.0, channels)
    y = jax.vmap(lambda z: jax.vmap(lambda x: peaks(z, x))(x))(z)
    y = y + 0.05 * rng.normal(size=y.shape)
    return jnp.stack([jnp.broadcast_to(x, y.shape), y], -1)


def curves(count: int, repeats: int) -> list[Measurement]:
    """The rows of fits of many spectra at once."""
    points, start = spectra(count), jnp.zeros(7)
    seven = np.arange(7)[None]

    def one(points):
        # Seven variables, not one of seven numbers: each is scaled, and damped, on its own.
        factors = [Factors(misfit_of_seven, ("z",) * 7, seven, points[None])]
        found = minimise(
            Problem({"z": Variables(Euclidean(1), 7)}, factors),
            {"z": start[:, None]},
            method=LevenbergMarquardt(initial=1e-2),
            linear="dense",
            throw=False,
            max_steps=200,
        )
        return found.cost, found.steps, found.result == MINIMISE_RESULTS.successful

    solver = optx.LevenbergMarquardt(rtol=1e-8, atol=1e-8)

    def other(points):
        found = optx.least_squares(misfit, solver, start, points, throw=False, max_steps=200)
        cost = jnp.sum(misfit(found.value, points) ** 2) / 2
        return cost, found.stats["num_steps"], found.result == optx.RESULTS.successful

    ours_all, theirs_all = jax.jit(jax.vmap(one)), jax.jit(jax.vmap(other))
    calls = {"ours": lambda: ours_all(points), "optimistix": lambda: theirs_all(points)}
    (cost, steps, good), first = timed(calls["ours"])
    (peer_cost, peer_steps, peer_good), peer_first = timed(calls["optimistix"])
    gap = np.asarray(cost / peer_cost - 1)
    same, lower, higher = (
        100 * float(np.mean(each)) for each in (np.abs(gap) <= 1e-6, gap < -1e-6, gap > 1e-6)
    )
    seconds = interleaved(calls, repeats)
    name = f"{count} spectra, 7 bounded parameters each"
    return [
        Measurement(f"{name}: at optimistix's cost to 1e-6", same, "%", "higher"),
        Measurement(f"{name}: lower cost than optimistix", lower, "%", "higher"),
        Measurement(f"{name}: higher cost than optimistix", higher, "%", "lower"),
        Measurement(f"{name}: ours, converged in 200", 100 * float(np.mean(good)), "%", "higher"),
        Measurement(f"{name}: optimistix, converged in 200", 100 * float(np.mean(peer_good)), "%",
                    "higher"),
        Measurement(f"{name}: ours, iterations (median)", float(np.median(steps)), "", "lower"),
        Measurement(f"{name}: optimistix, iterations (median)", float(np.median(peer_steps)), "",
                    "lower"),
        Measurement(f"{name}: our time / optimistix's", seconds["ours"] / seconds["optimistix"],
                    "x", "lower", 1.0),
        Measurement(f"{name}: ours, warm", seconds["ours"], "s", "lower"),
        Measurement(f"{name}: ours, first call", first, "s", "lower"),
        Measurement(f"{name}: optimistix, first call", peer_first, "s", "lower"),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sizes", type=int, nargs="*", default=[12, 24])
    parser.add_argument("--alone", type=int, nargs="*", default=[48, 96])
    parser.add_argument("--spectra", type=int, default=1024)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    jax.config.update("jax_enable_x64", True)
    rows = []

    def add(more: list[Measurement]) -> None:
        rows.extend(more)
        for row in more:
            print(f"{row.metric}: {row.value:.4g} {row.unit}", flush=True)

    if arguments.spectra:
        add(curves(arguments.spectra, arguments.repeats))
    for k, n in enumerate(arguments.sizes):
        # QR is several times slower than Cholesky: at the smallest size only.
        add(calibration(n, list(PEERS) if k == 0 else list(PEERS)[:1], arguments.repeats))
    for n in arguments.alone:
        add(calibration(n, [], arguments.repeats))
    print(
        report(
            "least_squares",
            "Least squares outside SLAM, against optimistix",
            "python benchmarks/least_squares.py",
            rows,
            "Float64, Levenberg-Marquardt in both, the same residuals from the same start. Warm "
            "times are medians of interleaved calls. Aquifer: log-conductivity and head of every "
            "cell from 144 wells, by `SparseResidual` and `SparseCholesky` here; optimistix by "
            "the dense Jacobian. Spectra: two Lorentzians each, bounds by a sigmoid, "
            "under `vmap`.",
        )
    )


if __name__ == "__main__":
    main()
