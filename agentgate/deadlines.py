"""One timer for everything that must not last for ever.

Setting a deadline is an attribute and a comparison; a timer per operation (`asyncio.timeout`, `wait_for`) costs more
than parsing a response does. The price is precision: a deadline is noticed up to `RESOLUTION` seconds late, and never
early.
"""

import asyncio
from typing import Final, Protocol

NEVER: Final = float("inf")
RESOLUTION: Final = 0.02  # seconds between two looks at the clock, at least


class Mortal(Protocol):
    """What can run out of time. It is registered with `watch` for as long as it lives."""

    deadline: float

    def expire(self) -> None: ...

    def shut(self) -> None: ...


class Deadlines:
    """Everything alive in one place, and the timer, armed only while something of it has a deadline."""

    __slots__ = ("_timer", "_wake", "alive", "loop")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.alive: set[Mortal] = set()
        self.loop = loop
        self._timer: asyncio.TimerHandle | None = None
        self._wake = NEVER

    def watch(self, mortal: Mortal) -> None:
        self.alive.add(mortal)

    def forget(self, mortal: Mortal) -> None:
        self.alive.discard(mortal)

    def set(self, mortal: Mortal, seconds: float | None) -> None:
        """Expire it `seconds` from now, unless that is set anew before; None: never."""
        if seconds is None:
            mortal.deadline = NEVER
            return
        self.until(mortal, self.loop.time() + seconds)

    def until(self, mortal: Mortal, moment: float) -> None:
        """Expire it at this moment of the loop's clock, unless that is set anew before."""
        mortal.deadline = moment
        if moment < self._wake:
            self._arm(moment)

    def stop(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake = NEVER

    def _arm(self, deadline: float) -> None:
        wake = max(deadline, self.loop.time() + RESOLUTION)
        if wake >= self._wake:
            return  # to put it off each time that a deadline is set anew would be for ever
        self.stop()
        self._wake = wake
        self._timer = self.loop.call_at(self._wake, self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        self._wake = NEVER
        now = self.loop.time()
        for mortal in [mortal for mortal in self.alive if mortal.deadline <= now]:
            mortal.expire()
        earliest = min((mortal.deadline for mortal in self.alive), default=NEVER)
        if earliest < self._wake:
            self._arm(earliest)


class Clock:
    """The deadlines of whichever loop runs."""

    __slots__ = ("_deadlines",)

    def __init__(self) -> None:
        self._deadlines: Deadlines | None = None

    def deadlines(self) -> Deadlines:
        loop = asyncio.get_running_loop()
        if self._deadlines is None or self._deadlines.loop is not loop:
            self._deadlines = Deadlines(loop)
        return self._deadlines
