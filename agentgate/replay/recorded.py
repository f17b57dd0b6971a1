"""The `replay` object of a log line as a Request that knows what it does not know.

What was not recorded raises `NotRecorded` where it is read. To an expression that is an unknown: `&&` and `||` decide
without it where they can. Whoever catches it is found out all the same, by what the `Notes` say was touched.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from copy import copy
from typing import Any, Final, NamedTuple, NoReturn, TypeVar
from urllib.parse import quote, unquote_to_bytes

from agentgate import cel

from ..decision import Decision, Reason, allow, deny
from ..observe.redaction import REDACTED
from ..observe.replay_fields import MAX_PART, NAMED, VARIABLES, VERSION
from ..request import Call, Headers, Principal, Request, forwarded_for, routed

BODY: Final = "request.body"
CALLER: Final = "the credential"

_MAX_TIME: Final = 253_402_300_800  # the year 10000, where timestamps end
_EMPTY: Final[tuple[list[str], ...]] = (["0"], [])
_T = TypeVar("_T")


class NotRecorded(cel.Unknown):
    """Something was read that the log does not tell."""


class OtherVersion(ValueError):
    """A `replay` object that another agentgate has written."""


class Notes:
    """What was read of one recorded request that the log does not tell, and what is taken to be so meanwhile.

    A request that is undecided is asked about twice: `lenient` says whether an undecided policy is taken to allow.
    """

    __slots__ = ("call_unknown", "caller_unknown", "glimpsed", "lenient", "pending", "reasons", "touched", "unknown")

    def __init__(self, unknown: frozenset[str]) -> None:
        self.unknown = unknown
        self.begin(lenient=False, pending=())

    def begin(self, *, lenient: bool, pending: tuple[Principal, ...]) -> None:
        """Ask anew. `pending`: callers whom no authenticator has recognised yet."""
        self.lenient = lenient
        self.pending = [*pending]
        self.reasons: dict[str, None] = {}  # what decisions have rested on
        self.caller_unknown = self.call_unknown = False
        self.look()

    def look(self) -> None:
        """Note what the next policy reads."""
        self.touched: dict[str, None] = {}  # read, and not told
        self.glimpsed = False  # read as a whole, of which a part is not told

    def missing(self, name: str) -> NotRecorded:
        """What to raise where `name` is read."""
        self.touched[name] = None
        return NotRecorded()

    def undecided(self, *names: str) -> Decision:
        """The answer of a policy that rests on these: no, or yes where they are asked for the benefit of the doubt."""
        self.reasons.update(dict.fromkeys(names))
        return allow() if self.lenient else deny(status=500, code="undecided")


class _Hidden(bytes):
    """A value that was not recorded. To pass it on is to know nothing of it; to look at it raises."""

    free: frozenset[str] = frozenset()
    name: str
    notes: Notes

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name in type(self).free:
            return super().__getattribute__(name)
        raise bytes.__getattribute__(self, "notes").missing(bytes.__getattribute__(self, "name"))

    def _raise(self, *_: object) -> NoReturn:
        raise bytes.__getattribute__(self, "notes").missing(bytes.__getattribute__(self, "name"))

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = _raise
    __getitem__ = __contains__ = __iter__ = __add__ = __radd__ = __mul__ = __mod__ = _raise

    def __len__(self) -> int:
        raise bytes.__getattribute__(self, "notes").missing(bytes.__getattribute__(self, "name"))

    def __repr__(self) -> str:
        return "<not recorded>"


class _HiddenQuery(_Hidden):
    """The edge may look at it: a query that came in had nothing against it."""

    free = frozenset({"translate"})

    def __len__(self) -> int:
        return bytes.__len__(self)


class _HiddenConnection(_Hidden):
    """A gate looks for its own identity headers in it, which changes nothing that is decided."""

    free = frozenset({"split"})

    def split(self, *_: object) -> list[bytes]:
        bytes.__getattribute__(self, "notes").glimpsed = True
        return []


def _hidden(notes: Notes, name: str, placeholder: bytes, kind: type[_Hidden] = _Hidden) -> bytes:
    found = bytes.__new__(kind, placeholder)
    object.__setattr__(found, "name", name)
    object.__setattr__(found, "notes", notes)
    return found


class _Known(Mapping[str, Any]):
    """A mapping of which some keys are not recorded, or (`keys` None) none is."""

    __slots__ = ("_found", "_missing", "_name", "_notes")

    def __init__(self, found: Mapping[str, Any], name: str, missing: frozenset[str] | None, notes: Notes) -> None:
        self._found, self._name, self._missing, self._notes = found, name, missing, notes

    def __getitem__(self, key: str) -> Any:
        if key not in self._found and (self._missing is None or key in self._missing):
            raise self._notes.missing(self._name if self._missing is None else f"{self._name}.{key}")
        return self._found[key]

    def __contains__(self, key: object) -> bool:
        return key in self._found or (isinstance(key, str) and self._is_told(key))

    def _is_told(self, key: str) -> bool:
        """That it is not there."""
        try:
            self[key]
        except KeyError:
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        raise self._notes.missing(self._name)

    def __len__(self) -> int:
        raise self._notes.missing(self._name)

    def __repr__(self) -> str:
        return f"<{self._name}, not all of it recorded>"


def _guarded(slot: str, variable: str) -> Any:
    """A slot of Request that raises where it was not recorded."""
    own = Request.__dict__[slot]

    def get(self: "Recorded") -> Any:
        if variable in self.notes.unknown:
            raise self.notes.missing(variable)
        return own.__get__(self)

    return property(get, own.__set__)


_RAW_HEADERS: Final[Any] = Request.__dict__["raw_headers"]


_OURS: Final = ("forward", "mcp", "llm", "a2a")  # policies by which what goes wrong upstream is logged
_UPSTREAM: Final = ("upstream_failure", "upstream_timeout")


class Stood(NamedTuple):
    """The decision that stood when the request was logged."""

    effect: str
    policy: str
    rule: str
    code: str
    reason: str

    @property
    def let_through(self) -> bool:
        """Whether policies had nothing against it: it was answered, or failed further on."""
        further_on = self.policy == "forward" or (self.policy in _OURS and self.code in _UPSTREAM)
        return self.effect == "allow" or self.reason == Reason.DIRECT_RESPONSE or further_on


class Recorded(Request):
    """A Request that a line of the log tells of, with its `callers`, its `calls` (None: nobody has read it), and what
    was decided."""

    __slots__ = ("callers", "calls", "notes", "stood")

    stood: Stood
    callers: tuple[Principal, ...]
    calls: tuple[Call, ...] | None
    notes: Notes

    method = _guarded("method", "request.method")
    scheme = _guarded("scheme", "request.scheme")
    http_version = _guarded("http_version", "request.version")
    raw_path = _guarded("raw_path", "request.path")
    scope_path = _guarded("scope_path", "request.path")
    peer = _guarded("peer", "source.rawAddress")

    def asked(self, *, lenient: bool, standing: bool, call: Call | None) -> Request:
        """This request as it came in, with nothing noted. `standing`: its callers are recognised already."""
        self.notes.begin(lenient=lenient, pending=() if standing else self.callers)
        view = copy(self)
        view._principals = self.callers if standing else ()
        view._call = call
        view._source = None  # for the edge to find out
        return view

    @property
    def raw_headers(self) -> Any:
        """As they are, for who passes them on; a policy of whatever kind that looks at them has seen too much."""
        if "request.headers" in self.notes.unknown:
            raise self.notes.missing("request.headers")
        self.notes.glimpsed = True
        return _RAW_HEADERS.__get__(self)

    @raw_headers.setter
    def raw_headers(self, value: Any) -> None:
        _RAW_HEADERS.__set__(self, value)

    def _unglimpsed(self, read: Callable[[], _T]) -> _T:
        """What is read by name is told, or raises."""
        glimpsed = self.notes.glimpsed
        try:
            return read()
        finally:
            self.notes.glimpsed = glimpsed

    @property
    def authority(self) -> str:
        if "request.host" in self.notes.unknown:
            raise self.notes.missing("request.host")
        return self._unglimpsed(lambda: super(Recorded, self).authority)

    @property
    def headers(self) -> Headers:
        return self._unglimpsed(lambda: super(Recorded, self).headers)

    @property
    def backend(self) -> Mapping[str, str] | None:
        if self._backend is None and "backend" in self.notes.unknown:
            raise self.notes.missing("backend")
        return self._backend

    @property
    def body(self) -> Any:
        """Nothing where there was none, else `cel.UNKNOWN`."""
        if self._body is cel.UNKNOWN:
            self.notes.touched[BODY] = None
        return self._body

    def json(self) -> Any:
        if self._body is cel.UNKNOWN:
            raise self.notes.missing(BODY)
        return super().json()

    @property
    def call(self) -> Call | None:
        if self.notes.call_unknown:
            raise self.notes.missing("the call")
        return self._call

    @property
    def provisional(self) -> bool:
        """Where something was not recorded, what it leaves open is open."""
        return self.notes.lenient if self.notes.touched else super().provisional

    @property
    def principal(self) -> Principal | None:
        principals = self.principals
        return principals[-1] if principals else None

    @property
    def principals(self) -> tuple[Principal, ...]:
        if self.notes.caller_unknown:
            raise self.notes.missing(CALLER)
        return self._principals

    def _attributes(self, source: str) -> Mapping[str, Any] | None:
        return next((one.attributes for one in reversed(self.principals) if one.source == source), None)


# -- from a line to a request ----------------------------------------------------------------------------------------


def request_of(replay: Any) -> Recorded:
    """The Request that a `replay` object tells of, for `Gate.explain` or a policy's `check`; to read what was not
    recorded raises `NotRecorded`. Raises `OtherVersion`, or ValueError for what is no such object."""
    version = replay.get("version") if isinstance(replay, dict) else None
    if version.__class__ is int and version != VERSION:
        raise OtherVersion(f"a replay object of version {version}: only {VERSION} is known")
    try:
        return _request_of(_Members("", replay))
    except UnicodeEncodeError:
        raise ValueError("a replay object with text that no request can have") from None


class _Members:
    """The members of an object, each of the type that it has to have: the line may be anybody's."""

    def __init__(self, place: str, value: Any) -> None:
        if value.__class__ is not dict:
            raise ValueError(f"a replay object of which {place or 'it all'} is no object")
        self._place = place
        self._value: dict[str, Any] = value

    def of(self, name: str, check: Callable[[Any], bool], default: Any = ...) -> Any:
        value = self._value.get(name, default)
        if value is ... or not (value is default or check(value)):
            raise ValueError(f"a replay object without what it must have: {self._place}{name}")
        return value

    def each(self, name: str) -> "list[_Members]":
        return [_Members(f"{self._place}{name}[]", one) for one in self.of(name, _is_list)]


