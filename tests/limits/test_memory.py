"""Counting in memory: bounded, and no way to a fresh budget."""

from typing import Any

import pytest

from agentgate.limits import memory
from agentgate.limits.memory import MemoryStore

pytestmark = pytest.mark.anyio


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def someone(n: int) -> tuple[str, ...]:
    return "principal", f"p{n}"


def peer(n: int) -> tuple[str, ...]:
    return memory.PEER, f"10.0.0.{n}"


async def taken(store: MemoryStore, bucket: tuple[str, ...], limit: int = 1) -> bool:
    return (await store.take(bucket, limit))[0]


async def test_a_budget_comes_back_as_the_window_slides() -> None:
    clock = Clock()
    store = MemoryStore(10, clock)
    assert [await taken(store, someone(1), 2) for _ in range(3)] == [True, True, False]
    clock.now += 9.9
    assert not await taken(store, someone(1), 2)
    clock.now += 0.2  # the two of the window before count almost whole: one more fits
    assert [await taken(store, someone(1), 2) for _ in range(2)] == [True, False]
    clock.now += 20
    assert [await taken(store, someone(1), 2) for _ in range(3)] == [True, True, False]


async def test_a_look_spends_nothing_and_a_charge_asks_nobody() -> None:
    store = MemoryStore(10, Clock())
    for _ in range(3):
        assert (await store.look(someone(1))).used == 0
    store.charge(someone(1), 700)
    assert (await store.look(someone(1))).used == 700
    assert not await taken(store, someone(1), 700)
    assert await taken(store, someone(1), 701)


async def test_a_flood_of_keys_is_bounded_and_shares_one_bucket(monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "MAX_BUCKETS", 3)
    clock = Clock()
    store = MemoryStore(10, clock)
    assert [await taken(store, peer(n)) for n in range(3)] == [True, True, True]
    # The table is full: one more budget for all the others, and none for those who had theirs.
    assert [await taken(store, peer(n)) for n in range(100)] == [n == 3 for n in range(100)]
    # Those who are known have a table of their own.
    assert [await taken(store, someone(n)) for n in range(3)] == [True, True, True]
    sizes = [len(table._young) + len(table._old) for table in (store._peers, store._others)]
    assert sizes == [3, 3]


async def test_what_makes_room_holds_nothing(monkeypatch: Any) -> None:
    """Dropping buckets hands out no fresh budget: those who come again and again are judged as if there were room."""
    monkeypatch.setattr(memory, "MAX_BUCKETS", 4)
    clock = Clock()
    store, roomy = MemoryStore(10, clock), MemoryStore(10, clock)
    for n in range(3):
        assert await taken(store, peer(n), 2) == await taken(roomy, peer(n), 2)
    allowed = 0
    for tick in range(900):
        clock.now += 0.37
        for n in range(3):
            if (tick + n) % (3 + 5 * n) == 0:
                granted = await taken(store, peer(n), 2)
                assert granted == await taken(roomy, peer(n), 2)
                allowed += granted
        await taken(store, peer(100 + tick))  # a flood beside them
    assert 100 < allowed < 3 * 2 * 2 * 34


async def test_two_windows_after_a_flood_there_is_room_again(monkeypatch: Any) -> None:
    monkeypatch.setattr(memory, "MAX_BUCKETS", 3)
    clock = Clock()
    store = MemoryStore(10, clock)
    for n in range(10):
        await taken(store, peer(n))
    assert not await taken(store, peer(11))
    for _ in range(3):
        clock.now += 20
        await taken(store, peer(11))
    assert [await taken(store, peer(n)) for n in range(20, 22)] == [True, True]
