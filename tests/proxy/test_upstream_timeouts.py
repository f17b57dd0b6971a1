"""Timeouts: each kind for its phase, and none for what is not the server's fault."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import httpx
import pytest

from agentgate.deadlines import NEVER, RESOLUTION, Deadlines
from agentgate.proxy import dial
from agentgate.proxy.upstream import PoolTransport, Stats

from .upstream_server import OK, Peer, answering, at_rest, fetch, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": fast}), id="uvloop" if fast else "asyncio") for fast in (False, True)
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


EMPTY = "PoolTransport(0 open, 0 idle, 0 waiting)"
SHORT = 0.05
LONG = 30.0


def within(**seconds: float | None) -> dict[str, object]:
    """Request extensions as httpx makes them."""
    return {"timeout": {"connect": LONG, "read": LONG, "write": LONG, "pool": LONG} | seconds}


@contextmanager
def deaf() -> Iterator[int]:
    """A port where connecting takes for ever: the queue of those to be accepted is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        address = listener.getsockname()
        callers = []
        for _ in range(3):
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(address)
            callers.append(caller)
        try:
            yield address[1]
        finally:
            for caller in callers:
                caller.close()


async def silent(peer: Peer) -> None:
    await peer.gone()


async def test_connecting_times_out() -> None:
    with deaf() as port:
        async with PoolTransport(max_connections=1) as transport:
            request = httpx.Request("GET", f"http://127.0.0.1:{port}/", extensions=within(connect=SHORT))
            with pytest.raises(httpx.ConnectTimeout) as caught:
                await fetch(transport, request)
            assert caught.value.request is request
            assert f"127.0.0.1:{port}" in str(caught.value)
            await until(lambda: repr(transport) == EMPTY)


async def test_a_tls_handshake_that_nobody_answers_times_out() -> None:
    async with serving(silent) as server, PoolTransport(max_connections=1) as transport:
        url = server.origin.replace("http", "https")
        with pytest.raises(httpx.ConnectTimeout):
            await fetch(transport, httpx.Request("GET", url, extensions=within(connect=SHORT)))
        await until(lambda: repr(transport) == EMPTY)


async def test_waiting_in_the_queue_times_out() -> None:
    async with serving(silent) as server, PoolTransport(max_connections=1) as transport:
        first = asyncio.create_task(fetch(transport, server.request()))
        await until(lambda: server.accepted == 1)
        request = server.request(extensions=within(pool=SHORT))
        with pytest.raises(httpx.PoolTimeout) as caught:
            await fetch(transport, request)
        assert caught.value.request is request
        assert transport.stats == Stats(1, 0, 0)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await at_rest(transport)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 200 OK\r\n"], ids=["silence", "half a head"])
async def test_waiting_for_the_head_times_out(said: bytes) -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(said)
        await peer.gone()

    async with serving(script) as server, PoolTransport(max_connections=1) as transport:
        request = server.request(extensions=within(read=SHORT))
        with pytest.raises(httpx.ReadTimeout) as caught:
            await fetch(transport, request)
        assert caught.value.request is request
        assert repr(transport) == EMPTY
        assert server.accepted == 1  # a server that is slow is not asked again


async def test_a_timeout_on_a_used_connection_is_no_reason_to_ask_again() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(OK)
        await peer.gone()

    async with serving(script) as server, PoolTransport() as transport:
        await fetch(transport, server.request())
        with pytest.raises(httpx.ReadTimeout):
            await fetch(transport, server.request(extensions=within(read=SHORT)))
        assert server.accepted == 1


async def test_waiting_for_the_next_chunk_times_out() -> None:
    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(OK[:-1])
        await peer.gone()

    async with serving(script) as server, PoolTransport(max_connections=1) as transport:
        response = await transport.handle_async_request(server.request(extensions=within(read=SHORT)))
        with pytest.raises(httpx.ReadTimeout):
            await response.aread()
        assert repr(transport) == EMPTY


