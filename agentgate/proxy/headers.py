"""Which headers go on, either way. What concerns one connection stays on it, and framing is never copied."""

from collections.abc import Iterable
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
    headers: Iterable[tuple[bytes, bytes]], host: bytes | None, withheld: frozenset[bytes] = frozenset()
) -> RawHeaderList:
    """The client's headers for the upstream, `host` first (None: the client's own), without those `withheld`."""
    headers = list(headers)
    dropped = NOT_SENT | withheld | named_in_connection(headers)
    if host is None:
        host = next((value for name, value in headers if name == b"host"), b"")
    return [(b"host", host), *(pair for pair in headers if pair[0] not in dropped)]


def response_headers(headers: Iterable[tuple[bytes, bytes]]) -> RawHeaderList:
    """The upstream's headers for the client. Raises `BadResponse` on what has two readings or splits the head."""
    lowered = [(name.lower(), value) for name, value in headers]
    names = [name for name, _ in lowered]
    if b"".join(names).translate(None, NAME_BYTES + b"_") or b"" in names:
        raise BadResponse("a header name is not a token")
    if b"".join([value for _, value in lowered]).translate(None, VALUE_BYTES):
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
    """What `Connection` says is for one connection alone."""
    values = [value for name, value in headers if name == b"connection"]
    return frozenset(token.strip(b" \t").lower() for token in b",".join(values).split(b",")) if values else frozenset()
