"""The headers that policies put on the answer to a request which they have allowed: how several sets become one."""

from collections.abc import Iterable
from typing import Final

from .headers import RawHeaders

LIMIT: Final = b"x-ratelimit-limit"
REMAINING: Final = b"x-ratelimit-remaining"
RESET: Final = b"x-ratelimit-reset"


def merged(earlier: RawHeaders, later: RawHeaders) -> RawHeaders:
    """Those of two policies. Of two limits the one of which less is left is told, of other headers the later."""
    if not earlier:
        return later
    left, left_now = _remaining(earlier), _remaining(later)
    if left is not None and left_now is not None and left <= left_now:
        later = tuple(pair for pair in later if pair[0] not in (LIMIT, REMAINING, RESET))
    return tuple(replaced(earlier, later))


def replaced(headers: Iterable[tuple[bytes, bytes]], by: RawHeaders) -> list[tuple[bytes, bytes]]:
    """The headers, with these in place of those of the same names."""
    names = [name for name, _ in by]
    return [*[pair for pair in headers if pair[0].lower() not in names], *by]


def _remaining(headers: RawHeaders) -> int | None:
    return next((int(value) for name, value in headers if name == REMAINING), None)
