"""PoolTransport: how it is built, what it shows of itself, what it leaves alone, connecting, event loops, the end."""

import asyncio
import gc
import socket

import httpx
import pytest

from agentgate.errors import ConfigurationError
from agentgate.proxy.connection import address
from agentgate.proxy.exchange import ResponseStream
from agentgate.proxy.upstream import PoolTransport, Stats

from .upstream_server import OK, Peer, answering, fetch, serving, until

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


# How it is built.


def test_faults_in_the_options_are_told_all_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        PoolTransport(max_connections=0, max_waiting=-1, keepalive_expiry=-1, verify="ca.pem")  # type: ignore[arg-type]
    assert caught.value.faults == (
        "max_connections must be at least 1",
        "max_waiting must not be negative",
        "keepalive_expiry must not be negative",
        "verify must be True, False or an ssl.SSLContext",
    )


async def test_its_repr_counts_connections_and_requests() -> None:
    release = asyncio.Event()

    async def script(peer: Peer) -> None:
        while True:
            await peer.head()
            await release.wait()
            peer.send(OK)

    async with serving(script) as server, PoolTransport(max_connections=2) as transport:
        assert repr(transport) == EMPTY
        tasks = [asyncio.create_task(fetch(transport, server.request())) for _ in range(5)]
        await until(lambda: transport.stats == Stats(open=2, idle=0, waiting=3))
        assert repr(transport) == "PoolTransport(2 open, 0 idle, 3 waiting)"
        release.set()
        assert await asyncio.gather(*tasks) == [(200, b"ok")] * 5
        assert repr(transport) == "PoolTransport(2 open, 2 idle, 0 waiting)"
    assert repr(transport) == EMPTY


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("ftp://example.com/", "neither http nor https"),
        ("http:///path", "no host"),
        ("/path", "neither http nor https"),
    ],
)
async def test_urls_that_name_no_http_server_are_refused(url: str, text: str) -> None:
    request = httpx.Request("GET", url)
    async with PoolTransport() as transport:
        with pytest.raises(httpx.UnsupportedProtocol, match=text) as caught:
            await transport.handle_async_request(request)
        assert caught.value.request is request
        assert repr(transport) == EMPTY


@pytest.mark.parametrize(
    ("peername", "text"),
    [(("10.0.0.1", 80), "10.0.0.1:80"), (("::1", 80, 0, 0), "[::1]:80"), (None, "")],
)
def test_addresses_are_written_as_in_urls(peername: object, text: str) -> None:
    assert address(peername) == text


async def test_the_peer_over_ipv6_is_in_brackets() -> None:
    async with serving(answering(OK), host="::1") as server, PoolTransport() as transport:
        response = await transport.handle_async_request(server.request())
        assert response.extensions["peer"] == server.origin.removeprefix("http://")
        assert response.extensions["peer"].startswith("[::1]:")


async def test_a_name_is_resolved() -> None:
    async with serving(answering(OK)) as server, PoolTransport() as transport:
        url = server.origin.replace("127.0.0.1", "localhost")
        assert await fetch(transport, httpx.Request("GET", url)) == (200, b"ok")


async def test_it_serves_an_httpx_client() -> None:
    """The client decodes, follows and remembers; the transport does not."""
    async with serving(answering(OK)) as server, httpx.AsyncClient(transport=PoolTransport()) as client:
        answer = await client.get(server.origin)
        assert (answer.status_code, answer.text) == (200, "ok")


async def test_redirects_cookies_and_encodings_are_none_of_its_business() -> None:
    data = (
        b"HTTP/1.1 302 Found\r\nlocation: /\r\nset-cookie: a=b\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok"
    )
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            heard.append(await peer.head())
            peer.send(data)

    async with serving(script) as server, PoolTransport() as transport:
        for _ in range(2):
            response = await transport.handle_async_request(server.request())
            assert response.status_code == 302
            assert isinstance(response.stream, ResponseStream)
            assert [chunk async for chunk in response.stream] == [b"ok"]
    assert len(heard) == 2
    assert not any(b"cookie" in head for head in heard)


async def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    async with serving(answering(OK)) as server, PoolTransport() as transport:
        assert await fetch(transport, server.request()) == (200, b"ok")


# Connecting.


