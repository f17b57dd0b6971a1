"""WebSockets that a backend does or does not forward, without a server: options, and refusals over raw ASGI."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agentgate import (
    A2ABackend,
    CELRules,
    ConfigurationError,
    Gate,
    HTTPBackend,
    LLMBackend,
    MCPBackend,
    Route,
    WebSockets,
    create_gateway,
)
from agentgate.proxy.forward import Forward
from agentgate.proxy.messages import UpstreamResponse
from agentgate.proxy.observed import Observed
from agentgate.proxy.timeouts import Timeouts
from agentgate.proxy.websocket import WebSocketForward
from agentgate.proxy.websocket_upstream import Dialer
from agentgate.testing import Recorder, drive, websocket_scope

pytestmark = pytest.mark.anyio

ANY = CELRules(allow=["true"])


@pytest.mark.parametrize(
    ("options", "fault"),
    [
        ({"origins": ["app.example"]}, "origins: 'app.example' is no origin"),
        ({"origins": ["https://app.example/path"]}, "is no origin"),
        ({"origins": ["*"]}, "origins: '*' is no origin"),
        ({"origins": [1]}, "origins: 1 is no origin"),
        ({"max_message_bytes": 0}, "max_message_bytes is more than 0"),
        ({"idle_seconds": -1}, "idle_seconds is more than 0"),
        ({"max_seconds": 0}, "max_seconds is more than 0"),
        ({"max_open": 0}, "max_open is more than 0"),
        ({"max_open": None}, "max_open is more than 0"),
        ({"max_message_bytes": None}, "max_message_bytes is more than 0"),
        ({"max_seconds": "60"}, "max_seconds is more than 0"),
        ({"idle_seconds": True}, "idle_seconds is more than 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], fault: str) -> None:
    with pytest.raises(ConfigurationError, match=fault.replace("*", "\\*")):
        WebSockets(**options)


def test_all_faults_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        WebSockets(origins=["a", "b"], max_open=0)
    assert len(caught.value.faults) == 3
    with pytest.raises(TypeError, match="origins is a list"):
        WebSockets(origins="https://app.example")


@pytest.mark.parametrize("backend", [HTTPBackend, LLMBackend])
def test_a_transport_that_opens_none(backend: Any) -> None:
    transport = httpx.MockTransport(lambda request: httpx.Response(200))
    with pytest.raises(ConfigurationError, match="has a PoolTransport"):
        backend("http://up", transport=transport, websockets=WebSockets())
    backend("http://up", transport=transport)


@pytest.mark.parametrize("denial", [True, False])
@pytest.mark.parametrize(
    "backend", [HTTPBackend("http://up"), MCPBackend("http://up/mcp"), A2ABackend("http://up"), LLMBackend("http://up")]
)
async def test_no_backend_forwards_any_unless_told_to(backend: Any, denial: bool) -> None:
    """Nobody is asked: there is no such host."""
    gateway = create_gateway(Route("/", backend), authorize=[ANY], authenticate=[], public_url="http://localhost")
    answered = await drive(gateway, websocket_scope("/v1/realtime?model=m", denial=denial))
    assert answered.status in ((403, 404) if denial else (None,))
    assert answered.close_code == (None if denial else 1008)


class Answers(httpx.AsyncBaseTransport):
    """Answers a handshake, without a server."""

    def __init__(self, status: int, *headers: tuple[bytes, bytes], error: Exception | None = None) -> None:
        self.status = status
        self.headers = [*headers]
        self.error = error
        self.asked: list[httpx.Request] = []

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        if self.error is not None:
            raise self.error
        return UpstreamResponse(self.status, self.headers, httpx.ByteStream(b"no"), {})


def behind(transport: httpx.AsyncBaseTransport, recorder: Recorder, **options: Any) -> Gate:
    sockets = WebSocketForward(WebSockets(**options), Observed(transport))
    app = Forward(httpx.URL("http://up"), transport, Timeouts(), websockets=sockets)
    return Gate(app, authorize=[ANY], observe=[recorder])


@pytest.mark.parametrize("denial", [True, False])
async def test_a_refusal_where_the_server_can_send_one_and_where_not(denial: bool) -> None:
    recorder = Recorder()
    transport = Answers(418, (b"X-Why", b"because"), (b"Content-Length", b"2"), (b"Connection", b"close"))
    answered = await drive(behind(transport, recorder), websocket_scope("/", denial=denial))
    if denial:
        assert (answered.status, answered.body) == (418, b"no")
        assert answered.headers == {"x-why": "because", "content-length": "2"}
    else:
        assert answered.close_code == 1008
    assert recorder.last.status == (418 if denial else 403)
    assert [attempt.status for attempt in recorder.last.attempts] == [418]
    assert recorder.last.attempts[0].duration is not None


@pytest.mark.parametrize(
    ("transport", "status"),
    [
        (Answers(200), 502),
        (Answers(204), 502),
        (Answers(100), 502),
        (Answers(403, (b"x", b"a\nb")), 502),
        (Answers(0, error=httpx.ConnectError("secret")), 503),
        (Answers(0, error=httpx.ReadTimeout("secret")), 504),
        (Answers(0, error=KeyError("secret")), 502),
        (Answers(0, error=TimeoutError("secret")), 502),
    ],
)
async def test_no_answer(transport: Answers, status: int) -> None:
    recorder = Recorder()
    answered = await drive(behind(transport, recorder), websocket_scope("/"))
    assert answered.status == status
    assert "secret" not in answered.text + repr(recorder.last.refusal)


@pytest.mark.parametrize(
    ("origin", "host", "status"),
    [
        (None, "gate.example", 418),
        ("https://app.example", "gate.example", 418),
        ("https://app.example:443", "gate.example", 418),
        ("https://gate.example", "gate.example", 403),
        ("https://evil.example", "gate.example", 403),
        ("https://app.example@evil.example", "gate.example", 403),
        ("null", "gate.example", 403),
        ("", "gate.example", 403),
        ("http://localhost:3000", "gate.example", 403),
        ("http://localhost:3000", "127.0.0.1:8080", 418),
        ("http://localhost.evil.example", "localhost", 403),
    ],
)
async def test_pages_that_may_open_one(origin: str | None, host: str, status: int) -> None:
    transport = Answers(418)
    headers = {"host": host} | ({} if origin is None else {"origin": origin})
    gate = behind(transport, Recorder(), origins=["https://app.example"])
    answered = await drive(gate, websocket_scope("/", headers=headers))
    assert answered.status == status
    assert bool(transport.asked) is (status == 418)


@pytest.mark.parametrize(
    ("offered", "goes_on"),
    [(["a", "b.c"], ["a", "b.c"]), (["", "a b", "é", "a,b", "ok"], ["ok"]), (None, [])],
)
async def test_subprotocols_that_go_on(offered: list[str] | None, goes_on: list[str]) -> None:
    transport = Answers(418)
    scope = websocket_scope("/")
    scope["subprotocols"] = offered
    await drive(behind(transport, Recorder()), scope)
    assert transport.asked[0].extensions["subprotocols"] == goes_on


async def test_of_an_llm_s_subprotocols_no_key_goes_on() -> None:
    transport = Answers(418)
    backend = LLMBackend("http://up/v1", websockets=WebSockets())
    assert backend._websockets is not None
    backend._websockets._transport = Observed(transport)
    scope = websocket_scope("/v1/realtime?model=m")
    scope["subprotocols"] = ["realtime", "openai-insecure-api-key.hunter2"]
    await drive(Gate(backend.app, authorize=[ANY], protocol=backend.protocol), scope)
    assert transport.asked[0].extensions["subprotocols"] == ["realtime"]


async def test_a_client_that_is_gone_before_anything() -> None:
    recorder = Recorder()
    transport = Answers(101)
    gate = behind(transport, recorder)
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "websocket.disconnect", "code": 1006}

    async def send(message: Any) -> None:
        sent.append(message)

    await gate(websocket_scope("/"), receive, send)
    assert (sent, transport.asked) == ([], [])
    assert recorder.last.error == "client disconnected"


async def gone_after(exchange: list[str], gate: Gate) -> None:
    """A client that leaves while its handshake is not answered."""
    messages = [{"type": "websocket.connect"}, {"type": "websocket.disconnect", "code": 1006}]

    async def receive() -> dict[str, Any]:
        return messages.pop(0) if messages else await asyncio.Event().wait()  # type: ignore[return-value]

    async def send(message: Any) -> None:
        exchange.append(message["type"])

    async with asyncio.timeout(5):
        await gate(websocket_scope("/"), receive, send)


class Slow(httpx.AsyncBaseTransport):
    """Answers after so many turns of the loop, or never."""

    def __init__(self, turns: int | None) -> None:
        self.turns = turns
        self.aborted = 0
        self.cancelled = False

    def abort(self) -> None:
        self.aborted += 1

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            if self.turns is None:
                await asyncio.Event().wait()
            for _ in range(self.turns or 0):
                await asyncio.sleep(0)
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return UpstreamResponse(101, [], httpx.ByteStream(b""), {"websocket": self})


@pytest.mark.parametrize("turns", [None, *range(1, 6)])
async def test_a_client_that_is_gone_before_the_answer(turns: int | None) -> None:
    """Whichever comes first: nothing is left open at the upstream, and the client is told nothing."""
    recorder, transport, told = Recorder(), Slow(turns), []  # type: ignore[var-annotated]
    await gone_after(told, behind(transport, recorder))
    assert told == []
    assert transport.cancelled or transport.aborted
    assert recorder.last.error == "client disconnected"


async def test_a_task_that_is_cancelled_stays_cancelled() -> None:
    transport = Slow(None)
    task = asyncio.create_task(drive(behind(transport, Recorder()), websocket_scope("/")))
    for _ in range(5):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert transport.cancelled


class Open(httpx.AsyncBaseTransport):
    """Opens a websocket after a few turns of the loop, and keeps what is said to it."""

    subprotocol = None
    closed = 1000, ""

    def __init__(self) -> None:
        self.said: list[bytes] = []
        self.code: int | None = None
        self.aborted = False

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        for _ in range(5):
            await asyncio.sleep(0)
        return UpstreamResponse(101, [(b"x-a", b"1"), (b"Sec-WebSocket-X", b"1")], httpx.ByteStream(b""), {
            "websocket": self
        })  # fmt: skip

    async def messages(self) -> AsyncIterator[str]:
        await asyncio.Event().wait()
        yield ""

    async def send(self, data: bytes, *, text: bool) -> None:
        self.said.append(data)

    async def close(self, code: int | None, reason: str) -> None:
        self.code = code

    def abort(self) -> None:
        self.aborted = True


async def test_what_a_client_says_before_it_is_accepted_goes_on_first() -> None:
    upstream, answered = Open(), []
    words = [{"type": "websocket.receive", "text": word} for word in "abc"]
    messages = [{"type": "websocket.connect"}, *words, {"type": "websocket.disconnect", "code": 1000}]

    async def receive() -> Any:
        return messages.pop(0)

    async def send(message: Any) -> None:
        answered.append(message)

    await behind(upstream, Recorder())(websocket_scope("/"), receive, send)
    assert answered == [{"type": "websocket.accept", "subprotocol": None, "headers": [(b"x-a", b"1")]}]
    assert (upstream.said, upstream.code, upstream.aborted) == ([b"a", b"b", b"c"], 1000, True)


async def test_a_client_that_cannot_be_told_that_it_is_accepted() -> None:
    recorder, upstream = Recorder(), Open()

    def lost(message: Any) -> None:
        raise OSError

    await drive(behind(upstream, recorder), websocket_scope("/"), on_send=lost)
    assert recorder.last.error == "client disconnected"
    assert upstream.aborted


async def test_whoever_closes_the_backend_ends_what_is_open() -> None:
    upstream = Open()
    sockets = WebSocketForward(WebSockets(max_open=1), Observed(upstream))
    gate = Gate(Forward(httpx.URL("http://up"), upstream, Timeouts(), websockets=sockets), authorize=[ANY])

    async def busy(message: Any) -> None:
        further.append((await drive(gate, websocket_scope("/"))).status)
        sockets.shut()

    further: list[int | None] = []
    tasks: list[asyncio.Task[None]] = []
    answered = await drive(
        gate,
        websocket_scope("/"),
        on_send=lambda message: (
            tasks.append(asyncio.create_task(busy(message))) if message["type"] == "websocket.accept" else None
        ),
    )
    await asyncio.gather(*tasks)
    assert (answered.close_code, upstream.code, further) == (1001, 1001, [503])


async def test_a_refusal_in_a_coding_goes_on_in_it() -> None:
    transport = Answers(418, (b"content-encoding", b"gzip"))
    answered = await drive(behind(transport, Recorder()), websocket_scope("/"))
    assert (answered.body, answered.headers["content-encoding"]) == (b"no", "gzip")


async def test_what_is_in_the_handshake() -> None:
    """Nothing of the client's own handshake, and nothing that belongs to a body."""
    got: list[bytes] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        got.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        backend = HTTPBackend(f"http://127.0.0.1:{port}", websockets=WebSockets())
        gate = Gate(backend.app, authorize=[ANY])
        headers = {
            "host": "gate.example", "x-own": "1", "cookie": "a=b", "upgrade": "websocket",
            "connection": "Upgrade, x-hop",
            "x-hop": "1", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ==", "sec-websocket-version": "13",
            "sec-websocket-extensions": "permessage-deflate", "sec-websocket-protocol": "a", "content-length": "0",
            "content-type": "text/plain", "x-original-url": "/other", "sec-websocket-accept": "x",
        }  # fmt: skip
        assert (await drive(gate, websocket_scope("/a%20b?c=d", headers=headers, subprotocols=["a"]))).status == 403
        await backend.aclose()
    lines = got[0].decode().split("\r\n")
    key = next(line for line in lines if line.startswith("sec-websocket-key: "))
    assert key != "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=="
    assert lines == [
        "GET /a%20b?c=d HTTP/1.1", f"host: 127.0.0.1:{port}", "x-own: 1", "cookie: a=b", "upgrade: websocket",
        "connection: Upgrade", key, "sec-websocket-version: 13", "sec-websocket-protocol: a", "", "",
    ]  # fmt: skip


async def test_a_target_that_cannot_be_sent() -> None:
    dialer = Dialer(lambda: None, 1)  # type: ignore[arg-type, return-value]
    request = httpx.Request("GET", "http://up/", extensions={"timeout": httpx.Timeout(1).as_dict(), "target": b"/a b"})
    with pytest.raises(httpx.LocalProtocolError):
        await dialer.handle_async_request(request)
