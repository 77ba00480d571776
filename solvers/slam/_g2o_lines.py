"""The first pass over a g2o file: lines to numbers, with the number of each line kept."""

import array
import dataclasses
import io
from collections import Counter

import numpy as np

from ._graph import FileLine


@dataclasses.dataclass(frozen=True)
class Tag:
    """How a tag's lines look: so many ids, then so many numbers.

    All but the first `own` numbers are an information matrix, which may repeat.
    """

    ids: int
    numbers: int
    dim: int
    own: int


TAGS = {
    b"VERTEX_SE2": Tag(1, 3, 2, 3),
    b"VERTEX_XY": Tag(1, 2, 2, 2),
    b"EDGE_SE2": Tag(2, 3 + 6, 2, 3),
    b"EDGE_SE2_XY": Tag(2, 2 + 3, 2, 2),
    b"VERTEX_SE3:QUAT": Tag(1, 7, 3, 7),
    b"VERTEX_TRACKXYZ": Tag(1, 3, 3, 3),
    b"EDGE_SE3:QUAT": Tag(2, 7 + 21, 3, 7),
    b"EDGE_SE3_TRACKXYZ": Tag(3, 3 + 6, 3, 3),
    b"PARAMS_SE3OFFSET": Tag(1, 7, 3, 7),
}
_FIX = b"FIX"
_LARGEST = 2**63 - 1
_KNOWN = 1000
_SHORT = 3


@dataclasses.dataclass(frozen=True)
class Rows:
    """The lines of one tag, in order: line numbers (n,), ids (n, ids), numbers (n, numbers)."""

    dim: int
    lines: np.ndarray
    ids: np.ndarray
    numbers: np.ndarray


class _Numbers(dict[bytes, float]):
    """Texts as numbers; short ones are kept: most of an information matrix is zeros."""

    def __missing__(self, text: bytes) -> float:
        value = float(text)
        if len(text) <= _SHORT:
            self[text] = value
        return value


class _Buffer:
    def __init__(self):
        self.lines, self.ids = array.array("q"), array.array("q")
        self.numbers = array.array("d")
        self.known: dict[bytes, list[float]] = {}
        self.number = _Numbers().__getitem__


@dataclasses.dataclass(frozen=True)
class Scan:
    """A file as numbers: rows by tag, held ids, what could not be read, unknown tags, length."""

    rows: dict[bytes, Rows]
    held: Rows
    malformed: list[FileLine]
    unknown: dict[str, int]
    lines: int


def scan(file: io.BufferedIOBase) -> Scan:
    """Read a file line by line; what is wrong with a line is noted, and reading goes on."""
    buffers = {tag: _Buffer() for tag in TAGS}
    held = _Buffer()
    malformed: list[FileLine] = []
    unknown: Counter[bytes] = Counter()
    number = 0
    for number, line in enumerate(file, 1):
        tag, _, text = line.partition(b" ")
        if tag not in TAGS:  # nor if something other than one space follows the tag
            tag, *rest = line.split(None, 1) or (b"#",)
            text = b"".join(rest)
        layout = TAGS.get(tag)
        if layout is None:
            if tag == _FIX:
                for name in text.split() or (b"nothing",):
                    _read(held, Tag(1, 0, 0, 0), number, line, name, malformed)
            elif not tag.startswith(b"#"):
                unknown[tag[:80]] += 1
            continue
        _read(buffers[tag], layout, number, line, text, malformed)
    rows = {tag: _rows(buffers[tag], layout) for tag, layout in TAGS.items()}
    names = {show(tag): count for tag, count in unknown.items()}
    return Scan(rows, _rows(held, Tag(1, 0, 0, 0)), malformed, names, number)


def _read(
    buffer: _Buffer, layout: Tag, number: int, line: bytes, rest: bytes, malformed: list[FileLine]
) -> None:
    """Append a line's ids and numbers to the buffer, or the line to the malformed ones."""
    # Most files repeat few information matrices: the last columns are looked up as one text.
    first, own = layout.ids, layout.ids + layout.own
    tokens = rest.split(None, own)
    text = tokens.pop() if len(tokens) > own else b""
    last = buffer.known.get(text)
    try:
        ids = list(map(int, tokens[:first]))
        numbers = list(map(float, tokens[first:]))
        if last is None:
            last = list(map(buffer.number, text.split()))
            if len(buffer.known) < _KNOWN and len(last) == layout.numbers - layout.own:
                buffer.known[text] = last
        numbers += last
    except ValueError:
        malformed.append(file_line(number, line, _unreadable(rest.split(), layout)))
        return
    # Python reads 1_0 as ten.
    if len(numbers) != layout.numbers or len(ids) < first or b"_" in rest:
        malformed.append(file_line(number, line, _misshapen(rest.split(), layout)))
    elif min(ids) < 0 or max(ids) > _LARGEST:
        reason = "an id must be a whole number from 0 to 2^63 - 1"
        malformed.append(file_line(number, line, reason))
    else:
        buffer.lines.append(number)
        buffer.ids.fromlist(ids)
        buffer.numbers.fromlist(numbers)


def file_line(number: int, text: bytes, reason: str) -> FileLine:
    """A line and what is the matter with it; long lines are cut."""
    return FileLine(number, show(text.strip()[:121]), reason)


def show(text: bytes) -> str:
    """Bytes as text that can be printed, at most 120 characters."""
    shown = text.decode("utf-8", errors="backslashreplace")
    return shown if len(shown) <= 120 else shown[:117] + "..."


def _rows(buffer: _Buffer, tag: Tag) -> Rows:
    lines = np.array(buffer.lines, dtype=np.int64)
    return Rows(
        tag.dim,
        lines,
        np.array(buffer.ids, dtype=np.int64).reshape(len(lines), tag.ids),
        np.array(buffer.numbers, dtype=np.float64).reshape(len(lines), tag.numbers),
    )


def _unreadable(tokens: list[bytes], layout: Tag) -> str:
    for position, token in enumerate(tokens):
        kind, what = (
            (int, "a whole number, an id") if position < layout.ids else (float, "a number")
        )
        try:
            kind(token)
        except ValueError:
            return f"expected {what} in column {position + 2}, got {show(token[:40])!r}"
    return "not readable"


def _misshapen(tokens: list[bytes], layout: Tag) -> str:
    wanted = layout.ids + layout.numbers
    if len(tokens) != wanted:
        return f"expected {1 + wanted} columns, got {1 + len(tokens)}"
    return "a number holds an underscore"