async def test_a_refused_connection_is_a_connect_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        port = taken.getsockname()[1]
        request = httpx.Request("GET", f"http://127.0.0.1:{port}/", headers={"authorization": "secret"})
        async with PoolTransport() as transport:
            with pytest.raises(httpx.ConnectError) as caught:
                await transport.handle_async_request(request)
            assert caught.value.request is request
            assert f"127.0.0.1:{port}" in str(caught.value)
            assert "secret" not in str(caught.value)
            assert isinstance(caught.value.__cause__, ConnectionRefusedError)
            assert repr(transport) == EMPTY


@pytest.mark.parametrize("host", ["nowhere.invalid", "x" * 64 + ".invalid"])
async def test_a_name_without_an_address_is_a_connect_error(host: str) -> None:
    async with PoolTransport() as transport:
        with pytest.raises(httpx.ConnectError, match=host):
            await transport.handle_async_request(httpx.Request("GET", f"http://{host}/"))
        assert repr(transport) == EMPTY


@pytest.mark.parametrize("greeting", [b"220 ready\r\n", b""], ids=["speaks", "hangs up"])
async def test_a_server_that_does_not_wait_to_be_asked_is_not_trusted(greeting: bytes) -> None:
    async def script(peer: Peer) -> None:
        peer.send(greeting)
        peer.end()

    async with serving(script) as server, PoolTransport() as transport:
        for _ in range(3):
            with pytest.raises(httpx.TransportError):
                await fetch(transport, server.request())
            assert repr(transport) == EMPTY


# Event loops, and the end.


@pytest.mark.parametrize("close", [True, False], ids=["closed", "left behind"])
def test_it_starts_afresh_in_another_event_loop(close: bool) -> None:
    transport = PoolTransport(max_connections=1)

    async def use() -> None:
        async with serving(answering(OK if close else CLOSING)) as server:
            assert await fetch(transport, server.request()) == (200, b"ok")
            if close:
                await transport.aclose()
                assert await fetch(transport, server.request()) == (200, b"ok")
                await transport.aclose()

    for _ in range(3):
        asyncio.run(use())
        assert repr(transport) == EMPTY
    asyncio.run(transport.aclose())


def test_a_pool_whose_loop_still_runs_elsewhere_is_closed_there() -> None:
    """Two loops take turns: neither finds the other's connections, and neither leaks its own."""
    here, there = asyncio.new_event_loop(), asyncio.new_event_loop()
    transport = PoolTransport()

    async def start() -> str:
        async with serving(answering(OK)) as server:
            await fetch(transport, server.request())
            return repr(transport)

    async def settle() -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    try:
        for loop in (here, there, here):
            assert loop.run_until_complete(start()) == RESTING
        there.run_until_complete(transport.aclose())
        assert repr(transport) == EMPTY
        for loop in (here, there):
            loop.run_until_complete(settle())
    finally:
        here.close()
        there.close()
    gc.collect()  # an open socket would warn, and a warning is an error


async def test_closing_ends_everything() -> None:
    """Idle connections, responses in the middle, requests in the queue; later requests find a new pool."""
    heard: list[bytes] = []

    async def script(peer: Peer) -> None:
        while True:
            path = (await peer.head()).split(b" ")[1]
            heard.append(path)
            peer.send({b"/whole": OK, b"/half": OK[:-1], b"/none": b""}[path])

    async with serving(script) as server:
        transport = PoolTransport(max_connections=3)
        half = await transport.handle_async_request(server.request("GET", "/half"))
        await fetch(transport, server.request("GET", "/whole"))
        tasks = [asyncio.create_task(fetch(transport, server.request("GET", "/none"))) for _ in range(4)]
        await until(lambda: heard.count(b"/none") == 2)
        assert transport.stats == Stats(3, 0, 2)
        await transport.aclose()
        assert repr(transport) == EMPTY
        with pytest.raises(httpx.ReadError, match="the pool was closed"):
            await half.aread()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [httpx.ReadError] * 2 + [httpx.ConnectError] * 2
        await transport.aclose()
        assert await fetch(transport, server.request("GET", "/whole")) == (200, b"ok")
        await transport.aclose()


async def test_closing_while_connecting() -> None:
    async with serving(answering(OK)) as server:
        for turns in range(12):
            transport = PoolTransport()
            task = asyncio.create_task(fetch(transport, server.request()))
            for _ in range(turns):
                await asyncio.sleep(0)
            await transport.aclose()
            result = (await asyncio.gather(task, return_exceptions=True))[0]
            assert result == (200, b"ok") or isinstance(result, httpx.TransportError)
            await transport.aclose()
            assert repr(transport) == EMPTY
