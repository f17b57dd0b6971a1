"""Forward: what was judged is what is sent, and what comes back is what the client gets, or a plain word of why not."""

import asyncio
import errno
import gc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Any

import httpx
import pytest
import respx

from agentgate import (
    APIKeyAuth,
    ConfigurationError,
    Cookie,
    Edge,
    Gate,
    Header,
    HTTPBackend,
    Observer,
    Query,
    Reason,
    Timeouts,
    new_key,
)
from agentgate.attempt import Attempt
from agentgate.auth.location import BEARER, Location
from agentgate.proxy.upstream import PoolTransport
from agentgate.record import Record
from agentgate.respond import ASGIApp, Message
from agentgate.testing import Exchange, Recorder, drive, http_scope, websocket_scope

from .upstream_server import OK, answering, serving

pytestmark = pytest.mark.anyio

Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


class Upstream(httpx.AsyncBaseTransport):
    """Answers with `answer`, and keeps each request with the body that was sent."""

    def __init__(self, answer: httpx.Response | Handler | None = None) -> None:
        self.answer = answer or httpx.Response(200, content=b"ok")
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        if not isinstance(self.answer, httpx.Response):
            return await self.answer(request)
        self.bodies.append(await request.aread())
        return self.answer

    @property
    def target(self) -> bytes:
        """The target of the last request, as transports send it."""
        target: bytes = self.requests[-1].extensions["target"]
        return target

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        """The headers of the last request."""
        return self.requests[-1].headers.raw


class Chunks(httpx.AsyncByteStream):
    """A response body, chunk by chunk, and an error instead of the end if one is given."""

    def __init__(self, chunks: Iterable[bytes] = (), error: BaseException | None = None) -> None:
        self.chunks = chunks
        self.error = error
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self.chunks:
            yield chunk
        if self.error is not None:
            raise self.error

    async def aclose(self) -> None:
        self.closed = True


