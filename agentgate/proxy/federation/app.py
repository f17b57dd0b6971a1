"""Federation: several MCP servers as one, spoken to over Streamable HTTP in any revision from 2025-03-26 on.

It is the app behind a Gate, and relies on it: who may call and see what has been judged, by the same `Targets`, when a
request arrives here, and a session id belongs to the one who sends it. The `mcp` SDK does the transport.
"""

import asyncio
import contextvars
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any, Final

import anyio
import anyio.abc
import httpx2
from mcp.server.streamable_http import StreamableHTTPServerTransport
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import ERROR_CODE_HTTP_STATUS
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

from ... import strict_json
from ...body import ClientGone
from ...protocols.json_rpc import (
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    PARSE_ERROR,
    Id,
    RPCFault,
    error_bytes,
    id_of,
    read_message,
)
from ...protocols.mcp.eras import MODERN
from ...protocols.mcp.targets import Targets
from ...record import record_of
from ...request import Scope
from ...respond import Receive, Send
from .conversation import Conversation
from .target import MCPTarget
from .upstream import CAPABILITIES_KEY, CLOSE_SECONDS, Pool

MAX_SESSIONS: Final = 1000  # of up to 2025-11-25; each has a connection to every target
IDLE_SECONDS: Final = 1800.0  # without a request or an open stream, then a session ends
PING_SECONDS: Final = 15.0  # between signs of life on a stream of 2026-07-28 that is silent

_PARAM: Final = b"mcp-param-"
_EVENTS: Final = [
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]

_logger = logging.getLogger("agentgate.mcp")


