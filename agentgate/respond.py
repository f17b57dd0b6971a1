"""The one place that turns a Decision into bytes: text for HTTP, a refused handshake for a websocket."""

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from .decision import Decision
from .request import Scope

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

POLICY_VIOLATION = 1008  # RFC 6455 §7.4.1
_MAX_REASON_BYTES = 123  # RFC 6455 §5.5: a control frame's 125 bytes, without the code


async def respond(decision: Decision, scope: Scope, send: Send) -> None:
    """Send the decision's status, headers and message. A websocket is refused before it is accepted: with an HTTP
    response where the server can (ASGI's denial extension), else by closing it with 1008, which clients see as 403."""
    prefix = "http.response"
    if scope["type"] == "websocket":
        if "websocket.http.response" not in (scope.get("extensions") or {}):
            await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": close_reason(decision.message)})
            return
        prefix = "websocket.http.response"
    bodiless = decision.status in (204, 304)
    body = b"" if bodiless else decision.message.encode() if decision.body is None else decision.body
    headers = [*decision.headers]
    if not bodiless:
        if not any(name.lower() == b"content-type" for name, _ in headers):
            headers.append((b"content-type", b"text/plain"))
        headers.append((b"content-length", str(len(body)).encode()))
    await send({"type": f"{prefix}.start", "status": decision.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": b"" if scope.get("method") == "HEAD" else body})


def close_reason(message: str) -> str:
    """As much of a message as a websocket's close frame has room for."""
    return message.encode()[:_MAX_REASON_BYTES].decode(errors="ignore")
