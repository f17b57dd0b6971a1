"""What a log shows of a request's query and headers: never the value of one that may hold a credential.

Names say it: those that a Gate reads credentials from, and those that usually hold some. Where a request was refused on
its way in, a Gate further in may know more names, and has not seen it: then next to no values are shown.
"""

import re
from functools import lru_cache
from typing import Final
from urllib.parse import unquote_to_bytes

from ..record import Record

REDACTED: Final = "<redacted>"

SENSITIVE_PARAMETERS: Final = frozenset(
    {
        *(
            "access_token",
            "api-key",
            "api_key",
            "apikey",
            "auth",
            "authorization",
            "client_secret",
            "code",
            "credential",
        ),
        *(
            "id_token",
            "jwt",
            "key",
            "passwd",
            "password",
            "refresh_token",
            "secret",
            "sig",
            "signature",
            "token",
            "x-api-key",
        ),
        *("x-amz-credential", "x-amz-security-token", "x-amz-signature", "x-goog-credential", "x-goog-signature"),
    }
)
"""Query parameters whose values are never logged, besides those that a Gate reads credentials from."""

HARMLESS_HEADERS: Final = frozenset(
    {
        *("a2a-version", "accept", "accept-encoding", "accept-language", "anthropic-version", "content-length"),
        *("content-type", "host", "mcp-method", "mcp-name", "mcp-protocol-version", "origin", "traceparent"),
        *("transfer-encoding", "user-agent", "x-correlation-id", "x-forwarded-for", "x-request-id"),
    }
)
"""Headers that nobody puts a credential into: their values may be logged whatever became of the request."""

# Browsers put keys beside the subprotocols of a websocket, as they can send no header of their own with it.
# The last two hold URLs, whose queries may have credentials in them.
_TELLTALE: Final = re.compile(
    "auth|cookie|credential|dpop|jwt|key|passw|secret|session|signature|token|websocket-protocol|referer|ur[il]"
)
_HOLDS_URL: Final = re.compile("link|location|refresh").search  # in answers


@lru_cache(512)
def _telltale(name: str) -> bool:
    return _TELLTALE.search(name) is not None


def judged(record: Record) -> bool:
    """Whether every Gate that reads a credential has seen the request, and so has told where."""
    refusal = record.refusal
    return record.edge is not None and (refusal is None or refusal.policy == "forward")


def query_of(record: Record, query: bytes) -> str:
    """A query of this request as it was sent, the values of sensitive parameters hidden, or all of them."""
    if not judged(record):
        return "&".join([_hidden(part) for part in query.split(b"&")])
    sensitive = SENSITIVE_PARAMETERS | record.redacted_parameters
    return "&".join([_redacted(part, sensitive) for part in query.split(b"&")])


def hides_header(record: Record, name: str) -> bool:
    """Whether the value of this header, named in lower case, must not be shown."""
    if name in record.redacted_headers:
        return True
    return _telltale(name) if judged(record) else name not in HARMLESS_HEADERS


def hides_answer_header(name: str) -> bool:
    """The same of a response's headers."""
    return _HOLDS_URL(name) is not None or _telltale(name)


def _redacted(part: bytes, sensitive: frozenset[str]) -> str:
    name, equals, _ = part.partition(b"=")
    decoded = unquote_to_bytes(name.replace(b"+", b" ")).decode("latin-1").strip().lower()
    return _hidden(part) if equals and decoded in sensitive else part.decode("latin-1")


def _hidden(part: bytes) -> str:
    name, equals, _ = part.partition(b"=")
    return f"{name.decode('latin-1')}={REDACTED}" if equals else name.decode("latin-1")
