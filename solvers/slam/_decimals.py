"""Lines of decimal numbers, read all at once."""

import numpy as np

from ._lie import Doubles

_EXACT = 2**53
_POWERS = 10 ** np.arange(19, dtype=np.int64)
_PAD = 16


def read_columns(
    text: bytes, lines: int, ids: int, numbers: int
) -> tuple[np.ndarray, Doubles] | None:
    """Of lines of one word, `ids` whole numbers and `numbers` numbers: ids, numbers.

    Each line ends in a newline, and its first word is no number.

    Each number is what `float` makes of it: digits with a point are a whole number over a power of
    ten, and if the number is below 2^53 that division is the only rounding (Clinger 1990). All
    other words go to `float`, one by one.

    **Returns:** `None` if a line has other words, or an id that has a sign or is 2^53 or more.
    What is right then, and which line is wrong, only reading line by line says.
    """
    text = b" " * _PAD + text
    chars = np.frombuffer(text, np.uint8)
    space = (chars == 32) | (chars - np.uint8(9) < 5)
    starts, ends = _runs(~space)
    width = 1 + ids + numbers
    if len(starts) != width * lines:
        return None
    newlines = np.flatnonzero(chars == 10)
    if (np.searchsorted(newlines, starts[::width]) != np.arange(lines)).any():
        return None

    digit = chars - np.uint8(48) < 10
    sign = (chars == 43) | (chars == 45)
    begin, stop = _runs(digit)
    size, whole = stop - begin, _whole(chars, begin, stop)
    # The digits before the point: as many as words that begin with digits, or with a sign and them.
    before = np.flatnonzero(space[begin - 1] | (sign[begin - 1] & space[begin - 2]))
    signed = sign[starts]
    word = np.flatnonzero(digit[starts + signed])
    # Those after it, if any: else the same digits again, and not counted.
    after = np.minimum(before + 1, len(begin) - 1)
    pointed = (chars[stop[before]] == 46) & (begin[after] == stop[before] + 1)
    after = np.where(pointed, after, before)
    decimals = np.where(pointed, size[after], 0)
    figures = size[before] + decimals
    known = (stop[after] == ends[word]) & (figures <= 18)
    known &= (size[before] <= 16) & (size[after] <= 16)
    decimals = np.where(known, decimals, 0)
    mantissa = whole[before] * _POWERS[decimals] + np.where(pointed, whole[after], 0)
    known &= mantissa < _EXACT

    natural = np.full(len(starts), -1, np.int64)
    natural[word] = np.where(known & ~pointed & ~signed[word], mantissa, -1)
    natural = natural.reshape(lines, width)[:, 1 : 1 + ids]
    if (natural < 0).any():
        return None
    values = np.zeros(len(starts))
    values[word] = mantissa / _POWERS[decimals].astype(np.float64)
    np.negative(values, out=values, where=chars[starts] == 45)
    others = np.ones(len(starts), bool)
    others[word] = ~known
    others.reshape(lines, width)[:, : 1 + ids] = False
    for place in np.flatnonzero(others):
        token = text[starts[place] : ends[place]]
        try:
            values[place] = float(token)
        except ValueError:
            return None
        if b"_" in token:  # Python reads 1_0 as ten
            return None
    return natural, values.reshape(lines, width)[:, 1 + ids :]


def _runs(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the mask begins to hold and where it ends to; false at both ends of itself."""
    edges = np.flatnonzero(mask[1:] != mask[:-1]) + 1
    return edges[::2], edges[1::2]


def _whole(chars: np.ndarray, begin: np.ndarray, stop: np.ndarray) -> np.ndarray:
    """Runs of up to 16 digits as numbers; others as anything."""
    size = stop - begin
    whole = _eight(chars, stop, np.minimum(size, 8))
    long = np.flatnonzero(size > 8)
    head = _eight(chars, stop[long] - 8, np.minimum(size[long] - 8, 8))
    whole[long] += 10**8 * head
    return whole


def _eight(chars: np.ndarray, stop: np.ndarray, size: np.ndarray) -> np.ndarray:
    """The last 1 to 8 digits before each `stop`: in one word of 64 bits, by three products.

    The word's first character is its lowest byte. Digits are added up in pairs, then in fours, then
    in eights, each sum in the place of its last digit.
    """
    every = np.lib.stride_tricks.as_strided(chars[:8].view("<u8"), (len(chars) - 7,), (1,))
    drop = (8 * (8 - size)).astype(np.uint64)
    word = (every[stop - 8] >> drop << drop) & np.uint64(0x0F0F0F0F0F0F0F0F)
    word = word * np.uint64(10) + (word >> np.uint64(8))
    mask = np.uint64(0x000000FF000000FF)
    high = (word & mask) * np.uint64(0x000F424000000064)
    low = ((word >> np.uint64(16)) & mask) * np.uint64(0x0000271000000001)
    return ((high + low) >> np.uint64(32)).astype(np.int64)
