"""What spans say of a request, by OpenTelemetry's semantic conventions: an allow-list, read off the Record.

No header but the user agent, no body, no argument of a tool, no prompt. Queries are shown as the access log shows them.
"""

import re
from collections.abc import Callable, ItemsView, Iterator, Mapping
from itertools import islice
from typing import Any, Final, TypeVar

from ..attempt import Attempt
from ..decision import Decision, Reason
from ..protocols.mcp.eras import LEGACY, MODERN
from ..record import Record
from ..request import Request
from ..strict_json import StrictJSONError
from . import semconv as names
from .fields import CUT, MAX_VALUE, shadow_denials
from .redaction import query_of
from .route import route_of

Value = str | bool | int | float | tuple[str, ...]
Attributes = dict[str, Value]
_T = TypeVar("_T")

_INT64: Final = 2**63  # what OTLP has no place for
_PORTS: Final = {"http": 80, "https": 443, "ws": 80, "wss": 443}
_VERSIONS: Final = frozenset((*LEGACY, *MODERN))
_A2A_VERSION: Final = re.compile(r"[0-9]{1,4}\.[0-9]{1,4}").fullmatch
_CANCELLED: Final = "request failed: CancelledError"  # by the server: it stops, or the client has gone
# Refusals by which nothing was decided: who was allowed got a document, or no answer from upstream.
_UNDECIDED: Final = frozenset({Reason.DIRECT_RESPONSE, Reason.UPSTREAM_FAILURE, Reason.TIMEOUT})


class Later(Mapping[str, Value]):
    """Attributes that are put together when somebody reads them: a sampler, or a span that is recorded."""

    __slots__ = ("_made", "_make", "_of")

    def __init__(self, make: Callable[[_T], Attributes], of: _T) -> None:
        self._make: Callable[[Any], Attributes] = make
        self._of: Any = of
        self._made: Attributes | None = None

    def _all(self) -> Attributes:
        if self._made is None:
            self._made = self._make(self._of)
        return self._made

    def __getitem__(self, name: str) -> Value:
        return self._all()[name]

    def items(self) -> ItemsView[str, Value]:  # which is what the SDK asks for; a Mapping's own is slow
        return self._all().items()

    def __iter__(self) -> Iterator[str]:
        return iter(self._all())

    def __len__(self) -> int:
        return len(self._all())


# -- the request that came in ----------------------------------------------------------------------------------------


def shown(text: str) -> str:
    """Text that can be sent, whatever a client has said: half a character in one span's name loses a whole batch."""
    cut = text if len(text) <= MAX_VALUE else text[:MAX_VALUE] + CUT
    return cut if cut.isascii() else cut.encode("utf-8", "replace").decode()


def method_shown(request: Request) -> str:
    """The method in a span's name, which has few values."""
    return request.method if request.method in names.METHODS else "HTTP"


def asked(record: Record) -> Attributes:
    """What is known of a request when it has been judged, but for its query: a Gate further in may still say which
    parameters of it are credentials."""
    request = record.request
    found: Attributes = {
        names.HTTP_METHOD: request.method if request.method in names.METHODS else names.OTHER,
        names.URL_SCHEME: request.scheme,
        names.URL_PATH: shown(request.raw_path.decode("latin-1")),
        names.NETWORK_VERSION: request.http_version,
    }
    if request.method not in names.METHODS:
        found[names.HTTP_METHOD_ORIGINAL] = shown(request.method)
    host = request.host
    if host:
        found[names.SERVER_ADDRESS] = shown(host.strip("[]"))
        port = request.authority.removeprefix(host).rpartition(":")[2]
        found[names.SERVER_PORT] = int(port) if _is_port(port) else _PORTS.get(request.scheme, 80)
    if request.peer is not None:
        source = record.view.source
        found[names.CLIENT_ADDRESS] = request.peer[0] if source is None else source[0]
        if found[names.CLIENT_ADDRESS] != request.peer[0]:  # it came by way of a proxy that is believed
            found[names.PEER_ADDRESS] = request.peer[0]
    agent = request.by_name.get(b"user-agent")
    if agent is not None:
        found[names.USER_AGENT] = shown(agent.decode("latin-1"))
    if record.details:
        found.update(told(record))
    if record.protocol != "http":
        found.update(_called(record))
    return found


