"""The first pass over a g2o file: lines to numbers, with the number of each line kept."""

import array
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Iterator

import numpy as np

from ._decimals import read_columns
from ._graph import FileLine


@dataclasses.dataclass(frozen=True)
class Tag:
    """How a tag's lines look: so many ids, then so many numbers, of a graph of `dim` dimensions."""

    ids: int
    numbers: int
    dim: int


TAGS = {
    b"VERTEX_SE2": Tag(1, 3, 2),
    b"VERTEX_XY": Tag(1, 2, 2),
    b"EDGE_SE2": Tag(2, 3 + 6, 2),
    b"EDGE_SE2_XY": Tag(2, 2 + 3, 2),
    b"VERTEX_SE3:QUAT": Tag(1, 7, 3),
    b"VERTEX_TRACKXYZ": Tag(1, 3, 3),
    b"EDGE_SE3:QUAT": Tag(2, 7 + 21, 3),
    b"EDGE_SE3_TRACKXYZ": Tag(3, 3 + 6, 3),
    b"PARAMS_SE3OFFSET": Tag(1, 7, 3),
}
_FIX = b"FIX"
_LARGEST = 2**63 - 1
_BLOCK = 1 << 16  # bytes: what is made of them stays in a cache
_RUN = re.compile(rb"(?m)^(%s) [^\n]*\n(?:\1 [^\n]*\n)*" % b"|".join(map(re.escape, TAGS)))


@dataclasses.dataclass(frozen=True)
class Rows:
    """The lines of one tag, in order: line numbers (n,), ids (n, ids), numbers (n, numbers)."""

    dim: int
    lines: np.ndarray
    ids: np.ndarray
    numbers: np.ndarray


class _Buffer:
    def __init__(self):
        self.lines, self.ids = array.array("q"), array.array("q")
        self.numbers = array.array("d")


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
    read = 0
    while block := file.read(_BLOCK) + file.readline():
        texts: dict[bytes, list[bytes]] = {tag: [] for tag in TAGS}
        numbers: dict[bytes, list[int]] = {tag: [] for tag in TAGS}
        for tag, text in _runs(block if block.endswith(b"\n") else block + b"\n"):
            end = read + text.count(b"\n")
            if tag in TAGS:
                texts[tag].append(text)
                numbers[tag].extend(range(read + 1, end + 1))
            elif tag == _FIX:
                for name in text.split()[1:] or (b"nothing",):
                    _read(held, Tag(1, 0, 0), end, text, [name], malformed)
            elif not tag.startswith(b"#"):
                unknown[tag[:80]] += 1
            read = end
        for tag, layout in TAGS.items():
            _read_all(buffers[tag], layout, numbers[tag], b"".join(texts[tag]), malformed)
    rows = {tag: _rows(buffers[tag], layout) for tag, layout in TAGS.items()}
    names = {show(tag): count for tag, count in unknown.items()}
    return Scan(rows, _rows(held, Tag(1, 0, 0)), malformed, names, read)


def _runs(block: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Each tag that is known with all lines in a row that begin with it, other lines one by one."""
    end = 0
    for run in _RUN.finditer(block):
        yield from _alone(block[end : run.start()])
        yield run.group(1), run.group()
        end = run.end()
    yield from _alone(block[end:])


def _alone(text: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in text.split(b"\n")[:-1]:
        tag, *_ = line.split(None, 1) or [b"#"]
        yield tag, line + b"\n"


def _read_all(
    buffer: _Buffer, layout: Tag, numbers: list[int], text: bytes, malformed: list[FileLine]
) -> None:
    """Append lines of one tag: all at once, or one by one if one is not as it should be."""
    found = read_columns(text, len(numbers), layout.ids, layout.numbers) if numbers else None
    if found is not None:
        buffer.lines.fromlist(numbers)
        buffer.ids.frombytes(found[0].tobytes())
        buffer.numbers.frombytes(found[1].tobytes())
        return
    for at, line in zip(numbers, text.split(b"\n"), strict=False):
        _read(buffer, layout, at, line, line.split()[1:], malformed)


def _read(
    buffer: _Buffer,
    layout: Tag,
    number: int,
    line: bytes,
    tokens: list[bytes],
    malformed: list[FileLine],
) -> None:
    """Append a line's ids and numbers to the buffer, or the line to the malformed ones."""
    first, wanted = layout.ids, layout.ids + layout.numbers
    try:
        ids, numbers = list(map(int, tokens[:first])), list(map(float, tokens[first:]))
    except ValueError:
        malformed.append(file_line(number, line, _unreadable(tokens, layout)))
        return
    if len(tokens) != wanted:
        reason = f"expected {1 + wanted} columns, got {1 + len(tokens)}"
    elif any(b"_" in token for token in tokens):
        reason = "a number holds an underscore"
    elif min(ids) < 0 or max(ids) > _LARGEST:
        reason = "an id must be a whole number from 0 to 2^63 - 1"
    else:
        buffer.lines.append(number)
        buffer.ids.fromlist(ids)
        buffer.numbers.fromlist(numbers)
        return
    malformed.append(file_line(number, line, reason))


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
