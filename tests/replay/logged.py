"""Requests that have been logged: what a gate has decided about them, and the line that tells of it."""

import json
from typing import Any

from agentgate import AccessLog, APIKeyAuth, Authorizer, CELRules, Gate, Header, Key, Principal, Request, new_key
from agentgate.policy import Authenticator
from agentgate.testing import drive

KEY = new_key()
KEYS = APIKeyAuth([Key("alice", KEY, {"group": "dev", "level": 3})], location=Header("x-badge"))
OPEN = CELRules(allow=["true"])
TYPES = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


async def app(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
    await send({"type": "http.response.body", "body": b"{}"})


def gate(*authorize: Authorizer | str, authenticate: Any = (KEYS,), **options: Any) -> Gate:
    """Text is a rule that allows."""
    policies = [CELRules(allow=[one]) if isinstance(one, str) else one for one in authorize]
    return Gate(app, authenticate=authenticate, authorize=policies, **options)


async def line(gate: Any, request: Request, **options: Any) -> str:
    """What the gate's log says of a request."""
    lines: list[str] = []
    gate.observe = (AccessLog(lines.append, format="json", replay=True, **options),)
    await drive(gate, request)
    (found,) = lines
    return found


def get(target: str = "/", key: str | None = KEY, **headers: str) -> Request:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request.http("GET", target, headers=named if key is None else {"x-badge": key, **named})


def post(message: Any, target: str = "/", **headers: str) -> Request:
    body = json.dumps(message).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    length = {"content-length": str(len(body))}
    return Request.http("POST", target, headers={"x-badge": KEY, **TYPES, **length, **named}, body=body)


def tool(name: str, **arguments: Any) -> Request:
    params = {"name": name, "arguments": arguments}
    return post({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}, "/mcp")


def chat(model: str, **more: Any) -> Request:
    return post({"model": model, "messages": [], **more}, "/v1/chat/completions")


class Fixed(Authenticator):
    """Recognises everybody, as whom it says."""

    def __init__(self, *principal: Any) -> None:
        self.principal = Principal(*principal)

    def check(self, request: Request) -> Any:
        from agentgate import allow

        return allow(self.principal)
