"""WebSockets: what a backend allows of websockets, and how one is opened: by whoever may, and if the upstream does.

A backend forwards none unless it is told to. A client is accepted when the upstream has accepted, and not before: what
the upstream answers instead is its answer. Web pages open none, unless they are known: a browser sends cookies along
with a websocket wherever it comes from, and asks nobody.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

import httpx

from ..body import ClientGone
from ..decision import Decision, Reason, deny
from ..edge import NAME_BYTES
from ..errors import ConfigurationError, needs_extra
from ..origin import canonical, host_of, is_loopback, origin_faults
from ..record import Record
from ..request import Request, Scope
from ..respond import POLICY_VIOLATION, Message, Receive, Send
from .forward import Refused
from .headers import BadResponse, response_headers
from .messages import raw_headers
from .observed import Observed
from .upstream import PoolTransport

if TYPE_CHECKING:
    from .websocket_bridge import Bridge

DEFAULT_MAX_MESSAGE: Final = 16 * 1024 * 1024  # bytes; what uvicorn takes, and OpenAI's largest event
DEFAULT_MAX_OPEN: Final = 1000

# What is not for the client: the handshake is the server's own, and the body is none of it.
_OF_HANDSHAKE: Final = b"sec-websocket-"


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSockets:
    """What a backend allows of websockets; it wants the extra `websocket`.

    `origins`: web pages that may open one, such as `https://app.example.com`; clients that are no browsers need none.
    `max_message_bytes`: of one message, either way. `idle_seconds` without a message from either side, and
    `max_seconds` in all, end one; None: they do not. `max_open`: at the same time; further ones are 503.
    """

    origins: Sequence[str] = ()
    max_message_bytes: int = DEFAULT_MAX_MESSAGE
    idle_seconds: float | None = 300
    max_seconds: float | None = None
    max_open: int = DEFAULT_MAX_OPEN

    def __post_init__(self) -> None:
        if isinstance(self.origins, str):
            raise TypeError("origins is a list")
        faults = origin_faults(self.origins)
        for name in ("max_message_bytes", "idle_seconds", "max_seconds", "max_open"):
            value = getattr(self, name)
            endless = value is None and name.endswith("_seconds")
            if not (endless or (isinstance(value, int | float) and not isinstance(value, bool) and value > 0)):
                faults.append(f"{name} is more than 0")
        if find_spec("websockets") is None:
            faults.append(needs_extra("WebSockets", "websocket"))
        if faults:
            raise ConfigurationError(faults)


_UNKNOWN_ORIGIN: Final = deny(
    "websocket from an unknown origin", code="unknown_origin", reason=Reason.AUTHORIZATION, policy="forward"
)
_TOO_MANY: Final = deny(
    "too many websockets", status=503, code="too_many_websockets", reason=Reason.UPSTREAM_FAILURE, policy="forward"
)


class WebSocketForward:
    """Opens websockets by way of `transport`, whose responses have a `Socket`, and keeps the two ends together.
    `subprotocols`: those that are spoken; None: whatever client and upstream agree on."""

    def __init__(
        self, options: WebSockets, transport: httpx.AsyncBaseTransport, subprotocols: frozenset[str] | None = None
    ) -> None:
        self._options = options
        self._transport = transport
        self._subprotocols = subprotocols
        self._origins = frozenset(map(canonical, options.origins))
        self._count = 0  # open, or being opened
        self._bridges: set[Bridge] = set()

    async def serve(self, request: httpx.Request, record: Record, scope: Scope, receive: Receive, send: Send) -> None:
        """From the handshake to the end. What is raised before the client is answered says why it cannot be."""
        if (await receive())["type"] != "websocket.connect":
            raise ClientGone
        refusal = self._refusal(record.view)
        if refusal is not None:
            raise Refused(refusal)
        request.extensions["subprotocols"] = [name for name in scope.get("subprotocols") or () if self._speaks(name)]
        self._count += 1
        try:
            early: list[Message] = []
            response = await self._ask(request, receive, early)
            if response.status_code == 101:
                await self._open(response, record, _after(early, receive), send)
            else:
                await _relay_refusal(response, scope, send)
        finally:
            self._count -= 1
            record.forwarded()

    async def _ask(self, request: httpx.Request, receive: Receive, early: list[Message]) -> httpx.Response:
        """The upstream's answer; it is not waited for when the client is gone. `early`: what it says before."""
        gone = False
        response: httpx.Response | None = None

        async def watch() -> None:
            nonlocal gone
            message = await receive()
            if message["type"] != "websocket.disconnect":
                early.append(message)  # one, and no more is asked for
                return
            gone = True
            waiting.reschedule(asyncio.get_running_loop().time())

        try:
            async with asyncio.timeout(None) as waiting:
                watching = asyncio.create_task(watch())
                try:
                    response = await self._transport.handle_async_request(request)
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
        except TimeoutError:
            if not gone:
                raise
        if response is None or gone:
            if response is not None and response.status_code == 101:
                response.extensions["websocket"].abort()
            raise ClientGone
        return response

    def _refusal(self, request: Request) -> Decision | None:
        origin = request.by_name.get(b"origin")
        if origin is not None:
            known = canonical(origin.decode("latin-1"))
            local = is_loopback(request.host) and known is not None and is_loopback(host_of(known))
            if known is None or (known not in self._origins and not local):
                return _UNKNOWN_ORIGIN
        return _TOO_MANY if self._count >= self._options.max_open else None

    def _speaks(self, name: str) -> bool:
        """Whether a subprotocol that the client offers is for the upstream to choose; it is a token (RFC 6455 §4.1)."""
        if self._subprotocols is not None:
            return name in self._subprotocols
        return bool(name) and name.isascii() and not name.lower().encode().translate(None, NAME_BYTES + b"_")

    async def _open(self, response: httpx.Response, record: Record, receive: Receive, send: Send) -> None:
        from .websocket_bridge import Bridge

        socket = response.extensions["websocket"]
        try:
            headers = [
                pair
                for pair in response_headers(raw_headers(response))
                if pair[0] != b"content-length" and not pair[0].startswith(_OF_HANDSHAKE)
            ]
            try:
                await send({"type": "websocket.accept", "subprotocol": socket.subprotocol, "headers": headers})
            except OSError:  # as servers say of a client that is gone
                raise ClientGone from None
            options = self._options
            bridge = Bridge(
                receive,
                send,
                socket,
                record,
                max_message_bytes=options.max_message_bytes,
                idle_seconds=options.idle_seconds,
                max_seconds=options.max_seconds,
            )
            self._bridges.add(bridge)
            try:
                await bridge.run()
            finally:
                self._bridges.discard(bridge)
        finally:
            socket.abort()

    def shut(self) -> None:
        """End every websocket that is open."""
        for bridge in [*self._bridges]:
            bridge.shut()


