"""The connections of one client to all targets: opened when they are wanted, and what comes over them by itself.

What a target asks or tells belongs to the call of this client that it works at; what belongs to no call goes where the
client listens. No connection outlives the client, and none is another client's.
"""

import logging
from collections.abc import Awaitable, Callable, Mapping
from types import TracebackType
from typing import Any, Final, Self
from typing import Protocol as Structure

import anyio
import anyio.abc
from mcp.shared.dispatcher import CallOptions
from mcp.shared.exceptions import MCPError

from ...protocols.json_rpc import INTERNAL_ERROR, METHOD_NOT_FOUND, Id
from ...protocols.mcp.targets import Targets
from .merge import Message
from .upstream import CLOSE_SECONDS, SUBSCRIPTION_KEY, Pool, Unavailable, Upstream

Params = Mapping[str, Any]

MAX_SUBSCRIPTIONS: Final = 256  # of one session, at targets of 2026-07-28, where each is a stream

ASKABLE: Final = {"sampling/createMessage": "sampling", "elicitation/create": "elicitation", "roots/list": "roots"}
"""What a target can ask a client for, and the capability of a client that can be asked."""

CHANGES: Final = {
    "toolsListChanged": "notifications/tools/list_changed",
    "promptsListChanged": "notifications/prompts/list_changed",
    "resourcesListChanged": "notifications/resources/list_changed",
}
"""What a client of 2026-07-28 subscribes to, and what it is told."""

UPDATED: Final = "notifications/resources/updated"

_logger = logging.getLogger("agentgate.mcp")


class Context(Structure):
    """Of a request of the client's: where its progress goes, and what else belongs to it."""

    @property
    def request_id(self) -> Id: ...

    async def progress(self, progress: float, total: float | None = None, message: str | None = None) -> None: ...

    async def notify(self, method: str, params: Params | None) -> None: ...

    async def send_raw_request(self, method: str, params: Params | None) -> Message:
        """Ask the client. Raises `MCPError`."""
        ...


