"""A server on loopback that does exactly what a test says: a script talks to each connection, byte by byte."""

import asyncio
import os
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import httpx

from agentgate.proxy.upstream import PoolTransport

# So that a test that fails does not hang.
PATIENCE = {"timeout": {"connect": 10.0, "read": 10.0, "write": 10.0, "pool": 10.0}}
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Peer:
    """The server's end of one connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """The next request up to its blank line."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def exactly(self, size: int) -> bytes:
        return await self.reader.readexactly(size)

    def send(self, data: bytes) -> None:
        if self.writer.is_closing():
            raise ConnectionResetError  # what asyncio ignores, and uvloop calls a RuntimeError
        self.writer.write(data)

    def end(self) -> None:
        """Close the connection once everything is sent."""
        self.writer.close()

    def half_close_tcp(self) -> None:
        """Say no more, without the farewell that TLS wants."""
        with socket.socket(fileno=os.dup(self.writer.get_extra_info("socket").fileno())) as raw:
            raw.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Close it as a process that crashes does: with RST, whatever is still on its way."""
        if self.writer.is_closing():
            return
        linger = struct.pack("ii", 1, 0)
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def rest(self) -> bytes:
        """Everything until the client closes the connection, one way or the other."""
        heard = b""
        try:
            while data := await self.reader.read(65536):
                heard += data
        except ConnectionError:
            pass
        return heard

    async def gone(self) -> None:
        """Until the client has closed the connection, whatever it says."""
        try:
            while await self.reader.read(65536):
                pass
        except ConnectionError:
            pass


Script = Callable[[Peer], Awaitable[None]]


class Server:
    """Where it listens, and how many connections it has accepted."""

    def __init__(self, origin: str) -> None:
        self.origin = origin
        self.accepted = 0

    def request(self, method: str = "GET", path: str = "/", **options: object) -> httpx.Request:
        return httpx.Request(method, self.origin + path, **{"extensions": PATIENCE} | options)  # type: ignore[arg-type]


@asynccontextmanager
async def serving(
    script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    """A server for the time of a `with` block. What a script raises counts only if the connection was still there."""
    failures: list[Exception] = []
    tasks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        server.accepted += 1
        try:
            await script(Peer(reader, writer))
        except (OSError, EOFError, asyncio.CancelledError):
            pass
        except Exception as error:
            failures.append(error)
        finally:
            tasks.discard(task)
            writer.close()

    listener = await asyncio.start_server(accept, host, 0, ssl=tls)
    address, port = listener.sockets[0].getsockname()[:2]
    name = f"[{address}]" if ":" in address else address
    server = Server(f"{'https' if tls else 'http'}://{name}:{port}")
    try:
        yield server
    finally:
        listener.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await listener.wait_closed()
        await asyncio.sleep(0)  # the transports' last words
        await asyncio.sleep(0)
    if failures:
        raise failures[0]


def answering(*responses: bytes) -> Script:
    """One response to each request without a body, the last one again and again."""

    async def script(peer: Peer) -> None:
        for response in responses[:-1]:
            await peer.head()
            peer.send(response)
        while True:
            await peer.head()
            peer.send(responses[-1])

    return script


async def fetch(transport: httpx.AsyncBaseTransport, request: httpx.Request) -> tuple[int, bytes]:
    """Status and whole body."""
    response = await transport.handle_async_request(request)
    return response.status_code, await response.aread()


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop run until the condition holds. Bounded, so that a failing test fails."""
    for _ in range(2000):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never happened")


async def at_rest(transport: PoolTransport) -> None:
    """Until no slot is taken by anything but an idle connection, and nobody waits for one."""
    await until(lambda: transport.stats.open == transport.stats.idle and not transport.stats.waiting)


# Request bodies.

CHUNKED = {"transfer-encoding": "chunked"}
LENGTH_5 = {"content-length": "5"}


class Source(httpx.AsyncByteStream):
    """A request body that yields these chunks, then does as it is told. It counts what is pulled from it."""

    def __init__(self, *chunks: bytes, then: Callable[[], object] | None = None, for_ever: bytes = b"") -> None:
        self.chunks = chunks
        self.then = then
        self.for_ever = for_ever
        self.pulled = 0
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            for chunk in self.chunks:
                self.pulled += len(chunk)
                yield chunk
            while self.for_ever:
                self.pulled += len(self.for_ever)
                yield self.for_ever
            if self.then is not None:
                result = self.then()
                if asyncio.iscoroutine(result):
                    await result
        finally:
            self.closed = True


async def never() -> None:
    await asyncio.Event().wait()


def prepared(request: httpx.Request, headers: dict[str, str], body: object) -> httpx.Request:
    """Exactly these headers, which httpx would otherwise complete."""
    request.headers = httpx.Headers(headers)
    request.stream = httpx.ByteStream(body) if isinstance(body, bytes) else body  # type: ignore[assignment]
    return request


async def echoing(peer: Peer) -> None:
    """Answers each five bytes of body with themselves."""
    while True:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n" + await peer.exactly(5))
