"""What a policy needs to decide a logged request again: `AccessLog(replay=True)` writes it, `agentgate.replay` reads.

No credential is in it. What was not recorded is told under `unknown`, by the names of rules, so that whoever decides
again can say that the log does not tell, and need not guess. Nothing is cut: what is too large is unknown.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

from ..call import Call
from ..decision import Decision
from ..posture import OPEN
from ..principal import API_KEY, JWT
from ..record import Record
from .fields import MAX_VALUE
from .redaction import HARMLESS_HEADERS, hides_header, query_of

VERSION: Final = 1
MAX_PART: Final = 4096  # characters of one value as JSON: a path, a claim, the arguments of a call
MAX_REPLAY: Final = 16384  # of all of them; a token may be 8 KiB, and a line must stay one that tools read

_TOLD: Final = ("provider", "streaming", "params", "contextId", "tenant")  # of a call; what else it has may be anything
NAMED: Final = ("tool", "prompt", "resource", "model", "task", "target")
_OF_QUERY: Final = ("request.query", "request.uri", "request.pathAndQuery")
VARIABLES: Final = {API_KEY: "apiKey", JWT: "jwt"}


def replay_fields(record: Record, *, arguments: bool = False) -> dict[str, Any]:
    """The object of one request: docs/reference/access-log.md has its members. `arguments`: those of tools, and the
    metadata of A2A messages, which may hold anything."""
    recording = _Recording(record)
    recording.request()
    recording.callers()
    recording.calls(arguments)
    return recording.found()


class _Recording:
    def __init__(self, record: Record) -> None:
        self._record = record
        self._left = MAX_REPLAY
        self._unknown: dict[str, None] = {"request.body": None}
        self._found: dict[str, Any] = {"version": VERSION}

    def found(self) -> dict[str, Any]:
        return {**self._found, "decision": _decision(self._record), "unknown": [*self._unknown]}

    def _fits(self, value: Any) -> bool:
        """Whether there is room for a value, and JSON can have it."""
        if value.__class__ is str:
            size = len(value)
        else:
            try:
                size = len(json.dumps(value, allow_nan=False))
            except (TypeError, ValueError, RecursionError):
                return False
        if size > min(MAX_PART, self._left):
            return False
        self._left -= size
        return True

    def _put(self, name: str, value: Any, *variables: str) -> None:
        """Note a value, or that these variables are unknown."""
        if self._fits(value):
            self._found[name] = value
        else:
            self._unknown.update(dict.fromkeys(variables))

    def request(self) -> None:
        """What the client sent, and where it came from."""
        record = self._record
        request, view = record.request, record.view
        self._found |= {"type": request.type, "time": request.now}
        self._put("method", request.method, "request.method")
        self._put("scheme", request.scheme, "request.scheme", "request.uri")
        self._put("httpVersion", request.http_version, "request.version")
        self._put("host", request.authority, "request.host", "request.uri")
        path = request.raw_path.decode("latin-1")
        self._put("path", path, "request.path", "request.uri", "request.pathAndQuery")
        self._put("rootPath", request.root_path)
        if request.query_string:
            query, sent = query_of(record, request.query_string), request.query_string.decode("latin-1")
            self._put("query", query, *_OF_QUERY)
            if query != sent:
                self._unknown.update(dict.fromkeys(_OF_QUERY))
        self._headers()
        if request.peer is not None:
            self._put("peer", list(request.peer), "source.rawAddress", "source.rawPort")
        if view.source is not None:
            self._put("source", list(view.source), "source.address", "source.port")
        if record.route is not None:
            self._put("route", record.route)
        if view.backend is not None:
            self._put("backend", dict(view.backend), "backend")

    def _headers(self) -> None:
        """All names, and the values of those that cannot hold a credential: null is a value that is not recorded."""
        request = self._record.request
        shown = {name: name in HARMLESS_HEADERS and not hides_header(self._record, name) for name in request.headers}
        values = {name: request.headers.getlist(name) if shows else None for name, shows in shown.items()}
        self._put("headers", values, "request.headers")

    def callers(self) -> None:
        """Everybody who was authenticated, with what rules may read of them."""
        callers = []
        for principal in self._record.view.principals:
            variable = VARIABLES.get(principal.source, principal.source)
            attributes: dict[str, Any] = {}
            for name, value in principal.attributes.items():
                plain = _plain(value)
                if isinstance(name, str) and self._fits({name: plain}):
                    attributes[name] = plain
                else:
                    self._unknown[f"{variable}.{name}"[:MAX_PART]] = None
            callers.append({"id": principal.id[:MAX_VALUE], "source": principal.source, "attributes": attributes})
        self._found["callers"] = callers

    def calls(self, arguments: bool) -> None:
        """What the request was read as; null when nobody has read it, or it is too much."""
        record = self._record
        calls = record.calls
        told = None if calls is None else [self._call(call, arguments) for call in calls]
        if told is None and record.protocol == "http":
            self._found["calls"] = None
        elif told is None or not self._fits(told):
            self._found["calls"] = None
            self._unknown.update(dict.fromkeys(("mcp", "llm", "a2a")))
        else:
            self._found["calls"] = told

    def _call(self, call: Call, arguments: bool) -> dict[str, Any]:
        found: dict[str, Any] = {"protocol": call.protocol, "method": call.method, "provisional": call.provisional}
        found |= {name: value for name in NAMED if (value := getattr(call, name)) is not None}
        attributes = {name: _plain(call.attributes[name]) for name in _TOLD if name in call.attributes}
        unknown = [f"{call.protocol}.{name}" for name in call.attributes if name not in _TOLD and name != "metadata"]
        if call.protocol == "mcp" and call.tool is not None:
            if arguments and self._fits(plain := _plain(call.arguments)):
                found["arguments"] = plain
            else:
                unknown.append("mcp.tool.arguments")
        if "metadata" in call.attributes:
            if arguments and self._fits(plain := _plain(call.attributes["metadata"])):
                attributes["metadata"] = plain
            else:
                unknown.append("a2a.metadata")
        self._unknown.update(dict.fromkeys(unknown))
        return {**found, "attributes": attributes}


def _decision(record: Record) -> dict[str, Any]:
    """The one that stood: what refused the request, or the last allow."""
    stood = record.refusal
    if stood is None:
        authorized = [one for one in record.trail if one.enforced and one.principal is None]
        stood = authorized[-1] if authorized else OPEN
    for one in record.trail:  # before a protocol said it in its own words
        if record.refusal is not None and one.enforced and _same(one, stood):
            stood = one
    found = {"effect": "allow" if stood.effect == "allow" else "deny", "status": stood.status}
    named = {"policy": stood.policy, "rule": stood.rule, "code": stood.code, "reason": stood.reason}
    return {**found, **{name: value for name, value in named.items() if value}}


def _same(one: Decision, other: Decision) -> bool:
    return (one.effect, one.policy, one.rule, one.code) == (other.effect, other.policy, other.rule, other.code)


def _plain(value: Any) -> Any:
    """Mappings as dicts, all the way down; the rest as it is, for JSON to take or leave."""
    if isinstance(value, Mapping):
        return {key: _plain(element) for key, element in value.items()}
    return [_plain(element) for element in value] if isinstance(value, list | tuple) else value
