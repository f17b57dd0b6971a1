"""Bodies in both directions at once: early responses, back-pressure, failures, and who may walk away when."""

import asyncio
import gc
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from agentgate.proxy.connection import HIGH_WATER
from agentgate.proxy.exchange import ResponseStream
from agentgate.proxy.upstream import PoolTransport

from .upstream_server import (
    CHUNKED,
    LENGTH_5,
    OK,
    Peer,
    Source,
    answering,
    echoing,
    fetch,
    never,
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


async def parts(response: httpx.Response) -> AsyncIterator[bytes]:
    assert isinstance(response.stream, ResponseStream)
    async for part in response.stream:
        yield part


# A response that does not wait for the request.


@pytest.mark.parametrize("chunks", [(), (b"he",)], ids=["before any of it", "in the middle of it"])
async def test_an_early_response_is_delivered_while_the_body_is_on_its_way(chunks: tuple[bytes, ...]) -> None:
    """And when it is complete, nobody goes on uploading."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno")
        await peer.gone()

    source = Source(*chunks, then=never)
    async with serving(script) as server, PoolTransport(max_connections=1) as transport:
        request = prepared(server.request("POST"), LENGTH_5, source)
        assert await fetch(transport, request) == (413, b"no")
        assert repr(transport) == EMPTY
        await until(lambda: source.closed)


async def test_a_conversation_in_one_request() -> None:
    """The next part of the request is a reaction to the last part of the response, several times over."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        for _ in range(5):
            peer.send(b"1\r\n" + (await peer.exactly(len(b"1\r\nx\r\n")))[3:4] + b"\r\n")
        await peer.exactly(5)
        peer.send(b"0\r\n\r\n")
        await peer.gone()

    turns: asyncio.Queue[bytes] = asyncio.Queue()

    class Turns(httpx.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            while turn := await turns.get():
                yield turn

    async with serving(script) as server, PoolTransport() as transport:
        response = await transport.handle_async_request(prepared(server.request("POST"), CHUNKED, Turns()))
        received = parts(response)
        for turn in (b"a", b"b", b"c", b"d", b"e"):
            turns.put_nowait(turn)
            assert await anext(received) == turn
        turns.put_nowait(b"")
        assert await anext(received, None) is None
        assert repr(transport) == RESTING


async def test_a_body_that_is_all_sent_need_not_have_ended() -> None:
    """The length is reached: that the stream has more to say for itself does not cost the connection."""
    source = Source(b"hello", then=never)
    async with serving(echoing) as server, PoolTransport() as transport:
        assert await fetch(transport, prepared(server.request("POST"), LENGTH_5, source)) == (200, b"hello")
        assert repr(transport) == RESTING
        await until(lambda: source.closed)


async def test_a_stream_that_ignores_its_cancellation_is_not_listened_to() -> None:
    class Stubborn(httpx.AsyncByteStream):
        ended = False

        async def __aiter__(self) -> AsyncIterator[bytes]:
            try:
                await never()
            except asyncio.CancelledError:
                await asyncio.sleep(0)
                yield b"and another thing"
            finally:
                self.ended = True

    stubborn = Stubborn()
    async with serving(answering(OK)) as server, PoolTransport() as transport:
        assert await fetch(transport, prepared(server.request("POST"), CHUNKED, stubborn)) == (200, b"ok")
        await until(lambda: stubborn.ended)
        assert repr(transport) == EMPTY


async def test_a_stream_that_cannot_be_read_is_the_callers_error() -> None:
    class Broken(httpx.AsyncByteStream):
        def __aiter__(self) -> AsyncIterator[bytes]:
            raise Gone

    async with serving(answering(OK)) as server, PoolTransport() as transport:
        with pytest.raises(Gone):
            await fetch(transport, prepared(server.request("POST"), CHUNKED, Broken()))
        assert repr(transport) == EMPTY


# Back-pressure.


async def settled(value: Callable[[], int]) -> int:
    """The value once it has stopped to grow."""
    last, same = -1, 0
    while same < 20:
        same = same + 1 if value() == last else 0
        last = value()
        await asyncio.sleep(0.002)
    return last


async def test_an_upload_waits_for_the_server() -> None:
    """What is pulled from the stream fits the sockets' buffers; it goes on when the server reads on."""
    read = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        await read.wait()
        await peer.gone()

    source = Source(for_ever=b"x" * 65536)
    async with serving(script) as server, PoolTransport() as transport:
        task = asyncio.create_task(fetch(transport, prepared(server.request("POST"), CHUNKED, source)))
        await until(lambda: source.pulled > 0)
        pulled = await settled(lambda: source.pulled)
        assert pulled < 32 * 1024 * 1024
        read.set()
        await until(lambda: source.pulled > pulled + 32 * 1024 * 1024)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await until(lambda: source.closed)
        assert repr(transport) == EMPTY


async def test_a_server_waits_for_the_consumer() -> None:
    """At most the high-water mark and one read are held for it; it goes on when the consumer does."""
    sent = 0

    async def script(peer: Peer) -> None:
        nonlocal sent
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            peer.send(b"x" * 65536)
            await peer.writer.drain()
            sent += 65536

    async with serving(script) as server, PoolTransport() as transport:
        response = await transport.handle_async_request(server.request())
        assert isinstance(response.stream, ResponseStream)
        exchange = response.stream._exchange
        before = await settled(lambda: sent)
        assert before < 32 * 1024 * 1024
        assert HIGH_WATER < exchange.size <= HIGH_WATER + 256 * 1024
        received = 0
        async for part in response.stream:
            received += len(part)
            assert len(part) <= HIGH_WATER + 256 * 1024
            if received > before + 1024 * 1024:
                break
        await response.aclose()
        assert repr(transport) == EMPTY


async def test_a_large_response_that_is_complete_is_read_whole() -> None:
    """The end arrives while reading is paused; the connection is used again, and reads again."""
    size = 5 * HIGH_WATER
    data = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % size + b"x" * size
    async with serving(answering(data)) as server, PoolTransport(max_connections=1) as transport:
        for _ in range(3):
            response = await transport.handle_async_request(server.request())
            await asyncio.sleep(0.01)
            assert len(await response.aread()) == size
            assert repr(transport) == RESTING
        assert server.accepted == 1


# Failures on the way.


class Gone(Exception):
    """What a stream raises when the client has gone."""


def gone() -> None:
    raise Gone


def cancelled() -> None:
    raise asyncio.CancelledError


@pytest.mark.parametrize("chunks", [(), (b"he",)], ids=["at once", "in the middle"])
async def test_an_error_of_the_request_stream_reaches_the_caller(chunks: tuple[bytes, ...]) -> None:
    async with serving(echoing) as server, PoolTransport() as transport:
        with pytest.raises(Gone):
            await fetch(transport, prepared(server.request("POST"), LENGTH_5, Source(*chunks, then=gone)))
        assert repr(transport) == EMPTY


async def test_a_request_stream_that_is_cancelled_cancels_the_caller() -> None:
    async with serving(echoing) as server, PoolTransport() as transport:
        with pytest.raises(asyncio.CancelledError):
            await fetch(transport, prepared(server.request("POST"), LENGTH_5, Source(b"he", then=cancelled)))
        assert repr(transport) == EMPTY


async def test_an_error_of_the_request_stream_ends_a_response_that_has_begun() -> None:
    """Parts that had arrived are delivered first, and then there is no clean end."""
    failing = asyncio.Event()

    async def fail_later() -> None:
        await failing.wait()
        raise Gone

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe")
        await peer.gone()

    async with serving(script) as server, PoolTransport() as transport:
        source = Source(b"he", then=fail_later)
        response = await transport.handle_async_request(prepared(server.request("POST"), LENGTH_5, source))
        received = parts(response)
        assert await anext(received) == b"he"
        failing.set()
        with pytest.raises(Gone):
            await anext(received)
        assert repr(transport) == EMPTY


@pytest.mark.parametrize("framing", [b"content-length: 5", b"transfer-encoding: chunked", b"connection: close"])
async def test_a_connection_that_is_reset_is_no_end_of_a_response(framing: bytes) -> None:
    """Not even of one that the end of the connection delimits."""
    reset = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + (b"2\r\nhe\r\n" if b"chunked" in framing else b"he"))
        await reset.wait()
        peer.reset()

    async with serving(script) as server, PoolTransport() as transport:
        request = server.request()
        response = await transport.handle_async_request(request)
        received = parts(response)
        assert await anext(received) == b"he"
        reset.set()
        for _ in range(2):  # asked again, it says the same
            with pytest.raises(httpx.ReadError) as caught:
                await anext(aiter(response.stream))  # type: ignore[arg-type]
            assert caught.value.request is request
            assert isinstance(caught.value.__cause__, ConnectionResetError)
        assert repr(transport) == EMPTY


async def test_a_server_that_hangs_up_during_the_upload_is_a_write_error() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.reset()

    source = Source(for_ever=b"x" * 65536)
    async with serving(script) as server, PoolTransport() as transport:
        request = prepared(server.request("POST"), CHUNKED, source)
        with pytest.raises(httpx.WriteError) as caught:
            await fetch(transport, request)
        assert caught.value.request is request
        await until(lambda: source.closed)
        assert repr(transport) == EMPTY


# Walking away.


async def half(peer: Peer) -> None:
    """Answers /whole, and begins to answer anything else."""
    while b"/whole" in await peer.head():
        peer.send(OK)
    peer.send(OK[:-1])
    await peer.gone()


async def test_closing_a_response_early_frees_the_slot_at_once() -> None:
    async with serving(half) as server, PoolTransport(max_connections=1) as transport:
        response = await transport.handle_async_request(server.request())
        assert repr(transport) == "PoolTransport(1 open, 0 idle, 0 waiting)"
        for _ in range(2):
            await response.stream.aclose()  # type: ignore[union-attr]
            assert repr(transport) == EMPTY
        with pytest.raises(httpx.StreamClosed):
            await anext(parts(response))
        assert await fetch(transport, server.request("GET", "/whole")) == (200, b"ok")


async def test_closing_a_complete_response_keeps_the_connection() -> None:
    """Unread, it must not look as if it had been empty; read, it stays at its end."""
    async with serving(half) as server, PoolTransport() as transport:
        unread = await transport.handle_async_request(server.request("GET", "/whole"))
        await unread.stream.aclose()  # type: ignore[union-attr]
        with pytest.raises(httpx.StreamClosed):
            await anext(parts(unread))
        read = await transport.handle_async_request(server.request("GET", "/whole"))
        assert [part async for part in parts(read)] == [b"ok"]
        await read.stream.aclose()  # type: ignore[union-attr]
        assert [part async for part in parts(read)] == []
        assert repr(transport) == RESTING


async def test_a_response_that_is_dropped_frees_the_slot() -> None:
    async with serving(half) as server, PoolTransport(max_connections=1) as transport:
        response: httpx.Response | None = await transport.handle_async_request(server.request())
        assert repr(transport) == "PoolTransport(1 open, 0 idle, 0 waiting)"
        del response
        gc.collect()
        await until(lambda: repr(transport) == EMPTY)
        assert await fetch(transport, server.request("GET", "/whole")) == (200, b"ok")


def test_a_response_may_be_dropped_after_its_loop() -> None:
    async def leave() -> httpx.Response:
        async with serving(half) as server, PoolTransport() as transport:
            await fetch(transport, server.request("GET", "/whole"))
            return await transport.handle_async_request(server.request())

    response = asyncio.run(leave())
    del response
    gc.collect()