class Connections:
    """Of one client. `headers`: what of its request's headers goes on; `standalone`: where a session's client is told
    what belongs to no request."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        targets: Targets,
        *,
        modern: bool,
        capabilities: Mapping[str, Any],
        headers: Mapping[str, str],
        standalone: Callable[[str, Params], Awaitable[None]] | None,
    ) -> None:
        self.capabilities = capabilities
        self.modern = modern
        self._pools = pools
        self._targets = targets
        self._headers = headers
        self._standalone = standalone
        self._upstreams: dict[str, Upstream] = {}
        self._locks = {name: anyio.Lock() for name in pools}
        self._calls: dict[str, list[Context]] = {name: [] for name in pools}  # under way, at each target
        self._streams: dict[tuple[str, str], anyio.CancelScope] = {}  # by target and URI ("" for its lists)
        self._wanted: Params = {}  # of the one subscription of a request of 2026-07-28
        self._listening: Context | None = None
        self._log_level: str | None = None

    async def __aenter__(self) -> Self:
        self._tasks = anyio.create_task_group()
        await self._tasks.__aenter__()
        self._tasks.cancel_scope.shield = True  # who leaves while it runs, leaves by way of `__aexit__`
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        """Ends the sessions at the targets, and everything that still runs."""
        for scope in self._streams.values():
            scope.cancel()
        for upstream in self._upstreams.values():
            upstream.close()
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):
            for upstream in self._upstreams.values():
                await upstream.ended.wait()
        self._tasks.cancel_scope.cancel()
        return await self._tasks.__aexit__(kind, exc, traceback)

    # -- to the targets ----------------------------------------------------------------------------------------------

    async def open(self, name: str, *, introduced: bool = False) -> Upstream:
        """The connection to a target. Raises `Unavailable`."""
        async with self._locks[name]:
            upstream = self._upstreams.get(name)
            if upstream is not None and upstream.open:
                return upstream
            pool = self._pools[name]
            if pool.is_down():
                raise Unavailable(name)
            # A session at the target could ask for something at any time, and 2026-07-28 has no way to ask a client.
            callable: Mapping[str, Any] = {} if self.modern else self.capabilities
            upstream = Upstream(pool, self.capabilities, callable, self._asked, self._told, prefers_modern=self.modern)
            upstream.log_level = self._log_level
            failure = await self._tasks.start(upstream.run, introduced or not self.modern)
            if failure is not None:
                raise Unavailable(name)
            self._upstreams[name] = upstream
        if not self.modern and upstream.modern:
            self._stream(upstream, "", dict.fromkeys(CHANGES, True))
        return upstream

    async def call(self, context: Context, upstream: Upstream, method: str, params: Params) -> Message:
        """A request for the client, which what the target then asks and tells belongs to."""
        options = CallOptions()
        if isinstance((params.get("_meta") or {}).get("progressToken"), str | int):
            options["on_progress"] = context.progress
        calls = self._calls[upstream.name]
        calls.append(context)
        try:
            return await upstream.ask(method, params, headers=self._headers, options=options)
        finally:
            calls.remove(context)

    async def tell(self, method: str) -> None:
        """A notification to every target that there is a session at."""
        for upstream in [*self._upstreams.values()]:
            if upstream.open:
                await upstream.tell(method)

    async def set_level(self, level: str, seconds: float) -> None:
        """Have the targets log from this level on."""
        self._log_level = level
        for upstream in [*self._upstreams.values()]:
            upstream.log_level = level
            if upstream.open and not upstream.modern and "logging" in (upstream.can or {}):
                try:
                    await upstream.ask("logging/setLevel", {"level": level}, options={"timeout": seconds})
                except (MCPError, Unavailable):
                    _logger.warning("target %s: no log level", upstream.name)

    # -- subscriptions -----------------------------------------------------------------------------------------------

    def subscribe(self, upstream: Upstream, uri: str) -> None:
        """Have a session's client told when a resource changes, at a target of 2026-07-28. Raises `MCPError`."""
        if (upstream.name, uri) in self._streams:
            return
        if len(self._streams) >= MAX_SUBSCRIPTIONS:
            raise MCPError(INTERNAL_ERROR, f"there are at most {MAX_SUBSCRIPTIONS} subscriptions")
        self._stream(upstream, uri, {"resourceSubscriptions": [uri]})

    def unsubscribe(self, upstream: Upstream, uri: str) -> None:
        """No more of that."""
        scope = self._streams.pop((upstream.name, uri), None)
        if scope is not None:
            scope.cancel()

    def _stream(self, upstream: Upstream, uri: str, wanted: Message) -> None:
        scope = self._streams[upstream.name, uri] = anyio.CancelScope()
        self._tasks.start_soon(self._follow, upstream, uri, wanted, scope)

    async def _follow(self, upstream: Upstream, uri: str, wanted: Message, scope: anyio.CancelScope) -> None:
        with scope:
            try:
                await upstream.ask("subscriptions/listen", {"notifications": wanted})
            except (MCPError, Unavailable):
                _logger.warning("target %s: a subscription ended", upstream.name)
        if self._streams.get((upstream.name, uri)) is scope:
            del self._streams[upstream.name, uri]

    def listen(self, context: Context, wanted: Params) -> None:
        """From now on, the client is told what it wants to hear by way of this request."""
        self._wanted, self._listening = wanted, context

    # -- from the targets --------------------------------------------------------------------------------------------

    async def ask_client(self, context: Context, method: Any, params: Params) -> Message:
        """Ask the client, if it can be asked. Raises `MCPError`."""
        if self.modern or ASKABLE.get(method) not in self.capabilities:
            raise MCPError(METHOD_NOT_FOUND, "the client cannot be asked for this")
        return await context.send_raw_request(method, params)

    async def _asked(self, upstream: Upstream, method: str, params: Params) -> Message:
        calls = self._calls[upstream.name]
        if not calls:
            raise MCPError(METHOD_NOT_FOUND, "nobody has called who could be asked")
        return await self.ask_client(calls[-1], method, params)

    async def _told(self, upstream: Upstream, method: str, params: Params) -> None:
        meta = params.get("_meta")
        if isinstance(meta, dict) and SUBSCRIPTION_KEY in meta:
            params = {**params, "_meta": {name: value for name, value in meta.items() if name != SUBSCRIPTION_KEY}}
        if method == UPDATED and isinstance(params.get("uri"), str):
            params = {**params, "uri": self._targets.shown("resource", upstream.name, params["uri"])}
        if method == UPDATED or method in CHANGES.values():
            if self._listening is not None and self._is_wanted(method, params):
                mine = {**(params.get("_meta") or {}), SUBSCRIPTION_KEY: self._listening.request_id}
                await self._listening.notify(method, {**params, "_meta": mine})
            elif self._standalone is not None:
                await self._standalone(method, params)
        elif method != "notifications/subscriptions/acknowledged":
            calls = self._calls[upstream.name]
            if calls:
                await calls[-1].notify(method, params)
            elif self._standalone is not None:
                await self._standalone(method, params)

    def _is_wanted(self, method: str, params: Params) -> bool:
        if method == UPDATED:
            return params.get("uri") in (self._wanted.get("resourceSubscriptions") or ())
        return any(self._wanted.get(flag) is True and method == change for flag, change in CHANGES.items())
