"""Durations in a space that does not grow: a log-linear histogram.

Up to 63 ms every millisecond is counted apart. Above, each power of two is divided into 32 parts of one width, and a
quantile is told as the middle of its part: within 1.6 % of the duration that was written. (HdrHistogram is the same
idea, with more to it.)
"""

from array import array
from collections.abc import Iterable
from itertools import accumulate
from typing import Final

_PARTS: Final = 32  # of each power of two
_SHIFT: Final = _PARTS.bit_length()
_MAX: Final = 2**31 - 1  # milliseconds; 24 days and longer are counted as that
_EMPTY: Final = bytes(8 * _PARTS * 27)
_FEW: Final = 32  # durations that are kept as they are: most histograms of a log with many names have no more


class Histogram:
    """How often each duration occurred, in at most 8 KiB."""

    __slots__ = ("_counts", "_few")

    def __init__(self) -> None:
        self._few: list[int] = []  # places, as long as there are few
        self._counts: array[int] | None = None

    def add(self, milliseconds: int) -> None:
        """Count one duration."""
        counts = self._counts
        if counts is not None:
            counts[_place(milliseconds)] += 1
        else:
            self._few.append(_place(milliseconds))
            if len(self._few) >= _FEW:
                self._spread()

    def merge(self, other: "Histogram") -> None:
        """Count all that another one has counted."""
        counts = self._spread()
        if other._counts is not None:
            self._counts = array("Q", map(int.__add__, counts, other._counts))
        else:
            for place in other._few:
                counts[place] += 1

    def quantile(self, share: float) -> float | None:
        """The duration that so large a share of them does not exceed, in milliseconds; None where there are none."""
        if self._counts is not None:
            places: Iterable[tuple[int, int]] = enumerate(self._counts)
            wanted = share * sum(self._counts)
        else:
            places = [(place, 1) for place in sorted(self._few)]
            wanted = share * len(self._few)
        if not wanted:
            return None
        seen = accumulate(places, lambda one, two: (two[0], one[1] + two[1]))
        return next(_middle(place) for place, number in seen if number >= wanted)

    def _spread(self) -> "array[int]":
        if self._counts is None:
            self._counts = array("Q", _EMPTY)
            for place in self._few:
                self._counts[place] += 1
            self._few = []
        return self._counts


def _place(milliseconds: int) -> int:
    if milliseconds < 2 * _PARTS:
        return milliseconds
    shift = min(milliseconds, _MAX).bit_length() - _SHIFT
    return _PARTS * shift + (min(milliseconds, _MAX) >> shift)


def _middle(place: int) -> float:
    if place < 2 * _PARTS:
        return place
    shift = place // _PARTS - 1
    return ((place - _PARTS * shift) << shift) + (1 << shift) / 2
