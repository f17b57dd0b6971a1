"""How a budget is counted: a sliding window of two counters, the same in memory and in Redis.

What was spent in the window before counts in proportion to how much of it the sliding window still covers. So a caller
cannot spend two budgets around the moment at which one window ends and the next begins.
"""

from math import floor
from typing import NamedTuple


class Window(NamedTuple):
    """What one bucket holds: what was spent in the window before and in this one, which ends in `left` of `seconds`."""

    previous: int
    current: int
    left: float
    seconds: int

    @property
    def used(self) -> int:
        """How much of the budget is spent now."""
        return floor(self.previous * self.left / self.seconds) + self.current

    def wait(self, limit: int) -> float:
        """Seconds after which one more will fit, if nothing else is spent meanwhile."""
        if self.used < limit:
            return 0.0
        if self.current < limit:  # so there was something before
            return self.left - (limit - self.current) * self.seconds / self.previous
        return self.left + self.seconds - limit * self.seconds / self.current
