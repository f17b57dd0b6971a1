"""One connection to one target, for one client: opened, asked, told, and closed so that nothing stays behind.

It is made of the `mcp` SDK's transport and dispatcher, which know nothing of what is said; messages go through as
plain JSON. A target speaks 2026-07-28, where each request stands alone, or an earlier revision with a session of its
own; which of them it is is found out once. Two clients never share a connection's state: no session, no cookie, no id.
"""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from http.cookiejar import CookieJar, DefaultCookiePolicy
from types import TracebackType
from typing import Any, Final

import anyio
import anyio.abc
import httpx2
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError
from mcp.shared.inbound import encode_header_value
from mcp.shared.jsonrpc_dispatcher import JSONRPCDispatcher

from ...observe.trace_context import current_headers
from ...protocols.json_rpc import INTERNAL_ERROR, INVALID_REQUEST, METHOD_NOT_FOUND, PARSE_ERROR
from ...protocols.mcp.answers import MAX_ANSWER_BYTES
from ...protocols.mcp.eras import HEADER_MISMATCH, LEGACY, MODERN, UNSUPPORTED_VERSION
from ...protocols.mcp.methods import MODERN_NAMING, VERSION_KEY
from ...protocols.sse import MAX_EVENT_BYTES
from .target import MCPTarget

Message = dict[str, Any]

CONNECT_SECONDS: Final = 10.0  # to connect and to shake hands
DOWN_SECONDS: Final = 5.0  # for which a target that could not be reached is not tried again
CLOSE_SECONDS: Final = 5.0  # to end a session at the target
CONNECTIONS: Final = 1000  # to one target: every session of up to 2025-11-25 keeps a stream open

SUBSCRIPTION_KEY: Final = "io.modelcontextprotocol/subscriptionId"
CAPABILITIES_KEY: Final = "io.modelcontextprotocol/clientCapabilities"
_CLIENT_KEY: Final = "io.modelcontextprotocol/clientInfo"
_OURS: Final = ("progressToken", VERSION_KEY, CAPABILITIES_KEY, _CLIENT_KEY)
_CONNECTION_CLOSED: Final = -32000  # the SDK's words for what never came over the wire
_NO_ANSWER: Final = frozenset({_CONNECTION_CLOSED, -32001, PARSE_ERROR})  # -32001: it took too long
# A server that is spoken to in another revision than it speaks answers with one of these.
_WRONG_ERA: Final = frozenset({INVALID_REQUEST, METHOD_NOT_FOUND, HEADER_MISMATCH, UNSUPPORTED_VERSION, INTERNAL_ERROR})

_logger = logging.getLogger("agentgate.mcp")


class Unavailable(Exception):
    """A target cannot be asked. The text is for clients: it says which, and never why."""

    def __init__(self, target: str) -> None:
        super().__init__(f"target {target} is not available")


class Pool:
    """The connections to one target, which all clients share; and what is known of it."""

    def __init__(
        self, name: str, target: MCPTarget, me: Mapping[str, str], transport: httpx2.AsyncBaseTransport | None = None
    ) -> None:
        self.name = name
        self.target = target
        self.client_info = me
        self.modern: bool | None = None  # whether it speaks 2026-07-28; not known yet
        self._down_until = 0.0
        self.sessions: bool | None = None  # whether it speaks a revision before that
        self._headers = {
            "user-agent": f"{me['name']}/{me['version']}",
            "accept-encoding": "identity",  # what is compressed could be any size
            **target.headers(),
        }
        self._transport = transport or httpx2.AsyncHTTPTransport(
            trust_env=False, limits=httpx2.Limits(max_connections=CONNECTIONS, max_keepalive_connections=20)
        )

    def is_down(self) -> bool:
        """Whether it could not be reached a moment ago: nobody waits to find that out again."""
        return time.monotonic() < self._down_until

    def went_down(self) -> None:
        """It cannot be reached, whoever asks."""
        self._down_until = time.monotonic() + DOWN_SECONDS

    def client(self, lost: Callable[[], None]) -> httpx2.AsyncClient:
        """An HTTP client of its own for one connection, which keeps no cookies. `lost`: called when its session is
        none any more."""
        return httpx2.AsyncClient(
            transport=_Shared(self._transport, lost),
            headers=self._headers,
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
            timeout=httpx2.Timeout(connect=CONNECT_SECONDS, read=None, write=60, pool=CONNECT_SECONDS),
            follow_redirects=False,
            trust_env=False,
        )

    async def aclose(self) -> None:
        await self._transport.aclose()

    def __repr__(self) -> str:
        return f"Pool({self.name!r})"


