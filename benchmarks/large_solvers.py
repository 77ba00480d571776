"""Solvers on a GPU: `python benchmarks/large_solvers.py [--edges ...] [--only windows graphs]`.

1. A batch of 64 sliding windows of bundle adjustment under `vmap`, policy by policy.
2. Pose graphs on a torus of 10^4 to 10^6 edges, started from the truth with noise: conjugate
   gradients policy by policy, and whole minimisations against GTSAM on the CPU of that machine.

Steps of conjugate gradients are timed by running a fixed number of them; `of the copy's rate` is
the bytes that a step has to move (matrix twice, factor, vectors once each as they are read or
written) over its time, against the rate at which a large array is copied. Runs anywhere; on a CPU,
`--edges 3000 --batch 4` is a test.
"""

import argparse
import dataclasses
import functools
import importlib
import multiprocessing
import os
import shlex
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from timing import Measurement, compiled, copy_rate, interleaved, report

from jaxsci.precision import Policy
from jaxsci.solvers import FSAI, SE3, LevenbergMarquardt, Problem, TwoLevel, cgnr, minimise
from jaxsci.solvers.nonlinear import Preconditioner, linearise, plan_preconditioner
from jaxsci.solvers.slam import (
    PoseGraph,
    bundle_to_problem,
    bundle_to_values,
    sliding_window,
    to_problem,
    to_values,
    torus,
    write_g2o,
)
from jaxsci.solvers.sparse import block_scaling

KEPT = ",residual=f64,update=f64"
PRODUCTS = {
    "fp64": "double",
    "fp32": "single" + KEPT,
    "fp16": "bundle_adjustment" + KEPT,
    "bf16": "bf16" + KEPT,
}
# Bars: the share of fp32's time that the article leaves.
WINDOWS, GRAPHS = 0.59, 0.74
STEPS = 200


def size_of(tree: Any) -> int:
    """Bytes of the arrays in a tree."""
    return sum(leaf.nbytes for leaf in jax.tree.leaves(eqx.filter(tree, eqx.is_array)))


def linear_system(problem: Problem, values: Any, policy: Policy, plan: Preconditioner | None):
    """The scaled Jacobian, its residual and the factor, as `minimise` has them."""
    J, residual = linearise(problem, values)
    J = J.astype(policy.dtype("gradient"))
    held = tuple(problem.fixed.get(name) for name in problem.variables)
    factor = None
    if plan is not None:
        factor = plan.factor(problem, values, J, jnp.zeros((), J.dtype), policy)
    return J.scale_columns(block_scaling(J, held)), residual.astype(J.dtype), factor


def steps(J, residual, factor, policy: Policy, count: int):
    """A fixed number of steps of conjugate gradients."""
    found = cgnr(J, -residual, preconditioner=factor, policy=policy, rtol=0.0, max_steps=count,
                 damping=1e-3, record=False)  # fmt: skip
    return found.value, found.steps


def moved(J, factor, policy: Policy) -> int:
    """Bytes per step: `J` twice, its indices, the factor, vectors as they are read and written."""
    low = J.under(policy)
    n, m = J.in_size(), J.out_size()
    wide = policy.dtype("krylov").itemsize
    return 2 * size_of(low) + size_of(factor) + wide * (2 * m + 10 * n)


