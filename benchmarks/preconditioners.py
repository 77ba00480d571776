"""Steps of conjugate gradients on pose graphs: `python benchmarks/preconditioners.py FOLDER`.

FOLDER holds the public g2o files, and `chordal_torus3D.npy`, poses to start torus3D from.

1. To 1e-6 of the gradient at the first linearisation, per preconditioner and order.
2. To 1e-3 along exact Gauss-Newton iterates: a factor made at zero residuals, before there was
   any start, against one made anew at each iterate, and one made at the start.
3. Over whole minimisations: triangular solves in half against in single precision.

Counts, not times: nothing here depends on the machine.
"""

import argparse
import dataclasses
from pathlib import Path

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
from timing import Measurement, report

from jaxsci.precision import Policy
from jaxsci.solvers import FSAI, IncompleteCholesky, Problem, SparseCholesky, cgnr, minimise
from jaxsci.solvers.nonlinear import Preconditioner, linearise, plan_preconditioner
from jaxsci.solvers.nonlinear._linearise import jacobian_at_zero
from jaxsci.solvers.preconditioners import TwoLevel
from jaxsci.solvers.slam import PoseGraph, read_g2o, to_problem, to_values
from jaxsci.solvers.sparse import BlockDiagonal, block_scaling

FIRST = {"sphere2500": 350, "torus3D": 300, "city10000": 420}
SETTINGS = {
    "IC0, reverse Cuthill-McKee": IncompleteCholesky(),
    "IC0, AMD": IncompleteCholesky("amd"),
    "IC1, AMD": IncompleteCholesky("amd", 1),
    "IC1, nested dissection": IncompleteCholesky("nested", 1),
    "FSAI": FSAI(1),
    "FSAI, squared pattern": FSAI(2),
    "two levels": TwoLevel(),
}
RUNS = {"sphere2500": "file", "torus3D": "chordal", "city10000": "file", "intel": "file"}


def started(folder: Path, name: str) -> PoseGraph:
    """The graph with the poses to start from."""
    graph = read_g2o(folder / f"{name}.g2o")
    if name == "torus3D":
        chordal = np.load(folder / "chordal_torus3D.npy")
        graph = dataclasses.replace(graph, poses=chordal[:, [6, 3, 4, 5, 0, 1, 2]])
    return graph


@eqx.filter_jit
def steps_to(problem: Problem, values, plan: Preconditioner | None, rtol):
    """Steps at `values`, in columns of unit diagonal blocks: block Jacobi without a plan."""
    J, residual = linearise(problem, values)
    held, inverse = (problem.fixed["poses"],), None
    if plan is not None:
        none, policy = jnp.zeros((), J.dtype), Policy.parse("double")
        inverse = plan.factor(problem, values, J, none, policy)
    J = J.scale_columns(block_scaling(J, held))
    found = cgnr(
        J, -residual, preconditioner=inverse, rtol=rtol, max_steps=5000, record=False
    )  # fmt: skip
    return found.steps


def first_linearisation(name: str, graph: PoseGraph) -> list[Measurement]:
    """The rows of one graph, each preconditioner against block Jacobi."""
    problem, values = to_problem(graph), to_values(graph)
    jacobi = int(steps_to(problem, values, None, 1e-6))
    rows = [Measurement(f"{name}: steps to 1e-6, block Jacobi", jacobi, "", "lower")]
    for setting, made in SETTINGS.items():
        count = int(steps_to(problem, values, plan_preconditioner(problem, made), 1e-6))
        asked = setting == "IC0, reverse Cuthill-McKee"
        bar = FIRST[name] if asked else None
        what = f"{name}: steps to 1e-6, {setting}"
        rows += [
            Measurement(what, count, "", "lower", bar),
            Measurement(f"{what}, / block Jacobi", count / jacobi, "x", "lower",
                        0.4 if asked else None),
        ]  # fmt: skip
    return rows


@eqx.filter_jit
def factored(problem: Problem, values, plan: Preconditioner, at_zero: bool):
    """A factor of the Gram matrix in columns of unit diagonal blocks."""
    J = jacobian_at_zero(problem, values, jnp.float64) if at_zero else linearise(problem, values)[0]
    scales = block_scaling(J, (problem.fixed["poses"],))
    return plan.plan.factor(J.scale_columns(scales).gram(plan.pattern))


