"""A gateway under the servers that people run: what it promises, seen from both of its ends, byte by byte."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from agentgate import new_key

from .servers import SERVERS, Peer, Running, Upstream, answering, connected, free_port, running, until
from .websocket_peers import answer, frame, handshake

pytestmark = pytest.mark.anyio

ALICE, BOB = new_key(), new_key()
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
MEGABYTE = bytes(range(256)) * 4096
NUMBERS = itertools.count()

APP = """
from agentgate import AccessLog, APIKeyAuth, HTTPBackend, Route, WebSockets, create_gateway

log = open("access.log", "a", buffering=1)
app = create_gateway(
    Route("/down", HTTPBackend("http://127.0.0.1:{down}"), authenticate=[]),
    Route("/live", HTTPBackend("http://127.0.0.1:{port}", websockets=WebSockets())),
    Route("/keyed", HTTPBackend("http://127.0.0.1:{port}")),
    Route("/", HTTPBackend("http://127.0.0.1:{port}"), authenticate=[]),
    authenticate=[APIKeyAuth({{"alice": "{alice}", "bob": "{bob}"}})],
    observe=[AccessLog(lambda line: log.write(line + "\\n"), format="json")],
)
"""


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    upstream = Upstream()
    with upstream.listener:
        yield upstream


@pytest.fixture(scope="module", params=SERVERS)
def gateway(
    request: pytest.FixtureRequest, upstream: Upstream, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Running]:
    source = APP.format(port=upstream.port, down=free_port(), alice=ALICE, bob=BOB)
    with running(request.param, source, tmp_path_factory.mktemp(request.param)) as server:
        yield server
        assert "Traceback" not in server.output


def asking(target: str = "/", *headers: str, method: str = "GET", body: bytes | None = None) -> bytes:
    lines = [f"{method} {target} HTTP/1.1", "host: gateway", *headers]
    if body is not None:
        lines.append(f"content-length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode() + (body or b"")


# One request.


async def test_a_get_arrives_byte_for_byte_and_without_framing(gateway: Running, upstream: Upstream) -> None:
    """Target and headers reach the upstream as they were sent, but for Host, which is the upstream's own."""
    seen: list[Peer] = []

    async def script(peer: Peer) -> None:
        request = await peer.message()
        assert request.first == "GET /a%20b/%C3%BC~c%7E?x=%41&y=a+b&y=/?& HTTP/1.1"
        assert request.headers == {"host": [f"127.0.0.1:{upstream.port}"], "accept": ["*/*"], "x-twice": ["1", "2"]}
        seen.append(peer)
        peer.send(OK)

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(
            asking("/a%20b/%C3%BC~c%7E?x=%41&y=a+b&y=/?&", "Accept: */*", "X-Twice: 1", "x-twice: 2", "TE: gzip")
        )
        response = await client.message()
    assert (response.status, response.body, len(seen)) == (200, b"ok", 1)


@pytest.mark.parametrize("coding", ["content-length", "chunked"])
async def test_three_megabytes_go_both_ways(gateway: Running, upstream: Upstream, coding: str) -> None:
    """A large body arrives whole, in the framing in which it was sent, and so does the answer."""

    async def echo(peer: Peer) -> None:
        request = await peer.message()
        framing = {name for name in request.headers if name in ("content-length", "transfer-encoding")}
        assert framing == {"content-length" if coding == "content-length" else "transfer-encoding"}
        if coding == "content-length":
            peer.send(b"HTTP/1.1 201 Created\r\ncontent-length: %d\r\n\r\n" % len(request.body) + request.body)
        else:
            peer.send(b"HTTP/1.1 201 Created\r\ntransfer-encoding: chunked\r\n\r\n")
            peer.send(b"%x\r\n" % len(request.body) + request.body + b"\r\n0\r\n\r\n")
        await peer.writer.drain()

    async with upstream.doing(echo), connected(gateway.port) as client:
        if coding == "content-length":
            client.send(asking("/echo", method="POST", body=3 * MEGABYTE))
        else:
            client.send(asking("/echo", "transfer-encoding: chunked", method="POST"))
            for _ in range(3):
                client.send(b"%x\r\n" % len(MEGABYTE) + MEGABYTE + b"\r\n")
            client.send(b"0\r\n\r\n")
        response = await client.message()
    assert response.status == 201
    assert response.body == 3 * MEGABYTE


