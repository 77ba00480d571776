"""What went wrong, in a sentence that says which and by how much."""

import numpy as np

from ._certificate import CONSTRAIN_RESULTS, JointCertificate
from ._laws import Law
from ._nonlinear import NonlinearLaw

OF_NONLINEAR_LAWS = CONSTRAIN_RESULTS.not_reached, CONSTRAIN_RESULTS.excluded


def complaint(
    certificate: JointCertificate, laws: tuple[Law, ...], directions: int | None = None
) -> str:
    """The sentence of the result, and the place where it shows most.

    - `directions`: in how many the prediction can move, if they are few.
    """
    sentence = CONSTRAIN_RESULTS[certificate.result]
    if bool(certificate.result == CONSTRAIN_RESULTS.unbalanced):
        assert certificate.imbalance is not None
        off = np.asarray(certificate.imbalance)
        i = int(np.abs(off).argmax())
        return f"{sentence} Between times {i} and {i + 1} the law gains {off[i]:.4g} more."
    several = len(laws) > 1
    if any(bool(certificate.result == each) for each in OF_NONLINEAR_LAWS):
        missed = ""
        for j, law in enumerate(laws):
            left, rounding = certificate.residual_after[j], certificate.rounding[j]
            row = int(np.abs(left).argmax())
            if isinstance(law, NonlinearLaw) and not np.abs(left[row]) <= rounding[row]:
                name, asked = f"Law {j}" if several else "The law", float(law.b[row])
                missed += (
                    f" {name} asks for {asked:.6g}, {asked + float(left[row]):.6g} was reached."
                )
        if missed:
            return sentence + missed
    most, worst = 0.0, ""
    conditions, *found = (np.atleast_1d(off) for off in certificate.unreachable)
    if conditions.max() > 0:
        most = float(conditions.max())
        worst = f" The conditions on the faces are {most:.3g} off."
    for j, (off, law) in enumerate(zip(found, laws, strict=True)):
        row = int(np.abs(off).argmax())
        if np.abs(off[row]) > most:
            most, asked = float(np.abs(off[row])), float(law.b[row])
            name = f"Law {j}" if several else "The law"
            worst = (
                f" {name} asks for {asked:.6g} in row {row}, what can be reached is "
                f"{asked + float(off[row]):.6g}: {float(off[row]):.3g} off."
            )
    if worst and directions is not None:
        worst += (
            f" The prediction can move in {directions} directions at most, as an ensemble in one "
            "less than it has members: give it a variance floor, or take the values on the faces "
            "as they are prescribed, `boundary_update='enforce'`."
        )
    return sentence + worst
