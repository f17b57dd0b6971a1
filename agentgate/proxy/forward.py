"""Forward: one request to one upstream, streamed both ways, through httpx's transport interface.

What was judged is what is sent: method, path and query byte for byte. It follows no redirect, keeps no cookie, retries
nothing that the transport does not, and never ends a response that the upstream has not ended.
"""

import asyncio
import errno
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import httpx

from ..body import ClientGone
from ..deadlines import Clock
from ..decision import Decision, Reason, deny
from ..errors import ConfigurationError
from ..protocols.protocol import Protocol
from ..record import Record, record_of
from ..request import Request, Scope, below_mount
from ..respond import Receive, Send, respond
from .client import Client
from .connection import address
from .exchange import ResponseStream
from .headers import NOT_SENT, BadResponse, RawHeaderList, checked_response_headers, request_headers, response_headers
from .messages import UpstreamRequest, is_as_read, origin_of, raw_headers
from .timeouts import Timeouts

if TYPE_CHECKING:
    from .websocket import WebSocketForward

EVENTS: Final = b"text/event-stream"
_BODY_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})

# What went wrong before the response began: status, what the client and the log are told. The first match counts.
_FAILURES: Final[tuple[tuple[type[Exception], int, str, Reason], ...]] = (
    (httpx.PoolTimeout, 503, "upstream call failed", Reason.UPSTREAM_FAILURE),
    (httpx.TimeoutException, 504, "upstream call timeout", Reason.TIMEOUT),
    (httpx.ConnectError, 503, "upstream call failed", Reason.UPSTREAM_FAILURE),
    (Exception, 502, "upstream call failed", Reason.UPSTREAM_FAILURE),
)

_RETRY_AFTER: Final = ((b"retry-after", b"1"),)  # seconds; of a queue that is full, or that was too long to wait in

NO_WEBSOCKET: Final = deny(
    "websocket is not forwarded", code="websocket_not_forwarded", reason=Reason.INVALID_REQUEST, policy="forward"
)


class Refused(Exception):
    """A transport's own word on why it has not sent the request."""

    def __init__(self, decision: Decision) -> None:
        super().__init__(decision.detail)
        self.decision = decision


