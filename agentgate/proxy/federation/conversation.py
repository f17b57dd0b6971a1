"""What one client says, said to the targets: a session of up to 2025-11-25, or one request of 2026-07-28.

A target that fails is left out of what is merged, and told of there; a call to it is answered with an error. One
request has one answer, whatever the targets do.
"""

import logging
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from types import TracebackType
from typing import Any, Final, Self

import anyio
from mcp.shared.exceptions import MCPError

from ...protocols.json_rpc import INTERNAL_ERROR, INVALID_PARAMS, METHOD_NOT_FOUND, RPCFault
from ...protocols.mcp.eras import LEGACY, MODERN
from ...protocols.mcp.methods import Kind
from ...protocols.mcp.targets import Targets
from .connections import ASKABLE, CHANGES, Connections, Context, Params
from .merge import (
    LISTS,
    Message,
    in_era,
    merged_capabilities,
    merged_instructions,
    merged_list,
    read_cursor,
    shown_result,
    with_missing,
)
from .upstream import SUBSCRIPTION_KEY, Pool, Unavailable, Upstream

_ForEach = Callable[[str, str | None], Coroutine[Any, Any, None]]

LIST_SECONDS: Final = 30.0  # for one page of one target: nobody waits longer for the others
MAX_ROUNDS: Final = 10  # in which a target of 2026-07-28 asks for more, before it gives its result

_NAMED: Final[Mapping[str, tuple[Kind, str]]] = {
    "tools/call": ("tool", "name"),
    "prompts/get": ("prompt", "name"),
    "resources/read": ("resource", "uri"),
}
_SUBSCRIBING: Final = ("resources/subscribe", "resources/unsubscribe")

_logger = logging.getLogger("agentgate.mcp")


