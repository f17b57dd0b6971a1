"""Mirror: copies that are whole or not sent at all, and that the request itself never notices."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

import httpx
import pytest

from agentgate import (
    APIKeyAuth,
    ConfigurationError,
    Gateway,
    HTTPBackend,
    MCPBackend,
    Mirror,
    RequestHeaders,
    Rewrite,
    Route,
    create_gateway,
    new_key,
)
from agentgate.proxy import mirror as module
from agentgate.request import Scope
from agentgate.respond import Receive, Send
from agentgate.testing import Exchange, Recorder, drive, http_scope

pytestmark = pytest.mark.anyio

KEY = new_key()
Handler = Callable[[httpx.Request], Awaitable[httpx.Response]]


class Copies(httpx.AsyncBaseTransport):
    """Keeps the copies it gets, and says when there is one."""

    def __init__(self, answer: Handler | None = None) -> None:
        self.requests: list[httpx.Request] = []
        self.bodies: list[bytes] = []
        self.came = asyncio.Event()
        self.answer = answer

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(request)
        self.bodies.append(await request.aread())
        self.came.set()
        return httpx.Response(200, content=b"copy") if self.answer is None else await self.answer(request)


class Main(httpx.AsyncBaseTransport):
    """The route's own backend: reads the whole body."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=b"main:" + await request.aread())


def copied_to(copies: httpx.AsyncBaseTransport, **options: Any) -> Mirror:
    return Mirror(HTTPBackend("http://copy/base", transport=copies), **options)


def gateway(*filters: Any, main: httpx.AsyncBaseTransport | None = None, **options: Any) -> Gateway:
    backend = HTTPBackend("http://main", transport=main or Main())
    return create_gateway(Route("/", backend, filters=filters, **options), observe=[Recorder()])


async def post(app: Gateway, body: Any = b"body", target: str = "/x?q=1", **options: Any) -> Exchange:
    return await drive(app, http_scope("POST", target, **options), body=body)


async def done(mirror: Mirror) -> None:
    await asyncio.gather(*mirror._under_way)


@pytest.mark.parametrize("body", [b"body", [b"bo", b"dy"], b"", [b"", b""]])
async def test_a_copy_is_the_request_with_its_body(body: Any) -> None:
    copies = Copies()
    mirror = copied_to(copies)
    exchange = await post(gateway(mirror), body, headers={"x-a": "1"})
    await done(mirror)
    whole = body if isinstance(body, bytes) else b"".join(body)
    assert exchange.body == b"main:" + whole
    assert copies.bodies == [whole]
    assert copies.requests[0].method == "POST"
    assert copies.requests[0].extensions["target"] == b"/base/x?q=1"
    assert dict(copies.requests[0].headers) == {"host": "copy", "x-a": "1", "content-length": str(len(whole))}
    assert (mirror.sent, mirror.failed, mirror.dropped) == (1, 0, 0)


async def test_a_copy_is_what_the_backend_gets() -> None:
    """Without the credential, and with the changes of the route."""
    copies = Copies()
    mirror = copied_to(copies)
    changes = [mirror, RequestHeaders(set={"x-a": "2"}), Rewrite(host="one.example", prefix="/new")]
    app = gateway(*changes, authenticate=[APIKeyAuth({"alice": KEY})])
    await post(app, headers={"authorization": f"Bearer {KEY}", "x-a": "1"})
    await done(mirror)
    assert dict(copies.requests[0].headers) == {"host": "one.example", "x-a": "2", "content-length": "4"}
    assert copies.requests[0].extensions["target"] == b"/base/new/x?q=1"


async def test_what_policies_have_noted_stays_the_request_s() -> None:
    """A Gate behind the filters would count tokens for a Record that nobody ends."""
    app = gateway(mirror := copied_to(Copies()))
    recorder = app._entry.observe[0]
    assert isinstance(recorder, Recorder)
    await post(app)
    await done(mirror)
    assert recorder.last.view.afterwards is recorder.last.afterwards


async def test_what_is_refused_is_not_copied() -> None:
    mirror = copied_to(Copies())
    assert (await post(gateway(mirror, authenticate=[APIKeyAuth({"alice": KEY})]))).status == 401
    assert (mirror._under_way, mirror.sent) == (set(), 0)


async def test_several_mirrors() -> None:
    first, second = Copies(), Copies()
    mirrors = copied_to(first), copied_to(second)
    await post(gateway(*mirrors), b"both")
    for mirror in mirrors:
        await done(mirror)
    assert (first.bodies, second.bodies) == ([b"both"], [b"both"])


async def test_the_answer_waits_for_no_copy() -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    mirror = copied_to(Copies(never))
    app = gateway(mirror)
    assert (await post(app)).body == b"main:body"
    assert len(mirror._under_way) == 1
    await app.aclose()
    assert not mirror._under_way


