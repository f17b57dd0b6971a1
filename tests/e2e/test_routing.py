"""What routes do beside forwarding, under a real server: as it comes over the wire at both ends."""

import asyncio
from collections.abc import Iterator

import pytest

from .servers import Peer, Running, Script, Upstream, answering, connected, running

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

APP = """
from agentgate import (
    CORS, AccessLog, HTTPBackend, Mirror, Redirect, RequestHeaders, Rewrite, Route, Weighted, create_gateway
)

log = open("access.log", "a", buffering=1)
main = HTTPBackend("http://127.0.0.1:{main}/base")
copies = HTTPBackend("http://127.0.0.1:{copies}")
app = create_gateway(
    Route("/timed", main, timeout=0.3),
    Route(
        "/old",
        Weighted([(main, 1), (copies, 0)]),
        filters=[
            Rewrite(host="one.example", prefix="/new"), RequestHeaders(set={{"x-env": "prod"}}), Mirror(copies),
            CORS(["https://app.example.com"]),
        ],
    ),
    Route("/moved", filters=[Redirect(prefix="/old", status=308)]),
    observe=[AccessLog(lambda line: log.write(line + "\\n"), format="json")],
)
"""


@pytest.fixture(scope="module")
def upstreams() -> Iterator[tuple[Upstream, Upstream]]:
    main, copies = Upstream(), Upstream()
    with main.listener, copies.listener:
        yield main, copies


@pytest.fixture(scope="module")
def gateway(upstreams: tuple[Upstream, Upstream], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    main, copies = upstreams
    source = APP.format(main=main.port, copies=copies.port)
    with running("uvicorn-httptools", source, tmp_path_factory.mktemp("routing")) as server:
        yield server
        assert "Traceback" not in server.output


def asking(method: str, target: str, *headers: str, body: bytes = b"") -> bytes:
    framing = [f"content-length: {len(body)}"] if body else []
    return (
        "\r\n".join([f"{method} {target} HTTP/1.1", "host: gateway:8080", *headers, *framing, "", ""]).encode() + body
    )


async def test_a_silent_upstream_is_504(gateway: Running, upstreams: tuple[Upstream, Upstream]) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        await peer.rest()
        left.set()

    async with upstreams[0].doing(script), connected(gateway.port) as client:
        client.send(asking("GET", "/timed/silent"))
        response = await client.message()
        await left.wait()
    assert (response.status, response.body) == (504, b"request timeout")
    line = await gateway.logged("/timed/silent")
    assert (line["reason"], line["error"]) == ("Timeout", "request timeout")


async def test_a_stream_that_takes_too_long_breaks_off(gateway: Running, upstreams: tuple[Upstream, Upstream]) -> None:
    left = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await peer.rest()
        left.set()

    async with upstreams[0].doing(script), connected(gateway.port) as client:
        client.send(asking("GET", "/timed/stream"))
        response = await client.head()
        received = await client.rest()
        await left.wait()
    assert (response.status, received) == (200, b"5\r\nhello\r\n")
    assert (await gateway.logged("/timed/stream"))["reason"] == "Timeout"


async def test_a_request_is_rewritten_and_copied(gateway: Running, upstreams: tuple[Upstream, Upstream]) -> None:
    seen: asyncio.Queue[tuple[str, str, bytes]] = asyncio.Queue()

    def keeping(name: str, answers: bool) -> Script:
        async def script(peer: Peer) -> None:
            while True:
                request = await peer.message()
                assert request.headers["host"] == ["one.example"]
                assert request.headers["x-env"] == ["prod"]
                await seen.put((name, request.first, request.body))
                if answers:
                    peer.send(OK)

        return script

    main, copies = upstreams
    async with (
        main.doing(keeping("main", answers=True)),
        copies.doing(keeping("copies", answers=False)),
        connected(gateway.port) as client,
    ):
        client.send(asking("POST", "/old/a%20b?q=%41", "x-env: dev", "origin: https://app.example.com", body=b"body"))
        response = await client.message()
        found = {await seen.get(), await seen.get()}
    assert (response.status, response.body) == (200, b"ok")
    assert response.headers["access-control-allow-origin"] == ["https://app.example.com"]
    assert found == {
        ("main", "POST /base/new/a%20b?q=%41 HTTP/1.1", b"body"),
        ("copies", "POST /new/a%20b?q=%41 HTTP/1.1", b"body"),
    }
    assert (await gateway.logged("/old/a%20b?q=%41"))["http.status"] == 200


async def test_what_is_answered_here_reaches_no_upstream(
    gateway: Running, upstreams: tuple[Upstream, Upstream]
) -> None:
    async with upstreams[0].doing(answering(OK)), connected(gateway.port) as client:
        client.send(asking("GET", "/moved/x?y"))
        moved = await client.message()
        client.send(asking("OPTIONS", "/old", "origin: https://app.example.com", "access-control-request-method: POST"))
        preflight = await client.message()
        assert upstreams[0].accepted == 0
    assert (moved.status, moved.headers["location"]) == (308, ["http://gateway:8080/old/x?y"])
    assert (preflight.status, preflight.body) == (200, b"")
    assert preflight.headers["access-control-allow-origin"] == ["https://app.example.com"]
