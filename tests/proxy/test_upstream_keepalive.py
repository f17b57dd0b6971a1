"""Connections that are used again, and those that must not be; requests that wait for one."""

import asyncio
import socket
from collections.abc import AsyncIterator

import httpx
import pytest

from agentgate.proxy.exchange import ResponseStream
from agentgate.proxy.upstream import PoolTransport, Stats

from .upstream_server import OK, Peer, Script, answering, at_rest, fetch, serving, until

pytestmark = pytest.mark.anyio


@pytest.fixture(
    params=[
        pytest.param(("asyncio", {"use_uvloop": fast}), id="uvloop" if fast else "asyncio") for fast in (False, True)
    ]
)
def anyio_backend(request: pytest.FixtureRequest) -> object:
    return request.param


CLOSING = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"
EMPTY = "PoolTransport(0 open, 0 idle, 0 waiting)"
RESTING = "PoolTransport(1 open, 1 idle, 0 waiting)"


# Keep-alive.


async def test_connections_are_used_again_the_last_one_first() -> None:
    async with serving(answering(OK)) as server, PoolTransport() as transport:
        requests = [server.request() for _ in range(3)]
        await asyncio.gather(*(fetch(transport, request) for request in requests))
        assert repr(transport) == "PoolTransport(3 open, 3 idle, 0 waiting)"
        for _ in range(5):
            await fetch(transport, server.request())
        assert server.accepted == 3
        assert repr(transport) == "PoolTransport(3 open, 3 idle, 0 waiting)"


async def test_a_complete_response_frees_its_connection_before_it_is_read() -> None:
    async with serving(answering(OK)) as server, PoolTransport(max_connections=1) as transport:
        first = await transport.handle_async_request(server.request())
        assert repr(transport) == RESTING
        second = await transport.handle_async_request(server.request())
        assert isinstance(first.stream, ResponseStream)
        assert not first.stream.at_end
        assert (await first.aread(), await second.aread()) == (b"ok", b"ok")
        assert first.stream.at_end
        assert server.accepted == 1


@pytest.mark.parametrize("value", ["close", "Keep-Alive, Close"])
async def test_a_request_that_says_close_ends_the_connection(value: str) -> None:
    async with serving(answering(OK)) as server, PoolTransport() as transport:
        assert await fetch(transport, server.request(headers={"connection": value})) == (200, b"ok")
        assert repr(transport) == EMPTY


async def test_idle_connections_expire() -> None:
    async with serving(answering(OK)) as server, PoolTransport(keepalive_expiry=0.03) as transport:
        await fetch(transport, server.request())
        assert repr(transport) == RESTING
        await until(lambda: repr(transport) == EMPTY)


async def test_idle_connections_may_stay_for_ever() -> None:
    async with serving(answering(OK)) as server, PoolTransport(keepalive_expiry=None) as transport:
        await fetch(transport, server.request())
        assert repr(transport) == RESTING


@pytest.mark.parametrize("last_words", [b"", b"HTTP/1.1 408 Request Timeout\r\n\r\n"], ids=["FIN", "408"])
async def test_a_connection_that_the_server_closes_while_idle_is_dropped(last_words: bytes) -> None:
    close = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(OK)
        await close.wait()
        peer.send(last_words)
        peer.end()

    async with serving(script) as server, PoolTransport() as transport:
        await fetch(transport, server.request())
        assert repr(transport) == RESTING
        close.set()
        await until(lambda: repr(transport) == EMPTY)
        assert await fetch(transport, server.request("POST", content=b"x")) == (200, b"ok")
        assert server.accepted == 2


async def test_data_that_nobody_asked_for_is_not_the_next_response() -> None:
    """Response splitting: the second response of an evil server belongs to no request."""
    evil = OK + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil"
    async with serving(answering(evil)) as server, PoolTransport(max_connections=1) as transport:
        for _ in range(3):
            assert await fetch(transport, server.request()) == (200, b"ok")
        assert server.accepted == 3


# Stale connections. The first connection answers once and dies as the second request arrives.


def dying_once(*, reset: bool = False, last_words: bytes = b"") -> tuple[list[bytes], Script]:
    """A script and the requests it has heard after the first."""
    heard: list[bytes] = []
    connections = iter(range(100))

    async def script(peer: Peer) -> None:
        number = next(connections)
        await peer.head()
        if number:
            heard.append(b"again")
        peer.send(OK)
        heard.append((await peer.head()).split(b" ")[0])
        peer.send(last_words)
        if reset:
            peer.reset()
        else:
            peer.end()

    return heard, script


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
async def test_an_idempotent_request_on_a_stale_connection_is_repeated_once(method: str, reset: bool) -> None:
    heard, script = dying_once(reset=reset)
    body = b"x" if method == "PUT" else b""
    async with serving(script) as server, PoolTransport(max_connections=1) as transport:
        await fetch(transport, server.request())
        status, _ = await fetch(transport, server.request(method, content=body))
        assert status == 200
        assert heard == [method.encode(), b"again"]
        assert server.accepted == 2