class Forever(Chunks):
    """A response body that has nothing to say after its first chunk, and never ends."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()


def behind(
    transport: httpx.AsyncBaseTransport, url: str = "http://upstream:8000", **options: Any
) -> tuple[ASGIApp, Recorder]:
    """A backend behind a Gate that only records."""
    recorder = Recorder()
    return Gate(HTTPBackend(url, transport=transport, **options).app, observe=[recorder]), recorder


async def silent(request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError


# The request.

TARGETS = {
    "a path": ("http://up", "/a/b", b"/a/b"),
    "the root": ("http://up", "/", b"/"),
    "percent-encodings, needed or not": ("http://up", "/%61%2D%20%c3%BC/~%7E", b"/%61%2D%20%c3%BC/~%7E"),
    "sub-delimiters": ("http://up", "/!$&'()*+,=:@", b"/!$&'()*+,=:@"),
    "a query": ("http://up", "/a?b=%41&c=a+b&&d&e=?/", b"/a?b=%41&c=a+b&&d&e=?/"),
    "behind the upstream's own path": ("http://up/base", "/a?b", b"/base/a?b"),
    "behind the upstream's own path with a slash": ("http://up/base/", "/a", b"/base/a"),
    "the upstream's own path, which is encoded": ("http://up/a%20b", "/", b"/a%20b/"),
}


@pytest.mark.parametrize(("url", "target", "sent"), TARGETS.values(), ids=TARGETS)
async def test_the_target_is_sent_byte_for_byte(url: str, target: str, sent: bytes) -> None:
    """Nothing is decoded, encoded, resolved or sorted."""
    upstream = Upstream()
    app, _ = behind(upstream, url)
    assert (await drive(app, http_scope("GET", target))).status == 200
    assert upstream.target == sent
    assert upstream.requests[0].url.host == "up"


MOUNTS = {
    "cut off once": ("/gw", "/gw/a", b"/a"),
    "cut off once, though it comes twice": ("/gw", "/gw/gw/a", b"/gw/a"),
    "cut off at a slash": ("/gw", "/gwx/a", b"/gwx/a"),
    "cut off though it ends in a slash": ("/gw/", "/gw/a", b"/a"),
    "of two segments": ("/a/b", "/a/b/c%20d", b"/c%20d"),
    "encoded by the client": ("/gw", "/%67w/%61", b"/%61"),
    "all there is": ("/gw", "/gw", b"/"),
    "all there is but a slash": ("/gw", "/gw/", b"/"),
    "not in the path": ("/gw", "/a", b"/a"),
    "none": ("", "/a", b"/a"),
    "only a slash": ("/", "/a", b"/a"),
}


@pytest.mark.parametrize(("root_path", "target", "sent"), MOUNTS.values(), ids=MOUNTS)
async def test_the_mount_prefix_is(root_path: str, target: str, sent: bytes) -> None:
    """What the gateway is mounted at is nothing to the upstream; the rest is sent byte for byte."""
    upstream = Upstream()
    app, _ = behind(upstream)
    assert (await drive(app, http_scope("GET", target + "?q", root_path=root_path))).status == 200
    assert upstream.target == sent + b"?q"


async def test_a_mount_prefix_that_is_not_in_the_bytes_is_not_cut_off() -> None:
    """With encoded slashes allowed, a prefix may be in the decoded path alone: the bytes stay whole."""
    upstream = Upstream()
    recorder = Recorder()
    backend = HTTPBackend("http://upstream", transport=upstream)
    app = Gate(backend.app, observe=[recorder], edge=Edge(allow_encoded_slash=True))
    assert (await drive(app, http_scope("GET", "/a%2Fb/c", root_path="/a/b"))).status == 200
    assert upstream.target == b"/a%2Fb/c"


BODIES: dict[str, tuple[str, dict[str, str], list[bytes], dict[bytes, bytes]]] = {
    "GET without one": ("GET", {}, [b""], {}),
    "HEAD without one": ("HEAD", {}, [b""], {}),
    "DELETE without one": ("DELETE", {}, [b""], {}),
    "GET with a length of nought": ("GET", {"content-length": "0"}, [b""], {b"content-length": b"0"}),
    "POST with a length": ("POST", {"content-length": "4"}, [b"body"], {b"content-length": b"4"}),
    "POST with a length, in pieces": ("POST", {"content-length": "4"}, [b"bo", b"dy"], {b"content-length": b"4"}),
    "POST in chunks": (
        "POST",
        {"transfer-encoding": "chunked"},
        [b"bo", b"", b"dy"],
        {b"transfer-encoding": b"chunked"},
    ),
    "POST in chunks, all there": ("POST", {"transfer-encoding": "chunked"}, [b"body"], {b"content-length": b"4"}),
    "POST without framing, as in HTTP/2": ("POST", {}, [b"body"], {b"content-length": b"4"}),
    "POST without framing, in pieces": ("POST", {}, [b"bo", b"dy"], {b"transfer-encoding": b"chunked"}),
    "POST without framing and body": ("POST", {}, [b""], {b"content-length": b"0"}),
    "GET without framing, but with a body": ("GET", {}, [b"body"], {b"content-length": b"4"}),
}


@pytest.mark.parametrize(("method", "headers", "chunks", "framing"), BODIES.values(), ids=BODIES)
async def test_a_body_has_one_framing(
    method: str, headers: dict[str, str], chunks: list[bytes], framing: dict[bytes, bytes]
) -> None:
    """Made anew, and never both kinds."""
    upstream = Upstream()
    app, recorder = behind(upstream)
    exchange = await drive(app, http_scope(method, headers=headers), body=chunks)
    assert exchange.status == 200
    assert upstream.requests[0].method == method
    assert upstream.bodies == [b"".join(chunks)]
    assert upstream.headers == [(b"host", b"upstream:8000"), *framing.items()]
    assert recorder.last.error is None


async def test_the_host_is_the_upstreams_unless_the_clients_is_preserved() -> None:
    """The connection goes to the upstream either way."""
    for preserve, host in ((False, b"upstream:8000"), (True, b"www.example.com")):
        upstream = Upstream()
        app, _ = behind(upstream, preserve_host=preserve)
        await drive(app, http_scope(host="www.example.com", headers={"x-forwarded-host": "evil"}))
        assert upstream.headers[0] == (b"host", host)
        assert upstream.requests[0].url.netloc == b"upstream:8000"


async def test_the_timeouts_go_with_each_request() -> None:
    """The transport keeps them."""
    upstream = Upstream()
    app, _ = behind(upstream, timeouts=Timeouts(connect=1, pool=2, write=3, first_byte=4, idle=4, events=4))
    await drive(app, http_scope())
    assert upstream.requests[0].extensions["timeout"] == {"connect": 1, "read": 4, "write": 3, "pool": 2}


KEY = new_key()
LOCATIONS: dict[str, tuple[Location, str, dict[str, str]]] = {
    "a bearer token": (BEARER, "/?a=1&b=%41", {"authorization": f"Bearer {KEY}", "cookie": "a=1"}),
    "a header": (Header("x-mine"), "/?a=1&b=%41", {"x-mine": KEY, "cookie": "a=1"}),
    "a query parameter": (Query("key"), f"/?a=1&key={KEY}&b=%41", {"cookie": "a=1"}),
    "an encoded query parameter": (Query("key"), f"/?a=1&k%65y={KEY}&b=%41", {"cookie": "a=1"}),
    "a cookie": (Cookie("key"), "/?a=1&b=%41", {"cookie": f"key={KEY}; a=1"}),
}


@pytest.mark.parametrize(("location", "target", "headers"), LOCATIONS.values(), ids=LOCATIONS)
async def test_an_accepted_credential_ends_here(location: Location, target: str, headers: dict[str, str]) -> None:
    """Wherever it was; the rest of what surrounds it goes on."""
    upstream = Upstream()
    backend = HTTPBackend("http://upstream", transport=upstream)
    app = Gate(backend.app, authenticate=[APIKeyAuth([KEY], location=location)])
    assert (await drive(app, http_scope("GET", target, headers=headers))).status == 200
    assert upstream.target == b"/?a=1&b=%41"
    assert upstream.headers == [(b"host", b"upstream"), (b"cookie", b"a=1")]


# The response.


async def test_a_response_is_passed_on_as_it_is() -> None:
    """A redirect is not followed, a cookie is not kept, and repeated headers stay repeated."""
    answer = httpx.Response(
        307,
        headers=[
            ("Location", "http://evil/"),
            ("Set-Cookie", "a=1"),
            ("Set-Cookie", "b=2"),
            ("Connection", "x"),
            ("X", "1"),
        ],
        stream=Chunks([b"one", b"two"]),
    )
    upstream = Upstream(answer)
    app, recorder = behind(upstream)
    exchange = await drive(app, http_scope())
    assert [dict(message) for message in exchange.messages] == [
        {
            "type": "http.response.start",
            "status": 307,
            "headers": [(b"location", b"http://evil/"), (b"set-cookie", b"a=1"), (b"set-cookie", b"b=2")],
        },
        {"type": "http.response.body", "body": b"one", "more_body": True},
        {"type": "http.response.body", "body": b"two", "more_body": True},
        {"type": "http.response.body", "body": b"", "more_body": False},
    ]
    assert isinstance(answer.stream, Chunks)
    assert answer.stream.closed
    assert len(upstream.requests) == 1
    assert (recorder.last.status, recorder.last.error, recorder.last.endpoint) == (307, None, "upstream:8000")
    await drive(app, http_scope())
    assert not any(name == b"cookie" for name, _ in upstream.headers)


@pytest.mark.parametrize("status", [200, 204, 304, 404, 500, 599])
async def test_the_answer_to_head_has_a_length_and_no_body(status: int) -> None:
    """Whatever its status: that is the upstream's to say."""
    app, recorder = behind(Upstream(httpx.Response(status, headers={"content-length": "99"}, stream=Chunks())))
    exchange = await drive(app, http_scope("HEAD"))
    assert (exchange.status, exchange.headers, exchange.body) == (status, {"content-length": "99"}, b"")
    assert exchange.complete
    assert recorder.last.error is None


