"""The sliding window: what is used, and how long to wait, found by trying every moment."""

from math import floor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgate.limits.memory import MemoryStore
from agentgate.limits.window import Window


@pytest.mark.parametrize(
    ("previous", "current", "left", "used"),
    [
        (0, 0, 60.0, 0),
        (0, 7, 1.0, 7),
        (10, 0, 60.0, 10),  # the window has just begun: all of the one before still counts
        (10, 3, 30.0, 8),
        (10, 3, 0.5, 3),
    ],
)
def test_what_is_used(previous: int, current: int, left: float, used: int) -> None:
    assert Window(previous, current, left, 60).used == used


@pytest.mark.parametrize(
    ("previous", "current", "left", "wait"),
    [
        (0, 9, 60.0, 0.0),  # there is room
        (0, 10, 40.0, 40.0),  # when the window is over, and then at once
        (10, 0, 60.0, 0.0 + 60 - 10 * 6),  # the first part of the window before has to pass out of sight
        (10, 5, 30.0, 0.0),
        (20, 5, 30.0, 15.0),
        (0, 30, 10.0, 10 + 40),  # three times the budget, as tokens are spent: two thirds have to go
    ],
)
def test_how_long_to_wait(previous: int, current: int, left: float, wait: float) -> None:
    assert Window(previous, current, left, 60).wait(10) == pytest.approx(wait)


@given(
    previous=st.integers(0, 50),
    current=st.integers(0, 50),
    left=st.floats(0.001, 10, allow_subnormal=False),
    limit=st.integers(1, 20),
)
def test_the_wait_is_no_promise_that_is_broken(previous: int, current: int, left: float, limit: int) -> None:
    """Whoever comes when Retry-After is over finds room, and whoever comes well before does not."""
    seconds = 10
    window = Window(previous, current, left, seconds)
    if window.used < limit:
        assert window.wait(limit) == 0.0
        return

    def later(after: float) -> int:
        if after < left:
            return floor(previous * (left - after) / seconds) + current
        after -= left
        return floor(current * max(0.0, seconds - after) / seconds)

    wait = window.wait(limit)
    assert later(floor(wait) + 1) < limit
    assert wait < 0.01 or later(wait - 0.01) >= limit or wait == pytest.approx(left)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.anyio
@given(steps=st.lists(st.floats(0, 25), min_size=1, max_size=60), limit=st.integers(1, 5))
async def test_it_is_a_budget_and_what_has_come_back_since(steps: list[float], limit: int) -> None:
    """However requests are spread: in a span of time, one budget is spent, and as much of another as fits into the
    span; one more where the fractions of the window before are cut off."""
    clock = Clock()
    store = MemoryStore(10, clock)
    allowed: list[float] = []
    for step in steps:
        clock.now += step
        for _ in range(limit + 1):
            granted, window = await store.take(("principal", "a"), limit)
            assert window.used <= limit
            if granted:
                allowed.append(clock.now)
    for first, begin in enumerate(allowed):
        for last, end in enumerate(allowed[first:], first):
            assert last - first + 1 <= limit * (1 + (end - begin) / 10) + 1
        assert allowed.count(begin) <= limit
