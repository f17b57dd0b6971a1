"""WebSockets through a gateway: real servers, clients and upstreams on loopback, well behaved and otherwise."""

import asyncio
import json
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.asyncio.server import ServerConnection
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.typing import Origin, Subprotocol

from agentgate import (
    APIKeyAuth,
    HTTPBackend,
    Key,
    Reason,
    Route,
    WebSockets,
    create_gateway,
    new_key,
)

from .servers import Peer, connected, until
from .websocket_peers import (
    ALICE,
    BEARER,
    between,
    closed,
    every_server,
    messages,
    scripted,
    serving,
    upstream,
)

pytestmark = pytest.mark.anyio


async def echo(connection: ServerConnection) -> None:
    async for message in connection:
        await connection.send(message)


@every_server
async def test_messages_pass_both_ways_as_they_are(ws: str) -> None:
    seen: list[Any] = []

    async def handler(connection: ServerConnection) -> None:
        assert connection.request is not None
        seen.append((connection.request.path, dict(connection.request.headers.raw_items()), connection.subprotocol))
        await echo(connection)

    async with (
        upstream(handler, subprotocols=[Subprotocol("b"), Subprotocol("c")]) as port,
        between(port, ws) as world,
        world.connect("/chat?x=1%2F", subprotocols=["a", "b"]) as client,
    ):
        for message in ("text", b"binary", "", b"", "é€" * 70_000, b"\x00\xff" * 300_000):
            await client.send(message)
            assert await client.recv() == message
        await client.send(["in ", "several ", "frames"])
        assert await client.recv() == "in several frames"
        assert client.subprotocol == "b"
        await client.close(4321, "enough")
        record = await world.record()
    ((path, headers, subprotocol),) = seen
    assert (path, subprotocol) == ("/up/chat?x=1%2F", "b")
    headers = {name.lower(): value for name, value in headers.items()}
    assert headers["host"] == f"127.0.0.1:{port}"
    assert headers["sec-websocket-protocol"] == "a, b"
    assert "authorization" not in headers
    assert "sec-websocket-extensions" not in headers
    assert (record.status, record.error, record.refusal) == (101, None, None)
    assert record.endpoint == f"127.0.0.1:{port}"
    size = len("é€".encode()) * 70_000 + 600_000 + len("textbinaryin several frames")
    assert (record.details["websocket.bytes_received"], record.details["websocket.close_code"]) == (size, 4321)


@every_server
@pytest.mark.parametrize(
    ("said", "heard"),
    [
        ((1000, "done"), (1000, "done")),
        ((1001, ""), (1001, "")),
        ((1008, "é" * 61), (1008, "é" * 61)),
        ((1013, "later"), (1013, "later")),
        ((3000, ""), (3000, "")),
        ((4999, "own"), (4999, "own")),
    ],
)
async def test_the_upstream_s_goodbye_reaches_the_client(
    ws: str, said: tuple[int, str], heard: tuple[int, str]
) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.send("last words")
        await connection.close(*said)

    async with upstream(handler) as port, between(port, ws) as world, world.connect() as client:
        assert await client.recv() == "last words"
        assert await closed(client) == heard
        assert (await world.record()).error is None


@every_server
@pytest.mark.parametrize(
    ("said", "heard"),
    [((1000, "done"), (1000, "done")), ((1001, ""), (1001, "")), ((4999, "own"), (4999, "own")), (None, (1005, ""))],
)
async def test_the_client_s_goodbye_reaches_the_upstream(
    ws: str, said: tuple[int, str] | None, heard: tuple[int, str]
) -> None:
    told: asyncio.Queue[tuple[int | None, str | None]] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        assert await connection.recv() == "last words"
        await connection.wait_closed()
        told.put_nowait((connection.close_code, connection.close_reason))

    async with upstream(handler) as port, between(port, ws) as world:
        async with world.connect() as client:
            await client.send("last words")
            if said is None:
                client.protocol.send_close()
                client.transport.write(b"".join(client.protocol.data_to_send()))
                await client.wait_closed()
            else:
                await client.close(*said)
        code, reason = await told.get()
        assert (code, reason) == (heard if ws == "websockets-sansio" else (code, reason))
        assert code in (heard[0], 1005)  # wsproto's integration keeps the reason to itself
        assert (await world.record()).error is None