ENDPOINTS = [
    ("http://upstream", "upstream:80"),
    ("https://upstream", "upstream:443"),
    ("http://upstream:8000/base", "upstream:8000"),
    ("http://[::1]:8000", "[::1]:8000"),
]


@pytest.mark.parametrize(("url", "endpoint"), ENDPOINTS)
async def test_the_log_is_told_where_the_request_went(url: str, endpoint: str) -> None:
    """The address of the socket where the transport knows it, else what was configured."""
    app, recorder = behind(Upstream(), url)
    await drive(app, http_scope())
    assert recorder.last.endpoint == endpoint
    app, recorder = behind(Upstream(httpx.Response(200, extensions={"peer": "10.0.0.1:80"})), url)
    await drive(app, http_scope())
    assert recorder.last.endpoint == "10.0.0.1:80"


class Injector(Observer):
    """Puts a header into each request to an upstream, and writes down what came of it."""

    def __init__(self) -> None:
        self.told: list[tuple[str | None, int | None, str | None]] = []

    def forwarding(self, token: Any, record: Record, attempt: Attempt) -> None:
        attempt.request.headers["traceparent"] = "ours"

    def forwarded(self, token: Any, record: Record, attempt: Attempt) -> None:
        assert attempt.duration is not None
        self.told.append((attempt.endpoint, attempt.status, attempt.error))

    def end(self, token: Any, record: Record) -> None:
        pass


