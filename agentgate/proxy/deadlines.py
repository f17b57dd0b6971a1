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
    """Everything alive in one pool, and the timer that is armed only while something of it has a deadline."""

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
        mortal.deadline = deadline = self.loop.time() + seconds
        if deadline < self._wake:
            self._arm(deadline)

    def stop(self) -> None:
        """Disarm the timer."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake = NEVER

    def _arm(self, deadline: float) -> None:
        self.stop()
        self._wake = max(deadline, self.loop.time() + RESOLUTION)
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