def windows(batch: int, rate: float, repeats: int) -> list[Measurement]:
    """The rows of a batch of windows."""
    window = sliding_window(seed=0)
    problem = bundle_to_problem(window)
    key = jax.random.key(0)
    start = {
        name: x[None]
        + 1e-3 * jax.random.normal(key, (batch, *x.shape), x.dtype) * (name == "points")
        for name, x in bundle_to_values(window).items()
    }
    rows = [
        Measurement("windows: rows of J, each", 2 * len(window.pixels), "", "lower"),
        Measurement("windows: columns of J, each", problem.dim, "", "lower"),
    ]
    solves, runs, bytes_moved = {}, {}, {}
    for kind, text in PRODUCTS.items():
        policy = Policy.parse(text)

        def system(problem, start, policy=policy):
            return jax.vmap(lambda values: linear_system(problem, values, policy, None)[:2])(start)

        def solve(system, policy=policy):
            return jax.vmap(lambda J, r: steps(J, r, None, policy, STEPS))(*system)

        def run(problem, start, policy=policy, linear="cgnr"):
            def alone(values):
                return minimise(problem, values, method=LevenbergMarquardt(), policy=policy,
                                linear=linear, throw=False)  # fmt: skip

            return jax.vmap(alone)(start)

        made = eqx.filter_jit(system)(problem, start)
        bytes_moved[kind] = batch * moved(jax.tree.map(lambda x: x[0], made)[0], None, policy)
        solves[kind], runs[kind] = (solve, made), (run, problem, start)
        schur = functools.partial(run, linear="schur")
        runs[f"{kind}, Schur"] = schur, problem, start
    programs = compiled({(kind, 0): job for kind, job in solves.items()} |
                        {(kind, 1): job for kind, job in runs.items()})  # fmt: skip
    solves = {kind: programs[kind, 0][0] for kind in solves}
    runs = {kind: programs[kind, 1][0] for kind in runs}
    seconds = interleaved(solves, repeats)
    whole = interleaved(runs, repeats)
    found = {kind: run() for kind, run in runs.items()}
    costs = {kind: np.asarray(each.cost) for kind, each in found.items()}
    for kind in PRODUCTS:
        what = f"windows, {batch} at once, {kind} products"
        each = seconds[kind] / STEPS
        asked = WINDOWS if kind == "fp16" else None
        most = int(found[kind].linear_steps.max())
        rows += [
            Measurement(f"{what}: a step of CG", 1e6 * each, "us", "lower"),
            Measurement(f"{what}: of the copy's rate", bytes_moved[kind] / each / rate, "x",
                        "higher"),
            Measurement(f"{what}: time of {STEPS} steps / fp32's", seconds[kind] / seconds["fp32"],
                        "x", "lower", asked),
            Measurement(f"{what}: a minimisation of all ({most} steps at most)", 1e3 * whole[kind],
                        "ms", "lower"),
            Measurement(f"{what}: that / fp32's", whole[kind] / whole["fp32"], "x", "lower", asked),
            Measurement(f"{what}: largest |cost / fp64's - 1|",
                        np.max(np.abs(costs[kind] / costs["fp64"] - 1)), "", "lower",
                        1e-5 if kind == "fp16" else None),
        ]  # fmt: skip
        schur = f"{kind}, Schur"
        most = int(found[schur].linear_steps.max())
        rows += [
            Measurement(f"{what}, Schur: a minimisation of all ({most} steps at most)",
                        1e3 * whole[schur], "ms", "lower"),
            Measurement(f"{what}, Schur: that / without", whole[schur] / whole[kind], "x", "lower"),
            Measurement(f"{what}, Schur: largest |cost / fp64's - 1|",
                        np.max(np.abs(costs[schur] / costs["fp64"] - 1)), "", "lower",
                        1e-5 if kind == "fp16" else None),
        ]  # fmt: skip
    return rows


def noisy(graph: PoseGraph, seed: int) -> PoseGraph:
    """Started from the truth with a little noise, as another estimator would leave it."""
    assert graph.truth is not None
    move = np.random.default_rng(seed).normal(size=(len(graph.truth), 6))
    move = move * np.array([0.05] * 3 + [0.02] * 3)
    move[0] = 0
    poses = jax.vmap(SE3().retract)(jnp.asarray(graph.truth), jnp.asarray(move))
    return dataclasses.replace(graph, poses=np.asarray(poses))


def graph_of(edges: int) -> PoseGraph:
    """A torus with about so many edges."""
    side = round((edges / 2) ** 0.5)
    return noisy(torus(side, side, seed=0), 1)


