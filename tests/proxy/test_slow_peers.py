"""Slow peers: whoever does not read makes the other one wait, and nothing piles up between them; nor does a queue."""

import asyncio

import pytest

from agentgate import Gate, HTTPBackend, PoolTransport, Timeouts
from agentgate.proxy.connection import HIGH_WATER
from agentgate.respond import Message
from agentgate.testing import Exchange, Recorder, drive, http_scope

from .upstream_server import OK, Peer, serving, until

pytestmark = pytest.mark.anyio

CHUNK = bytes(64 * 1024)
SOCKETS = 24 * 1024 * 1024  # what the kernel may hold of both directions of a connection, at most
PATIENT = Timeouts(client=None, write=None)


async def settled(count: list[int]) -> int:
    """The bytes counted, once they have stopped growing."""
    before = -1
    while sum(count) != before:
        before = sum(count)
        await asyncio.sleep(0.1)
    return before


async def test_an_upstream_waits_for_a_client_that_does_not_read() -> None:
    """What the gateway holds itself is one chunk in hand and one that waits, however much there is."""
    sent: list[int] = []
    held: list[Message] = []
    reads = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        for _ in range(4 * SOCKETS // len(CHUNK)):
            peer.send(CHUNK)
            await peer.writer.drain()
            sent.append(len(CHUNK))

    said: list[Message] = [{"type": "http.request"}]

    async def receive() -> Message:
        if not said:
            await asyncio.Event().wait()
        return said.pop()

    async def send(message: Message) -> None:
        held.append(message)
        if not reads.is_set():
            await reads.wait()

    async with serving(script) as server:
        backend = HTTPBackend(server.origin, timeouts=PATIENT)
        task = asyncio.create_task(Gate(backend.app, observe=[Recorder()])(http_scope(), receive, send))
        await until(lambda: bool(held))
        assert await settled(sent) < SOCKETS
        assert sum(len(message.get("body", b"")) for message in held) <= HIGH_WATER + len(CHUNK) * 4
        reads.set()
        await task
        await backend.aclose()
    exchange = Exchange(held)
    assert exchange.complete
    assert len(exchange.body) == 4 * SOCKETS


async def test_a_client_waits_for_an_upstream_that_does_not_read() -> None:
    pulled: list[int] = []
    reads = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await reads.wait()
        await peer.exactly(4 * SOCKETS)
        peer.send(OK)

    async def receive() -> Message:
        await asyncio.sleep(0)
        if sum(pulled) >= 4 * SOCKETS:
            await asyncio.Event().wait()
        pulled.append(len(CHUNK))
        return {"type": "http.request", "body": CHUNK, "more_body": sum(pulled) < 4 * SOCKETS}

    got: list[Message] = []

    async def send(message: Message) -> None:
        got.append(message)

    async with serving(script) as server:
        backend = HTTPBackend(server.origin, timeouts=PATIENT)
        scope = http_scope("PUT", headers={"content-length": str(4 * SOCKETS)})
        task = asyncio.create_task(Gate(backend.app, observe=[Recorder()])(scope, receive, send))
        await until(lambda: bool(pulled))
        assert await settled(pulled) < SOCKETS
        reads.set()
        await task
        await backend.aclose()
    assert Exchange(got).status == 200


async def test_a_queue_that_is_full_is_told_when_to_come_back() -> None:
    """At once: 503 and `Retry-After`. Those in the queue have their turn, or give up in time."""
    answer = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.head()
            await answer.wait()
            peer.send(OK)

    recorder = Recorder()
    async with serving(script) as server:
        pool = PoolTransport(max_connections=1, max_waiting=2)
        backend = HTTPBackend(server.origin, transport=pool)
        hasty = HTTPBackend(server.origin, transport=pool, timeouts=Timeouts(pool=0.05))
        app, soon = (Gate(one.app, observe=[recorder]) for one in (backend, hasty))
        served = [asyncio.create_task(drive(app, http_scope())) for _ in range(2)]
        await until(lambda: pool.stats.waiting == 1)
        gives_up = asyncio.create_task(drive(soon, http_scope()))
        await until(lambda: pool.stats.waiting == 2)
        refused = await drive(app, http_scope())
        assert (refused.status, refused.text) == (503, "upstream call failed")
        assert refused.headers["retry-after"] == "1"
        late = await gives_up
        assert (late.status, late.headers["retry-after"]) == (503, "1")
        assert pool.stats.waiting == 1
        answer.set()
        assert [exchange.text for exchange in await asyncio.gather(*served)] == ["ok", "ok"]
        await backend.aclose()
    assert recorder.records[0].refusal is not None
    assert recorder.records[0].refusal.detail == "PoolTimeout"
