"""Requests: what goes on the wire, byte for byte, and what is never written."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest

from agentgate.proxy.framing import (
    FramingError,
    RequestHead,
)
from agentgate.proxy.upstream import COALESCE, PoolTransport

from .upstream_server import (
    CHUNKED,
    LENGTH_5,
    OK,
    Peer,
    Source,
    answering,
    echoing,
    fetch,
    prepared,
    serving,
    until,
)

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": fast}), id="uvloop" if fast else "asyncio") for fast in (False, True)
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


EMPTY = "PoolTransport(0 open, 0 idle, 0 waiting)"
RESTING = "PoolTransport(1 open, 1 idle, 0 waiting)"


# What is never written.

REFUSED_REQUESTS: dict[str, tuple[bytes, bytes, list[tuple[bytes, bytes]]]] = {
    "CR LF in the method": (b"GET / HTTP/1.1\r\nx: y\r\n\r\nGET", b"/", []),
    "blank in the method": (b"GE T", b"/", []),
    "no method": (b"", b"/", []),
    "CONNECT": (b"CONNECT", b"/", []),
    "CR LF in the target": (b"GET", b"/ HTTP/1.1\r\nx: y\r\n\r\n", []),
    "LF in the target": (b"GET", b"/\nx", []),
    "blank in the target": (b"GET", b"/a b", []),
    "NUL in the target": (b"GET", b"/\0", []),
    "tab in the target": (b"GET", b"/\t", []),
    "a byte beyond ASCII in the target": (b"GET", b"/\xe9", []),
    "a fragment in the target": (b"GET", b"/#x", []),
    "no target": (b"GET", b"", []),
    "another server in the target": (b"GET", b"http://elsewhere/", []),
    "CR LF in a value": (b"GET", b"/", [(b"a", b"b\r\nx: y")]),
    "CR in a value": (b"GET", b"/", [(b"a", b"b\rc")]),
    "LF in a value": (b"GET", b"/", [(b"a", b"b\nc")]),
    "NUL in a value": (b"GET", b"/", [(b"a", b"b\0c")]),
    "escape in a value": (b"GET", b"/", [(b"a", b"\x1b[2J")]),
    "DEL in a value": (b"GET", b"/", [(b"a", b"\x7f")]),
    "CR LF in a name": (b"GET", b"/", [(b"a\r\nb", b"c")]),
    "blank in a name": (b"GET", b"/", [(b"a b", b"c")]),
    "colon in a name": (b"GET", b"/", [(b"a:b", b"c")]),
    "a name beyond ASCII": (b"GET", b"/", [(b"\xe9", b"c")]),
    "no name": (b"GET", b"/", [(b"", b"c")]),
    "two lengths": (b"POST", b"/", [(b"content-length", b"1"), (b"Content-Length", b"1")]),
    "two codings": (b"POST", b"/", [(b"transfer-encoding", b"chunked"), (b"Transfer-Encoding", b"chunked")]),
    "length and coding": (b"POST", b"/", [(b"content-length", b"1"), (b"transfer-encoding", b"chunked")]),
    "coding gzip": (b"POST", b"/", [(b"transfer-encoding", b"gzip, chunked")]),
    "a coding in disguise": (b"POST", b"/", [(b"transfer-encoding", b"\x0bchunked")]),
    "a signed length": (b"POST", b"/", [(b"content-length", b"+1")]),
    "a list of lengths": (b"POST", b"/", [(b"content-length", b"1, 1")]),
    "an empty length": (b"POST", b"/", [(b"content-length", b"")]),
    "a length with a blank": (b"POST", b"/", [(b"content-length", b" 1")]),
    "a length in other digits": (b"POST", b"/", [(b"content-length", "\N{SUPERSCRIPT TWO}".encode())]),
    "a length that overflows": (b"POST", b"/", [(b"content-length", b"1" * 20)]),
}


@pytest.mark.parametrize("name", REFUSED_REQUESTS)
async def test_a_request_that_could_be_read_in_two_ways_is_not_sent(name: str) -> None:
    """Refused before a connection is opened, and the message quotes nothing of the request."""
    method, target, fields = REFUSED_REQUESTS[name]
    with pytest.raises(FramingError):
        RequestHead(method, target, fields)

    async with serving(answering(OK)) as server, PoolTransport() as transport:
        request = server.request("GET", headers=fields, extensions={"target": target}, content=b"")
        request.headers = httpx.Headers(fields)
        request.method = method.decode("latin-1")
        with pytest.raises(httpx.LocalProtocolError) as caught:
            await transport.handle_async_request(request)
        assert caught.value.request is request
        assert server.accepted == 0


async def test_a_request_is_written_byte_for_byte() -> None:
    """Order, spelling and the raw target are kept; nothing is added."""
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.head())
        peer.send(OK)

    async with serving(script) as server, PoolTransport() as transport:
        request = server.request("GET", "/ignored", extensions={"target": b"/a%2Fb;c?d=%zz&e"})
        request.headers = httpx.Headers(
            [(b"X-B", b"1"), (b"HOST", b"example.com"), (b"x-b", b"\xe9\t "), (b"X-Empty", b"")]
        )
        await fetch(transport, request)
        star = server.request("OPTIONS", extensions={"target": b"*"})
        star.headers = httpx.Headers()
        await fetch(transport, star)
    assert heard == [
        b"GET /a%2Fb;c?d=%zz&e HTTP/1.1\r\nX-B: 1\r\nHOST: example.com\r\nx-b: \xe9\t \r\nX-Empty: \r\n\r\n",
        b"OPTIONS * HTTP/1.1\r\n\r\n",
    ]


async def test_without_a_target_the_path_of_the_url_is_asked_for() -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.head())
        peer.send(OK)

    async with serving(script) as server, PoolTransport() as transport:
        await fetch(transport, server.request("GET", "/a b?c#d"))
    assert heard[0].startswith(b"GET /a%20b?c HTTP/1.1\r\n")


# What goes on the wire.

BODIES: dict[str, tuple[dict[str, str], object, bytes]] = {
    "whole": (LENGTH_5, b"hello", b"hello"),
    "streamed": (LENGTH_5, Source(b"he", b"", b"llo"), b"hello"),
    "whole, chunked": (CHUNKED, b"hello", b"5\r\nhello\r\n0\r\n\r\n"),
    "streamed, chunked": (CHUNKED, Source(b"he", b"", b"llo"), b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
    "empty, chunked": (CHUNKED, b"", b"0\r\n\r\n"),
    "empty stream, chunked": (CHUNKED, Source(b""), b"0\r\n\r\n"),
    "empty stream of length 0": ({"content-length": "0"}, Source(), b""),
    "empty stream of no length": ({}, Source(), b""),
}


@pytest.mark.parametrize("name", BODIES)
async def test_a_body_is_framed_as_its_headers_say(name: str) -> None:
    headers, body, wire = BODIES[name]
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        heard.append(await peer.exactly(len(wire)))
        peer.send(OK)
        heard.append(await peer.reader.read())

    async with serving(script) as server:
        async with PoolTransport() as transport:
            assert await fetch(transport, prepared(server.request("POST"), headers, body)) == (200, b"ok")
            assert repr(transport) == RESTING
        await until(lambda: heard == [wire, b""])


WRONG_BODIES: dict[str, tuple[dict[str, str], object, str]] = {
    "too long": (LENGTH_5, b"hello!", "longer"),
    "too short": (LENGTH_5, b"hell", "shorter"),
    "body without a length": ({}, b"hello", "longer"),
    "streamed, too long": (LENGTH_5, Source(b"hello", b"!"), "longer"),
    "streamed, too short": (LENGTH_5, Source(b"hell"), "shorter"),
    "streamed, empty": (LENGTH_5, Source(), "shorter"),
    "streamed, without a length": ({}, Source(b"hello"), "longer"),
}


@pytest.mark.parametrize("name", WRONG_BODIES)
async def test_a_body_that_contradicts_its_headers_is_cut_off(name: str) -> None:
    """The server never sees a request that it could take for complete, nor one byte beyond."""
    headers, body, text = WRONG_BODIES[name]
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.rest())

    async with serving(script) as server, PoolTransport() as transport:
        request = prepared(server.request("POST"), headers, body)
        with pytest.raises(httpx.LocalProtocolError, match=text) as caught:
            await fetch(transport, request)
        assert caught.value.request is request
        assert repr(transport) == EMPTY
        if server.accepted:
            await until(lambda: bool(heard))
    assert all(len(data.partition(b"\r\n\r\n")[2]) <= 5 for data in heard)


async def test_a_synchronous_body_is_refused() -> None:
    async with serving(answering(OK)) as server, PoolTransport() as transport:
        with pytest.raises(httpx.LocalProtocolError, match="asynchronous"):
            await fetch(transport, server.request("POST", content=iter([b"x"])))
        assert server.accepted == 0


class Iterator(httpx.AsyncByteStream):
    """A stream that is its own iterator, and has nothing to close."""

    def __init__(self, *chunks: bytes) -> None:
        self.left = list(chunks)

    def __aiter__(self) -> AsyncIterator[bytes]:
        return Bare(self.left)


class Bare(AsyncIterator[bytes]):
    def __init__(self, left: list[bytes]) -> None:
        self.left = left

    async def __anext__(self) -> bytes:
        if not self.left:
            raise StopAsyncIteration
        return self.left.pop(0)


async def test_a_stream_need_not_be_a_generator() -> None:
    async with serving(echoing) as server, PoolTransport() as transport:
        request = prepared(server.request("POST"), LENGTH_5, Iterator(b"he", b"llo"))
        assert await fetch(transport, request) == (200, b"hello")


@pytest.mark.parametrize("body", [b"hello", Source(b"hello")], ids=["whole", "streamed"])
async def test_a_small_body_leaves_in_the_same_write_as_its_head(body: object) -> None:
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        heard.append(await peer.reader.read(65536))
        peer.send(OK)

    async with serving(script) as server, PoolTransport() as transport:
        await fetch(transport, prepared(server.request("POST"), LENGTH_5, body))
    assert heard == [b"POST / HTTP/1.1\r\ncontent-length: 5\r\n\r\nhello"]


async def test_a_large_body_is_not_copied_behind_its_head() -> None:
    body = b"x" * (COALESCE + 1)

    async def script(peer: Peer) -> None:
        await peer.head()
        assert await peer.exactly(len(body)) == body
        peer.send(OK)

    async with serving(script) as server, PoolTransport() as transport:
        assert await fetch(transport, server.request("POST", content=body)) == (200, b"ok")


@pytest.mark.parametrize(("body", "tasks"), [(b"", 0), (b"hello", 0), (Source(b"he", b"llo"), 1)])
async def test_only_a_body_that_streams_costs_a_task(body: object, tasks: int) -> None:
    created: list[object] = []

    def factory(loop: asyncio.AbstractEventLoop, coro: object, **options: object) -> asyncio.Task[object]:
        created.append(coro)
        return asyncio.Task(coro, loop=loop, **options)  # type: ignore[arg-type]

    script = echoing if body else answering(OK)
    async with serving(script) as server, PoolTransport() as transport:
        headers = LENGTH_5 if body else {}
        await fetch(transport, prepared(server.request("POST"), headers, b"12345" if body else b""))
        loop = asyncio.get_running_loop()
        loop.set_task_factory(factory)  # type: ignore[arg-type]
        try:
            await fetch(transport, prepared(server.request("POST"), headers, body))
        finally:
            loop.set_task_factory(None)
        assert server.accepted == 1
    assert len(created) == tasks
