"""What lineax wants to know of an operator, said once for all of ours."""

import lineax as lx

_STRUCTURES = (
    lx.is_diagonal,
    lx.is_tridiagonal,
    lx.has_unit_diagonal,
    lx.is_lower_triangular,
    lx.is_upper_triangular,
    lx.is_negative_semidefinite,
)


def register_rectangular(cls: type) -> type:
    """Tells lineax that `cls` has no structure that a square solver could use."""
    return _register(cls, positive=False)


def register_positive(cls: type) -> type:
    """Tells lineax that `cls` is symmetric and positive semidefinite, and no more."""
    return _register(cls, positive=True)


def _register(cls: type, positive: bool) -> type:
    for question in (lx.is_symmetric, lx.is_positive_semidefinite):
        question.register(cls, lambda _: positive)
    for question in _STRUCTURES:
        question.register(cls, lambda _: False)
    # All are linear already, and real.
    lx.linearise.register(cls, lambda operator: operator)
    lx.conj.register(cls, lambda operator: operator)
    tags = lx.positive_semidefinite_tag if positive else ()
    lx.materialise.register(
        cls, lambda operator: lx.MatrixLinearOperator(operator.as_matrix(), tags)
    )
    lx.diagonal.register(cls, lambda operator: operator.as_matrix().diagonal())
    return cls