ATTEMPTS: dict[str, tuple[httpx.Response | Exception, tuple[str, int | None, str | None]]] = {
    "an answer": (httpx.Response(404, extensions={"peer": "10.0.0.1:80"}), ("10.0.0.1:80", 404, None)),
    "none": (httpx.ConnectTimeout("hunter2"), ("upstream:80", None, "ConnectTimeout")),
    "half of one": (
        httpx.Response(200, stream=Chunks(error=httpx.ReadError(""))),
        ("upstream:80", 200, "ReadError"),
    ),
    "one with two readings": (httpx.Response(101), ("upstream:80", 101, "not a final status")),
}


@pytest.mark.parametrize(("answer", "told"), ATTEMPTS.values(), ids=ATTEMPTS)
async def test_observers_hear_of_the_request_to_the_upstream(
    answer: httpx.Response | Exception, told: tuple[str, int | None, str | None]
) -> None:
    """They may change its headers before it is sent, and hear once what came of it."""

    async def fails(request: httpx.Request) -> httpx.Response:
        assert isinstance(answer, Exception)
        raise answer

    upstream = Upstream(answer if isinstance(answer, httpx.Response) else fails)
    injector = Injector()
    gate = Gate(HTTPBackend("http://upstream", transport=upstream).app, observe=[injector])
    await drive(gate, http_scope(headers={"traceparent": "theirs"}))
    assert [value for name, value in upstream.headers if name == b"traceparent"] == [b"ours"]
    assert injector.told == [told]


# Failures.


def caused(error: Exception, cause: OSError) -> Exception:
    error.__cause__ = cause
    return error


REFUSED = OSError(errno.ECONNREFUSED, "secret: hunter2")
FAILURES: dict[str, tuple[Exception | httpx.Response, int, str]] = {
    "it is down": (httpx.ConnectError("secret: hunter2"), 503, "ConnectError"),
    "it refuses": (caused(httpx.ConnectError("hunter2"), REFUSED), 503, "ConnectError: ECONNREFUSED"),
    "its error has no number": (caused(httpx.ConnectError("x"), OSError("hunter2")), 503, "ConnectError"),
    "its error has an unknown number": (caused(httpx.ReadError("x"), OSError(9999, "hunter2")), 502, "ReadError: 9999"),
    "it does not accept in time": (httpx.ConnectTimeout("hunter2"), 504, "ConnectTimeout"),
    "it does not answer in time": (httpx.ReadTimeout("hunter2"), 504, "ReadTimeout"),
    "it does not read in time": (httpx.WriteTimeout("hunter2"), 504, "WriteTimeout"),
    "no connection is free": (httpx.PoolTimeout("hunter2"), 503, "PoolTimeout"),
    "it hangs up": (httpx.RemoteProtocolError("hunter2"), 502, "RemoteProtocolError"),
    "the connection breaks": (httpx.ReadError("hunter2"), 502, "ReadError"),
    "the transport has a bug": (KeyError("hunter2"), 502, "KeyError"),
    "its status is no final one": (httpx.Response(101), 502, "not a final status"),
    "its status is none": (httpx.Response(600), 502, "not a final status"),
    "its headers split the head": (
        httpx.Response(200, headers=[(b"x", b"1\r\nhunter2")]),
        502,
        "a header value has a control character",
    ),
}


