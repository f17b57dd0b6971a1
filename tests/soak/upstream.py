"""The upstream: a process that answers each request in the way its path asks for, most of them wrong.

It checks what it is sent: exactly one canary and one identity header that agree, no credential, and a body that is the
canary's alone. What is wrong is written to `upstream-faults` in its folder; what came and went, to the ledger.
"""

import asyncio
import random
import socket
import struct
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Final, cast

import httptools
import uvloop

from .words import AGENT, CANARY, EVENTS, MARK, STREAM, Ledger, event, filled, read_path

ROUND: Final = 40  # looks at the event streams, until every one has had its event
FOREIGN: Final = MARK + b"of-nobody"  # in what follows an answer, and must never be seen

_REASONS: Final = {200: b"OK", 204: b"No Content", 304: b"Not Modified"}


class State:
    """What all connections share."""

    def __init__(self, folder: Path, size: int) -> None:
        self.ledger = Ledger(folder / "ledger", size)
        self.faults = (folder / "upstream-faults").open("a", buffering=1)
        self.random = random.Random()
        self.streams: list[dict[Peer, None]] = [{} for _ in range(ROUND)]
        self.turn = 0

    def fault(self, text: str) -> None:
        self.faults.write(text + "\n")

    async def tick(self, seconds: float) -> None:
        """For ever: an event for each stream in so many seconds."""
        while True:
            await asyncio.sleep(seconds / ROUND)
            self.turn = (self.turn + 1) % ROUND
            for peer in list(self.streams[self.turn]):
                peer.next_event()


