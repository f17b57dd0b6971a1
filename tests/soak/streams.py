"""Streams: thousands of event streams, all open and all alive at once; then half of the callers leave, and the upstream
dies under the others."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .book import BROKEN, DENIED, LEFT, Book
from .callers import Callers
from .client import Answer, Client, connect
from .processes import Gateway, Upstream
from .traffic import Errand
from .words import STREAM, event

AT_ONCE: Final = 100  # being opened


@dataclass
class Open:
    """One stream that has begun."""

    errand: Errand
    client: Client
    answer: Answer

    @property
    def events(self) -> int:
        return self.answer.size // len(event(self.errand.canary))


class Streams:
    """The streams of one run. `rounds`: how many events each must have had while all were open, one in so many
    `seconds`."""

    def __init__(
        self, book: Book, callers: Callers, gateways: Sequence[Gateway], *, count: int, rounds: int, seconds: float
    ) -> None:
        self.book = book
        self.callers = callers
        self.gateways = gateways
        self.count = count
        self.rounds = rounds
        self.seconds = seconds
        self.streams: list[Open] = []
        self.opening = 0.0  # seconds
        self._random = random.Random(count)

    async def open(self) -> None:
        began = time.monotonic()
        waiting = iter(range(self.count))

        async def some() -> None:
            for place in waiting:
                await self._open(place)

        async with asyncio.TaskGroup() as group:
            for _ in range(AT_ONCE):
                group.create_task(some())
        self.opening = time.monotonic() - began

    async def _open(self, place: int) -> None:
        number = self.book.take(self.book.size)
        assert number is not None, "the book has room for all streams"
        caller = self._random.choice(self.callers.everybody)
        self.book.callers[number] = int(caller.id[1:])
        errand = Errand(number, caller, STREAM, 0)
        client = await connect(self.gateways[place % len(self.gateways)].port)
        answer = client.ask(errand.head())
        await answer.begun(60.0)
        if not answer.size:
            why = errand.refused() if answer.status == 401 else f"status {answer.status}"
            self.book.fault(number, f"a stream that did not begin: {why}")
            self.book.outcomes[number] = DENIED if answer.status == 401 else BROKEN
            return
        self.streams.append(Open(errand, client, answer))

    async def stay(self) -> None:
        """Until every stream has had its events, all of them being open."""
        had = [stream.events for stream in self.streams]
        give_up = time.monotonic() + self.seconds * (self.rounds + 2) + 60.0
        while time.monotonic() < give_up:
            await asyncio.sleep(0.2)
            if all(one.events >= was + self.rounds for one, was in zip(self.streams, had, strict=True)):
                return
        for one, was in zip(self.streams, had, strict=True):
            if one.events < was + self.rounds:
                self.book.fault(one.errand.number, f"a stream with {one.events - was} events in all the time")

    @property
    def alive(self) -> int:
        return sum(not stream.answer.over.done() for stream in self.streams)

    def leave(self) -> None:
        """Half of the callers go, one way or the other."""
        for stream in self.streams[::2]:
            if stream.answer.over.done():
                self.book.fault(stream.errand.number, "a stream that has ended by itself")
            self._check(stream)
            stream.client.close(reset=self._random.random() < 0.5)
            self.book.outcomes[stream.errand.number] = LEFT

    async def break_off(self, upstream: Upstream) -> None:
        """The upstream dies, and the other half must see that their streams are not over, but broken."""
        upstream.kill()
        rest = self.streams[1::2]
        if rest:
            await asyncio.wait([stream.answer.over for stream in rest], timeout=60.0)
        for stream in rest:
            if not stream.answer.over.done():
                self.book.fault(stream.errand.number, "a stream without its upstream, and nobody told")
            elif stream.answer.complete:
                self.book.fault(stream.errand.number, "a stream that broke off with a clean end")
            self._check(stream)
            stream.client.close()
            self.book.outcomes[stream.errand.number] = BROKEN

    def _check(self, stream: Open) -> None:
        errand, answer = stream.errand, stream.answer
        if answer.canaries != [errand.canary] or answer.agents != [errand.caller.id.encode()]:
            self.book.fault(errand.number, f"{errand.caller.id} got {answer.canaries} of {answer.agents}")
        if not (event(errand.canary) * (stream.events + 1)).startswith(b"".join(answer.body)):
            self.book.fault(errand.number, "a stream with an event that is not its own")