def _after(early: list[Message], receive: Receive) -> Receive:
    async def receiving() -> Message:
        return early.pop() if early else await receive()

    return receiving if early else receive


async def _relay_refusal(response: httpx.Response, scope: Scope, send: Send) -> None:
    """The upstream's own answer to a handshake, where the server can send one; else it is 403."""
    if response.status_code < 300:
        raise BadResponse("neither a handshake nor a refusal")
    headers = [pair for pair in response_headers(raw_headers(response)) if pair[0] != b"content-length"]
    if "websocket.http.response" not in (scope.get("extensions") or {}):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
        return
    stream: Any = response.stream  # as it is: httpx would undo its coding
    body = b"".join([chunk async for chunk in stream])
    headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": "websocket.http.response.start", "status": response.status_code, "headers": headers})
    await send({"type": "websocket.http.response.body", "body": body})


def websocket_forward(
    options: WebSockets | None,
    transport: httpx.AsyncBaseTransport,
    through: Callable[[httpx.AsyncBaseTransport], httpx.AsyncBaseTransport] = lambda dialer: dialer,
    subprotocols: frozenset[str] | None = None,
) -> WebSocketForward | None:
    """What a backend forwards websockets with, if it forwards any: TLS as its `transport` has it, and `through`
    whatever chooses among several upstreams."""
    if options is None:
        return None
    if not isinstance(transport, PoolTransport):
        raise ConfigurationError("a backend with websockets has a PoolTransport")
    from .websocket_upstream import Dialer

    dialer = Observed(Dialer(transport.context, options.max_message_bytes))
    return WebSocketForward(options, through(dialer), subprotocols)