def peer(sizes: list[int], send: Any) -> None:
    """GTSAM's seconds, cost and iterations on graphs of these sizes, one after the other."""
    jax.config.update("jax_enable_x64", True)
    gtsam: Any = importlib.import_module("gtsam")
    for edges in sizes:
        path = Path(tempfile.mkdtemp()) / "graph.g2o"
        write_g2o(path, graph_of(edges))
        factors, start = gtsam.readG2o(str(path), True)
        factors = gtsam.NonlinearFactorGraph(factors)
        factors.add(gtsam.NonlinearEqualityPose3(0, start.atPose3(0)))
        settings = gtsam.GaussNewtonParams()
        settings.setRelativeErrorTol(1e-10)
        settings.setAbsoluteErrorTol(0)
        began = time.perf_counter()
        solver = gtsam.GaussNewtonOptimizer(factors, start, settings)
        solved = solver.optimize()
        send.send((time.perf_counter() - began, factors.error(solved), solver.iterations()))


def started_peer(sizes: list[int]) -> tuple[Any, Any]:
    """GTSAM at work beside what is timed on the GPU, in a process that sees none."""
    context = multiprocessing.get_context("spawn")
    receive, send = context.Pipe(False)
    process = context.Process(target=peer, args=(sizes, send), daemon=True)
    mine = os.environ.get("JAX_PLATFORMS")
    os.environ["JAX_PLATFORMS"] = "cpu"
    process.start()
    if mine is None:
        del os.environ["JAX_PLATFORMS"]
    else:
        os.environ["JAX_PLATFORMS"] = mine
    return process, receive


WAYS = {
    "fp64": ("double", None),
    "fp32": ("single" + KEPT, None),
    "fp16 products": ("bundle_adjustment" + KEPT, None),
    "fp32, FSAI": ("single" + KEPT, FSAI()),
    "fp16 products and FSAI": ("bundle_adjustment,precondition=f16" + KEPT, FSAI()),
    "fp32, two levels": ("single" + KEPT, TwoLevel()),
    "fp16 products and two levels": ("bundle_adjustment,precondition=f16" + KEPT, TwoLevel()),
}
# For each fp16 row the one of float32 that it is held against.
AGAINST = {
    "fp32, FSAI": "fp32, FSAI",
    "fp16 products and FSAI": "fp32, FSAI",
    "fp32, two levels": "fp32, two levels",
    "fp16 products and two levels": "fp32, two levels",
}