class _Shared(httpx2.AsyncBaseTransport):
    """Lets a client go without closing what others use; and lets neither redirects nor anything unbounded in."""

    def __init__(self, inner: httpx2.AsyncBaseTransport, lost: Callable[[], None]) -> None:
        self._inner = inner
        self._lost = lost

    async def __aenter__(self) -> "_Shared":
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        pass

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        # The SDK sends in the context of whoever asks: the trace goes on over HTTP, too, as it does in `_meta`.
        request.headers.update(current_headers())
        response = await self._inner.handle_async_request(request)
        # Where a redirect leads is nobody's business, and nobody has asked for what is compressed.
        if response.is_redirect or response.headers.get("content-encoding", "identity").strip().lower() != "identity":
            await response.aclose()
            return httpx2.Response(502)
        if response.status_code == 404 and "mcp-session-id" in request.headers:
            self._lost()
        if not response.headers.get("content-type", "").startswith("text/event-stream"):
            assert isinstance(response.stream, httpx2.AsyncByteStream)
            response.stream = _Bounded(response.stream)
        return response

    async def aclose(self) -> None:
        pass


class _Bounded(httpx2.AsyncByteStream):
    """A body that is held whole, and so is not to be any larger than what may be held."""

    def __init__(self, inner: httpx2.AsyncByteStream) -> None:
        self._inner = inner

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = 0
        async for chunk in self._inner:
            size += len(chunk)
            if size > MAX_ANSWER_BYTES:
                raise httpx2.StreamError("the answer is too large")
            yield chunk

    async def aclose(self) -> None:
        await self._inner.aclose()


Asked = Callable[["Upstream", str, Mapping[str, Any]], Awaitable[Message]]
Told = Callable[["Upstream", str, Mapping[str, Any]], Awaitable[None]]