class Peer(asyncio.Protocol):
    """One connection of the gateway's."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.parser = httptools.HttpRequestParser(self)
        self.task: asyncio.Task[None] | None = None
        self.drained = asyncio.Event()
        self.drained.set()
        self.place: dict[Peer, None] = {}  # among the event streams

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(0)  # `drained`: the kernel has it

    def data_received(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError as error:
            if not self.transport.is_closing():
                self.state.fault(f"the gateway does not speak HTTP: {error!r}")
                self.transport.abort()

    def pause_writing(self) -> None:
        self.drained.clear()

    def resume_writing(self) -> None:
        self.drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.drained.set()
        self.place.pop(self, None)
        if self.task is not None:
            self.task.cancel()

    # What httptools calls.

    def on_message_begin(self) -> None:
        self.url = b""
        self.canaries: list[bytes] = []
        self.agents: list[bytes] = []
        self.body: list[bytes] = []

    def on_url(self, url: bytes) -> None:
        self.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name == CANARY:
            self.canaries.append(value)
        elif name.replace(b"_", b"-") == AGENT:
            self.agents.append(value)
        elif name == b"authorization":
            self.state.fault("a credential came through")

    def on_body(self, body: bytes) -> None:
        self.body.append(body)

    def on_message_complete(self) -> None:
        try:
            self.kind, self.number, self.size = read_path(self.url)
            (self.canary,), (self.agent,) = self.canaries, self.agents
            self.head_only = self.parser.get_method() == b"HEAD"
            if not self.canary.startswith(MARK + self.agent + b"-"):
                raise ValueError(f"{self.canary!r} came as {self.agent!r}")
            body = b"".join(self.body)
            if body != filled(self.canary, len(body)):
                raise ValueError(f"{self.canary!r} came with a body that is not its own")
        except ValueError as error:
            self.state.fault(str(error))
            self.transport.abort()
            return
        self.state.ledger.received(self.number)
        if self.kind == "at-once":
            self.finish(self.head(self.size) + self.content())
        elif self.kind == STREAM:
            self.stream()
        else:
            self.task = asyncio.get_running_loop().create_task(self.answer(_KINDS[self.kind]))

    # Answers.

    async def answer(self, how: "Callable[[Peer], Awaitable[None]]") -> None:
        await how(self)

    def head(self, length: int | None = None, *more: bytes, status: int = 200) -> bytes:
        """With a length, or in chunks."""
        framing = b"transfer-encoding: chunked" if length is None else b"content-length: %d" % length
        lines = [b"HTTP/1.1 %d %b" % (status, _REASONS[status]), *((framing,) if status == 200 else ()), *more]
        lines += [CANARY + b": " + self.canary, AGENT + b": " + self.agent]
        return b"\r\n".join(lines) + b"\r\n\r\n"

    def content(self) -> bytes:
        return b"" if self.head_only else filled(self.canary, self.size)

    def write(self, data: bytes) -> None:
        if self.transport.is_closing():
            raise asyncio.CancelledError
        self.transport.write(data)

    def finish(self, data: bytes) -> None:
        """Write the last bytes of an answer. It counts as answered when the kernel has them."""
        ledger = self.state.ledger
        ledger.answering(self.number, Ledger.BEGUN)
        if self.transport.is_closing():
            return
        self.transport.write(data)
        if self.drained.is_set():
            ledger.answering(self.number, Ledger.DONE)
        else:
            self.task = asyncio.get_running_loop().create_task(self._finished(self.number))

    async def _finished(self, number: int) -> None:
        await self.drained.wait()
        if not self.transport.is_closing():
            self.state.ledger.answering(number, Ledger.DONE)

    async def pause(self, least: float = 0.001, most: float = 0.03) -> None:
        await asyncio.sleep(self.state.random.uniform(least, most))
        await self.drained.wait()

    def reset(self) -> None:
        if self.transport.is_closing():
            return
        self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    def stream(self) -> None:
        self.place = min(self.state.streams, key=len)
        self.place[self] = None
        self.transport.write(self.head(None, b"content-type: text/event-stream"))
        self.next_event()

    def next_event(self) -> None:
        text = event(self.canary)
        self.transport.write(chunk(text))


def pieces(data: bytes, count: int) -> list[bytes]:
    step = len(data) // count + 1
    return [data[start : start + step] for start in range(0, len(data), step)]


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


# Whole answers.


async def late(peer: Peer) -> None:
    await peer.pause(0.05, 0.3)
    peer.finish(peer.head(peer.size) + peer.content())


async def slow(peer: Peer) -> None:
    head = peer.head(peer.size)
    *first, last = [*pieces(head, 3), *pieces(peer.content(), 4)]
    for part in first:
        peer.write(part)
        await peer.pause()
    peer.finish(last)


async def chunks(peer: Peer) -> None:
    peer.write(peer.head())
    if not peer.head_only:
        for part in pieces(peer.content(), 6):
            peer.write(chunk(part))
            await peer.pause(0, 0.01)
    peer.finish(b"" if peer.head_only else b"0\r\n\r\n")


async def events(peer: Peer) -> None:
    peer.write(peer.head(None, b"content-type: text/event-stream"))
    for _ in range(EVENTS):
        peer.write(chunk(event(peer.canary)))
        await peer.pause()
    peer.finish(b"0\r\n\r\n")


async def interim(peer: Peer) -> None:
    peer.write(b"HTTP/1.1 103 Early Hints\r\nlink: </" + FOREIGN + b">\r\n\r\n")
    await peer.pause()
    peer.finish(b"HTTP/1.1 102 Processing\r\n\r\n" + peer.head(peer.size) + peer.content())


async def until_close(peer: Peer) -> None:
    head = peer.head(0).replace(b"content-length: 0\r\n", b"")
    peer.write(head)
    first, last = pieces(peer.content() + b"\n", 2)  # it has two, whatever the size
    peer.write(first)
    await peer.pause()
    peer.state.ledger.answering(peer.number, Ledger.BEGUN)
    peer.write(last[:-1])
    await peer.pause()
    if not peer.transport.is_closing():
        peer.transport.close()  # which is the end of the answer
        peer.state.ledger.answering(peer.number, Ledger.DONE)


async def no_content(peer: Peer) -> None:
    peer.finish(peer.head(status=204))


async def not_modified(peer: Peer) -> None:
    peer.finish(peer.head(status=304))


async def then_close(peer: Peer) -> None:
    """The connection could be used again, it says; and is closed when it is."""
    peer.finish(peer.head(peer.size) + peer.content())
    await peer.pause(0, 0.05)
    if peer.kind != "until-close":  # of the next request, to whose answer this would be a clean end
        peer.transport.close()


async def then_reset_later(peer: Peer) -> None:
    number = peer.number
    peer.finish(peer.head(peer.size) + peer.content())
    await peer.pause(0.02, 0.2)
    if peer.number != number:  # what the next request is answered may be lost
        peer.state.ledger.answering(peer.number, Ledger.BEGUN)
    peer.reset()


async def then_surplus(peer: Peer) -> None:
    """Another answer behind the answer: for whom?"""
    own = peer.head(peer.size) + peer.content()
    foreign = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(FOREIGN), FOREIGN)
    peer.finish(own + foreign)


# No answers.


async def reset_at_once(peer: Peer) -> None:
    peer.reset()


async def reset_in_head(peer: Peer) -> None:
    peer.write(peer.head(peer.size)[:-3])
    await peer.pause()
    peer.reset()


async def reset_in_body(peer: Peer) -> None:
    peer.write(peer.head(peer.size + 1) + peer.content())
    await peer.pause()
    peer.reset()


async def reset_in_chunk(peer: Peer) -> None:
    peer.write(peer.head() + chunk(peer.content())[:-3])
    await peer.pause()
    peer.reset()


async def ends_in_head(peer: Peer) -> None:
    peer.write(peer.head(peer.size)[:-3])
    peer.transport.close()


async def ends_in_body(peer: Peer) -> None:
    """Half-closed: it would still read."""
    peer.write(peer.head(peer.size + 1) + peer.content())
    await peer.pause()
    peer.transport.write_eof()


async def ends_in_chunks(peer: Peer) -> None:
    """Between two chunks, where a careless reader sees an end."""
    peer.write(peer.head() + chunk(peer.content()))
    await peer.pause()
    peer.transport.write_eof()


async def garbage(peer: Peer) -> None:
    peer.write(peer.state.random.randbytes(peer.size + 10))


async def garbage_in_head(peer: Peer) -> None:
    peer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nbad\0name: x\r\n\r\nok")


async def bad_chunk(peer: Peer) -> None:
    peer.write(peer.head() + chunk(peer.content()) + b"xyz\r\n")


async def two_lengths(peer: Peer) -> None:
    peer.write(peer.head(peer.size, b"content-length: 1") + peer.content())


async def silent(peer: Peer) -> None:
    """Never a word."""


async def stalls(peer: Peer) -> None:
    peer.write(peer.head(peer.size + 1) + peer.content())


async def only_interim(peer: Peer) -> None:
    for _ in range(20):
        peer.write(b"HTTP/1.1 102 Processing\r\n\r\n")


_KINDS: Final[dict[str, Callable[[Peer], Awaitable[None]]]] = {
    how.__name__.replace("_", "-"): how
    for how in (
        *(late, slow, chunks, events, interim, until_close, no_content, not_modified),
        *(then_close, then_reset_later, then_surplus),
        *(reset_at_once, reset_in_head, reset_in_body, reset_in_chunk, ends_in_head, ends_in_body, ends_in_chunks),
        *(garbage, garbage_in_head, bad_chunk, two_lengths, silent, stalls, only_interim),
    )
}


async def main(port: int, folder: Path, size: int, seconds: float) -> None:
    """Serve until killed."""
    state = State(folder, size)
    server = await asyncio.get_running_loop().create_server(lambda: Peer(state), "127.0.0.1", port, backlog=4096)
    async with server:
        await state.tick(seconds)


if __name__ == "__main__":
    uvloop.run(main(int(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])))
