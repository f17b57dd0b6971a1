"""HTTP/2 to the upstream, by httpx's own transport: the pool's promises, where that transport keeps them."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import h2.config
import h2.connection
import h2.errors
import h2.events
import httpx
import pytest

from agentgate import Gate, HTTPBackend, Timeouts
from agentgate.respond import ASGIApp, Message
from agentgate.testing import Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

OK = [(":status", "200"), ("content-type", "text/plain")]


class Stream:
    """One request as the server sees it, and what a test has it answer."""

    def __init__(self, connection: "Connection", number: int, headers: dict[bytes, bytes]) -> None:
        self.headers = headers
        self.body = b""
        self.ended = asyncio.Event()
        self.reset = asyncio.Event()
        self.connection = connection
        self._number = number

    def start(self, headers: list[tuple[str, str]], *, end: bool = False) -> None:
        self.connection.state.send_headers(self._number, headers, end_stream=end)
        self.connection.flush()

    def send(self, data: bytes, *, end: bool = False) -> None:
        self.connection.state.send_data(self._number, data, end_stream=end)
        self.connection.flush()

    def abort(self) -> None:
        self.connection.state.reset_stream(self._number, h2.errors.ErrorCodes.INTERNAL_ERROR)
        self.connection.flush()

    def hang_up(self) -> None:
        self.connection.writer.transport.abort()


Script = Callable[[Stream], Coroutine[None, None, None]]


class Connection:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, script: Script) -> None:
        self.state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding=None))
        self.writer = writer
        self._reader = reader
        self._script = script
        self._streams: dict[int, Stream] = {}

    def flush(self) -> None:
        self.writer.write(self.state.data_to_send())

    async def serve(self) -> None:
        self.state.initiate_connection()
        self.flush()
        async with asyncio.TaskGroup() as group:
            while data := await self._reader.read(65536):
                for event in self.state.receive_data(data):
                    self._take(event, group)
                self.flush()

    def _take(self, event: h2.events.Event, group: asyncio.TaskGroup) -> None:
        if isinstance(event, h2.events.RequestReceived):
            headers: Any = event.headers
            stream = self._streams[event.stream_id] = Stream(self, event.stream_id, dict(headers))
            group.create_task(self._script(stream))
        elif isinstance(event, h2.events.DataReceived):
            self._streams[event.stream_id].body += event.data
            self.state.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        elif isinstance(event, h2.events.StreamEnded):
            self._streams[event.stream_id].ended.set()
        elif isinstance(event, h2.events.StreamReset):
            self._streams[event.stream_id].reset.set()


@asynccontextmanager
async def behind(script: Script, **options: Any) -> AsyncIterator[tuple[ASGIApp, Recorder]]:
    """A backend whose upstream speaks HTTP/2 and nothing else, in clear text."""
    connections: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connections.add(task)
        try:
            await Connection(reader, writer, script).serve()
        except* (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    listener = await asyncio.start_server(accept, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    recorder = Recorder()
    transport = httpx.AsyncHTTPTransport(http1=False, http2=True, trust_env=False)
    backend = HTTPBackend(f"http://127.0.0.1:{port}/api", transport=transport, **options)
    try:
        yield Gate(backend.app, observe=[recorder]), recorder
    finally:
        await backend.aclose()
        listener.close()
        for task in connections:
            task.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        await listener.wait_closed()


async def test_a_request_and_its_answer() -> None:
    """Byte for byte, with nothing in it that only HTTP/1.1 has; trailers of the answer end here."""
    seen: list[Stream] = []

    async def script(stream: Stream) -> None:
        await stream.ended.wait()
        seen.append(stream)
        stream.start([*OK, ("set-cookie", "a=1"), ("set-cookie", "b=2")])
        stream.send(b"hello")
        stream.start([("x-checksum", "1")], end=True)

    async with behind(script) as (app, recorder):
        scope = http_scope("POST", "/%61/b?q=%41", headers={"x-mine": "1", "connection": "x-hop", "x-hop": "1"})
        exchange = await drive(app, scope, body=[b"in ", b"pieces"])
    assert (exchange.status, exchange.text, exchange.complete) == (200, "hello", True)
    assert exchange.headers["set-cookie"] == "a=1, b=2"
    assert "x-checksum" not in exchange.headers
    headers = seen[0].headers
    assert headers[b":authority"].startswith(b"127.0.0.1:")
    assert {name: headers[name] for name in headers if name != b":authority"} == {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/api/%61/b?q=%41",
        b"x-mine": b"1",
    }
    assert seen[0].body == b"in pieces"
    assert recorder.last.error is None


async def test_many_requests_share_one_connection() -> None:
    together = asyncio.Event()
    streams: list[Stream] = []

    async def script(stream: Stream) -> None:
        streams.append(stream)
        if len(streams) == 20:
            together.set()
        await together.wait()
        stream.start(OK)
        stream.send(stream.headers[b":path"], end=True)

    async with behind(script) as (app, _):
        answers = await asyncio.gather(*(drive(app, http_scope("GET", f"/{n}")) for n in range(20)))
    assert [answer.text for answer in answers] == [f"/api/{n}" for n in range(20)]
    assert len({id(stream.connection) for stream in streams}) == 1


async def test_an_answer_arrives_as_it_is_sent() -> None:
    got = asyncio.Queue[bytes]()

    async def script(stream: Stream) -> None:
        stream.start(OK)
        for chunk in (b"one", b"two"):
            stream.send(chunk)
            assert await got.get() == chunk
        stream.send(b"", end=True)

    def on_send(message: Message) -> None:
        if message.get("body"):
            got.put_nowait(message["body"])

    async with behind(script) as (app, _):
        exchange = await drive(app, http_scope(), on_send=on_send)
    assert exchange.complete


async def never(stream: Stream) -> None:
    pass


async def resets(stream: Stream) -> None:
    stream.abort()


async def hangs_up(stream: Stream) -> None:
    stream.hang_up()


BEFORE: dict[str, tuple[Script, int, str]] = {
    "resets the stream": (resets, 502, "RemoteProtocolError"),
    "hangs up": (hangs_up, 502, "RemoteProtocolError"),
    "says nothing": (never, 504, "ReadTimeout"),
}


@pytest.mark.parametrize(("script", "status", "detail"), BEFORE.values(), ids=BEFORE)
async def test_before_the_answer_it(script: Script, status: int, detail: str) -> None:
    async with behind(script, timeouts=Timeouts(first_byte=0.1)) as (app, recorder):
        exchange = await drive(app, http_scope())
    assert exchange.status == status
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.detail.startswith(detail)


async def starts_and_resets(stream: Stream) -> None:
    stream.start(OK)
    stream.send(b"first")
    await asyncio.sleep(0.02)
    stream.abort()


async def starts_and_hangs_up(stream: Stream) -> None:
    stream.start(OK)
    stream.send(b"first")
    await asyncio.sleep(0.02)
    stream.hang_up()


async def starts(stream: Stream) -> None:
    stream.start(OK)
    stream.send(b"first")


AMID: dict[str, tuple[Script, str]] = {
    "resets the stream": (starts_and_resets, "upstream call failed: RemoteProtocolError"),
    "hangs up": (starts_and_hangs_up, "upstream call failed: "),
    "falls silent": (starts, "upstream call timeout: ReadTimeout"),
}


@pytest.mark.parametrize(("script", "error"), AMID.values(), ids=AMID)
async def test_amid_the_answer_it(script: Script, error: str) -> None:
    """The client's answer is cut off, not ended."""
    async with behind(script, timeouts=Timeouts(idle=0.1)) as (app, recorder):
        exchange = await drive(app, http_scope())
    assert (exchange.body, exchange.complete) == (b"first", False)
    assert recorder.last.error is not None
    assert recorder.last.error.startswith(error)


async def test_a_client_that_leaves_leaves_the_others_in_peace() -> None:
    """They share its connection. But httpx's transport does not tell the upstream (RST_STREAM): it goes on, and when a
    hundred streams have been abandoned the connection serves nobody. Documented in docs/explanation/forwarding.md; once
    this fails because it is better, that is to go."""
    streams: list[Stream] = []

    async def script(stream: Stream) -> None:
        streams.append(stream)
        stream.start(OK)
        stream.send(b"first", end=stream.headers[b":path"].endswith(b"whole"))

    async with behind(script) as (app, recorder):
        for _ in range(50):
            await drive(app, http_scope("GET", "/stream"), disconnect_after=2)
            assert recorder.last.error == "client disconnected"
        assert (await drive(app, http_scope("GET", "/whole"))).text == "first"
        assert len({id(stream.connection) for stream in streams}) == 1
        for _ in range(60):
            await drive(app, http_scope("GET", "/stream"), disconnect_after=2)
        assert (await drive(app, http_scope("GET", "/whole"))).status == 502
        assert not any(stream.reset.is_set() for stream in streams)
