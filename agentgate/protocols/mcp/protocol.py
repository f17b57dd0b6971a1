"""MCP: reads a request into the calls that policies judge.

Streamable HTTP in both eras, on one URL: POST with one JSON-RPC message, GET for what the server has to say, DELETE to
end a session. Not the transport of 2024-11-05, whose sessions are in a query; no batches, which only 2025-03-26 had.
"""

from collections.abc import Sequence
from copy import copy
from typing import Any, ClassVar, Final, Self

from ...auth.location import RawHeaderList
from ...call import Call
from ...decision import Decision
from ...policy import Authenticator
from ...record import Record
from ...request import Request
from ...respond import Send
from ...secret import Secret
from ...strict_json import StrictJSONError
from ..json_rpc import INVALID_REQUEST, PARSE_ERROR, Id, RPCFault, RPCMessage, id_of, read_message
from ..protocol import May, Protocol, Reading, anything
from .answers import FilteredAnswer, SealedAnswer
from .eras import MODERN, agree, version_of
from .methods import RESOURCE_TYPES, calls_of
from .origins import Origins
from .refusals import ALLOWED, Unfit, denied, misread, unanswered, unfit, unread
from .sessions import Caller, Sessions, fingerprint, owner_of
from .targets import Targets

_METHODS: Final = frozenset(ALLOWED.split(", "))
_OLD_SESSIONS: Final = frozenset({"sessionid", "session_id"})


class MCP(Protocol):
    """The Model Context Protocol, 2025-03-26 to 2026-07-28, for `Gate(protocol=MCP())`.

    `origins`: of web pages that may call the server, such as `https://app.example.com`, besides those of the Gate's
    `public_url`, and of pages on the machine that server and browser share. `session_key`: what session ids are sealed
    with, at least 32 random characters; the same on all replicas that share sessions. Without it, one of this process.
    `targets`: the servers behind it, where it federates them: then rules have `mcp.tool.target`, and the server's own
    name without the target in front.
    """

    name: ClassVar[str] = "mcp"

    def __init__(
        self, *, origins: Sequence[str] = (), session_key: Secret | None = None, targets: Sequence[str] = ()
    ) -> None:
        self._origins = Origins(origins)
        self._sessions = Sessions(session_key)
        self.targets = Targets(targets)

    def at(self, public_url: str | None, authenticators: Sequence[Authenticator]) -> Self:
        if public_url is None:
            return self
        there = copy(self)
        there._origins = self._origins.reached_at(public_url)
        return there

    def reads_body(self, request: Request) -> bool:
        return request.method == "POST" and request.type == "http"

    def read(self, request: Request) -> Reading | Decision:
        modern = False
        try:
            self._fit(request)
            version = version_of(request)
            modern = version in MODERN
            session = self._session(request)
            message = _message(request, version) if request.method == "POST" else None
            attributes = {} if session is None else {"sessionId": fingerprint(session[0])}
            if message is None:
                _bodiless(request)
                calls = [Call("mcp", request.method, provisional=True, attributes=attributes)]
            elif message.kind == "response":
                if modern or session is None:
                    raise RPCFault(INVALID_REQUEST, "a response to nothing that was asked")
                calls = [Call("mcp", "response", provisional=True, attributes=attributes)]
            else:
                calls = [*map(self.targets.judged, calls_of(message, modern, attributes))]
        except Unfit as fault:
            return unfit(fault, _id(request))
        except RPCFault as fault:
            return misread(fault, _id(request), modern=modern)
        return MCPReading(calls, message, modern, self._sessions, request.principals, session, self.targets)

    def refuse(self, decision: Decision, request: Request) -> Decision:
        if decision.policy == "body":
            return unread(decision)
        return unanswered(decision, _id(request)) if decision.policy == "forward" else decision

    def _fit(self, request: Request) -> None:
        if request.type != "http":
            raise Unfit(403, "not spoken over a websocket")
        if request.method not in _METHODS:
            raise Unfit(405, f"method not allowed; must be {ALLOWED}", ((b"allow", ALLOWED.encode()),))
        if not self._origins.admit(request):
            raise Unfit(403, "the Origin or Host is not this server's (protection against DNS rebinding)")
        if request.query_string and not _OLD_SESSIONS.isdisjoint(map(str.lower, request.query)):
            raise Unfit(400, "the transport of 2024-11-05 is not supported")

    def _session(self, request: Request) -> tuple[bytes, bytes] | None:
        """The session's id as the client has it, and as the upstream has it."""
        sealed = request.by_name.get(b"mcp-session-id")
        if sealed is None:
            if request.method == "GET" and b"last-event-id" in request.by_name:
                raise Unfit(400, "a stream is resumed in its session")
            return None
        upstream = self._sessions.unseal(sealed, owner_of(request.principals))
        if upstream is None:
            raise Unfit(404, "session not found")
        return sealed, upstream

    def __repr__(self) -> str:
        return "MCP()"