class Federation:
    """The ASGI app for `targets`, by name. It starts with its first request and ends with `aclose`."""

    def __init__(
        self, targets: Mapping[str, MCPTarget], transports: Mapping[str, httpx2.AsyncBaseTransport] | None = None
    ) -> None:
        from ... import __version__

        self.targets = Targets(targets)
        self._me = {"name": "agentgate", "version": __version__}
        self._pools = {
            name: Pool(name, target, self._me, (transports or {}).get(name)) for name, target in targets.items()
        }
        self._sessions: dict[str, _Session] = {}
        self._tasks: anyio.abc.TaskGroup | None = None
        self._runner: asyncio.Task[None] | None = None
        self._running, self._stopping = asyncio.Event(), asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"  # the Gate's protocol has refused all else
        version = next((value for name, value in scope["headers"] if name == b"mcp-protocol-version"), b"")
        if version.strip(b" \t").decode("latin-1") in MODERN:
            await self._exchange(scope, receive, send)
        else:
            await self._in_session(scope, receive, send)

    # -- up to 2025-11-25: sessions ------------------------------------------------------------------------------------

    async def _in_session(self, scope: Scope, receive: Receive, send: Send) -> None:
        id = next((value.decode("latin-1") for name, value in scope["headers"] if name == b"mcp-session-id"), None)
        if id is not None:
            session = self._sessions.get(id)
            if session is None:
                await _refuse(send, 404, INVALID_REQUEST, "session not found")
                return
            asked = _asked(scope)
            if asked is not None and asked in session.asked:  # its answer could not be told from the other's
                await _refuse(send, 400, INVALID_REQUEST, "a request with this id is under way")
                return
            session.asked.add(asked)
            try:
                await session.transport.handle_request(scope, receive, send)
            finally:
                session.asked.discard(asked)
            if session.transport.is_terminated:
                self._sessions.pop(id, None)
        elif scope["method"] != "POST":
            await _refuse(send, 400, INVALID_REQUEST, "session header is required for non-initialize requests")
        elif len(self._sessions) >= MAX_SESSIONS:
            await _refuse(send, 503, INTERNAL_ERROR, "too many sessions")
        else:
            await self._open_session(scope, receive, send)

    async def _open_session(self, scope: Scope, receive: Receive, send: Send) -> None:
        session = _Session(secrets.token_urlsafe(32))
        self._sessions[session.id] = session
        try:
            tasks = await self._started()
            await tasks.start(self._serve, session)
            await session.transport.handle_request(scope, receive, send)
        finally:
            if not session.opened:
                await self._end(session)

    async def _serve(self, session: "_Session", *, task_status: anyio.abc.TaskStatus[None]) -> None:
        """Run one session, until it is deleted, idle for too long, or the gateway stops."""
        try:
            async with session.transport.connect() as (read, write):
                dispatcher = JSONRPCDispatcher(read, write, inline_methods=frozenset({"initialize"}))
                conversation = Conversation(
                    self._pools, self.targets, self._me, modern=False, standalone=dispatcher.notify
                )

                async def on_request(context: Any, method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
                    if (method == "initialize") == session.opened and method != "ping":
                        raise MCPError(
                            INVALID_REQUEST, "the session is open" if session.opened else "no session is open"
                        )
                    result = await conversation.request(context, method, params or {})
                    session.opened = session.opened or method == "initialize"
                    return result

                async def on_notify(context: Any, method: str, params: Mapping[str, Any] | None) -> None:
                    await conversation.notification(method, params or {})

                idle = session.transport.idle_scope
                assert idle is not None  # as it is connected
                async with conversation:
                    task_status.started()
                    with idle:
                        await dispatcher.run(on_request, on_notify)
        except Exception:
            _logger.exception("a session failed")
        finally:
            await self._end(session)

    async def _end(self, session: "_Session") -> None:
        self._sessions.pop(session.id, None)
        if not session.transport.is_terminated:
            with anyio.CancelScope(shield=True):
                await session.transport.terminate()

    # -- 2026-07-28: one request ---------------------------------------------------------------------------------------

    async def _exchange(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "POST":
            await _refuse(send, 405, INVALID_REQUEST, "2026-07-28 has POST alone", [(b"allow", b"POST")])
            return
        try:
            message = read_message(strict_json.loads(await _body(receive)))
        except ClientGone:
            return
        except strict_json.StrictJSONError:
            await _refuse(send, 400, PARSE_ERROR, "Parse error")
            return
        except RPCFault as fault:
            await _refuse(send, 400, fault.code, str(fault))
            return
        if message.kind != "request":
            await send({"type": "http.response.start", "status": 202, "headers": []})
            await send({"type": "http.response.body", "body": b""})
            return
        meta = message.params.get("_meta") or {}
        able = meta.get(CAPABILITIES_KEY)
        if not isinstance(able, dict):
            await _refuse(send, 400, INVALID_PARAMS, f"_meta has no {CAPABILITIES_KEY}", id=message.id)
            return
        conversation = Conversation(
            self._pools,
            self.targets,
            self._me,
            modern=True,
            capabilities=able,
            headers={
                name.decode("latin-1"): value.decode("latin-1")
                for name, value in scope["headers"]
                if name.startswith(_PARAM)
            },
        )
        answer = _Answer(message.id, meta.get("progressToken"), send)
        async with conversation, anyio.create_task_group() as tasks:
            tasks.start_soon(_until_gone, receive, tasks.cancel_scope)
            tasks.start_soon(answer.stay_alive)
            try:
                await answer.result(await conversation.request(answer, message.method, message.params))
            except MCPError as exc:
                await answer.error(exc.code, exc.message, exc.data)
            tasks.cancel_scope.cancel()

    # -- running -------------------------------------------------------------------------------------------------------

    async def _started(self) -> anyio.abc.TaskGroup:
        """Where sessions run: in nobody's request, with nobody's context."""
        if self._runner is None:
            self._runner = asyncio.create_task(self._run(), context=contextvars.Context())
        await self._running.wait()
        if self._tasks is None:
            raise RuntimeError("the federation is being closed")
        return self._tasks

    async def _run(self) -> None:
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            self._running.set()
            await self._stopping.wait()
            self._tasks = None  # nothing is opened any more
            for session in [*self._sessions.values()]:
                await session.transport.terminate()
            with anyio.move_on_after(CLOSE_SECONDS):
                while self._sessions:
                    await anyio.sleep(0.01)
            tasks.cancel_scope.cancel()

    async def aclose(self) -> None:
        """End all sessions, here and at the targets, and close the connections."""
        if self._runner is not None:
            self._stopping.set()
            await self._runner
            self._runner = None
            self._running, self._stopping = asyncio.Event(), asyncio.Event()
        for pool in self._pools.values():
            await pool.aclose()


def _asked(scope: Scope) -> str | None:
    """The id of a request, as the SDK keeps it: as text, so that 1 and "1" are one. None where there is none."""
    record = record_of(scope)
    if record is None or scope["method"] != "POST":
        return None
    message = record.view.json()
    id = id_of(message)
    return None if id is None or "method" not in message else str(id)


class _Session:
    """One client's session of up to 2025-11-25."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.transport = StreamableHTTPServerTransport(id, idle_timeout=IDLE_SECONDS)
        self.opened = False  # by an `initialize` that was answered
        self.asked: set[str | None] = set()  # ids of requests under way


class _Answer:
    """The answer to one request of 2026-07-28: JSON, or an event stream if something has to be told before it."""

    def __init__(self, id: Id, progress_token: Any, send: Send) -> None:
        self.request_id = id
        self._progress_token = progress_token
        self._send = send
        self._streaming = False
        self._lock = anyio.Lock()

    async def notify(self, method: str, params: Mapping[str, Any] | None) -> None:
        await self._event({"jsonrpc": "2.0", "method": method, "params": dict(params or {})})

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None:
        params = {"progressToken": self._progress_token, "progress": progress, "total": total, "message": message}
        await self.notify(
            "notifications/progress", {name: value for name, value in params.items() if value is not None}
        )

    async def send_raw_request(self, method: str, params: Mapping[str, Any] | None) -> dict[str, Any]:
        raise MCPError(INVALID_REQUEST, "2026-07-28 has no requests from servers")

    async def result(self, result: dict[str, Any]) -> None:
        await self._last(200, {"jsonrpc": "2.0", "id": self.request_id, "result": result})

    async def error(self, code: int, text: str, data: Any) -> None:
        error = {"code": code, "message": text} if data is None else {"code": code, "message": text, "data": data}
        status = ERROR_CODE_HTTP_STATUS.get(code, 200)
        await self._last(status, {"jsonrpc": "2.0", "id": self.request_id, "error": error})

    async def stay_alive(self) -> None:
        """Comments on a stream that is silent, so that nobody on the way takes it for dead."""
        while True:
            await anyio.sleep(PING_SECONDS)
            if self._streaming:
                async with self._lock:
                    await self._send({"type": "http.response.body", "body": b": ping\n\n", "more_body": True})

    async def _event(self, message: dict[str, Any]) -> None:
        async with self._lock:
            if not self._streaming:
                self._streaming = True
                await self._send({"type": "http.response.start", "status": 200, "headers": _EVENTS})
            await self._send({"type": "http.response.body", "body": _as_event(message), "more_body": True})

    async def _last(self, status: int, message: dict[str, Any]) -> None:
        async with self._lock:
            if self._streaming:
                await self._send({"type": "http.response.body", "body": _as_event(message), "more_body": False})
                return
            await _json(self._send, status, _written(message))


async def _until_gone(receive: Receive, scope: anyio.CancelScope) -> None:
    """Closing the stream is how a client of 2026-07-28 cancels."""
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def _body(receive: Receive) -> bytes:
    """The request's body, which the Gate has read and bounded."""
    chunks = []
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise ClientGone
        chunks.append(message.get("body") or b"")
        more = message.get("more_body", False)
    return b"".join(chunks)


async def _refuse(
    send: Send,
    status: int,
    code: int,
    text: str,
    headers: list[tuple[bytes, bytes]] | None = None,
    *,
    id: Id = None,
) -> None:
    await _json(send, status, error_bytes(id, code, text), headers)


async def _json(send: Send, status: int, body: bytes, headers: list[tuple[bytes, bytes]] | None = None) -> None:
    head = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *(headers or ())]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def _written(message: dict[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _as_event(message: dict[str, Any]) -> bytes:
    return b"event: message\ndata: " + _written(message) + b"\n\n"
