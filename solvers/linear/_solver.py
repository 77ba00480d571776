"""CGNR as a lineax solver."""

from typing import Any

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import lineax as lx
from jaxtyping import Array, PyTree

from jaxsci.precision import Policy

from ._cgnr import CGNRSolution, Form, Stopping, cgnr, solve_normal
from ._products import flat_product, natural_policy
from ._results import to_lineax


class _State(eqx.Module):
    # The operator, or its transpose if that is the taller of the two.
    tall: lx.AbstractLinearOperator
    # Whether the operator is `tall'`, so that the answer is the one of least norm.
    least_norm: bool = eqx.field(static=True)


def _policy(given: Policy | str | None) -> Policy | None:
    if isinstance(given, str):
        return Policy.parse(given)
    if given is not None and not isinstance(given, Policy):
        raise TypeError(
            f"`CGNR(policy=...)`: expected a policy, its text (e.g. 'pose_graph') or None, got "
            f"{given!r}; name the tolerance, `CGNR(rtol=1e-6)`"
        )
    return given


class CGNR(lx.AbstractLinearSolver[_State]):
    """Conjugate gradients on the normal equations, for any full-rank operator, tall or wide.

    `x = (A'A + damping)^-1 A' b` for a tall or square operator, the least-squares solution; and
    `x = A' (AA' + damping)^-1 b` for a wide one, the solution of least norm. See
    [`jaxsci.solvers.linear.cgnr`][] for the arithmetic and for the arguments that are not
    explained here. In `lineax.linear_solve` it has implicit derivatives in forward and reverse
    mode, `vmap`, and these `options`:

    - `preconditioner`: an operator close to `(A'A + damping)^-1`; of the smaller Gram matrix
        `AA'` if the operator is wide.
    - `y0`: where to start (not for a wide operator).

    `solution.stats` holds `num_steps`, `history` (if recorded) and `result`, a member of
    [`jaxsci.solvers.linear.CGNR_RESULTS`][], which says more than `solution.result`. With
    `throw=False` no host callback is made, except in derivatives, where lineax has its own.

    **Arguments:** as for [`jaxsci.solvers.linear.cgnr`][]; the policy may be a text, as of
    `Policy.parse`.

    **Raises:** `ValueError` for a derivative with respect to the operator of a damped solve,
    which lineax cannot express; put the damping into the operator as rows `sqrt(damping) I`.
    `TypeError` for a policy that is none.

    !!! example
        >>> import jax.numpy as jnp
        >>> import lineax as lx
        >>> from jaxsci.solvers.linear import CGNR
        >>> A = lx.MatrixLinearOperator(jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
        >>> lx.linear_solve(A, jnp.array([1.0, 2.0, 2.0]), CGNR("single")).value.round(3)
        Array([1., 1.], dtype=float32)
    """

    policy: Policy | None = eqx.field(static=True, default=None, converter=_policy)
    rtol: float = 1e-6
    atol: float = 0.0
    max_steps: int | None = eqx.field(static=True, default=None)
    stopping: Stopping = eqx.field(static=True, default="gradient")
    damping: float = 0.0
    form: Form = eqx.field(static=True, default="recurrence")
    record: bool = eqx.field(static=True, default=False)

    def __check_init__(self):
        for name in ("rtol", "atol", "damping"):
            value = getattr(self, name)
            if isinstance(value, (int, float)) and value < 0:
                raise ValueError(f"`CGNR({name}=...)`: expected at least 0, got {value}")

    def init(self, operator: lx.AbstractLinearOperator, options: dict[str, Any]) -> _State:
        del options
        operator = lx.linearise(operator)
        wide = operator.out_size() < operator.in_size()
        return _State(operator.transpose() if wide else operator, wide)

    def compute(
        self, state: _State, vector: PyTree[Array], options: dict[str, Any]
    ) -> tuple[PyTree[Array], lx.RESULTS, dict[str, Any]]:
        flat, _ = jax.flatten_util.ravel_pytree(vector)
        if state.least_norm:
            solution = self._least_norm(state.tall, flat, options)
            structure = state.tall.out_structure()
        else:
            solution = cgnr(state.tall, flat, y0=options.get("y0"), **self._settings(options))
            structure = state.tall.in_structure()
        stats = {"num_steps": solution.steps, "result": solution.result}
        if self.record:
            stats["history"] = solution.history
        return _unflatten(solution.value, structure), to_lineax(solution.result), stats

    def transpose(self, state: _State, options: dict[str, Any]):
        kept = {key: value for key, value in options.items() if key != "y0"}
        if "preconditioner" in kept:
            kept["preconditioner"] = kept["preconditioner"].transpose()
        return _State(state.tall, not state.least_norm), kept

    def conj(self, state: _State, options: dict[str, Any]):
        # Called for derivatives only, and always for a damped solve (see `assume_full_rank`).
        if not _is_zero(self.damping):
            raise ValueError(
                "`CGNR(damping=...)`: no derivative with respect to the operator of a damped "
                "solve; solve the operator with the rows sqrt(damping) I appended, and zeros "
                "appended to the vector, without damping"
            )
        return state, options

    def assume_full_rank(self):
        return _is_zero(self.damping)

    def _settings(self, options: dict[str, Any]) -> dict[str, Any]:
        return {
            "preconditioner": options.get("preconditioner"),
            "damping": self.damping,
            "policy": self.policy,
            "rtol": self.rtol,
            "atol": self.atol,
            "max_steps": self.max_steps,
            "stopping": self.stopping,
            "form": self.form,
            "record": self.record,
        }

    def _least_norm(self, tall, right: Array, options: dict[str, Any]) -> CGNRSolution:
        settings = self._settings(options)
        policy = settings["policy"] or natural_policy(tall)
        settings |= {"policy": policy, "form": "recurrence", "y0": None, "residual": None}
        settings["energy_atol"] = 0.0
        gradient = policy.dtype("gradient")
        weights = solve_normal(tall, right.astype(gradient), **settings)
        value = flat_product(tall, gradient)(weights.value)
        return CGNRSolution(value, weights.steps, weights.history, weights.result)


def _is_zero(damping: Any) -> bool:
    return isinstance(damping, (int, float)) and damping == 0


def _unflatten(vector: Array, structure: PyTree) -> PyTree[Array]:
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), structure)
    flat, unravel = jax.flatten_util.ravel_pytree(zeros)
    return unravel(vector.astype(flat.dtype))