@every_server
async def test_a_client_that_is_gone_is_gone_for_the_upstream(ws: str) -> None:
    told: asyncio.Queue[int | None] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        try:
            while True:  # it goes on talking
                await connection.send("x" * 1000)
        except ConnectionClosed:
            told.put_nowait(connection.close_code)

    async with upstream(handler) as port, between(port, ws) as world:
        client = await world.connect(max_queue=1)
        await client.recv()
        client.transport.abort()
        assert await told.get() in (1001, 1005)
        assert (await world.record()).status == 101


@pytest.mark.parametrize(
    ("path", "options", "status"),
    [
        ("/chat", {"additional_headers": {}}, 401),
        ("/chat", {"additional_headers": {"authorization": f"Bearer {new_key()}"}}, 401),
        ("/no", {}, 403),
        ("/chat", {"origin": Origin("https://evil.example")}, 403),
        ("/chat", {"origin": Origin("http://app.example")}, 403),
        ("/chat", {"origin": Origin("https://app.example.evil.example")}, 403),
        ("/chat", {"origin": Origin("null")}, 403),
    ],
)
async def test_who_may_not_does_not_reach_the_upstream(path: str, options: dict[str, Any], status: int) -> None:
    async def script(peer: Peer) -> None:
        raise AssertionError("it was asked")

    async with scripted(script) as found, between(found.port, origins=["https://app.example"]) as world:
        with pytest.raises(InvalidStatus) as caught:
            await world.connect(path, **options)
        assert caught.value.response.status_code == status
        assert found.accepted == 0


@pytest.mark.parametrize("origin", ["https://app.example", "HTTPS://APP.example:443", "http://localhost:3000"])
async def test_known_pages_may(origin: str) -> None:
    async with (
        upstream(echo) as port,
        between(port, origins=["https://app.example"]) as world,
        world.connect(origin=Origin(origin)) as client,
    ):
        await client.send("x")
        assert await client.recv() == "x"


@every_server
async def test_a_message_of_the_client_that_is_too_large(ws: str) -> None:
    told: asyncio.Queue[int | None] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        with pytest.raises(ConnectionClosed):
            await connection.recv()
        told.put_nowait(connection.close_code)

    async with upstream(handler) as port, between(port, ws, max_message_bytes=1000) as world:
        async with world.connect() as client:
            await client.send(["é" * 250, "é" * 251])
            assert (await closed(client))[0] == 1009
        assert await told.get() == 1001


@every_server
async def test_who_reads_slowly_is_waited_for(ws: str) -> None:
    """Either side stops reading: the other cannot go on, and afterwards nothing is missing."""
    sent = 0
    chunk, total = b"x" * 65536, 400  # 26 MB
    blocked = asyncio.Event()

    async def handler(connection: ServerConnection) -> None:
        nonlocal sent
        for _ in range(total):
            sending = asyncio.create_task(connection.send(chunk))
            done, _ = await asyncio.wait([sending], timeout=0.25)
            if not done:
                blocked.set()
            await sending
            sent += 1
        await connection.close()

    async with (
        upstream(handler, compression=None) as port,
        between(port, ws) as world,
        world.connect(max_queue=1, compression=None, max_size=None) as client,
    ):
        await blocked.wait()
        assert sent < total / 2
        assert sum([len(message) async for message in messages(client)]) == len(chunk) * total


@pytest.mark.parametrize(
    ("limits", "why"),
    [({"idle_seconds": 0.1}, "no message for too long"), ({"max_seconds": 0.1}, "open for too long")],
)
async def test_what_lasts_too_long(limits: dict[str, Any], why: str) -> None:
    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        assert connection.close_code == 1001

    async with upstream(handler) as port, between(port, **limits) as world, world.connect() as client:
        assert await closed(client) == (1001, why)
        record = await world.record()
        assert (record.reason, record.error) == (Reason.TIMEOUT, f"websocket closed: {why}")


