"""Recorded: a Request out of a log, which knows what it does not know.

What was not recorded raises `NotRecorded` where it is read. To an expression that is an unknown: `&&` and `||` decide
without it where they can. Whoever catches it is found out all the same, by what the `Notes` say was touched.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple, NoReturn, TypeVar

from agentgate import cel

from ..call import Call
from ..decision import Decision, Reason, allow, deny
from ..headers import Headers
from ..principal import Principal
from ..request import Request

BODY: Final = "request.body"
CALLER: Final = "the credential"
CALL: Final = "the call"

_T = TypeVar("_T")


class NotRecorded(cel.Unknown):
    """Something was read that the log does not tell."""


class Notes:
    """What was read of one recorded request that the log does not tell, and what is taken to be so meanwhile.

    A request that is undecided is asked about twice: `lenient` says whether an undecided policy is taken to allow.
    """

    __slots__ = ("caller_unknown", "glimpsed", "lenient", "pending", "reasons", "touched", "unknown")

    def __init__(self, unknown: frozenset[str]) -> None:
        self.unknown = unknown
        self.begin(lenient=False, pending=())

    def begin(self, *, lenient: bool, pending: tuple[Principal, ...]) -> None:
        """Ask anew. `pending`: callers whom no authenticator has recognised yet."""
        self.lenient = lenient
        self.pending = [*pending]
        self.reasons: dict[str, None] = {}  # what decisions have rested on
        self.caller_unknown = False
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


class Hidden(bytes):
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


class HiddenQuery(Hidden):
    """The edge may look at it: a query that came in had nothing against it."""

    free = frozenset({"translate"})

    def __len__(self) -> int:
        return bytes.__len__(self)


class HiddenConnection(Hidden):
    """A gate looks for its own identity headers in it, which changes nothing that is decided."""

    free = frozenset({"split"})

    def split(self, *_: object) -> list[bytes]:
        bytes.__getattribute__(self, "notes").glimpsed = True
        return []


def hidden(notes: Notes, name: str, placeholder: bytes, kind: type[Hidden] = Hidden) -> bytes:
    found = bytes.__new__(kind, placeholder)
    object.__setattr__(found, "name", name)
    object.__setattr__(found, "notes", notes)
    return found


class Known(Mapping[str, Any]):
    """A mapping of which some keys are not recorded, or (`keys` None) none is."""

    __slots__ = ("_found", "_missing", "_name", "_notes")

    def __init__(self, found: Mapping[str, Any], name: str, missing: frozenset[str] | None, notes: Notes) -> None:
        self._found, self._name, self._missing, self._notes = found, name, missing, notes

    def __getitem__(self, key: str) -> Any:
        if key in self:
            return self._found[key]
        raise KeyError(key)

    def __contains__(self, key: object) -> bool:
        if key not in self._found and (self._missing is None or key in self._missing):
            raise self._notes.missing(self._name if self._missing is None else f"{self._name}.{key}")
        return key in self._found

    def __iter__(self) -> Iterator[str]:
        raise self._notes.missing(self._name)

    def __len__(self) -> int:
        raise self._notes.missing(self._name)

    def __repr__(self) -> str:
        return f"<{self._name}, not all of it recorded>"


class UnknownCall(Call):
    """A call of which nothing is known but that there is one."""

    __slots__ = ("notes",)
    notes: Notes

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__"):
            return super().__getattribute__(name)
        raise object.__getattribute__(self, "notes").missing(CALL)

    def __repr__(self) -> str:
        return "<call that is not known>"


def unknown_call(notes: Notes) -> Call:
    """A call in the place of those that nobody has read, or that would be read otherwise."""
    call = UnknownCall.__new__(UnknownCall)
    object.__setattr__(call, "notes", notes)
    return call


def _guarded(name: str, variable: str) -> Any:
    """An attribute of Request that raises where it was not recorded."""

    def get(self: "Recorded") -> Any:
        if variable in self.notes.unknown:
            raise self.notes.missing(variable)
        return self.__dict__[name]

    def put(self: "Recorded", value: Any) -> None:
        self.__dict__[name] = value

    return property(get, put)


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

    def __copy__(self) -> "Recorded":
        view = object.__new__(Recorded)
        view.__dict__.update(self.__dict__)  # whether it was recorded or not
        return view

    def asked(self, *, lenient: bool, standing: bool, call: Call | None) -> Request:
        """This request as it came in, with nothing noted. `standing`: its callers are recognised already."""
        self.notes.begin(lenient=lenient, pending=() if standing else self.callers)
        self._principals = self.callers if standing else ()
        self._call = call
        self._source = None  # for the edge to find out
        return self

    @property
    def raw_headers(self) -> Any:
        """As they are, for who passes them on; a policy of whatever kind that looks at them has seen too much."""
        if "request.headers" in self.notes.unknown:
            raise self.notes.missing("request.headers")
        self.notes.glimpsed = True
        return self.__dict__["raw_headers"]

    @raw_headers.setter
    def raw_headers(self, value: Any) -> None:
        self.__dict__["raw_headers"] = value

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
