"""Linear and nonlinear least squares in which each step has a dtype of its own.

What is met first is here; the rest, and every detail, is in the five folders: `linear`,
`nonlinear`, `preconditioners`, `sparse` and `slam` (pose graphs and bundle adjustment).

| To solve | take |
|---|---|
| `min abs(A x - b)^2`, `A` any lineax operator | `lineax.linear_solve(A, b, CGNR(policy))` |
| the same for a sparse `A` from scipy, or by its blocks | `from_scipy`, `BlockJacobian` |
| `H x = b`, sparse, symmetric, positive definite | `SparseCholesky` |
| any of them to the last digit, from a rough solver | `refine` |
| `min 1/2 sum rho(abs(W r(x))^2)`, on vectors or manifolds | `minimise(Problem(...), start)` |

A policy ([`jaxsci.precision.Policy`][]) gives each role, residuals, products, Krylov vectors,
preconditioner and update, its dtype. Everything works under `jit` and `vmap`, has derivatives by
the implicit function theorem, and says how it ended in a sentence rather than returning NaN.

!!! example
    >>> import jax.numpy as jnp
    >>> import lineax
    >>> import jaxsci.solvers
    >>> from jaxsci.precision import Policy
    >>> operator = lineax.MatrixLinearOperator(jnp.array([[1.0, 0.0], [0.0, 2.0], [1.0, 1.0]]))
    >>> b, policy = jnp.array([1.0, 2.0, 2.0]), Policy()
    >>> lineax.linear_solve(operator, b, solver=jaxsci.solvers.CGNR(policy)).value.round(3)
    Array([1., 1.], dtype=float32)
"""

if __name__ != "jaxsci.solvers":
    raise ImportError(
        "write `import jaxsci.solvers`: `solvers` is part of jaxsci, not a package of its own"
    )

from .linear import CGNR as CGNR
from .linear import CGNR_RESULTS as CGNR_RESULTS
from .linear import SparseCholesky as SparseCholesky
from .linear import cgnr as cgnr
from .linear import refine as refine
from .nonlinear import MINIMISE_RESULTS as MINIMISE_RESULTS
from .nonlinear import SE2 as SE2
from .nonlinear import SE3 as SE3
from .nonlinear import AbstractManifold as AbstractManifold
from .nonlinear import Cauchy as Cauchy
from .nonlinear import Dense as Dense
from .nonlinear import Direct as Direct
from .nonlinear import DogLeg as DogLeg
from .nonlinear import Euclidean as Euclidean
from .nonlinear import Factors as Factors
from .nonlinear import GaussNewton as GaussNewton
from .nonlinear import GemanMcClure as GemanMcClure
from .nonlinear import Huber as Huber
from .nonlinear import Iterative as Iterative
from .nonlinear import LevenbergMarquardt as LevenbergMarquardt
from .nonlinear import Problem as Problem
from .nonlinear import Solution as Solution
from .nonlinear import SparseResidual as SparseResidual
from .nonlinear import Variables as Variables
from .nonlinear import graduated as graduated
from .nonlinear import marginal_covariance as marginal_covariance
from .nonlinear import minimise as minimise
from .preconditioners import FSAI as FSAI
from .preconditioners import BlockJacobi as BlockJacobi
from .preconditioners import IncompleteCholesky as IncompleteCholesky
from .preconditioners import PointJacobi as PointJacobi
from .preconditioners import SchurComplement as SchurComplement
from .preconditioners import SchurJacobi as SchurJacobi
from .preconditioners import TwoLevel as TwoLevel
from .sparse import BlockJacobian as BlockJacobian
from .sparse import SparseEntries as SparseEntries
from .sparse import colour_columns as colour_columns
from .sparse import detect_sparsity as detect_sparsity
from .sparse import from_scipy as from_scipy
from .sparse import sparse_jacobian as sparse_jacobian
from .sparse import symmetric_from_scipy as symmetric_from_scipy
