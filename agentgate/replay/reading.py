"""The `replay` object of a log line to a Recorded request.

The line may be anybody's: whatever is not exactly what a log writes is refused, and never repaired.
"""

from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import quote, unquote_to_bytes

from agentgate import cel

from ..call import Call
from ..observe.redaction import REDACTED
from ..observe.replay_fields import MAX_PART, NAMED, VARIABLES, VERSION
from ..principal import Principal
from ..request import Request, forwarded_for, routed
from .recorded import Hidden, HiddenConnection, HiddenQuery, Known, Notes, Recorded, Stood, hidden

_MAX_TIME: Final = 253_402_300_800  # the year 10000, where timestamps end
_QUOTED: Final = quote(REDACTED)
_NONE: Final = type(None)
_Types = Mapping[str, tuple[type, ...]]
_REPLAY: Final[_Types] = {
    "version": (int,),
    "type": (str,),
    "time": (float, int),
    "method": (str, _NONE),
    "scheme": (str, _NONE),
    "httpVersion": (str, _NONE),
    "host": (str, _NONE),
    "path": (str, _NONE),
    "rootPath": (str, _NONE),
    "query": (str, _NONE),
    "headers": (dict, _NONE),
    "peer": (list, _NONE),
    "source": (list, _NONE),
    "route": (str, _NONE),
    "backend": (dict, _NONE),
    "callers": (list,),
    "calls": (list, _NONE),
    "decision": (dict,),
    "unknown": (list,),
}
_CALLER: Final[_Types] = {"id": (str,), "source": (str,), "attributes": (dict,)}
_CALL: Final[_Types] = {
    "protocol": (str,),
    "method": (str,),
    "provisional": (bool,),
    "attributes": (dict,),
    "arguments": (dict, _NONE),
    **dict.fromkeys(NAMED, (str, _NONE)),
}
_DECISION: Final[_Types] = {
    "effect": (str,),
    **dict.fromkeys(("policy", "rule", "code", "reason"), (str, _NONE)),
}


class OtherVersion(ValueError):
    """A `replay` object that another agentgate has written."""


def request_of(replay: Any) -> Recorded:
    """The Request that a `replay` object tells of, for `Gate.explain` or a policy's `check`; to read what was not
    recorded raises `NotRecorded`. Raises `OtherVersion`, or ValueError for what is no such object."""
    version = replay.get("version") if isinstance(replay, dict) else None
    if version.__class__ is int and version != VERSION:
        raise OtherVersion(f"a replay object of another version: only {VERSION} is known")
    try:
        return _request_of(_typed(replay, _REPLAY))
    except UnicodeEncodeError:
        raise ValueError("a replay object with text that no request can have") from None


def _typed(found: Any, types: _Types) -> dict[str, Any]:
    """An object whose members are of the types that they have to have: the line may be anybody's."""
    if found.__class__ is not dict:
        raise ValueError("a replay object with something else in the place of an object")
    get = found.get
    for name, allowed in types.items():
        if get(name).__class__ not in allowed:
            raise ValueError(f"a replay object without {name}, or with another thing in its place")
    return found


def _texts(values: list[Any]) -> list[str]:
    for value in values:
        if value.__class__ is not str:
            raise ValueError("a replay object with something else in the place of text")
    return values