def _is_text(value: Any) -> bool:
    return value.__class__ is str


def _is_list(value: Any) -> bool:
    return value.__class__ is list


def _is_object(value: Any) -> bool:
    return value.__class__ is dict


def _is_time(value: Any) -> bool:
    return value.__class__ in (int, float) and math.isfinite(value) and 0 <= value < _MAX_TIME


def _is_address(value: Any) -> bool:
    return _is_list(value) and len(value) == 2 and _is_text(value[0]) and value[1].__class__ in (int, type(None))


def _are_texts(value: Any) -> bool:
    return _is_list(value) and all(map(_is_text, value))


def _are_headers(value: Any) -> bool:
    return _is_object(value) and all(values is None or (values and _are_texts(values)) for values in value.values())


def _are_named(value: Any) -> bool:
    return _is_object(value) and all(map(_is_text, value.values()))


def _is_version(value: Any) -> bool:
    return value.__class__ is int


def _request_of(found: _Members) -> Recorded:
    found.of("version", _is_version)
    notes = Notes(frozenset(found.of("unknown", _are_texts)))
    headers = _headers_of(found, notes)
    path = found.of("path", _is_text, "/")
    query = found.of("query", _is_text, "").replace(REDACTED, quote(REDACTED)).encode("latin-1")
    if "request.query" in notes.unknown:
        query = _hidden(notes, "request.query", query or quote(REDACTED).encode(), _HiddenQuery)
    peer = found.of("peer", _is_address, None)
    scope = {
        "type": found.of("type", lambda value: value in ("http", "websocket")),
        "method": found.of("method", _is_text, "GET"),
        "scheme": found.of("scheme", _is_text, "http"),
        "http_version": found.of("httpVersion", _is_text, "1.1"),
        "path": unquote_to_bytes(path).decode("utf-8", "replace"),
        "raw_path": path.encode("latin-1"),
        "root_path": found.of("rootPath", _is_text, ""),
        "headers": headers,
        "client": None if peer is None else tuple(peer),
    }
    request = Recorded.__new__(Recorded)
    request.notes = notes
    Request.__init__(request, scope, now=float(found.of("time", _is_time)))
    request.query_string = query
    request.callers = request._principals = tuple(_principal(one, notes) for one in found.each("callers"))
    request.calls = None
    if found.of("calls", _is_list, None) is not None:
        request.calls = tuple(_call(one, notes) for one in found.each("calls"))
        if not request.calls:
            raise ValueError("a replay object that says that nothing was called")
        if len(request.calls) == 1:  # of several, none stands for all
            request._call = request.calls[0]
    decision = _Members("decision.", found.of("decision", _is_object))
    effect = decision.of("effect", lambda value: value in ("allow", "deny"))
    request.stood = Stood(effect, *(decision.of(name, _is_text, "") for name in ("policy", "rule", "code", "reason")))
    request._body = b"" if _has_no_body(found, notes) else cel.UNKNOWN
    source = found.of("source", _is_address, None)
    if source is not None:
        forwarded_for(request, (source[0], source[1]))
    routed(request, found.of("backend", _are_named, None), found.of("route", _is_text, None))
    return request