class Upstream:
    """A connection. `asked` and `told`: what to do about the target's own requests and notifications; `capabilities`:
    what the client can be asked for in answers (2026-07-28), `callable`: in requests of the target's own (before)."""

    def __init__(
        self,
        pool: Pool,
        capabilities: Mapping[str, Any],
        callable: Mapping[str, Any],
        asked: Asked,
        told: Told,
        *,
        prefers_modern: bool,
    ) -> None:
        self.pool = pool
        self.name = pool.name
        self.server: Mapping[str, Any] = {}  # how it has introduced itself; nothing where it did not have to
        self.modern = False
        self.log_level: str | None = None
        self._capabilities = capabilities
        self._callable = callable
        self._prefers_modern = prefers_modern
        self._asked = asked
        self._told = told
        self._version = ""
        self._closing = anyio.Event()
        self._dispatcher: JSONRPCDispatcher[Any] | None = None
        self.open = False
        self._connected = False  # ever
        self.ended = anyio.Event()

    @property
    def can(self) -> Mapping[str, Any] | None:
        """Its capabilities; None where they are not known."""
        found = self.server.get("capabilities")
        return found if isinstance(found, dict) else None

    async def run(
        self, introduced: bool, *, task_status: anyio.abc.TaskStatus[BaseException | None] = anyio.TASK_STATUS_IGNORED
    ) -> None:
        """Connect, and stay until it is closed or breaks. `introduced`: have it say what it can do, even if there is
        no need to. It is started with what kept it from connecting, or None."""
        try:
            await self._run(introduced, task_status)
        except Exception as exc:
            if self._connected and self._closing.is_set():
                return  # what was still on its way when it was closed
            cause = _cause(exc)
            if not isinstance(cause, MCPError):  # which it is in answer to what a client has a part in
                self.pool.went_down()
            _logger.warning("target %s: %s", self.name, _kind(cause))
            if not self._connected:
                task_status.started(exc)
        finally:
            self.open = False
            self.ended.set()

    async def _run(self, introduced: bool, task_status: anyio.abc.TaskStatus[BaseException | None]) -> None:
        url = str(self.pool.target.url)
        async with (
            self.pool.client(self.close) as client,
            streamable_http_client(url, http_client=client, max_sse_event_size=MAX_EVENT_BYTES) as (read, write),
            anyio.create_task_group() as tasks,
        ):
            self._dispatcher = JSONRPCDispatcher(read, write)
            await tasks.start(self._dispatcher.run, self._on_request, self._on_notify)
            with anyio.fail_after(CONNECT_SECONDS):
                await self._shake_hands(introduced)
            self.open = self._connected = True
            task_status.started(None)
            await self._closing.wait()
            tasks.cancel_scope.cancel()  # what is still under way; the session ends as the transport is left

    def close(self) -> None:
        """Have it closed, its session ended; whoever uses it next opens another."""
        self.open = False
        self._closing.set()

    # -- to the target -----------------------------------------------------------------------------------------------

    async def ask(
        self,
        method: str,
        params: Mapping[str, Any],
        *,
        headers: Mapping[str, str] | None = None,
        options: CallOptions | None = None,
    ) -> Message:
        """A request. Raises `MCPError` with the target's error, `Unavailable` where it gave none."""
        assert self._dispatcher is not None
        opts = CallOptions(**(options or {}))
        opts["headers"] = {**(headers or {}), **self._headers(method, params)}
        try:
            return await self._dispatcher.send_raw_request(method, self._stamped(params), opts)
        except MCPError as exc:
            if exc.code in _NO_ANSWER or not self.open:
                _logger.warning("target %s: no answer to %s", self.name, method)
                raise Unavailable(self.name) from None
            if self.modern and not self.server and exc.code in _WRONG_ERA:
                self.pool.modern = None  # it may have changed: ask again, next time
            raise

    async def tell(self, method: str, params: Mapping[str, Any] | None = None) -> None:
        """A notification; 2026-07-28 has none."""
        if not self.modern and self._dispatcher is not None:
            await self._dispatcher.notify(method, params, {"headers": {"mcp-protocol-version": self._version}})

    def _headers(self, method: str, params: Mapping[str, Any]) -> dict[str, str]:
        headers = {"mcp-protocol-version": self._version} if self._version else {}
        if self.modern:
            headers["mcp-method"] = method
            naming = MODERN_NAMING.get(method)
            if naming is not None and naming.header:
                headers["mcp-name"] = encode_header_value(params[naming.member])
        return headers

    def _stamped(self, params: Mapping[str, Any]) -> Message:
        meta = {name: value for name, value in (params.get("_meta") or {}).items() if name not in _OURS}
        if self.modern:
            meta |= {
                VERSION_KEY: self._version,
                _CLIENT_KEY: self.pool.client_info,
                CAPABILITIES_KEY: self._capabilities,
            }
            if self.log_level is not None:
                meta.setdefault("io.modelcontextprotocol/logLevel", self.log_level)
        kept = {name: value for name, value in params.items() if name != "_meta"}
        return {**kept, "_meta": meta} if meta else kept

    # -- getting to know it ------------------------------------------------------------------------------------------

    async def _shake_hands(self, introduced: bool) -> None:
        """In the client's own era if the target speaks that too, so that least has to be put into other words."""
        mine, other = (self._discover, self._initialize) if self._prefers_modern else (self._initialize, self._discover)
        known = self.pool.modern if self._prefers_modern else self.pool.sessions
        if known is not False:
            if known and self._prefers_modern and not introduced:
                self.modern, self._version = True, MODERN[-1]  # nothing has to be opened
                return
            try:
                await mine()
                return
            except MCPError as exc:
                if exc.code == _CONNECTION_CLOSED:
                    raise
        await other()
        if self._prefers_modern:
            self.pool.modern = False
        else:
            self.pool.sessions = False

    async def _discover(self) -> None:
        self.modern, self._version = True, MODERN[-1]
        self.server = await self._raw("server/discover", {})
        if MODERN[-1] not in (self.server.get("supportedVersions") or ()):
            raise MCPError(UNSUPPORTED_VERSION, "it speaks no revision that is known here")
        self.pool.modern = True

    async def _initialize(self) -> None:
        self.modern, self._version = False, ""
        params = {
            "protocolVersion": LEGACY[-1],
            "capabilities": self._callable,
            "clientInfo": self.pool.client_info,
        }
        self.server = await self._raw("initialize", params)
        version = self.server.get("protocolVersion")
        if version not in LEGACY:
            raise MCPError(UNSUPPORTED_VERSION, "it speaks no revision that is known here")
        self._version = str(version)
        await self.tell("notifications/initialized")
        self.pool.sessions = True

    async def _raw(self, method: str, params: Message) -> Message:
        assert self._dispatcher is not None
        opts = CallOptions(headers=self._headers(method, params), cancel_on_abandon=False)
        return await self._dispatcher.send_raw_request(method, self._stamped(params), opts)

    # -- from the target ---------------------------------------------------------------------------------------------

    async def _on_request(self, context: Any, method: str, params: Mapping[str, Any] | None) -> Message:
        if method == "ping":
            return {}
        return await self._asked(self, method, params or {})

    async def _on_notify(self, context: Any, method: str, params: Mapping[str, Any] | None) -> None:
        if method not in ("notifications/progress", "notifications/cancelled"):  # which the dispatcher has seen to
            await self._told(self, method, params or {})

    def __repr__(self) -> str:
        return f"<Upstream {self.name}>"


def _cause(exc: BaseException) -> BaseException:
    while isinstance(exc, BaseExceptionGroup) and exc.exceptions:
        exc = exc.exceptions[0]
    return exc


def _kind(exc: BaseException) -> str:
    """What went wrong, in a word: a text may quote anything."""
    return f"{type(exc).__name__} {exc.code}" if isinstance(exc, MCPError) else type(exc).__name__
