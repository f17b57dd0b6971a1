"""Which headers go on, either way. What concerns one connection stays on it, and framing is never copied."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Final

from ..edge import NAME_BYTES, VALUE_BYTES

RawHeaderList = list[tuple[bytes, bytes]]

HOP_BY_HOP: Final = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)

NOT_SENT: Final = HOP_BY_HOP | {
    b"host",  # set by us
    b"content-length",  # set by us
    b"expect",  # answered by the server in front of us
    b"x-retry-attempt",  # set by us
    # Headers by which some servers take another method or path than the one that was judged.
    b"x-http-method",
    b"x-http-method-override",
    b"x-method-override",
    b"x-original-url",
    b"x-rewrite-url",
}


_HARMLESS: Final = frozenset({b"keep-alive", b"close"})  # no header that would be kept has one of these names


class BadResponse(Exception):
    """The upstream's response head cannot be passed on."""


def request_headers(
    headers: Iterable[tuple[bytes, bytes]], host: bytes | None, dropped: frozenset[bytes] = NOT_SENT
) -> RawHeaderList:
    """The client's headers for the upstream, `host` first (None: the client's own), without the `dropped`, which are
    `NOT_SENT` at least."""
    if host is None:
        headers = list(headers)
        host = next((value for name, value in headers if name == b"host"), b"")
    kept = _beyond_this_connection(headers, dropped)
    kept.insert(0, (b"host", host))
    return kept


def response_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaderList:
    """The upstream's headers for the client. Raises `BadResponse` on what has two readings or splits the head."""
    lowered = [(name.lower(), value) for name, value in headers]
    names = [name for name, _ in lowered]
    if b"".join(names).translate(None, NAME_BYTES + b"_") or b"" in names:
        raise BadResponse("a header name is not a token")
    if b"".join([value for _, value in lowered]).translate(None, VALUE_BYTES):
        raise BadResponse("a header value has a control character")
    lengths = [value for name, value in lowered if name == b"content-length"]
    if len(lengths) > 1 or any(not value.isdigit() for value in lengths):
        raise BadResponse("content-length is not one number")
    if lengths and b"transfer-encoding" in names:
        raise BadResponse("content-length and transfer-encoding")
    return _beyond_this_connection(lowered, HOP_BY_HOP)


def checked_response_headers(headers: RawHeaderList) -> RawHeaderList:
    """The same, of a response whose head `framing.ResponseReader` has read: it believes nothing that is refused here,
    and gives names in lower case."""
    return _beyond_this_connection(headers, HOP_BY_HOP)


def _beyond_this_connection(headers: Iterable[tuple[bytes, bytes]], dropped: frozenset[bytes]) -> RawHeaderList:
    kept = []
    named: frozenset[bytes] = frozenset()
    for pair in headers:
        if pair[0] not in dropped:
            kept.append(pair)
        elif pair[0] == b"connection":
            named |= members(pair[1])
    if named <= _HARMLESS:
        return kept
    return [pair for pair in kept if pair[0] not in named]


def named_in_connection(headers: RawHeaderList) -> frozenset[bytes]:
    """Those that `Connection` names: they are for this connection alone."""
    named: frozenset[bytes] = frozenset()
    return named.union(*(members(value) for name, value in headers if name == b"connection"))


@lru_cache(64)
def members(value: bytes) -> frozenset[bytes]:
    """What one `Connection` header names, in lower case."""
    return frozenset(token.strip(b" \t").lower() for token in value.split(b","))