async def test_a_server_that_keeps_talking_is_not_timed_out() -> None:
    """The clock starts anew with every byte, and all of it takes longer than the timeout."""
    data = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nokay"

    async def script(peer: Peer) -> None:
        await peer.head()
        for piece in (data[:9], data[9:20], data[20:-4], data[-4:-2], data[-2:]):
            await asyncio.sleep(0.06)
            peer.send(piece)
        await peer.gone()

    async with serving(script) as server, PoolTransport() as transport:
        start = time.monotonic()
        assert await fetch(transport, server.request(extensions=within(read=0.2))) == (200, b"okay")
        assert time.monotonic() - start > 0.2


async def test_a_slow_consumer_is_not_the_servers_fault() -> None:
    more = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(OK[:-1])
        await more.wait()
        peer.send(OK[-1:])
        await peer.gone()

    async with serving(script) as server, PoolTransport() as transport:
        response = await transport.handle_async_request(server.request(extensions=within(read=SHORT)))
        received = aiter(response.stream)  # type: ignore[arg-type]
        assert await anext(received) == b"o"
        await asyncio.sleep(3 * SHORT)
        more.set()
        assert await anext(received) == b"k"


async def test_a_slow_client_is_not_the_servers_fault() -> None:
    async def slowly() -> AsyncIterator[bytes]:
        yield b"he"
        await asyncio.sleep(3 * SHORT)
        yield b"llo"

    async def script(peer: Peer) -> None:
        await peer.head()
        await peer.exactly(5)
        peer.send(OK)

    async with serving(script) as server, PoolTransport() as transport:
        request = server.request(
            "POST", content=slowly(), headers={"content-length": "5"}, extensions=within(read=SHORT, write=SHORT)
        )
        assert await fetch(transport, request) == (200, b"ok")


@pytest.mark.parametrize("ended", [True, False], ids=["ended", "not ended"])
async def test_once_the_body_is_sent_the_server_has_to_answer(ended: bool) -> None:
    async def body() -> AsyncIterator[bytes]:
        yield b"hello"
        if not ended:
            await asyncio.Event().wait()

    async with serving(silent) as server, PoolTransport() as transport:
        request = server.request("POST", content=body(), headers={"content-length": "5"}, extensions=within(read=SHORT))
        with pytest.raises(httpx.ReadTimeout):
            await fetch(transport, request)
        assert repr(transport) == EMPTY


async def endlessly() -> AsyncIterator[bytes]:
    while True:
        yield b"x" * 65536


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
async def test_a_server_that_does_not_read_times_out(streamed: bool) -> None:
    stop = asyncio.Event()

    async def script(peer: Peer) -> None:
        await stop.wait()

    async with serving(script) as server, PoolTransport(max_connections=1) as transport:
        body = endlessly() if streamed else b"x" * (32 * 1024 * 1024)
        request = server.request("POST", content=body, extensions=within(write=SHORT, read=SHORT))
        with pytest.raises(httpx.WriteTimeout) as caught:
            await fetch(transport, request)
        assert caught.value.request is request
        assert repr(transport) == EMPTY
        stop.set()