BODILESS = {
    "the answer to HEAD keeps its length": ("HEAD", b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n", 200, ["99"]),
    "304 has an etag and no body": ("GET", b'HTTP/1.1 304 Not Modified\r\netag: "v1"\r\n\r\n', 304, None),
    "204 has no body": ("DELETE", b"HTTP/1.1 204 No Content\r\n\r\n", 204, None),
}


@pytest.mark.parametrize(("method", "answer", "status", "length"), BODILESS.values(), ids=BODILESS)
async def test_responses_without_a_body(
    gateway: Running, upstream: Upstream, method: str, answer: bytes, status: int, length: list[str] | None
) -> None:
    """They end with their head, and the connection serves the next request."""
    async with upstream.doing(answering(answer)), connected(gateway.port) as client:
        for _ in range(2):
            client.send(asking("/", method=method))
            response = await client.message(to_head=True)
            assert response.status == status
            if length is not None:
                assert response.headers["content-length"] == length
            assert response.headers.get("etag", ['"v1"']) == ['"v1"']


async def test_a_redirect_and_a_cookie_are_the_clients_business(gateway: Running, upstream: Upstream) -> None:
    """The gateway follows no redirect, and what one client is sent to keep never goes out with another's request."""
    answer = b"HTTP/1.1 302 Found\r\nlocation: /next\r\nset-cookie: a=1\r\nset-cookie: b=2\r\ncontent-length: 0\r\n\r\n"
    requests = []

    async def script(peer: Peer) -> None:
        while True:
            requests.append(await peer.message())
            peer.send(answer)

    async with upstream.doing(script), connected(gateway.port) as client:
        for _ in range(2):
            client.send(asking("/first"))
            response = await client.message()
            assert response.headers["location"] == ["/next"]
            assert response.headers["set-cookie"] == ["a=1", "b=2"]
    assert [request.first for request in requests] == ["GET /first HTTP/1.1"] * 2
    assert not any("cookie" in request.headers for request in requests)


async def test_request_trailers_end_here(gateway: Running, upstream: Upstream) -> None:
    """A header that comes behind the body, when the request has long been judged, does not go on."""
    judged = asyncio.Event()

    async def script(peer: Peer) -> None:
        assert "x-trailer" not in (await peer.head()).headers
        assert await peer.chunk() == b"hello"
        judged.set()
        assert await peer.chunk() == b""
        peer.send(OK)

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/", "transfer-encoding: chunked", "trailer: x-trailer", method="POST") + b"5\r\nhello\r\n")
        await judged.wait()
        client.send(b"0\r\nx-trailer: evil\r\n\r\n")
        assert (await client.message()).status == 200


@pytest.mark.parametrize("gateway", ["hypercorn", "granian"], indirect=True)
async def test_http_2_at_the_front(gateway: Running, upstream: Upstream) -> None:
    """Requests without any framing headers get the framing that HTTP/1.1 needs."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.message()
            framing = {name for name in request.headers if name in ("content-length", "transfer-encoding")}
            assert bool(framing) == (request.first != "GET /a%20b?c=d HTTP/1.1")
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(request.body) + request.body)

    async def pieces() -> AsyncIterator[bytes]:
        yield b"one "
        yield b"two"

    url = f"http://127.0.0.1:{gateway.port}"
    async with upstream.doing(script), httpx.AsyncClient(http1=False, http2=True, trust_env=False) as client:
        got = await client.get(url + "/a%20b?c=d")
        posted = await client.post(url + "/", content=pieces())
    assert (got.http_version, got.status_code, got.content) == ("HTTP/2", 200, b"")
    assert (posted.status_code, posted.content) == (200, b"one two")


async def test_an_upstream_that_is_down_is_503(gateway: Running) -> None:
    """The client is told nothing but that it failed; the log is told why."""
    async with connected(gateway.port) as client:
        client.send(asking("/down"))
        response = await client.message()
    assert (response.status, response.body) == (503, b"upstream call failed")
    line = await gateway.logged("/down")
    assert (line["error"], line["reason"]) == ("upstream call failed", "UpstreamFailure")
    assert line["detail"] == "ConnectError: ECONNREFUSED"


# Several requests.


async def test_connections_are_kept_at_both_ends(gateway: Running, upstream: Upstream) -> None:
    """Ten requests of one client take one connection, and one to the upstream."""
    async with upstream.doing(answering(OK)), connected(gateway.port) as client:
        for number in range(10):
            body = b"x" * number if number % 2 else None
            client.send(asking("/kept", method="GET" if body is None else "POST", body=body))
            assert (await client.message()).body == b"ok"
        assert upstream.accepted == 1


@pytest.mark.parametrize(
    ("first", "second"), [(ALICE, "wrong"), ("wrong", ALICE), (ALICE, None), (None, BOB), (ALICE, BOB)]
)
async def test_pipelined_requests_are_judged_one_by_one(
    gateway: Running, upstream: Upstream, first: str | None, second: str | None
) -> None:
    """What one request on a connection has proved is nothing to the next."""
    keys = (first, second)

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.message()
            assert "authorization" not in request.headers
            peer.send(OK)

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(b"".join(asking("/keyed", *([f"authorization: Bearer {key}"] if key else [])) for key in keys))
        statuses = [(await client.message()).status for _ in keys]
    assert statuses == [200 if key in (ALICE, BOB) else 401 for key in keys]


async def test_64_requests_at_once(gateway: Running, upstream: Upstream) -> None:
    """Each client gets the answer to its own request, and the log has no error for any of them."""

    async def script(peer: Peer) -> None:
        while True:
            body = (await peer.message()).body
            peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    async def client(number: int) -> None:
        async with connected(gateway.port) as peer:
            for turn in range(3):
                body = f"{number}.{turn}".encode()
                peer.send(asking(f"/many/{number}/{turn}", method="POST", body=body))
                response = await peer.message()
                assert (response.status, response.body) == (200, body)

    def lines() -> list[dict[str, object]]:
        return [line for line in gateway.log if line["http.path"].startswith("/many/")]

    async with upstream.doing(script):
        await asyncio.gather(*(client(number) for number in range(64)))
    await until(lambda: len(lines()) == 3 * 64)
    assert not [line for line in lines() if "error" in line or line["http.status"] != 200]


# Streams.


async def test_events_arrive_one_by_one(gateway: Running, upstream: Upstream) -> None:
    """An event is sent only after the client has the one before: whoever holds one back never sees the end."""
    arrived = asyncio.Semaphore(0)

    async def script(peer: Peer) -> None:
        await peer.message()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for number in range(5):
            peer.send(b"9\r\ndata: %d\n\n\r\n" % number)
            await arrived.acquire()
        peer.send(b"0\r\n\r\n")

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/events"))
        assert (await client.head()).headers["content-type"] == ["text/event-stream"]
        for number in range(5):
            assert await client.chunk() == b"data: %d\n\n" % number
            arrived.release()
        assert await client.chunk() == b""
    assert "error" not in await gateway.logged("/events")


async def test_an_upload_arrives_piece_by_piece(gateway: Running, upstream: Upstream) -> None:
    """The second piece of a body is sent only after the upstream has the first."""
    arrived = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.head()
        assert await peer.chunk() == b"one"
        arrived.set()
        assert await peer.chunk() == b"two"
        assert await peer.chunk() == b""
        peer.send(OK)

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/pieces", "transfer-encoding: chunked", method="POST") + b"3\r\none\r\n")
        await arrived.wait()
        client.send(b"3\r\ntwo\r\n0\r\n\r\n")
        assert (await client.message()).status == 200


async def test_a_slow_reader_holds_the_upstream_back(gateway: Running, upstream: Upstream) -> None:
    """Of a response that nobody reads, the gateway takes some megabytes and no more; it takes the rest when read."""
    total, taken = 128, 0
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        nonlocal taken
        await peer.message()
        peer.send(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (total * len(MEGABYTE)))
        try:
            for _ in range(total):
                peer.send(MEGABYTE)
                await peer.writer.drain()
                taken += 1
        finally:
            over.set()

    async with upstream.doing(script), connected(gateway.port, buffer=65536) as client:
        client.send(asking("/large"))
        await client.head()
        before = -1
        while taken != before:
            before = taken
            await asyncio.sleep(0.3)  # long enough for a gateway that does not wait to take much more
        assert taken < total / 2
        await client.reader.readexactly(total * len(MEGABYTE) // 4)
        assert taken > before
        client.abort()
        await over.wait()


async def test_an_answer_may_come_before_the_request_is_over(gateway: Running, upstream: Upstream) -> None:
    """The client gets it, though the upstream reads no more of the body."""

    async def script(peer: Peer) -> None:
        await peer.head()
        peer.send(b"HTTP/1.1 413 Content Too Large\r\ncontent-length: 3\r\nconnection: close\r\n\r\nno\n")
        await peer.rest()

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/early", "content-length: 1000000", method="POST") + b"hello")
        response = await client.message()
    assert (response.status, response.body) == (413, b"no\n")


# Ends.


async def test_a_client_that_leaves_while_it_waits_takes_the_upstream_request_along(
    gateway: Running, upstream: Upstream
) -> None:
    """The upstream sees its connection closed, though it has not answered yet."""
    asked, gone = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        asked.set()
        await peer.rest()
        gone.set()

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/waiting"))
        await asked.wait()
        client.writer.close()
        await gone.wait()
    assert (await gateway.logged("/waiting"))["error"] == "client disconnected"


async def test_a_client_that_leaves_amid_the_response_takes_the_upstream_request_along(
    gateway: Running, upstream: Upstream
) -> None:
    """The upstream sees its connection closed, though it has nothing to send just now."""
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.message()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
        await peer.rest()
        gone.set()

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/leaving"))
        await client.head()
        assert await client.chunk() == b"hello"
        client.writer.close()
        await gone.wait()
    assert (await gateway.logged("/leaving"))["error"] == "client disconnected"


@pytest.mark.parametrize("coding", ["content-length: 100", "transfer-encoding: chunked"])
async def test_a_client_that_leaves_amid_its_request_ends_nothing(
    gateway: Running, upstream: Upstream, coding: str
) -> None:
    """Half a body is never made to look like a whole one: the upstream sees its connection closed instead."""
    arrived, gone = asyncio.Event(), asyncio.Event()
    rest = b""

    async def script(peer: Peer) -> None:
        nonlocal rest
        await peer.head()
        await peer.reader.readuntil(b"hello")
        arrived.set()
        rest = await peer.rest()
        gone.set()

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/half", coding, method="POST") + (b"5\r\nhello\r\n" if "chunked" in coding else b"hello"))
        await arrived.wait()
        client.writer.close()
        await gone.wait()
    assert rest in (b"", b"\r\n")


BREAKS = {
    "content-length": (b"content-length: 100", b"hello"),
    "chunked, between two chunks": (b"transfer-encoding: chunked", b"5\r\nhello\r\n"),
    "chunked, in a chunk": (b"transfer-encoding: chunked", b"64\r\nhello"),
    "chunked, nonsense after a chunk": (b"transfer-encoding: chunked", b"5\r\nhello\r\nwhat?\r\n"),
}


@pytest.mark.parametrize(("framing", "body"), BREAKS.values(), ids=BREAKS)
@pytest.mark.parametrize("reset", [False, True], ids=["closed", "reset"])
async def test_a_response_that_breaks_off_is_seen_to_be_incomplete(
    gateway: Running, upstream: Upstream, framing: bytes, body: bytes, reset: bool
) -> None:
    """The client gets what came, and then the end of the connection instead of the end of the response."""
    arrived = asyncio.Event()
    path = f"/broken/{next(NUMBERS)}"

    async def script(peer: Peer) -> None:
        await peer.message()
        peer.send(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n" + body)
        if b"what" not in body:
            await arrived.wait()
        if reset:
            peer.abort()

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking(path))
        response = await client.head()
        received = await client.reader.readuntil(b"hello")
        arrived.set()
        received += await client.rest()
    assert response.status == 200
    if b"content-length" in framing:
        assert received == b"hello"
    else:
        assert received == b"5\r\nhello\r\n"
    line = await gateway.logged(path)
    assert line["error"].startswith("upstream call failed: ")
    assert line["reason"] == "UpstreamFailure"


async def test_a_response_that_breaks_off_before_its_first_byte(gateway: Running, upstream: Upstream) -> None:
    """Even then the client never sees the whole of a successful response."""

    async def script(peer: Peer) -> None:
        await peer.message()
        peer.send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/nothing", "connection: close"))
        response = await client.head()
        rest = await client.rest()
    if gateway.name == "granian":  # sends no head before it has some body, and then its own
        assert response.status == 500
    else:
        assert (response.status, rest) == (200, b"")


@pytest.mark.parametrize("answer", [b"SSH-2.0\r\n\r\n", b"", b"HTTP/1.1 200 OK\r\ncontent-length: 1, 2\r\n\r\n"])
async def test_a_response_that_is_none_is_502(gateway: Running, upstream: Upstream, answer: bytes) -> None:
    """The client is told that it failed, and none of what the upstream said."""

    async def script(peer: Peer) -> None:
        await peer.message()
        peer.send(answer)

    async with upstream.doing(script), connected(gateway.port) as client:
        client.send(asking("/nonsense"))
        response = await client.message()
    assert (response.status, response.body) == (502, b"upstream call failed")


async def test_a_websocket_is_refused_before_it_is_accepted(gateway: Running) -> None:
    """Nothing here forwards one, so nobody is told that it was opened."""
    async with connected(gateway.port) as client:
        client.send(
            asking(
                "/socket",
                "connection: Upgrade",
                "upgrade: websocket",
                "sec-websocket-version: 13",
                "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
            )
        )
        response = await client.head()
    assert response.status == 403
    assert (await gateway.logged("/socket"))["error"] == "websocket is not forwarded"


async def test_a_websocket_is_forwarded(gateway: Running, upstream: Upstream) -> None:
    """What is said arrives, and the goodbye of either side; servers tell of a client's in their own way."""
    url, bearer = f"ws://127.0.0.1:{gateway.port}/live", {"authorization": f"Bearer {ALICE}"}
    codes: list[int] = []

    async def script(peer: Peer) -> None:
        await handshake(peer)
        said = await peer.reader.readexactly(6 + 5)
        assert unmasked(said) == b"hello"
        peer.send(frame(1, b"hello") + frame(2, b"\x00\xff"))
        close = await peer.reader.readexactly(6 + 2)
        codes.append(int.from_bytes(unmasked(close)))
        peer.send(frame(8, unmasked(close)))

    async with upstream.doing(script):
        async with connect(url, additional_headers=bearer, proxy=None) as client:
            await client.send("hello")
            assert (await client.recv(), await client.recv()) == ("hello", b"\x00\xff")
            await client.close(4000)
        await until(lambda: codes)
    assert codes[0] in (4000, 1001)

    async def closing(peer: Peer) -> None:
        await handshake(peer)
        peer.send(frame(8, (4321).to_bytes(2) + b"because"))
        await peer.rest()

    async with upstream.doing(closing), connect(url, additional_headers=bearer, proxy=None) as client:
        with pytest.raises(ConnectionClosed):
            await client.recv()
        assert (client.close_code, client.close_reason) == (4321, "because")


def unmasked(frame: bytes) -> bytes:
    """The payload of a short frame of a client's."""
    return bytes(byte ^ frame[2 + at % 4] for at, byte in enumerate(frame[6:]))


@pytest.mark.parametrize(("bearer", "status"), [(BOB, 410), ("nobody", 401)])
async def test_a_websocket_that_is_not_opened(gateway: Running, upstream: Upstream, bearer: str, status: int) -> None:
    """By the gateway, or by the upstream: with the status and the words of whoever it was."""

    async def script(peer: Peer) -> None:
        await peer.message()
        peer.send(answer("410 Gone", body="it is gone"))
        await peer.rest()

    headers = {"authorization": f"Bearer {bearer}"}
    async with upstream.doing(script):
        with pytest.raises(InvalidStatus) as caught:
            await connect(f"ws://127.0.0.1:{gateway.port}/live", additional_headers=headers, proxy=None)
    response = caught.value.response
    assert response.status_code == status
    assert (response.body == b"it is gone") is (status == 410)
