"""Refusals in the words of each provider."""

import json
from typing import Any

import pytest

from agentgate import deny
from agentgate.protocols.llm.apis import Dialect
from agentgate.protocols.llm.errors import said

KINDS: list[tuple[int, str, str, str, str]] = [
    # status, OpenAI's type and code, Anthropic's type, Google's status
    (400, "invalid_request_error", "c", "invalid_request_error", "INVALID_ARGUMENT"),
    (401, "invalid_request_error", "invalid_api_key", "authentication_error", "UNAUTHENTICATED"),
    (403, "invalid_request_error", "c", "permission_error", "PERMISSION_DENIED"),
    (404, "invalid_request_error", "c", "not_found_error", "NOT_FOUND"),
    (405, "invalid_request_error", "c", "invalid_request_error", "INVALID_ARGUMENT"),
    (413, "invalid_request_error", "c", "request_too_large", "INVALID_ARGUMENT"),
    (415, "invalid_request_error", "c", "invalid_request_error", "INVALID_ARGUMENT"),
    (429, "requests", "rate_limit_exceeded", "rate_limit_error", "RESOURCE_EXHAUSTED"),
    (500, "server_error", "c", "api_error", "INTERNAL"),
    (502, "server_error", "c", "api_error", "UNAVAILABLE"),
    (503, "server_error", "c", "overloaded_error", "UNAVAILABLE"),
    (504, "server_error", "c", "timeout_error", "DEADLINE_EXCEEDED"),
]


@pytest.mark.parametrize(("status", "kind", "code", "claude", "google"), KINDS)
def test_shapes(status: int, kind: str, code: str, claude: str, google: str) -> None:
    bodies: dict[Dialect, Any] = {
        "openai": {"error": {"message": "text", "type": kind, "param": None, "code": code}},
        "anthropic": {"type": "error", "error": {"type": claude, "message": "text"}},
        "gemini": {"error": {"code": status, "message": "text", "status": google}},
    }
    for dialect, body in bodies.items():
        decision = said(deny("text", status=status, code="c", detail="secret"), dialect)
        assert decision.body is not None
        assert json.loads(decision.body) == body
        assert dict(decision.headers)[b"content-type"] == b"application/json"


@pytest.mark.parametrize(
    ("status", "code", "headers", "final"),
    [
        (400, "x", {}, True),
        (401, "x", {}, True),
        (403, "x", {}, True),
        (429, "x", {}, True),
        (429, "x", {b"Retry-After": b"7"}, False),
        (500, "policy_error", {}, True),
        (500, "x", {}, False),
        (503, "upstream_failure", {}, False),
        (503, "upstream_failure", {b"x-should-retry": b"true"}, False),
    ],
)
def test_when_trying_again_is_pointless(status: int, code: str, headers: dict[bytes, bytes], final: bool) -> None:
    decision = said(deny("text", status=status, code=code, headers=tuple(headers.items())), "openai")
    assert (dict(decision.headers).get(b"x-should-retry") == b"false") is final


def test_other_headers_stay_and_answers_are_no_refusals() -> None:
    decision = said(
        deny("x", status=401, headers=((b"www-authenticate", b"Bearer"), (b"Content-Type", b"x"))), "openai"
    )
    assert decision.headers == (
        (b"www-authenticate", b"Bearer"),
        (b"content-type", b"application/json"),
        (b"x-should-retry", b"false"),
    )
    moved = deny("", status=302, headers=((b"location", b"/"),))
    assert said(moved, "gemini") is moved