def graphs(
    edges: int,
    rate: float,
    repeats: int,
    kinds: tuple[str, ...] = tuple(WAYS),
    receive: Any = None,
    wait: float = 0,
) -> list[Measurement]:
    """The rows of one graph, those of `kinds`; GTSAM's come through `receive`."""
    ways = {kind: WAYS[kind] for kind in kinds}
    graph = graph_of(edges)
    problem, values = to_problem(graph), to_values(graph)
    name, rows, plans = f"{len(graph.edges)} edges", [], {}
    settings = [setting for _, setting in ways.values()]
    for what, setting in (("FSAI", FSAI()), ("two levels", TwoLevel())):
        if type(setting) not in map(type, settings):
            continue
        began = time.perf_counter()
        plans[type(setting)] = plan_preconditioner(problem, setting)
        symbolic = time.perf_counter() - began
        what = f"{name}: symbolic phase of {what}, on the host"
        rows.append(Measurement(what, symbolic, "s", "lower"))
    solves, runs, bytes_moved = {}, {}, {}
    for kind, (text, setting) in ways.items():
        policy, made = Policy.parse(text), plans.get(type(setting))

        def run(problem, values, made, policy=policy):
            return minimise(problem, values, policy=policy, preconditioner=made, throw=False)

        def solve(system, policy=policy):
            J, residual, factor = system
            return steps(J, residual, factor, policy, STEPS)

        system = eqx.filter_jit(linear_system)(problem, values, policy, made)
        bytes_moved[kind] = moved(system[0], system[2], policy)
        solves[kind] = solve, system
        runs[kind] = run, problem, values, made
    programs = compiled({(kind, 0): job for kind, job in solves.items()} |
                        {(kind, 1): job for kind, job in runs.items()})  # fmt: skip
    solves, runs = ({k: programs[k, part][0] for k in ways} for part in (0, 1))
    seconds = interleaved(solves, repeats)
    found = {kind: run() for kind, run in runs.items()}
    whole = interleaved(runs, max(min(3, repeats), repeats // 2))
    exact = "fp64" if "fp64" in ways else AGAINST.get(kinds[0], "fp32")
    for kind in ways:
        base = AGAINST.get(kind, "fp32")
        each, what, asked = seconds[kind] / STEPS, f"{name}, {kind}", None
        if kind.startswith("fp16") and jax.default_backend() != "cpu":
            asked = GRAPHS
        counts = f"{int(found[kind].linear_steps)} steps of CG, {int(found[kind].steps)} iterations"
        rows += [
            Measurement(f"{what}: a step of CG", 1e6 * each, "us", "lower"),
            Measurement(f"{what}: of the copy's rate", bytes_moved[kind] / each / rate, "x",
                        "higher"),
            Measurement(f"{what}: time of {STEPS} steps / {base}'s", seconds[kind] / seconds[base],
                        "x", "lower", asked),
            Measurement(f"{what}: a whole minimisation ({counts})", whole[kind], "s", "lower"),
            Measurement(f"{what}: that / {base}'s", whole[kind] / whole[base], "x", "lower"),
            Measurement(f"{what}: cost / {exact}'s - 1",
                        float(found[kind].cost / found[exact].cost) - 1, "", "lower"),
        ]  # fmt: skip
    if receive is None:
        return rows
    if not receive.poll(wait):
        return [*rows, Measurement(f"{name}: GTSAM was not done after", wait, "s more", "lower")]
    taken, cost, iterations = receive.recv()
    return [
        *rows,
        Measurement(f"{name}: GTSAM on the CPU, {iterations} iterations", taken, "s", "lower"),
        Measurement(f"{name}: cost of {exact} / GTSAM's - 1", float(found[exact].cost) / cost - 1,
                    "", "lower"),
        *(Measurement(f"{name}, {kind}: time / GTSAM's on the CPU", whole[kind] / taken, "x",
                      "lower", 1.0 if edges >= 1e5 else None) for kind in ways),
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edges", type=int, nargs="*", default=[10_000, 100_000, 1_000_000])
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--only", nargs="*", choices=("windows", "graphs"))
    parser.add_argument("--kinds", nargs="+", choices=tuple(WAYS), default=tuple(WAYS),
                        help="of graphs; each with the one that it is held against")  # fmt: skip
    parser.add_argument("--wait", type=float, default=120, help="for GTSAM, seconds; 0: without")
    arguments = parser.parse_args()
    lacking = {AGAINST.get(kind, "fp32") for kind in arguments.kinds} - set(arguments.kinds)
    if lacking:
        parser.error(f"--kinds: expected also {', '.join(sorted(lacking))}, to compare with")
    jax.config.update("jax_enable_x64", True)
    rate = copy_rate()
    rows = [Measurement("a large copy, bytes read and written", rate / 1e9, "GB/s", "higher")]

    def add(more: list[Measurement]) -> None:
        rows.extend(more)
        for row in more:
            print(f"{row.metric}: {row.value:.4g} {row.unit} {row.verdict}", flush=True)
        report(
            "large_solvers",
            "Solvers at sizes for a GPU",
            shlex.join(["python", "benchmarks/large_solvers.py", *sys.argv[1:]]),
            rows,
            "Windows: conjugate gradients on blocks of unit columns, whole minimisations by "
            "Levenberg-Marquardt. Graphs: a torus, Gauss-Newton from the truth with noise; block "
            "Jacobi unless FSAI or two levels are named. Residuals and poses in float64, all else "
            "in float32 where not in the dtype that a row names. GTSAM (Gauss-Newton, in a process "
            "beside) stops at a relative 1e-10, as ours does.",
        )

    only, repeats = arguments.only or ("windows", "graphs"), arguments.repeats
    receive = None
    if "graphs" in only and arguments.wait:
        _, receive = started_peer(arguments.edges)
    if "windows" in only:
        add(windows(arguments.batch, rate, repeats))
    for edges in arguments.edges if "graphs" in only else ():
        add(graphs(edges, rate, repeats, tuple(arguments.kinds), receive, arguments.wait))


if __name__ == "__main__":
    main()