async def stream(*chunks: bytes) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
@pytest.mark.parametrize("request_", ["POST", "PATCH", "PUT, streamed"])
async def test_any_other_request_on_a_stale_connection_is_not_repeated(request_: str, reset: bool) -> None:
    heard, script = dying_once(reset=reset)
    method, _, streamed = request_.partition(", ")
    async with serving(script) as server, PoolTransport(max_connections=1) as transport:
        await fetch(transport, server.request())
        request = server.request(method, content=stream(b"x") if streamed else b"x")
        with pytest.raises((httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)) as caught:
            await fetch(transport, request)
        assert caught.value.request is request
        assert heard == [method.encode()]
        assert server.accepted == 1
        assert repr(transport) == EMPTY


async def test_a_connection_that_breaks_just_before_it_is_used_is_stale() -> None:
    """The socket is known to be broken, and the pool has not yet been told."""
    async with serving(answering(OK)) as server, PoolTransport(max_connections=1) as transport:
        await fetch(transport, server.request())
        assert transport._pool is not None
        (origin,) = transport._pool.origins.values()
        (connection,) = origin.idle
        connection._transport.abort()
        assert await fetch(transport, server.request()) == (200, b"ok")
        assert server.accepted == 2


async def test_a_request_whose_response_has_begun_is_not_repeated() -> None:
    heard, script = dying_once(last_words=b"HTTP/1.1 2")
    async with serving(script) as server, PoolTransport() as transport:
        await fetch(transport, server.request())
        with pytest.raises(httpx.RemoteProtocolError, match="in the middle of a response head"):
            await fetch(transport, server.request())
        assert heard == [b"GET"]


async def test_a_fresh_connection_that_dies_is_not_tried_again() -> None:
    """A request is sent twice at most, and only because keep-alive is a gamble."""

    async def script(peer: Peer) -> None:
        if server.accepted == 1:
            await peer.head()
            peer.send(OK)
        await peer.head()

    async with serving(script) as server, PoolTransport() as transport:
        await fetch(transport, server.request())
        with pytest.raises(httpx.RemoteProtocolError, match="without an answer"):
            await fetch(transport, server.request())
        assert server.accepted == 2


async def test_a_repeated_request_does_not_take_another_used_connection() -> None:
    """All idle connections of a server that restarts are stale together."""
    doomed: list[Peer] = []

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(OK)
        if server.accepted <= 2:
            doomed.append(peer)
            await peer.head()
        else:
            await peer.gone()

    async with serving(script) as server, PoolTransport(max_connections=2) as transport:
        await asyncio.gather(*(fetch(transport, server.request()) for _ in range(2)))
        assert repr(transport) == "PoolTransport(2 open, 2 idle, 0 waiting)"
        assert await fetch(transport, server.request()) == (200, b"ok")
        assert server.accepted == 3


# The queue.


async def test_the_queue_is_first_come_first_served() -> None:
    """200 requests at once through 4 connections are begun in the order in which they came."""
    begun: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            begun.append((await peer.head()).split(b" ")[1])
            await asyncio.sleep(0)
            peer.send(OK)

    async with serving(script) as server, PoolTransport(max_connections=4) as transport:
        requests = [server.request("GET", f"/{n}") for n in range(200)]
        results = await asyncio.gather(*(fetch(transport, request) for request in requests))
        assert results == [(200, b"ok")] * 200
        assert server.accepted == 4
        assert repr(transport) == "PoolTransport(4 open, 4 idle, 0 waiting)"
    numbers = [int(path[1:]) for path in begun]
    assert sorted(numbers) == list(range(200))
    queued = [number for number in numbers if number >= 4]  # the first four wait for nobody but the server to accept
    assert max(abs(number - place) for place, number in enumerate(queued, 4)) <= 4  # four run side by side


async def test_the_queue_goes_on_when_connections_are_not_kept() -> None:
    async with serving(answering(CLOSING)) as server, PoolTransport(max_connections=2) as transport:
        results = await asyncio.gather(*(fetch(transport, server.request()) for _ in range(20)))
        assert results == [(200, b"ok")] * 20
        assert server.accepted == 20
        assert repr(transport) == EMPTY


async def test_the_queue_goes_on_when_nobody_listens() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        async with PoolTransport(max_connections=2) as transport:
            results = await asyncio.gather(
                *(fetch(transport, httpx.Request("GET", url)) for _ in range(20)), return_exceptions=True
            )
            assert {type(result) for result in results} == {httpx.ConnectError}
            assert repr(transport) == EMPTY


async def test_a_full_queue_refuses() -> None:
    async def script(peer: Peer) -> None:
        await peer.gone()

    async with serving(script) as server, PoolTransport(max_connections=1, max_waiting=1) as transport:
        tasks = [asyncio.create_task(fetch(transport, server.request())) for _ in range(2)]
        await until(lambda: transport.stats == Stats(1, 0, 1))
        request = server.request()
        with pytest.raises(httpx.PoolTimeout, match="too many requests") as caught:
            await transport.handle_async_request(request)
        assert caught.value.request is request
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await at_rest(transport)


async def test_the_limit_is_per_origin_and_origins_are_forgotten() -> None:
    async with (
        serving(answering(CLOSING)) as one,
        serving(answering(OK)) as two,
        PoolTransport(max_connections=1) as transport,
    ):
        for server in (one, two):
            assert await fetch(transport, server.request()) == (200, b"ok")
        assert repr(transport) == RESTING
        assert transport._pool is not None
        assert [origin.key[2] for origin in transport._pool.origins.values()] == [httpx.URL(two.origin).port]
