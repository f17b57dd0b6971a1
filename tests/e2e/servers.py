"""A gateway in a server process of its own, between a client and an upstream that a test holds in its hands."""

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

PATIENCE = 20.0  # seconds: what must happen happens at once; this bounds a test that fails
ROOT = Path(__file__).parents[2]

SERVERS = {
    "uvicorn-h11": ["uvicorn", "app:app", "--http", "h11", "--log-level", "warning", "--port", "{port}"],
    "uvicorn-httptools": ["uvicorn", "app:app", "--http", "httptools", "--log-level", "warning", "--port", "{port}"],
    "hypercorn": ["hypercorn", "app:app", "--log-level", "warning", "--bind", "127.0.0.1:{port}"],
    "granian": ["granian", "app:app", "--interface", "asgi", "--log-level", "warning", "--port", "{port}"],
}


@dataclass(frozen=True)
class Running:
    """A server that runs `app.py` in `folder`."""

    name: str
    port: int
    folder: Path

    @property
    def output(self) -> str:
        """What the server has printed."""
        return (self.folder / "output").read_text()

    @property
    def log(self) -> list[dict[str, Any]]:
        """The access log, where the app writes one as JSON lines."""
        text = (self.folder / "access.log").read_text()
        return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]

    async def logged(self, path: str) -> dict[str, Any]:
        """The line about the one request for `path`, once it is written."""

        def lines() -> list[dict[str, Any]]:
            return [line for line in self.log if line["http.path"] == path]

        await until(lines)
        return lines()[0]


@contextmanager
def running(name: str, source: str, folder: Path, port: int | None = None) -> Iterator[Running]:
    """The app that `source` makes, under the server called `name`, while the block runs; on any free port, unless it
    has to know its own."""
    (folder / "app.py").write_text(source)
    port = port or free_port()
    command = [sys.executable, "-m", *(part.format(port=port) for part in SERVERS[name])]
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            command, cwd=folder, stdout=output, stderr=output, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        server = Running(name, port, folder)
        try:
            _wait_for(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait_for(server: Running, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + 2 * PATIENCE
    while time.monotonic() < deadline and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", server.port), 1).close()
            return
        except OSError:
            time.sleep(0.02)
    raise AssertionError(f"{server.name} did not start: {server.output}")


def listening(port: int) -> bool:
    """Whether somebody accepts connections there."""
    with socket.socket() as sock:
        return sock.connect_ex(("127.0.0.1", port)) == 0


def free_port() -> int:
    """A port on loopback where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
    return port


async def until(condition: Callable[[], object]) -> None:
    """Wait for another process to have done something."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, "it never happened"
        await asyncio.sleep(0.01)


@dataclass
class Message:
    """A request or a response as it came over the wire."""

    head: bytes
    body: bytes = b""

    @property
    def first(self) -> str:
        """The request or status line."""
        return self.head.partition(b"\r\n")[0].decode()

    @property
    def status(self) -> int:
        return int(self.first.split()[1])

    @property
    def headers(self) -> dict[str, list[str]]:
        """Every header's values, names in lower case."""
        headers: dict[str, list[str]] = {}
        for line in self.head.decode("latin-1").split("\r\n")[1:-2]:
            name, _, value = line.partition(":")
            headers.setdefault(name.lower(), []).append(value.strip())
        return headers


class Peer:
    """One end of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> Message:
        """A message up to its blank line."""
        return Message(await self.reader.readuntil(b"\r\n\r\n"))

    async def chunk(self) -> bytes:
        """The next chunk of a body in chunked coding; empty at its end."""
        size = int(await self.reader.readuntil(b"\r\n"), 16)
        data = await self.reader.readexactly(size)
        assert await self.reader.readexactly(2) == b"\r\n", "trailers, or a broken chunk"
        return data

    async def message(self, *, to_head: bool = False) -> Message:
        """A whole message; `to_head`: the response to a HEAD request."""
        message = await self.head()
        if to_head or message.first.split()[1] in ("204", "304"):
            return message
        if "transfer-encoding" in message.headers:
            while data := await self.chunk():
                message.body += data
        elif lengths := message.headers.get("content-length"):
            message.body = await self.reader.readexactly(int(lengths[0]))
        return message

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, however that comes."""
        data = b""
        try:
            while piece := await self.reader.read(65536):
                data += piece
        except ConnectionError:
            pass
        return data

    def abort(self) -> None:
        """Drop the connection at once."""
        self.writer.transport.abort()


@asynccontextmanager
async def connected(port: int, *, buffer: int | None = None) -> AsyncIterator[Peer]:
    """A client's connection; `buffer`: how many bytes its socket holds unread."""
    sock = socket.socket()
    if buffer is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    sock.setblocking(False)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    reader, writer = await asyncio.open_connection(sock=sock, limit=buffer or 65536)
    try:
        async with asyncio.timeout(2 * PATIENCE):
            yield Peer(reader, writer)
    finally:
        writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


@dataclass
class Upstream:
    """A port that stays the same while each test says, with `doing`, what the server behind it does."""

    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0), backlog=256))
    accepted: int = 0

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    @asynccontextmanager
    async def doing(self, script: Script) -> AsyncIterator[None]:
        """Every connection is given to `script`. What a script asserts wrongly fails the test."""
        tasks: set[asyncio.Task[None]] = set()
        failures: list[AssertionError] = []
        self.accepted = 0

        async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            tasks.add(task)
            self.accepted += 1
            try:
                await script(Peer(reader, writer))
            except AssertionError as error:
                failures.append(error)
            except (OSError, EOFError, asyncio.CancelledError):
                pass  # the gateway has closed the connection, or the test is over
            finally:
                tasks.discard(task)
                writer.close()

        server = await asyncio.start_server(accept, sock=self.listener.dup())
        try:
            yield
        finally:
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            await server.wait_closed()
        if failures:
            raise failures[0]


def answering(response: bytes) -> Script:
    """The same response to every request, once that is there in full."""

    async def script(peer: Peer) -> None:
        while True:
            await peer.message()
            peer.send(response)

    return script
