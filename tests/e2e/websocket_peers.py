"""The peers of a gateway that forwards websockets: servers that hold its app, upstreams that behave, and some that say
what a test wants, byte by byte."""

import asyncio
import base64
import contextlib
import hashlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from websockets.asyncio.client import ClientConnection, connect
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from agentgate import (
    APIKeyAuth,
    CELRules,
    HTTPBackend,
    Key,
    Record,
    Route,
    Timeouts,
    WebSockets,
    create_gateway,
    new_key,
)
from agentgate.testing import Recorder

from .servers import PATIENCE, Peer, Upstream, until

ALICE = new_key()
BEARER = {"authorization": f"Bearer {ALICE}"}
IMPLEMENTATIONS = ["websockets-sansio", "wsproto"]  # of uvicorn's
every_server = pytest.mark.parametrize("ws", IMPLEMENTATIONS)

Handler = Callable[[ServerConnection], Awaitable[None]]


@asynccontextmanager
async def serving(app: Any, ws: str = "websockets-sansio", **options: Any) -> AsyncIterator[int]:
    """The app under uvicorn in this very loop: its port."""
    config = uvicorn.Config(app, port=0, ws=ws, lifespan="on", log_level="critical", **options)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        if server.server_state.connections:
            await server.shutdown()
        else:  # which would wait for nothing
            for listener in server.servers:
                listener.close()
            await server.lifespan.shutdown()


@asynccontextmanager
async def upstream(handler: Handler, **options: Any) -> AsyncIterator[int]:
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield port_of(server)


def port_of(server: Server) -> int:
    port: int = next(iter(server.sockets)).getsockname()[1]
    return port


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, flags: int = 0) -> bytes:
    """As a server writes one."""
    size = len(data)
    length = bytes([size]) if size < 126 else b"\x7e" + size.to_bytes(2) if size < 65536 else b"\x7f" + size.to_bytes(8)
    return bytes([(fin << 7) | flags | opcode]) + length + data


async def handshake(peer: Peer, *more: str, accept: str | None = None) -> None:
    """Read one, and answer it."""
    head = (await peer.message()).headers
    key = head["sec-websocket-key"][0].encode()
    digest = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    lines = ["HTTP/1.1 101 Switching Protocols", "Upgrade: websocket", "Connection: Upgrade"]
    lines += [f"Sec-WebSocket-Accept: {accept or digest}", *more, "", ""]
    peer.send("\r\n".join(lines).encode())


@asynccontextmanager
async def scripted(script: Callable[[Peer], Awaitable[None]]) -> AsyncIterator[Upstream]:
    """An upstream that says it byte by byte."""
    found = Upstream()
    with found.listener:
        async with found.doing(script):
            yield found


def answer(status: str, *headers: str, body: str = "") -> bytes:
    return "\r\n".join([f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]).encode()


class World:
    def __init__(self, port: int, recorder: Recorder) -> None:
        self.port = port
        self.recorder = recorder

    def connect(self, path: str = "/chat", **options: Any) -> connect:
        options.setdefault("additional_headers", BEARER)
        return connect(f"ws://127.0.0.1:{self.port}{path}", proxy=None, **options)

    async def record(self) -> Record:
        await until(lambda: self.recorder.records)
        return self.recorder.last


@asynccontextmanager
async def between(port: int, ws: str = "websockets-sansio", **allowed: Any) -> AsyncIterator[World]:
    """A gateway in front of the upstream at a port."""
    recorder = Recorder()
    timeout = allowed.pop("timeout", 5)
    timeouts = Timeouts(connect=timeout, first_byte=timeout, write=timeout)
    options = allowed.pop("options", {})
    app = create_gateway(
        Route("/", HTTPBackend(f"http://127.0.0.1:{port}/up", timeouts=timeouts, websockets=WebSockets(**allowed))),
        authenticate=[APIKeyAuth([Key("alice", ALICE)])],
        authorize=[CELRules(allow=['request.method == "GET" && !request.path.startsWith("/no")'])],
        observe=[recorder],
    )
    async with asyncio.timeout(2 * PATIENCE), serving(app, ws, **options) as own:
        yield World(own, recorder)


async def messages(client: ClientConnection) -> AsyncIterator[str | bytes]:
    """Whatever comes, until it is closed, for whatever reason."""
    with contextlib.suppress(ConnectionClosed):
        while True:
            yield await client.recv()


async def closed(client: ClientConnection) -> tuple[int, str]:
    """How the other side has closed."""
    async for _ in messages(client):
        pass
    assert client.close_code is not None
    return client.close_code, client.close_reason or ""
