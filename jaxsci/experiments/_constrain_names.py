"""The arrays that a file of predictions may hold, and what was meant by others."""

import difflib
from collections.abc import Collection, Iterable

SPACE = ("x", "y", "z")
AXES = ("t", *SPACE)
SPREADS = ("cov", "samples", "variance", "std")  # richest first
FLUXES = tuple(f"flux_{axis}_{side}" for axis in SPACE for side in ("low", "high"))
BALANCE = ("initial", "initial_std", "source", *FLUXES, *(f"{name}_std" for name in FLUXES))
KNOWN = (
    "mean",
    *SPREADS,
    *AXES,
    *(f"edges_{axis}" for axis in SPACE),
    *(f"period_{axis}" for axis in SPACE),
    "b",
    "b_std",
    *BALANCE,
)
OWN = (  # what `constrain` writes besides, so that its output can be its input
    "weights",
    "residual_before",
    "residual_after",
    "rounding",
    "cov_diagonal",
    "cov_factor",
    "settings",
)


def near(name: str, candidates: Iterable[str], cutoff: float = 0.6) -> list[str]:
    """Up to two candidates that `name` was probably meant to be; case is not told apart."""
    by_lower = {candidate.lower(): candidate for candidate in candidates}
    found = difflib.get_close_matches(name.lower(), list(by_lower), n=2, cutoff=cutoff)
    return [by_lower[lower] for lower in found]


def missing(wanted: Iterable[str], what: str, found: Collection[str]) -> ValueError:
    """The error for arrays of which one is needed and none is there."""
    wanted = list(wanted)
    meant = [hit for name in wanted for hit in near(name, set(found) - set(KNOWN))]
    hint = f"; did you mean {' or '.join(f'`{m}`' for m in dict.fromkeys(meant))}?" if meant else ""
    names = " or ".join(f"`{name}`" for name in wanted)
    return ValueError(
        f"no array {names} ({what}){hint or '.'} Found: {', '.join(found) or 'nothing'}"
    )


def notes_on_unused(found: Collection[str]) -> list[str]:
    """A sentence for each array that no layout knows, with what may have been meant."""
    notes = []
    for name in found:
        if name in KNOWN or name in OWN:
            continue
        meant = near(name, set(KNOWN) - set(found), cutoff=0.8)
        hint = f"; did you mean `{meant[0]}`?" if meant else ""
        notes.append(f"array `{name}` was not used{hint}")
    return notes