@eqx.filter_jit
def steps_with(problem: Problem, values, factor):
    """Steps to 1e-3 at `values` with a factor made elsewhere, in columns scaled here."""
    J, residual = linearise(problem, values)
    J = J.scale_columns(block_scaling(J, (problem.fixed["poses"],)))
    found = cgnr(J, -residual, preconditioner=factor, rtol=1e-3, max_steps=5000, record=False)
    return found.steps


def along_iterates(name: str, graph: PoseGraph, iterates: int = 5) -> list[Measurement]:
    """The rows of one graph: zero residuals and start against fresh factors."""
    problem, values = to_problem(graph), to_values(graph)
    plan = plan_preconditioner(problem, IncompleteCholesky())
    zero, start = (factored(problem, values, plan, at_zero) for at_zero in (True, False))
    direct = plan_preconditioner(problem, SparseCholesky())
    rows = []

    @eqx.filter_jit
    def newton(values):
        J, residual = linearise(problem, values)
        scales = block_scaling(J, (problem.fixed["poses"],))
        J = J.scale_columns(scales)
        H = J.gram(direct.pattern)
        held = jnp.eye(H.diagonal.shape[-1])[None] * problem.fixed["poses"][:, None, None]
        H = eqx.tree_at(lambda H: H.diagonal, H, H.diagonal + held)
        step = BlockDiagonal(scales).mv(-direct.plan.factor(H).mv(J.transpose_mv(residual)))
        manifold = problem.variables["poses"].manifold
        return {
            "poses": jax.vmap(manifold.retract)(values["poses"], step.reshape(-1, manifold.dim))
        }

    for k in range(iterates):
        fresh = int(steps_with(problem, values, factored(problem, values, plan, False)))
        at_zero, at_start = (int(steps_with(problem, values, made)) for made in (zero, start))
        what = f"{name}, iterate {k}: steps to 1e-3"
        rows += [
            Measurement(f"{what}, IC0 fresh", fresh, "", "lower"),
            Measurement(f"{what}, IC0 of the start", at_start, "", "lower"),
            Measurement(f"{what}, IC0 at zero residual", at_zero, "", "lower"),
            # The fourth iterate is number 3, as the first is the start.
            Measurement(f"{what}, zero residual / fresh", at_zero / fresh, "x", "lower",
                        1.1 if k >= 3 else None),
        ]  # fmt: skip
        values = newton(values)
    return rows


def half_triangles(name: str, graph: PoseGraph) -> list[Measurement]:
    """The rows of whole minimisations under two policies."""
    problem, values = to_problem(graph), to_values(graph)
    plan = plan_preconditioner(problem, IncompleteCholesky())
    rows, found = [], {}
    for kind, policy in (("fp32", "single"), ("fp16", "pose_graph")):
        found[kind] = minimise(
            problem, values, preconditioner=plan, policy=f"{policy},residual=f64,update=f64",
            throw=False,
        )  # fmt: skip
        what = f"{name}, triangular solves in {kind}"
        rows += [
            Measurement(f"{what}: steps of CG in the run", int(found[kind].linear_steps), "",
                        "lower"),
            Measurement(f"{what}: iterations", int(found[kind].steps), "", "lower"),
        ]  # fmt: skip
    ratio = int(found["fp16"].linear_steps) / int(found["fp32"].linear_steps)
    gap = abs(float(found["fp16"].cost / found["fp32"].cost) - 1)
    return [
        *rows,
        Measurement(f"{name}: steps of CG, fp16 / fp32", ratio, "x", "lower", 1.1),
        Measurement(f"{name}: cost, fp16 / fp32 - 1, absolute", gap, "", "lower", 1e-7),
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    jax.config.update("jax_enable_x64", True)
    rows = []

    def add(more: list[Measurement]) -> None:
        rows.extend(more)
        for row in more:
            print(f"{row.metric}: {row.value:.4g} {row.unit}", flush=True)

    graphs = {name: started(folder, name) for name in RUNS}
    for name in RUNS:
        add(half_triangles(name, graphs[name]))
    for name in ("sphere2500", "city10000"):
        add(along_iterates(name, graphs[name]))
    for name in FIRST:
        add(first_linearisation(name, graphs[name]))
    print(
        report(
            "preconditioners",
            "Steps of conjugate gradients on pose graphs",
            "python benchmarks/preconditioners.py ../shared/data/pose_graphs",
            rows,
            "Columns scaled to unit diagonal blocks throughout, so that block Jacobi is no further "
            "preconditioner. torus3D from a chordal start, the others from the file's. The first "
            "two groups of rows are under the policies that they name, the rest in float64.",
        )
    )


if __name__ == "__main__":
    main()