class MCPReading(Reading):
    """One MCP request: its calls, and what becomes of the answer."""

    def __init__(
        self,
        calls: Sequence[Call],
        message: RPCMessage | None,
        modern: bool,
        sessions: Sessions,
        caller: Caller,
        session: tuple[bytes, bytes] | None,
        targets: Targets,
    ) -> None:
        super().__init__(*calls)
        self._message = message
        self._modern = modern
        self._sessions = sessions
        self._caller = caller
        self._session = session
        self._targets = targets
        self.details = details_of(calls[0], message)

    def refuse(self, decision: Decision, call: Call | None) -> Decision:
        seen = self._targets.seen(self.calls[0] if call is None else call)
        return denied(decision, seen, self._message, modern=self._modern)

    def onward(self, headers: RawHeaderList, body: bytes | None) -> tuple[RawHeaderList, bytes | None]:
        """With the upstream's session id, and asking for an answer that can be read."""
        kept = [pair for pair in headers if pair[0] not in (b"mcp-session-id", b"accept-encoding")]
        if self._session is not None:
            kept.append((b"mcp-session-id", self._session[1]))
        return [*kept, (b"accept-encoding", b"identity")], body

    def answering(self, send: Send, may: May, record: Record) -> Send:
        if may is anything:
            return SealedAnswer(send, self._sessions, self._caller)
        return FilteredAnswer(send, self._sessions, self._caller, may, self.calls[0], record, self._targets)


def _message(request: Request, version: str | None) -> RPCMessage:
    media_type = request.by_name.get(b"content-type", b"").partition(b";")[0]
    if media_type.strip().lower() != b"application/json":
        raise Unfit(415, "client must send application/json")
    try:
        message = read_message(request.json())
    except StrictJSONError:
        raise RPCFault(PARSE_ERROR, "there is no message") from None
    agree(request, message, version)
    return message


def _bodiless(request: Request) -> None:
    """GET and DELETE have no body: it would pass unread."""
    if request.by_name.get(b"content-length", b"0") != b"0" or b"transfer-encoding" in request.by_name:
        raise Unfit(400, f"{request.method} has no body")


def _id(request: Request) -> Id:
    if request.method != "POST" or not request.body:
        return None
    return id_of(request.json())


def details_of(call: Call, message: RPCMessage | None) -> dict[str, Any]:
    """What the log is told of a request. Of several subscriptions, the first."""
    found: dict[str, Any] = {}
    if message is not None and message.kind != "response":
        found["mcp.method.name"] = call.method
    if call.target is not None:
        found["mcp.target"] = call.target
    kind = RESOURCE_TYPES.get(call.method)
    for name in ("tool", "prompt", "resource", "task"):
        kind = name if getattr(call, name) is not None else kind
    if kind is not None:
        found["mcp.resource.type"] = kind
    for key, value in (
        ("mcp.resource.uri", call.resource),
        ("gen_ai.tool.name", call.tool),
        ("gen_ai.prompt.name", call.prompt),
        ("mcp.session.id", call.attributes.get("sessionId")),
    ):
        if value is not None:
            found[key] = value
    return found