@pytest.mark.parametrize(("failure", "status", "detail"), FAILURES.values(), ids=FAILURES)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_before_the_response(failure: Exception | httpx.Response, status: int, detail: str, method: str) -> None:
    """503 when it is down, 504 when it is late, 502 when it answers nonsense: a fixed text for the client, the kind of
    error for the operator, and the error's own message for nobody."""
    text = "upstream call timeout" if status == 504 else "upstream call failed"

    def answer(request: httpx.Request) -> httpx.Response:
        if isinstance(failure, Exception):
            raise failure
        return failure

    app, recorder = behind(httpx.MockTransport(answer))
    exchange = await drive(app, http_scope(method))
    assert (exchange.status, exchange.text) == (status, "" if method == "HEAD" else text)
    later = {"retry-after": "1"} if detail == "PoolTimeout" else {}
    assert exchange.headers == {**later, "content-type": "text/plain", "content-length": str(len(text))}
    assert exchange.complete
    record = recorder.last
    assert (record.status, record.error) == (status, text)
    assert record.reason is (Reason.TIMEOUT if status == 504 else Reason.UPSTREAM_FAILURE)
    assert record.endpoint == "upstream:8000"
    assert record.refusal is not None
    assert (record.refusal.detail, record.refusal.policy) == (detail, "forward")
    assert record.refusal.code == ("upstream_timeout" if status == 504 else "upstream_failure")


@pytest.mark.parametrize(
    ("error", "status"), [(httpx.ConnectError, 503), (httpx.ReadTimeout, 504), (httpx.RemoteProtocolError, 502)]
)
async def test_through_httpxs_own_transport(error: type[Exception], status: int) -> None:
    """Any of httpx's asynchronous transports will do."""
    with respx.mock:
        respx.get("http://upstream:8000/ok").respond(200, text="ok")
        respx.get("http://upstream:8000/bad").mock(side_effect=error)
        async with httpx.AsyncHTTPTransport(trust_env=False) as transport:
            app, _ = behind(transport)
            assert (await drive(app, http_scope("GET", "/ok"))).text == "ok"
            assert (await drive(app, http_scope("GET", "/bad"))).status == status


BREAKS: dict[str, tuple[Exception, str, Reason]] = {
    "breaks off": (
        httpx.RemoteProtocolError("hunter2"),
        "upstream call failed: RemoteProtocolError",
        Reason.UPSTREAM_FAILURE,
    ),
    "is reset": (
        caused(httpx.ReadError("hunter2"), OSError(errno.ECONNRESET, "hunter2")),
        "upstream call failed: ReadError: ECONNRESET",
        Reason.UPSTREAM_FAILURE,
    ),
    "falls silent": (httpx.ReadTimeout("hunter2"), "upstream call timeout: ReadTimeout", Reason.TIMEOUT),
}


@pytest.mark.parametrize(("error", "told", "reason"), BREAKS.values(), ids=BREAKS)
async def test_a_response_that(error: Exception, told: str, reason: Reason) -> None:
    """It is not ended: the server behind us then cuts the connection. What came before has been passed on."""
    stream = Chunks([b"first"], error)
    app, recorder = behind(Upstream(httpx.Response(200, stream=stream)))
    exchange = await drive(app, http_scope())
    assert exchange.chunks == [b"first"]
    assert not exchange.complete
    assert stream.closed
    assert (recorder.last.status, recorder.last.error, recorder.last.reason) == (200, told, reason)


async def test_without_a_gate_nothing_is_forwarded() -> None:
    """A backend's app is for requests that were let through."""
    with pytest.raises(ConfigurationError, match="only what a Gate has let through"):
        await drive(HTTPBackend("http://upstream", transport=Upstream()).app, http_scope())


@pytest.mark.parametrize("denial", [True, False])
async def test_a_websocket_is_refused(denial: bool) -> None:
    """Before it is accepted, and the upstream hears nothing of it."""
    upstream = Upstream()
    app, recorder = behind(upstream)
    exchange = await drive(app, websocket_scope("/", denial=denial))
    assert (exchange.status, exchange.close_code) == ((403, None) if denial else (None, 1008))
    assert upstream.requests == []
    assert recorder.last.error == "websocket is not forwarded"
    assert recorder.last.refusal is not None
    assert recorder.last.refusal.code == "websocket_not_forwarded"


# The client goes away.


