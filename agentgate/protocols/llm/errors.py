"""Refusals as the providers' own SDKs read them: the status decides which error they raise, the body what it says.

A model that is forbidden is refused with 403 before any provider is asked, whether it exists or not. Nothing is told
beside what the Decision has for the client.
"""

import json
from dataclasses import replace
from typing import Any, Final

from ...decision import Decision
from .apis import Dialect

_OPENAI_TYPES: Final = {429: "requests", 500: "server_error"}
_OPENAI_CODES: Final = {401: "invalid_api_key", 429: "rate_limit_exceeded"}
_ANTHROPIC_TYPES: Final = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
}
_GEMINI_STATUSES: Final = {
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    429: "RESOURCE_EXHAUSTED",
    500: "INTERNAL",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}
_RETRY: Final = (b"x-should-retry", b"false")  # SDKs repeat every 429 and 5xx otherwise


def said(decision: Decision, dialect: Dialect) -> Decision:
    """The denial with a body as this provider writes one."""
    if decision.status < 400:  # an answer, not a refusal
        return decision
    body = _BODIES[dialect](decision)
    headers = [pair for pair in decision.headers if pair[0].lower() != b"content-type"]
    headers.append((b"content-type", b"application/json"))
    if _is_final(decision) and not any(name.lower() == _RETRY[0] for name, _ in headers):
        headers.append(_RETRY)
    return replace(decision, body=json.dumps(body).encode(), headers=tuple(headers))


def _is_final(decision: Decision) -> bool:
    """Whether the same request would fare no better a moment later. A limit that resets says when."""
    if decision.status == 429:
        return not any(name.lower() == b"retry-after" for name, _ in decision.headers)
    return decision.status < 500 or decision.code == "policy_error"


def _of(table: dict[int, str], status: int, otherwise: str) -> str:
    return table.get(status) or (table[500] if status >= 500 else otherwise)


def _openai(decision: Decision) -> dict[str, Any]:
    status = decision.status
    return {
        "error": {
            "message": decision.message,
            "type": _of(_OPENAI_TYPES, status, "invalid_request_error"),
            "param": None,
            "code": _OPENAI_CODES.get(status, decision.code),
        }
    }


def _anthropic(decision: Decision) -> dict[str, Any]:
    kind = _of(_ANTHROPIC_TYPES, decision.status, "invalid_request_error")
    return {"type": "error", "error": {"type": kind, "message": decision.message}}


def _gemini(decision: Decision) -> dict[str, Any]:
    status = _of(_GEMINI_STATUSES, decision.status, "INVALID_ARGUMENT")
    return {"error": {"code": decision.status, "message": decision.message, "status": status}}


_BODIES: Final = {"openai": _openai, "anthropic": _anthropic, "gemini": _gemini}
