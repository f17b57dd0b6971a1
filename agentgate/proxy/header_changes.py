"""RequestHeaders and ResponseHeaders: headers that a route sets, adds or removes.

They touch neither framing nor what concerns one connection, and of the request nothing by which it was judged.
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Final

from ..auth.identity import fold
from ..edge import NAME_BYTES, SINGLETONS, VALUE_BYTES
from ..errors import ConfigurationError
from ..headers import RawHeaders
from ..nothing import NOTHING
from ..secret import Secret
from .headers import HOP_BY_HOP, NOT_SENT, RawHeaderList, named_in_connection

_NAME_BYTES: Final = NAME_BYTES + b"_"
_BODY: Final = frozenset({b"content-length", b"content-encoding"})  # where it ends, and how it is read
_ONCE: Final = SINGLETONS | {b"etag", b"last-modified", b"location", b"retry-after"}
_JUDGED: Final = (b"content-type", b"mcp-", b"a2a-")  # by protocols; prefixes


class _Changes:
    """`set` puts one value in the place of all that are there, `add` puts one beside them, `remove` takes all away."""

    untouchable: ClassVar[frozenset[bytes]]

    def __init__(
        self,
        *,
        set: Mapping[str, str | Secret] = NOTHING,
        add: Mapping[str, str | Secret] = NOTHING,
        remove: Sequence[str] = (),
    ) -> None:
        faults: list[str] = []
        if isinstance(remove, str) or not isinstance(set, Mapping) or not isinstance(add, Mapping):
            raise TypeError("set and add are mappings from names to values, remove is a list of names")
        named: list[bytes] = []
        for name in (*set, *add, *remove):
            raw = name.lower().encode("latin-1", "replace") if isinstance(name, str) else b""
            if not raw or raw.translate(None, _NAME_BYTES):
                faults.append(f"{name!r} is no header name")
            elif raw in self.untouchable:
                hint = "; Rewrite(host=...) changes it" if raw == b"host" else ""
                faults.append(f"{name}: this header is not a route's to change{hint}")
            elif fold(raw) in named:
                faults.append(f"{name}: named twice")
            named.append(fold(raw))
        faults += [f"{name}: it may occur once only: set it" for name in add if name.lower().encode() in _ONCE]
        values = {name: _value(value) for name, value in (*set.items(), *add.items())}
        faults += [f"{name}: its value cannot stand in a header" for name, value in values.items() if value is None]
        if not named:
            faults.append("it changes nothing")
        if faults:
            raise ConfigurationError(f"{type(self).__name__}: {fault}" for fault in faults)
        self.names: frozenset[bytes] = frozenset(name.lower().encode() for name in (*set, *add, *remove))
        self._dropped = frozenset(name.lower().encode() for name in (*set, *remove))
        self._new: RawHeaders = tuple(
            (name.lower().encode(), value) for name, value in values.items() if value is not None
        )

    def __repr__(self) -> str:
        names = sorted(name.decode() for name in self.names)  # and no values: they may be secrets
        return f"{type(self).__name__}({', '.join(names)})"


class RequestHeaders(_Changes):
    """Changes headers of the request that goes on: `RequestHeaders(set={"x-env": "prod"}, remove=["x-debug"])`.

    Rules see the headers that the client sent. A value may be a `Secret`. A header of framing or of one connection, or
    one that identifies the caller, cannot be named: `ConfigurationError`.
    """

    untouchable = NOT_SENT | _BODY

    def __init__(
        self,
        *,
        set: Mapping[str, str | Secret] = NOTHING,
        add: Mapping[str, str | Secret] = NOTHING,
        remove: Sequence[str] = (),
    ) -> None:
        super().__init__(set=set, add=add, remove=remove)
        self._folded = frozenset(map(fold, self._dropped))

    def judged(self) -> list[str]:
        """Those of its headers by which protocols judge."""
        return sorted(name.decode() for name in self.names if name.startswith(_JUDGED))

    def apply(self, headers: RawHeaderList) -> RawHeaderList:
        """The changed headers. What `Connection` names goes first: it cannot take away what is set here, nor what the
        upstream has to get of framing and of the Host, which `request_headers` sees to."""
        theirs = named_in_connection(headers)
        if theirs:
            theirs = theirs - self.untouchable | {b"connection"}
            headers = [pair for pair in headers if pair[0] not in theirs]
        if self._folded:  # in every spelling that some server takes for the same
            headers = [pair for pair in headers if fold(pair[0]) not in self._folded]
        return [*headers, *self._new]


class ResponseHeaders(_Changes):
    """Changes headers of the answer, whether the upstream gave it or the gateway in its place."""

    untouchable = HOP_BY_HOP | _BODY

    def apply(self, headers: RawHeaderList) -> RawHeaderList:
        return [*(pair for pair in headers if pair[0].lower() not in self._dropped), *self._new]


def _value(value: str | Secret) -> bytes | None:
    text = value.reveal() if isinstance(value, Secret) else value
    try:
        raw = text.encode("latin-1")
    except (UnicodeEncodeError, AttributeError):
        return None
    return None if raw.translate(None, VALUE_BYTES) or raw.strip(b" \t") != raw else raw