def told(record: Record, start: int = 0) -> Attributes:
    """The Record's details, from the one numbered `start` on."""
    found: Attributes = {}
    if len(record.details) == start:
        return found
    for detail, value in islice(record.details.items(), start, None):
        name = names.DETAILS.get(detail)
        if name is None:
            continue
        if isinstance(value, str):
            found[name] = shown(value)
        elif not isinstance(value, int) or -_INT64 <= value < _INT64:
            found[name] = value
    if names.GEN_AI_ENCODINGS in found:
        found[names.GEN_AI_ENCODINGS] = (str(found[names.GEN_AI_ENCODINGS]),)
    uri = found.get("mcp.resource.uri")
    if isinstance(uri, str) and "?" in uri:
        path, _, query = uri.partition("?")
        found["mcp.resource.uri"] = f"{path}?{query_of(record, query.encode()).encode('latin-1').decode()}"
    return found


def _called(record: Record) -> Attributes:
    """What the protocol knows of the call, beside the details."""
    found: Attributes = {}
    call = record.view.call
    if record.protocol == "llm":
        if call is not None and "streaming" in call.attributes:
            found[names.GEN_AI_STREAM] = call.attributes["streaming"]
        return found
    if record.protocol not in ("mcp", "a2a"):
        return found
    message = message_of(record)
    id = message.get("id")
    if isinstance(id, str | int) and "method" in message:
        found[names.JSONRPC_ID] = shown(str(id))
    params = message.get("params")
    params = params if isinstance(params, dict) else {}
    if record.protocol == "mcp":
        found[names.NETWORK_PROTOCOL], found[names.NETWORK_TRANSPORT] = "http", "tcp"
        if call is not None and call.method == "tools/call":
            found[names.GEN_AI_OPERATION] = "execute_tool"
        header = record.view.by_name.get(b"mcp-protocol-version", b"").decode("latin-1").strip(" \t")
        version = header or params.get("protocolVersion")
        if version in _VERSIONS:
            found[names.MCP_VERSION] = str(version)
        return found
    version = record.view.by_name.get(b"a2a-version", b"").decode("latin-1").strip(" \t")
    said = params.get("message", message.get("message"))
    for name, value in (
        (names.A2A_VERSION, version if _A2A_VERSION(version) else None),
        (names.A2A_TASK, None if call is None else call.task),
        (names.A2A_TENANT, None if call is None else call.attributes.get("tenant")),
        (names.GEN_AI_CONVERSATION, None if call is None else call.attributes.get("contextId")),
        (names.A2A_MESSAGE, said.get("messageId") if isinstance(said, dict) else None),
    ):
        if isinstance(value, str):
            found[name] = shown(value)
    return found


def message_of(record: Record) -> Mapping[str, Any]:
    """The JSON object in the body, where a Gate has read one for its protocol; empty otherwise."""
    if not record.view.body:
        return {}
    try:
        message = record.view.json()
    except StrictJSONError:
        return {}
    return message if isinstance(message, dict) else {}


# -- the answer ------------------------------------------------------------------------------------------------------


def answered(record: Record, known: int) -> Attributes:
    """What is known at the end of a request that was not before; `known`: so many details were."""
    found = told(record, known)
    if record.request.query_string:
        found[names.URL_QUERY] = shown(query_of(record, record.request.query_string))
    route = route_of(record)
    if route is not None:
        found[names.HTTP_ROUTE] = route
    if record.status is not None:
        found[names.HTTP_STATUS] = record.status
    found.update(_decided(record))
    code = record.details.get("mcp.error.code", record.details.get("a2a.response.error_code"))
    if code is not None and code != record.status:  # over REST, it is the status
        found[names.RPC_STATUS] = str(code)
    error = _error(record)
    if error is not None:
        found[names.ERROR_TYPE] = error
    return found