class Forward:
    """The ASGI app behind a gateway's policies: sends the request to `base` and the response back. What it refuses
    itself is said by the `protocol`. `transport` is an `Observed` one, or sends by way of those.

    `endpoint`: to that very URL, whatever the request's own path. `withheld`: headers that do not go on.
    """

    def __init__(
        self,
        base: httpx.URL,
        transport: httpx.AsyncBaseTransport,
        timeouts: Timeouts,
        *,
        preserve_host: bool = False,
        endpoint: bool = False,
        withheld: frozenset[bytes] = frozenset(),
        protocol: Protocol | None = None,
        websockets: "WebSocketForward | None" = None,
    ) -> None:
        self._base = base
        self._transport = transport
        self._timeouts = timeouts
        self._seconds = timeouts.for_transport()
        self._one_read = timeouts.first_byte == timeouts.idle == timeouts.events
        self._clock = Clock()
        self._prefix = base.raw_path.rstrip(b"/")
        self._target = base.raw_path if endpoint else None
        self._dropped = NOT_SENT | withheld
        self._host = None if preserve_host else base.netloc
        self._protocol = protocol
        self._websockets = websockets
        self._origin = origin_of(base)
        self._endpoint = address((base.host, self._origin[2]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        if record is None:
            raise ConfigurationError("a backend forwards only what a Gate has let through")
        client = Client(receive, self._clock.deadlines(), self._timeouts)
        if scope["type"] == "websocket":
            await self._websocket(client, record, scope, receive, send)
            return
        try:
            await client.begin()
            await self._forward(self._upstream_request(record, scope, client), record, client, scope, send)
        except ClientGone:
            record.fail("client disconnected", None)
        except asyncio.CancelledError:
            if not client.interrupted or client.task.uncancel() > 0:
                raise  # somebody else wants this task to end
            await self._interrupted(client.overdue, record, scope, send)
        finally:
            client.leave()

    async def _interrupted(self, overdue: Decision | None, record: Record, scope: Scope, send: Send) -> None:
        if overdue is None:
            record.fail("client disconnected", None)
        elif record.status is not None:  # begun: it is cut off
            record.fail(f"{overdue.message}: {overdue.detail}", overdue.reason)
        else:
            record.endpoint = record.endpoint or self._endpoint
            if overdue.status == 408 and scope.get("http_version", "1.1").startswith("1."):
                overdue = replace(overdue, headers=((b"connection", b"close"),))  # the rest of the body is unwanted
            await self._refuse(overdue, record, scope, send)

    async def _websocket(self, client: Client, record: Record, scope: Scope, receive: Receive, send: Send) -> None:
        if self._websockets is None:
            await self._refuse(NO_WEBSOCKET, record, scope, send)
            return
        record.endpoint = self._endpoint
        try:
            request = self._upstream_request(record, scope, client)
            await self._websockets.serve(request, record, scope, receive, send)
        except ClientGone:
            record.fail("client disconnected", None)
        except Exception as exc:
            if record.status is not None:
                raise  # the client has been answered
            await self._refuse(_failed(exc), record, scope, send)

    async def _forward(self, request: httpx.Request, record: Record, client: Client, scope: Scope, send: Send) -> None:
        record.endpoint = self._endpoint
        try:
            response = await self._transport.handle_async_request(request)
        except Exception as exc:
            if client.gone:
                raise ClientGone from None
            await self._refuse(_failed(exc), record, scope, send)
            return
        stream: Any = response.stream
        ours = type(stream) is ResponseStream
        try:
            try:
                if not 200 <= response.status_code <= 599:
                    raise BadResponse("not a final status")
                raw = raw_headers(response)
                as_read = ours and is_as_read(response)
                headers = checked_response_headers(raw) if as_read else response_headers(raw)
            except BadResponse as exc:
                record.attempts[-1].error = str(exc)
                await self._refuse(_failed(exc), record, scope, send)
                return
            if not self._one_read:  # transports look at it before each read
                events = any(name == b"content-type" and value.lower().startswith(EVENTS) for name, value in headers)
                request.extensions["timeout"]["read"] = self._timeouts.events if events else self._timeouts.idle
            start = {"type": "http.response.start", "status": response.status_code, "headers": headers}
            whole: bytes | None = stream.whole() if ours else None
            if whole is None:
                await send(start)
                await self._relay(stream, ours, record, client, send)
            else:
                client.leave()  # servers call the end of a response a disconnect, too
                await send(start)
                await send({"type": "http.response.body", "body": whole, "more_body": False})
        finally:
            record.forwarded()
            await response.aclose()

    async def _relay(self, stream: Any, ours: bool, record: Record, client: Client, send: Send) -> None:
        """The body, chunk by chunk. One that breaks off is not ended: servers then close the connection, which is how
        the client learns that something is missing."""
        chunks = aiter(stream)
        while True:
            try:
                chunk: bytes | None = await anext(chunks, None)
            except Exception as exc:
                if client.gone:
                    raise ClientGone from None
                _, _, message, reason = _failure(exc)
                record.attempts[-1].error = type(exc).__name__
                record.fail(f"{message}: {_detail(exc)}", reason)
                return
            if chunk is None or (ours and stream.at_end):
                client.leave()
                await send({"type": "http.response.body", "body": chunk or b"", "more_body": False})
                return
            await client.take(send, chunk)

    def _upstream_request(self, record: Record, scope: Scope, client: Client) -> httpx.Request:
        view = record.view
        query: bytes = scope.get("query_string") or b""
        path, host = record.rewritten  # by its route
        target = self._target or (self._below(view) if path is None else self._prefix + path)
        if query:
            target += b"?" + query
        headers = request_headers(scope["headers"], host or self._host, self._dropped)
        framing = _framing(scope["headers"], view.method, client)
        if framing is not None:
            headers.append(framing)
        return UpstreamRequest(
            view.method,
            self._base,
            self._origin,
            target,
            headers,
            httpx.ByteStream(client.body) if client.whole else client,
            {"timeout": self._seconds if self._one_read else dict(self._seconds), "record": record},
        )

    def _below(self, view: Request) -> bytes:
        """The path that goes on: what is below the mount, below the path of the base."""
        _, path = below_mount(view)
        if path == b"/" and self._prefix and not view.raw_path.endswith(b"/"):
            path = b""  # the very path that the route mounts: the very URL that the backend is at
        return self._prefix + path

    async def _refuse(self, decision: Decision, record: Record, scope: Scope, send: Send) -> None:
        if self._protocol is not None:
            decision = self._protocol.refuse(decision, record.view)
        record.refuse(decision)
        await respond(decision, scope, send)


def _framing(headers: RawHeaderList, method: str, client: Client) -> tuple[bytes, bytes] | None:
    """The one header that says where the body ends, made anew."""
    for name, value in headers:
        if name == b"content-length":
            return name, value
    if not client.whole:
        return b"transfer-encoding", b"chunked"
    if client.body or method in _BODY_EXPECTED:
        return b"content-length", str(len(client.body)).encode()
    return None


def _failed(exc: Exception) -> Decision:
    if isinstance(exc, Refused):
        return exc.decision
    status, code, message, reason = _failure(exc)
    headers = _RETRY_AFTER if isinstance(exc, httpx.PoolTimeout) else ()
    return deny(
        message, status=status, code=code, reason=reason, detail=_detail(exc), policy="forward", headers=headers
    )


def _failure(exc: Exception) -> tuple[int, str, str, Reason]:
    status, message, reason = next(row[1:] for row in _FAILURES if isinstance(exc, row[0]))
    return status, "upstream_timeout" if reason is Reason.TIMEOUT else "upstream_failure", message, reason


def _detail(exc: BaseException | None) -> str:
    """`ConnectError: ECONNREFUSED`: the kind of error and the system's word for it; other texts may quote anything."""
    if isinstance(exc, BadResponse):
        return str(exc)
    name, cause = type(exc).__name__, exc
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno is not None:
            return f"{name}: {errno.errorcode.get(cause.errno, cause.errno)}"
        cause = cause.__cause__ or cause.__context__
    return name