@pytest.mark.parametrize("error", [httpx.ConnectError("secret"), RuntimeError("secret"), httpx.ReadTimeout("secret")])
async def test_what_goes_wrong_with_a_copy_is_logged_and_counted(
    error: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    async def fails(request: httpx.Request) -> httpx.Response:
        raise error

    mirror = copied_to(Copies(fails))
    with caplog.at_level(logging.WARNING, "agentgate.mirror"):
        assert (await post(gateway(mirror))).body == b"main:body"
        await done(mirror)
    assert (mirror.sent, mirror.failed) == (0, 1)
    assert caplog.messages[0].startswith("mirror to copy failed: ")
    assert "secret" not in caplog.text


async def test_an_app_that_raises_is_a_failed_copy() -> None:
    async def raises(*args: Any) -> None:
        raise RuntimeError("secret")

    mirror = copied_to(Copies())
    mirror.backend.app = raises
    assert (await post(gateway(mirror))).body == b"main:body"
    await done(mirror)
    assert mirror.failed == 1


async def test_a_copy_that_takes_too_long_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr(module, "SECONDS", 0)
    mirror = copied_to(Copies(never))
    await post(gateway(mirror))
    await done(mirror)
    assert mirror.failed == 1


async def test_an_error_of_the_main_backend_is_not_the_copy_s() -> None:
    class Down(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("down")

    mirror = copied_to(Copies())
    assert (await post(gateway(mirror, main=Down()))).status == 503
    await done(mirror)
    assert mirror.sent == 1


# What is bounded.


@pytest.mark.parametrize(
    "body", [b"x" * (module.MAX_BODY + 1), [b"x" * module.MAX_BODY, b"x"], [b"x" * (module.MAX_BODY + 1), b""]]
)
async def test_a_large_body_is_forwarded_and_not_copied(body: Any) -> None:
    copies = Copies()
    mirror = copied_to(copies)
    assert len((await post(gateway(mirror), body)).body) == module.MAX_BODY + 1 + len(b"main:")
    await done(mirror)
    assert (copies.requests, mirror.dropped) == ([], 1)


async def test_the_largest_body_that_is_copied() -> None:
    mirror = copied_to(Copies())
    await post(gateway(mirror), [b"x" * (module.MAX_BODY - 1), b"x"])
    await done(mirror)
    assert (mirror.sent, mirror.dropped) == (1, 0)


async def test_copies_under_way_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    open_ = asyncio.Event()

    async def waits(request: httpx.Request) -> httpx.Response:
        await open_.wait()
        return httpx.Response(200)

    monkeypatch.setattr(module, "MAX_IN_FLIGHT", 2)
    mirror = copied_to(Copies(waits))
    app = gateway(mirror)
    for _ in range(3):
        assert (await post(app)).status == 200
    assert mirror.dropped == 1
    open_.set()
    await done(mirror)
    await asyncio.sleep(0)
    assert not mirror._under_way
    await post(app)
    await done(mirror)
    assert mirror.sent == 3


async def test_a_request_that_breaks_off_is_not_copied() -> None:
    mirror = copied_to(Copies())
    await drive(gateway(mirror), http_scope("POST", "/"), body=[b"half"], abort=True)
    await done(mirror)
    assert (mirror.sent, mirror.failed, mirror.dropped) == (0, 0, 0)


async def test_a_body_that_nobody_reads_is_not_copied() -> None:
    class Deaf(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return httpx.Response(413)

    mirror = copied_to(Copies())
    assert (await post(gateway(mirror, main=Deaf()), [b"a", b"b"])).status == 413
    await done(mirror)
    assert mirror.sent == 0


@pytest.mark.parametrize(("fraction", "low", "high"), [(0, 0, 0), (0.2, 140, 260), (1, 1000, 1000)])
async def test_a_fraction(fraction: float, low: int, high: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(random, "random", random.Random(1).random)
    mirror = copied_to(Copies(), fraction=fraction)
    assert low <= sum(mirror.wanted() for _ in range(1000)) <= high


async def test_a_request_that_is_not_among_them_is_forwarded_as_it_is() -> None:
    mirror = copied_to(Copies(), fraction=0)
    assert (await post(gateway(mirror))).body == b"main:body"
    assert not mirror._under_way


@pytest.mark.parametrize("fraction", [-0.1, 1.1, True, "1", float("nan")])
def test_fractions_that_are_none(fraction: Any) -> None:
    with pytest.raises(ConfigurationError, match="Mirror: fraction is a number from 0 to 1"):
        Mirror(HTTPBackend("http://up"), fraction=fraction)


def test_only_plain_http_is_copied_to() -> None:
    with pytest.raises(ConfigurationError, match="Mirror: only a plain HTTP backend"):
        Mirror(MCPBackend("http://up/mcp"))


async def test_a_copy_s_client_never_leaves() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        assert (await receive())["body"] == b"body"
        more = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        assert not more.done()
        more.cancel()
        await send({"type": "http.response.start", "status": 200, "headers": []})

    mirror = copied_to(Copies())
    mirror.backend.app = app
    await post(gateway(mirror))
    await done(mirror)
    assert (mirror.sent, mirror.failed) == (1, 0)
