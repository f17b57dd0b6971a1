"""Durations in a space that does not grow: a log-linear histogram.

Up to 63 ms every millisecond is counted apart. Above, each power of two is divided into 32 parts of one width, and a
quantile is told as the middle of its part: within 1.6 % of the duration that was written. (HdrHistogram is the same
idea, with more to it.)
"""

from array import array
from itertools import accumulate
from typing import Final

_PARTS: Final = 32  # of each power of two
_SHIFT: Final = _PARTS.bit_length()
_MAX: Final = 2**31 - 1  # milliseconds; 24 days and longer are counted as that
_EMPTY: Final = bytes(8 * _PARTS * 28)


def new() -> "array[int]":
    """Counts, all 0."""
    return array("Q", _EMPTY)


def place(milliseconds: int) -> int:
    """Where a duration is counted."""
    if milliseconds < 2 * _PARTS:
        return milliseconds
    shift = min(milliseconds, _MAX).bit_length() - _SHIFT
    return _PARTS * shift + (min(milliseconds, _MAX) >> shift)


def quantile(counts: "array[int]", share: float) -> float | None:
    """The duration that so large a share of them does not exceed, in milliseconds; None where there are none."""
    wanted = share * sum(counts)
    if not wanted:
        return None
    number = next(number for number, seen in enumerate(accumulate(counts)) if seen >= wanted)
    if number < 2 * _PARTS:
        return number
    shift = number // _PARTS - 1
    return float(((number - _PARTS * shift) << shift) + (1 << shift) / 2)