def _request_of(found: dict[str, Any]) -> Recorded:
    get = found.get
    time = found["time"]
    if not (found["type"] in ("http", "websocket") and 0 <= time < _MAX_TIME):  # neither NaN nor infinite
        raise ValueError("a replay object of no request, or of no time")
    notes = Notes(frozenset(_texts(found["unknown"])))
    path = get("path") or "/"
    query = (get("query") or "").replace(REDACTED, _QUOTED).encode("latin-1")
    if "request.query" in notes.unknown:
        query = hidden(notes, "request.query", query or _QUOTED.encode(), HiddenQuery)
    peer, source = _address(get("peer")), _address(get("source"))
    headers = get("headers") or {}
    scope = {
        "type": found["type"],
        "method": get("method"),
        "scheme": get("scheme"),
        "http_version": get("httpVersion"),
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "root_path": get("rootPath"),
        "headers": _headers(headers, get("host"), notes),
        "client": peer,
    }
    request = Recorded.__new__(Recorded)
    request.notes = notes
    Request.__init__(request, scope, now=float(time))
    request.query_string = query
    request.callers = request._principals = tuple([_principal(_typed(one, _CALLER), notes) for one in found["callers"]])
    request.calls = None
    if found.get("calls") is not None:
        request.calls = tuple([_call(_typed(one, _CALL), notes) for one in found["calls"]])
        if not request.calls:
            raise ValueError("a replay object that says that nothing was called")
        if len(request.calls) == 1:  # of several, none stands for all
            request._call = request.calls[0]
    request.stood = _stood(_typed(found["decision"], _DECISION))
    request._body = b"" if _has_no_body(headers, get("httpVersion"), notes) else cel.UNKNOWN
    if source is not None:
        forwarded_for(request, source)
    backend = get("backend")
    if backend is not None:
        _texts([*backend.values()])
    routed(request, backend, get("route"))
    return request


def _address(found: list[Any] | None) -> Any:
    if found is None:
        return None
    if len(found) != 2 or found[0].__class__ is not str or found[1].__class__ not in (int, _NONE):
        raise ValueError("a replay object with something else in the place of an address")
    return found[0], found[1]


def _headers(found: dict[str, Any], host: str | None, notes: Notes) -> list[tuple[bytes, bytes]]:
    headers = []
    for name, values in found.items():
        raw = name.encode("latin-1")
        if values is None:
            kind = HiddenConnection if raw == b"connection" else Hidden
            headers.append((raw, hidden(notes, f"request.headers.{name}", b"<redacted>", kind)))
        elif values.__class__ is list and values:
            headers += [(raw, value.encode("latin-1")) for value in _texts(values)]
        else:
            raise ValueError("a replay object with something else in the place of a header's values")
    if host is not None and "host" not in found:
        headers.append((b"host", host.encode("latin-1")))
    return headers


def _has_no_body(headers: dict[str, Any], version: str | None, notes: Notes) -> bool:
    """By its framing, which HTTP/1 has to say."""
    framed = headers.get("content-length", ["0"]) == ["0"] and "transfer-encoding" not in headers
    return framed and "request.headers" not in notes.unknown and version in ("1.0", "1.1")


def _principal(found: dict[str, Any], notes: Notes) -> Principal:
    source = found["source"]
    return Principal(found["id"], source, _known(found["attributes"], VARIABLES.get(source, source), notes))


def _call(found: dict[str, Any], notes: Notes) -> Call:
    arguments: Mapping[str, Any] = found.get("arguments") or {}
    if "mcp.tool.arguments" in notes.unknown:
        arguments = Known({}, "mcp.tool.arguments", None, notes)
    return Call(
        found["protocol"],
        found["method"],
        **{name: found[name] for name in NAMED if name in found},
        arguments=arguments,
        provisional=found["provisional"],
        attributes=_known(found["attributes"], found["protocol"], notes),
    )


def _stood(found: dict[str, Any]) -> Stood:
    if found["effect"] not in ("allow", "deny"):
        raise ValueError("a replay object of no decision")
    get = found.get
    return Stood(found["effect"], get("policy") or "", get("rule") or "", get("code") or "", get("reason") or "")


def _known(found: dict[str, Any], variable: str, notes: Notes) -> Mapping[str, Any]:
    """With what is unknown of it. A name as long as a name can be may have been cut."""
    prefix = f"{variable}."
    names = [name for name in notes.unknown if name.startswith(prefix) and name != "mcp.tool.arguments"]
    if not names:
        return found
    cut = any(len(name) >= MAX_PART for name in names)
    return Known(found, variable, None if cut else frozenset([name[len(prefix) :] for name in names]), notes)