def _decided(record: Record) -> Attributes:
    found: Attributes = {}
    refusal = record.refusal
    decision: Decision | None = None
    if refusal is not None and refusal.reason not in _UNDECIDED:
        decision = refusal
    else:
        for one in record.trail:
            if one.enforced and one.effect == "allow":
                decision = one  # the last, which is an authorizer's where there is one
    if decision is not None:
        found[names.DECISION] = "deny" if decision is refusal else "allow"
        if decision.rule is not None:
            found[names.RULE] = decision.rule
        if decision.policy is not None:
            found[names.POLICY] = decision.policy
    if record.reason is not None:
        found[names.REASON] = record.reason.value
    shadows = [denial.rule or denial.policy or "" for denial in shadow_denials(record)]
    if shadows:
        found[names.SHADOW_DENIALS] = tuple(shadows)
    return found


def _error(record: Record) -> str | None:
    """What went wrong, if it is the server's fault. That somebody may not, or has gone away, is not."""
    status = record.status
    if status is not None and status >= 500:
        return str(status)
    if "mcp.error.code" in record.details:
        return str(record.details["mcp.error.code"])
    if (
        status is None
        or record.refusal is not None
        or record.reason is None
        or str(record.error).startswith(_CANCELLED)
    ):
        return None
    return record.reason.value  # what broke off a response that had begun


# -- requests to upstreams -------------------------------------------------------------------------------------------


def attempt_name(record: Record) -> str:
    """The name of the span of a request to an upstream: what is asked for, which for plain HTTP is the method."""
    details = record.details
    for name in ("gen_ai.operation.name", "mcp.method.name", "a2a.method"):
        if name in details:
            of = details.get(names.GEN_AI_MODEL, details.get(names.GEN_AI_TOOL, details.get(names.GEN_AI_PROMPT)))
            return str(details[name]) if of is None else f"{details[name]} {shown(str(of))}"
    return method_shown(record.request)


def sent(of: tuple[Record, Attempt]) -> Attributes:
    """What is known of a request to an upstream before it is sent."""
    record, attempt = of
    request = attempt.request
    url = request.url
    found = told(record)
    if record.protocol != "http":
        found.update(_called(record))
    found[names.HTTP_METHOD] = request.method if request.method in names.METHODS else names.OTHER
    found[names.SERVER_ADDRESS] = url.host
    found[names.SERVER_PORT] = url.port or _PORTS.get(url.scheme, 80)
    path, mark, query = request.extensions["target"].partition(b"?")
    below = path.decode("latin-1") + (f"?{query_of(record, query)}" if mark else "")
    found[names.URL_FULL] = shown(f"{url.scheme}://{url.netloc.decode('ascii')}{below}")
    if attempt.number:
        found[names.HTTP_RESEND_COUNT] = attempt.number
    return found


def received(record: Record, attempt: Attempt, known: int) -> Attributes:
    """What came of it. The error type is there when it went wrong."""
    found = told(record, known)
    found.pop(names.GEN_AI_FIRST_CHUNK, None)  # which counts from the client's request
    if attempt.status is not None:
        found[names.HTTP_STATUS] = attempt.status
    code = record.details.get("mcp.error.code")
    if code is not None:
        found[names.RPC_STATUS] = found[names.ERROR_TYPE] = str(code)
    if attempt.error is not None:
        if attempt.error != "CancelledError":  # the client has gone
            found[names.ERROR_TYPE] = attempt.error
    elif attempt.status is not None and attempt.status >= 400:
        found[names.ERROR_TYPE] = str(attempt.status)
    return found


def _is_port(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) <= 5