class Conversation:
    """Of one client, with all targets. `me`: how the federation introduces itself; the rest as in `Connections`."""

    def __init__(
        self,
        pools: Mapping[str, Pool],
        targets: Targets,
        me: Message,
        *,
        modern: bool,
        capabilities: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
        standalone: Callable[[str, Params], Awaitable[None]] | None = None,
    ) -> None:
        self._targets = targets
        self._me = me
        self._modern = modern
        self._connections = Connections(
            pools,
            targets,
            modern=modern,
            capabilities=capabilities or {},
            headers=headers or {},
            standalone=standalone,
        )

    async def __aenter__(self) -> Self:
        await self._connections.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> bool | None:
        return await self._connections.__aexit__(kind, exc, traceback)

    # -- what the client asks ----------------------------------------------------------------------------------------

    async def request(self, context: Context, method: str, params: Params) -> Message:
        """The result of one of the client's requests. Raises `MCPError`."""
        try:
            return in_era(method, await self._answer(context, method, params), modern=self._modern)
        except RPCFault as fault:
            raise MCPError(fault.code, str(fault)) from None
        except Unavailable as exc:
            raise MCPError(INTERNAL_ERROR, str(exc)) from None
        except MCPError:
            raise
        except Exception:
            _logger.exception("%s failed", method)
            raise MCPError(INTERNAL_ERROR, "the request failed") from None

    async def _answer(self, context: Context, method: str, params: Params) -> Message:
        if method in LISTS:
            return await self._list(method, params)
        if method in _NAMED:
            kind, member = _NAMED[method]
            target, name = self._located(kind, params.get(member))
            return await self._call(context, method, target, {**params, member: name})
        if method == "completion/complete":
            return await self._complete(context, params)
        if self._modern:
            if method == "server/discover":
                return await self._introduce({"supportedVersions": [*MODERN]})
            if method == "subscriptions/listen":
                return await self._listen(context, params)
        else:
            if method == "ping":
                return {}
            if method == "initialize":
                return await self._initialize(params)
            if method == "logging/setLevel":
                return await self._set_level(params)
            if method in _SUBSCRIBING:
                return await self._subscribe(context, method, params)
        raise MCPError(METHOD_NOT_FOUND, "Method not found")

    async def notification(self, method: str, params: Params) -> None:
        """A notification of the client's. What is cancelled, the dispatcher has cancelled already."""
        if method == "notifications/roots/list_changed":
            await self._connections.tell(method)

    def _located(self, kind: Kind, shown: Any) -> tuple[str, str]:
        if not isinstance(shown, str):
            raise RPCFault(INVALID_PARAMS, f"a {kind} is named by a string")
        target, name = self._targets.locate(kind, shown)
        assert target is not None  # a federation has names for its targets
        return target, name

    # -- one target --------------------------------------------------------------------------------------------------

    async def _call(self, context: Context, method: str, target: str, params: Params) -> Message:
        upstream = await self._connections.open(target)
        for _ in range(MAX_ROUNDS):
            result = await self._connections.call(context, upstream, method, params)
            if self._modern or result.get("resultType") != "input_required":
                return shown_result(method, result, target, self._targets)
            params = {**params, **await self._inputs(context, result)}
        raise MCPError(INTERNAL_ERROR, f"target {target} asks for more and more")

    async def _inputs(self, context: Context, result: Message) -> Message:
        """What a target of 2026-07-28 wants to know, asked of a client that is asked in requests of their own."""
        wanted = result.get("inputRequests") or {}
        answers: Message = {}
        for name, request in wanted.items():
            method, params = request.get("method"), request.get("params") or {}
            answers[name] = await self._connections.ask_client(context, method, params)
        more: Message = {"inputResponses": answers}
        if result.get("requestState") is not None:
            more["requestState"] = result["requestState"]
        return more

    async def _complete(self, context: Context, params: Params) -> Message:
        ref = params.get("ref")
        if not isinstance(ref, dict):
            raise RPCFault(INVALID_PARAMS, "ref is not an object")
        kind: Kind = "prompt" if ref.get("type") == "ref/prompt" else "resource"
        member = "name" if kind == "prompt" else "uri"
        target, name = self._located(kind, ref.get(member))
        return await self._call(context, "completion/complete", target, {**params, "ref": {**ref, member: name}})

    async def _subscribe(self, context: Context, method: str, params: Params) -> Message:
        target, uri = self._located("resource", params.get("uri"))
        upstream = await self._connections.open(target)
        if not upstream.modern:
            return await self._connections.call(context, upstream, method, {**params, "uri": uri})
        if method == "resources/subscribe":
            self._connections.subscribe(upstream, uri)
        else:
            self._connections.unsubscribe(upstream, uri)
        return {}

    # -- all targets -------------------------------------------------------------------------------------------------

    async def _list(self, method: str, params: Params) -> Message:
        cursors = read_cursor(params, self._targets)
        pages: dict[str, Message] = {}
        failed: list[str] = []

        async def page(name: str, cursor: str | None) -> None:
            asked = {key: value for key, value in params.items() if key != "cursor"}
            if cursor is not None:
                asked["cursor"] = cursor
            try:
                upstream = await self._connections.open(name)
                can = upstream.can
                if can is not None and LISTS[method].capability not in can:
                    return
                pages[name] = await upstream.ask(method, asked, options={"timeout": LIST_SECONDS})
            except Unavailable:
                failed.append(name)
            except MCPError as exc:
                if exc.code != METHOD_NOT_FOUND:
                    _logger.warning("target %s: error %s to %s", name, exc.code, method)
                    failed.append(name)

        await self._each(page, cursors)
        self._some_left(cursors, failed)
        return merged_list(method, pages, failed, self._targets)

    async def _each(
        self, do: Callable[[str, str | None], Coroutine[Any, Any, None]], these: Mapping[str, str | None]
    ) -> None:
        async with anyio.create_task_group() as tasks:
            for name, value in these.items():
                tasks.start_soon(do, name, value)

    def _some_left(self, asked: Mapping[str, Any], failed: list[str]) -> None:
        if len(failed) == len(asked):
            raise MCPError(INTERNAL_ERROR, "no target is available")

    async def _introduce(self, result: Message) -> Message:
        """What the targets can do, as one server's introduction."""
        servers: dict[str, Mapping[str, Any]] = {}
        failed: list[str] = []

        async def introduction(name: str, _: str | None) -> None:
            try:
                servers[name] = (await self._connections.open(name, introduced=True)).server
            except Unavailable:
                failed.append(name)

        everybody = dict.fromkeys(self._targets.names)
        await self._each(introduction, everybody)
        self._some_left(everybody, failed)
        known = {name: servers[name] for name in self._targets.names if name in servers}
        result["capabilities"] = merged_capabilities(server.get("capabilities") or {} for server in known.values())
        text = merged_instructions({name: server.get("instructions") for name, server in known.items()})
        if text is not None:
            result["instructions"] = text
        if self._modern:
            result["_meta"] = {"io.modelcontextprotocol/serverInfo": self._me}
        else:
            result["serverInfo"] = self._me
        return with_missing(result, failed)

    async def _initialize(self, params: Params) -> Message:
        offered = params.get("capabilities")
        if isinstance(offered, dict):
            able = {name: offered[name] for name in ASKABLE.values() if isinstance(offered.get(name), dict)}
            self._connections.capabilities = able
        version = params.get("protocolVersion")
        return await self._introduce({"protocolVersion": version if version in LEGACY else LEGACY[-1]})

    async def _set_level(self, params: Params) -> Message:
        level = params.get("level")
        if not isinstance(level, str):
            raise RPCFault(INVALID_PARAMS, "level is not a string")
        await self._connections.set_level(level, LIST_SECONDS)
        return {}

    # -- subscriptions -----------------------------------------------------------------------------------------------

    async def _listen(self, context: Context, params: Params) -> Message:
        """The one stream of a client of 2026-07-28, fed by all targets; over as soon as one of them ends its own."""
        wanted = params.get("notifications")
        if not isinstance(wanted, dict):
            raise RPCFault(INVALID_PARAMS, "notifications is not an object")
        lists = {flag: True for flag in CHANGES if wanted.get(flag) is True}
        by_target: dict[str, list[str]] = {name: [] for name in self._targets.names}
        for shown in wanted.get("resourceSubscriptions") or ():
            target, uri = self._located("resource", shown)
            by_target[target].append(uri)
        followed = {name: uris for name, uris in by_target.items() if uris or lists}
        opened: dict[str, Upstream] = {}

        async def connect(name: str, _: str | None) -> None:
            try:
                opened[name] = await self._connections.open(name, introduced=True)
            except Unavailable:
                pass  # told of, in the log; the client hears of the others

        await self._each(connect, dict.fromkeys(followed))
        if followed and not opened:
            raise MCPError(INTERNAL_ERROR, "no target is available")
        mine = {SUBSCRIPTION_KEY: context.request_id}
        honoured = {name: wanted[name] for name in (*lists, "resourceSubscriptions") if wanted.get(name)}
        await context.notify("notifications/subscriptions/acknowledged", {"notifications": honoured, "_meta": mine})
        self._connections.listen(context, honoured)

        async def follow(upstream: Upstream, uris: list[str], scope: anyio.CancelScope) -> None:
            try:
                if upstream.modern:
                    filter = {**lists, **({"resourceSubscriptions": uris} if uris else {})}
                    await upstream.ask("subscriptions/listen", {"notifications": filter})
                else:
                    for uri in uris:
                        await upstream.ask("resources/subscribe", {"uri": uri}, options={"timeout": LIST_SECONDS})
                    await upstream.ended.wait()
            except (MCPError, Unavailable):
                _logger.warning("target %s: a subscription ended", upstream.name)
            scope.cancel()

        async with anyio.create_task_group() as tasks:
            for name, upstream in opened.items():
                tasks.start_soon(follow, upstream, followed[name], tasks.cancel_scope)
            if not opened:
                await anyio.sleep_forever()  # for nothing, as the client has asked
        return {"_meta": mine}
