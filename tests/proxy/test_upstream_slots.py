"""Two promises: no slot is lost whenever a task is cancelled, and a request costs the same however many are open."""

import asyncio
import contextlib
import gc
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import httpcore
import httpx
import pytest

from agentgate.proxy.connection import Connection
from agentgate.proxy.upstream import Origin, PoolTransport, Stats

from .upstream_server import OK, Peer, Server, answering, at_rest, fetch, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": fast}), id="uvloop" if fast else "asyncio") for fast in (False, True)
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


# Cancellation at every turn of the event loop, and after every kind of start.


async def dribble(peer: Peer) -> None:
    """Answers in small pieces, some turns of the loop apart, after reading a body if there is one."""
    while True:
        head = await peer.head()
        if b"chunked" in head:
            await peer.reader.readuntil(b"\r\n0\r\n\r\n")
        for piece in (b"HTTP/1.1 200 OK\r\nconte", b"nt-length: 6\r\n\r\n", b"ab", b"cd", b"ef"):
            peer.send(piece)
            await asyncio.sleep(0)


async def slowly() -> AsyncIterator[bytes]:
    for _ in range(5):
        await asyncio.sleep(0)
        yield b"x" * 1000


async def reading(transport: PoolTransport, request: httpx.Request) -> None:
    """Reads to the end, and closes nothing when cancelled."""
    response = await transport.handle_async_request(request)
    async for _ in response.stream:  # type: ignore[union-attr]
        pass


async def closing(transport: PoolTransport, request: httpx.Request) -> None:
    """Reads a little, and closes."""
    response = await transport.handle_async_request(request)
    try:
        async for _ in response.stream:  # type: ignore[union-attr]
            break
    finally:
        await response.aclose()


USES: dict[str, tuple[Callable[[PoolTransport, httpx.Request], Awaitable[None]], bool]] = {
    "read": (reading, False),
    "closed early": (closing, False),
    "uploaded and read": (reading, True),
    "uploaded and closed early": (closing, True),
}


