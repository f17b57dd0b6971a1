"""How a Decision becomes bytes."""

from typing import Any

import pytest

from agentgate import Decision, abstain, deny
from agentgate.respond import respond
from agentgate.testing import http_scope, websocket_scope

pytestmark = pytest.mark.anyio


async def sent(decision: Decision, scope: dict[str, Any]) -> list[Any]:
    messages: list[Any] = []

    async def send(message: Any) -> None:
        messages.append(message)

    await respond(decision, scope, send)
    return messages


def text(body: bytes) -> list[tuple[bytes, bytes]]:
    return [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]


@pytest.mark.parametrize(
    ("decision", "method", "status", "headers", "body"),
    [
        (deny("closed"), "GET", 403, text(b"closed"), b"closed"),
        (deny("closed"), "HEAD", 403, text(b"closed"), b""),
        (deny("geschl\xf6ssen"), "GET", 403, text("geschl\xf6ssen".encode()), "geschl\xf6ssen".encode()),
        (deny("", status=500), "GET", 500, text(b""), b""),
        (
            deny("slow", status=429, headers=((b"retry-after", b"3"),)),
            "GET",
            429,
            [(b"retry-after", b"3"), *text(b"slow")],
            b"slow",
        ),
        (
            deny("{}", headers=((b"content-type", b"application/json"),)),
            "GET",
            403,
            [(b"content-type", b"application/json"), (b"content-length", b"2")],
            b"{}",
        ),
        (
            deny("{}", headers=((b"Content-Type", b"application/json"),)),
            "GET",
            403,
            [(b"Content-Type", b"application/json"), (b"content-length", b"2")],
            b"{}",
        ),
        (deny("", status=204), "OPTIONS", 204, [], b""),
        (deny(status=204), "OPTIONS", 204, [], b""),
        (deny(status=304), "GET", 304, [], b""),
        (abstain("who?"), "GET", 401, text(b"who?"), b"who?"),
    ],
)
async def test_http(
    decision: Decision, method: str, status: int, headers: list[tuple[bytes, bytes]], body: bytes
) -> None:
    """A refusal is its message as plain text, with its status and headers, in two messages."""
    assert await sent(decision, http_scope(method)) == [
        {"type": "http.response.start", "status": status, "headers": headers},
        {"type": "http.response.body", "body": body},
    ]


async def test_a_websocket_is_denied_over_http_where_that_can_be() -> None:
    """With ASGI's denial extension, a refused handshake gets status, headers and message."""
    decision = deny("closed", headers=((b"x", b"y"),))
    assert await sent(decision, websocket_scope()) == [
        {"type": "websocket.http.response.start", "status": 403, "headers": [(b"x", b"y"), *text(b"closed")]},
        {"type": "websocket.http.response.body", "body": b"closed"},
    ]


@pytest.mark.parametrize(
    "more", [{}, {"extensions": None}, {"extensions": {}}, {"extensions": {"http.response.push": {}}}]
)
async def test_a_websocket_is_closed_otherwise(more: dict[str, Any]) -> None:
    """Without the extension, the handshake is refused by a close with 1008 before any accept."""
    assert await sent(deny("closed"), websocket_scope(denial=False, **more)) == [
        {"type": "websocket.close", "code": 1008, "reason": "closed"}
    ]


@pytest.mark.parametrize("message", ["x" * 500, "\u20ac" * 500, "\U0001f512" * 500])
async def test_a_close_reason_fits_its_frame(message: str) -> None:
    """RFC 6455 leaves 123 bytes for a reason; a longer message is cut, between characters."""
    ((close,)) = await sent(deny(message), websocket_scope(denial=False))
    assert len(close["reason"].encode()) <= 123
    assert message.startswith(close["reason"])
    assert len(close["reason"].encode()) > 110