async def test_messages_keep_it_open() -> None:
    async with upstream(echo) as port, between(port, idle_seconds=0.4) as world, world.connect() as client:
        loop = asyncio.get_running_loop()
        end = loop.time() + 0.8
        while loop.time() < end:
            await client.send("x")
            assert await client.recv() == "x"


async def test_no_more_than_so_many_at_a_time() -> None:
    async with upstream(echo) as port, between(port, max_open=1) as world:
        async with world.connect():
            with pytest.raises(InvalidStatus) as caught:
                await world.connect()
            assert (caught.value.response.status_code, caught.value.response.body) == (503, b"too many websockets")
        await until(lambda: len(world.recorder.records) == 2)
        async with world.connect() as client:
            await client.send("x")
            assert await client.recv() == "x"


@every_server
async def test_a_server_that_stops_says_so(ws: str) -> None:
    told: asyncio.Queue[int | None] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        told.put_nowait(connection.close_code)

    async with upstream(handler) as port:
        async with between(port, ws) as world:
            client = await world.connect()
        assert (await closed(client))[0] == 1012
        assert await told.get() in (1012, 1001)


async def test_a_backend_that_is_closed_says_so() -> None:
    told: asyncio.Queue[int | None] = asyncio.Queue()

    async def handler(connection: ServerConnection) -> None:
        await connection.wait_closed()
        told.put_nowait(connection.close_code)

    async with upstream(handler) as port:
        backend = HTTPBackend(f"http://127.0.0.1:{port}", websockets=WebSockets())
        app = create_gateway(Route("/", backend), authenticate=[APIKeyAuth({"alice": ALICE})])
        async with serving(app) as own, connect(f"ws://127.0.0.1:{own}/", additional_headers=BEARER) as client:
            await backend.aclose()
            assert (await closed(client))[0] == 1001
            assert await told.get() == 1001


@pytest.mark.parametrize("http", ["h11", "httptools"])
@pytest.mark.parametrize(
    "head",
    [
        "POST /chat HTTP/1.1|upgrade: websocket|connection: upgrade|content-length: 0",
        "GET /chat HTTP/1.1|upgrade: h2c|connection: upgrade, http2-settings|http2-settings: AAMAAABkAAQAAP__",
        "GET /chat HTTP/1.1|upgrade: websocket|connection: keep-alive",
        "GET /chat HTTP/1.1|connection: upgrade",
    ],
)
async def test_no_other_upgrade_gets_through(http: str, head: str) -> None:
    """It is a request like any other, or none; the upstream hears of no upgrade, and there is no tunnel."""
    seen: list[dict[str, list[str]]] = []

    async def script(peer: Peer) -> None:
        seen.append((await peer.message()).headers)
        peer.send(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n")
        await peer.rest()

    async with scripted(script) as found, between(found.port, options={"http": http}) as world:
        async with connected(world.port) as client:
            lines = [*head.split("|"), "host: localhost", f"authorization: Bearer {ALICE}", "", ""]
            client.send("\r\n".join(lines).encode())
            status = (await client.message()).status
        assert status != 101
        assert not any("upgrade" in headers or "sec-websocket-key" in headers for headers in seen)


async def test_the_log_of_a_websocket() -> None:
    lines: list[str] = []
    from agentgate import AccessLog

    async with upstream(echo) as port:
        app = create_gateway(
            Route("/", HTTPBackend(f"http://127.0.0.1:{port}", websockets=WebSockets()), name="chat"),
            authenticate=[APIKeyAuth([Key("alice", ALICE)])],
            observe=[AccessLog(lines.append, format="json")],
        )
        async with serving(app) as own, connect(f"ws://127.0.0.1:{own}/a", additional_headers=BEARER) as client:
            await client.send("12345")
            await client.recv()
    (line,) = map(json.loads, lines)
    told = {"route": "chat", "http.method": "GET", "http.status": 101, "principal": "alice"}
    told |= {"endpoint": f"127.0.0.1:{port}", "websocket.bytes_received": 5, "websocket.close_code": 1000}
    assert {name: line.get(name) for name in told} == told
