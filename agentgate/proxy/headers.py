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


_LENGTH: Final = b"content-length"


class BadResponse(Exception):
    """The upstream's response head cannot be passed on."""


def request_headers(
    headers: Iterable[tuple[bytes, bytes]], host: bytes | None, dropped: frozenset[bytes] = NOT_SENT
) -> RawHeaderList:
    """The client's headers for the upstream, `host` first (None: the client's own), without the `dropped`, which are
    `NOT_SENT` at least."""
    kept = []
    named: frozenset[bytes] = frozenset()
    theirs = b""
    for pair in headers:
        name = pair[0]
        if name not in dropped:
            kept.append(pair)
        elif name == b"host":
            theirs = pair[1]
        elif name == b"connection":
            named |= members(pair[1])
    if not named.isdisjoint([name for name, _ in kept]):
        kept = [pair for pair in kept if pair[0] not in named]
    kept.insert(0, (b"host", theirs if host is None else host))
    return kept


def response_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaderList:
    """The upstream's headers for the client. Raises `BadResponse` on what has two readings or splits the head."""
    lowered = [(name.lower(), value) for name, value in headers]
    names, values = zip(*lowered, strict=True) if lowered else ((), ())
    if b"".join(names).translate(None, NAME_BYTES + b"_") or b"" in names:
        raise BadResponse("a header name is not a token")
    if b"".join(values).translate(None, VALUE_BYTES):
        raise BadResponse("a header value has a control character")
    if _LENGTH in names:
        lengths = [value for name, value in lowered if name == _LENGTH]
        if len(lengths) > 1 or not lengths[0].isdigit():
            raise BadResponse("content-length is not one number")
        if b"transfer-encoding" in names:
            raise BadResponse("content-length and transfer-encoding")
    if HOP_BY_HOP.isdisjoint(names):
        return lowered
    dropped = HOP_BY_HOP | named_in_connection(lowered)
    return [pair for pair in lowered if pair[0] not in dropped]


def named_in_connection(headers: RawHeaderList) -> frozenset[bytes]:
    """Those that `Connection` names: they are for this connection alone."""
    named: frozenset[bytes] = frozenset()
    return named.union(*(members(value) for name, value in headers if name == b"connection"))


@lru_cache(64)
def members(value: bytes) -> frozenset[bytes]:
    """What one `Connection` header names, in lower case."""
    return frozenset(token.strip(b" \t").lower() for token in value.split(b","))
