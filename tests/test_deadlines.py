"""Deadlines: noticed a little late, never early, and never put off by who sets them anew."""

import asyncio

import pytest

from agentgate.deadlines import NEVER, RESOLUTION, Clock, Deadlines

pytestmark = pytest.mark.anyio


class Candle:
    """It burns until it is told to go out, and remembers when."""

    def __init__(self) -> None:
        self.deadline = NEVER
        self.out: float | None = None

    def expire(self) -> None:
        self.deadline = NEVER
        self.out = asyncio.get_running_loop().time()

    def shut(self) -> None:
        raise AssertionError


async def test_a_deadline_that_is_set_again_and_again_is_kept() -> None:
    """However often, and however close, or past, it is."""
    loop = asyncio.get_running_loop()
    deadlines, one, two = Deadlines(loop), Candle(), Candle()
    deadlines.watch(one)
    deadlines.watch(two)
    start = loop.time()
    while loop.time() < start + 5 * RESOLUTION:
        if one.out is None:
            deadlines.until(one, start)
        if two.out is None:
            deadlines.until(two, start + RESOLUTION / 2)
        await asyncio.sleep(RESOLUTION / 10)
    assert one.out is not None
    assert two.out is not None
    assert two.out >= start + RESOLUTION / 2


async def test_what_has_been_forgotten_does_not_expire() -> None:
    deadlines, one = Deadlines(asyncio.get_running_loop()), Candle()
    deadlines.watch(one)
    deadlines.set(one, 0)
    deadlines.forget(one)
    await asyncio.sleep(2 * RESOLUTION)
    assert one.out is None


def test_each_loop_has_its_own() -> None:
    clock = Clock()

    async def deadlines() -> Deadlines:
        assert clock.deadlines() is clock.deadlines()
        return clock.deadlines()

    assert asyncio.run(deadlines()) is not asyncio.run(deadlines())
