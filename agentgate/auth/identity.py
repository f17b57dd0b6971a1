"""Identity headers: what an app, or an upstream, is told of who is asking.

Whoever reads such a header believes it, so it is ours alone. What a client sends under its name, in any spelling that
some server takes for the same, is removed from every request before anything is judged. Then each is set once, from
the principal that was proved, and from nothing else.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from ..edge import NAME_BYTES, SINGLETONS
from ..errors import ConfigurationError
from ..headers import RawHeaders
from ..principal import Principal
from .location import Header, places

if TYPE_CHECKING:
    from ..policy import Authenticator

# Servers differ in which characters of a header name they turn into `_`: CGI and WSGI `-`, some others all but
# letters and digits. So no character but those counts.
_FOLD: Final = (
    bytes(
        byte if chr(byte).isdigit() or chr(byte).islower() else ord(chr(byte).lower() if chr(byte).isupper() else "-")
        for byte in range(128)
    )
    + b"-" * 128
)

_FOLD_LINES: Final = _FOLD[:10] + b"\n" + _FOLD[11:]  # of several names at once, one a line

_RESERVED: Final = SINGLETONS | {
    *(b"connection", b"keep-alive", b"te", b"trailer", b"upgrade", b"expect"),
    *(b"accept", b"accept-encoding", b"cookie", b"date", b"forwarded", b"range", b"via"),
    *(b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-port", b"x-forwarded-proto"),
    *(b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-original-url", b"x-rewrite-url"),
}
_RESERVED_PREFIXES: Final = (b"content-", b"if-", b"mcp-", b"proxy-", b"sec-")

_VISIBLE: Final = re.compile("[!-~](?:[ -~]*[!-~])?").fullmatch  # blanks only inside: others are cut off on the way
_ABSENT: Final = object()

Fields = tuple[tuple[bytes, str], ...]


class NotSendable(Exception):
    """An attribute's value cannot stand in a header. The text says which attribute, and never shows the value."""


class IdentityHeaders:
    """The identity headers of one Gate: those of all its authenticators, whichever of them recognises a caller.

    A name that says something else, or that two of them would fight for, is a `ConfigurationError`.
    """

    __slots__ = ("_fields", "_folded", "_suspicious")

    def __init__(self, authenticators: Sequence["Authenticator"]) -> None:
        having = [policy for policy in authenticators if policy.identity_headers]
        faults = [fault for policy in having for fault in _faults(policy, authenticators)]
        if faults:
            raise ConfigurationError(faults)
        self._fields: dict[int, Fields] = {
            id(policy): tuple((name.lower().encode(), attribute) for name, attribute in policy.identity_headers.items())
            for policy in having
        }
        self._folded: frozenset[bytes] = frozenset(fold(name) for fields in self._fields.values() for name, _ in fields)
        self._suspicious = re.compile(b"|".join([b"connection", *map(re.escape, self._folded)])).search

    def without(self, headers: RawHeaders) -> RawHeaders:
        """The headers without those that could be taken for one of ours; the very same when there is none.

        `Connection` may not name them either: the next hop would remove what we set.
        """
        ours = self._folded
        names = b"\n".join([name for name, _ in headers]).translate(_FOLD_LINES)
        if self._suspicious(names) is None:
            return headers  # as nearly always; what is only part of a name is told apart below
        kept: list[tuple[bytes, bytes]] = []
        for pair in headers:
            name, value = pair
            if name == b"connection":
                tokens = value.split(b",")
                others = [token for token in tokens if fold(token.strip(b" \t")) not in ours]
                if len(others) != len(tokens):
                    if others:
                        kept.append((name, b",".join(others).strip(b" \t")))
                    continue
            elif fold(name) in ours:
                continue
            kept.append(pair)
        return headers if len(kept) == len(headers) and all(map(_is, kept, headers)) else tuple(kept)

    def owns(self, name: bytes) -> bool:
        """Whether a header of this name could be taken for one of these."""
        return fold(name) in self._folded

    def of(self, policy: "Authenticator", principal: Principal) -> RawHeaders:
        """The headers for a principal that this authenticator has proved; an absent attribute makes none.

        Raises `NotSendable` for what is no text, whole number or truth value of visible ASCII.
        """
        attributes = principal.attributes
        headers = []
        for name, attribute in self._fields.get(id(policy), ()):
            value = attributes.get(attribute, _ABSENT)
            if value is not _ABSENT:
                headers.append((name, _text(attribute, value)))
        return tuple(headers)


def identity_headers(authenticators: Sequence["Authenticator"]) -> IdentityHeaders | None:
    """The identity headers of these authenticators; None where they have none."""
    return IdentityHeaders(authenticators) if any(policy.identity_headers for policy in authenticators) else None


def fold(name: bytes) -> bytes:
    """A header's name as the least careful server would compare it."""
    return name.translate(_FOLD)


def _is(one: Any, other: Any) -> bool:
    return one is other


def _text(attribute: str, value: Any) -> bytes:
    if isinstance(value, bool):
        return b"true" if value else b"false"
    if isinstance(value, int) and abs(value) < 1 << 64:
        return b"%d" % value
    if isinstance(value, str) and _VISIBLE(value):
        return value.encode()
    raise NotSendable(f"{attribute!r} is no text, whole number or truth value that a header can carry")


def _faults(policy: "Authenticator", authenticators: Sequence["Authenticator"]) -> Iterator[str]:
    place = f"{type(policy).__name__}: identity header"
    headers: Any = policy.identity_headers
    if not isinstance(headers, Mapping):
        yield f"{place}s: a mapping from header names to attributes"
        return
    read = [found for one in authenticators for found in places(one.location)]
    credentials = {fold(found.name.encode()) for found in read if isinstance(found, Header)}
    seen: set[bytes] = set()
    for name, attribute in headers.items():
        if not (isinstance(name, str) and isinstance(attribute, str) and attribute):
            yield f"{place} {name!r}: names and attributes are text"
            continue
        raw = name.lower().encode(errors="replace")
        folded = fold(raw)
        if not raw or raw.translate(None, NAME_BYTES):  # the edge refuses underscores, and so do many servers
            yield f"{place} {name!r}: no header name of letters, digits and hyphens"
        elif raw in _RESERVED or raw.startswith(_RESERVED_PREFIXES):
            yield f"{place} {name!r}: this header has a meaning of its own"
        elif folded in credentials:
            yield f"{place} {name!r}: a credential is read there"
        elif folded in seen:
            yield f"{place} {name!r}: twice, as some servers read it"
        seen.add(folded)