@pytest.mark.parametrize("warm", [False, True], ids=["new connection", "used connection"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
@pytest.mark.parametrize("name", USES)
async def test_no_slot_is_lost_by_cancellation(name: str, host: str, warm: bool) -> None:
    """Cancelled after any number of turns, the pool is as good as new, and the next request is served."""
    use, upload = USES[name]
    async with serving(dribble) as server:
        origin = server.origin.replace("127.0.0.1", host)

        def request() -> httpx.Request:
            return httpx.Request("POST", origin, content=slowly()) if upload else httpx.Request("GET", origin)

        for turns in range(40):
            async with PoolTransport(max_connections=1) as transport:
                if warm:
                    assert await fetch(transport, request()) == (200, b"abcdef")
                task = asyncio.ensure_future(use(transport, request()))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)
                await at_rest(transport)
                assert await fetch(transport, request()) == (200, b"abcdef")
                assert repr(transport) == "PoolTransport(1 open, 1 idle, 0 waiting)"


async def test_no_slot_is_lost_by_cancellation_in_the_queue() -> None:
    """Every second of many requests gives up at the same moment, whatever it is doing; the others are served."""
    async with serving(dribble) as server:
        for turns in range(60):
            async with PoolTransport(max_connections=2) as transport:
                tasks = [asyncio.create_task(fetch(transport, server.request())) for _ in range(10)]
                for _ in range(turns):
                    await asyncio.sleep(0)
                for task in tasks[::2]:
                    task.cancel()
                results = await asyncio.gather(*tasks, return_exceptions=True)
                assert results[1::2] == [(200, b"abcdef")] * 5
                await at_rest(transport)
                assert 0 < transport.stats.open <= 2


# The narrowest moment: a connection has been handed to a request whose task has not yet run.


def origin_of(transport: PoolTransport) -> Origin:
    assert transport._pool is not None
    (origin,) = transport._pool.origins.values()
    return origin


def connection_of(transport: PoolTransport) -> Connection:
    """The only one."""
    (connection,) = (one for one in origin_of(transport).deadlines.alive if isinstance(one, Connection))
    return connection


@contextlib.asynccontextmanager
async def handed_over(transport: PoolTransport) -> AsyncIterator[tuple[Server, list[asyncio.Task[tuple[int, bytes]]]]]:
    """Three requests for one connection, which the first has just passed on to the second."""
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.head()
            await release.wait()
            peer.send(OK)

    async with serving(script) as server, transport:
        tasks = [asyncio.create_task(fetch(transport, server.request())) for _ in range(3)]
        await until(lambda: transport.stats == Stats(1, 0, 2))
        release.set()
        while transport.stats.waiting == 2:
            await asyncio.sleep(0)
        yield server, tasks
        assert repr(transport) == "PoolTransport(1 open, 1 idle, 0 waiting)"


async def test_a_connection_handed_to_a_request_that_is_cancelled_goes_to_the_next() -> None:
    async with handed_over(PoolTransport(max_connections=1)) as (server, tasks):
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [results[0], results[2]] == [(200, b"ok")] * 2
        assert server.accepted == 1


async def test_a_used_connection_that_closes_as_it_is_handed_over_is_replaced() -> None:
    transport = PoolTransport(max_connections=1)
    async with handed_over(transport) as (server, tasks):
        connection_of(transport).close()
        assert await asyncio.gather(*tasks) == [(200, b"ok")] * 3
        assert server.accepted == 2


async def test_a_connection_that_closes_as_it_is_handed_to_a_request_that_is_cancelled() -> None:
    transport = PoolTransport(max_connections=1)
    async with handed_over(transport) as (server, tasks):
        connection_of(transport).close()
        tasks[1].cancel()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [results[0], results[2]] == [(200, b"ok")] * 2
        assert server.accepted == 2


async def test_a_new_connection_that_closes_as_it_is_handed_over_is_an_error() -> None:
    """Once is enough: a server that hangs up on everybody must not be asked for ever."""
    async with serving(answering(OK)) as server, PoolTransport(max_connections=1) as transport:
        task = asyncio.create_task(fetch(transport, server.request()))
        await asyncio.sleep(0)
        while not origin_of(transport).connections:
            await asyncio.sleep(0)
        connection_of(transport).close()
        with pytest.raises(httpx.RemoteProtocolError, match="did not wait"):
            await task
        assert repr(transport) == "PoolTransport(0 open, 0 idle, 0 waiting)"


async def test_a_fresh_connection_is_a_new_one() -> None:
    """Even if the pool is full: then an idle connection makes room, or the next that comes free."""
    async with serving(answering(OK)) as server, PoolTransport(max_connections=1) as transport:
        request = server.request()
        await fetch(transport, request)
        origin = origin_of(transport)
        first = await origin.obtain(request, {}, fresh=True)
        assert (server.accepted, transport.stats) == (2, Stats(1, 0, 0))
        waiting = [asyncio.create_task(origin.obtain(request, {}, fresh=fresh)) for fresh in (True, False)]
        await until(lambda: transport.stats == Stats(1, 0, 2))
        origin.release(first)
        assert transport.stats == Stats(1, 0, 1)
        second = await waiting[0]
        assert first.closed
        assert (server.accepted, transport.stats) == (3, Stats(1, 0, 1))
        origin.release(second)
        assert await waiting[1] is second
        origin.release(second)
        assert transport.stats == Stats(1, 1, 0)


async def test_flow_control_without_an_exchange_is_ignored() -> None:
    async with serving(answering(OK)) as server, PoolTransport() as transport:
        await fetch(transport, server.request())
        connection = connection_of(transport)
        deadline = connection.deadline
        connection.pause_writing()
        connection.resume_writing()
        connection.resume_writing()
        assert connection.deadline == deadline
        assert await fetch(transport, server.request()) == (200, b"ok")
        assert server.accepted == 1


# Everything at once.


@pytest.mark.parametrize("seed", range(4))
async def test_whatever_happens_the_pool_comes_to_rest(seed: int) -> None:
    """Servers that hang up, clients that give up, timeouts, streams that fail: never a slot too many, none lost."""
    chance = random.Random(seed)

    async def script(peer: Peer) -> None:
        while True:
            if b"chunked" in await peer.head():
                await peer.reader.readuntil(b"0\r\n\r\n")
            if chance.random() < 0.2:
                return peer.reset() if chance.random() < 0.5 else peer.end()
            peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            for _ in range(chance.randrange(5)):
                peer.send(b"3\r\nabc\r\n")
                await asyncio.sleep(chance.choice((0, 0.002)))
            peer.send(b"0\r\n\r\n")

    async def body() -> AsyncIterator[bytes]:
        for _ in range(chance.randrange(4)):
            await asyncio.sleep(chance.choice((0, 0.001)))
            yield b"x" * chance.randrange(3000)
            if chance.random() < 0.05:
                raise ValueError

    async def use(request: httpx.Request) -> None:
        response = await transport.handle_async_request(request)
        if chance.random() < 0.2:
            return  # dropped
        async for _ in response.stream:  # type: ignore[union-attr]
            if chance.random() < 0.1:
                await response.aclose()
                return

    async with serving(script) as server, PoolTransport(max_connections=3, keepalive_expiry=0.1) as transport:
        loop = asyncio.get_running_loop()
        tasks = []
        for _ in range(200):
            timeouts = {"read": chance.choice((0.002, 0.05, 5.0)), "pool": chance.choice((0.01, 5.0))}
            content = body() if chance.random() < 0.5 else None
            tasks.append(asyncio.create_task(use(server.request(content=content, extensions={"timeout": timeouts}))))
            if chance.random() < 0.3:
                loop.call_later(chance.random() * 0.03, tasks[-1].cancel)
            await asyncio.sleep(chance.choice((0, 0, 0.001)))
            assert transport.stats.open <= 3
        results = await asyncio.gather(*tasks, return_exceptions=True)
        expected = (type(None), asyncio.CancelledError, httpx.TransportError, ValueError)
        assert [result for result in results if not isinstance(result, expected)] == []
        assert None in results
        tasks.clear()
        results.clear()
        gc.collect()
        await at_rest(transport)
        assert transport.stats.open <= 3


# What httpcore does.


async def lost_slots(make: Callable[[], httpx.AsyncBaseTransport]) -> list[int]:
    """After how many turns of the loop a single cancelled request makes a pool of one connection useless."""
    lost = []
    async with serving(answering(OK)) as server:
        for turns in range(30):
            transport = make()
            task = asyncio.create_task(fetch(transport, server.request()))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            extensions = {"timeout": {"pool": 0.1}}
            try:
                await fetch(transport, server.request(extensions=extensions))
            except httpx.PoolTimeout:
                lost.append(turns)
            with contextlib.suppress(RuntimeError):
                await transport.aclose()
    return lost


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_httpcore_loses_slots_where_we_do_not() -> None:
    """Its pool counts a connection as active that no request has any more. This is why there is a pool here."""
    assert await lost_slots(lambda: PoolTransport(max_connections=1)) == []
    if httpcore.__version__ == "1.0.9":  # later ones may have learned it
        limits = httpx.Limits(max_connections=1, max_keepalive_connections=1)
        assert await lost_slots(lambda: httpx.AsyncHTTPTransport(limits=limits, trust_env=False)) != []


# Cost.


class Answer(asyncio.Protocol):
    """The cheapest server there is, so that what is measured is the client: it answers /fast, and nothing else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if data.startswith(b"GET /fast"):
            self.transport.write(OK)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def answer_server() -> AsyncIterator[str]:
    server = await asyncio.get_running_loop().create_server(Answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def cpu_per_request(open_requests: int, waiting: int = 0) -> float:
    """Seconds of CPU for one request while others are open, or wait for a connection to another server."""
    timeouts = {"timeout": {"connect": 30.0, "read": 30.0, "write": 30.0, "pool": 30.0}}
    async with (
        answer_server() as fast,
        answer_server() as slow,
        PoolTransport(max_connections=open_requests + 1) as transport,
    ):
        parked = [
            asyncio.create_task(fetch(transport, httpx.Request("GET", url + "/slow", extensions=timeouts)))
            for url, count in ((fast, open_requests), (slow, open_requests + 1 + waiting if waiting else 0))
            for _ in range(count)
        ]
        await until(lambda: len(parked) == transport.stats.open + transport.stats.waiting)
        request = httpx.Request("GET", fast + "/fast", extensions=timeouts)
        best = float("inf")
        await fetch(transport, request)
        for _ in range(5):
            start = time.process_time()
            for _ in range(200):
                await fetch(transport, request)
            best = min(best, (time.process_time() - start) / 200)
        assert transport.stats.idle == 1
        for task in parked:
            task.cancel()
        await asyncio.gather(*parked, return_exceptions=True)
    return best


async def test_cost_does_not_grow_with_open_requests() -> None:
    """httpcore looks at every connection for every request; here, 256 open requests cost a request what 8 do."""
    assert await cpu_per_request(256) < 2 * await cpu_per_request(8)


async def test_cost_does_not_grow_with_waiting_requests() -> None:
    assert await cpu_per_request(8, waiting=500) < 2 * await cpu_per_request(8)
