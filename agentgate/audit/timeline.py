"""Counts over time, minute by minute, and in longer steps where a log covers more than there is room for."""

from typing import Final

MAX_MOMENTS: Final = 3000  # kept; steps get longer beyond

STEPS: Final = (1, 5, 15, 30, 60, 180, 360, 720, 1440, 10_080, 50_400, 504_000, 5_040_000, 50_400_000)
"""Minutes. Each divides the next one, and the last leads from the year 1 to 9999 in less than `MAX_MOMENTS`."""


class Moment:
    """Requests of one step."""

    __slots__ = ("calls", "failed", "refused", "shadow")

    def __init__(self) -> None:
        self.calls = self.refused = self.shadow = self.failed = 0

    def add(self, other: "Moment") -> None:
        self.calls += other.calls
        self.refused += other.refused
        self.shadow += other.shadow
        self.failed += other.failed


class Timeline:
    """Moments by the minute since 1970 that they begin with; `step` is their length in minutes."""

    def __init__(self) -> None:
        self.step = STEPS[0]
        self.moments: dict[int, Moment] = {}
        self._minute = -(2**63)  # the one of the last call: logs are in order
        self._moment = Moment()

    def at(self, minute: int) -> Moment:
        """The moment that a minute is in, to be counted in."""
        if minute != self._minute:
            start = minute - minute % self.step
            moment = self.moments.get(start)
            if moment is None:
                if len(self.moments) >= MAX_MOMENTS:
                    self._widen()
                    return self.at(minute)
                moment = self.moments[start] = Moment()
            self._minute, self._moment = minute, moment
        return self._moment

    def spread(self, most: int) -> tuple[int, list[tuple[int, Moment]]]:
        """The step in minutes, and every moment from the first to the last, at most about so many of them."""
        if not self.moments:
            return self.step, []
        first, last = min(self.moments), max(self.moments)
        step = next((step for step in STEPS if step >= self.step and (last - first) // step < most), STEPS[-1])
        found = _gathered(self.moments, step)
        starts = range(first - first % step, last + 1, step)
        return step, [(start, found.get(start) or Moment()) for start in starts]

    def _widen(self) -> None:
        self.step = STEPS[STEPS.index(self.step) + 1]
        self.moments = _gathered(self.moments, self.step)
        self._minute = -(2**63)


def _gathered(moments: dict[int, Moment], step: int) -> dict[int, Moment]:
    found: dict[int, Moment] = {}
    for start, moment in moments.items():
        found.setdefault(start - start % step, Moment()).add(moment)
    return found
