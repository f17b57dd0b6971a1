"""MemoryStore: budgets counted in this process, in two bounded tables, without a task, a lock or a thread.

`limits` has such a storage, too. It is not used here: it grows with every new key, and looks through all of them for
each request.
"""

import time
from collections.abc import Callable
from math import floor
from typing import Final

from .window import Window

MAX_BUCKETS: Final = 65_536
"""In each of the tables. Who comes when it is full shares one bucket with all others who do."""

Bucket = tuple[str, ...]
"""Whose budget: what kind of key, and its parts. Equal for no two callers that have to be told apart."""

PEER: Final = "peer"  # the kind of a bucket that anybody can have without proving anything


class _Counter:
    """What a Window is made of, but for the end of the window, which is a moment of the clock."""

    __slots__ = ("current", "end", "previous")

    def __init__(self, end: float) -> None:
        self.end = end
        self.previous = self.current = 0


class MemoryStore:
    """Counts what is spent of one limit. `clock` counts seconds."""

    def __init__(self, seconds: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._clock = clock
        # A flood of callers whom nobody knows does not make those who are known share a bucket.
        self._peers = _Table(seconds)
        self._others = _Table(seconds)

    async def take(self, bucket: Bucket, limit: int) -> tuple[bool, Window]:
        """Spend one, if one is left; and what the bucket holds then."""
        counter, left = self._look(bucket)
        granted = counter.current + floor(counter.previous * left / self._seconds) < limit
        if granted:
            counter.current += 1
        return granted, Window(counter.previous, counter.current, left, self._seconds)

    async def look(self, bucket: Bucket) -> Window:
        """What the bucket holds."""
        counter, left = self._look(bucket)
        return Window(counter.previous, counter.current, left, self._seconds)

    def charge(self, bucket: Bucket, amount: int) -> None:
        """Spend so much, whether it is left or not."""
        self._look(bucket)[0].current += amount

    def _look(self, bucket: Bucket) -> tuple["_Counter", float]:
        """The counter of a bucket as it is now, and how long its window is still going to be."""
        now, seconds = self._clock(), self._seconds
        counter = (self._peers if bucket[0] == PEER else self._others).counter(bucket, now)
        left = counter.end - now
        if left <= 0:
            if left <= -seconds:
                counter.end, counter.previous, left = now + seconds, 0, seconds
            else:
                counter.end, counter.previous, left = counter.end + seconds, counter.current, left + seconds
            counter.current = 0
        return counter, left


class _Table:
    """Counters by bucket, in two halves: what is asked for moves to the young one, and every two windows the old one is
    dropped. What nobody asked for in two windows has nothing left in it, so no budget is handed out anew by that."""

    def __init__(self, seconds: int) -> None:
        self._turn = 2 * seconds
        self._turned = 0.0
        self._young: dict[Bucket, _Counter] = {}
        self._old: dict[Bucket, _Counter] = {}
        self._crowd = _Counter(0.0)

    def counter(self, bucket: Bucket, now: float) -> _Counter:
        if now - self._turned >= self._turn:
            self._old, self._young, self._turned = self._young, {}, now
        found = self._young.get(bucket)
        if found is None:
            found = self._old.pop(bucket, None)
            if found is None:
                if len(self._young) + len(self._old) >= MAX_BUCKETS:
                    return self._crowd
                found = _Counter(now + self._turn / 2)
            self._young[bucket] = found
        return found
