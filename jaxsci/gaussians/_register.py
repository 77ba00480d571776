"""What lineax wants to know of a covariance operator, said once for all of ours."""

import lineax as lx


def register_covariance(cls: type) -> type:
    """Tells lineax that `cls` is symmetric, positive semidefinite and otherwise unstructured."""
    for question in (lx.is_symmetric, lx.is_positive_semidefinite):
        question.register(cls, lambda _: True)
    _register_plain(cls)
    return cls


def register_rectangular(cls: type) -> type:
    """Tells lineax that `cls` has no structure that square solvers could use."""
    for question in (lx.is_symmetric, lx.is_positive_semidefinite):
        question.register(cls, lambda _: False)
    _register_plain(cls)
    return cls


def _register_plain(cls: type) -> None:
    for question in (
        lx.is_diagonal,
        lx.is_tridiagonal,
        lx.has_unit_diagonal,
        lx.is_lower_triangular,
        lx.is_upper_triangular,
        lx.is_negative_semidefinite,
    ):
        question.register(cls, lambda _: False)
    lx.linearise.register(cls, lambda operator: operator)
    lx.conj.register(cls, lambda operator: operator)
    lx.materialise.register(
        cls, lambda operator: lx.MatrixLinearOperator(operator.as_matrix(), operator_tags(operator))
    )


def operator_tags(operator: lx.AbstractLinearOperator) -> object:
    """The tags that a dense copy of `operator` should carry."""
    return lx.positive_semidefinite_tag if lx.is_positive_semidefinite(operator) else ()
