"""Forward: one request to one upstream, streamed both ways, through httpx's transport interface.

What was judged is what is sent: method, path and query byte for byte. It follows no redirect, keeps no cookie, retries
nothing that the transport does not, and never ends a response that the upstream has not ended.
"""

import asyncio
import errno
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any, Final

import httpx

from ..body import ClientGone
from ..decision import Decision, Reason, deny
from ..errors import ConfigurationError
from ..protocols.protocol import Protocol
from ..record import Record, record_of
from ..request import Request, Scope, below_mount
from ..respond import Message, Receive, Send, respond
from .connection import address
from .deadlines import NEVER, Deadlines
from .exchange import ResponseStream
from .headers import BadResponse, RawHeaderList, request_headers, response_headers
from .messages import UpstreamRequest, origin_of, raw_headers

if TYPE_CHECKING:
    from .websocket import WebSocketForward

PATIENCE: Final = 0.05  # seconds; most answers are there before a client could have been missed

_BODY_EXPECTED: Final = frozenset({"POST", "PUT", "PATCH"})

# What went wrong before the response began: status, what the client and the log are told. The first match counts.
_FAILURES: Final[tuple[tuple[type[Exception], int, str, Reason], ...]] = (
    (httpx.PoolTimeout, 503, "upstream call failed", Reason.UPSTREAM_FAILURE),
    (httpx.TimeoutException, 504, "upstream call timeout", Reason.TIMEOUT),
    (httpx.ConnectError, 503, "upstream call failed", Reason.UPSTREAM_FAILURE),
    (Exception, 502, "upstream call failed", Reason.UPSTREAM_FAILURE),
)

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
        timeout: httpx.Timeout,
        *,
        preserve_host: bool = False,
        endpoint: bool = False,
        withheld: frozenset[bytes] = frozenset(),
        protocol: Protocol | None = None,
        websockets: "WebSocketForward | None" = None,
    ) -> None:
        self._base = base
        self._transport = transport
        self._timeout = timeout.as_dict()
        self._prefix = base.raw_path.rstrip(b"/")
        self._target = base.raw_path if endpoint else None
        self._withheld = withheld
        self._host = None if preserve_host else base.netloc
        self._protocol = protocol
        self._watch: Deadlines | None = None  # over clients, of the loop that it was last used in
        self._websockets = websockets
        self._origin = origin_of(base)
        self._endpoint = address((base.host, self._origin[2]))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        record = record_of(scope)
        if record is None:
            raise ConfigurationError("a backend forwards only what a Gate has let through")
        loop = asyncio.get_running_loop()
        if self._watch is None or self._watch.loop is not loop:
            self._watch = Deadlines(loop)
        client = _Client(receive, self._watch)
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
            record.fail("client disconnected", None)
        finally:
            client.leave()

    async def _websocket(self, client: "_Client", record: Record, scope: Scope, receive: Receive, send: Send) -> None:
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

    async def _forward(
        self, request: httpx.Request, record: Record, client: "_Client", scope: Scope, send: Send
    ) -> None:
        record.endpoint = self._endpoint
        try:
            response = await self._transport.handle_async_request(request)
        except Exception as exc:
            if client.gone:
                raise ClientGone from None
            await self._refuse(_failed(exc), record, scope, send)
            return
        try:
            try:
                if not 200 <= response.status_code <= 599:
                    raise BadResponse("not a final status")
                headers = response_headers(raw_headers(response))
            except BadResponse as exc:
                record.attempts[-1].error = str(exc)
                await self._refuse(_failed(exc), record, scope, send)
                return
            await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
            await self._relay(response, record, client, send)
        finally:
            record.forwarded()
            await response.aclose()

    async def _relay(self, response: httpx.Response, record: Record, client: "_Client", send: Send) -> None:
        """The body, chunk by chunk. One that breaks off is not ended: servers then close the connection, which is how
        the client learns that something is missing."""
        stream: Any = response.stream
        ours = type(stream) is ResponseStream
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
                client.leave()  # servers call the end of a response a disconnect, too
                await send({"type": "http.response.body", "body": chunk or b"", "more_body": False})
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})

    def _upstream_request(self, record: Record, scope: Scope, client: "_Client") -> httpx.Request:
        view = record.view
        query: bytes = scope.get("query_string") or b""
        target = self._target or self._below(view)
        if query:
            target += b"?" + query
        headers = request_headers(scope["headers"], self._host, self._withheld)
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
            {"timeout": self._timeout, "record": record},
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


class _Client(httpx.AsyncByteStream):
    """The client's side of a forwarded request: its body as a stream and, once that is read, a watch on its leaving.

    ASGI tells of a disconnect only to who asks, and asking waits: so the watch is a task, which costs as much as half
    of all the rest. It is started for who still waits after `PATIENCE`. It cancels the forwarding task, as
    `asyncio.timeout` does.
    """

    def __init__(self, receive: Receive, deadlines: Deadlines) -> None:
        task = asyncio.current_task(deadlines.loop)
        assert task is not None
        self.task = task
        self.gone = False
        self.interrupted = False  # the watch has cancelled the task
        self.deadline = NEVER
        self._deadlines = deadlines
        self._receive = receive
        self._first: Message = {}
        self._watch: asyncio.Task[None] | None = None

    async def begin(self) -> None:
        """Take the first message: most requests are complete with it."""
        self._first = await self._next()
        if self.whole:
            self._begin_to_watch()

    @property
    def whole(self) -> bool:
        """Whether the first message holds the whole body."""
        return not self._first.get("more_body", False)

    @property
    def body(self) -> bytes:
        """What the first message holds of the body."""
        body: bytes = self._first.get("body", b"")
        return body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        message = self._first
        while True:
            if message.get("body"):
                yield message["body"]
            if not message.get("more_body", False):
                break
            message = await self._next()
        self._begin_to_watch()

    def _begin_to_watch(self) -> None:
        self._deadlines.watch(self)
        self._deadlines.set(self, PATIENCE)

    def expire(self) -> None:
        """It has waited long enough to be watched."""
        self.deadline = NEVER
        self._watch = self._deadlines.loop.create_task(self._wait())

    def shut(self) -> None:
        """Nobody shuts a client out."""

    async def _next(self) -> Message:
        message = await self._receive()
        if message["type"] != "http.request":
            self.gone = True
            raise ClientGone
        return message

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = self.interrupted = True
        self.task.cancel()

    def leave(self) -> None:
        """Stop watching."""
        self._deadlines.forget(self)
        if self._watch is not None:
            self._watch.cancel()


def _framing(headers: RawHeaderList, method: str, client: _Client) -> tuple[bytes, bytes] | None:
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
    return deny(message, status=status, code=code, reason=reason, detail=_detail(exc), policy="forward")


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
