"""Looking a name up in a table, with the near misses when it is not there."""

import difflib
from collections.abc import Mapping
from typing import Any, TypeVar

T = TypeVar("T")


def lookup(kind: str, name: Any, table: Mapping[Any, T]) -> T:
    """`table[name]`, or a `ValueError` that lists what exists and what was probably meant.

    **Arguments:**

    - `kind`: what the name stands for, e.g. `"equation"`; used in the message.
    - `name`: the name to look up, a string or another key such as a pair of strings; case, `-` and
        `_` are told apart.
    - `table`: the names that exist.

    **Raises:** `ValueError` if `name` is not in `table`.

    !!! example
        >>> lookup("fruit", "aple", {"apple": 1, "pear": 2})
        Traceback (most recent call last):
        ...
        ValueError: unknown fruit 'aple'; did you mean 'apple'? Known: apple, pear
    """
    if name in table:
        return table[name]
    known = {str(key): key for key in table}
    near = difflib.get_close_matches(str(name), list(known), n=2, cutoff=0.6)
    hint = f"; did you mean {' or '.join(repr(known[n]) for n in near)}?" if near else "."
    raise ValueError(f"unknown {kind} {name!r}{hint} Known: {', '.join(known)}")
