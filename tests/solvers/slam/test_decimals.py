"""Numbers read all at once are those that Python reads one by one."""

import random

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from jaxsci.solvers.slam._decimals import read_columns

_DIGITS = st.text("0123456789", min_size=1, max_size=22)
_SIGN = st.sampled_from(["", "", "-", "+"])
_DECIMAL = st.tuples(_SIGN, _DIGITS, st.just("."), _DIGITS).map("".join)
_NUMBER = st.one_of(
    _DECIMAL,
    st.tuples(_SIGN, _DIGITS).map("".join),
    st.floats().map(repr),
    st.floats(-10, 10, width=32).map(lambda x: f"{x:.6g}"),
    st.sampled_from(["5.", ".5", "-.5", "1e400", "-0", "-0.0", "1e-05", "inf", "9007199254740993"]),
)
_WORD = st.one_of(_NUMBER, st.text("0159.+-e_x", min_size=1, max_size=6))
_SPACE = st.sampled_from([" ", "  ", "\t", " \r", "\x0b"])


def _one_by_one(text, lines, ids, numbers):
    """By Python; `None` where a word is no number."""
    rows = [line.split()[1:] for line in text.split(b"\n")[:-1]]
    if any(len(row) != ids + numbers for row in rows) or b"_" in text:
        return None
    try:
        whole = [[int(word) for word in row[:ids]] for row in rows]
        values = [[float(word) for word in row[ids:]] for row in rows]
    except ValueError:
        return None
    if any(i < 0 for row in whole for i in row):
        return None
    return np.array(whole).reshape(lines, ids), np.array(values).reshape(lines, numbers)


@given(st.data(), st.integers(1, 3), st.integers(0, 2), st.integers(1, 4))
def test_numbers_are_those_of_float(data, lines, ids, numbers):
    rows = []
    for _ in range(lines):
        words = ["TAG", *(str(data.draw(st.integers(0, 2**53 - 1))) for _ in range(ids))]
        words += [data.draw(_NUMBER) for _ in range(numbers)]
        rows.append("".join(word + data.draw(_SPACE) for word in words))
    text = "".join(row + "\n" for row in rows).encode()
    found, expected = (
        read_columns(text, lines, ids, numbers),
        _one_by_one(text, lines, ids, numbers),
    )
    assert found is not None
    assert np.array_equal(found[0], expected[0])
    # Bit for bit, the sign of a zero as well.
    assert found[1].tobytes() == expected[1].tobytes()


@given(st.lists(st.lists(_WORD, max_size=5), min_size=1, max_size=3), st.integers(0, 2))
@example([["1"], ["2", "3", "4", "5"]], 1)  # as many words as two lines of two should have
@example([["1.5", "2"]], 1)
@example([["-1", "2"]], 1)
@example([["1", "1_0"]], 1)
@example([["1", "1.2.3"]], 1)
@example([["1", "0.12345678901234567"]], 1)
@example([["9007199254740993", "1"]], 1)
@example([["9223372036854775808", "1"]], 1)
def test_what_is_no_line_of_numbers_is_never_read_as_one(rows, ids):
    text = "".join(" ".join(["TAG", *row]) + "\n" for row in rows).encode()
    numbers = max(0, len(rows[0]) - ids)
    found = read_columns(text, len(rows), ids, numbers)
    expected = _one_by_one(text, len(rows), ids, numbers)
    if found is not None:
        assert expected is not None
        assert np.array_equal(found[0], expected[0])
        assert found[1].tobytes() == expected[1].tobytes()


@pytest.mark.parametrize("form", ["{:.6g}", "{:.17g}", "{:.3f}", "{:+.12f}", "{:.10e}", "{!r}"])
def test_many_numbers_are_rounded_as_float_rounds(form):
    draw = random.Random(0)
    words = [form.format(draw.uniform(-1, 1) * 10 ** draw.randint(-6, 6)) for _ in range(20000)]
    text = "".join(f"TAG {word}\n" for word in words).encode()
    found = read_columns(text, len(words), 0, 1)
    assert found is not None
    assert np.array_equal(found[1][:, 0], np.array([float(word) for word in words]))