def _headers_of(found: _Members, notes: Notes) -> list[tuple[bytes, bytes]]:
    headers = []
    for name, values in found.of("headers", _are_headers, {}).items():
        raw = name.encode("latin-1")
        if values is None:
            kind = _HiddenConnection if raw == b"connection" else _Hidden
            headers.append((raw, _hidden(notes, f"request.headers.{name}", REDACTED.encode(), kind)))
        else:
            headers += [(raw, value.encode("latin-1")) for value in values]
    host = found.of("host", _is_text, None)
    if host is not None and not any(name == b"host" for name, _ in headers):
        headers.append((b"host", host.encode("latin-1")))
    return headers


def _has_no_body(found: _Members, notes: Notes) -> bool:
    """By its framing, which HTTP/1 has to say."""
    headers = found.of("headers", _are_headers, {})
    framed = headers.get("content-length", []) in _EMPTY and "transfer-encoding" not in headers
    return framed and "request.headers" not in notes.unknown and found.of("httpVersion", _is_text, "").startswith("1.")


def _principal(found: _Members, notes: Notes) -> Principal:
    source = found.of("source", _is_text)
    attributes = _known(found.of("attributes", _is_object), VARIABLES.get(source, source), notes)
    return Principal(found.of("id", _is_text), source, attributes)


def _call(found: _Members, notes: Notes) -> Call:
    protocol = found.of("protocol", _is_text)
    arguments: Mapping[str, Any] = found.of("arguments", _is_object, {})
    if "mcp.tool.arguments" in notes.unknown:
        arguments = _Known({}, "mcp.tool.arguments", None, notes)
    return Call(
        protocol,
        found.of("method", _is_text),
        **{name: found.of(name, _is_text, None) for name in NAMED},
        arguments=arguments,
        provisional=found.of("provisional", lambda value: value.__class__ is bool),
        attributes=_known(found.of("attributes", _is_object), protocol, notes),
    )


def _known(found: dict[str, Any], variable: str, notes: Notes) -> Mapping[str, Any]:
    """With what is unknown of it. A name as long as a name can be may have been cut."""
    prefix = f"{variable}."
    names = [name for name in notes.unknown if name.startswith(prefix) and name != "mcp.tool.arguments"]
    if not names:
        return found
    cut = any(len(name) >= MAX_PART for name in names)
    return _Known(found, variable, None if cut else frozenset(name[len(prefix) :] for name in names), notes)