async def test_a_server_that_reads_slowly_is_not_timed_out() -> None:
    """Sending takes much longer than the timeout, but never stands still for as long."""
    size = 24 * 1024 * 1024

    async def script(peer: Peer) -> None:
        await peer.head()
        for _ in range(8):
            await asyncio.sleep(0.04)
            await peer.exactly(size // 8)
        peer.send(OK)
        await peer.gone()

    async with serving(script) as server, PoolTransport() as transport:
        request = server.request("POST", content=b"x" * size, extensions=within(write=0.15))
        start = time.monotonic()
        assert await fetch(transport, request) == (200, b"ok")
        assert time.monotonic() - start > 0.3


@pytest.mark.parametrize("extensions", [{}, {"timeout": {}}, within(connect=None, read=None, write=None, pool=None)])
async def test_without_timeouts_there_is_no_timer(extensions: dict[str, object]) -> None:
    async with serving(answering(OK)) as server, PoolTransport(keepalive_expiry=None) as transport:
        assert await fetch(transport, server.request(extensions=extensions)) == (200, b"ok")
        assert transport._pool is not None
        assert transport._pool.deadlines._timer is None


class Candle:
    """Something mortal."""

    def __init__(self) -> None:
        self.deadline = NEVER
        self.expired = 0

    def expire(self) -> None:
        self.expired += 1
        self.deadline = NEVER

    def shut(self) -> None:
        raise AssertionError


async def test_one_timer_serves_all_deadlines() -> None:
    """Armed for the earliest, armed again for the next, and disarmed when there is none."""
    loop = asyncio.get_running_loop()
    deadlines = Deadlines(loop)
    soon, later, put_off, never = candles = [Candle() for _ in range(4)]
    for candle in candles:
        deadlines.watch(candle)
    start = loop.time()
    deadlines.set(later, 0.1)
    deadlines.set(soon, 0.03)
    deadlines.set(put_off, 0.03)
    deadlines.set(put_off, LONG)
    deadlines.set(never, 0.03)
    deadlines.set(never, None)
    await until(lambda: bool(soon.expired))
    assert loop.time() - start > 0.029  # uvloop counts in milliseconds
    assert later.expired == 0
    await until(lambda: bool(later.expired))
    assert loop.time() - start > 0.099
    assert [candle.expired for candle in candles] == [1, 1, 0, 0]
    assert deadlines._timer is not None
    deadlines.forget(put_off)
    deadlines.stop()
    assert deadlines._timer is None
    assert RESOLUTION <= 0.05


# Dialling: addresses race, and no socket is lost.


def resolved(*ports: int) -> list[dial.Address]:
    return [(socket.AF_INET, ("127.0.0.1", port)) for port in ports]


async def test_a_deaf_address_costs_a_head_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "HEAD_START", 0.02)
    loop = asyncio.get_running_loop()
    async with serving(answering(OK)) as server:
        port = httpx.URL(server.origin).port
        assert port is not None
        with deaf() as nowhere:
            sock = await dial.race(loop, resolved(nowhere, nowhere, port))
            assert sock.getpeername() == ("127.0.0.1", port)
            sock.close()


async def test_a_refusing_address_costs_nothing() -> None:
    loop = asyncio.get_running_loop()
    async with serving(answering(OK)) as server:
        port = httpx.URL(server.origin).port
        assert port is not None
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            closed = taken.getsockname()[1]
            start = loop.time()
            sock = await dial.race(loop, resolved(closed, closed, port))
            assert loop.time() - start < dial.HEAD_START
            sock.close()
            with pytest.raises(ConnectionRefusedError):
                await dial.race(loop, resolved(closed, closed))


async def test_the_last_address_to_hope_for_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dial, "HEAD_START", 0.0)
    with deaf() as nowhere, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(SHORT):
                await dial.race(asyncio.get_running_loop(), resolved(nowhere, taken.getsockname()[1]))


async def test_a_name_without_addresses_is_an_error() -> None:
    with pytest.raises(OSError, match="no address"):
        await dial.race(asyncio.get_running_loop(), [])


async def test_two_winners_and_cancellation_leave_no_socket_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket that nobody closes warns when it is collected, and a warning is an error here."""
    monkeypatch.setattr(dial, "HEAD_START", 0.0)
    loop = asyncio.get_running_loop()
    async with serving(silent) as server:
        port = httpx.URL(server.origin).port
        assert port is not None
        for turns in range(15):
            task = loop.create_task(dial.race(loop, resolved(port, port, port)))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            for result in await asyncio.gather(task, return_exceptions=True):
                if isinstance(result, socket.socket):
                    result.close()
            for _ in range(3):
                await asyncio.sleep(0)


def test_address_families_alternate() -> None:
    six, four = socket.AF_INET6, socket.AF_INET
    found = [(six, 1), (six, 2), (six, 3), (four, 4)]
    assert dial.alternate(found) == [(six, 1), (four, 4), (six, 2), (six, 3)]
    assert dial.alternate([]) == []
