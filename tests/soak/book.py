"""Book: what became of every request, as its caller saw it, and whatever was wrong."""

from array import array
from collections import Counter
from typing import Final

UNSENT: Final = 0
COMPLETE: Final = 1  # the upstream's answer, all of it
FAILED: Final = 2  # an error of the gateway
DENIED: Final = 3  # 401
BROKEN: Final = 4  # it broke off, visibly
LEFT: Final = 5  # the caller did not wait
UNREACHED: Final = 6  # it was sent behind another one, whose answer broke off

NAMES: Final = ("unsent", "complete", "failed", "denied", "broken off", "left", "unreached")
MOST_FAULTS: Final = 50  # kept


class Book:
    """Written by whoever sends, by number of the request."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.next = 0
        self.outcomes = bytearray(size)
        self.callers = array("H", bytes(2 * size))
        self.once = bytearray(size)  # it must not be sent to an upstream twice
        self.faults: list[str] = []
        self.fault_count = 0
        self.scenes: Counter[str] = Counter()
        self.tried = 0  # revoked credentials

    def take(self, until: int) -> int | None:
        """The next number; None when all below `until` are given out."""
        if self.next >= until:
            return None
        self.next += 1
        return self.next - 1

    def fault(self, number: int, text: str) -> None:
        """Something that must never be."""
        self.fault_count += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(f"request {number}: {text}")

    @property
    def totals(self) -> dict[str, int]:
        found = Counter(self.outcomes[: self.next])
        return {name: found[code] for code, name in enumerate(NAMES) if found[code]}
