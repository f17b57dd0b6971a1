"""WebSockets through a gateway whose upstream refuses, breaks off, breaks the rules or does nothing at all."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agentgate import Reason

from .servers import Peer, Upstream
from .websocket_peers import (
    World,
    answer,
    between,
    closed,
    every_server,
    frame,
    handshake,
    scripted,
)

pytestmark = pytest.mark.anyio


BROKEN = {
    "is gone": b"",
    "has a code that no frame can have": frame(8, (1006).to_bytes(2)),
    "has a code of nobody": frame(8, (999).to_bytes(2)),
    "has a close of one byte": frame(8, b"\x03"),
    "has a reason that is no text": frame(8, (1000).to_bytes(2) + b"\xff"),
    "says text that is none": frame(1, b"\xff\xfe"),
    "continues nothing": frame(0, b"x"),
    "begins a message in another": frame(1, b"a", fin=False) + frame(1, b"b"),
    "compresses what it may not": frame(1, b"\xaa\x00", flags=0x40),
    "has an opcode of nobody": frame(3, b"x"),
    "masks": b"\x81\x81\x00\x00\x00\x00x",
    "fragments a ping": frame(9, b"x", fin=False),
    "has a large ping": frame(9, b"x" * 126),
    "announces too much": b"\x82\x7f" + (2**62).to_bytes(8),
    "sends too much": frame(2, b"x" * 40_000),
    "sends too much in pieces": b"".join([frame(2, b"x" * 9000, fin=False)] + [frame(0, b"x" * 9000, fin=False)] * 4),
}


@pytest.mark.parametrize("what", BROKEN)
async def test_an_upstream_that(what: str) -> None:
    """Whatever it is, the client is told no more than that the upstream has failed."""

    async def script(peer: Peer) -> None:
        await handshake(peer)
        peer.send(frame(1, b"hello") + BROKEN[what])
        if BROKEN[what]:
            await peer.rest()

    async with (
        scripted(script) as found,
        between(found.port, max_message_bytes=32_768) as world,
        world.connect() as client,
    ):
        assert await client.recv() == "hello"
        assert await closed(client) == (1011, "upstream connection failed")
        record = await world.record()
        assert record.reason is Reason.UPSTREAM_FAILURE
        assert record.error is not None
        assert record.error == f"upstream call failed: {record.attempts[-1].error}"


async def test_pieces_and_pings_of_the_upstream() -> None:
    async def script(peer: Peer) -> None:
        await handshake(peer)
        peer.send(frame(1, b"a", fin=False) + frame(9, b"ping") + frame(0, b"", fin=False) * 50_000)
        peer.send("é".encode()[:1].join([frame(0, b"b", fin=False), b""])[:0] + frame(0, "é".encode()[:1], fin=False))
        peer.send(frame(0, "é".encode()[1:]) + frame(8))
        pong = await peer.reader.readexactly(2 + 4 + 4)
        mask = pong[2:6]
        assert (pong[0], bytes(a ^ b for a, b in zip(pong[6:], mask, strict=True))) == (0x8A, b"ping")

    async with scripted(script) as found, between(found.port) as world, world.connect() as client:
        assert await client.recv() == "aé"
        assert await closed(client) == (1000, "")


@every_server
@pytest.mark.parametrize("status", ["302 Found", "401 Unauthorized", "404 Not Found", "503 Unavailable"])
async def test_a_refusal_of_the_upstream_is_the_client_s(ws: str, status: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.message()
        peer.send(answer(status, "X-Why: because", "Connection: x-hop", "X-Hop: 1", body="no, thanks"))
        await peer.rest()

    async with scripted(script) as found, between(found.port, ws) as world:
        with pytest.raises(InvalidStatus) as caught:
            await world.connect()
        response = caught.value.response
        assert (response.status_code, response.body) == (int(status[:3]), b"no, thanks")
        assert response.headers["x-why"] == "because"
        assert "x-hop" not in response.headers
        assert found.accepted == 1  # nobody has followed it anywhere
        assert (await world.record()).status == int(status[:3])


NO_HANDSHAKES: dict[str, tuple[int, Callable[[Peer], Awaitable[None]]]] = {}


def no_handshake(status: int) -> Callable[[Callable[[Peer], Awaitable[None]]], Callable[[Peer], Awaitable[None]]]:
    def keep(script: Callable[[Peer], Awaitable[None]]) -> Callable[[Peer], Awaitable[None]]:
        NO_HANDSHAKES[script.__name__.replace("_", " ")] = status, script
        return script

    return keep


@no_handshake(502)
async def another_accept(peer: Peer) -> None:
    await handshake(peer, accept="s3pPLMBiTxaQ9kYGzzhZRbK+xOo=")
    await peer.rest()


@no_handshake(502)
async def ok_instead(peer: Peer) -> None:
    await peer.message()
    peer.send(answer("200 OK", "Upgrade: websocket", "Connection: Upgrade", body="hello"))
    await peer.rest()


@no_handshake(502)
async def no_upgrade(peer: Peer) -> None:
    await peer.message()
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
    await peer.rest()


@no_handshake(502)
async def compression_unasked(peer: Peer) -> None:
    await handshake(peer, "Sec-WebSocket-Extensions: permessage-deflate")
    await peer.rest()


@no_handshake(502)
async def a_subprotocol_unasked(peer: Peer) -> None:
    await handshake(peer, "Sec-WebSocket-Protocol: other")
    await peer.rest()


@no_handshake(502)
async def two_subprotocols(peer: Peer) -> None:
    await handshake(peer, "Sec-WebSocket-Protocol: a, a")
    await peer.rest()


@no_handshake(502)
async def a_split_header(peer: Peer) -> None:
    await handshake(peer, "X-Split: a\rb")
    await peer.rest()


@no_handshake(502)
async def no_http(peer: Peer) -> None:
    await peer.message()
    peer.send(b"SSH-2.0-OpenSSH\r\n\r\n")
    await peer.rest()


@no_handshake(502)
async def an_endless_header(peer: Peer) -> None:
    await peer.message()
    peer.send(b"HTTP/1.1 101 Switching Protocols\r\nX: " + b"x" * 200_000)
    await peer.rest()


@no_handshake(502)
async def the_end(peer: Peer) -> None:
    await peer.message()


@no_handshake(504)
async def silence(peer: Peer) -> None:
    await peer.message()
    await peer.rest()


@pytest.mark.parametrize("what", NO_HANDSHAKES)
async def test_no_handshake(what: str) -> None:
    status, script = NO_HANDSHAKES[what]
    async with scripted(script) as found, between(found.port, timeout=0.3) as world:
        with pytest.raises(InvalidStatus) as caught:
            await world.connect(subprotocols=["a"])
        assert caught.value.response.status_code == status
        text = {502: b"upstream call failed", 504: b"upstream call timeout"}[status]
        assert caught.value.response.body == text
        assert (await world.record()).status == status


@every_server
async def test_a_client_that_does_not_wait_for_the_answer(ws: str) -> None:
    """The upstream is not kept waiting either."""
    asked, left = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        asked.set()
        await peer.rest()
        left.set()

    async with scripted(script) as found, between(found.port, ws) as world:
        connecting = asyncio.create_task(_connect(world))
        await asked.wait()
        connecting.cancel()
        await left.wait()
        assert (await world.record()).error == "client disconnected"


async def _connect(world: World) -> None:
    await world.connect()


async def test_nobody_is_there() -> None:
    with Upstream().listener as listener:
        port = listener.getsockname()[1]
    async with between(port) as world:
        with pytest.raises(InvalidStatus) as caught:
            await world.connect()
        assert caught.value.response.status_code == 503


async def test_an_upstream_that_reads_nothing() -> None:
    async def script(peer: Peer) -> None:
        await handshake(peer)
        await asyncio.Event().wait()

    async with scripted(script) as found, between(found.port, timeout=0.5) as world:
        async with world.connect(compression=None) as client:
            with contextlib.suppress(ConnectionClosed):
                while True:
                    await client.send(b"x" * 65536)
            assert client.close_code == 1011
        assert (await world.record()).error == "upstream call failed: TimeoutError"


async def test_an_upstream_that_reads_slowly_does_read() -> None:
    """The time for a write begins anew with every byte that is taken."""
    size = 8 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await handshake(peer)
        for _ in range(16):
            await peer.reader.readexactly(size // 16)
            await asyncio.sleep(0.05)
        peer.send(frame(1, b"read") + frame(8))

    async with (
        scripted(script) as found,
        between(found.port, timeout=0.3) as world,
        world.connect(compression=None) as client,
    ):
        await client.send(b"x" * size)
        assert await client.recv() == "read"


async def test_an_upstream_that_answers_no_ping(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgate.proxy.websocket_upstream.PING_SECONDS", 0.1)

    async def script(peer: Peer) -> None:
        await handshake(peer)
        await peer.rest()

    async with scripted(script) as found, between(found.port) as world, world.connect() as client:
        assert await closed(client) == (1011, "upstream connection failed")