class Client:
    """A client whose every message a test sends by hand, and what it got."""

    def __init__(self) -> None:
        self.outgoing: asyncio.Queue[Message] = asyncio.Queue()
        self.got = Exchange()
        self.task: asyncio.Task[None] | None = None

    def body(self, body: bytes = b"", *, more: bool = False) -> None:
        self.outgoing.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.outgoing.put_nowait({"type": "http.disconnect"})

    def call(self, app: ASGIApp, method: str = "GET") -> "asyncio.Task[None]":
        async def send(message: Message) -> None:
            self.got.messages.append(message)

        return asyncio.create_task(app(http_scope(method), self.outgoing.get, send))  # type: ignore[arg-type]


async def settle() -> None:
    """Let every task run until it waits for something."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_before_its_request_is_complete_nothing_is_sent() -> None:
    """Not even the head."""
    upstream, client = Upstream(), Client()
    app, recorder = behind(upstream)
    client.leave()
    await client.call(app, "POST")
    assert (upstream.requests, client.got.messages) == ([], [])
    assert (recorder.last.error, recorder.last.reason) == ("client disconnected", None)


async def test_amid_its_body_the_upstream_request_breaks_off() -> None:
    """The upstream's reader of the body gets an error, not an end."""
    read: list[bytes] = []

    async def answer(request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        async for chunk in request.stream:
            read.append(chunk)
        raise AssertionError("the body ended")

    client = Client()
    app, recorder = behind(Upstream(answer))
    client.body(b"half", more=True)
    task = client.call(app, "POST")
    await settle()
    assert read == [b"half"]
    client.leave()
    await task
    assert client.got.messages == []
    assert recorder.last.error == "client disconnected"


async def test_amid_its_body_while_the_upstream_is_answering() -> None:
    """The response breaks off with the request."""

    class Duplex(Chunks):
        def __init__(self, request: httpx.Request) -> None:
            super().__init__()
            self.request = request

        async def __aiter__(self) -> AsyncIterator[bytes]:
            assert isinstance(self.request.stream, httpx.AsyncByteStream)
            async for chunk in self.request.stream:
                yield chunk.upper()

    async def answer(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=Duplex(request))

    client = Client()
    app, recorder = behind(Upstream(answer))
    client.body(b"half", more=True)
    task = client.call(app, "POST")
    await settle()
    assert client.got.chunks == [b"HALF"]
    client.leave()
    await task
    assert not client.got.complete
    assert recorder.last.error == "client disconnected"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_while_it_waits_the_upstream_request_is_cancelled(method: str) -> None:
    """At once, though the upstream has nothing to say."""
    cancelled = asyncio.Event()

    async def answer(request: httpx.Request) -> httpx.Response:
        await request.aread()
        try:
            return await silent(request)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    client = Client()
    app, recorder = behind(Upstream(answer))
    if method == "POST":
        client.body(b"one", more=True)
    client.body(b"two")
    task = client.call(app, method)
    await settle()
    assert not cancelled.is_set()
    client.body(b"", more=True)  # a message that says nothing of leaving
    await settle()
    assert not cancelled.is_set()
    client.leave()
    await task
    assert cancelled.is_set()
    assert (task.cancelled(), task.cancelling()) == (False, 0)
    assert client.got.messages == []
    assert (recorder.last.error, recorder.last.reason, recorder.last.status) == ("client disconnected", None, None)


async def test_amid_the_response_the_upstreams_is_closed() -> None:
    """At once, though the upstream has nothing to say."""
    stream = Forever()
    client = Client()
    app, recorder = behind(Upstream(httpx.Response(200, stream=stream)))
    client.body()
    task = client.call(app)
    await settle()
    assert client.got.chunks == [b"first"]
    client.leave()
    await task
    assert stream.closed
    assert not client.got.complete
    assert recorder.last.error == "client disconnected"


async def test_after_the_response_it_may_leave() -> None:
    """Servers say so while the upstream's response is being closed: the request went well all the same."""

    class Slow(Chunks):
        async def aclose(self) -> None:
            client.leave()
            await settle()
            self.closed = True

    stream = Slow([b"all"])
    client = Client()
    app, recorder = behind(Upstream(httpx.Response(200, stream=stream)))
    client.body()
    await client.call(app)
    assert client.got.complete
    assert stream.closed
    assert recorder.last.error is None


async def test_when_it_is_over_nothing_waits_for_the_garbage_collector() -> None:
    """Memory comes back as fast as requests do: many streams would have the collector look at all of them."""

    class Heedless(Observer):
        def end(self, token: Any, record: Record) -> None:
            pass

    def records() -> int:
        return sum(type(one) is Record for one in gc.get_objects())

    async with serving(answering(OK)) as server:
        backend = HTTPBackend(server.origin)
        app = Gate(backend.app, observe=[Heedless()])
        gc.collect()
        before = records()
        gc.disable()
        try:
            for _ in range(3):
                assert (await drive(app, http_scope())).body == b"ok"
            assert records() == before
        finally:
            gc.enable()
            await backend.aclose()


async def test_when_the_server_cancels_it_is_obeyed() -> None:
    """Cancellation from outside is not taken for the client's leaving."""
    for answer in (silent, httpx.Response(200, stream=Forever())):
        client = Client()
        app, recorder = behind(Upstream(answer))
        client.body()
        task = client.call(app)
        await settle()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not client.got.complete
        assert recorder.last.error is not None
        assert recorder.last.error.startswith("request failed: CancelledError")


async def test_when_the_server_cancels_as_the_client_leaves_it_is_obeyed() -> None:
    """Whichever of the two comes first."""
    for first in ("server", "client"):
        client = Client()
        app, _ = behind(Upstream(silent))
        client.body()
        task = client.call(app)
        await settle()
        if first == "server":
            task.cancel()
            client.leave()
        else:
            client.leave()
            await asyncio.sleep(0)
            task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_when_the_server_cancels_after_the_client_has_left_amid_its_body_it_is_obeyed() -> None:
    """A body that breaks off has cancelled nobody."""

    async def answer(request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        try:
            async for _ in request.stream:
                pass
        except Exception:
            return await silent(request)
        raise AssertionError("the body ended")

    client = Client()
    app, _ = behind(Upstream(answer))
    client.body(b"half", more=True)
    task = client.call(app, "POST")
    await settle()
    client.leave()
    await settle()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_nobody_watches_when_it_is_over() -> None:
    """No task is left behind by a request, whether it went well or not."""
    before = asyncio.all_tasks()
    for answer in (httpx.Response(200, content=b"ok"), httpx.Response(600), httpx.Response(200, stream=Chunks())):
        app, _ = behind(Upstream(answer))
        client = Client()
        client.body()
        await client.call(app)
        await settle()
    assert asyncio.all_tasks() == before


class Meddling(httpx.AsyncBaseTransport):
    """A pool's answers, to which something has been done on the way."""

    def __init__(self, meddle: Callable[[httpx.Response], None]) -> None:
        self.pool = PoolTransport()
        self.meddle = meddle

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        response = await self.pool.handle_async_request(request)
        self.meddle(response)
        return response

    async def aclose(self) -> None:
        await self.pool.aclose()


def _set(name: str, value: str) -> Callable[[httpx.Response], None]:
    return lambda response: response.headers.update({name: value})


def _replaced(response: httpx.Response) -> None:
    response.headers = httpx.Headers([(b"Content-Length", b"2"), (b"Content-Length", b"3")])


MEDDLING: dict[str, tuple[Callable[[httpx.Response], None], int, dict[str, str]]] = {
    "nothing": (lambda response: None, 200, {"content-length": "2"}),
    "a look": (lambda response: response.headers.get("x") and None, 200, {"content-length": "2"}),
    "another header": (_set("X-A", "1"), 200, {"content-length": "2", "x-a": "1"}),
    "one of the connection's": (_set("Connection", "content-length"), 200, {}),
    "one that splits the head": (_set("X-A", "1\r\nset-cookie: b"), 502, {}),
    "one that is no token": (_set("X A", "1"), 502, {}),
    "all of them": (_replaced, 502, {}),
}


@pytest.mark.parametrize(("meddle", "status", "headers"), MEDDLING.values(), ids=MEDDLING)
async def test_headers_that_somebody_may_have_changed_are_looked_at(
    meddle: Callable[[httpx.Response], None], status: int, headers: dict[str, str]
) -> None:
    """What the pool has read is believed only as the pool has read it: a transport around it may do what it likes."""
    transport = Meddling(meddle)
    async with serving(answering(OK)) as server:
        app, _ = behind(transport, server.origin)
        exchange = await drive(app, http_scope())
        await transport.aclose()
    assert exchange.status == status
    if status == 200:
        assert exchange.headers == headers
    else:
        assert exchange.text == "upstream call failed"
        assert "set-cookie" not in exchange.headers
